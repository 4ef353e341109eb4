"""How the kernels for Hopper are launched.

Importing this module imports Gluon, which few Tritons have as it is used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import triton
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from nsa_caps.kernels.portable.launch import Launch
from nsa_caps.kernels.portable.logits_sm90_kernel import logits_kernel
from nsa_caps.kernels.portable.ragged_sm90_kernel import ragged_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["Described", "DescribedLaunch", "plan_logits", "plan_ragged", "ragged_chunk"]

# Descriptors that a launch keeps: a step's layers, each with a cache of its own, come again in the next step.
_MOST_KEPT = 1024
_FP8, _FP32 = torch.float8_e4m3fn, torch.float32
# Threads' registers of 3 groups of warps that score and one warp that loads: 3 x 128 x 160 + 128 x 32 is all there are.
_LOGITS = {"LOAD_REGISTERS": 32, "SCORE_REGISTERS": 160, "num_warps": 4, "maxnreg": 128, "launch_pdl": True}
# Of two groups, each of which holds 128 sums and 64 weights a thread.
_RAGGED = {"LOAD_REGISTERS": 24, "SCORE_REGISTERS": 240, "num_warps": 4, "maxnreg": 168}
# Pages in flight; on an H100, 64 x 32,768, two queries of 64 heads: 108.4 us with 9, 109.7 us with 6, 108.7 us with 12.
_PAGES = 9
# Blocks of 64 keys in flight.
_BLOCKS = 8
_GROUP_COLUMNS = 256
# Columns of -inf that a group of warps writes at a time.
_FILL = 512


class _Place:
    """What a descriptor asks of a tensor: where it begins, and what it holds."""

    __slots__ = ("address", "dtype")

    def __init__(self, address: int, dtype: torch.dtype) -> None:
        self.address = address
        self.dtype = dtype

    def data_ptr(self) -> int:
        return self.address


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor that a kernel is given as a descriptor.

    Attributes:
        argument: which of the launch's tensors it is.
        offset: bytes from the begin of that tensor.
        dtype: what is read from there.
        fields: the other fields of Triton's descriptor.
    """

    argument: int
    offset: int
    dtype: torch.dtype
    fields: dict[str, Any]

    def of(self, tensors: Sequence[Tensor]) -> TensorDescriptor:
        """Triton's descriptor. Its constructor checks for 10 us what was checked, and a view costs the host 1 us."""
        descriptor = object.__new__(TensorDescriptor)
        descriptor.__dict__.update(self.fields)
        descriptor.__dict__["base"] = _Place(tensors[self.argument].data_ptr() + self.offset, self.dtype)
        return descriptor


class DescribedLaunch(Launch):
    """A launch of a kernel whose first arguments are descriptors.

    Through Triton's own front it takes the host 170 us; four descriptors and a direct launch take 25 us.

    Attributes:
        described: the tensors behind the descriptors.
    """

    def __init__(
        self,
        kernel: Any,
        described: Sequence[Described],
        plain: Sequence[int],
        scalars: tuple[int, ...],
        constants: dict[str, Any],
        device: torch.device,
    ) -> None:
        """Compile nothing yet. `plain`: which tensors are passed as they are, behind the descriptors."""
        super().__init__(kernel, (constants["PROGRAMS"],), scalars, constants, device)
        self.described = described
        self._plain = plain
        self._kept: dict[tuple[int, ...], list[TensorDescriptor]] = {}

    def __call__(self, *tensors: Tensor) -> None:
        """Launch on these tensors."""
        addresses = tuple([tensors[one.argument].data_ptr() for one in self.described])
        described = self._kept.get(addresses)
        if described is None:
            described = [one.of(tensors) for one in self.described]
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[addresses] = described
        super().__call__(*described, *[tensors[i] for i in self._plain])


def plan_logits(
    q: Tensor, pages: Tensor, page_table: Tensor, max_model_len: int, out_stride: int, fmt: PageFormat,
    *, programs: int, clean: bool,
) -> DescribedLaunch:  # fmt: skip
    """Make ready to score pages: a launch on q, pages, weights, context_lens, page_table and out.

    Arguments are what `tuning.logits_on_sm90` takes.
    """
    batch, next_n, heads, dim = q.shape
    columns, block = next_n * heads, fmt.page_size
    count, page_bytes = pages.shape[0], pages.stride(0)
    if fmt.order == "tiles":
        # By 16 dims, then by 16 tokens.
        shape, strides = [count, dim // 16, block // 16, 256], [page_bytes, 256, 16 * dim, 1]
        keys = _described(1, _FP8, shape, strides, [1, *shape[1:]], swizzle=0)
    else:
        keys = _described(1, _FP8, [count, block, dim], [page_bytes, dim, 1], [1, block, dim], swizzle=128)
    scales_at = block * dim
    described = (
        _described(0, _FP8, [batch * columns, dim], [dim, 1], [columns, dim], swizzle=128),
        _described(2, _FP32, [batch, columns], [columns, 1], [1, columns], swizzle=0),
        keys,
        _described(1, _FP32, [count, block], [page_bytes // 4, 1], [1, block], swizzle=0, offset=scales_at),
    )
    constants = _LOGITS | {
        "ROWS": next_n,
        "HEADS": heads,
        "DIM": dim,
        "BLOCK": block,
        # One a thread at least: sums over fewer differ from thread to thread as the compiler sees it, and spill.
        "BATCH": max(128, triton.next_power_of_2(batch)),
        "STAGES": _PAGES,
        "LEVELS": _levels(heads // 8),
        "TILES": fmt.order == "tiles",
        "CLEAN": clean,
        "FILL": _FILL,
        "PROGRAMS": programs,
    }
    capacity = min(max_model_len, page_table.shape[1] * block)
    scalars = (batch, max_model_len, capacity, page_table.stride(0), out_stride)
    return DescribedLaunch(logits_kernel, described, (3, 4, 5), scalars, constants, q.device)


def plan_ragged(q: Tensor, keys: Tensor, out_stride: int, *, programs: int, clean: bool) -> DescribedLaunch:
    """Make ready to score keys: a launch on q, keys, scales, weights, starts, ends and out.

    Arguments are what `tuning.ragged_on_sm90` takes.
    """
    tokens, heads, dim = q.shape
    total = keys.shape[0]
    rows = _GROUP_COLUMNS // heads
    # Eight columns of a product lie in four threads: each gets as much of one query as can be, to add up by itself.
    abreast = min(4, rows)
    near = 8 // abreast
    shape, strides = [heads // near, tokens, near, dim], [near * dim, heads * dim, dim, 1]
    groups = triton.cdiv(tokens, 2 * rows)
    chunk = ragged_chunk(groups, total, programs)
    described = (
        _described(0, _FP8, shape, strides, [shape[0], abreast, near, dim], swizzle=128),
        _described(3, _FP32, [tokens * heads], [1], [_GROUP_COLUMNS], swizzle=0),
        _described(1, _FP8, [total, dim], [dim, 1], [64, dim], swizzle=128),
        _described(2, _FP32, [total], [1], [64], swizzle=0),
    )
    constants = _RAGGED | {
        "ROWS": rows,
        "HEADS": heads,
        "DIM": dim,
        "BLOCK": 64,
        "CHUNK": chunk,
        "STAGES": _BLOCKS,
        "LEVELS": _levels(heads // near),
        "NEAR": near,
        "CLEAN": clean,
        "FILL": _FILL,
        "PROGRAMS": programs,
    }
    scalars = (tokens, total, out_stride, groups, groups * triton.cdiv(total, chunk))
    return DescribedLaunch(ragged_kernel, described, (4, 5, 6), scalars, constants, q.device)


def ragged_chunk(groups: int, total: int, programs: int) -> int:
    """Keys a chunk: many enough that a piece's start costs little, few enough that the last pieces end together.

    On an H200, 8,192 x 8,192 with 32 heads: 251 us in chunks of 1,024, 269 us of 2,048 or of 512.
    """
    chunk = 1024 if total <= 16384 else 2048
    while chunk > 256 and groups * triton.cdiv(total, chunk) < 2 * programs:
        chunk //= 2
    return chunk


def _levels(parts: int) -> int:
    # Halvings down to one.
    return parts.bit_length() - 1


def _described(
    argument: int,
    dtype: torch.dtype,
    shape: list[int],
    strides: list[int],
    block: list[int],
    *,
    swizzle: int,
    offset: int = 0,
) -> Described:
    layout = gl.NVMMASharedLayout(swizzle, 8 * dtype.itemsize, len(shape))
    # Triton's constructor checks them, once, for a tensor at any multiple of 16 bytes.
    checked = TensorDescriptor(_Place(0, dtype), shape, strides, block, layout)
    return Described(argument, offset, dtype, dict(vars(checked)))
