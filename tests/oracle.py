"""What a machine should be told, written a second time: naively, from the field's facts, apart from the policy.

It follows the numbered rule for aiter's gates (first hit wins) as running them showed it, and imports nothing of
`nsa_caps`. A generation of aiter is named by the commit that began it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = ("aiter-preshuffle", "aiter-flat", "aiter-token", "deepgemm", "portable", "reference")
TILED = ("aiter-preshuffle",)
"""Rows whose pages are of tiles."""

GENERATIONS = (
    "d36601a9",
    "fe927e8d",
    "914dcee3",
    "a8eb62f5",
    "10c87ea1",
    "a1bdcec9",
    "a6bb4993",
    "f061fba9",
    "3b2e6f48",
    "861b4c93",
    "04907edc",
)

BASE_ARCHS = {"gfx90a", "gfx908", "gfx940", "gfx941", "gfx942", "gfx945", "gfx1100", "gfx950"}
RDNA_ARCHS = {"gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152", "gfx1153", "gfx1200", "gfx1201"}
HYGON_ARCHS = {"gfx928", "gfx936", "gfx938"}
NO_FP8_ARCHS = {"gfx908", "gfx90a"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides. `archs`: None is not known; `triton`, `aiter`: not installed; `bundle`: see `aot_kernel_fits`."""

    platform: str
    archs: tuple[str, ...] | None = ()
    triton: str | None = None
    aiter: str | None = None
    bundle: str = "absent"
    environ: Mapping[str, str] = field(default_factory=dict)
    engine: str = "sglang"
    page_size: int | None = None
    deep_gemm: bool = False
    rocminfo_arch: str | None = None
    torch: bool = True


def since(machine: Machine, commit: str) -> bool:
    """Whether the machine's aiter is of this generation or a later one."""
    return GENERATIONS.index(str(machine.aiter)) >= GENERATIONS.index(commit)


def expected_rows(machine: Machine) -> tuple[str, ...]:
    """The rows that are met, best first."""
    met = {
        "aiter-preshuffle": preshuffle_runs(machine),
        "aiter-flat": flat_runs(machine),
        "aiter-token": token_runs(machine),
        "deepgemm": deepgemm_runs(machine),
        "portable": portable_runs(machine),
        "reference": machine.torch and one_dialect(machine),
    }
    return tuple(row for row in ROWS if met[row])


def one_dialect(machine: Machine) -> bool:
    """Whether all GPUs read the same fp8 bits alike: gfx94x has a dialect of its own."""
    if machine.platform not in ("rocm", "unknown"):
        return True
    return machine.archs is not None and len({arch.startswith("gfx94") for arch in machine.archs}) < 2


def sees(machine: Machine) -> bool:
    """Whether torch is built for the GPUs that are there: CUDA's sees no gfx, ROCm's no sm_."""
    return all(arch.startswith("sm_") is (machine.platform == "cuda") for arch in machine.archs or ())


# --- switches, each by its consumer's grammar


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """Blank counts as unset."""
    return environ.get(name, "").strip() != ""


def aiter_asked_for(machine: Machine) -> bool:
    """Whether the engine takes aiter's fast rows."""
    if is_set(machine.environ, "NSA_CAPS_USE_AITER"):
        return machine.environ["NSA_CAPS_USE_AITER"] == "1"
    name = {"sglang": "SGLANG_USE_AITER", "vllm": "VLLM_ROCM_USE_AITER"}.get(machine.engine, "")
    return machine.environ.get(name, "").lower() in ("true", "1")


def preshuffle_disabled(machine: Machine) -> bool:
    """Whether the tiled layout is off; the new name of SGLang's variable wins over the old."""
    if is_set(machine.environ, "NSA_CAPS_DISABLE_PRESHUFFLE"):
        return machine.environ["NSA_CAPS_DISABLE_PRESHUFFLE"] == "1"
    if machine.engine != "sglang":
        return False
    for name in ("SGLANG_DSA_HIP_DISABLE_PRESHUFFLE", "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE"):
        if is_set(machine.environ, name):
            return machine.environ[name].lower() in ("true", "1", "yes", "y")
    return False


def aot_asked_for(machine: Machine) -> bool:
    """Exactly `1` turns it on."""
    return machine.environ.get("AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS") == "1"


def escape_is_set(machine: Machine) -> bool:
    """`int(value) != 0`; what is no integer is a ValueError, which lets nothing through either."""
    try:
        return int(machine.environ.get("AITER_USE_SYSTEM_TRITON", "0")) != 0
    except ValueError:
        return False


def arch_that_aiter_sees(machine: Machine) -> str:
    """`GPU_ARCHS`, its last entry; unset or `native`: the first that rocminfo prints."""
    named = machine.environ.get("GPU_ARCHS", "native")
    return named.split(";")[-1] if named != "native" else machine.rocminfo_arch or first_arch(machine)


def first_arch(machine: Machine) -> str:
    """Return the first GPU's arch; empty without a GPU."""
    return machine.archs[0] if machine.archs else ""


# --- Triton, as aiter compares it


def triton_version(machine: Machine) -> Version | None:
    """None: a text that aiter's own comparison fails on."""
    try:
        return Version(machine.triton or "")
    except InvalidVersion:
        return None


def triton_is_new(machine: Machine) -> bool:
    """Triton >= 3.5.0: as text in fe927e8d, by base version since 914dcee3."""
    if not since(machine, "914dcee3"):
        return str(machine.triton) >= "3.5.0"
    return base_release(machine) >= Version("3.5.0")


def base_release(machine: Machine) -> Version:
    """3.5.0rc1 and 3.5.0+git count as 3.5.0."""
    return Version(Version(str(machine.triton)).base_version)


def measured_release(machine: Machine) -> Version:
    """What was compiled with is releases: 3.5.0rc1 comes before 3.5.0, and 3.5.0+git does not."""
    return Version(str(machine.triton))


def import_fails(machine: Machine) -> bool:
    """Whether nothing of aiter can be imported."""
    trims = {"AITER_AOT_IMPORT": "a6bb4993", "AITER_TRITON_ONLY": "861b4c93"}
    if any(machine.environ.get(name) == "1" and since(machine, commit) for name, commit in trims.items()):
        return True
    if since(machine, "f061fba9"):
        too_old = Version(str(machine.triton).split("+")[0]) < Version("3.6.0")
        return too_old and not (since(machine, "3b2e6f48") and escape_is_set(machine))
    if machine.aiter == "fe927e8d":
        return not triton_is_new(machine) and not str(machine.triton) < "3.4.0"
    return False


# --- aiter's archs


def known_archs(machine: Machine) -> set[str]:
    """The keys of `GFX_MAP`."""
    known = set(BASE_ARCHS)
    if since(machine, "a8eb62f5"):
        known |= RDNA_ARCHS
    if since(machine, "a1bdcec9"):
        known |= {"gfx1250"}
    return known


def gluon_archs(machine: Machine) -> set[str]:
    """The archs that aiter's gluon kernels take."""
    return {"gfx942", "gfx950", "gfx1250"} if since(machine, "861b4c93") else {"gfx942", "gfx950"}


def gluon_active(machine: Machine, arch: str) -> bool:
    """Whether aiter goes the gluon way."""
    wanted = triton_is_new(machine) or aot_asked_for(machine)
    return wanted and (arch in gluon_archs(machine) or not since(machine, "04907edc"))


def gluon_compiles(machine: Machine, arch: str, *, preshuffle: bool) -> bool:
    """Whether Triton makes code of the kernel that the gates let through."""
    if arch == "gfx942" and machine.aiter == "a8eb62f5":
        return False
    if arch == "gfx950" and not since(machine, "a8eb62f5"):
        return False
    if arch == "gfx1250" and base_release(machine) < Version("3.7"):
        return False
    # Measured: only page 1 fails there; the tiled kernel of a8eb62f5 already knew the new MFMA shape.
    knows_new_mfma = since(machine, "a8eb62f5") if preshuffle else since(machine, "a1bdcec9")
    return knows_new_mfma or base_release(machine) < Version("3.6")


def fp8_archs(machine: Machine) -> set[str]:
    """The archs that aiter has an fp8 type for; elsewhere it views the keys as uint8, and no kernel compiles."""
    known = {"gfx942", "gfx950"}
    if since(machine, "a8eb62f5"):
        known |= {"gfx1250"}
    if since(machine, "861b4c93"):
        known |= {"gfx1200", "gfx1201"}
    if since(machine, "04907edc"):
        known |= {"gfx1100", "gfx1101", "gfx1102", "gfx1151"}
    return known


def plain_compiles(machine: Machine, arch: str) -> bool:
    """Whether aiter's plain Triton kernel was seen to compile for this GPU: what was not is not selected."""
    lowest = {"gfx942": "3.2", "gfx950": "3.3", "gfx1100": "3.5", "gfx1151": "3.5", "gfx1200": "3.4"}
    return arch in fp8_archs(machine) and arch in lowest and measured_release(machine) >= Version(lowest[arch])


def aot_kernel_fits(machine: Machine, *, preshuffle: bool) -> bool:
    """Whether the bundle has this request's kernel, whole, for this GPU.

    Only a bundle that is `complete` does; `partial` lacks files, `other-heads`, `other-arch` and `no-arch` are for
    something else, and `only-token` and `only-preshuffle` have one of the two.
    """
    return machine.bundle in ("complete", "only-preshuffle" if preshuffle else "only-token")


def gluon_runs(machine: Machine, arch: str, *, preshuffle: bool) -> bool:
    """Whether an active gluon kernel gets as far as the GPU."""
    if arch not in gluon_archs(machine):
        return False
    new = triton_is_new(machine)
    if not new and since(machine, "10c87ea1"):
        return False  # NameError
    compiled_in_place = new and (not aot_asked_for(machine) or not since(machine, "914dcee3"))
    if compiled_in_place:
        return gluon_compiles(machine, arch, preshuffle=preshuffle)
    if not aot_kernel_fits(machine, preshuffle=preshuffle):
        return False
    if new:
        # aiter's loader compiles first and then takes the files.
        return gluon_compiles(machine, arch, preshuffle=preshuffle)
    return Version("3.3.0") <= base_release(machine) < Version("3.4.0")


# --- rows


def aiter_usable(machine: Machine) -> bool:
    """Whether anything of aiter can be called on every GPU."""
    if machine.platform != "rocm" or not machine.archs or not sees(machine):
        return False
    if set(machine.archs) & (HYGON_ARCHS | NO_FP8_ARCHS):
        return False
    if machine.aiter not in GENERATIONS or triton_version(machine) is None:
        return False
    if import_fails(machine) or not since(machine, "fe927e8d"):
        return False
    seen = arch_that_aiter_sees(machine)
    return seen in known_archs(machine) and set(machine.archs) == {seen}


def preshuffle_runs(machine: Machine) -> bool:
    """The tiled pages of aiter's gluon kernel."""
    if not aiter_asked_for(machine) or preshuffle_disabled(machine) or not aiter_usable(machine):
        return False
    page, arch = machine.page_size or 64, first_arch(machine)
    fits = page % 16 == 0 and (256 % page == 0 or (page % 256 == 0 and arch != "gfx1250"))
    in_cache_kernels = since(machine, "a6bb4993")
    return fits and in_cache_kernels and gluon_active(machine, arch) and gluon_runs(machine, arch, preshuffle=True)


def flat_runs(machine: Machine) -> bool:
    """The plain kernel of aiter on flat pages."""
    if not aiter_asked_for(machine) or not aiter_usable(machine) or not since(machine, "04907edc"):
        return False
    page, arch = machine.page_size or 64, first_arch(machine)
    if page == 1 or not (256 % page == 0 or page % 256 == 0):
        return False
    return not gluon_active(machine, arch) and plain_compiles(machine, arch)


def token_runs(machine: Machine) -> bool:
    """Pages of one token under aiter."""
    if not aiter_usable(machine) or machine.page_size not in (None, 1):
        return False
    arch = first_arch(machine)
    if gluon_active(machine, arch):
        return gluon_runs(machine, arch, preshuffle=False)
    return plain_compiles(machine, arch)


def deepgemm_runs(machine: Machine) -> bool:
    """DeepGEMM on flat pages of 64."""
    if machine.platform != "cuda" or not machine.deep_gemm or not machine.archs or not sees(machine):
        return False
    takes_all = set(machine.archs) <= {"sm_90", "sm_100", "sm_103", "sm_120"}
    # Its store and gather are Triton's.
    stores = triton_version(machine) is not None and measured_release(machine) >= lowest_triton(machine)
    return takes_all and stores and machine.page_size in (None, 64)


PORTABLE_ARCHS = {"gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1250"} | RDNA_ARCHS
PORTABLE_ARCHS |= {f"sm_{sm}" for sm in (80, 86, 87, 89, 90, 100, 103, 107, 110, 120, 121)}
LATE_ARCHS = {"gfx1250": "3.6", "sm_103": "3.6", "sm_107": "3.9", "sm_110": "3.7.1", "sm_121": "3.6"}


def lowest_triton(machine: Machine) -> Version:
    """The Triton that compiles for every GPU here."""
    return max(Version(LATE_ARCHS.get(arch, "3.3")) for arch in machine.archs or ())


def portable_runs(machine: Machine) -> bool:
    """This library's Triton kernels, on the GPUs that they were compiled for, by a Triton that does so."""
    if machine.platform not in ("rocm", "cuda") or not machine.archs or not one_dialect(machine) or not sees(machine):
        return False
    if not machine.torch or triton_version(machine) is None or measured_release(machine) < lowest_triton(machine):
        return False
    if machine.page_size not in (None, 1, 16, 32, 64, 128, 256):
        return False
    return set(machine.archs) <= PORTABLE_ARCHS
