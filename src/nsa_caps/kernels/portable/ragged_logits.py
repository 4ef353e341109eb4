"""The indexer's logits over gathered keys in Triton, for prefill: CUDA and ROCm, both fp8 dialects, any heads.

One launch, one program for (a few queries) x (a chunk of keys); a chunk that none of them sees costs only to see that.
The same kernel runs on the CPU in Triton's interpreter, if `TRITON_INTERPRET=1` is set before this module is
imported.
"""

# Triton reads the annotations of kernel arguments; it has none for pointers.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from nsa_caps.kernels.logits_arguments import ragged_arguments
from nsa_caps.kernels.portable.launch import (
    Launch,
    Plans,
    arch_and_units,
    check_can_run,
    check_head_dim,
    signature,
)
from nsa_caps.kernels.portable.operands import as_operand, in_order, load_operand, weighted_sum
from nsa_caps.kernels.portable.tuning import ragged_on_sm90, runs_on_sm90, tuning_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nsa_caps.kernels.portable.tuning import Tuning
    from nsa_caps.pages import PageFormat

__all__ = ["ragged_logits"]

# Columns of the matrix product: queries x heads, each rounded up to a power of two.
_COLUMNS = 128
# Keys that a program scores at most; its start then costs little.
_CHUNK = 4096
# Columns of -inf that a program writes at a time.
_FILL = 1024


@triton.jit
def _blank(target, there, begin, end, ROWS: tl.constexpr, FILL: tl.constexpr):
    for start in range(begin, end, FILL):
        column = start + tl.arange(0, FILL)
        inside = there[:, None] & (column < end)[None, :]
        tl.store(target[:, None] + column[None, :], tl.full([ROWS, FILL], float("-inf"), tl.float32), mask=inside)


@triton.jit(do_not_specialize=["tokens", "total"])
def _ragged_kernel(
    q,  # uint8 [tokens, HEADS, DIM]
    keys,  # uint8 [total, DIM]
    scales,  # float32 [total]
    weights,  # float32 [tokens, HEADS]
    starts,  # int32 [tokens]
    ends,  # int32 [tokens]
    out,  # float32 [tokens, out_stride]
    tokens,
    total,
    out_stride,
    DIM: tl.constexpr,
    FNUZ: tl.constexpr,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    FILL: tl.constexpr,
    FP8_DOT: tl.constexpr,
    WORDS: tl.constexpr,
    STAGES: tl.constexpr,
    LANES: tl.constexpr,
    LEVELS: tl.constexpr,
    CLEAN: tl.constexpr,
):
    # The last queries see most, so they come first.
    groups = tl.cdiv(tokens, ROWS)
    first_query = (groups - 1 - tl.program_id(0) % groups) * ROWS
    begin = tl.program_id(0) // groups * CHUNK
    stop = tl.minimum(begin + CHUNK, total)

    row = first_query + tl.arange(0, ROWS)
    there = row < tokens
    start = tl.maximum(tl.load(starts + row, mask=there, other=2147483647), 0)
    end = tl.minimum(tl.load(ends + row, mask=there, other=0), total)
    first = tl.minimum(tl.maximum(begin, tl.min(start, 0) // BLOCK * BLOCK), stop)
    last = tl.minimum(stop, tl.max(end, 0))
    target = out + row.to(tl.int64) * out_stride

    if first < last:
        column = tl.arange(0, ROWS * COLUMNS)
        head = column % COLUMNS
        asked = (first_query + column // COLUMNS < tokens) & (head < HEADS)
        query = (first_query + column // COLUMNS).to(tl.int64) * HEADS + head
        dim = tl.arange(0, DIM)
        bits = tl.load(q + query[:, None] * DIM + dim[None, :], mask=asked[:, None], other=0)
        queries = as_operand(bits, FP8_DOT, FNUZ)
        queries = tl.trans(queries if FP8_DOT else in_order(queries, ROWS * COLUMNS, DIM))
        weight = tl.load(weights + query, mask=asked, other=0.0) * 0.5
        for step in tl.range(first, last, BLOCK, num_stages=STAGES):
            at = step + tl.arange(0, BLOCK)
            held = at < total
            place = keys + at.to(tl.int64) * DIM
            if WORDS:
                key = load_operand(place, held, DIM, BLOCK, DIM, False, FP8_DOT, FNUZ)
            else:
                loose = tl.load(place[:, None] + dim[None, :], mask=held[:, None], other=0)
                key = as_operand(loose, FP8_DOT, FNUZ)
                key = key if FP8_DOT else in_order(key, BLOCK, DIM)
            scale = tl.load(scales + at, mask=held, other=0.0)
            score = weighted_sum(tl.dot(key, queries), weight, BLOCK, ROWS, COLUMNS, LANES, LEVELS) * scale[:, None]
            seen = (at[:, None] >= start[None, :]) & (at[:, None] < end[None, :])
            if CLEAN:
                score = tl.where(seen, score, float("-inf"))
                seen = held[:, None] & there[None, :]
            tl.store(target[None, :] + at[:, None], score, mask=seen)
    if CLEAN:
        # A chunk that none of them sees has no steps.
        _blank(target, there, begin, first if first < last else stop, ROWS, FILL)
        if first < last:
            _blank(target, there, first + tl.cdiv(last - first, BLOCK) * BLOCK, stop, ROWS, FILL)


# Launches on q, keys, scales, weights, starts, ends and out, by what such tensors look like.
_PLANS: Plans[Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], object]] = Plans()


def ragged_logits(
    q: Tensor,
    keys: Tensor,
    scales: Tensor,
    weights: Tensor,
    starts: Tensor,
    ends: Tensor,
    *,
    fmt: PageFormat,
    clean: bool = True,
    out: Tensor | None = None,
    tuning: Tuning | None = None,
) -> Tensor:
    """Score gathered keys, as `reference_logits.ragged_logits` says; one launch, graph-capturable.

    Waits for no device and allocates nothing but the output, and that only if `out` is not given. Where the target
    has no fp8 matrix product (`archs.ARCHS`) keys and queries become fp16 in the kernel: it holds every fp8 number.

    Args:
        q: fp8 of the format's dialect `[tokens, heads, head_dim]`, contiguous, and all that follows.
        keys: fp8 of the dialect, or uint8, `[total, head_dim]`, as `gather` gives them.
        scales: float32 `[total]`, as `gather` gives them.
        weights: float32 `[tokens, heads]`.
        starts: int32 `[tokens]`.
        ends: int32 `[tokens]`: token `t` sees the keys `starts[t]` to `ends[t]`.
        fmt: the format that the keys were gathered from.
        clean: write `-inf` where a token does not see a key; else nothing is written there.
        out: float32 `[tokens, total]` to write to; each row contiguous.
        tuning: what to use instead of the entry for this device in `tuning`.

    Returns:
        `out`, or a new tensor of its shape.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    key = (signature(q, keys, scales, weights, starts, ends, out), fmt, clean, tuning)
    run = _PLANS.get(key)
    if run is None:
        scores = ragged_arguments(q, keys, scales, weights, starts, ends, out, fmt)
        check_can_run(_ragged_kernel, q, "q")
        check_head_dim(fmt, 16)
        planned = _plan(q, keys, scales, weights, starts, ends, scores, fmt, clean, tuning)
        run = _PLANS.keep(key, planned)
    elif out is None:
        scores = torch.empty((q.shape[0], keys.shape[0]), dtype=torch.float32, device=q.device)
    else:
        scores = out
    run(q, keys, scales, weights, starts, ends, scores)
    return scores


def _plan(
    q: Tensor,
    keys: Tensor,
    scales: Tensor,
    weights: Tensor,
    starts: Tensor,
    ends: Tensor,
    out: Tensor,
    fmt: PageFormat,
    clean: bool,
    tuning: Tuning | None,
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], object]:
    device = q.device
    tokens, heads, dim = q.shape
    if not out.numel():
        return _nothing
    tensors = (q, keys, scales, weights, starts, ends, out)
    if (
        tuning is None
        and device.type == "cuda"
        and runs_on_sm90(arch_and_units(device)[0])
        and ragged_on_sm90(fmt, heads, out.stride(0))
        and all(tensor.data_ptr() % 16 == 0 for tensor in tensors)
    ):
        # Gluon, which few Tritons have as it is used here.
        from nsa_caps.kernels.portable.sm90 import plan_ragged  # noqa: PLC0415 as said above

        return plan_ragged(q, keys, out.stride(0), programs=arch_and_units(device)[1], clean=clean)
    columns = max(16, triton.next_power_of_2(heads))
    rows = max(1, _COLUMNS // columns)
    chosen = tuning or tuning_for(device, fmt.dialect, rows * columns)
    grid = (triton.cdiv(tokens, rows) * triton.cdiv(keys.shape[0], _CHUNK),)
    scalars = (tokens, keys.shape[0], out.stride(0))
    constants: dict[str, Any] = {
        "DIM": dim,
        "FNUZ": fmt.dialect == "e4m3fnuz",
        "HEADS": heads,
        "ROWS": rows,
        "COLUMNS": columns,
        "BLOCK": chosen.block,
        "CHUNK": _CHUNK,
        "FILL": _FILL,
        "FP8_DOT": chosen.fp8_dot,
        "WORDS": keys.data_ptr() % 4 == 0,
        "STAGES": chosen.stages,
        "CLEAN": clean,
        **chosen.sum_arguments(columns),
        **chosen.launch_options(),
    }
    return Launch(_ragged_kernel, grid, scalars, constants, device)


def _nothing(*_tensors: Tensor) -> None:
    pass
