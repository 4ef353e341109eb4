"""What is known of each GPU architecture: one record each, and where it is from.

A GPU that is not here is not known: no row of kernels is promised for it. To add one, add its record; every rule on
architectures reads this table. Versions of Triton are the lowest that compiled, each tried with real wheels.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ARCHS", "CARDS", "Arch", "Dialect", "Vendor", "compute_capability", "dialect_of", "is_arch"]

Dialect = Literal["e4m3fn", "e4m3fnuz"]
Vendor = Literal["amd", "hygon", "nvidia"]

# Hardware without fp8 matrix products multiplies in fp16: slower, and equal in what it chooses.
_COMPILED = "compiled: tests/kernels"
_MEASURED = "compiled: tests/kernels; aiter's kernels: tests/real_aiter/compiles.json"
_RUN = "run on H100 and H200: docs/performance.md"
_TRITON = "Triton compiles for sm_80 and later"


class Arch(NamedTuple):
    """One GPU architecture.

    Attributes:
        name: as the driver has it, such as `gfx942` or `sm_90`.
        vendor: who makes it; Hygon's DCU is a HIP build of torch and not AMD.
        source: where the record is from: what was compiled, run or measured.
        dialect: the fp8 dialect of its index keys.
        triton: the lowest Triton that compiles every kernel of this library that it is asked for there, with the
            `ptxas` that it brings: `tests/kernels/floors.json`; None: with none.
        ptxas: the oldest release of CUDA whose `ptxas` knows it, as the files in Triton's wheels name it.
        triton_with_ptxas: the lowest Triton that does so with a newer `ptxas` than it brings.
        fp8_product: the lowest Triton that multiplies fp8 matrices by instructions of its own; None: none does.
        fp8_type: Triton has an fp8 type there, as aiter's kernels need.
        plain: the lowest Triton that aiter's plain kernel compiles with; None: not known to compile.
        plain_failed_below: below that it was seen to fail; otherwise it was not tried.
        gluon: the lowest Triton that aiter's gluon kernels compile with, beyond what aiter's own gate asks for.
        mfma: the version of its matrix instructions, which aiter's gluon kernels are written for.
        deep_gemm: the part of DeepGEMM's file names for it, such as `sm90`; None: DeepGEMM has no kernel for it.
        tested: the test suite compiles for it.
        shown: `nsa-caps matrix` has a column for it.
    """

    name: str
    vendor: Vendor
    source: str
    dialect: Dialect = "e4m3fn"
    triton: str | None = None
    ptxas: str | None = None
    triton_with_ptxas: str | None = None
    fp8_product: str | None = None
    fp8_type: bool = True
    plain: str | None = None
    plain_failed_below: bool = True
    gluon: str | None = None
    mfma: str | None = None
    deep_gemm: str | None = None
    tested: bool = False
    shown: bool = False

    @property
    def platform(self) -> Literal["cuda", "rocm"]:
        """What torch is built for on it."""
        return "cuda" if self.vendor == "nvidia" else "rocm"


_ALL = (
    Arch("gfx908", "amd", "no fp8 type in Triton", fp8_type=False),
    Arch("gfx90a", "amd", _COMPILED, triton="3.3.0", fp8_type=False, tested=True, shown=True),
    Arch("gfx940", "amd", "the ISA is gfx942's; not compiled for", dialect="e4m3fnuz"),
    Arch("gfx941", "amd", "the ISA is gfx942's; not compiled for", dialect="e4m3fnuz"),
    Arch("gfx942", "amd", _MEASURED, dialect="e4m3fnuz", triton="3.3.0", fp8_product="3.3.0", plain="3.2.0",
        plain_failed_below=False, mfma="3", tested=True, shown=True),
    Arch("gfx950", "amd", _MEASURED, triton="3.3.0", fp8_product="3.3.0", plain="3.3.0", mfma="4",
        tested=True, shown=True),
    Arch("gfx1100", "amd", _MEASURED, triton="3.3.0", plain="3.5.0", tested=True),
    Arch("gfx1101", "amd", _MEASURED, triton="3.3.0", plain="3.6.0", plain_failed_below=False),
    Arch("gfx1102", "amd", _MEASURED, triton="3.3.0", plain="3.6.0", plain_failed_below=False),
    Arch("gfx1103", "amd", _COMPILED, triton="3.3.0"),
    Arch("gfx1150", "amd", _COMPILED, triton="3.3.0"),
    Arch("gfx1151", "amd", _MEASURED, triton="3.3.0", plain="3.5.0", tested=True, shown=True),
    Arch("gfx1152", "amd", _COMPILED, triton="3.3.0"),
    Arch("gfx1153", "amd", _COMPILED, triton="3.3.0"),
    Arch("gfx1200", "amd", _MEASURED, triton="3.3.0", fp8_product="3.4.0", plain="3.4.0", tested=True),
    Arch("gfx1201", "amd", _MEASURED, triton="3.3.0", fp8_product="3.4.0", plain="3.6.0", plain_failed_below=False),
    Arch("gfx1250", "amd", _MEASURED, triton="3.6.0", fp8_product="3.7.0", gluon="3.7.0", tested=True, shown=True),
    Arch("gfx928", "hygon", "Hygon's DCU: no Triton of its own here", fp8_type=False),
    Arch("gfx936", "hygon", "Hygon's DCU: no Triton of its own here", fp8_type=False),
    Arch("gfx938", "hygon", "Hygon's DCU: no Triton of its own here", fp8_type=False),
    Arch("sm_70", "nvidia", _TRITON),
    Arch("sm_75", "nvidia", _TRITON),
    Arch("sm_80", "nvidia", _COMPILED, triton="3.3.0", ptxas="11.0", tested=True, shown=True),
    Arch("sm_86", "nvidia", _COMPILED, triton="3.3.0", ptxas="11.1"),
    Arch("sm_87", "nvidia", _COMPILED, triton="3.3.0", ptxas="11.4"),
    Arch("sm_89", "nvidia", _COMPILED, triton="3.3.0", ptxas="11.8", fp8_product="3.3.0", tested=True),
    Arch("sm_90", "nvidia", _RUN, triton="3.3.0", ptxas="12.0", fp8_product="3.3.0", deep_gemm="sm90", tested=True,
        shown=True),
    Arch("sm_100", "nvidia", _COMPILED, triton="3.3.0", ptxas="12.8", fp8_product="3.3.0", deep_gemm="sm100",
        tested=True,
        shown=True),
    Arch("sm_103", "nvidia", _COMPILED, triton="3.6.0", ptxas="12.9", triton_with_ptxas="3.4.0", fp8_product="3.6.0",
        deep_gemm="sm100", tested=True),
    Arch("sm_107", "nvidia", _COMPILED, triton="3.9.0", ptxas="13.4", triton_with_ptxas="3.8.0", fp8_product="3.9.0"),
    # sm_101 until CUDA 13: that name compiles with Triton 3.3.1 to 3.6.0, and with none since.
    Arch("sm_110", "nvidia", _COMPILED, triton="3.7.1", ptxas="13.0", triton_with_ptxas="3.5.0", fp8_product="3.7.1",
        tested=True),
    Arch("sm_120", "nvidia", _COMPILED, triton="3.3.0", ptxas="12.8", fp8_product="3.5.0", deep_gemm="sm120",
        shown=True, tested=True),
    Arch("sm_121", "nvidia", _COMPILED, triton="3.6.0", ptxas="12.9", triton_with_ptxas="3.4.0", fp8_product="3.8.0",
        tested=True),
)  # fmt: skip

ARCHS: Mapping[str, Arch] = MappingProxyType({arch.name: arch for arch in _ALL})
"""Every architecture that anything is known of, by name."""


def dialect_of(arch: str) -> Dialect:
    """Return the fp8 dialect of a GPU's keys: one that is not known is of a later family than gfx94x, e4m3fn."""
    known = ARCHS.get(arch)
    return "e4m3fn" if known is None else known.dialect


CARDS: Mapping[str, str] = MappingProxyType(
    {
        "MI100": "gfx908", "MI210": "gfx90a", "MI250": "gfx90a", "MI250X": "gfx90a", "MI300A": "gfx942",
        "MI300X": "gfx942", "MI308X": "gfx942", "MI325X": "gfx942", "MI350X": "gfx950", "MI355X": "gfx950",
        "RX 7900 XTX": "gfx1100", "RX 7800 XT": "gfx1101", "RX 7600": "gfx1102", "Radeon 780M": "gfx1103",
        "Radeon 890M": "gfx1150", "Strix Halo": "gfx1151", "RX 9060 XT": "gfx1200", "RX 9070 XT": "gfx1201",
        "V100": "sm_70", "T4": "sm_75", "A100": "sm_80", "A800": "sm_80", "A10": "sm_86", "A40": "sm_86",
        "RTX 3090": "sm_86", "Jetson Orin": "sm_87", "L4": "sm_89", "L40S": "sm_89", "RTX 4090": "sm_89",
        "H20": "sm_90", "H100": "sm_90", "H200": "sm_90", "GH200": "sm_90", "B200": "sm_100", "GB200": "sm_100",
        "B300": "sm_103", "GB300": "sm_103", "Jetson Thor": "sm_110", "RTX PRO 6000": "sm_120",
        "RTX 5090": "sm_120", "DGX Spark": "sm_121",
    }
)  # fmt: skip
"""The architecture of cards that people know by another name; from the vendors' own tables, for hints and the docs."""

_NAME = re.compile(r"gfx[0-9a-f]{3,}|sm_\d{2,3}", re.ASCII)


def is_arch(text: str) -> bool:
    """Return whether a text has the form of an arch's name: `gfx942`, `sm_90`."""
    return _NAME.fullmatch(text) is not None


def compute_capability(arch: str) -> int | None:
    """Return 90 for sm_90, None for what is none of NVIDIA's."""
    return int(arch[3:]) if arch.startswith("sm_") and is_arch(arch) else None
