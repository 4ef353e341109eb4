"""How the portable logits kernels are launched on each GPU, and which of them multiply fp8 matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import triton
from packaging.version import Version

from nsa_caps.archs import ARCHS
from nsa_caps.kernels.portable.launch import RUN_ON_A_GPU, arch_and_units

if TYPE_CHECKING:
    import torch

    from nsa_caps.archs import Dialect
    from nsa_caps.pages import PageFormat

__all__ = ["Tuning", "has_fp8_dot", "logits_on_sm90", "ragged_on_sm90", "runs_on_sm90", "tuning_for", "tuning_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """One way to launch the kernels.

    Attributes:
        programs: programs in the grid of the paged kernel: as many as the GPU holds at once.
        fp8_dot: multiply fp8 matrices; else fp16 ones, which costs a conversion in the kernel.
        block: tokens a step, a multiple of 16.
        least: steps that a program of the paged kernel takes at least, so that its start is worth it.
        stages: steps whose loads are under way at once.
        warps: warps a program.
        registers: limit a thread, or None for the compiler's choice; CUDA only.
        lanes: heads that lie side by side in different threads, or 0 if that is not known: the others are then summed
            as the compiler likes.
    """

    programs: int
    fp8_dot: bool
    block: int = 64
    least: int = 4
    stages: int = 3
    warps: int = 4
    registers: int | None = None
    lanes: int = 0

    def sum_arguments(self, columns: int) -> dict[str, int]:
        """How `operands.weighted_sum` adds up so many columns of a row."""
        levels = (columns // self.lanes).bit_length() - 1 if self.lanes else 0
        return {"LANES": self.lanes, "LEVELS": levels}

    def launch_options(self) -> dict[str, int]:
        """What Triton's launcher is told beside the kernel's arguments."""
        options: dict[str, int] = {"num_warps": self.warps, "num_stages": self.stages}
        if self.registers is not None:
            options["maxnreg"] = self.registers
        return options


# Programs a multiprocessor and registers a thread, by the most columns (queries x heads) of the product that they are
# for. sm_90: swept on an H200 with Triton 3.6 over 2 to 8 programs and 2 to 8 stages, pages of 64, as
# benchmarks/gpu_logits.py times. The registers are what lets so many programs in: with more than fit, 16 x 131,072
# takes 93 us instead of 74 us. Two stages take 78 us, six 78 us, eight 79 us.
_RESIDENTS: dict[str, tuple[tuple[int, int, int], ...]] = {"sm_90": ((64, 5, 96), (128, 4, 128))}
# Eight neighbouring columns of a product lie in four threads, two in each, on every NVIDIA GPU from sm_80 to sm_90.
_NVIDIA_LANES = 8

# Requests whose lengths the one warp that loads can hold in its registers.
_SM90_BATCH = 256


@cache
def has_fp8_dot(arch: str, dialect: Dialect, triton_version: str = triton.__version__) -> bool:
    """Whether this Triton compiles an fp8 matrix product in this dialect to instructions of this GPU."""
    known = ARCHS.get(arch)
    if known is None or known.fp8_product is None or known.dialect != dialect:
        return False
    return Version(Version(triton_version).base_version) >= Version(known.fp8_product)


@cache
def runs_on_sm90(arch: str, triton_version: str = triton.__version__) -> bool:
    """Whether the kernels in Gluon were run on this GPU with this Triton, so that they may be used there."""
    return arch == "sm_90" and Version(triton_version).release[:2] in RUN_ON_A_GPU


def logits_on_sm90(fmt: PageFormat, batch: int, next_n: int, heads: int, page_stride: int, row_stride: int) -> bool:
    """Whether `logits_sm90_kernel` takes such a batch, pages `page_stride` bytes and scores `row_stride` apart.

    It is the faster one wherever it fits: on an H100 0.97 to 1.00 of DeepGEMM's time, the general one 0.98 to 1.17.
    """
    return (
        # The shapes that were run with every release in `RUN_ON_A_GPU`.
        next_n in (1, 2)
        and heads in (32, 64)
        and batch <= _SM90_BATCH
        and (fmt.page_size, fmt.head_dim, fmt.dialect) == (64, 128, "e4m3fn")
        and fmt.scale_format != "ue8m0_packed"
        # Offsets within a request's rows have 32 bits.
        and next_n * row_stride < 2**31
        # What the copy engine asks for.
        and page_stride % 16 == 0
    )


def ragged_on_sm90(fmt: PageFormat, heads: int, row_stride: int) -> bool:
    """Whether `ragged_sm90_kernel` takes such queries, scores `row_stride` apart."""
    # Offsets within the rows that a group of warps scores have 32 bits.
    return heads in (32, 64, 128) and (fmt.head_dim, fmt.dialect) == (128, "e4m3fn") and 8 * row_stride < 2**31


@cache
def tuning_for(device: torch.device, dialect: Dialect, columns: int) -> Tuning:
    """The entry for a device, a dialect, and this many columns (queries x heads) of the matrix product."""
    if device.type == "cpu":
        # Triton's interpreter takes codes of NaN for numbers where it multiplies fp8 matrices.
        return Tuning(programs=8, fp8_dot=False, lanes=_NVIDIA_LANES)
    return tuning_of(*arch_and_units(device), dialect, columns)


def tuning_of(arch: str, units: int, dialect: Dialect, columns: int) -> Tuning:
    """The entry for an architecture with so many multiprocessors or compute units.

    What was not measured gets four programs a unit, or two where the columns fill the registers. Not measured are all
    AMD GPUs; they get two stages, Triton's default there, and what keeps registers from being spilled
    (`benchmarks/amd_code.py`).
    """
    fp8_dot = has_fp8_dot(arch, dialect)
    nvidia = arch.startswith("sm_")
    lanes = _NVIDIA_LANES if nvidia else 0
    for most, residents, registers in _RESIDENTS.get(arch, ()):
        # Conversions to fp16 need registers of their own.
        if fp8_dot and columns <= most:
            return Tuning(programs=residents * units, fp8_dot=fp8_dot, registers=registers, lanes=lanes)
    programs = (2 if columns > 128 else 4) * units
    if nvidia:
        return Tuning(programs=programs, fp8_dot=fp8_dot, lanes=lanes)
    # RDNA 3 converts to fp16 in 256 registers a thread: some are spilled with 64 tokens, or with 32 and two stages.
    block, warps, stages = (32, 8, 1) if arch.startswith("gfx11") else (64, 4, 2)
    return Tuning(programs=programs, fp8_dot=fp8_dot, stages=stages, block=block, warps=warps)
