"""The self-check against rows that are right, and against rows with one planted fault each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from nsa_caps import probe
from nsa_caps.base.serial import SnapshotError
from nsa_caps.kernels import reference, reference_logits
from nsa_caps.pages import PageFormat
from nsa_caps.policy.decision import find_row
from nsa_caps.policy.request import Request
from nsa_caps.selfcheck.check import causes_of, run, self_check, versions_of
from nsa_caps.selfcheck.records import CAUSES, RowKernels, SelfCheck
from nsa_caps.testing import machine
from tests.planted_faults import (
    CutOff,
    Quantiser,
    Reader,
    RoundingQuantiser,
    Scorer,
    Writer,
    other_dialect,
    other_order,
    planted,
    slots_of,
    with_field,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

FLAT = PageFormat(page_size=64)
TILES = PageFormat(page_size=64, order="tiles", dialect="e4m3fnuz")
TOKEN = PageFormat(page_size=1)
PACKED = PageFormat(page_size=128, scale_format="ue8m0_packed")
FORMATS = [
    FLAT,
    TILES,
    TOKEN,
    PACKED,
    PageFormat(page_size=16, order="tiles", scale_format="ue8m0"),
    PageFormat(page_size=256, row_stride=144, dialect="e4m3fnuz"),
]


def only(found: SelfCheck, step: str) -> str:
    """The cause of the only mismatch, which is in this step."""
    assert found.verdict == "wrong"
    assert [mismatch.step for mismatch in found.mismatches] == [step]
    return found.mismatches[0].cause


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_a_right_row_is_proven_in_every_format(fmt: PageFormat) -> None:
    """All four steps run, and nothing is held against the reference itself."""
    found = self_check(planted(logits=reference_logits.logits), fmt, "cpu")
    assert (found.verdict, found.mismatches, found.reasons) == ("proven", (), ())
    assert found.checked == ("store", "quantise_and_store", "gather", "logits")
    assert (found.device, found.fingerprint) == ("cpu", fmt.fingerprint)


@pytest.mark.parametrize("fmt", [FLAT, TILES, TOKEN], ids=str)
def test_a_right_row_is_proven_beyond_4_gib(fmt: PageFormat) -> None:
    """Of a cache that reaches beyond 4 GiB, only the pages that are looked at are ever touched."""
    found = self_check(planted(logits=reference_logits.logits), fmt, "cpu", beyond_2gib=True)
    assert found.verdict == "proven"
    steps = ("store", "quantise_and_store", "gather", "logits")
    assert found.checked == (*steps, *(f"{step} beyond 2 GiB" for step in steps))


@pytest.mark.parametrize("seed", range(3))
def test_other_random_bytes_prove_the_same(seed: int) -> None:
    """No verdict hangs on the seed."""
    assert self_check(planted(), FLAT, "cpu", seed=seed).verdict == "proven"


def exponent_alone(scales: Tensor) -> Tensor:
    """What is left where the mantissa is dropped."""
    return (scales.view(torch.int32) & 0x7F800000).view(torch.float32)


def without_negative_zero(keys: Tensor) -> Tensor:
    """What engines do to e4m3fn weights on gfx94x, where that code is NaN."""
    return torch.where(keys == 0x80, 0, keys)


@pytest.mark.parametrize(
    ("cause", "fmt", "store"),
    [
        ("order", FLAT, Writer(fmt=other_order)),
        ("order", TILES, Writer(fmt=other_order)),
        ("dialect", FLAT, Writer(keys=without_negative_zero, scales=lambda scales: scales * 2)),
        ("dialect", TILES, Writer(scales=lambda scales: scales / 2)),
        ("scale-form", FLAT, Writer(scales=reference.round_up_to_power_of_two)),
        ("scale-form", FLAT, Writer(scales=exponent_alone)),
        ("scale-form", TILES, Writer(fmt=with_field(scale_format="ue8m0_packed"))),
        ("scale-form", PACKED, Writer(fmt=with_field(scale_format="ue8m0"))),
        ("page-off-by-one", FLAT, Writer(shift=1)),
        ("page-off-by-one", TOKEN, Writer(shift=-1)),
        ("offset-overflow", FLAT, CutOff(2**17).store),
        ("offset-overflow", TILES, CutOff(2**18, page_alone=True).store),
        ("offset-overflow", TOKEN, CutOff(2**16).store),
        ("unexplained", FLAT, Writer(keys=lambda keys: keys.flip(1))),
    ],
)
def test_a_planted_fault_of_a_store_is_named(cause: str, fmt: PageFormat, store: Callable[..., None]) -> None:
    """And the row is otherwise held to be right."""
    assert only(self_check(planted(store=store), fmt, "cpu"), "store") == cause


@pytest.mark.parametrize("seed", range(4))
def test_offsets_that_are_cut_off_are_named_whatever_else_lands_there(seed: int) -> None:
    """A quarter of the cache is written four times over, and pages across its edge end up beyond it."""
    found = self_check(planted(store=CutOff(2**17, page_alone=True).store), TILES, "cpu", seed=seed)
    assert only(found, "store") == "offset-overflow"


@pytest.mark.parametrize(
    ("cause", "fmt", "change"),
    [
        ("order", FLAT, other_order),
        ("order", TILES, other_order),
        ("dialect", FLAT, other_dialect),
        ("dialect", TILES, other_dialect),
        ("scale-form", FLAT, with_field(scale_format="ue8m0")),
        ("scale-form", replace(TILES, scale_format="ue8m0"), with_field(scale_format="fp32")),
    ],
)
def test_a_planted_fault_of_a_store_that_quantises_is_named(
    cause: str, fmt: PageFormat, change: Callable[[PageFormat], PageFormat]
) -> None:
    """Its keys are such that no rounding excuses another byte."""
    found = self_check(planted(quantise_and_store=Quantiser(change)), fmt, "cpu")
    assert only(found, "quantise_and_store") == cause


def test_a_scale_may_be_off_by_one_in_the_last_place_where_it_is_computed() -> None:
    """A compiler may divide by multiplying, and a key's bytes stay the same; two in the last place are too many."""
    verdicts = [self_check(planted(quantise_and_store=RoundingQuantiser(ulps)), FLAT, "cpu") for ulps in (1, 2)]
    assert [found.verdict for found in verdicts] == ["proven", "wrong"]


@pytest.mark.parametrize(
    ("cause", "fmt", "gather"),
    [
        ("order", FLAT, Reader(fmt=other_order)),
        ("order", TILES, Reader(fmt=other_order)),
        ("dialect", FLAT, Reader(scales=lambda scales: scales.mul_(2))),
        ("scale-form", FLAT, Reader(fmt=with_field(scale_format="ue8m0_packed"))),
        ("scale-form", PACKED, Reader(fmt=with_field(scale_format="fp32"))),
        ("page-off-by-one", FLAT, Reader(table=lambda table: table + 1)),
        ("page-off-by-one", TILES, Reader(table=lambda table: table - 1)),
        ("page-off-by-one", TOKEN, Reader(table=lambda table: table.roll(-1, dims=1))),
        ("offset-overflow", FLAT, CutOff(2**17).gather),
        ("offset-overflow", FLAT, CutOff(2**18, page_alone=True).gather),
        ("offset-overflow", TILES, CutOff(2**16).gather_zeros),
        ("offset-overflow", TOKEN, CutOff(2**15).gather),
        ("unexplained", FLAT, Reader(keys=lambda keys: keys.bitwise_not_())),
    ],
)
def test_a_planted_fault_of_a_gather_is_named(cause: str, fmt: PageFormat, gather: Callable[..., Any]) -> None:
    """And the row is otherwise held to be right."""
    found = self_check(planted(gather=gather), fmt, "cpu").mismatches[0]
    assert (found.step, found.cause) == ("gather", cause)


def test_a_store_and_a_gather_that_are_wrong_alike_are_both_found() -> None:
    """What one writes the other reads, so that only the bytes in between show it."""
    found = self_check(planted(store=Writer(fmt=other_order), gather=Reader(fmt=other_order)), TILES, "cpu")
    causes = [(mismatch.step, mismatch.cause) for mismatch in found.mismatches]
    assert causes == [("store", "order"), ("gather", "order")]


@pytest.mark.parametrize("limit", [2**31, 2**32])
def test_offsets_of_32_bits_are_found_in_a_large_cache_alone(limit: int) -> None:
    """The small cache proves such a row: nothing in it is cut off."""
    kernels = planted(store=CutOff(limit).store, gather=CutOff(limit).gather, quantise_and_store=None)
    found = self_check(kernels, FLAT, "cpu", beyond_2gib=True)
    causes = [(mismatch.step, mismatch.cause) for mismatch in found.mismatches]
    assert causes == [("store beyond 2 GiB", "offset-overflow"), ("gather beyond 2 GiB", "offset-overflow")]
    assert all(f"first {limit:,}" in mismatch.explanation for mismatch in found.mismatches)


def test_whatever_is_read_beyond_2_gib_is_an_overflow() -> None:
    """Negative offsets read memory that is nobody's, which no rule predicts."""

    def gather(cache: Tensor, page_table: Tensor, cu_seq_lens: Tensor, **options: Any) -> Any:
        keys, scales = reference.gather(cache, page_table, cu_seq_lens, **options)
        fmt = options["fmt"]
        far = slots_of(page_table, cu_seq_lens, fmt) // fmt.page_size * fmt.page_bytes >= 2**31
        keys.view(torch.uint8)[: len(far)][far] = torch.randint(0, 256, (int(far.sum()), 128), dtype=torch.uint8)
        return keys, scales

    found = self_check(planted(gather=gather), FLAT, "cpu", beyond_2gib=True)
    assert only(found, "gather beyond 2 GiB") == "offset-overflow"


def test_the_first_token_that_differs_is_told_with_its_place() -> None:
    """Request, position, page and slot are those of the page table; the bytes begin with the first that differs."""
    tables = []

    def gather(cache: Tensor, page_table: Tensor, cu_seq_lens: Tensor, **options: Any) -> Any:
        keys, scales = reference.gather(cache, page_table, cu_seq_lens, **options)
        tables.append(page_table)
        # The lengths of the requests are 0, 1, 2500, ...
        keys.view(torch.uint8)[1234, 5] ^= 0x40
        scales[2000] = 7.0
        return keys, scales

    found = self_check(planted(gather=gather), FLAT, "cpu").mismatches[0]
    assert (found.request, found.position, found.slot) == (2, 1233, 1233 % 64)
    assert found.page == int(tables[0][2, 1233 // 64])
    assert (found.part, found.wrong, found.cause) == ("key, from byte 5", 2, "unexplained")
    expected, read = (bytes.fromhex(text) for text in (found.expected, found.found))
    assert len(expected) == 8
    assert expected[0] ^ read[0] == 0x40
    assert expected[1:] == read[1:]
    assert CAUSES["unexplained"].capitalize() in str(found)


def test_a_store_that_writes_where_no_token_goes_is_found() -> None:
    """A negative slot is no place, though Python would count it from the end."""

    def store(cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat) -> None:
        reference.store(cache, slots, keys, scales, fmt=fmt)
        cache[slots.max() // fmt.page_size + 1, 3] ^= 0xFF

    found = self_check(planted(store=store), FLAT, "cpu").mismatches[0]
    assert (found.step, found.wrong, found.request, found.part) == ("store", 0, None, "byte 3")
    assert "1 bytes of no token" in str(found)


def test_a_gather_that_writes_more_rows_than_were_asked_for_is_found() -> None:
    """The rows beyond the last token belong to the caller."""
    gather = Reader(scales=lambda scales: scales[-1:].zero_())
    found = self_check(planted(gather=gather), FLAT, "cpu").mismatches[0]
    assert (found.step, found.wrong, found.request) == ("gather", 0, None)
    assert "beyond the last token" in str(found)


def write_whole_pages(scores: Tensor, next_n: int) -> None:
    """Write to the end of the page in which the longest context ends, as aiter's preshuffle kernel does."""
    start = (3 * next_n - 1) * scores.shape[1]
    scores.view(-1)[start + 4810 : start + 4864] = -torch.inf


def copy_first_query(scores: Tensor, next_n: int) -> None:
    """Give the second of two queries what the first may see, which is one token less."""
    if next_n == 2:
        scores[1] = scores[0]


@pytest.mark.parametrize(
    ("cause", "fmt", "logits"),
    [
        ("order", FLAT, Scorer(fmt=other_order)),
        ("order", TILES, Scorer(fmt=other_order)),
        ("scale-form", FLAT, Scorer(fmt=with_field(scale_format="ue8m0_packed"))),
        ("page-off-by-one", FLAT, Scorer(table=lambda table: table + 1)),
        ("page-off-by-one", TOKEN, Scorer(table=lambda table: table.roll(1, dims=1))),
        ("dialect", FLAT, Scorer(scores=lambda scores, _: scores.mul_(4))),
        ("dialect", FLAT, Scorer(scores=lambda scores, _: scores.div_(2))),
        ("unexplained", FLAT, Scorer(scores=lambda scores, _: scores[:, 4000].zero_())),
        ("unexplained", FLAT, Scorer(scores=lambda scores, _: scores.nan_to_num_(neginf=0.0))),
        ("unexplained", FLAT, Scorer(scores=lambda scores, _: scores[0, 77].fill_(torch.nan))),
        ("unexplained", FLAT, Scorer(scores=copy_first_query)),
        ("unexplained", FLAT, Scorer(scores=write_whole_pages)),
    ],
)
def test_a_planted_fault_of_logits_is_named(cause: str, fmt: PageFormat, logits: Callable[..., Tensor]) -> None:
    """Scores outside the context and those of the second of two queries included."""
    assert only(self_check(planted(logits=logits), fmt, "cpu"), "logits") == cause


def test_scores_that_are_zero_beyond_2_gib_are_an_overflow() -> None:
    """As aiter's were (aiter#4774), in the large cache alone."""
    tables = []

    def keep(table: Tensor) -> Tensor:
        tables.append(table)
        return table

    def zero(scores: Tensor, next_n: int) -> None:
        far = (tables[-1].long() * FLAT.page_bytes >= 2**31).repeat_interleave(64, dim=1)[:, : scores.shape[1]]
        scores[far.repeat_interleave(next_n, dim=0) & scores.isfinite()] = 0.0

    found = self_check(planted(logits=Scorer(table=keep, scores=zero)), FLAT, "cpu", beyond_2gib=True)
    assert only(found, "logits beyond 2 GiB") == "offset-overflow"


def test_logits_that_order_tokens_otherwise_lose_some_of_the_2048() -> None:
    """The mismatch says how many; scores that are merely doubled lose none."""
    doubled = Scorer(scores=lambda scores, _: scores.mul_(2))
    lost, kept = (
        self_check(planted(logits=logits), FLAT, "cpu").mismatches[0].explanation.split("; ")[1]
        for logits in (Scorer(fmt=other_order), doubled)
    )
    # 2,048 of 4,321 by chance would lose 1,077.
    assert int(lost.split()[0].replace(",", "")) > 500
    assert kept == "0 of the 2,048 tokens chosen for this query are others"


def test_logits_that_round_a_little_are_right() -> None:
    """One part in ten thousand of the largest score moves no token further than a tie."""

    def rounded(scores: Tensor, _: int) -> None:
        scores += scores.nan_to_num(neginf=0.0).abs().amax(dim=1, keepdim=True) * 1e-4

    assert self_check(planted(logits=Scorer(scores=rounded)), FLAT, "cpu").verdict == "proven"


def test_logits_get_the_rows_options_and_heads() -> None:
    """What a layout calls `logits_options` goes with every call."""
    seen = []

    def logits(q: Tensor, *arguments: Any, chunk: int, **options: Any) -> Tensor:
        seen.append((tuple(q.shape[1:3]), chunk, options["out"] is None, options["clean"]))
        return reference_logits.logits(q, *arguments, **options)

    kernels = replace(planted(logits=logits), logits_options={"chunk": 5})
    assert self_check(kernels, FLAT, "cpu", heads=32).verdict == "proven"
    assert seen == [((1, 32), 5, True, True), ((2, 32), 5, False, False)]


@pytest.mark.parametrize(("added", "verdict"), [(0.0, "proven"), (1e6, "wrong")])
def test_scores_that_are_wrong_without_clean_alone_are_found(added: float, verdict: str) -> None:
    """Engines ask without it, and kernels have a way of their own for it; what no query sees may be anything."""

    def logits(*arguments: Any, clean: bool, **options: Any) -> Tensor:
        scores = reference_logits.logits(*arguments, clean=clean, **options)
        if not clean:
            scores[~scores.isfinite()] = 7.0
            scores[0, 4000] += added
        return scores

    assert self_check(planted(logits=logits), FLAT, "cpu").verdict == verdict


def no_kernel(*_: Any, **__: Any) -> None:
    """Fail as a launcher does that wraps what went wrong."""
    raise RuntimeError("no kernel for this GPU") from KeyError("gfx90a")


def test_a_kernel_that_raises_cannot_run_and_says_why() -> None:
    """With the whole chain of causes; what ran before it is still told."""
    found = self_check(planted(gather=no_kernel), FLAT, "cpu")
    assert (found.verdict, found.checked) == ("cannot-run", ("store", "quantise_and_store"))
    assert found.reasons == ("gather: RuntimeError: no kernel for this GPU; caused by KeyError: 'gfx90a'",)


def test_a_row_that_is_wrong_before_it_raises_is_wrong() -> None:
    """That a later step could not run takes nothing back, and is told too."""
    found = self_check(planted(store=Writer(fmt=other_order), gather=no_kernel), FLAT, "cpu")
    assert found.verdict == "wrong"
    assert found.reasons[0].startswith("gather: RuntimeError: ")


@pytest.mark.parametrize("device", ["cuda:63", "warp-drive"])
def test_a_device_that_is_not_there_cannot_run(device: str) -> None:
    """Whether torch was built without it or has never heard of it."""
    found = self_check(planted(), FLAT, device)
    assert (found.verdict, found.device, found.checked) == ("cannot-run", None, ())
    assert f"opening the device {device}: " in found.reasons[0]


def test_causes_stop_where_an_error_says_so() -> None:
    """`raise ... from None` hides what came before; raising while another error is handled does not."""
    hidden, told = RuntimeError("second"), RuntimeError("second")
    hidden.__context__ = told.__context__ = ValueError("first")
    hidden.__suppress_context__ = True
    assert causes_of(hidden) == "RuntimeError: second"
    assert causes_of(told) == "RuntimeError: second; caused by ValueError: first"


@pytest.mark.parametrize("kernels", [planted(), planted(store=Writer(fmt=other_order))])
def test_a_verdict_is_kept_as_json_and_told_again(kernels: RowKernels) -> None:
    """Nothing is lost, and it is told in the same words."""
    found = self_check(kernels, FLAT, "cpu")
    again = SelfCheck.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.explain() == found.explain()


def test_a_kept_verdict_holds_for_what_it_was_made_with_and_nothing_else() -> None:
    """Another format, other versions and another device each end it; what could not run never held."""
    found = self_check(planted(), FLAT, "cpu", versions={"torch": "2.13.0", "aiter": None})
    assert found.still_holds(FLAT.fingerprint, {"aiter": None, "torch": "2.13.0"}, "cpu")
    assert not found.still_holds(TILES.fingerprint, found.versions, "cpu")
    assert not found.still_holds(FLAT.fingerprint, {**found.versions, "aiter": "0.1.16"}, "cpu")
    assert not found.still_holds(FLAT.fingerprint, found.versions, "NVIDIA H200")
    assert not replace(found, verdict="cannot-run").still_holds(FLAT.fingerprint, found.versions, "cpu")


def test_a_kept_verdict_that_cannot_be_one_is_refused() -> None:
    """A release that means another thing by the same fields has another fingerprint for them."""
    document = self_check(planted(), FLAT, "cpu").to_dict()
    with pytest.raises(SnapshotError, match="fingerprint"):
        SelfCheck.from_dict({**document, "fingerprint": TILES.fingerprint})
    with pytest.raises(SnapshotError, match="verdict"):
        SelfCheck.from_dict({**document, "verdict": "probably"})


def test_rows_of_the_table_are_proven_or_told_why_not(tmp_path: Path) -> None:
    """On a machine without a GPU: the reference is proven, and the rest refused for the policy's own reasons."""
    caps = probe(machine(tmp_path, platform="cpu"))
    names = ["reference", "portable", "aiter-preshuffle"]
    right, *refused = run(caps, Request(), "cpu", names)
    assert (right.verdict, right.row) == ("proven", "reference")
    assert right.versions == versions_of(caps, find_row("reference"))
    assert [found.row for found in refused] == names[1:]
    for found in refused:
        assert found.verdict == "cannot-run"
        assert any("this row is for another platform" in reason for reason in found.reasons)
        assert all(reason.startswith(("unmet: ", "unknown: ")) for reason in found.reasons)
        assert found.explain().startswith(f"{found.row}: cannot-run\n  un")


def test_a_row_whose_kernels_do_not_load_cannot_run(tmp_path: Path) -> None:
    """The policy finds DeepGEMM on the fake machine; there is no such module of kernels to import."""
    caps = probe(machine(tmp_path, platform="cuda", archs=["sm_90"], deep_gemm="2.1.1"))
    row = replace(find_row("deepgemm"), logits_kernels="nsa_caps.kernels.reference_logits", kernels="no.such.kernels")
    (found,) = run(caps, Request(), "cpu", ["deepgemm"], (row,))
    assert found.verdict == "cannot-run"
    assert found.reasons[-1].startswith("loading its kernels: ModuleNotFoundError: No module named 'no'")


def test_a_verdict_is_bound_to_the_packages_that_its_row_runs_on(tmp_path: Path) -> None:
    """DeepGEMM's version matters to the row that calls it and to no other."""
    caps = probe(machine(tmp_path, platform="cuda", archs=["sm_90"], deep_gemm="2.1.1"))
    assert versions_of(caps, find_row("deepgemm")).keys() == {"nsa_caps", "torch", "triton", "deep_gemm"}
    assert versions_of(caps, find_row("deepgemm"))["deep_gemm"] == "2.1.1"
    assert versions_of(caps, find_row("portable")).keys() == {"nsa_caps", "torch", "triton"}


def test_a_row_that_only_lacks_knowledge_is_tried(tmp_path: Path) -> None:
    """Without NVIDIA's library the GPUs are not known, and a check is how to find out; what is unknown is told."""
    caps = probe(machine(tmp_path, platform="cuda", archs=None))
    kernels, logits_kernels = "nsa_caps.kernels.reference", "nsa_caps.kernels.reference_logits"
    row = replace(find_row("portable"), kernels=kernels, logits_kernels=logits_kernels)
    (found,) = run(caps, Request(), "cpu", ["portable"], (row,))
    assert found.verdict == "proven"
    assert any(reason.startswith("unknown: ") for reason in found.reasons)


def test_importing_the_check_imports_no_torch() -> None:
    """A kept verdict is told, and a refusal given, on machines that have none."""
    code = "import sys, nsa_caps.selfcheck; print(sorted({'torch', 'triton', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def ragged(change: Callable[[Tensor], object]) -> Callable[..., Tensor]:
    """The reference's ragged logits, with something done to the scores."""

    def score(*arguments: Tensor, fmt: PageFormat, clean: bool, out: Tensor | None) -> Tensor:
        scores = reference_logits.ragged_logits(*arguments, fmt=fmt, clean=clean, out=out)
        change(scores)
        return scores

    return score


@pytest.mark.parametrize("fmt", [FLAT, TILES, TOKEN], ids=str)
def test_right_scores_of_gathered_keys_are_proven(fmt: PageFormat) -> None:
    """As the last of the steps, in a small cache and in one beyond 2 GiB."""
    found = self_check(planted(ragged_logits=ragged(lambda _: None)), fmt, "cpu", beyond_2gib=fmt is FLAT)
    assert found.verdict == "proven"
    assert "ragged_logits" in found.checked


@pytest.mark.parametrize(
    "change",
    [
        lambda scores: scores.mul_(2),
        lambda scores: scores[0, 4000].zero_(),
        lambda scores: scores[0, 0].fill_(torch.nan),
        lambda scores: scores[0, 4321:].nan_to_num_(neginf=0.0),
        lambda scores: scores.copy_(scores.roll(1, dims=0)),
    ],
    ids=["factor", "one score", "not a number", "another request's keys", "another query's"],
)
def test_wrong_scores_of_gathered_keys_are_told(change: Callable[[Tensor], object]) -> None:
    """The first that differs is named by its request and page."""
    found = self_check(planted(ragged_logits=ragged(change)), FLAT, "cpu")
    assert only(found, "ragged_logits") == "unexplained"
    assert found.mismatches[0].page is not None
