"""The paged logits kernel for Hopper: warp-specialised, in Gluon, for 32, 64 or 128 columns (queries x heads).

One program a multiprocessor. One warp has the copy engine bring pages into shared memory, some ahead; three groups of
four warps each score every third page, so that the products of one overlap with the sums of another. The pages of all
requests are divided evenly over the programs, wherever a request ends. Four groups have too few registers: they spill,
and how much depends on the compiler.

Gluon's interface changes from one Triton to the next, and it cannot be interpreted: this module is imported only where
`tuning.runs_on_sm90` says so.
"""

# Triton reads the annotations of kernel arguments, and has none for pointers; what they are stands beside them.
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803, N806, RUF005
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa_caps.kernels.portable.sm90_parts import bring, reinterpreted, weighted_sum

__all__ = ["logits_kernel"]


@gluon.jit
def _add(a, b):
    return a + b


@gluon.jit
def _steps(context, capacity, BLOCK: gl.constexpr):
    return gl.cdiv(gl.minimum(context, capacity), BLOCK)


@gluon.jit
def _share(
    context_lens,
    batch,
    capacity,
    BLOCK: gl.constexpr,
    BATCH: gl.constexpr,
    PROGRAMS: gl.constexpr,
    WARPS: gl.constexpr,
):
    # This program's steps, counted over all requests: the request that they begin in, the steps before that one, the
    # first and the end. Every group of warps finds them for itself, so that none waits for another at the start.
    lane = gl.arange(0, BATCH, layout=gl.BlockedLayout([1], [32], [WARPS], [0]))
    contexts = gl.load(context_lens + lane, mask=lane < batch, other=0)
    steps = _steps(contexts, capacity, BLOCK)
    total = gl.sum(steps, 0)
    largest = gl.max(steps, 0)
    program = gl.program_id(0)
    each, rest = total // PROGRAMS, total % PROGRAMS
    first = program * each + gl.minimum(program, rest)
    last = first + each + (program < rest).to(gl.int32)
    if largest.to(gl.int64) * batch == total.to(gl.int64):
        request = first // gl.maximum(largest, 1)
        before = request * largest
    else:
        ends = gl.associative_scan(steps, 0, _add)
        passed = (ends <= first) & (lane < batch)
        request = gl.sum(passed.to(gl.int32), 0)
        before = gl.max(gl.where(passed, ends, 0), 0)
    return request, before, first, last


@gluon.jit
def _load(
    given,
    COLUMNS: gl.constexpr,
    DIM: gl.constexpr,
    BLOCK: gl.constexpr,
    BATCH: gl.constexpr,
    STAGES: gl.constexpr,
    TILES: gl.constexpr,
    GROUPS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    shared, descriptors, context_lens, page_table, batch, table_stride, capacity = given
    q_desc, weights_desc, keys_desc, scales_desc = descriptors
    q_smem, weights_smem, keys_smem, scales_smem, q_full, q_empty, full, empty, ready = shared
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    for i in gl.static_range(2):
        mbarrier.init(q_full.index(i), count=1)
        mbarrier.init(q_empty.index(i), count=GROUPS)
    fence_async_shared()
    mbarrier.arrive(ready, count=1)
    gdc_wait()
    request, before, at, last = _share(context_lens, batch, capacity, BLOCK, BATCH, PROGRAMS, 1)
    lane = gl.arange(0, 32, layout=gl.BlockedLayout([1], [32], [1], [0]))
    done = 0
    turn = 0
    while at < last:
        steps = _steps(gl.load(context_lens + request), capacity, BLOCK)
        stop = gl.minimum(before + steps, last)
        if stop > at:
            table = page_table + request.to(gl.int64) * table_stride - before
            ahead = gl.load(table + at + lane, mask=at + lane < stop, other=0)
            mbarrier.wait(q_empty.index(turn & 1), turn >> 1 & 1 ^ 1)
            arrived = q_full.index(turn & 1)
            mbarrier.expect(arrived, COLUMNS * DIM + COLUMNS * 4)
            bring(q_desc, [request * COLUMNS, 0], arrived, q_smem.index(turn & 1))
            bring(weights_desc, [request, 0], arrived, weights_smem.index(turn & 1))
            for group in range(at, stop, 32):
                pages = ahead
                ahead = gl.load(table + group + 32 + lane, mask=group + 32 + lane < stop, other=0)
                for step in range(group, gl.minimum(group + 32, stop)):
                    page = gl.sum(gl.where(lane == step - group, pages, 0), 0)
                    stage = done % STAGES
                    mbarrier.wait(empty.index(stage), (done // STAGES) & 1 ^ 1)
                    arrived = full.index(stage)
                    mbarrier.expect(arrived, BLOCK * DIM + BLOCK * 4)
                    if TILES:
                        bring(keys_desc, [page, 0, 0, 0], arrived, keys_smem.index(stage))
                    else:
                        bring(keys_desc, [page, 0, 0], arrived, keys_smem.index(stage))
                    bring(scales_desc, [page, 0], arrived, scales_smem.index(stage))
                    done += 1
            turn += 1
        at = stop
        before += steps
        request += 1


@gluon.jit
def _fill(
    context_lens,
    out,
    out_stride,
    batch,
    max_model_len,
    capacity,
    worker,
    workers,
    ROWS: gl.constexpr,
    BLOCK: gl.constexpr,
    FILL: gl.constexpr,
):
    # -inf beyond the contexts.
    LINE: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    column = gl.arange(0, FILL, layout=LINE)
    blank = gl.full([FILL], float("-inf"), gl.float32, LINE)
    parts = gl.maximum(workers // batch, 1)
    for task in range(worker, parts * batch, workers):
        request = task // parts
        held = _steps(gl.load(context_lens + request), capacity, BLOCK) * BLOCK
        for start in range(held + task % parts * FILL, max_model_len, parts * FILL):
            for row in gl.static_range(ROWS):
                line = out + (request * ROWS + row).to(gl.int64) * out_stride + start
                gl.store(line + column, blank, mask=column < max_model_len - start)


@gluon.jit
def _score(
    given,
    ROWS: gl.constexpr,
    HEADS: gl.constexpr,
    DIM: gl.constexpr,
    BLOCK: gl.constexpr,
    BATCH: gl.constexpr,
    STAGES: gl.constexpr,
    LEVELS: gl.constexpr,
    TILES: gl.constexpr,
    CLEAN: gl.constexpr,
    FILL: gl.constexpr,
    GROUP: gl.constexpr,
    GROUPS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    COLUMNS: gl.constexpr = ROWS * HEADS
    PRODUCT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 32])
    # The bytes of 16 dims, for all tokens: how the product takes keys that are not swizzled.
    TILED: gl.constexpr = gl.SharedLinearLayout(
        [[0, 1], [0, 2], [0, 4], [0, 8], [1, 0], [2, 0], [4, 0], [8, 0], [16, 0], [32, 0], [0, 16], [0, 32], [0, 64]]
    )
    shared, context_lens, out, batch, out_stride, max_model_len, capacity = given
    q_smem, weights_smem, keys_smem, scales_smem, q_full, q_empty, full, empty, ready = shared
    gdc_wait()
    request, before, at, last = _share(context_lens, batch, capacity, BLOCK, BATCH, PROGRAMS, 4)
    mbarrier.wait(ready, 0)
    zero = gl.zeros([BLOCK, COLUMNS], gl.float32, PRODUCT)
    # For its layout only.
    sample = weighted_sum(zero, zero, BLOCK, ROWS, LEVELS, 8)
    PAIR: gl.constexpr = sample.type.layout
    row = gl.expand_dims(gl.arange(0, ROWS, layout=gl.SliceLayout(0, PAIR)), 0)
    token = gl.expand_dims(gl.arange(0, BLOCK, layout=gl.SliceLayout(1, PAIR)), 1)
    done = 0
    turn = 0
    while at < last:
        context = gl.load(context_lens + request)
        steps = _steps(context, capacity, BLOCK)
        stop = gl.minimum(before + steps, last)
        if stop > at:
            limit = gl.minimum(context - ROWS + 1 + row, capacity)
            mbarrier.wait(q_full.index(turn & 1), turn >> 1 & 1)
            weight = weights_smem.index(turn & 1).reshape([COLUMNS]).load(gl.SliceLayout(0, PRODUCT)) * 0.5
            weight = zero + gl.expand_dims(weight, 0)
            queries = q_smem.index(turn & 1).permute((1, 0))
            ended = done + stop - at
            shift = at - before - done
            target = out + (request * ROWS).to(gl.int64) * out_stride
            for number in range(done + (GROUP + GROUPS - done % GROUPS) % GROUPS, ended, GROUPS):
                stage = number % STAGES
                mbarrier.wait(full.index(stage), (number // STAGES) & 1)
                if TILES:
                    keys = reinterpreted(keys_smem.index(stage), gl.float8e4nv, [BLOCK, DIM], TILED)
                else:
                    keys = keys_smem.index(stage).reshape([BLOCK, DIM])
                dots = warpgroup_mma(keys, queries, zero, use_acc=False, is_async=True)
                scale = scales_smem.index(stage).reshape([BLOCK]).load(gl.SliceLayout(1, PRODUCT))
                dots = warpgroup_mma_wait(0, deps=[dots])
                mbarrier.arrive(empty.index(stage), count=1)
                score = weighted_sum(dots, weight, BLOCK, ROWS, LEVELS, 8)
                score = score * gl.expand_dims(gl.convert_layout(scale, gl.SliceLayout(1, PAIR)), 1)
                start = (number + shift) * BLOCK
                inside = token < limit - start
                if CLEAN:
                    score = gl.where(inside, score, float("-inf"))
                    inside = (token < max_model_len - start) & (row < ROWS)
                gl.store(target + start + (row * out_stride + token), score, mask=inside)
            mbarrier.arrive(q_empty.index(turn & 1), count=1)
            done = ended
            turn += 1
        at = stop
        before += steps
        request += 1
    if CLEAN:
        worker, workers = gl.program_id(0) * GROUPS + GROUP, PROGRAMS * GROUPS
        _fill(context_lens, out, out_stride, batch, max_model_len, capacity, worker, workers, ROWS, BLOCK, FILL)


@gluon.jit(do_not_specialize=["batch"])
def logits_kernel(
    q_desc,  # fp8 [batch * ROWS * HEADS, DIM]
    weights_desc,  # float32 [batch, ROWS * HEADS]
    keys_desc,  # fp8 [pages, BLOCK, DIM], or [pages, DIM // 16, BLOCK // 16, 256] of TILES
    scales_desc,  # float32 [pages, BLOCK]
    context_lens,  # int32 [batch]
    page_table,  # int32 [batch, table_stride]
    out,  # float32 [batch * ROWS, out_stride]
    batch,
    max_model_len,
    capacity,
    table_stride,
    out_stride,
    ROWS: gl.constexpr,
    HEADS: gl.constexpr,
    DIM: gl.constexpr,
    BLOCK: gl.constexpr,
    BATCH: gl.constexpr,
    STAGES: gl.constexpr,  # a multiple of the groups, so that each finds the same stages again
    LEVELS: gl.constexpr,
    TILES: gl.constexpr,
    CLEAN: gl.constexpr,
    FILL: gl.constexpr,
    LOAD_REGISTERS: gl.constexpr,
    SCORE_REGISTERS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    COLUMNS: gl.constexpr = ROWS * HEADS
    GROUPS: gl.constexpr = 3
    q_smem = gl.allocate_shared_memory(gl.float8e4nv, [2, COLUMNS, DIM], q_desc.layout)
    weights_smem = gl.allocate_shared_memory(gl.float32, [2, 1, COLUMNS], weights_desc.layout)
    keys_smem = gl.allocate_shared_memory(gl.float8e4nv, [STAGES] + keys_desc.block_shape, keys_desc.layout)
    scales_smem = gl.allocate_shared_memory(gl.float32, [STAGES, 1, BLOCK], scales_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    ready = gl.allocate_shared_memory(gl.int64, [1], mbarrier.MBarrierLayout())
    # This kernel was launched while the one before it ended, and the next may be. Every group of warps waits for all
    # that the one before wrote.
    gdc_launch_dependents()
    # The warp that loads makes the other barriers.
    mbarrier.init(ready, count=1)
    shared = (q_smem, weights_smem, keys_smem, scales_smem, q_full, q_empty, full, empty, ready)
    descriptors = (q_desc, weights_desc, keys_desc, scales_desc)
    given = (shared, context_lens, out, batch, out_stride, max_model_len, capacity)
    asked = (shared, descriptors, context_lens, page_table, batch, table_stride, capacity)
    gl.warp_specialize(
        [
            (_score, (given, ROWS, HEADS, DIM, BLOCK, BATCH, STAGES, LEVELS, TILES, CLEAN, FILL, 0, GROUPS, PROGRAMS)),
            (_score, (given, ROWS, HEADS, DIM, BLOCK, BATCH, STAGES, LEVELS, TILES, CLEAN, FILL, 1, GROUPS, PROGRAMS)),
            (_score, (given, ROWS, HEADS, DIM, BLOCK, BATCH, STAGES, LEVELS, TILES, CLEAN, FILL, 2, GROUPS, PROGRAMS)),
            (_load, (asked, COLUMNS, DIM, BLOCK, BATCH, STAGES, TILES, GROUPS, PROGRAMS)),
        ],
        [4, 4, 1],
        [SCORE_REGISTERS, SCORE_REGISTERS, LOAD_REGISTERS],
    )
