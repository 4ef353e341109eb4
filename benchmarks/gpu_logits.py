"""Paged logits on a real GPU: first that they are right, then how they compare with DeepGEMM and the memory floor.

    python benchmarks/gpu_logits.py --output logits.md

Scores are compared with the plain torch reference, with fresh random data and poisoned outputs, and in a cache of more
than 4 GiB; a difference ends the run. A time is that of one launch in a CUDA graph of several, each of which reads
other pages than those before it; the candidates take turns over the rounds, and medians count. DeepGEMM is given its
schedule, which is the same for all layers of a step; the portable kernels divide the work themselves. Neither writes
outside the contexts, but for the column that says so.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from gpu_report import report
from nsa_caps.kernels import reference_logits
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.kernels.portable import logits as portable_logits
from nsa_caps.kernels.reference import byte_offsets, encode_scales
from nsa_caps.pages import PageFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

SHAPES = [(64, 8192), (64, 32768), (16, 131072), (1, 131072)]
HEADS, NEXT_N = (64, 32), (1, 2)
FLAT, TILES = PageFormat(page_size=64), PageFormat(page_size=64, order="tiles")
# Every branch of the kernel; fnuz keys are multiplied as fp16 here.
CHECKED = [
    *(PageFormat(page_size=size) for size in (1, 16, 48, 64, 128)),
    *(PageFormat(page_size=size, order="tiles") for size in (16, 48, 64, 128)),
    PageFormat(page_size=64, dialect="e4m3fnuz"),
    PageFormat(page_size=64, order="tiles", dialect="e4m3fnuz"),
    PageFormat(page_size=64, scale_format="ue8m0_packed", row_stride=144),
]
TOP = 2048
# 1.1 GB, 18 times the L2 cache of an H200: shared out among the launches of a graph.
POOL_PAGES = 4 * 32768
ROUNDS = 12
TOKEN_BYTES, SCORE_BYTES = 132, 4


@dataclass(frozen=True)
class Batch:
    """Requests in pages of one cache, their queries, and room for their scores."""

    fmt: PageFormat
    q: Tensor
    cache: Tensor
    weights: Tensor
    context_lens: Tensor
    page_table: Tensor
    out: Tensor

    @classmethod
    def make(
        cls, fmt: PageFormat, cache: Tensor, page_table: Tensor, lengths: Tensor, width: int, heads: int, next_n: int
    ) -> Batch:
        """Random queries; `width` scores a row."""
        batch = len(lengths)
        q = torch.randn(batch, next_n, heads, fmt.head_dim, device="cuda").to(fp8_dtype(fmt))
        weights = torch.randn(batch * next_n, heads, device="cuda")
        out = torch.full((batch * next_n, width), torch.nan, device="cuda")
        return cls(fmt, q, cache, weights, lengths.to(torch.int32), page_table, out)

    def run(
        self,
        kernels: Any = portable_logits,
        fmt: PageFormat | None = None,
        out: Tensor | None = None,
        *,
        clean: bool = True,
    ) -> Tensor:
        """Score into `out`, or into the batch's own."""
        out = self.out if out is None else out
        arguments = (self.q, self.cache, self.weights, self.context_lens, self.page_table, out.shape[1])
        scores: Tensor = kernels.logits(*arguments, fmt=fmt or self.fmt, out=out, clean=clean)
        return scores


def random_cache(fmt: PageFormat, pages: int, keys: Callable[[int], Tensor], scales: Callable[[int], Tensor]) -> Tensor:
    """Pages of these keys `[tokens, head_dim]` and scales `[tokens]`, made piece by piece."""
    cache = torch.randint(0, 256, (pages, fmt.page_bytes), dtype=torch.uint8, device="cuda")
    key_bytes, scale_bytes = byte_offsets(fmt, "cuda")
    for first in range(0, pages, 8192):
        piece = cache[first : first + 8192]
        tokens = len(piece) * fmt.page_size
        codes = keys(tokens).to(fp8_dtype(fmt)).view(torch.uint8)
        piece[:, key_bytes] = codes.view(-1, *key_bytes.shape)
        piece[:, scale_bytes] = encode_scales(scales(tokens), fmt).reshape(-1, *scale_bytes.shape)
    return cache


def whole_numbers(*shape: int) -> Tensor:
    """Small ones, whose sums fp8 and fp32 hold exactly, in whatever order they are added."""
    return torch.randint(-3, 4, shape, device="cuda").float()


def exact_batch(fmt: PageFormat, lengths: Tensor, width: int, heads: int, next_n: int, pages: int = 0) -> Batch:
    """Data for which every kernel must give the same bits."""
    columns = -(-width // fmt.page_size)
    pages = max(pages, len(lengths) * columns)
    cache = random_cache(
        fmt,
        pages,
        lambda tokens: whole_numbers(tokens, fmt.head_dim),
        lambda tokens: 2.0 ** torch.randint(-3, 4, (tokens,), device="cuda"),
    )
    table = torch.randperm(pages, dtype=torch.int32, device="cuda")[: len(lengths) * columns].view(-1, columns)
    # Entries that no length uses name no page.
    table[torch.arange(columns, device="cuda") * fmt.page_size >= lengths[:, None]] = 2**31 - 1
    batch = Batch.make(fmt, cache, table, lengths, width, heads, next_n)
    batch.q.copy_(whole_numbers(*batch.q.shape).to(batch.q.dtype))
    batch.weights.copy_(whole_numbers(*batch.weights.shape))
    return batch


def expect(equal: object, what: str) -> None:
    """End the run if not.

    Raises:
        RuntimeError: naming what differs.
    """
    if not equal:
        message = f"{what} differs from the reference"
        raise RuntimeError(message)


def ragged(batch: int, limit: int) -> Tensor:
    """Random lengths, a few of them 0, 1, or the longest."""
    lengths = torch.randint(0, limit + 1, (batch,), device="cuda")
    lengths[:6] = torch.tensor([0, 1, limit, 0, 2, limit - 1], device="cuda")
    return lengths[torch.randperm(batch, device="cuda")]


def checks(deep_gemm: Any) -> Iterator[str]:
    """Run every comparison that needs no timing; say what passed."""
    shapes = [(fmt, 32, 2) for fmt in CHECKED] + list(product((FLAT, TILES), HEADS, (1, 2, 3)))
    for fmt, heads, next_n in shapes:
        batch = exact_batch(fmt, ragged(37, 3000), 3011, heads, next_n)
        expected = batch.run(reference_logits, out=torch.empty_like(batch.out))
        expect(torch.equal(batch.run(), expected), f"{fmt}, {heads} heads, next_n {next_n}")
    yield f"{len(shapes)} formats and shapes, ragged, scores that are exact: equal to the reference, bit for bit."

    # 64 or 128 columns: the kernel for Hopper, where it may be used.
    columns = list(product((FLAT, TILES), ((64, 2), (64, 1), (32, 4), (32, 2), (128, 1), (16, 4))))
    for fmt, (heads, next_n) in columns:
        batch = exact_batch(fmt, ragged(64, 6000), 6011, heads, next_n)
        expected = batch.run(reference_logits, out=torch.empty_like(batch.out))
        untouched = expected.masked_fill(expected == -torch.inf, 7.0)
        for _ in range(5):
            what = f"64 ragged requests, {fmt}, {heads} heads, next_n {next_n}"
            batch.out.fill_(torch.nan)
            expect(torch.equal(batch.run(), expected), what)
            batch.out.fill_(7.0)
            expect(torch.equal(batch.run(clean=False), untouched), f"{what}, without -inf,")
    yield f"64 requests of up to 6,000 tokens, {len(columns)} formats and shapes, five times each: equal, bit for bit."

    batch = exact_batch(FLAT, ragged(8, 4096), 4096, 64, 2, pages=9 * 2**29 // FLAT.page_bytes)
    expect(torch.equal(batch.run(), batch.run(reference_logits, out=torch.empty_like(batch.out))), "4.5 GiB of pages")
    yield "4.5 GiB of pages, tokens anywhere in them: equal."

    narrow = exact_batch(FLAT, ragged(520, 2000), 2048, 32, 1)
    wide = torch.full((520, 2**20), torch.nan, device="cuda")
    table = torch.nn.functional.pad(narrow.page_table, (0, 2**14 - narrow.page_table.shape[1]))
    arguments = (narrow.q, narrow.cache, narrow.weights, narrow.context_lens, table, 2**20)
    portable_logits.logits(*arguments, fmt=FLAT, out=wide)
    expected = narrow.run(reference_logits, out=torch.empty_like(narrow.out))
    expect(
        torch.equal(wide[:, :2048], expected) and (wide[:, 2048:] == -torch.inf).all(), "a row beyond 2 GiB of scores"
    )
    yield "520 x 1,048,576 scores, 2.2 GB: equal, -inf outside the contexts."
    del batch, narrow, wide

    for fmt, heads, next_n in product((FLAT, TILES), HEADS, NEXT_N):
        lengths = torch.randint(5000, 8193, (48,), device="cuda")
        pages = torch.arange(48 * 128, dtype=torch.int32, device="cuda").view(48, 128)
        cache = random_cache(fmt, 48 * 128, partial(normal, fmt.head_dim), positive)
        batch = Batch.make(fmt, cache, pages, lengths, 8192, heads, next_n)
        expected = batch.run(reference_logits, out=torch.empty_like(batch.out))
        found = {"portable": batch.run()}
        if deep_gemm and fmt == FLAT:
            found["DeepGEMM"] = deep_gemm_call(deep_gemm, batch)()
        seen = expected > -torch.inf
        for name, scores in found.items():
            if name == "portable":
                expect(torch.equal(scores > -torch.inf, seen), "what is -inf")
            error = float((scores - expected)[seen].norm() / expected[seen].norm())
            expect(error < 1e-3, f"{name}: by {error:.1e} of the norm, more than fp8 accumulation explains; it")
            best = scores.masked_fill(~seen, -torch.inf).topk(TOP).indices
            kept = torch.zeros_like(seen).scatter_(1, best, value=True)
            overlap = float(kept.gather(1, expected.topk(TOP).indices).float().mean())
            yield (
                f"{name}, {fmt.order}, {heads} heads, next_n {next_n}, normal data: {error:.1e} of the norm off, "
                f"{overlap:.5f} of the top {TOP:,} the same."
            )


def normal(head_dim: int, tokens: int) -> Tensor:
    """Keys."""
    return torch.randn(tokens, head_dim, device="cuda")


def positive(tokens: int) -> Tensor:
    """Scales."""
    return torch.rand(tokens, device="cuda") + 0.1


def deep_gemm_call(deep_gemm: Any, batch: Batch) -> Callable[[], Tensor]:
    """One launch of DeepGEMM's kernel for a batch, its schedule made beforehand."""
    next_n = batch.q.shape[1]
    limits = batch.context_lens[:, None] - next_n + 1 + torch.arange(next_n, device="cuda", dtype=torch.int32)
    limits = limits.clamp(min=0).to(torch.int32)
    schedule = deep_gemm.get_paged_mqa_logits_metadata(limits, batch.fmt.page_size, deep_gemm.get_num_sms())
    pages = batch.cache.view(-1, batch.fmt.page_size, 1, batch.fmt.row_stride)
    arguments = (pages, batch.weights, limits, batch.page_table, schedule, batch.out.shape[1])
    call: Callable[[], Tensor] = partial(deep_gemm.fp8_paged_mqa_logits, batch.q, *arguments)
    return call


def captured(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """A CUDA graph of the calls; run once, so that they are compiled."""
    calls[0]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    replay: Callable[[], None] = graph.replay
    return replay


def medians(candidates: Mapping[str, Sequence[Callable[[], object]]]) -> dict[str, float]:
    """Microseconds of one launch. In every round each candidate's graph runs once, another one first each time."""
    graphs = {name: captured(calls) for name, calls in candidates.items()}
    names = list(graphs)
    event: Callable[[], Any] = partial(torch.cuda.Event, enable_timing=True)
    spent: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(ROUNDS):
        events = {}
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin, end = events[name] = (event(), event())
            begin.record()
            graphs[name]()
            end.record()
        torch.cuda.synchronize()
        for name, (begin, end) in events.items():
            spent[name].append(float(begin.elapsed_time(end)) * 1e3 / len(candidates[name]))
    return {name: statistics.median(times) for name, times in spent.items()}


def copy_bandwidth() -> float:
    """Bytes read and written in a microsecond by a kernel that copies 4 GiB."""
    source = torch.randint(0, 100, (2**30,), dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / medians({"copy": [partial(torch.add, source, 1, out=target)]})["copy"]


def batches(pool: Tensor, lengths: Tensor, width: int, heads: int, next_n: int) -> list[Batch]:
    """As many batches as the pool has pages for, 16 at most and 2 at least."""
    per_batch = len(lengths) * width // FLAT.page_size
    count = max(2, min(16, POOL_PAGES // per_batch))
    found = []
    order = torch.randperm(POOL_PAGES, dtype=torch.int32, device="cuda")
    for at in range(count):
        if count * per_batch <= POOL_PAGES:
            pages = order[at * per_batch : (at + 1) * per_batch]
        else:
            pages = order[torch.randperm(POOL_PAGES, device="cuda")][:per_batch]
        found.append(Batch.make(FLAT, pool, pages.view(len(lengths), -1), lengths, width, heads, next_n))
    return found


def candidates_for(deep_gemm: Any, group: Sequence[Batch]) -> dict[str, list[Callable[[], object]]]:
    """What is timed: tiled pages are the same bytes, read as if they were tiles."""
    found: dict[str, list[Callable[[], object]]] = {
        "flat": [partial(batch.run, clean=False) for batch in group],
        "tiles": [partial(batch.run, fmt=TILES, clean=False) for batch in group],
        "clean": [batch.run for batch in group],
    }
    if deep_gemm:
        found["DeepGEMM"] = [deep_gemm_call(deep_gemm, batch) for batch in group]
    return found


def timing(deep_gemm: Any, pool: Tensor, lengths: Tensor, width: int, heads: int, next_n: int, bandwidth: float) -> str:
    """The cells of one table row behind its name."""
    found = medians(candidates_for(deep_gemm, batches(pool, lengths, width, heads, next_n)))
    tokens = int(lengths.sum())
    floor = (tokens * TOKEN_BYTES + tokens * next_n * SCORE_BYTES) / bandwidth
    rest = (len(lengths) * width - tokens) * next_n * SCORE_BYTES / bandwidth
    rival = found.get("DeepGEMM", float("nan"))
    return (
        f"{heads} | {next_n} | {floor:.1f} | {rival:.2f} | {found['flat']:.2f} ({found['flat'] / rival:.3f}) | "
        f"{found['tiles']:.2f} ({found['tiles'] / rival:.3f}) | "
        f"{found['clean']:.2f} ({found['clean'] / (rival + rest):.3f})"
    )


def uneven() -> Iterator[tuple[str, Tensor, int]]:
    """Batches whose requests differ in length: a name, the lengths, the scores a row."""
    yield "64 x 3,277 to 32,768", torch.linspace(3277, 32768, 64, device="cuda").long()[torch.randperm(64)], 32768
    yield "1 x 32,768 and 63 x 1,024", torch.tensor([32768] + [1024] * 63, device="cuda"), 32768
    yield "64 x 8,192 of 131,072", torch.full((64,), 8192, device="cuda"), 131072


def results(deep_gemm: Any) -> Iterator[str]:
    """Check, then time."""
    for line in checks(deep_gemm):
        yield f"- {line}"
    bandwidth = copy_bandwidth()
    pool = random_cache(FLAT, POOL_PAGES, partial(normal, FLAT.head_dim), positive)
    yield from (
        "",
        "Microseconds of a launch, and in brackets their part of DeepGEMM's. The floor is",
        f"{TOKEN_BYTES} bytes a token and {SCORE_BYTES} a score at a copy's {bandwidth / 1e6:.2f} TB/s.",
        "With -inf: all scores of the rows are written, compared with DeepGEMM and a fill of the rest at that speed.",
        "",
        "| batch x context | heads | next_n | floor | DeepGEMM | flat | tiles | flat, with -inf |",
        "|---|---|---|---|---|---|---|---|",
    )
    for (batch, length), heads, next_n in product(SHAPES, HEADS, NEXT_N):
        lengths = torch.full((batch,), length, device="cuda")
        yield f"| {batch} x {length:,} | {timing(deep_gemm, pool, lengths, length, heads, next_n, bandwidth)} |"
    for (name, lengths, width), next_n in product(uneven(), NEXT_N):
        yield f"| {name} | {timing(deep_gemm, pool, lengths, width, 64, next_n, bandwidth)} |"


if __name__ == "__main__":
    report(__doc__, results)
