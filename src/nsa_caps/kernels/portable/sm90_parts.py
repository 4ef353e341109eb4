"""What both kernels for Hopper share, in Gluon, and the names that Gluon has changed between Triton 3.6 and 3.9."""

# Triton reads the annotations of kernel arguments, and has none for pointers; what they are stands beside them.
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803, N806, SLF001
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma
from triton.runtime.jit import constexpr_function

__all__ = ["bring", "reinterpreted", "weighted_sum", "weights_layout"]

# Asks the copy engine for a block; renamed in Triton 3.9.
bring = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
_PUBLIC_REINTERPRET = gl.constexpr(hasattr(gl.shared_memory_descriptor, "reinterpret"))


@gluon.jit
def reinterpreted(shared, dtype: gl.constexpr, shape: gl.constexpr, layout: gl.constexpr):
    if _PUBLIC_REINTERPRET:
        view = shared.reinterpret(dtype, shape, layout)
    else:
        view = shared._reinterpret(dtype, shape, layout)
    return view


@constexpr_function
def weights_layout(sets, abreast, eights, near):
    """Weights `[sets, abreast, eights, near]` as four warps hold them for a product whose columns are their heads.

    Of eight columns, which are `near` heads of each of `abreast` queries, a thread holds two.
    """
    shape = [sets, abreast, eights, near]
    # By axis: the bits of its index, as bases of the layout.
    bits = [
        [[(1 << i) * (j == axis) for j in range(4)] for i in range(size.bit_length() - 1)]
        for axis, size in enumerate(shape)
    ]
    eight = bits[3] + bits[1]
    none = [0, 0, 0, 0]
    return gl.DistributedLinearLayout(
        eight[:1] + bits[2] + bits[0], [*eight[1:], none, none, none], [none, none], [], shape
    )


@gluon.jit
def _add_up(total, dots, weight, LEVELS: gl.constexpr, FIRST: gl.constexpr, BLOCK: gl.constexpr, ROWS: gl.constexpr):
    if LEVELS == 0:
        dot = gl.reshape(dots, [BLOCK, ROWS, 8])
        term = (dot + gl.abs(dot)) * gl.reshape(weight, [BLOCK, ROWS, 8])
        total = term if FIRST else total + term
    else:
        halves: gl.constexpr = [BLOCK, ROWS, 8, 2 ** (LEVELS - 1), 2]
        dots_0, dots_1 = gl.split(gl.reshape(dots, halves))
        weight_0, weight_1 = gl.split(gl.reshape(weight, halves))
        total = _add_up(total, dots_0, weight_0, LEVELS - 1, FIRST, BLOCK, ROWS)
        total = _add_up(total, dots_1, weight_1, LEVELS - 1, False, BLOCK, ROWS)
    return total


@gluon.jit
def weighted_sum(dots, weight, BLOCK: gl.constexpr, ROWS: gl.constexpr, LEVELS: gl.constexpr, NEAR: gl.constexpr):
    # Sums [BLOCK, columns] over the heads of each of ROWS queries, by half the weights; why so, `operands.weighted_sum`
    # says. Eight columns that lie side by side, two in each of four threads, are NEAR heads of each of 8 // NEAR
    # queries; there are 2 ** LEVELS such eights of every query. The fewer are near, the less threads must exchange.
    SETS: gl.constexpr = ROWS * NEAR // 8
    parts: gl.constexpr = [BLOCK, SETS, 2**LEVELS, 8]
    dots = gl.permute(gl.reshape(dots, parts), (0, 1, 3, 2))
    weight = gl.permute(gl.reshape(weight, parts), (0, 1, 3, 2))
    eight = gl.reshape(_add_up(0.0, dots, weight, LEVELS, True, BLOCK, SETS), [BLOCK, ROWS, NEAR])
    return gl.sum(eight, 2)
