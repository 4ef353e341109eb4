"""What every launch of the portable kernels shares: whether it can run, where, and what an earlier call has settled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import triton

from nsa_caps.kernels.arguments import KernelArgumentError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["Plans", "arch_and_units", "check_can_run", "check_head_dim", "current_device", "fp8_bytes", "signature"]

_Plan = TypeVar("_Plan")
_NOTHING = nullcontext()
# Shapes change from step to step, so plans are dropped some time; within a step all layers share them.
_MOST_PLANS = 4096


class Plans(Generic[_Plan]):
    """What was checked and decided for calls that look alike; a call that looks like one before skips all of it."""

    def __init__(self) -> None:
        """Know none."""
        self._kept: dict[Hashable, _Plan] = {}

    def get(self, key: Hashable) -> _Plan | None:
        """The plan for a key, or None."""
        return self._kept.get(key)

    def keep(self, key: Hashable, plan: _Plan) -> _Plan:
        """Remember a plan."""
        if len(self._kept) >= _MOST_PLANS:
            self._kept.clear()
        self._kept[key] = plan
        return plan


def signature(*tensors: Tensor | None) -> Hashable:
    """All that checks and launches ask of tensors but their data: what costs 0.5 us each, where checking costs 3.

    What is no tensor is named by its type: no call with it was ever accepted.
    """
    return tuple(
        [
            (tensor.dtype, tensor.shape, tensor.stride(), tensor.device, tensor.data_ptr() & 15)
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and not tensor.is_nested
            else type(tensor)
            for tensor in tensors
        ]
    )


def check_can_run(kernel: object, tensor: Tensor, argument: str) -> None:
    """That there is something to run a Triton kernel on.

    Raises:
        KernelArgumentError: the tensor is on the CPU, and Triton compiles.
    """
    if tensor.is_cpu and isinstance(kernel, triton.JITFunction):
        raise KernelArgumentError(
            argument,
            "a tensor on the CPU",
            "one on a GPU (or the reference kernels, or TRITON_INTERPRET=1 before Triton is imported)",
        )


def check_head_dim(fmt: PageFormat, least: int) -> None:
    """That Triton has vectors, and from 16 on matrix products, of this head dim.

    Raises:
        KernelArgumentError: it has none.
    """
    if fmt.head_dim & (fmt.head_dim - 1) or fmt.head_dim < least:
        raise KernelArgumentError(
            "fmt", f"a head dim of {fmt.head_dim}", f"a power of two of at least {least}, as Triton's vectors have"
        )


def current_device(device: torch.device) -> AbstractContextManager[Any]:
    """Make this device the current one: Triton launches on that, whatever device the tensors are on."""
    if device.type == "cpu":
        return _NOTHING
    module = torch.get_device_module(device)
    if module.current_device() == device.index:
        return _NOTHING
    context: AbstractContextManager[Any] = module.device(device)
    return context


def fp8_bytes(tensor: Tensor) -> Tensor:
    """fp8 numbers as bytes; a view costs a microsecond."""
    return tensor if tensor.dtype == torch.uint8 else tensor.view(torch.uint8)


@cache
def arch_and_units(device: torch.device) -> tuple[str, int]:
    """A GPU's architecture, and its multiprocessors or compute units."""
    properties: Any = torch.get_device_module(device).get_device_properties(device)
    if torch.version.hip:
        return properties.gcnArchName.partition(":")[0], properties.multi_processor_count
    return f"sm_{properties.major}{properties.minor}", properties.multi_processor_count
