"""The corpus: snapshots of machines, each file named by the answer that the rules of the field give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa_caps import ROWS, Capabilities, Decision, NoUsableLayoutError, decide, select_indexer_layout
from nsa_caps.capabilities.records import SCHEMA_VERSION, SnapshotError
from nsa_caps.cli.main import main
from nsa_caps.policy.reasons import CODES
from tests.machines.make import ENTRIES, REAL, SITE, TABLE, snapshot
from tests.oracle import TILED

FILES = sorted((Path(__file__).parents[1] / "machines").glob("*.json"))
NAMES = [row.name for row in ROWS]


def decided(file: Path) -> Decision:
    """Return the decision about a file's machine: what its entry asks, and of a real one the default."""
    caps = Capabilities.from_json(file.read_text())
    entry = ENTRIES.get(file.name)
    return decide(caps) if entry is None else entry.decide(caps)


def is_asked_plainly(file: Path) -> bool:
    """Return whether the command's own question is the entry's: of the machine, and nothing else."""
    entry = ENTRIES.get(file.name)
    return entry is None or not (entry.request or entry.third_party or entry.kernels is not None)


def expected(file: Path) -> tuple[str | None, int | None]:
    """Return the row and the page size that a file's name says; (None, None) where every row is out."""
    answer = file.name.partition("--")[0]
    row, _, size = answer.partition(".")
    return (None, None) if answer == "none" else (row, int(size))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_the_file_name_is_the_answer(file: Path) -> None:
    """The row and the page size are those of the name, and every better row is out for a reason that has a source."""
    decision = decided(file)
    names = [each.name for each in decision.rows]
    row, size = expected(file)
    assert decision.chosen == row
    better = decision.better_rows()
    assert [verdict.row for verdict in better] == names[: names.index(row) if row else len(names)]
    assert all(verdict.reasons for verdict in better)
    if row is None:
        with pytest.raises(NoUsableLayoutError):
            select_indexer_layout(decision.caps, decision.request, decision.rows)
        return
    layout = select_indexer_layout(decision.caps, decision.request, decision.rows)
    assert (layout.row, layout.page_size) == (row, size)
    # A torch for CUDA writes its own dialect, whatever GPU it cannot see.
    fnuz = decision.caps.platform == "rocm" and (decision.caps.archs or ("",))[0].startswith("gfx94")
    dialect = "e4m3fnuz" if fnuz else "e4m3fn"
    order = "tiles" if row in TILED else "flat"
    assert (layout.format.order, layout.format.dialect) == (order, dialect)


@pytest.mark.parametrize("file", [file for file in FILES if is_asked_plainly(file)], ids=lambda file: str(file.stem))
def test_the_command_explains_each(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nsa-caps report --from` answers by its exit code, and says in words and as JSON why each better row is out."""
    row, size = expected(file)
    code = 0 if row else 1
    assert main(["report", "--from", str(file), "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["decision"]["chosen"], document["decision"]["page_size"]) == (row, size)
    better = document["decision"]["verdicts"][: NAMES.index(row) if row else len(NAMES)]
    reasons = [reason for verdict in better for reason in verdict["reasons"]]
    assert all(reason["code"] and reason["observed"] and reason["required"] for reason in reasons)
    assert main(["report", "--from", str(file)]) == code
    text = capsys.readouterr().out
    assert text.startswith(f"{row}, page size {size}" if row else "No row may be used")
    if row:
        assert all(verdict["row"] in text for verdict in better if not elsewhere(verdict))


def elsewhere(verdict: dict[str, Any]) -> bool:
    """Return whether a row is another platform's, of which a report says nothing."""
    return any(reason["code"] == "platform.mismatch" for reason in verdict["reasons"])


def test_the_corpus_is_what_its_table_makes() -> None:
    """No snapshot was edited by hand: `python tests/machines/make.py` writes exactly these files."""
    made = {f"{entry.answer}--{entry.name}.json": snapshot(entry) for entry in TABLE}
    assert len(made) == len(TABLE) >= 100
    kept = {file.name: file.read_text() for file in FILES if f"--{REAL}" not in file.name}
    assert made.keys() == kept.keys(), "run python tests/machines/make.py"
    for name, caps in made.items():
        assert caps.to_json() + "\n" == kept[name], f"{name}: run python tests/machines/make.py"


def test_every_row_has_machines_and_every_machine_a_reason_to_be_there() -> None:
    """Each row is the answer of some machine, so is none, and each entry says the rule that it follows from."""
    assert {entry.answer.partition(".")[0] for entry in TABLE} == {*NAMES, "none"}
    assert all(entry.why for entry in TABLE)


def test_every_reason_has_a_machine() -> None:
    """Each code is met with on some machine of the corpus: a new one needs a machine that shows it."""
    seen: set[str] = set()
    for file in FILES:
        decision = decided(file)
        seen.update(reason.code for verdict in decision.verdicts for reason in verdict.reasons)
        steps = [decision.smallest_fix(row) or [] for row in NAMES] if file.name.startswith("deepgemm") else []
        seen.update(reason.code for each in steps for reason in each)
    assert set(CODES) - seen == set()


def test_a_snapshot_of_an_older_schema_is_read() -> None:
    """It is brought to this release's schema, and what it lacks is not known; one of a newer schema is refused."""
    (file,) = (file for file in FILES if "told-before-deepgemm-was-read" in file.name)
    document = json.loads(file.read_text())
    assert document["schema_version"] == 1
    caps = Capabilities.from_dict(document)
    assert (caps.schema_version, caps.deep_gemm_files) == (SCHEMA_VERSION, None)
    assert Capabilities.from_json(caps.to_json()) == caps
    for other in (0, SCHEMA_VERSION + 1, True, "1", None):
        with pytest.raises(SnapshotError, match=f"this release reads 1 to {SCHEMA_VERSION}"):
            Capabilities.from_dict({**document, "schema_version": other})


def test_there_are_real_machines() -> None:
    """Some snapshots are of machines that there are, and tell nothing private of them."""
    real = [file for file in FILES if f"--{REAL}" in file.name]
    assert len(real) >= 2
    for file in real:
        caps = Capabilities.from_json(file.read_text())
        assert (caps.torch.location or "").startswith(SITE)
        assert "/home/" not in file.read_text()


def test_a_snapshot_of_before_deepgemm_was_read_says_so() -> None:
    """It lacks what DeepGEMM was built for, so that it selects `portable`, and says that a new one would tell more."""
    (file,) = (file for file in FILES if "told-before-deepgemm-was-read" in file.name)
    decision = decided(file)
    reasons = decision.verdict("deepgemm").reasons
    assert [(reason.code, reason.verdict) for reason in reasons] == [
        ("deepgemm.unknown", "unknown"), ("deepgemm.toolkit", "unknown"),
    ]  # fmt: skip
    assert "take the snapshot again" in decision.explain()
