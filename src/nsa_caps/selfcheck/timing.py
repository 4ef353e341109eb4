"""What a row's calls cost on a device: a few shapes of decode and prefill, the same for every row."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

from nsa_caps.kernels.arguments import fp8_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nsa_caps.pages import PageFormat
    from nsa_caps.selfcheck.records import RowKernels

__all__ = ["SHAPES", "Shape", "time_calls"]

# A call that takes longer is timed once, and a batch that would take longer than this altogether is left out.
_SECONDS = 2.0
# Measurements, and calls in each: the wait at the end of one is shared by its calls.
_TIMES, _CALLS = 7, 10


@dataclass(frozen=True, slots=True)
class Shape:
    """One thing that engines ask.

    Attributes:
        name: what it is called.
        kernel: which of a row's kernels is called.
        batch: requests.
        length: cached tokens of each.
    """

    name: str
    kernel: str
    batch: int
    length: int


SHAPES: tuple[Shape, ...] = (
    Shape("decode 1 x 8,192", "logits", 1, 8_192),
    Shape("decode 64 x 8,192", "logits", 64, 8_192),
    Shape("decode 64 x 32,768", "logits", 64, 32_768),
    Shape("gather for a prefill over 65,536", "gather", 4, 16_384),
)


def time_calls(
    kernels: RowKernels, fmt: PageFormat, device: str, heads: int, begin: Callable[[str], object]
) -> list[tuple[str, float]]:
    """Return the median microseconds of a call for each shape, launched one after the other.

    A shape that the device has no memory or no time for is left out.
    """
    found: list[tuple[str, float]] = []
    slowest = 0.0
    known = [shape for shape in SHAPES if getattr(kernels, shape.kernel) is not None]
    for shape in sorted(known, key=lambda shape: shape.batch * shape.length):
        begin(f"timing {shape.name}")
        if slowest * 4 > _SECONDS:
            break
        try:
            call = _call(kernels, shape, fmt, torch.device(device), heads)
            call()
            once = _seconds(call, 1, device)
            slowest = max(slowest, once)
            calls = 1 if once > 0.05 else _CALLS
            measured = [_seconds(call, calls, device) for _ in range(_TIMES if once < _SECONDS / 10 else 1)]
            found.append((shape.name, median(measured) * 1e6))
        except torch.OutOfMemoryError:
            break
    order = [shape.name for shape in SHAPES]
    return sorted(found, key=lambda each: order.index(each[0]))


def _seconds(call: Callable[[], object], calls: int, device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return (time.perf_counter() - began) / calls


def _wait(device: str) -> None:
    kind = torch.device(device)
    if kind.type != "cpu":
        torch.get_device_module(kind).synchronize(kind)


def _call(kernels: RowKernels, shape: Shape, fmt: PageFormat, device: torch.device, heads: int) -> Callable[[], object]:
    columns = -(-shape.length // fmt.page_size)
    pages = shape.batch * columns
    cache = torch.zeros((pages, fmt.page_bytes), dtype=torch.uint8, device=device)
    table = torch.randperm(pages, device=device).to(torch.int32).view(shape.batch, columns)
    if shape.kernel == "gather":
        ends = torch.arange(shape.batch + 1, dtype=torch.int32, device=device) * shape.length
        tokens = shape.batch * shape.length
        return lambda: kernels.gather(cache, table, ends, total_tokens=tokens, fmt=fmt)
    q: Tensor = torch.zeros((shape.batch, 1, heads, fmt.head_dim), device=device).to(fp8_dtype(fmt))
    weights = torch.zeros((shape.batch, heads), device=device)
    lengths = torch.full((shape.batch,), shape.length, dtype=torch.int32, device=device)
    out = torch.empty((shape.batch, shape.length), device=device)
    score, options = getattr(kernels, shape.kernel), kernels.logits_options
    return lambda: score(q, cache, weights, lengths, table, shape.length, out=out, fmt=fmt, **options)
