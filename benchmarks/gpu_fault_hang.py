"""Kernels whose gather never ends: a real hang on the GPU. For `gpu_proof.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from nsa_caps.kernels.portable.store_gather import quantise_and_store, store

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gather", "quantise_and_store", "store"]


@triton.jit
def _wait(flag):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 Triton takes annotations for its own
    while tl.load(flag, volatile=True) == 0:
        pass


def gather(cache: Tensor, *_: Any, **__: Any) -> None:
    """Wait for a flag that nobody sets."""
    _wait[(1,)](torch.zeros(1, dtype=torch.int32, device=cache.device))
