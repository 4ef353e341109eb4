"""Proof in a process of its own: every fault is refused with the right reason, and no sound row is."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nsa_caps import ROWS, Capabilities, Device, Package, Reason, Request, decide
from nsa_caps.capabilities.records import Switch
from nsa_caps.pages import PageFormat
from nsa_caps.probes.host import Host
from nsa_caps.probes.kept import kept
from nsa_caps.selfcheck.check import self_check
from nsa_caps.selfcheck.child import ROUNDS
from nsa_caps.selfcheck.proof import Proof
from nsa_caps.selfcheck.prove import prove_best, prove_rows
from nsa_caps.selfcheck.records import RowKernels
from nsa_caps.testing.faults import FAULTS, SOUND, VARIABLE, Fault, faulty_row

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_caps.policy.rows import Row

REFERENCE = next(row for row in ROWS if row.name == "reference")
CPU = Capabilities(platform="cpu", devices=(), torch=Package("torch", "found", "2.13.0"))
# Long enough for torch to be imported on a busy machine.
HANG = 45.0
QUICK = ("stale-logits", "gather-wrong-at-times", "right-below-2048", "right-at-next-n-1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of kept verdicts of this test."""
    place = tmp_path / "proofs"
    monkeypatch.setenv("NSA_CAPS_PROOFS", str(place))
    return place


def refused(fault: Fault, row: Row) -> None:
    """Hold that a proof of the row refuses it as the fault wants it, and that the next row is proven."""
    outcome = prove_best(CPU, Request(), (row,), Proof(limit=HANG if fault.verdict == "timed-out" else 300))
    (check,) = outcome.checks
    told = check.explain()
    assert check.verdict == fault.verdict, told
    assert fault.told.lower() in told.lower()
    assert f"{fault.step}: " in told
    verdict = decide(outcome.caps, Request(), (row,)).verdict(row.name)
    assert [(reason.code, reason.verdict) for reason in verdict.reasons] == [(f"selfcheck.{fault.verdict}", "unmet")]
    assert fault.told.lower() in verdict.reasons[0].observed.lower()


def test_there_are_faults_of_at_least_24_kinds() -> None:
    """Of each verdict but `proven`, each once."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 24
    assert {fault.verdict for fault in FAULTS} == {"wrong", "cannot-run", "timed-out"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.name))
def test_every_fault_is_refused_with_its_reason(fault: Fault, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, from which this one comes back; what is kept refuses it again without running it."""
    monkeypatch.setenv(VARIABLE, fault.name)
    row = faulty_row(fault.name)
    refused(fault, row)
    again = prove_best(CPU.replace(kept=kept(Host.current()).get("kept", ())), Request(), (row,), Proof())
    assert again.checks == ()
    assert decide(again.caps, Request(), (row,)).verdict(row.name).verdict == "unmet"
    assert len(list(folder.glob("*.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_no_sound_row_is_refused(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it prints, however long it takes, and whatever it leaves running."""
    monkeypatch.setenv(VARIABLE, name)
    row = faulty_row(name)
    outcome = prove_best(CPU, Request(), (row,), Proof())
    assert [check.verdict for check in outcome.checks] == ["proven"], outcome.checks[0].explain()
    assert decide(outcome.caps, Request(), (row,)).chosen == row.name
    assert len(list(folder.glob("*.json"))) == 1


def in_process(name: str, monkeypatch: pytest.MonkeyPatch, *, rounds: int = ROUNDS, seed: int = 0) -> str:
    """Return what the check says of the kit's kernels in this process."""
    monkeypatch.setenv(VARIABLE, name)
    sys.modules.pop("nsa_caps.testing.faulty_kernels", None)
    kernels = importlib.import_module("nsa_caps.testing.faulty_kernels")
    row = RowKernels("faulty", kernels.store, kernels.gather, kernels.quantise_and_store, kernels.logits)
    found = self_check(row, PageFormat(page_size=64), "cpu", rounds=rounds, heads=32, seed=seed)
    return found.explain()


@pytest.mark.parametrize("name", QUICK)
def test_a_fault_that_shows_at_times_or_beyond_top_k_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output of the call before, of every second call, of short contexts or of one query alone."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    told = in_process(name, monkeypatch)
    assert told.startswith("faulty: wrong")
    assert f"{fault.step}: " in told
    assert fault.told in told.lower()


@pytest.mark.parametrize("name", ["stale-gather", "gather-wrong-at-times"])
def test_one_round_does_not_show_what_is_stale(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is why there are more."""
    assert in_process(name, monkeypatch, rounds=1).startswith("faulty: proven")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_no_sound_row_is_refused_in_1000_runs(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with other random bytes; the rounding one, which comes nearest to the limit. By fifties, for many cores."""
    seeds = range(first, first + 50)
    told = [in_process("rounds-a-little", monkeypatch, rounds=1, seed=seed) for seed in seeds]
    assert [text for text in told if not text.startswith("faulty: proven")] == []


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Capabilities]:
    """Return a folder with one proof, and the machine with it."""
    place = tmp_path_factory.mktemp("kept") / "proofs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NSA_CAPS_PROOFS", str(place))
        outcome = prove_best(CPU, Request(rows=("reference",)))
    assert [check.verdict for check in outcome.checks] == ["proven"], outcome.checks[0].explain()
    return place, outcome.caps


def read(place: Path) -> Capabilities:
    """Return the machine with what is kept."""
    environ = {**os.environ, "NSA_CAPS_PROOFS": str(place)}
    return CPU.replace(kept=kept(replace(Host.current(), environ=environ)).get("kept", ()))


def test_a_proof_is_kept_and_read_again(proven: tuple[Path, Capabilities]) -> None:
    """For the owner alone, with the steps, and the same as the prover had it."""
    place, caps = proven
    (file,) = place.glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    assert read(place).kept == caps.kept
    assert caps.kept[0].told == "store, quantise_and_store, gather, logits, ragged_logits were right"


def test_what_is_kept_is_not_run_again(proven: tuple[Path, Capabilities]) -> None:
    """A second proof costs what reading it costs."""
    outcome = prove_best(read(proven[0]), Request(rows=("reference",)))
    assert outcome.checks == ()
    assert decide(outcome.caps, Request(rows=("reference",))).verdict("reference").proofs


def test_what_is_kept_costs_one_decision(proven: tuple[Path, Capabilities]) -> None:
    """A requirement of each row is asked once, however many rows are refused before the one that is proven."""
    asked: list[Capabilities] = []

    def counting(caps: Capabilities, _: Request) -> None:
        asked.append(caps)

    rows = tuple(replace(row, requirements=(counting, *row.requirements)) for row in ROWS)
    outcome = prove_best(read(proven[0]), Request(), rows)
    assert (outcome.checks, len(asked)) == ((), len(ROWS))


def test_a_proof_settles_what_is_not_known(proven: tuple[Path, Capabilities]) -> None:
    """Without it such a row is never chosen; the reason stays."""
    shape = Request(rows=("reference",))
    unknowing = replace(REFERENCE, requirements=(*REFERENCE.requirements, unknown))
    assert decide(CPU, shape, (unknowing,)).chosen is None
    decision = decide(read(proven[0]), shape, (unknowing,))
    assert decision.chosen == "reference"
    assert [reason.code for reason in decision.verdict("reference").settled] == ["device.arch-unproven"]
    assert "unknown, and proven here" in decision.explain()


def unknown(_: Capabilities, __: Request) -> Reason:
    """A requirement that nobody can judge."""
    return Reason("device.arch-unproven", "unknown", observed="cpu9", required="a known one")


def test_what_is_unmet_is_never_run() -> None:
    """A switch or the engine's limits are not for a proof to overrule."""
    forced = CPU.replace(switches={"row": Switch("row", "portable", "NSA_CAPS_ROW", "portable", "nsa_caps text")})
    outcome = prove_rows(forced, Request(), ["reference", "deepgemm"], proof=Proof(keep=False))
    assert (outcome.checks, outcome.caps) == ((), forced)


def test_of_two_kinds_of_device_one_proof_is_not_enough(proven: tuple[Path, Capabilities]) -> None:
    """A row that was not seen on all of them is not settled, and one failure puts it out."""
    (verdict,) = read(proven[0]).kept
    two = CPU.replace(
        platform="cuda", devices=(Device(0, "sm_90", "t", model="H100"), Device(1, "sm_90", "t", model="H200"))
    )
    one = replace(verdict, device="H100")
    assert decide(two.replace(kept=(one,)), Request(rows=("reference",))).verdict("reference").proofs == ()
    both = (one, replace(verdict, device="H200"))
    assert len(decide(two.replace(kept=both), Request(rows=("reference",))).verdict("reference").proofs) == 2
    failed = decide(two.replace(kept=(one, replace(both[1], verdict="wrong"))), Request(rows=("reference",)))
    assert failed.chosen is None
    assert failed.verdict("reference").reasons[0].code == "selfcheck.wrong"


@pytest.mark.slow
def test_eight_at_once_prove_once(folder: Path) -> None:
    """The others wait for the first, and read what it kept."""
    code = (
        "import nsa_caps; from nsa_caps.selfcheck.prove import prove_best\n"
        "caps = nsa_caps.probe(); print(len(prove_best(caps, nsa_caps.Request(rows=('reference',))).checks))"
    )
    ranks = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(8)]
    assert sorted(rank.communicate(timeout=300)[0].strip() for rank in ranks) == ["0"] * 7 + ["1"]
    assert len(list(folder.glob("*.json"))) == 1


def test_where_nothing_can_be_written_it_is_proven_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note says so."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NSA_CAPS_PROOFS", str(tmp_path / "file" / "proofs"))
    outcome = prove_best(CPU, Request(rows=("reference",)))
    assert decide(outcome.caps, Request(rows=("reference",))).verdict("reference").proofs
    assert "its verdict is not kept: " in outcome.caps.notes[-1].text
    assert json.loads(outcome.caps.to_json())["kept"][0]["source"] is None
    assert time.strftime("%Y", time.gmtime()) in outcome.caps.kept[0].made
