"""Kernels whose gather writes beyond all memory: a real illegal access on the GPU. For `gpu_proof.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from nsa_caps.kernels.portable.store_gather import quantise_and_store, store

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gather", "quantise_and_store", "store"]


@triton.jit
def _write_beyond(cache):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 Triton takes annotations for its own
    tl.store(cache + (1 << 44), 1)


def gather(cache: Tensor, *_: Any, **__: Any) -> None:
    """Write 16 TiB further."""
    _write_beyond[(1,)](cache)
