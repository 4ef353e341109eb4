"""The corpus: snapshots of machines, each file named by the answer that the rules of the field give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa_caps import ROWS, Capabilities, NoUsableLayoutError, Request, decide, select_indexer_layout
from nsa_caps.cli.main import main
from nsa_caps.policy.reasons import CODES
from tests.machines.make import REAL, SITE, TABLE, snapshot

FILES = sorted((Path(__file__).parents[1] / "machines").glob("*.json"))
NAMES = [row.name for row in ROWS]
# What is asked about a machine, where it is not the default.
REQUESTS = {f"{entry.answer}--{entry.name}.json": entry.request for entry in TABLE if entry.request}


def expected(file: Path) -> tuple[str | None, int | None]:
    """Return the row and the page size that a file's name says; (None, None) where every row is out."""
    answer = file.name.partition("--")[0]
    row, _, size = answer.partition(".")
    return (None, None) if answer == "none" else (row, int(size))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_the_file_name_is_the_answer(file: Path) -> None:
    """The row and the page size are those of the name, and every better row is out for a reason that has a source."""
    request = Request(**REQUESTS.get(file.name, {}))
    decision = decide(Capabilities.from_json(file.read_text()), request)
    row, size = expected(file)
    assert decision.chosen == row
    better = decision.better_rows()
    assert [verdict.row for verdict in better] == NAMES[: NAMES.index(row) if row else len(NAMES)]
    assert all(verdict.reasons for verdict in better)
    if row is None:
        with pytest.raises(NoUsableLayoutError):
            select_indexer_layout(decision.caps, request)
        return
    layout = select_indexer_layout(decision.caps, request)
    assert (layout.row, layout.page_size) == (row, size)
    fnuz = (decision.caps.archs or ("",))[0].startswith("gfx94")
    dialect = "e4m3fnuz" if fnuz else "e4m3fn"
    order = "tiles" if row == "aiter-preshuffle" else "flat"
    assert (layout.format.order, layout.format.dialect) == (order, dialect)


@pytest.mark.parametrize("file", [file for file in FILES if file.name not in REQUESTS], ids=lambda file: str(file.stem))
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
    """Each code is met with on some machine of the corpus, but for those that no laid-out machine can show."""
    seen: set[str] = set()
    for file in FILES:
        decision = decide(Capabilities.from_json(file.read_text()), Request(**REQUESTS.get(file.name, {})))
        seen.update(reason.code for verdict in decision.verdicts for reason in verdict.reasons)
        steps = [decision.smallest_fix(row) or [] for row in NAMES] if file.name.startswith("deepgemm") else []
        seen.update(reason.code for each in steps for reason in each)
    # A bundle that may not be read needs another user; a row of a third party, that party; an engine, its shim; a
    # verdict of the self-check, a device on which it was made.
    kept = {"selfcheck.cannot-run", "selfcheck.timed-out", "selfcheck.wrong"}
    assert set(CODES) - seen == {
        "aot.unknown", "plugin.failed", "engine.row", "aiter.gluon-cut", "aiter.body-unproven", "aiter.launch-short",
        "engine.keyword", *kept,
    }  # fmt: skip


def test_there_are_real_machines() -> None:
    """Some snapshots are of machines that there are, and tell nothing private of them."""
    real = [file for file in FILES if f"--{REAL}" in file.name]
    assert len(real) >= 2
    for file in real:
        caps = Capabilities.from_json(file.read_text())
        assert (caps.torch.location or "").startswith(SITE)
        assert "/home/" not in file.read_text()
