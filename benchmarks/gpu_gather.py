"""Store and gather on a real GPU: first that they are right, then how near they come to a copy of the same bytes.

    python benchmarks/gpu_gather.py --output gather.md

Every kernel is compared with the reference over all formats, with fresh random data and poisoned outputs, and in a
cache of 9 GiB; a difference ends the run. Times are medians over rounds in which copy and kernels take turns,
each after a flush of the L2 cache that is long enough for the host to queue the call behind it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
import triton
from triton.testing import do_bench_cudagraph

from nsa_caps.archs import Dialect
from nsa_caps.kernels import reference
from nsa_caps.kernels.portable import store_gather as portable
from nsa_caps.pages import Order, PageFormat, ScaleFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

SHAPES = [(1, 8192), (64, 8192), (1, 131072), (16, 131072), (64, 131072)]
LAUNCH_BOUND = [(1, 8192), (1, 131072)]
PAGES = [
    PageFormat(page_size=1),
    PageFormat(page_size=16),
    PageFormat(page_size=16, order="tiles"),
    PageFormat(page_size=64),
    PageFormat(page_size=64, order="tiles"),
    PageFormat(page_size=128),
    PageFormat(page_size=128, order="tiles"),
]
ROUNDS, CALLS = 5, 12
# Written before each timed call: 20 times the L2 cache of an H200, and 0.25 ms.
FLUSH_BYTES = 2**30
ROW = 132


@dataclass(frozen=True)
class Batch:
    """Requests in shuffled pages of one cache, and room for what is gathered from them."""

    fmt: PageFormat
    cache: Tensor
    page_table: Tensor
    cu_seq_lens: Tensor
    slots: Tensor
    values: Tensor
    out: tuple[Tensor, Tensor]

    @classmethod
    def make(cls, fmt: PageFormat, lengths: Tensor, pages: int = 0) -> Batch:
        """Lay out requests of these lengths; a cache of more pages than they need spreads them over all of it."""
        device = lengths.device
        counts = (lengths + fmt.page_size - 1) // fmt.page_size
        used = int(counts.sum())
        width = max(int(counts.max()), 1)
        pages = max(pages, used)
        table = torch.full((len(lengths), width), -1, dtype=torch.int32, device=device)
        held = torch.arange(width, device=device) < counts[:, None]
        table[held] = torch.randperm(pages, dtype=torch.int32, device=device)[:used]
        bounds = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        tokens = int(bounds[-1])
        request = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
        position = torch.arange(tokens, device=device) - bounds[request]
        page = table[request, position // fmt.page_size].long()
        values = torch.randn((tokens, fmt.head_dim), device=device, dtype=torch.bfloat16)
        keys = torch.full((tokens, fmt.head_dim), 0xA5, dtype=torch.uint8, device=device)
        return cls(
            fmt,
            torch.randint(0, 256, (pages, fmt.page_bytes), dtype=torch.uint8, device=device),
            table,
            bounds,
            page * fmt.page_size + position % fmt.page_size,
            values,
            (keys, torch.full((tokens,), -1.0, device=device)),
        )

    def gather(self, kernels: object = portable, out: tuple[Tensor, Tensor] | None = None) -> None:
        """Gather into `out`, or into the batch's own."""
        kernels.gather(  # type: ignore[attr-defined]
            self.cache,
            self.page_table,
            self.cu_seq_lens,
            total_tokens=len(self.slots),
            out=out or self.out,
            fmt=self.fmt,
        )


def check(batch: Batch) -> None:
    """Portable against reference, byte for byte.

    Raises:
        RuntimeError: naming the kernel and the format, if they differ.
    """
    fmt, cache, slots = batch.fmt, batch.cache, batch.slots
    keys, scales = reference.quantise(batch.values, fmt)
    skipping = torch.where(torch.rand(len(slots), device=slots.device) < 0.1, -1, slots)

    def compare(name: str, *pairs: tuple[Tensor, Tensor]) -> None:
        if not all(torch.equal(found.view(torch.uint8), expected.view(torch.uint8)) for found, expected in pairs):
            message = f"{name} differs from the reference for {fmt}"
            raise RuntimeError(message)

    untouched = cache.clone()
    portable.quantise_and_store(cache, skipping, batch.values, fmt=fmt)
    reference.store(untouched, skipping, keys, scales, fmt=fmt)
    compare("quantise_and_store", (cache, untouched))
    portable.store(cache, slots, keys, scales, fmt=fmt)
    reference.store(untouched, slots, keys, scales, fmt=fmt)
    compare("store", (cache, untouched))
    del untouched
    batch.out[0].fill_(0xA5)
    batch.out[1].fill_(-1.0)
    batch.gather()
    compare("gather", (batch.out[0], keys), (batch.out[1], scales))
    expected = (torch.empty_like(batch.out[0]), torch.empty_like(batch.out[1]))
    batch.gather(reference, expected)
    compare("gather", (batch.out[0], expected[0]), (batch.out[1], expected[1]))


def checks() -> Iterator[str]:
    """Run every comparison that needs no timing; say what passed."""
    formats = [
        PageFormat(page_size=page_size, order=order, dialect=dialect, scale_format=scale_format)
        for page_size in (1, 16, 32, 64, 128, 256)
        for order in get_args(Order)
        for dialect in get_args(Dialect)
        for scale_format in get_args(ScaleFormat)
        if order == "flat" or page_size % 16 == 0
    ]
    for fmt in formats:
        lengths = torch.randint(0, 3000, (37,), device="cuda")
        lengths[torch.randint(0, 37, (9,), device="cuda")] = 0
        check(Batch.make(fmt, lengths))
    yield f"{len(formats)} formats: store, quantise-and-store and gather equal the reference byte for byte."
    for fmt in (PAGES[0], PAGES[3], PAGES[4]):
        batch = Batch.make(fmt, torch.full((8,), 100_000, device="cuda"), pages=9 * 2**30 // fmt.page_bytes)
        check(batch)
        yield (
            f"{batch.cache.nbytes / 2**30:.1f} GiB of pages of {fmt.page_size} ({fmt.order}), 800,000 tokens anywhere "
            "in them: equal."
        )


def median_time(call: Callable[[], object], flush: Tensor, count: int = CALLS) -> float:
    """Microseconds of a call on the device, with nothing of its data in the L2 cache."""
    call()
    event: Callable[[], Any] = partial(torch.cuda.Event, enable_timing=True)
    events = [(event(), event()) for _ in range(count)]
    for begin, end in events:
        flush.zero_()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(float(begin.elapsed_time(end)) * 1e3 for begin, end in events)


def medians(calls: Mapping[str, Callable[[], object]], flush: Tensor) -> dict[str, float]:
    """`median_time` of each call over rounds in which they take turns."""
    rounds = [{name: median_time(call, flush) for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(times[name] for times in rounds) for name in calls}


def host_time(call: Callable[[], object]) -> float:
    """Microseconds that the host spends on a call, the device running behind."""
    for _ in range(100):
        call()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(500):
        call()
    spent = time.perf_counter() - begin
    torch.cuda.synchronize()
    return spent / 500 * 1e6


def copy_of(tokens: int) -> Callable[[], object]:
    """A device copy of the bytes of that many tokens."""
    source = torch.randint(0, 256, (tokens * ROW,), dtype=torch.uint8, device="cuda")
    return partial(torch.empty_like(source).copy_, source)


def timings(batch_size: int, length: int, flush: Tensor) -> Iterator[tuple[str, ...]]:
    """One table row a page format: times, bandwidth, and the ratio to the copy."""
    tokens = batch_size * length
    for fmt in PAGES:
        batch = Batch.make(fmt, torch.full((batch_size,), length, device="cuda"))
        keys, scales = reference.quantise(batch.values, fmt)
        check(batch)
        found = medians(
            {
                "copy": copy_of(tokens),
                "gather": batch.gather,
                "store": partial(portable.store, batch.cache, batch.slots, keys, scales, fmt=fmt),
                "quantise": partial(portable.quantise_and_store, batch.cache, batch.slots, batch.values, fmt=fmt),
            },
            flush,
        )
        torch_way = partial(reference.store, batch.cache, batch.slots, keys, scales, fmt=fmt)
        indexing = [median_time(call, flush, 3) for call in (partial(batch.gather, reference), torch_way)]
        copy = found["copy"]
        # Bytes that must move: the copy's, and besides the slots, and the wider keys that are quantised.
        bandwidths = {"gather": 2 * ROW, "store": 2 * ROW + 8, "quantise": 256 + ROW + 8}
        yield (
            f"{batch_size} x {length:,}",
            f"{fmt.page_size} {fmt.order}",
            f"{copy:.1f}",
            *(
                f"{found[name]:.1f} ({tokens * size / found[name] / 1e3:,.0f} GB/s, "
                f"{size / found[name] * copy / (2 * ROW):.3f})"
                for name, size in bandwidths.items()
            ),
            *(f"{spent:,.0f}" for spent in indexing),
        )
        del batch, keys, scales, torch_way


def launches(batch_size: int, length: int, flush: Tensor) -> Iterator[tuple[str, ...]]:
    """One table row a page format: calls after a flush, back to back in a CUDA graph, and the host's part of a call."""
    copy = copy_of(batch_size * length)
    for fmt in PAGES:
        batch = Batch.make(fmt, torch.full((batch_size,), length, device="cuda"))
        calls = {"copy": copy, "gather": batch.gather}
        cold = medians(calls, flush)
        graph = {name: do_bench_cudagraph(call, rep=20, return_mode="median") * 1e3 for name, call in calls.items()}
        host = {name: host_time(call) for name, call in calls.items()}
        yield (
            f"{batch_size} x {length:,}",
            f"{fmt.page_size} {fmt.order}",
            *(f"{spent['copy']:.2f} | {spent['gather']:.2f}" for spent in (cold, graph, host)),
        )


def main() -> None:
    """Check, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="for repeating one run's data")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    lines: list[str] = []

    def say(*texts: str) -> None:
        lines.extend(texts)
        print(*texts, sep="\n", flush=True)

    versions = f"torch {torch.__version__}, Triton {triton.__version__}"
    say(
        f"{torch.cuda.get_device_name()}, {versions}, seed {arguments.seed}.",
        "",
        *(f"- {line}" for line in checks()),
        "",
        "Microseconds (GB/s read and written, and their ratio to those of a copy of 132 bytes a token); the last two",
        "are plain torch indexing.",
        "",
        "| batch x length | page | copy | gather | store | quantise and store | torch gather | torch store |",
        "|---|---|---|---|---|---|---|---|",
    )
    for shape in SHAPES:
        for row in timings(*shape, flush):
            say(f"| {' | '.join(row)} |")
    say(
        "",
        "Launch-bound sizes, microseconds: one call with the L2 cache flushed, calls back to back in a CUDA graph,",
        "and the host's time for a call.",
        "",
        "| batch x length | page | copy | gather | copy, graph | gather, graph | copy, host | gather, host |",
        "|---|---|---|---|---|---|---|---|",
    )
    for shape in LAUNCH_BOUND:
        for row in launches(*shape, flush):
            say(f"| {' | '.join(row)} |")
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
