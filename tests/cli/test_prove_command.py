"""`nsa-caps prove` and `nsa-caps bench`: as text, document and exit code, mostly on verdicts that are kept already."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import probe
from nsa_caps.capabilities.kept import Timing
from nsa_caps.cli.main import main
from nsa_caps.probes.kept_files import bound_variables
from nsa_caps.testing import machine
from tests.machines.make import keep_verdict
from tests.report.test_schemas import check

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_caps import Host

TIMES = (Timing("decode 1 x 8,192", 4000.0), Timing("decode 64 x 8,192", 250000.0))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a machine without a GPU, and an empty folder of verdicts that this process has as well."""
    # Listing looks at the files and variables of the process that lists.
    for name in bound_variables(os.environ):
        monkeypatch.delenv(name.partition("=")[0])
    monkeypatch.setenv("NSA_CAPS_PROOFS", str(tmp_path / "proofs"))
    return machine(tmp_path / "machine", platform="cpu", environ={"NSA_CAPS_PROOFS": str(tmp_path / "proofs")})


def said(capsys: pytest.CaptureFixture[str], host: Host, *argv: str) -> tuple[int, str]:
    """Return the exit code of a command and what it printed."""
    code = main(argv, host=host)
    return code, capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], host: Host, *argv: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document, which follows the schema."""
    code, text = said(capsys, host, *argv, "--json")
    found: dict[str, Any] = json.loads(text)
    check(found)
    return code, found


def test_a_kept_proof_is_a_yes_without_running_anything(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """The row that is chosen is told with what was proven, and nothing is checked again."""
    keep_verdict(host, probe(host), "reference", "proven")
    code, text = said(capsys, host, "prove")
    assert code == 0
    assert text.startswith("reference, page size 64: plain torch")
    assert "reference, page size 64: proven" in text
    assert "proven here on cpu, 2026-11-25: store, gather" in text
    code, found = document(capsys, host, "prove")
    assert (code, found["answer"], found["checks"]) == (0, True, [])


def test_a_row_that_is_known_wrong_is_a_no(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """By its reason, and by what to type to look again."""
    keep_verdict(host, probe(host), "reference", "wrong")
    code, text = said(capsys, host, "prove", "--row", "reference")
    assert code == 1
    assert "reference, page size 64: not proven" in text
    assert "gather: 3 of 8448 bytes differ" in " ".join(text.split())
    assert "[selfcheck.wrong]" in text
    code, found = document(capsys, host, "prove", "--row", "reference")
    assert (code, found["answer"], found["decision"]["chosen"]) == (1, False, None)


def test_a_row_that_the_policy_refuses_is_not_run(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """Nothing is proven of it, for the reasons that the policy has."""
    code, text = said(capsys, host, "prove", "--row", "deepgemm")
    assert code == 1
    assert "deepgemm, page size 64: not proven" in text
    assert "[platform.mismatch]" in text


def test_what_is_run_now_is_in_the_document(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """Here a process that ends in time's lack, whose verdict is told first, and is kept no longer than it is asked."""
    code, text = said(capsys, host, "prove", "--row", "reference", "--limit", "0.01", "--no-keep")
    assert code == 1
    assert text.startswith("reference: timed-out\n")
    assert "its process did not end within 0.01 s" in " ".join(text.split())
    assert not list(tuple_of_files(host))
    code, found = document(capsys, host, "prove", "--row", "reference", "--limit", "0.01", "--no-keep")
    assert [each["verdict"] for each in found["checks"]] == ["timed-out"]


def tuple_of_files(host: Host) -> tuple[str, ...]:
    """Return the files of kept verdicts."""
    folder = host.environ["NSA_CAPS_PROOFS"]
    return tuple(name for name in os.listdir(folder) if name.endswith(".json")) if os.path.isdir(folder) else ()


def test_what_is_kept_is_listed_and_forgotten(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """Each with its file, and why it is void: here torch's files are others, as the machine is laid out elsewhere."""
    caps = probe(host)
    keep_verdict(host, caps, "reference", "proven")
    keep_verdict(host, caps, "portable", "cannot-run", packages=())
    keep_verdict(host, caps, "portable", "timed-out", device="another GPU", heads=32)
    code, text = said(capsys, host, "prove", "--list")
    assert code == 0
    assert text.startswith("3 kept")
    assert "reference: proven, void here" in text
    assert "the files of torch changed" in text
    assert "it is of another GPU" in text
    code, found = document(capsys, host, "prove", "--list", "--row", "portable")
    assert (code, [each["verdict"]["row"] for each in found["kept"]]) == (0, ["portable", "portable"])
    code, found = document(capsys, host, "prove", "--forget", "--row", "portable")
    assert (code, len(found["forgotten"]), len(tuple_of_files(host))) == (0, 2, 1)
    assert "forgotten: " in said(capsys, host, "prove", "--forget")[1]
    assert said(capsys, host, "prove", "--forget") == (0, "forgotten: nothing\n")


def test_a_verdict_on_a_row_that_is_gone_is_void(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """A third party's, say, that is no longer installed."""
    keep_verdict(host, probe(host), "reference", "proven", row="acme")
    assert "there is no such row here" in said(capsys, host, "prove", "--list")[1]


def test_a_bench_of_what_was_timed(capsys: pytest.CaptureFixture[str], host: Host, tmp_path: Path) -> None:
    """Microseconds and how many times the best, as table, document and picture."""
    keep_verdict(host, probe(host), "reference", "proven", timings=TIMES)
    code, text = said(capsys, host, "bench", "--svg", str(tmp_path / "bench.svg"))
    assert code == 0
    assert "on cpu, 2026-11-25, microseconds a call" in text
    assert "decode 64 x 8,192\n    reference    250,000.0  1.00x" in text
    assert "decode 1 x 8,192: reference 4,000.0" in (tmp_path / "bench.svg").read_text(encoding="utf-8")
    code, found = document(capsys, host, "bench")
    assert code == 0
    (bench,) = found["devices"]
    assert bench["microseconds"] == {"reference": {each.shape: each.microseconds for each in TIMES}}


def test_where_nothing_runs_a_bench_is_a_no(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """It says of each row what came of it, and that none was timed."""
    keep_verdict(host, probe(host), "reference", "wrong")
    assert said(capsys, host, "bench") == (1, "No row was timed: none is proven here.\n")
    assert document(capsys, host, "bench")[1]["devices"] == []


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--machine", "h200"), "not with --from, --machine or --python"),
        (("--limit", "0"), "--limit is 0, needs seconds above 0"),
        (("--limit", "nan"), "--limit is nan, needs seconds above 0"),
    ],
)
@pytest.mark.parametrize("command", ["prove", "bench"])
def test_what_cannot_be_proven_here_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], command: str, argv: tuple[str, ...], told: str
) -> None:
    """Kernels run on this machine, within some time."""
    with pytest.raises(SystemExit) as ended:
        main((command, *argv))
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
