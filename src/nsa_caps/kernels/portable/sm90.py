"""How the kernels for Hopper are launched. Importing this module imports Gluon, which few Tritons have as it is here.

A launch through Triton's own front takes the host 170 us here, since it describes four descriptors anew. What came of
the first launch is kept, for as long as arguments look alike, and launched directly, as Triton's tutorials do: 25 us.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import triton
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from nsa_caps.kernels.portable.logits_sm90_kernel import logits_kernel
from nsa_caps.kernels.portable.ragged_sm90_kernel import ragged_kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["Launch", "plan_logits", "plan_ragged"]

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


class Launch:
    """A launch whose arguments look alike from call to call.

    Attributes:
        kernel: the kernel in Gluon.
        grid: programs, along the first axis.
        descriptors: what each descriptor describes, but for the tensor.
        scalars: the whole numbers behind the tensors.
    """

    def __init__(
        self, kernel: Any, programs: int, descriptors: Sequence[Any], constants: dict[str, Any], scalars: Sequence[int]
    ) -> None:
        """Compile nothing yet. `constants`: the other arguments by name, and the options of the launch."""
        self.kernel = kernel
        self.grid = (programs, 1, 1)
        self.descriptors = descriptors
        self.scalars = tuple(scalars)
        self._constants = constants
        self._rest = tuple(constants[name] for name in kernel.arg_names if name in constants)
        self._compiled: Any = None

    def __call__(self, described: Sequence[Tensor], plain: Sequence[Tensor]) -> None:
        """Launch on these tensors: those that descriptors are for, and those that are passed as they are."""
        arguments = [*map(_described, self.descriptors, described), *plain, *self.scalars]
        if self._compiled is None:
            self._compiled = self.kernel[self.grid](*arguments, **self._constants)
        else:
            self._compiled[self.grid](*arguments, *self._rest)


def plan_logits(
    q: Tensor, pages: Tensor, weights: Tensor, page_table: Tensor, max_model_len: int, out_stride: int, fmt: PageFormat,
    *, programs: int, clean: bool,
) -> Launch:  # fmt: skip
    """Make ready to score pages, arguments being what `tuning.logits_on_sm90` takes.

    Descriptors are for q as `[batch * next_n * heads, dim]`, weights `[batch, next_n * heads]`, keys and scales, as
    `logits_tensors` gives them; plain are context_lens, page_table and out.
    """
    batch, next_n, heads, dim = q.shape
    columns, block = next_n * heads, fmt.page_size
    described = logits_tensors(q, pages, weights, fmt)
    count, page_bytes = pages.shape[0], pages.stride(0)
    if fmt.order == "tiles":
        # By 16 dims, then by 16 tokens.
        shape, strides = [count, dim // 16, block // 16, 256], [page_bytes, 256, 16 * dim, 1]
        keys = _descriptor(described[2], shape, strides, [1, *shape[1:]], swizzle=0)
    else:
        keys = _descriptor(described[2], [count, block, dim], [page_bytes, dim, 1], [1, block, dim], swizzle=128)
    descriptors = (
        _descriptor(described[0], [batch * columns, dim], [dim, 1], [columns, dim], swizzle=128),
        _descriptor(described[1], [batch, columns], [columns, 1], [1, columns], swizzle=0),
        keys,
        _descriptor(described[3], [count, block], [page_bytes // 4, 1], [1, block], swizzle=0),
    )
    constants = _LOGITS | {
        "ROWS": next_n,
        "HEADS": heads,
        "DIM": dim,
        "BLOCK": block,
        # One a thread at least: sums over fewer differ from thread to thread as the compiler sees it, and spill.
        "BATCH": max(128, triton.next_power_of_2(batch)),
        "STAGES": _PAGES,
        "LEVELS": _levels(heads),
        "TILES": fmt.order == "tiles",
        "CLEAN": clean,
        "FILL": _FILL,
        "PROGRAMS": programs,
    }
    capacity = min(max_model_len, page_table.shape[1] * block)
    scalars = (batch, max_model_len, capacity, page_table.stride(0), out_stride)
    return Launch(logits_kernel, programs, descriptors, constants, scalars)


def logits_tensors(q: Tensor, pages: Tensor, weights: Tensor, fmt: PageFormat) -> tuple[Tensor, ...]:
    """The tensors that the descriptors of `plan_logits` are for."""
    scales = pages[:, fmt.page_size * fmt.head_dim :]
    return q, weights, pages.view(torch.float8_e4m3fn), scales.view(torch.float32)


def plan_ragged(
    q: Tensor, keys: Tensor, scales: Tensor, weights: Tensor, out_stride: int, *, programs: int, clean: bool
) -> Launch:
    """Make ready to score keys, arguments being what `tuning.ragged_on_sm90` takes.

    Descriptors are for q, weights, keys (as fp8) and scales; plain are starts, ends and out.
    """
    tokens, heads, dim = q.shape
    total = keys.shape[0]
    rows = _GROUP_COLUMNS // heads
    groups = triton.cdiv(tokens, 2 * rows)
    chunk = ragged_chunk(groups, total, programs)
    descriptors = (
        _descriptor(q, [tokens * heads, dim], [dim, 1], [_GROUP_COLUMNS, dim], swizzle=128),
        _descriptor(weights, [tokens * heads], [1], [_GROUP_COLUMNS], swizzle=0),
        _descriptor(keys, [total, dim], [dim, 1], [64, dim], swizzle=128),
        _descriptor(scales, [total], [1], [64], swizzle=0),
    )
    constants = _RAGGED | {
        "ROWS": rows,
        "HEADS": heads,
        "DIM": dim,
        "BLOCK": 64,
        "CHUNK": chunk,
        "STAGES": _BLOCKS,
        "LEVELS": _levels(heads),
        "CLEAN": clean,
        "FILL": _FILL,
        "PROGRAMS": programs,
    }
    scalars = (tokens, total, out_stride, groups, groups * triton.cdiv(total, chunk))
    return Launch(ragged_kernel, programs, descriptors, constants, scalars)


def ragged_chunk(groups: int, total: int, programs: int) -> int:
    """Keys a chunk: many enough that a piece's start costs little, few enough that the last pieces end together.

    On an H100, 8,192 x 8,192 with 32 heads: 323 us in chunks of 1,024, 350 us of 2,048, 341 us of 512.
    """
    chunk = 1024 if total <= 16384 else 2048
    while chunk > 256 and groups * triton.cdiv(total, chunk) < 2 * programs:
        chunk //= 2
    return chunk


def _levels(heads: int) -> int:
    # Halvings of the heads down to the eight that lie side by side.
    return heads.bit_length() - 4


def _descriptor(tensor: Tensor, shape: list[int], strides: list[int], block: list[int], *, swizzle: int) -> Any:
    # A template: the tensor itself is not kept alive.
    layout = gl.NVMMASharedLayout(swizzle, 8 * tensor.element_size(), len(shape))
    descriptor = TensorDescriptor(tensor, shape, strides, block, layout)
    descriptor.base = None
    return descriptor


def _described(template: Any, tensor: Tensor) -> Any:
    # Its constructor checks for 10 us what was checked.
    descriptor = copy.copy(template)
    descriptor.base = tensor
    return descriptor
