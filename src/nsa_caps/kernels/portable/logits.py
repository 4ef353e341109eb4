"""The indexer's logits in Triton: CUDA and ROCm, flat and tiled pages of any size, both fp8 dialects.

One launch: every program scores a run of pages of one request for all of its queries, and writes its share of the
``-inf`` beyond the context. The same kernel runs on the CPU in Triton's interpreter, if ``TRITON_INTERPRET=1`` is set
before this module is imported.
"""

# Triton reads the annotations of kernel arguments; it has none for pointers.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from nsa_caps.kernels.arguments import KernelArgumentError
from nsa_caps.kernels.logits_arguments import logits_arguments
from nsa_caps.kernels.portable.operands import as_operand, decode_scales, keys_of_page, keys_of_pages, scales
from nsa_caps.kernels.portable.tuning import hopper_programs, tuning_for

try:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
except ImportError:
    # Older than Triton 3.4; nothing there is launched early.
    gdc_launch_dependents = gdc_wait = None

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.kernels.portable.tuning import Tuning
    from nsa_caps.pages import PageFormat

__all__ = ["logits"]

# Columns of -inf that a program writes at a time: one 16-byte store a thread and pass with four warps, twice.
_FILL = 1024
# Columns of the matrix product: so many queries x heads are scored while a page is held; 256 fill the registers.
_COLUMNS = 256


@triton.jit
def _sum_and_largest(sum_a, largest_a, sum_b, largest_b):
    return sum_a + sum_b, tl.maximum(largest_a, largest_b)


@triton.jit
def _cost(context, capacity, max_model_len, BLOCK: tl.constexpr):
    # In steps over keys; one that only writes -inf counts as 1/64.
    return tl.cdiv(tl.minimum(context, capacity), BLOCK) + 1 + max_model_len // (64 * BLOCK)


@triton.jit
def _assignment(context_lens, batch, capacity, max_model_len, BLOCK: tl.constexpr, BATCH: tl.constexpr):
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
        cost = tl.where(lane < batch, _cost(context, capacity, max_model_len, BLOCK), 0)
        total, largest = tl.reduce((cost, cost), 0, _sum_and_largest)
        if largest.to(tl.int64) * batch * 8 > total.to(tl.int64) * 9:
            # All shares fit into the programs: rounding up adds less than one a request.
            share = tl.cdiv(total, programs - batch + 1)
            ends = tl.cumsum(tl.cdiv(cost, share), 0)
            before = tl.max(tl.where(ends <= program, ends * (2 * BATCH) + lane + 1, 0))
            request = before % (2 * BATCH)
            part = program - before // (2 * BATCH)
            mine = tl.load(context_lens + request, mask=request < batch, other=0)
            parts = tl.cdiv(_cost(mine, capacity, max_model_len, BLOCK), share)
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
    EARLY: tl.constexpr,
    RELEASE: tl.constexpr,
):
    if RELEASE:
        gdc_launch_dependents()
    if EARLY:
        # Launched while the kernel before this one ended: nothing is read until all that it wrote is there.
        gdc_wait()
    request, part, parts = _assignment(context_lens, batch, capacity, max_model_len, BLOCK, BATCH)
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
    queries = tl.trans(as_operand(bits, FP8_DOT, FNUZ))
    # Half of it, for relu(x) = (x + |x|) / 2: the sum takes |x| at no cost, a maximum runs at half the rate. 64 heads
    # and two queries on an H200: 83.5 us against 86.8 us.
    weight = tl.load(weights + query, mask=asked, other=0.0) * 0.5

    row = group + tl.arange(0, ROWS)
    limit = tl.minimum(context - NEXT_N + 1 + row, capacity)
    target = out + (request * NEXT_N + row).to(tl.int64) * out_stride
    table = page_table + request.to(tl.int64) * table_stride
    token = tl.arange(0, BLOCK)
    # Steps that one page holds, or 0 where a step takes several pages.
    page_steps: tl.constexpr = PAGE_SIZE // BLOCK if PAGE_SIZE % BLOCK == 0 else 0
    # Scales come one step ahead in registers, not through the pipeline: one query of 64 heads, 64 x 32,768 on an H200,
    # 75.0 us against 75.5 us; but two queries of 32 heads, 78.7 us against 77.5 us.
    carry: tl.constexpr = page_steps > 0 and ROWS == 1

    if page_steps:
        ahead = tl.load(table + first // page_steps, mask=first < last, other=0)
    if carry:
        stored_ahead = scales(cache, ahead, first % page_steps * BLOCK + token, PAGE_STRIDE, PAGE_SIZE, DIM)
    for step in tl.range(first, last, num_stages=None if carry else STAGES):
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
        if carry:
            stored = stored_ahead
            stored_ahead = scales(cache, ahead, (step + 1) % page_steps * BLOCK + token, PAGE_STRIDE, PAGE_SIZE, DIM)
        else:
            stored = scales(cache, page, slot, PAGE_STRIDE, PAGE_SIZE, DIM)
        scale = decode_scales(stored, PACKED)

        dots = tl.dot(keys, queries)
        dots = (dots + tl.abs(dots)) * weight[None, :]
        score = tl.sum(tl.reshape(dots, [BLOCK, ROWS, COLUMNS]), axis=2) * scale[:, None]
        score = tl.where(at[:, None] < limit[None, :], score, float("-inf"))
        inside = (at < max_model_len)[:, None] & (row < NEXT_N)[None, :]
        tl.store(target[None, :] + at[:, None], score, mask=inside)

    for start in range(steps * BLOCK + part * FILL, max_model_len, parts * FILL):
        blank = start + tl.arange(0, FILL)
        inside = (row < NEXT_N)[:, None] & (blank < max_model_len)[None, :]
        tl.store(target[:, None] + blank[None, :], tl.full([ROWS, FILL], float("-inf"), tl.float32), mask=inside)


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
    tuning: Tuning | None = None,
) -> Tensor:
    """Score every cached token of every request, as ``reference_logits.logits`` says; one launch, graph-capturable.

    Waits for no device and allocates nothing but the output, and that only if ``out`` is not given. Where the target
    has no fp8 matrix product (``nsa_caps.archs``) keys and queries become fp16 in the kernel, which
    holds every fp8 number.

    Args:
        q: fp8 of the format's dialect ``[batch, next_n, heads, head_dim]``, contiguous. A page is read once for all of
            a request's queries, if queries x heads, each rounded up to a power of two, are at most 256.
        cache: what ``page_view`` takes.
        weights: float32 ``[batch * next_n, heads]``, contiguous.
        context_lens: int32 ``[batch]``.
        page_table: int32 ``[batch, max_pages]``, each row contiguous.
        max_model_len: scores a row.
        fmt: the format of the cache.
        out: float32 ``[batch * next_n, max_model_len]`` to write all of; each row contiguous.
        tuning: what to use instead of the entry for this device in ``portable_logits_tuning``.

    Returns:
        ``out``, or a new tensor of its shape: ``-inf`` wherever a query sees no token.

    Raises:
        KernelArgumentError: an argument does not fit, or there is no GPU to run on.
    """
    pages, out = logits_arguments(q, cache, weights, context_lens, page_table, max_model_len, out, fmt)
    _check_can_run(pages, fmt)
    batch, next_n, heads, dim = q.shape
    if not pages.shape[0]:
        return out.fill_(-torch.inf)
    if not out.numel():
        return out
    programs = None if tuning else hopper_programs(q, pages, weights, page_table, max_model_len, out, fmt)
    if programs is not None:
        from nsa_caps.kernels.portable.logits_sm90 import launch  # noqa: PLC0415 Gluon, which few Tritons have as here

        with _current_device(pages):
            launch(q, pages, weights, context_lens, page_table, max_model_len, out, fmt, programs=programs, early=True)
        return out
    columns = max(16, triton.next_power_of_2(heads))
    rows = min(triton.next_power_of_2(next_n), max(1, _COLUMNS // columns))
    chosen = tuning or tuning_for(pages.device, fmt, rows * columns)
    # A reduction of fewer than 64 stays within a warp, and the compiler then keeps the loop's bounds once a thread:
    # 16 x 131,072 with two queries of 64 heads on an H200, 111 us against 87 us.
    lanes = 1 if batch == 1 else max(64, triton.next_power_of_2(batch))
    with _current_device(pages):
        _logits_kernel[(max(chosen.programs, 2 * batch), triton.cdiv(next_n, rows))](
            q.view(torch.uint8),
            pages,
            weights,
            context_lens,
            page_table,
            out,
            batch,
            max_model_len,
            min(max_model_len, page_table.shape[1] * fmt.page_size),
            page_table.stride(0),
            out.stride(0),
            PAGE_STRIDE=pages.stride(0),
            PAGE_SIZE=fmt.page_size,
            DIM=dim,
            TILES=fmt.order == "tiles",
            FNUZ=fmt.dialect == "e4m3fnuz",
            PACKED=fmt.scale_format == "ue8m0_packed",
            NEXT_N=next_n,
            HEADS=heads,
            BATCH=lanes,
            ROWS=rows,
            COLUMNS=columns,
            BLOCK=chosen.block,
            LEAST=chosen.least,
            FILL=_FILL,
            FP8_DOT=chosen.fp8_dot,
            STAGES=chosen.stages,
            EARLY=chosen.early,
            RELEASE=chosen.release,
            **chosen.launch_options(),
        )
    return out


def _check_can_run(pages: Tensor, fmt: PageFormat) -> None:
    if pages.is_cpu and isinstance(_logits_kernel, triton.JITFunction):
        raise KernelArgumentError(
            "cache",
            "a tensor on the CPU",
            "one on a GPU (or the reference kernels, or TRITON_INTERPRET=1 before Triton is imported)",
        )
    if fmt.head_dim & (fmt.head_dim - 1) or fmt.head_dim < 16:
        raise KernelArgumentError(
            "fmt", f"a head dim of {fmt.head_dim}", "a power of two of at least 16, as Triton's matrix products have"
        )


def _current_device(pages: Tensor) -> AbstractContextManager[Any]:
    # Triton launches on the current device, whatever device the tensors are on.
    if pages.is_cpu:
        return nullcontext()
    context: AbstractContextManager[Any] = torch.get_device_module(pages.device).device_of(pages)
    return context
