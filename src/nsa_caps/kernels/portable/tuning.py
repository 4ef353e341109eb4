"""How the portable logits kernel is launched on each GPU, and which of them multiply fp8 matrices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
import triton
from packaging.version import Version

from nsa_caps.archs import ARCHS

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.archs import Dialect
    from nsa_caps.pages import PageFormat

__all__ = ["Tuning", "fits_hopper", "has_fp8_dot", "hopper_programs", "runs_on_hopper", "tuning_for"]


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
        early: launch while the kernel before ends, and wait for its end in the kernel ("programmatic dependent
            launch"); CUDA only, from sm_90 and Triton 3.4 on.
        release: let a next kernel that is launched early begin as soon as this one has; CUDA only, as ``early``.
    """

    programs: int
    fp8_dot: bool
    block: int = 64
    least: int = 4
    stages: int = 3
    warps: int = 4
    registers: int | None = None
    early: bool = False
    release: bool = False

    def launch_options(self) -> dict[str, int]:
        """What Triton's launcher is told beside the kernel's arguments."""
        options: dict[str, int] = {"num_warps": self.warps, "num_stages": self.stages}
        if self.registers is not None:
            options["maxnreg"] = self.registers
        if self.early:
            options["launch_pdl"] = True
        return options


# Programs a multiprocessor and registers a thread, by the most columns (queries x heads) of the product that they are
# for. sm_90: swept on an H200 with Triton 3.6 over 2 to 8 programs and 2 to 8 stages, pages of 64, as
# benchmarks/gpu_logits.py times. The registers are what lets so many programs in: with more than fit, 16 x 131,072
# takes 93 us instead of 74 us. Two stages take 78 us, six 78 us, eight 79 us. Last, whether the next kernel may begin
# early: 9.2 us instead of 9.4 us at 1 x 131,072 with 128 columns; but with 64, its programs take what the registers of
# these leave and end up unevenly placed, 80 us instead of 73 us.
_RESIDENTS: dict[str, tuple[tuple[int, int, int, bool], ...]] = {"sm_90": ((64, 5, 96, False), (128, 4, 128, True))}


# The Triton that an early launch was run with first, on the GPUs above.
_EARLY_SINCE = (3, 6)
# Where the Hopper kernel is the faster: with this many queries x heads, and from so many pages a multiprocessor on. On
# an H200, us: 64 x 32,768 78.0 against 84.5; 64 x 8,192 23.6 against 24.6; 1 x 131,072 9.7 against 9.2. With 64 columns
# and before either was launched early 75.3 against 74.6.
_HOPPER_COLUMNS, _HOPPER_STEPS = 128, 32
# Requests whose lengths the one warp that loads can hold in its registers.
_HOPPER_BATCH = 256


def has_fp8_dot(arch: str, dialect: Dialect, triton_version: str = triton.__version__) -> bool:
    """Whether this Triton compiles an fp8 matrix product in this dialect to instructions of this GPU."""
    known = ARCHS.get(arch)
    if known is None or known.fp8_product is None or known.dialect != dialect:
        return False
    return Version(Version(triton_version).base_version) >= Version(known.fp8_product)


def runs_on_hopper(arch: str, triton_version: str = triton.__version__) -> bool:
    """Whether ``portable_logits_hopper`` was run on this GPU with this Triton, so that it may be used there.

    Gluon's interface is still moving. The module compiles with 3.7 and 3.8 too; 3.8 spills registers, and neither was
    run on a GPU.
    """
    return arch == "sm_90" and Version(triton_version).release[:2] == (3, 6)


def fits_hopper(
    q: Tensor,
    pages: Tensor,
    weights: Tensor,
    page_table: Tensor,
    max_model_len: int,
    out: Tensor,
    fmt: PageFormat,
    units: int,
) -> bool:
    """Whether ``portable_logits_hopper`` takes these arguments, and is the faster on so many multiprocessors."""
    batch, next_n, heads, dim = q.shape
    steps = batch * min(page_table.shape[1], -(-max_model_len // fmt.page_size))
    return (
        next_n * heads == _HOPPER_COLUMNS
        and heads >= 16
        and batch <= _HOPPER_BATCH
        and steps >= _HOPPER_STEPS * units
        and (fmt.page_size, dim, fmt.dialect) == (64, 128, "e4m3fn")
        and fmt.scale_format != "ue8m0_packed"
        # Offsets within a request's rows have 32 bits.
        and next_n * out.stride(0) < 2**31
        # What the copy engine asks for.
        and pages.stride(0) % 16 == 0
        and all(tensor.data_ptr() % 16 == 0 for tensor in (q, pages, weights))
    )


def hopper_programs(
    q: Tensor, pages: Tensor, weights: Tensor, page_table: Tensor, max_model_len: int, out: Tensor, fmt: PageFormat
) -> int | None:
    """Programs to launch ``portable_logits_hopper`` with, or None where the general kernel is to be used."""
    if q.device.type != "cuda":
        return None
    arch, units = _arch_and_units(q.device)
    if not runs_on_hopper(arch) or not fits_hopper(q, pages, weights, page_table, max_model_len, out, fmt, units):
        return None
    return units


def tuning_for(device: torch.device, fmt: PageFormat, columns: int) -> Tuning:
    """The entry for a device, a format, and this many columns (queries x heads) of the matrix product.

    What was not measured gets four programs a unit, or two where the columns fill the registers. Not measured are all
    AMD GPUs; they get two stages, Triton's default there.
    """
    if device.type == "cpu":
        # Triton's interpreter takes codes of NaN for numbers where it multiplies fp8 matrices.
        return Tuning(programs=8, fp8_dot=False)
    arch, units = _arch_and_units(device)
    fp8_dot = has_fp8_dot(arch, fmt.dialect)
    early = Version(triton.__version__).release >= _EARLY_SINCE
    for most, residents, registers, release in _RESIDENTS.get(arch, ()):
        if columns <= most:
            return Tuning(
                programs=residents * units,
                fp8_dot=fp8_dot,
                registers=registers,
                early=early,
                release=early and release,
            )
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
