"""How the portable logits kernel reads keys and scales from pages, and makes matrix operands of them; Triton."""

# Triton reads the annotations of kernel arguments, and has none for pointers; what they are stands beside them.
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "as_operand",
    "decode_scales",
    "in_order",
    "keys_of_page",
    "keys_of_pages",
    "load_operand",
    "scales",
    "weighted_sum",
]


@triton.jit
def as_operand(bits, FP8_DOT: tl.constexpr, FNUZ: tl.constexpr):
    # Bytes as what the matrix product takes.
    if FP8_DOT:
        operand = bits.to(tl.float8e4b8 if FNUZ else tl.float8e4nv, bitcast=True)
    else:
        # An fp8 number moved into the top of an fp16 one has the wrong exponent, but every bit of it.
        wide = bits.to(tl.uint16)
        moved = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
        is_nan = wide == 0x80 if FNUZ else (wide & 0x7F) == 0x7F
        operand = tl.where(is_nan, 0x7E00, moved).to(tl.uint16).to(tl.float16, bitcast=True)
        operand *= 128.0 if FNUZ else 256.0
    return operand


@triton.jit
def in_order(four, COUNT: tl.constexpr, DIM: tl.constexpr):
    # fp16 numbers `[COUNT, DIM]` in the order that products take dims in: of the four of a word, 0 and 2, then 1 and 3
    # are two neighbours of 16 as one thread has them.
    parted = tl.permute(tl.reshape(four, [COUNT, DIM // 16, 4, 2, 2]), (0, 1, 4, 2, 3))
    return tl.reshape(parted, [COUNT, DIM])


@triton.jit
def _fp16_of_halves(pairs):
    low = pairs.to(tl.uint16).to(tl.float16, bitcast=True)
    return tl.join(low, (pairs >> 16).to(tl.uint16).to(tl.float16, bitcast=True))


@triton.jit
def _fp16_of_words(words, BLOCK: tl.constexpr, DIM: tl.constexpr, FNUZ: tl.constexpr):
    # Four fp8 numbers at a time, as `as_operand` makes fp16 ones of bytes one by one: 486 instructions a step for 1,042
    # (sm_90, 128 columns).
    word = words.to(tl.uint32, bitcast=True)
    even = ((word << 8) & 0x80008000) | ((word << 7) & 0x3F803F80)
    odd = (word & 0x80008000) | ((word >> 1) & 0x3F803F80)
    if FNUZ:
        rest = word ^ 0x80808080
        has_nan = (rest - 0x01010101) & (rest ^ 0xFFFFFFFF)
    else:
        has_nan = (word & 0x7F7F7F7F) + 0x01010101
    # One NaN makes the whole product one.
    odd = tl.where((has_nan & 0x80808080) != 0, 0x7E007E00, odd)
    four = tl.join(_fp16_of_halves(even), _fp16_of_halves(odd))
    return in_order(four, BLOCK, DIM) * (128.0 if FNUZ else 256.0)


@triton.jit
def load_operand(
    start,
    mask,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    DIM: tl.constexpr,
    TILES: tl.constexpr,
    FP8_DOT: tl.constexpr,
    FNUZ: tl.constexpr,
):
    # BLOCK keys as the product takes them, from stretches of WIDTH bytes at multiples of 4 bytes.
    # Loaded as what they are, not as bytes: bytes would pass through registers on their way to the product.
    kind: tl.constexpr = (tl.float8e4b8 if FNUZ else tl.float8e4nv) if FP8_DOT else tl.int32
    count: tl.constexpr = WIDTH if FP8_DOT else WIDTH // 4
    columns: tl.constexpr = DIM if FP8_DOT else DIM // 4
    place = start.to(tl.pointer_type(kind))[:, None] + tl.arange(0, count)[None, :]
    found = tl.load(place, mask=None if mask is None else mask[:, None])
    if TILES:
        tiles = tl.reshape(found, [BLOCK // 16, DIM // 16, 16, columns * 16 // DIM])
        found = tl.reshape(tl.permute(tiles, (0, 2, 1, 3)), [BLOCK, columns])
    if not FP8_DOT:
        found = _fp16_of_words(found, BLOCK, DIM, FNUZ)
    return found


@triton.jit
def keys_of_page(
    start, BLOCK: tl.constexpr, DIM: tl.constexpr, TILES: tl.constexpr, FP8_DOT: tl.constexpr, FNUZ: tl.constexpr
):
    # One stretch of memory. Tiles are put into order after loading: key by key, 16 bytes would come from each of many
    # bursts; 64 x 32,768 on an H200, 76 us against 137 us.
    width: tl.constexpr = 256 if TILES else DIM
    rows: tl.constexpr = BLOCK * DIM // width
    return load_operand(start + tl.arange(0, rows) * width, None, width, BLOCK, DIM, TILES, FP8_DOT, FNUZ)


@triton.jit
def keys_of_pages(
    cache,
    table,
    first,
    held,
    PAGE_STRIDE: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    DIM: tl.constexpr,
    TILES: tl.constexpr,
    FP8_DOT: tl.constexpr,
    FNUZ: tl.constexpr,
):
    # Keys or lines of tiles from as many pages as it takes, of those before `held`.
    width: tl.constexpr = 256 if TILES else DIM
    rows: tl.constexpr = BLOCK * DIM // width
    if TILES:
        line = tl.arange(0, rows)
        at = first + line // (DIM // 16) * 16
        inner = line % (DIM // 16) * 256
    else:
        at = first + tl.arange(0, BLOCK)
        inner = tl.zeros([BLOCK], tl.int32)
    page = tl.load(table + at // PAGE_SIZE, mask=at < held, other=0)
    start = cache + page.to(tl.int64) * PAGE_STRIDE + at % PAGE_SIZE * DIM + inner
    return load_operand(start, None, width, BLOCK, DIM, TILES, FP8_DOT, FNUZ)


@triton.jit
def scales(cache, page, slot, PAGE_STRIDE: tl.constexpr, PAGE_SIZE: tl.constexpr, DIM: tl.constexpr):
    place = cache + page.to(tl.int64) * PAGE_STRIDE + PAGE_SIZE * DIM + slot * 4
    return tl.load(place.to(tl.pointer_type(tl.int32)))


@triton.jit
def decode_scales(stored, PACKED: tl.constexpr):
    if PACKED:
        # The lowest of the four equal bytes; an exponent of 0 is 2**-127, a subnormal.
        exponent = stored & 0xFF
        stored = tl.where(exponent == 0, 0x00400000, exponent << 23)
    return stored.to(tl.float32, bitcast=True)


# One function a level: Triton 3.3 and 3.4 follow a function that calls itself for ever.
@triton.jit
def _add_1(total, dots, weight, FIRST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    dot = tl.reshape(dots, [BLOCK, ROWS, LANES])
    term = (dot + tl.abs(dot)) * tl.reshape(weight, [BLOCK, ROWS, LANES])
    return term if FIRST else total + term


@triton.jit
def _split(wide, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, HALF: tl.constexpr):
    return tl.split(tl.reshape(wide, [BLOCK, ROWS, LANES, HALF, 2]))


@triton.jit
def _add_2(total, dots, weight, FIRST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    dots_0, dots_1 = _split(dots, BLOCK, ROWS, LANES, 1)
    weight_0, weight_1 = _split(weight, BLOCK, ROWS, LANES, 1)
    total = _add_1(total, dots_0, weight_0, FIRST, BLOCK, ROWS, LANES)
    return _add_1(total, dots_1, weight_1, False, BLOCK, ROWS, LANES)


@triton.jit
def _add_4(total, dots, weight, FIRST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    dots_0, dots_1 = _split(dots, BLOCK, ROWS, LANES, 2)
    weight_0, weight_1 = _split(weight, BLOCK, ROWS, LANES, 2)
    total = _add_2(total, dots_0, weight_0, FIRST, BLOCK, ROWS, LANES)
    return _add_2(total, dots_1, weight_1, False, BLOCK, ROWS, LANES)


@triton.jit
def _add_8(total, dots, weight, FIRST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    dots_0, dots_1 = _split(dots, BLOCK, ROWS, LANES, 4)
    weight_0, weight_1 = _split(weight, BLOCK, ROWS, LANES, 4)
    total = _add_4(total, dots_0, weight_0, FIRST, BLOCK, ROWS, LANES)
    return _add_4(total, dots_1, weight_1, False, BLOCK, ROWS, LANES)


@triton.jit
def _add_16(total, dots, weight, FIRST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    dots_0, dots_1 = _split(dots, BLOCK, ROWS, LANES, 8)
    weight_0, weight_1 = _split(weight, BLOCK, ROWS, LANES, 8)
    total = _add_8(total, dots_0, weight_0, FIRST, BLOCK, ROWS, LANES)
    return _add_8(total, dots_1, weight_1, False, BLOCK, ROWS, LANES)


@triton.jit
def _add_32(total, dots, weight, FIRST: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr):
    dots_0, dots_1 = _split(dots, BLOCK, ROWS, LANES, 16)
    weight_0, weight_1 = _split(weight, BLOCK, ROWS, LANES, 16)
    total = _add_16(total, dots_0, weight_0, FIRST, BLOCK, ROWS, LANES)
    return _add_16(total, dots_1, weight_1, False, BLOCK, ROWS, LANES)


@triton.jit
def weighted_sum(
    dots,
    weight,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    LANES: tl.constexpr,
    LEVELS: tl.constexpr,
):
    # Sums [BLOCK, ROWS * COLUMNS] over the columns of each row, by half the weights: relu(x) = (x + |x|) / 2. A sum
    # takes |x| at no cost, a maximum runs at half the rate: 83.5 us against 86.8 us, 64 heads, two queries, H200.
    # From 3.8 on Triton adds up in a tree, which has no multiply-add: 168 instructions for 140. Where LANES columns lie
    # side by side in threads and the other 2 ** LEVELS in one, those are therefore added up one by one, by hand.
    if LEVELS == 0 or LEVELS > 5:
        scores = tl.sum(tl.reshape((dots + tl.abs(dots)) * weight[None, :], [BLOCK, ROWS, COLUMNS]), axis=2)
    else:
        parts: tl.constexpr = [BLOCK, ROWS, 2**LEVELS, LANES]
        wide = tl.broadcast_to(weight[None, :], [BLOCK, ROWS * COLUMNS])
        dots = tl.permute(tl.reshape(dots, parts), (0, 1, 3, 2))
        wide = tl.permute(tl.reshape(wide, parts), (0, 1, 3, 2))
        if LEVELS == 1:
            eight = _add_2(0.0, dots, wide, True, BLOCK, ROWS, LANES)
        elif LEVELS == 2:
            eight = _add_4(0.0, dots, wide, True, BLOCK, ROWS, LANES)
        elif LEVELS == 3:
            eight = _add_8(0.0, dots, wide, True, BLOCK, ROWS, LANES)
        elif LEVELS == 4:
            eight = _add_16(0.0, dots, wide, True, BLOCK, ROWS, LANES)
        else:
            eight = _add_32(0.0, dots, wide, True, BLOCK, ROWS, LANES)
        scores = tl.sum(eight, axis=2)
    return scores
