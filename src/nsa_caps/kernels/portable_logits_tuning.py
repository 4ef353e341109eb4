"""How the portable logits kernel is launched on each GPU, and which of them multiply fp8 matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import triton
from packaging.version import Version

if TYPE_CHECKING:
    from nsa_caps.pages import Dialect, PageFormat

__all__ = ["FP8_DOTS", "Tuning", "has_fp8_dot", "tuning_for"]

# The oldest Triton that compiles this kernel's fp8 product to fp8 instructions, by architecture and dialect: what
# `python benchmarks/logits_targets.py --fp8` found with Triton 3.3.1, 3.4.0, 3.5.1, 3.6.0, 3.7.0 and 3.8.0. What is not
# here does not compile, or the compiler widens fp8 itself.
FP8_DOTS: dict[str, dict[Dialect, str]] = {
    "gfx942": {"e4m3fnuz": "3.3"},
    "gfx950": {"e4m3fn": "3.3"},
    "gfx1200": {"e4m3fn": "3.4"},
    "gfx1201": {"e4m3fn": "3.4"},
    "gfx1250": {"e4m3fn": "3.7"},
    "sm_89": {"e4m3fn": "3.3"},
    "sm_90": {"e4m3fn": "3.3"},
    "sm_100": {"e4m3fn": "3.3"},
    "sm_103": {"e4m3fn": "3.6"},
    "sm_120": {"e4m3fn": "3.5"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """One way to launch the kernel.

    Attributes:
        programs: programs in the grid: as many as the GPU holds at once.
        fp8_dot: multiply fp8 matrices; else fp16 ones, which costs a conversion in the kernel.
        block: tokens a step, a multiple of 16.
        least: steps that a program takes at least, so that its start is worth it.
        stages: steps whose loads are under way at once.
        warps: warps a program.
        registers: limit a thread, or None for the compiler's choice; CUDA only.
    """

    programs: int
    fp8_dot: bool
    block: int = 64
    least: int = 4
    stages: int = 3
    warps: int = 4
    registers: int | None = None

    def launch_options(self) -> dict[str, int]:
        """What Triton's launcher is told beside the kernel's arguments."""
        options = {"num_warps": self.warps, "num_stages": self.stages}
        return options if self.registers is None else options | {"maxnreg": self.registers}


# Programs a multiprocessor and registers a thread, by the most columns (queries x heads) of the product that they are
# for. sm_90: swept on an H200 with Triton 3.6 over 2 to 8 programs and 2 to 8 stages, pages of 64, as
# benchmarks/gpu_logits.py times. The registers are what lets so many programs in: with more than fit, 16 x 131,072
# takes 93 us instead of 74 us. Two stages take 78 us, six 78 us, eight 79 us.
_RESIDENTS: dict[str, tuple[tuple[int, int, int], ...]] = {"sm_90": ((64, 5, 96), (128, 4, 128))}


def has_fp8_dot(arch: str, dialect: Dialect, triton_version: str = triton.__version__) -> bool:
    """Whether this Triton compiles an fp8 matrix product in this dialect to instructions of this GPU."""
    since = FP8_DOTS.get(arch, {}).get(dialect)
    return since is not None and Version(Version(triton_version).base_version) >= Version(since)


def tuning_for(device: torch.device, fmt: PageFormat, columns: int) -> Tuning:
    """The entry for a device, a format, and this many columns (queries x heads) of the matrix product.

    What was not measured gets four programs a unit, or two where the columns fill the registers. Not measured are all
    AMD GPUs; they get two stages, Triton's default there.
    """
    if device.type == "cpu":
        return Tuning(programs=8, fp8_dot=True)
    arch, units = _arch_and_units(device)
    fp8_dot = has_fp8_dot(arch, fmt.dialect)
    for most, residents, registers in _RESIDENTS.get(arch, ()):
        if columns <= most:
            return Tuning(programs=residents * units, fp8_dot=fp8_dot, registers=registers)
    return Tuning(
        programs=(2 if columns > 128 else 4) * units, fp8_dot=fp8_dot, stages=3 if arch.startswith("sm_") else 2
    )


@cache
def _arch_and_units(device: torch.device) -> tuple[str, int]:
    # Architecture, and multiprocessors or compute units.
    properties: Any = torch.get_device_module(device).get_device_properties(device)
    if torch.version.hip:
        return properties.gcnArchName.partition(":")[0], properties.multi_processor_count
    return f"sm_{properties.major}{properties.minor}", properties.multi_processor_count
