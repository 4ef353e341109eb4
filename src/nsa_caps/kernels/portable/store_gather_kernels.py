"""The Triton kernels that store and gather keys: CUDA and ROCm, flat and tiled pages, both fp8 dialects.

The fp8 conversion is integer arithmetic, so that it compiles for GPUs without an fp8 type (gfx90a, sm_80) and gives the
same bytes on all; where the same bytes were seen from an NVIDIA GPU's own instruction, that is used.
"""

# Triton reads the annotations of kernel arguments, and has none for pointers; what they are stands beside them.
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gather_kernel", "quantise_kernel", "store_kernel"]

# What was read leaves the L2 cache last, so that what is written leaves it at once: reads and writes of memory disturb
# each other less. On an H200 a gather of 64 x 131,072 takes 528 us with it, 541 without, a store 563 and 576; what runs
# behind (a matrix product, a copy, a reader of the result) takes no longer. Triton passes it on to NVIDIA's GPUs alone.
_READ = tl.constexpr("evict_last")


@triton.jit
def _key_offset(slot, column, TILES: tl.constexpr, COLUMNS: tl.constexpr, TILE_COLUMNS: tl.constexpr):
    # A column is whatever the caller counts in: TILE_COLUMNS of them are 16 bytes, COLUMNS of them a key.
    if TILES:
        group = (slot // 16) * (16 * COLUMNS)
        return (
            group + (column // TILE_COLUMNS) * (16 * TILE_COLUMNS) + (slot % 16) * TILE_COLUMNS + column % TILE_COLUMNS
        )
    return slot * COLUMNS + column


@triton.jit
def _words(pointer):
    return pointer.to(tl.pointer_type(tl.int32))


@triton.jit(do_not_specialize=["total_tokens", "batch", "search_steps", "table_stride", "max_pages", "page_stride"])
def gather_kernel(
    cache,  # uint8 [pages, page_stride * ALIGN words]
    page_table,  # int32 [batch, max_pages], rows table_stride apart
    cu_seq_lens,  # int32 [batch + 1]
    keys,  # uint8 [total_tokens, 4 * WORDS]
    scales,  # float32 [total_tokens]
    total_tokens,
    batch,
    search_steps,
    table_stride,
    max_pages,
    page_stride,
    PAGE_SIZE: tl.constexpr,
    WORDS: tl.constexpr,
    TILES: tl.constexpr,
    PACKED: tl.constexpr,
    ALIGN: tl.constexpr,
    SEARCH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # The last request that begins at or before the token: empty ones before it are passed over. Its bounds come out of
    # the search, since loading them after it is one more wait for memory: 0.1 us of 1.9 at 8,192 tokens.
    request = tl.zeros([BLOCK], tl.int32)
    start = request
    end = request + tl.load(cu_seq_lens + batch)
    if SEARCH:
        above = request + batch
        for _ in range(search_steps):
            middle = (request + above) // 2
            bound = tl.load(cu_seq_lens + middle)
            begun = bound <= token
            request = tl.where(begun, middle, request)
            start = tl.where(begun, bound, start)
            above = tl.where(begun, above, middle)
            end = tl.where(begun, end, bound)
    exists = token < tl.minimum(end, total_tokens)
    position = token - start
    column = position // PAGE_SIZE
    # Within the table though not within the request's length, so as not to wait for the length either.
    entry = request.to(tl.int64) * table_stride + column
    page = tl.load(page_table + entry, mask=column < max_pages, other=0).to(tl.int64)
    slot = position % PAGE_SIZE

    first = page * page_stride * ALIGN
    word = tl.arange(0, WORDS)[None, :]
    source = first[:, None] + _key_offset(slot[:, None], word, TILES, WORDS, 4)
    found = tl.load(_words(cache) + source, mask=exists[:, None], eviction_policy=_READ)
    scale = tl.load(_words(cache) + first + PAGE_SIZE * WORDS + slot, mask=exists, eviction_policy=_READ)
    target = token.to(tl.int64)[:, None] * WORDS + word
    if ALIGN == 1:
        # Hides that the rows of `keys` are aligned: a lane that writes 16 bytes would read its 4 words in four turns,
        # each over all lines of the warp.
        target = tl.multiple_of(target, [1, 1])
    tl.store(_words(keys) + target, found, mask=exists[:, None])
    if PACKED:
        # The lowest of the four equal bytes; an exponent of 0 is 2**-127, a subnormal.
        exponent = scale & 0xFF
        scale = tl.where(exponent == 0, 0x00400000, exponent << 23)
    tl.store(_words(scales) + token, scale, mask=exists)


@triton.jit
def _place(slots, token, total_tokens, page_stride, PAGE_SIZE: tl.constexpr, ALIGN: tl.constexpr):
    position = tl.load(slots + token, mask=token < total_tokens, other=-1)
    return position >= 0, (position // PAGE_SIZE) * page_stride * ALIGN, (position % PAGE_SIZE).to(tl.int32)


@triton.jit
def _store_scale(cache, first, slot, scale, kept, PAGE_SIZE: tl.constexpr, WORDS: tl.constexpr, PACKED: tl.constexpr):
    if PACKED:
        scale = (scale >> 23) * 0x01010101
    tl.store(_words(cache) + first + PAGE_SIZE * WORDS + slot, scale, mask=kept)


@triton.jit(do_not_specialize=["total_tokens", "page_stride"])
def store_kernel(
    cache,  # uint8 [pages, page_stride * ALIGN words]
    slots,  # int64 [total_tokens]
    keys,  # uint8 [total_tokens, 4 * WORDS]
    scales,  # float32 [total_tokens]
    total_tokens,
    page_stride,
    PAGE_SIZE: tl.constexpr,
    WORDS: tl.constexpr,
    TILES: tl.constexpr,
    PACKED: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    kept, first, slot = _place(slots, token, total_tokens, page_stride, PAGE_SIZE, ALIGN)
    word = tl.arange(0, WORDS)[None, :]
    known = token < total_tokens
    key = tl.load(_words(keys) + token[:, None] * WORDS + word, mask=known[:, None], eviction_policy=_READ)
    scale = tl.load(_words(scales) + token, mask=known, other=0, eviction_policy=_READ)
    target = first[:, None] + _key_offset(slot[:, None], word, TILES, WORDS, 4)
    tl.store(_words(cache) + target, key, mask=kept[:, None])
    _store_scale(cache, first, slot, scale, kept, PAGE_SIZE, WORDS, PACKED)


@triton.jit
def _encode_fp8(value, FNUZ: tl.constexpr):
    # Round to nearest even, in integers. `value` is NaN or no larger than the dialect's largest rounded up by a bit.
    bias: tl.constexpr = 8 if FNUZ else 7
    # fp32 numbers of this size are as far apart as the dialect's subnormals: the sum is rounded to one of them, and
    # its lowest bits count which.
    magic: tl.constexpr = 8192.0 if FNUZ else 16384.0
    magic_bits: tl.constexpr = 0x46000000 if FNUZ else 0x46800000
    smallest_normal: tl.constexpr = 0.0078125 if FNUZ else 0.015625

    size = tl.abs(value)
    bits = size.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - ((127 - bias) << 3)
    subnormal = (size + magic).to(tl.int32, bitcast=True) - magic_bits
    code = tl.where(size < smallest_normal, subnormal, normal)
    signed = code | ((value.to(tl.int32, bitcast=True) >> 24) & 0x80)
    if FNUZ:
        # 0x80 is NaN here: zero has no sign.
        signed = tl.where(code == 0, 0, signed)
    return tl.where(value == value, signed, 0x80 if FNUZ else 0x7F).to(tl.uint8)


@triton.jit(do_not_specialize=["total_tokens", "key_stride", "page_stride"])
def quantise_kernel(
    cache,  # uint8 [pages, page_stride * ALIGN words]
    slots,  # int64 [total_tokens]
    keys,  # bf16, fp16 or fp32 [total_tokens, key_stride * KEY_ALIGN]
    total_tokens,
    key_stride,
    page_stride,
    PAGE_SIZE: tl.constexpr,
    WORDS: tl.constexpr,
    TILES: tl.constexpr,
    PACKED: tl.constexpr,
    ROUND: tl.constexpr,
    FNUZ: tl.constexpr,
    HARDWARE: tl.constexpr,
    ALIGN: tl.constexpr,
    KEY_ALIGN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    kept, first, slot = _place(slots, token, total_tokens, page_stride, PAGE_SIZE, ALIGN)
    dim = tl.arange(0, 4 * WORDS)[None, :]
    source = token[:, None] * key_stride * KEY_ALIGN + dim
    known = (token < total_tokens)[:, None]
    value = tl.load(keys + source, mask=known, other=0.0, eviction_policy=_READ).to(tl.float32)

    size = tl.where(value == value, tl.abs(value), 0.0)
    largest: tl.constexpr = 240.0 if FNUZ else 448.0
    scale = tl.div_rn(tl.maximum(tl.max(size, axis=1), 1e-4), tl.full([BLOCK], largest, tl.float32))
    scale_bits = scale.to(tl.int32, bitcast=True)
    if ROUND:
        scale_bits = (scale_bits + 0x7FFFFF) & 0x7F800000
        scale = scale_bits.to(tl.float32, bitcast=True)
    reciprocal = tl.div_rn(tl.full([BLOCK], 1.0, tl.float32), scale)
    scaled = value * reciprocal[:, None]
    code = scaled.to(tl.float8e4nv).to(tl.uint8, bitcast=True) if HARDWARE else _encode_fp8(scaled, FNUZ)

    target = first[:, None] * 4 + _key_offset(slot[:, None], dim, TILES, 4 * WORDS, 16)
    tl.store(cache + target, code, mask=kept[:, None])
    _store_scale(cache, first, slot, scale_bits, kept, PAGE_SIZE, WORDS, PACKED)
