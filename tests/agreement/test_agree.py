"""Ranks that agree, and ranks that do not: real processes on gloo, each a differently laid-out machine.

Many scenarios share a job, since a rank takes 1.5 s to import torch: they are agreed on one after the other.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist

import nsa_caps
from nsa_caps.agreement.collectives import Wire
from nsa_caps.testing import machine

from .jobs import ROOT, environ, outcomes, play, torchrun, write_plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .jobs import Told

AITER = {"SGLANG_USE_AITER": "1"}
NEW: dict[str, Any] = {"archs": ["gfx942"] * 8, "triton": "3.6.0", "aiter": "a6bb4993", "environ": AITER}
NEWER = {**NEW, "triton": "3.7.0"}
OLD = {**NEW, "triton": "3.4.0"}
FLAT = {**NEW, "environ": {**AITER, "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "1"}}
MI350 = {**NEW, "archs": ["gfx950"] * 8}
BARE = {"platform": "unknown", "torch": None, "triton": None}
HOPPER = {"platform": "cuda", "archs": ["sm_90"], "torch": "2.11.0+cu130", "deep_gemm": "2.1.0"}
NO_DEEPGEMM = {**HOPPER, "deep_gemm": None, "environ": {"CUDA_HOME": "/usr/local/cuda"}}
FORCED = {**HOPPER, "triton": "3.2.0", "environ": {"NSA_CAPS_ROW": "portable", "NSA_CAPS_ROW_FORCE": "1"}}

# What was seen on a rank's device: aiter's rows are right there, or its tiles are wrong, or page 1 was not looked at.
BOTH = {**NEW, "kept": {"aiter-preshuffle": "proven", "aiter-token": "proven"}}
TILES = {**NEW, "kept": {"aiter-preshuffle": "proven"}}
WRONG = {**NEW, "kept": {"aiter-preshuffle": "wrong", "aiter-token": "proven"}}

MODES = {"strict": ["strict"] * 4, "common": ["common"] * 4}
SCENARIOS: dict[str, dict[str, Any]] = {
    "equal": {"machines": [NEW] * 4},
    "other versions": {"machines": [NEW, NEWER, NEW, NEWER]},
    "one differs": {"machines": [NEW, NEW, OLD, NEW]},
    "half differ": {"machines": [OLD, OLD, NEW, NEW]},
    "two reasons": {"machines": [NEW, NEW, OLD, FLAT]},
    "none in common": {"machines": [NEW, MI350, NEW, NEW]},
    "one raises": {"machines": [NEW, {"raises": "no such file: version.py"}, NEW, NEW]},
    "all raise": {"machines": [{"raises": "no disk"}] * 4},
    "one has no row": {"machines": [NEW, NEW, NEW, BARE]},
    "other kernels": {"machines": [HOPPER, HOPPER, HOPPER, NO_DEEPGEMM]},
    "other pool": {"machines": [NEW, NEW, {**NEW, "request": {"index_kpool": 2}}, NEW]},
    "other page size": {"machines": [NEW, {**NEW, "request": {"page_size": 128}}, NEW, NEW]},
    "forced": {"machines": [HOPPER, FORCED, HOPPER, HOPPER]},
    "mixed modes": {"machines": [NEW, NEW, OLD, NEW], "modes": {"mixed": ["common", "strict", "common", "common"]}},
    "a group": {"machines": [NEW, OLD, NEW, NEW], "group": [1, 3], "absent": [0]},
    "no mode": {"machines": [NEW] * 4, "modes": {"none": ["majority"] * 4}},
    "one device fails": {"machines": [BOTH, BOTH, WRONG, BOTH]},
    "proven on some": {"machines": [TILES, BOTH, WRONG, TILES]},
    "some are not proven": {"machines": [NEW, BOTH, WRONG, TILES]},
    "at last": {"machines": [OLD] * 4},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return what four ranks were told in every scenario, one after the other in one job."""
    return play(tmp_path_factory.mktemp("job"), 4, {name: {"modes": MODES, **each} for name, each in SCENARIOS.items()})


def refusal(told: Told, scenario: str, mode: str, ranks: tuple[int, ...] = (0, 1, 2, 3)) -> dict[str, Any]:
    """Return what all ranks were refused with, after checking that it is the same everywhere."""
    found: list[dict[str, Any]] = [told[rank][scenario][mode] for rank in ranks]
    assert all("refused" in each for each in found), found
    assert len({each["text"] for each in found}) == 1
    return found[0]


def agreed(told: Told, scenario: str, mode: str) -> dict[str, Any]:
    """Return the layout that all ranks were given, after checking that it is the same everywhere."""
    found: list[dict[str, Any]] = [told[rank][scenario][mode] for rank in range(4)]
    assert all("row" in each for each in found), found
    assert all((each["row"], each["format"]) == (found[0]["row"], found[0]["format"]) for each in found)
    return found[0]


@pytest.mark.parametrize("mode", ["strict", "common"])
@pytest.mark.parametrize("scenario", ["equal", "other versions", "at last"])
def test_equal_layouts_are_returned_as_they_are(told: Told, scenario: str, mode: str) -> None:
    """Where all ranks have the same layout each keeps its own, whatever versions brought it there."""
    agreed(told, scenario, mode)
    assert all(rank[scenario][mode]["as it was"] for rank in told)


def test_strict_names_who_differs_in_what_by_which_evidence_and_the_fix(told: Told) -> None:
    """All ranks raise one message: the rank, the fields, the version with the file it was read in, what to do."""
    found = refusal(told, "one differs", "strict")
    assert found["refused"] == [[0, 1, 3], [2]]
    text = " ".join(found["text"].split())
    assert "rank 2, against ranks 0-1, 3:" in text
    assert "page_size 1, not 64" in text
    assert "order flat, not tiles" in text
    assert "dialect" not in text
    assert "Triton 3.4.0; needs Triton >= 3.5.0" in text
    assert "one differs-2/site/triton/__init__.py), not 3.6.0" in text
    assert 'fix: pip install "triton>=3.5.0,<3.10"' in text
    assert "All ranks may use aiter-token, pages of 1" in text


def test_common_is_the_best_that_all_can_run(told: Told) -> None:
    """With one old Triton every rank gets aiter's pages of one, and the rank that had them keeps its layout."""
    found = agreed(told, "one differs", "common")
    assert (found["row"], found["format"]["page_size"], found["format"]["dialect"]) == ("aiter-token", 1, "e4m3fnuz")
    assert [rank["one differs"]["common"]["as it was"] for rank in told] == [False, False, True, False]


def test_of_two_halves_the_better_row_is_what_is_aimed_at(told: Told) -> None:
    """Where two halves differ, the fix is for those with the worse row, though rank 0 is one of them."""
    found = refusal(told, "half differ", "strict")
    assert found["refused"] == [[2, 3], [0, 1]]
    assert "rank 0, against ranks 2-3:" in found["text"]
    assert "rank 1, against ranks 2-3:" in found["text"]
    assert agreed(told, "half differ", "common")["row"] == "aiter-token"


def test_ranks_of_one_layout_for_other_reasons_are_told_apart(told: Told) -> None:
    """Two ranks have the same layout, one by its Triton and one by a switch: each has a reason and a fix of its own."""
    text = refusal(told, "two reasons", "strict")["text"]
    _, old, flat = text.split("against ranks 0-1:")
    assert "triton.too-old" in old
    assert "switch.preshuffle-off" not in old
    assert "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE=1" in flat
    assert "triton.too-old" not in flat
    assert "fix: unset SGLANG_DSA_HIP_DISABLE_PRESHUFFLE" in flat
    assert agreed(told, "two reasons", "common")["row"] == "aiter-token"


@pytest.mark.parametrize("mode", ["strict", "common"])
def test_other_dialects_have_nothing_in_common(told: Told, mode: str) -> None:
    """gfx942 and gfx950 choose the same row and mean other numbers by it: no mode brings them together."""
    found = refusal(told, "none in common", mode)
    assert found["refused"] == [[0, 2, 3], [1]]
    assert "dialect e4m3fn, not e4m3fnuz" in found["text"]
    assert "devices 8 x gfx950" in found["text"]
    assert "There is no row that every rank may use with equal pages." in found["text"]
    assert "fix:" not in found["text"]


@pytest.mark.parametrize("mode", ["strict", "common"])
def test_a_rank_that_fails_is_named_with_its_error(told: Told, mode: str) -> None:
    """A rank hands in its exception: the others learn which, and its own error stays the cause there."""
    found = refusal(told, "one raises", mode)
    assert found["refused"] == [[0, 2, 3], [1]]
    assert "OSError: no such file: version.py" in found["text"]
    causes = [rank["one raises"][mode]["cause"] for rank in told]
    assert causes == ["None", "OSError('no such file: version.py')", "None", "None"]


@pytest.mark.parametrize("mode", ["strict", "common"])
def test_ranks_that_all_fail_alike_do_not_agree(told: Told, mode: str) -> None:
    """No layout is no layout to share."""
    assert refusal(told, "all raise", mode)["refused"] == [[0, 1, 2, 3]]


@pytest.mark.parametrize("mode", ["strict", "common"])
def test_a_rank_without_a_row_tells_every_reason(told: Told, mode: str) -> None:
    """A machine without torch is told apart by why the others' row is out there."""
    found = refusal(told, "one has no row", mode)
    assert found["refused"] == [[0, 1, 2], [3]]
    assert "what torch was built for is not known" in found["text"]
    assert "torch missing" in found["text"]


def test_the_row_counts_too(told: Told) -> None:
    """DeepGEMM and our kernels read the same pages, yet may choose other tokens: strict refuses, common takes ours."""
    found = refusal(told, "other kernels", "strict")
    assert "row portable, not deepgemm" in found["text"]
    assert "page_size" not in found["text"]
    assert 'pip install "sgl-deep-gemm>=0.1.5"' in found["text"]
    assert agreed(told, "other kernels", "common")["row"] == "portable"


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("other pool", ("index_kpool 2, not 1", "request index_kpool 2")),
        ("other page size", ("page_size 128, not 64", "request page_size 128")),
    ],
)
@pytest.mark.parametrize("mode", ["strict", "common"])
def test_what_was_asked_for_counts(told: Told, scenario: str, words: tuple[str, ...], mode: str) -> None:
    """Ranks that were asked for other pages are refused, and the request is named as the evidence."""
    text = refusal(told, scenario, mode)["text"]
    assert all(word in text for word in words)


def test_a_forced_row_is_all_that_its_rank_can_run(told: Told) -> None:
    """A rank whose row is forced can be met by the others where they may use it, and stays marked as forced."""
    assert agreed(told, "forced", "common")["row"] == "portable"
    assert [rank["forced"]["common"]["forced"] for rank in told] == [False, True, False, False]


def test_one_device_that_fails_refuses_or_is_met(told: Told) -> None:
    """Strict names the rank and what its device did; common takes the best row that was proven on all."""
    found = refusal(told, "one device fails", "strict")
    assert found["refused"] == [[0, 1, 3], [2]]
    text = " ".join(found["text"].split())
    assert "rank 2, against ranks 0-1, 3:" in text
    assert "gather: 3 of 8448 bytes differ" in text
    assert "selfcheck.wrong" in text
    assert agreed(told, "one device fails", "common")["row"] == "aiter-token"


def test_common_takes_nothing_that_was_not_proven_on_all(told: Told) -> None:
    """Where every rank's row was: it says what to prove. Where one was not, the ranks asked for no proofs."""
    text = " ".join(refusal(told, "proven on some", "common")["text"].split())
    assert "which was not proven on all: nsa-caps prove --row aiter-token" in text
    assert agreed(told, "some are not proven", "common")["row"] == "aiter-token"


def test_where_ranks_differ_in_the_mode_strict_counts(told: Told) -> None:
    """One strict rank makes all of them strict, as none may go on alone."""
    assert refusal(told, "mixed modes", "mixed")["refused"] == [[0, 1, 3], [2]]


def test_a_group_of_some_ranks(told: Told) -> None:
    """Only the group's ranks are asked and named, by their global numbers; another one is told that it is not of it."""
    found = refusal(told, "a group", "strict", ranks=(1, 3))
    assert sorted(found["refused"]) == [[1], [3]]
    assert "rank 1, against rank 3:" in found["text"]
    assert {rank["a group"]["common"]["row"] for rank in (told[1], told[3])} == {"aiter-token"}
    assert told[2]["a group"]["strict"] == {"wrong": "rank 2 is not of this group, and only its ranks call agree"}


def test_a_mode_that_there_is_none_of(told: Told) -> None:
    """The error names the modes, before anything is sent."""
    assert {rank["no mode"]["none"]["wrong"] for rank in told} == {"mode is 'majority', needs 'strict' or 'common'"}


def test_ranks_that_died_or_hang_are_named_by_the_others(tmp_path: Path) -> None:
    """Two of four do not come: the others are told which within the timeout; one that comes late is told the same."""
    scenario = {"machines": [NEW] * 4, "modes": {"strict": ["strict"] * 4}, "die": [1], "late": [2]}
    told = play(tmp_path, 4, {"lost": scenario}, timeout=3, abrupt=True)
    found = [told[rank]["lost"]["strict"] for rank in (0, 2, 3)]
    assert [each["missing"] for each in found] == [[1, 2]] * 3
    assert {each["text"] for each in found} == {
        "ranks 1-2 of 4 did not come to agree on the indexer's layout within 3 s of the first rank that came"
    }
    assert 2.9 < found[0]["seconds"] < 30
    assert found[1]["seconds"] < 2.9
    assert told[1] == {}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 8])
def test_few_and_many_ranks(tmp_path: Path, ranks: int) -> None:
    """With two ranks as with eight the last one's old Triton is seen by all."""
    modes = {mode: [mode] * ranks for mode in ("strict", "common")}
    scenarios = {
        "equal": {"machines": [NEW] * ranks, "modes": modes},
        "last": {"machines": [*[NEW] * (ranks - 1), OLD], "modes": modes},
    }
    told = play(tmp_path, ranks, scenarios)
    assert {rank["equal"]["strict"]["row"] for rank in told} == {"aiter-preshuffle"}
    assert {rank["last"]["common"]["row"] for rank in told} == {"aiter-token"}
    assert len({rank["last"]["strict"]["text"] for rank in told}) == 1
    assert told[0]["last"]["strict"]["refused"] == [list(range(ranks - 1)), [ranks - 1]]


def alone(folder: Path, rank: int, world: int, plan: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a rank without torchrun, whose agent would keep the store alive."""
    script = ROOT / "tests" / "agreement" / "ranks.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(plan), str(folder)],
        env=environ(RANK=str(rank), WORLD_SIZE=str(world), **environment),
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> int:
    """Return a rank's exit status once it has ended."""
    process.communicate(timeout=60)
    return process.returncode


def test_a_store_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    """Where the rank that keeps the store died, who is missing is not known, and that is what is said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    scenario = {"machines": [NEW] * 2, "modes": {"strict": ["strict"] * 2}, "die": [0]}
    plan = write_plan(tmp_path, {"lost": scenario}, timeout=5, abrupt=True)
    started = [alone(tmp_path, rank, 2, plan, **address) for rank in range(2)]
    assert [ended(each) for each in started] == [0, 0]
    found = outcomes(tmp_path, 2)[1]["lost"]["strict"]
    assert found["missing"] is None
    assert found["text"].startswith("the store of the process group")


@pytest.mark.slow
def test_a_store_in_a_file_tells_who_is_missing(tmp_path: Path) -> None:
    """A file as the store raises another error when time is up; the rank that did not come is named all the same."""
    scenario = {"machines": [NEW] * 2, "modes": {"strict": ["strict"] * 2}, "die": [1]}
    init = {"init_method": f"file://{tmp_path}/store", "world_size": 2}
    plans = []
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        plan = {"init": {**init, "rank": rank}, "abrupt": True}
        plans.append(write_plan(tmp_path / str(rank), {"lost": scenario}, timeout=2, **plan))
    started = [alone(tmp_path, rank, 2, plan) for rank, plan in enumerate(plans)]
    assert [ended(each) for each in started] == [0, 0]
    assert outcomes(tmp_path, 2)[0]["lost"]["strict"]["missing"] == [1]


@pytest.fixture
def single() -> Iterator[None]:
    """Make this process the only rank of a group."""
    store = dist.HashStore()  # type: ignore[attr-defined]  # it is public, and not in __all__
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("single")
def test_where_all_agree_one_collective_of_32_bytes_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is given to the backend, and nothing is said of the machine."""
    layout = nsa_caps.select_indexer_layout(nsa_caps.probe(machine(tmp_path, **NEW)))
    given: list[int] = []

    def reduce(tensor: torch.Tensor, **options: Any) -> None:
        given.append(tensor.numel() * tensor.element_size())
        original(tensor, **options)

    original = dist.all_reduce
    monkeypatch.setattr(dist, "all_reduce", reduce)
    for name in ("all_gather", "broadcast", "all_gather_object", "barrier"):
        monkeypatch.delattr(dist, name)
    assert nsa_caps.agree(layout) is layout
    assert given == [32]


@pytest.mark.usefixtures("single")
def test_a_row_that_raises_is_told_and_keeps_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third party's row that fails when it is asked for a fix is an error of its rank, told to all."""

    def broken(caps: nsa_caps.Capabilities, _: nsa_caps.Request) -> None:
        if caps.triton.source == "what-if":
            raise ZeroDivisionError("of a plugin")

    caps = nsa_caps.probe(machine(tmp_path, **OLD))
    rows = (replace(nsa_caps.ROWS[0], requirements=(*nsa_caps.ROWS[0].requirements, broken)), *nsa_caps.ROWS[1:])
    layout = nsa_caps.select_indexer_layout(caps, rows=rows)
    # One rank alone agrees with itself before anything is asked; and in the end, on what came of it.
    answers = iter([False, True])
    monkeypatch.setattr(Wire, "all_same", lambda *_: next(answers))
    with pytest.raises(nsa_caps.LayoutMismatchError, match="no layout: ZeroDivisionError: of a plugin"):
        nsa_caps.agree(layout, mode="common")


@pytest.mark.usefixtures("single")
def test_wrong_arguments_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """A timeout of nothing, and what is no layout."""
    layout = nsa_caps.select_indexer_layout(nsa_caps.probe(machine(tmp_path, **NEW)))
    for timeout in (0, -1, float("nan"), float("inf"), 1e30, True, "5"):
        with pytest.raises(nsa_caps.AgreementError, match="seconds above 0"):
            nsa_caps.agree(layout, timeout=timeout)  # type: ignore[arg-type]  # a text is none
    with pytest.raises(nsa_caps.AgreementError, match="needs an IndexerLayout or the exception"):
        nsa_caps.agree("aiter-token")  # type: ignore[arg-type]  # what is tested


def test_without_a_job_it_is_said_what_is_missing(tmp_path: Path) -> None:
    """Outside any process group the error says what to call before."""
    layout = nsa_caps.select_indexer_layout(nsa_caps.probe(machine(tmp_path, **NEW)))
    with pytest.raises(nsa_caps.AgreementError, match="init_process_group"):
        nsa_caps.agree(layout)


def test_it_is_imported_at_first_use_and_brings_no_torch() -> None:
    """`import nsa_caps` knows the name alone; asking for it imports no torch, and an unknown name is still an error."""
    code = """
import sys, nsa_caps
late = {f"nsa_caps.agreement.{name}" for name in ("ranks", "peers", "mismatch", "summary", "fleet")}
assert not late & set(sys.modules)
from nsa_caps import *
assert agree is nsa_caps.agree and check_peer and LayoutMismatchError and MissingRanksError and HandshakeError
assert "nsa_caps.agreement" in sys.modules and "torch" not in sys.modules
try:
    nsa_caps.agreed
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environ(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("module 'nsa_caps' has no attribute 'agreed'\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_the_script_for_gpus_says_that_all_is_as_it_should_be(backend: str) -> None:
    """The benchmark's own checks pass, on CPU, and on two GPUs where there are any."""
    if backend == "nccl" and torch.cuda.device_count() < 2:
        pytest.skip("nccl needs two GPUs of this machine")
    done = torchrun(2, ROOT / "benchmarks" / "agreement_gpus.py", "--backend", backend)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("As it should be on every rank.\n")
