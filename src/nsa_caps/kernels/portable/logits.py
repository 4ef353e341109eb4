"""The indexer's logits in Triton: CUDA and ROCm, flat and tiled pages of any size, both fp8 dialects.

One launch: every program scores a run of pages of one request for all of its queries, and writes its share of the
`-inf` beyond the context. The same kernel runs on the CPU in Triton's interpreter, if `TRITON_INTERPRET=1` is set
before this module is imported.
"""

# Triton reads the annotations of kernel arguments; it has none for pointers.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from nsa_caps.kernels.arguments import is_told_at_once
from nsa_caps.kernels.logits_arguments import logits_arguments
from nsa_caps.kernels.portable.launch import (
    Launch,
    Plans,
    arch_and_units,
    check_can_run,
    check_head_dim,
    signature,
)
from nsa_caps.kernels.portable.operands import (
    as_operand,
    decode_scales,
    in_order,
    keys_of_page,
    keys_of_pages,
    scales,
    weighted_sum,
)
from nsa_caps.kernels.portable.ragged_logits import ragged_logits
from nsa_caps.kernels.portable.tuning import logits_on_sm90, runs_on_sm90, tuning_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nsa_caps.kernels.portable.tuning import Tuning
    from nsa_caps.pages import PageFormat

__all__ = ["logits", "ragged_logits"]

# Columns of -inf that a program writes at a time: one 16-byte store a thread and pass with four warps, twice.
_FILL = 1024
# Columns of the matrix product: so many queries x heads are scored while a page is held; 256 fill the registers.
_COLUMNS = 256


@triton.jit
def _sum_and_largest(sum_a, largest_a, sum_b, largest_b):
    return sum_a + sum_b, tl.maximum(largest_a, largest_b)


@triton.jit
def _cost(context, capacity, max_model_len, BLOCK: tl.constexpr, CLEAN: tl.constexpr):
    # In steps over keys; one that only writes -inf counts as 1/64.
    return tl.cdiv(tl.minimum(context, capacity), BLOCK) + 1 + (max_model_len // (64 * BLOCK) if CLEAN else 0)


@triton.jit
def _assignment(
    context_lens, batch, capacity, max_model_len, BLOCK: tl.constexpr, BATCH: tl.constexpr, CLEAN: tl.constexpr
):
    # Which request this program works for, as which of its programs, and how many those are. The host knows no length,
    # so every program divides all of them over the batch. A scan costs 1 us, so it is left out where lengths differ
    # by less than that is worth: where the longest is at most 9/8 of the average.
    program, programs = tl.program_id(0), tl.num_programs(0)
    parts = programs // batch
    request = program // parts
    part = program % parts
    if BATCH > 1:
        lane = tl.arange(0, BATCH)
        context = tl.load(context_lens + lane, mask=lane < batch, other=0)
        cost = tl.where(lane < batch, _cost(context, capacity, max_model_len, BLOCK, CLEAN), 0)
        total, largest = tl.reduce((cost, cost), 0, _sum_and_largest)
        if largest.to(tl.int64) * batch * 8 > total.to(tl.int64) * 9:
            # All shares fit into the programs: rounding up adds less than one a request.
            share = tl.cdiv(total, programs - batch + 1)
            ends = tl.cumsum(tl.cdiv(cost, share), 0)
            before = tl.max(tl.where(ends <= program, ends * (2 * BATCH) + lane + 1, 0))
            request = before % (2 * BATCH)
            part = program - before // (2 * BATCH)
            mine = tl.load(context_lens + request, mask=request < batch, other=0)
            parts = tl.cdiv(_cost(mine, capacity, max_model_len, BLOCK, CLEAN), share)
    return request, part, parts


@triton.jit(do_not_specialize=["batch"])
def _logits_kernel(
    q,  # uint8 [batch, NEXT_N, HEADS, DIM]
    cache,  # uint8 [pages, PAGE_STRIDE]
    weights,  # float32 [batch * NEXT_N, HEADS]
    context_lens,  # int32 [batch]
    page_table,  # int32 [batch, table_stride]
    out,  # float32 [batch * NEXT_N, out_stride]
    batch,
    max_model_len,
    capacity,
    table_stride,
    out_stride,
    PAGE_STRIDE: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    DIM: tl.constexpr,
    TILES: tl.constexpr,
    FNUZ: tl.constexpr,
    PACKED: tl.constexpr,
    NEXT_N: tl.constexpr,
    HEADS: tl.constexpr,
    BATCH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    LEAST: tl.constexpr,
    FILL: tl.constexpr,
    FP8_DOT: tl.constexpr,
    STAGES: tl.constexpr,
    LANES: tl.constexpr,
    LEVELS: tl.constexpr,
    CLEAN: tl.constexpr,
):
    request, part, parts = _assignment(context_lens, batch, capacity, max_model_len, BLOCK, BATCH, CLEAN)
    if request >= batch:
        return
    context = tl.load(context_lens + request)
    held = tl.minimum(context, capacity)
    steps = tl.cdiv(held, BLOCK)
    each = tl.maximum(tl.cdiv(steps, parts), LEAST)
    first = part * each
    last = tl.minimum(first + each, steps)

    group = tl.program_id(1) * ROWS
    column = tl.arange(0, ROWS * COLUMNS)
    head = column % COLUMNS
    asked = (group + column // COLUMNS < NEXT_N) & (head < HEADS)
    query = request.to(tl.int64) * (NEXT_N * HEADS) + (group + column // COLUMNS) * HEADS + head
    dim = tl.arange(0, DIM)
    bits = tl.load(q + query[:, None] * DIM + dim[None, :], mask=asked[:, None], other=0)
    queries = as_operand(bits, FP8_DOT, FNUZ)
    queries = tl.trans(queries if FP8_DOT else in_order(queries, ROWS * COLUMNS, DIM))
    weight = tl.load(weights + query, mask=asked, other=0.0) * 0.5

    row = group + tl.arange(0, ROWS)
    limit = tl.minimum(context - NEXT_N + 1 + row, capacity)
    target = out + (request * NEXT_N + row).to(tl.int64) * out_stride
    table = page_table + request.to(tl.int64) * table_stride
    token = tl.arange(0, BLOCK)
    # Steps that one page holds, or 0 where a step takes several pages.
    page_steps: tl.constexpr = PAGE_SIZE // BLOCK if PAGE_SIZE % BLOCK == 0 else 0

    if page_steps:
        ahead = tl.load(table + first // page_steps, mask=first < last, other=0)
    for step in tl.range(first, last, num_stages=STAGES):
        at = step * BLOCK + token
        if page_steps:
            page, start = ahead, step % page_steps * BLOCK
            # Loaded one step ahead: a load that depends on another would halve the stages of the pipeline.
            ahead = tl.load(table + (step + 1) // page_steps, mask=step + 1 < last, other=0)
            keys_start = cache + page.to(tl.int64) * PAGE_STRIDE + start * DIM
            keys = keys_of_page(keys_start, BLOCK, DIM, TILES, FP8_DOT, FNUZ)
            slot = start + token
        else:
            first_at = step * BLOCK
            keys = keys_of_pages(cache, table, first_at, held, PAGE_STRIDE, PAGE_SIZE, BLOCK, DIM, TILES, FP8_DOT, FNUZ)
            page = tl.load(table + at // PAGE_SIZE, mask=at < held, other=0)
            slot = at % PAGE_SIZE
        scale = decode_scales(scales(cache, page, slot, PAGE_STRIDE, PAGE_SIZE, DIM), PACKED)

        dots = tl.dot(keys, queries)
        score = weighted_sum(dots, weight, BLOCK, ROWS, COLUMNS, LANES, LEVELS) * scale[:, None]
        seen = at[:, None] < limit[None, :]
        inside = (at < max_model_len)[:, None] & (row < NEXT_N)[None, :]
        if CLEAN:
            score = tl.where(seen, score, float("-inf"))
        else:
            inside &= seen
        tl.store(target[None, :] + at[:, None], score, mask=inside)

    if CLEAN:
        for start in range(steps * BLOCK + part * FILL, max_model_len, parts * FILL):
            blank = start + tl.arange(0, FILL)
            inside = (row < NEXT_N)[:, None] & (blank < max_model_len)[None, :]
            tl.store(target[:, None] + blank[None, :], tl.full([ROWS, FILL], float("-inf"), tl.float32), mask=inside)


# Launches on q, cache, weights, context_lens, page_table and out, by what such tensors look like.
_PLANS: Plans[Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], object]] = Plans()


def logits(
    q: Tensor,
    cache: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_model_len: int,
    *,
    fmt: PageFormat,
    out: Tensor | None = None,
    clean: bool = True,
    tuning: Tuning | None = None,
) -> Tensor:
    """Score every cached token of every request, as `reference_logits.logits` says; one launch, graph-capturable.

    Waits for no device and allocates nothing but the output, and that only if `out` is not given. Where the target
    has no fp8 matrix product (`archs.ARCHS`) keys and queries become fp16 in the kernel: it holds every fp8 number.

    Args:
        q: fp8 of the format's dialect `[batch, next_n, heads, head_dim]`, contiguous. A page is read once for all of
            a request's queries, if queries x heads, each rounded up to a power of two, are at most 256.
        cache: what `page_view` takes.
        weights: float32 `[batch * next_n, heads]`, contiguous.
        context_lens: int32 `[batch]`.
        page_table: int32 `[batch, max_pages]`, each row contiguous.
        max_model_len: scores a row.
        fmt: the format of the cache.
        out: float32 `[batch * next_n, max_model_len]` to write to; each row contiguous.
        clean: write `-inf` wherever a query sees no token; else nothing is written there.
        tuning: what to use instead of the entry for this device in `tuning`.

    Returns:
        `out`, or a new tensor of its shape.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    key = (signature(q, cache, weights, context_lens, page_table, out), max_model_len, fmt, clean, tuning)
    run = _PLANS.get(key)
    # What lies on the CPU is looked at anew in each call.
    if run is None or is_told_at_once(q.device):
        pages, scores = logits_arguments(q, cache, weights, context_lens, page_table, max_model_len, out, fmt)
        check_can_run(_logits_kernel, cache, "cache")
        check_head_dim(fmt, 16)
        planned = _plan(q, pages, weights, context_lens, page_table, max_model_len, scores, fmt, clean, tuning)
        run = _PLANS.keep(key, planned)
    elif out is None:
        scores = torch.empty((weights.shape[0], max_model_len), dtype=torch.float32, device=q.device)
    else:
        scores = out
    run(q, cache, weights, context_lens, page_table, scores)
    return scores


def _plan(
    q: Tensor,
    pages: Tensor,
    weights: Tensor,
    context_lens: Tensor,
    page_table: Tensor,
    max_model_len: int,
    out: Tensor,
    fmt: PageFormat,
    clean: bool,
    tuning: Tuning | None,
) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], object]:
    device = pages.device
    batch, next_n, heads, dim = q.shape
    if not out.numel():
        return _nothing
    if not pages.shape[0]:
        return _fill if clean else _nothing
    tensors = (q, pages, weights, context_lens, page_table, out)
    if (
        tuning is None
        and device.type == "cuda"
        and runs_on_sm90(arch_and_units(device)[0])
        and logits_on_sm90(fmt, batch, next_n, heads, pages.stride(0), out.stride(0))
        and all(tensor.data_ptr() % 16 == 0 for tensor in tensors)
    ):
        # Gluon, which few Tritons have as it is used here.
        from nsa_caps.kernels.portable.sm90 import plan_logits  # noqa: PLC0415 as said above

        units = arch_and_units(device)[1]
        rows = out.stride(0)
        return plan_logits(q, pages, page_table, max_model_len, rows, fmt, programs=units, clean=clean)
    columns = max(16, triton.next_power_of_2(heads))
    rows = min(triton.next_power_of_2(next_n), max(1, _COLUMNS // columns))
    chosen = tuning or tuning_for(device, fmt.dialect, rows * columns)
    grid = (max(chosen.programs, 2 * batch), triton.cdiv(next_n, rows))
    capacity = min(max_model_len, page_table.shape[1] * fmt.page_size)
    scalars = (batch, max_model_len, capacity, page_table.stride(0), out.stride(0))
    constants: dict[str, Any] = {
        "PAGE_STRIDE": pages.stride(0),
        "PAGE_SIZE": fmt.page_size,
        "DIM": dim,
        "TILES": fmt.order == "tiles",
        "FNUZ": fmt.dialect == "e4m3fnuz",
        "PACKED": fmt.scale_format == "ue8m0_packed",
        "NEXT_N": next_n,
        "HEADS": heads,
        # A reduction of fewer than 64 stays within a warp, and the compiler then keeps the loop's bounds once a thread:
        # 16 x 131,072 with two queries of 64 heads on an H200, 111 us against 87 us.
        "BATCH": 1 if batch == 1 else max(64, triton.next_power_of_2(batch)),
        "ROWS": rows,
        "COLUMNS": columns,
        "BLOCK": chosen.block,
        "LEAST": chosen.least,
        "FILL": _FILL,
        "FP8_DOT": chosen.fp8_dot,
        "STAGES": chosen.stages,
        "CLEAN": clean,
        **chosen.sum_arguments(columns),
        **chosen.launch_options(),
    }
    return Launch(_logits_kernel, grid, scalars, constants, device)


def _fill(*tensors: Tensor) -> object:
    return tensors[-1].fill_(-torch.inf)


def _nothing(*_tensors: Tensor) -> None:
    pass
