"""The ragged logits kernel for Hopper: warp-specialised, in Gluon, for heads that divide 128 or 256 columns.

One program a multiprocessor. One warp has the copy engine bring keys into shared memory, some blocks ahead; each group
of four warps scores every block for its own queries, so that the products of one overlap with the sums of another and a
key is read once for the queries of all groups. The work is (queries of all groups) x (a chunk of keys); a chunk that no
query sees is passed over. A further warp writes `-inf` outside the blocks that are scored.

As with `logits_sm90_kernel`, it is imported only where `tuning.runs_on_sm90` says so.
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

from nsa_caps.kernels.portable.sm90_parts import bring, reinterpreted, weighted_sum, weights_layout

__all__ = ["ragged_kernel"]


@gluon.jit
def _bounds(item, items, starts, ends, tokens, total, groups, row, QUERIES: gl.constexpr):
    # What the queries of an item see, of keys 0 to `total`; nothing, of queries that there are none of. Asked for while
    # the item before it is scored: a group would wait 1500 cycles for them, 6 % of a launch in chunks of 1,024 keys.
    query = (groups - 1 - item % groups) * QUERIES + row
    there = (query < tokens) & (row < QUERIES) & (item < items)
    start = gl.load(starts + query, mask=there, other=2147483647)
    end = gl.load(ends + query, mask=there, other=0)
    return gl.maximum(start, 0), gl.minimum(end, total)


@gluon.jit
def _blocks(item, groups, start, end, BLOCK: gl.constexpr, CHUNK: gl.constexpr):
    # The first key that an item takes, and its blocks.
    begin = item // groups * CHUNK
    first = gl.maximum(begin, gl.min(start, 0) // BLOCK * BLOCK)
    last = gl.minimum(begin + CHUNK, gl.max(end, 0))
    return first, gl.maximum(last - first + BLOCK - 1, 0) // BLOCK


@gluon.jit
def _load(
    given,
    ROWS: gl.constexpr,
    HEADS: gl.constexpr,
    DIM: gl.constexpr,
    BLOCK: gl.constexpr,
    CHUNK: gl.constexpr,
    STAGES: gl.constexpr,
    NEAR: gl.constexpr,
    GROUPS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    COLUMNS: gl.constexpr = ROWS * HEADS
    QUERIES: gl.constexpr = GROUPS * ROWS
    ABREAST: gl.constexpr = 8 // NEAR
    shared, descriptors, starts, ends, tokens, total, groups, items = given
    q_desc, weights_desc, keys_desc, scales_desc = descriptors
    q_smem, weights_smem, keys_smem, scales_smem, q_full, q_empty, full, empty = shared
    lane = gl.arange(0, 32, layout=gl.BlockedLayout([1], [32], [1], [0]))
    done = 0
    turn = 0
    start, end = _bounds(gl.program_id(0), items, starts, ends, tokens, total, groups, lane, QUERIES)
    for item in range(gl.program_id(0), items, PROGRAMS):
        first, steps = _blocks(item, groups, start, end, BLOCK, CHUNK)
        start, end = _bounds(item + PROGRAMS, items, starts, ends, tokens, total, groups, lane, QUERIES)
        if steps > 0:
            query = (groups - 1 - item % groups) * QUERIES
            mbarrier.wait(q_empty.index(turn & 1), turn >> 1 & 1 ^ 1)
            arrived = q_full.index(turn & 1)
            mbarrier.expect(arrived, GROUPS * COLUMNS * (DIM + 4))
            for group in gl.static_range(GROUPS):
                place = GROUPS * (turn & 1) + group
                for i in gl.static_range(ROWS // ABREAST):
                    some = [0, query + group * ROWS + i * ABREAST, 0, 0]
                    bring(q_desc, some, arrived, q_smem.index(place * (ROWS // ABREAST) + i))
                bring(weights_desc, [(query + group * ROWS) * HEADS], arrived, weights_smem.index(place))
            for step in range(steps):
                stage = done % STAGES
                mbarrier.wait(empty.index(stage), (done // STAGES) & 1 ^ 1)
                arrived = full.index(stage)
                mbarrier.expect(arrived, BLOCK * (DIM + 4))
                bring(keys_desc, [first + step * BLOCK, 0], arrived, keys_smem.index(stage))
                bring(scales_desc, [first + step * BLOCK], arrived, scales_smem.index(stage))
                done += 1
            turn += 1


@gluon.jit
def _blank(
    given,
    ROWS: gl.constexpr,
    BLOCK: gl.constexpr,
    CHUNK: gl.constexpr,
    FILL: gl.constexpr,
    GROUPS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    # -inf before and behind the blocks of each item.
    QUERIES: gl.constexpr = GROUPS * ROWS
    LINE: gl.constexpr = gl.BlockedLayout([4], [32], [1], [0])
    starts, ends, out, tokens, total, out_stride, groups, items = given
    lane = gl.arange(0, 32, layout=gl.BlockedLayout([1], [32], [1], [0]))
    column = gl.arange(0, FILL, layout=LINE)
    blank = gl.full([FILL], float("-inf"), gl.float32, LINE)
    for item in range(gl.program_id(0), items, PROGRAMS):
        start, end = _bounds(item, items, starts, ends, tokens, total, groups, lane, QUERIES)
        first, steps = _blocks(item, groups, start, end, BLOCK, CHUNK)
        begin = item // groups * CHUNK
        last = gl.minimum(begin + CHUNK, total)
        first = gl.where(steps > 0, first, last)
        rest = first + steps * BLOCK
        query = (groups - 1 - item % groups) * QUERIES
        for i in range(gl.minimum(tokens - query, QUERIES)):
            line = out + (query + i).to(gl.int64) * out_stride
            for at in range(begin, first, FILL):
                gl.store(line + at + column, blank, mask=column < first - at)
            for at in range(rest, last, FILL):
                gl.store(line + at + column, blank, mask=column < last - at)


@gluon.jit
def _score(
    given,
    ROWS: gl.constexpr,
    HEADS: gl.constexpr,
    DIM: gl.constexpr,
    BLOCK: gl.constexpr,
    CHUNK: gl.constexpr,
    STAGES: gl.constexpr,
    LEVELS: gl.constexpr,
    NEAR: gl.constexpr,
    CLEAN: gl.constexpr,
    GROUP: gl.constexpr,
    GROUPS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    COLUMNS: gl.constexpr = ROWS * HEADS
    QUERIES: gl.constexpr = GROUPS * ROWS
    # Columns of the product: sets of queries that lie abreast, by NEAR of their heads.
    ABREAST: gl.constexpr = 8 // NEAR
    SETS: gl.constexpr = ROWS // ABREAST
    PRODUCT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 32])
    WEIGHTS: gl.constexpr = weights_layout(SETS, ABREAST, HEADS // NEAR, NEAR)
    shared, starts, ends, out, tokens, total, out_stride, groups, items = given
    q_smem, weights_smem, keys_smem, scales_smem, q_full, q_empty, full, empty = shared
    all_queries = reinterpreted(q_smem, gl.float8e4nv, [2 * GROUPS, COLUMNS, DIM], gl.NVMMASharedLayout(128, 8, 2))
    zero = gl.zeros([BLOCK, COLUMNS], gl.float32, PRODUCT)
    # For its layout only.
    sample = weighted_sum(zero, zero, BLOCK, ROWS, LEVELS, NEAR)
    PAIR: gl.constexpr = sample.type.layout
    row = gl.arange(0, ROWS, layout=gl.SliceLayout(0, PAIR))
    token = gl.expand_dims(gl.arange(0, BLOCK, layout=gl.SliceLayout(1, PAIR)), 1)
    lane = gl.arange(0, 32, layout=gl.BlockedLayout([1], [32], [4], [0]))
    done = 0
    turn = 0
    start, end = _bounds(gl.program_id(0), items, starts, ends, tokens, total, groups, lane, QUERIES)
    low, high = _bounds(gl.program_id(0), items, starts, ends, tokens, total, groups, GROUP * ROWS + row, QUERIES)
    for item in range(gl.program_id(0), items, PROGRAMS):
        first, steps = _blocks(item, groups, start, end, BLOCK, CHUNK)
        # Between these, all queries of this group see all keys.
        common_from = gl.max(low, 0)
        common_to = gl.min(high, 0)
        seen_from = gl.expand_dims(low, 0)
        seen_to = gl.expand_dims(high, 0)
        start, end = _bounds(item + PROGRAMS, items, starts, ends, tokens, total, groups, lane, QUERIES)
        low, high = _bounds(item + PROGRAMS, items, starts, ends, tokens, total, groups, GROUP * ROWS + row, QUERIES)
        query = (groups - 1 - item % groups) * QUERIES + GROUP * ROWS
        if steps > 0:
            mbarrier.wait(q_full.index(turn & 1), turn >> 1 & 1)
            place = GROUPS * (turn & 1) + GROUP
            # In the order of the columns.
            weight = weights_smem.index(place).reshape([SETS, ABREAST, HEADS // NEAR, NEAR]).load(WEIGHTS)
            weight = gl.reshape(gl.permute(weight, (0, 2, 1, 3)), [COLUMNS])
            weight = zero + gl.expand_dims(gl.convert_layout(weight * 0.5, gl.SliceLayout(0, PRODUCT)), 0)
            queries = all_queries.index(place).permute((1, 0))
            target = out + query.to(gl.int64) * out_stride
            for step in range(steps):
                number = done + step
                stage = number % STAGES
                mbarrier.wait(full.index(stage), (number // STAGES) & 1)
                dots = warpgroup_mma(keys_smem.index(stage), queries, zero, use_acc=False, is_async=True)
                scale = scales_smem.index(stage).load(gl.SliceLayout(1, PAIR))
                dots = warpgroup_mma_wait(0, deps=[dots])
                mbarrier.arrive(empty.index(stage), count=1)
                score = weighted_sum(dots, weight, BLOCK, ROWS, LEVELS, NEAR) * gl.expand_dims(scale, 1)
                at = first + step * BLOCK
                scores = target + at + (gl.expand_dims(row, 0) * out_stride + token)
                if (at >= common_from) & (at + BLOCK <= common_to):
                    gl.store(scores, score)
                else:
                    seen = (at + token >= seen_from) & (at + token < seen_to)
                    if CLEAN:
                        score = gl.where(seen, score, float("-inf"))
                        seen = (at + token < total) & gl.expand_dims(query + row < tokens, 0)
                    gl.store(scores, score, mask=seen)
            mbarrier.arrive(q_empty.index(turn & 1), count=1)
            done += steps
            turn += 1


@gluon.jit(do_not_specialize=["tokens", "total", "groups", "items"])
def ragged_kernel(
    q_desc,  # fp8 [HEADS // NEAR, tokens, NEAR, DIM]
    weights_desc,  # float32 [tokens * HEADS]
    keys_desc,  # fp8 [total, DIM]
    scales_desc,  # float32 [total]
    starts,  # int32 [tokens]
    ends,  # int32 [tokens]
    out,  # float32 [tokens, out_stride]
    tokens,
    total,
    out_stride,
    groups,  # of GROUPS * ROWS queries
    items,  # groups x chunks
    ROWS: gl.constexpr,
    HEADS: gl.constexpr,
    DIM: gl.constexpr,
    BLOCK: gl.constexpr,
    CHUNK: gl.constexpr,
    STAGES: gl.constexpr,
    LEVELS: gl.constexpr,
    NEAR: gl.constexpr,
    CLEAN: gl.constexpr,
    FILL: gl.constexpr,
    LOAD_REGISTERS: gl.constexpr,
    SCORE_REGISTERS: gl.constexpr,
    PROGRAMS: gl.constexpr,
):
    COLUMNS: gl.constexpr = ROWS * HEADS
    GROUPS: gl.constexpr = 2
    sets: gl.constexpr = 2 * GROUPS * (ROWS * NEAR // 8)
    q_smem = gl.allocate_shared_memory(gl.float8e4nv, [sets] + q_desc.block_shape, q_desc.layout)
    weights_smem = gl.allocate_shared_memory(gl.float32, [2 * GROUPS, COLUMNS], weights_desc.layout)
    keys_smem = gl.allocate_shared_memory(gl.float8e4nv, [STAGES, BLOCK, DIM], keys_desc.layout)
    scales_smem = gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK], scales_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=GROUPS)
    for i in gl.static_range(2):
        mbarrier.init(q_full.index(i), count=1)
        mbarrier.init(q_empty.index(i), count=GROUPS)
    fence_async_shared()
    shared = (q_smem, weights_smem, keys_smem, scales_smem, q_full, q_empty, full, empty)
    descriptors = (q_desc, weights_desc, keys_desc, scales_desc)
    given = (shared, starts, ends, out, tokens, total, out_stride, groups, items)
    blanked = (starts, ends, out, tokens, total, out_stride, groups, items)
    asked = (shared, descriptors, starts, ends, tokens, total, groups, items)
    if CLEAN:
        # One warp more, for which there is room: registers are set aside for four at a time.
        gl.warp_specialize(
            [
                (_score, (given, ROWS, HEADS, DIM, BLOCK, CHUNK, STAGES, LEVELS, NEAR, CLEAN, 0, GROUPS, PROGRAMS)),
                (_score, (given, ROWS, HEADS, DIM, BLOCK, CHUNK, STAGES, LEVELS, NEAR, CLEAN, 1, GROUPS, PROGRAMS)),
                (_load, (asked, ROWS, HEADS, DIM, BLOCK, CHUNK, STAGES, NEAR, GROUPS, PROGRAMS)),
                (_blank, (blanked, ROWS, BLOCK, CHUNK, FILL, GROUPS, PROGRAMS)),
            ],
            [4, 1, 1],
            [SCORE_REGISTERS, LOAD_REGISTERS, LOAD_REGISTERS],
        )
    else:
        gl.warp_specialize(
            [
                (_score, (given, ROWS, HEADS, DIM, BLOCK, CHUNK, STAGES, LEVELS, NEAR, CLEAN, 0, GROUPS, PROGRAMS)),
                (_score, (given, ROWS, HEADS, DIM, BLOCK, CHUNK, STAGES, LEVELS, NEAR, CLEAN, 1, GROUPS, PROGRAMS)),
                (_load, (asked, ROWS, HEADS, DIM, BLOCK, CHUNK, STAGES, NEAR, GROUPS, PROGRAMS)),
            ],
            [4, 1],
            [SCORE_REGISTERS, LOAD_REGISTERS],
        )
