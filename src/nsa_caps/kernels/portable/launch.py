"""What every launch of the portable kernels shares: whether it can run, where, and what an earlier call has settled."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import triton
from packaging.version import Version

from nsa_caps.kernels.arguments import KernelArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = [
    "RUN_ON_A_GPU",
    "Launch",
    "Plans",
    "arch_and_units",
    "check_can_run",
    "check_head_dim",
    "current_device",
    "launches_directly",
    "signature",
]

_Plan = TypeVar("_Plan")
_NOTHING = nullcontext()
# The releases of Triton with which kernels in Gluon, and launches without Triton's front, were run on an H100 or H200,
# bit for bit right: both interfaces change, so that a release which was not run is not taken.
RUN_ON_A_GPU = ((3, 6), (3, 7), (3, 8), (3, 9))
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
    module = _device_module(device.type)
    if module is None or module.current_device() == device.index:
        return _NOTHING
    context: AbstractContextManager[Any] = module.device(device)
    return context


@cache
def _device_module(kind: str) -> Any:
    return None if kind == "cpu" else torch.get_device_module(kind)


@cache
def launches_directly(triton_version: str = triton.__version__) -> bool:
    """Whether what this Triton has compiled was launched without its front on a GPU, so that it may be."""
    return torch.version.hip is None and Version(triton_version).release[:2] in RUN_ON_A_GPU


class Launch:
    """A launch on arguments that look alike from call to call.

    Triton's front finds out in every call what the arguments are, which takes the host 10 us and more. What the first
    launch compiled is kept and launched directly, as Triton's tutorials do.

    Attributes:
        kernel: what is launched.
        constants: its constants, and the options of the launch.
    """

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        scalars: tuple[int, ...],
        constants: dict[str, Any],
        device: torch.device,
    ) -> None:
        """Compile nothing yet.

        Args:
            kernel: what Triton made of a function: its arguments are tensors, then scalars, then constants.
            grid: programs along each axis.
            scalars: the whole numbers behind the tensors.
            constants: the other arguments by name, and the options of the launch.
            device: where the tensors are.
        """
        self.kernel = kernel
        self._grid = (*grid, 1, 1)[:3]
        self._scalars = scalars
        self.constants = constants
        self._device = device
        self._direct: Callable[..., object] | None = None
        self._rest: tuple[object, ...] = ()

    def __call__(self, *given: Any) -> None:
        """Launch on tensors, of which fp8 ones are bytes to the kernel, and descriptors."""
        with current_device(self._device):
            if self._direct is not None:
                # Asked for their address only.
                self._direct(*given, *self._rest)
                return
            compiled = self.kernel[self._grid](*map(_as_bytes, given), *self._scalars, **self.constants)
            if self._device.type == "cuda" and launches_directly():
                named = [self.constants[name] for name in self.kernel.arg_names if name in self.constants]
                self._rest = (*self._scalars, *named)
                self._direct = compiled[self._grid]


def _as_bytes(argument: Any) -> Any:
    is_fp8 = isinstance(argument, torch.Tensor) and argument.element_size() == 1
    return argument.view(torch.uint8) if is_fp8 else argument


@cache
def arch_and_units(device: torch.device) -> tuple[str, int]:
    """A GPU's architecture, and its multiprocessors or compute units."""
    properties: Any = torch.get_device_module(device).get_device_properties(device)
    if torch.version.hip:
        return properties.gcnArchName.partition(":")[0], properties.multi_processor_count
    return f"sm_{properties.major}{properties.minor}", properties.multi_processor_count
