"""Ragged logits, as prefill needs them, on a real GPU: first that they are right, then how they compare with DeepGEMM.

    python benchmarks/gpu_ragged.py --output ragged.md

Scores are compared with the plain torch reference, with fresh random data and poisoned outputs; a difference ends the
run. What is timed is causal: the last queries of a context, each of which sees what lies before it. A time is that of
one launch of as many as fill 12 ms; the candidates take turns over the rounds with a pause between, and medians count.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gpu_logits import expect, whole_numbers
from gpu_report import report
from nsa_caps.kernels import reference_logits
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.kernels.portable.ragged_logits import ragged_logits
from nsa_caps.kernels.portable.tuning import tuning_for
from nsa_caps.pages import PageFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

SHAPES = [(2048, 8192), (2048, 32768), (2048, 131072), (8192, 8192), (8192, 32768), (8192, 131072)]
FORMATS = (PageFormat(page_size=64), PageFormat(page_size=64, dialect="e4m3fnuz"))
TOP = 2048
ROUNDS, BURST, PAUSE = 5, 12e3, 0.004


class Prompt(NamedTuple):
    """What a ragged kernel is given."""

    q: Tensor
    keys: Tensor
    scales: Tensor
    weights: Tensor
    starts: Tensor
    ends: Tensor


def causal(fmt: PageFormat, tokens: int, total: int, heads: int) -> Prompt:
    """The last `tokens` queries of a context of `total`, normal data."""
    dtype = fp8_dtype(fmt)
    return Prompt(
        torch.randn(tokens, heads, fmt.head_dim, device="cuda").to(dtype),
        torch.randn(total, fmt.head_dim, device="cuda").to(dtype),
        torch.rand(total, device="cuda") + 0.1,
        torch.randn(tokens, heads, device="cuda"),
        torch.zeros(tokens, dtype=torch.int32, device="cuda"),
        torch.arange(total - tokens + 1, total + 1, dtype=torch.int32, device="cuda"),
    )


def exact(fmt: PageFormat, tokens: int, total: int, heads: int) -> Prompt:
    """Data for which every kernel must give the same bits; queries see any stretch of the keys, or none."""
    dtype = fp8_dtype(fmt)
    ends = torch.randint(0, total + 1, (tokens,), device="cuda")
    starts = (torch.rand(tokens, device="cuda") * (ends + 1)).long()
    starts[torch.rand(tokens, device="cuda") < 0.5] = 0
    ends[torch.rand(tokens, device="cuda") < 0.1] = 0
    return Prompt(
        whole_numbers(tokens, heads, fmt.head_dim).to(dtype),
        whole_numbers(total, fmt.head_dim).to(dtype),
        2.0 ** torch.randint(-3, 4, (total,), device="cuda"),
        whole_numbers(tokens, heads),
        starts.to(torch.int32),
        ends.to(torch.int32),
    )


def checks(deep_gemm: Any) -> Iterator[str]:
    """Run every comparison that needs no timing; say what passed."""
    cases = list(product(FORMATS, (64, 32, 16, 128, 24), ((333, 1500), (1, 64), (70, 9001))))
    for fmt, heads, (tokens, total) in cases:
        prompt = exact(fmt, tokens, total, heads)
        expected = reference_logits.ragged_logits(*prompt, fmt=fmt)
        untouched = expected.masked_fill(expected == -torch.inf, 7.0)
        # Rows that lie apart, and one that no launch may touch.
        room = torch.full((tokens + 1, total + 5), torch.nan, device="cuda")
        for _ in range(3):
            room[:tokens, :total] = torch.nan
            found = ragged_logits(*prompt, fmt=fmt, out=room[:tokens, :total])
            expect(torch.equal(found, expected), f"{tokens} x {total}, {heads} heads, {fmt.dialect}:")
            room[:tokens, :total] = 7.0
            found = ragged_logits(*prompt, fmt=fmt, out=room[:tokens, :total], clean=False)
            expect(torch.equal(found, untouched), f"{tokens} x {total}, {heads} heads, {fmt.dialect}, without -inf:")
            expect(room[tokens].isnan().all() and room[:, total:].isnan().all(), "what lies beside the scores")
        tuning = tuning_for(torch.device("cuda", 0), "e4m3fnuz", 128)
        found = ragged_logits(*prompt, fmt=fmt, tuning=tuning)
        expect(torch.equal(found, expected), f"{tokens} x {total}, {heads} heads, {fmt.dialect}, multiplied as fp16:")
    yield f"{len(cases)} formats and shapes, ragged, scores that are exact: equal to the reference, bit for bit."

    prompt = exact(FORMATS[0], 4100, 140_000, 64)
    expected = reference_logits.ragged_logits(*prompt, fmt=FORMATS[0])
    expect(torch.equal(ragged_logits(*prompt, fmt=FORMATS[0]), expected), "2.3 GB of scores")
    yield "4,100 x 140,000 scores, 2.3 GB: equal."
    del prompt, expected

    for heads in (64, 32):
        prompt = causal(FORMATS[0], 512, 8192, heads)
        expected = reference_logits.ragged_logits(*prompt, fmt=FORMATS[0])
        seen = expected > -torch.inf
        scored = {"portable": ragged_logits(*prompt, fmt=FORMATS[0])}
        if deep_gemm:
            scored["DeepGEMM"] = deep_gemm_call(deep_gemm, prompt, clean=True)()
        for name, scores in scored.items():
            error = float((scores - expected)[seen].norm() / expected[seen].norm())
            expect(error < 1e-3, f"{name}: by {error:.1e} of the norm, more than fp8 accumulation explains; it")
            best = scores.masked_fill(~seen, -torch.inf).topk(TOP).indices
            kept = torch.zeros_like(seen).scatter_(1, best, value=True)
            overlap = float(kept.gather(1, expected.topk(TOP).indices).float().mean())
            yield (
                f"{name}, {heads} heads, normal data: {error:.1e} of the norm off, {overlap:.5f} of the top {TOP:,} "
                "the same."
            )


def deep_gemm_call(deep_gemm: Any, prompt: Prompt, *, clean: bool) -> Callable[[], Tensor]:
    """One launch of DeepGEMM's kernel."""
    q, keys, scales, weights, starts, ends = prompt
    call: Callable[[], Tensor] = partial(
        deep_gemm.fp8_mqa_logits, q, (keys, scales), weights, starts, ends, clean_logits=clean
    )
    return call


def medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of each call, in bursts in which they take turns."""

    def burst(call: Callable[[], object], count: int) -> float:
        event: Callable[[], Any] = partial(torch.cuda.Event, enable_timing=True)
        begin, end = event(), event()
        begin.record()
        for _ in range(count):
            call()
        end.record()
        torch.cuda.synchronize()
        time.sleep(PAUSE)
        return float(begin.elapsed_time(end)) * 1e3 / count

    for call in calls.values():
        burst(call, 1)
    counts = {name: max(1, int(BURST / burst(call, 1))) for name, call in calls.items()}
    names = list(calls)
    spent: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(ROUNDS):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            spent[name].append(burst(calls[name], counts[name]))
    return {name: statistics.median(times) for name, times in spent.items()}


def timing(deep_gemm: Any, tokens: int, total: int, heads: int) -> str:
    """The cells of one table row behind its name."""
    fmt = FORMATS[0]
    prompt = causal(fmt, tokens, total, heads)
    out = torch.empty(tokens, total, device="cuda")
    fp16 = tuning_for(torch.device("cuda", 0), "e4m3fnuz", 128)
    calls: dict[str, Callable[[], object]] = {
        "portable": partial(ragged_logits, *prompt, fmt=fmt, out=out, clean=False),
        "with -inf": partial(ragged_logits, *prompt, fmt=fmt, out=out),
    }
    if tokens * total < 2**27:
        calls["fp16"] = partial(ragged_logits, *prompt, fmt=fmt, out=out, clean=False, tuning=fp16)
    if deep_gemm:
        calls["DeepGEMM"] = deep_gemm_call(deep_gemm, prompt, clean=False)
        calls["DeepGEMM with -inf"] = deep_gemm_call(deep_gemm, prompt, clean=True)
    found = medians(calls)
    operations = 2 * fmt.head_dim * heads * float((prompt.ends - prompt.starts).sum())
    rival, rival_clean = found.get("DeepGEMM", float("nan")), found.get("DeepGEMM with -inf", float("nan"))
    fp16_cell = f"{found['fp16']:.0f} ({found['fp16'] / rival:.2f})" if "fp16" in found else "-"
    return (
        f"{heads} | {rival:.0f} ({operations / rival / 1e6:,.0f} TFLOP/s) | "
        f"{found['portable']:.0f} ({found['portable'] / rival:.3f}) | {rival_clean:.0f} | "
        f"{found['with -inf']:.0f} ({found['with -inf'] / rival_clean:.3f}) | {fp16_cell}"
    )


def results(deep_gemm: Any) -> Iterator[str]:
    """Check, then time."""
    for line in checks(deep_gemm):
        yield f"- {line}"
    yield from (
        "",
        "Microseconds of a launch, and in brackets their part of DeepGEMM's. Without fp8 products: as GPUs multiply",
        "that know none.",
        "",
        "| queries x keys | heads | DeepGEMM | portable | DeepGEMM, with -inf | portable, with -inf | without fp8 |",
        "|---|---|---|---|---|---|---|",
    )
    for (tokens, total), heads in product(SHAPES, (64, 32)):
        yield f"| {tokens:,} x {total:,} | {timing(deep_gemm, tokens, total, heads)} |"


if __name__ == "__main__":
    report(__doc__, results)
