"""Machines that there are, by name: what `machine` takes for each."""

from __future__ import annotations

import tempfile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nsa_caps.base.hints import did_you_mean
from nsa_caps.capabilities.records import Capabilities
from nsa_caps.capabilities.system import System, with_system
from nsa_caps.probes.probe import probe
from nsa_caps.testing.machines import MachineError, machine

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["AMISS", "MACHINES", "TITLES", "TOUR", "named_capabilities", "named_machine"]

_ASKED = {"SGLANG_USE_AITER": "1"}
# SGLang's ROCm images set both.
_IMAGE = {**_ASKED, "AITER_USE_SYSTEM_TRITON": "1"}

MACHINES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mi300x_rocm700": {
            "archs": ["gfx942"] * 8, "triton": "3.4.0", "aiter": "a6bb4993", "aiter_version": "0.1.13",
            "environ": _ASKED,
        },
        "mi300x_rocm720": {
            "archs": ["gfx942"] * 8, "triton": "3.5.1+rocm7.2.4.gita272dfa8", "aiter": "3b2e6f48",
            "aiter_version": "0.1.15", "environ": _IMAGE,
        },
        "mi300x_rocm1000": {
            "archs": ["gfx942"] * 8, "triton": "3.8.0+git4cff872c.rocm10.0.0", "aiter": "04907edc",
            # As its setup.py pins it.
            "flydsl": "0.3.1", "environ": _IMAGE,
        },
        "mi355x": {
            "archs": ["gfx950"] * 8, "triton": "3.7.0+amd.rocm7.2.0.git89002410", "aiter": "861b4c93",
            "aiter_version": "0.1.16", "environ": _IMAGE,
        },
        "mi250x": {"archs": ["gfx90a"] * 8, "triton": "3.6.0", "aiter": "04907edc", "environ": _ASKED},
        "strix_halo": {"archs": ["gfx1151"], "triton": "3.7.0"},
        "h200": {"platform": "cuda", "archs": ["sm_90"] * 8, "triton": "3.6.0", "deep_gemm": "2.1.1"},
        "rtx_pro_6000": {"platform": "cuda", "archs": ["sm_120"], "triton": "3.6.0", "deep_gemm": "2.1.1"},
        "a100": {"platform": "cuda", "archs": ["sm_80"] * 8, "triton": "3.6.0", "deep_gemm": "2.1.1"},
        "dcu": {"archs": ["gfx936"] * 8, "triton": "3.6.0"},
        "cpu_only": {"platform": "cpu", "triton": None},
    }
)  # fmt: skip
"""Arguments of `machine`, by name. Those of `mi300x_` are the ROCm 7.0, 7.2 and 10.0 images."""

AMISS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "h200_no_deep_gemm": ("h200", {"deep_gemm": None}),
        "h200_no_nvml": ("h200", {"modules": {"pynvml": None}}),
        "mi300x_wrong_aiter": ("mi300x_rocm720", {"aiter": "impostor", "aiter_version": None}),
        "mi300x_igpu": ("mi300x_rocm720", {"archs": ["gfx1036", "gfx942", "gfx942"]}),
    }
)
"""Machines with something amiss, to be asked by `--machine`: each one of `MACHINES`, and what is changed of it."""

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "mi300x_rocm700": "MI300X, ROCm 7.0 image, Triton 3.4",
        "mi300x_rocm720": "MI300X, ROCm 7.2 image, Triton 3.5",
        "mi300x_rocm1000": "MI300X, ROCm 10.0 image, Triton 3.8",
        "mi355x": "MI355X, ROCm 7.2 image, Triton 3.7",
        "mi250x": "MI250X, aiter, Triton 3.6",
        "strix_halo": "Ryzen AI Max (Strix Halo), no aiter",
        "h200": "H200, DeepGEMM, Triton 3.6",
        "rtx_pro_6000": "RTX PRO 6000, DeepGEMM, Triton 3.6",
        "a100": "A100, DeepGEMM, Triton 3.6",
        "dcu": "Hygon DCU, Triton 3.6",
        "cpu_only": "no GPU, torch's CPU build",
        "h200_no_deep_gemm": "H200 without DeepGEMM",
        "h200_no_nvml": "H200 without nvidia-ml-py",
        "mi300x_wrong_aiter": "MI300X with another project named aiter",
        "mi300x_igpu": "two MI300X behind an iGPU",
    }
)
"""What each machine is, in a few words."""

TOUR = ("mi300x_rocm700", "mi300x_rocm720", "mi355x", "mi250x", "strix_halo", "h200", "rtx_pro_6000", "cpu_only")
"""Those that `nsa-caps tour` shows: the others say the same again."""

# Where the files of a laid-out machine would stand on a real one.
_SITE = "/usr/lib/python3/dist-packages"


def named_machine(folder: str | os.PathLike[str], name: str, **changes: Any) -> Host:
    """Lay out a machine of `MACHINES`, with some of its arguments changed.

        >>> host = named_machine(tmp_path, "mi300x_rocm700", triton="3.6.0")

    Args:
        folder: as `machine` takes it.
        name: a key of `MACHINES` or `AMISS`.
        changes: arguments of `machine` that stand for the named machine's own; `environ` is added to it.

    Raises:
        MachineError: there is no machine of this name, or it cannot be laid out so.
    """
    known = _known(name)
    base, amiss = AMISS.get(known, (known, {}))
    described = {**MACHINES[base], **amiss}
    environ = {**described.get("environ", {}), **changes.pop("environ", {})}
    return machine(folder, **{**described, **changes, "environ": environ})


def named_capabilities(name: str, engine: str = "sglang") -> Capabilities:
    """Return what a machine of `MACHINES` shows, as if its files stood where a real one's do.

        >>> nsa_caps.decide(named_capabilities("h200")).chosen
        'deepgemm'

    Args:
        name: a key of `MACHINES` or `AMISS`; upper case and dashes are as good.
        engine: whose switches to read.

    Raises:
        MachineError: there is no machine of this name.
        UnknownEngineError: the engine has no switches here.
    """
    known = _known(name)
    with tempfile.TemporaryDirectory(prefix="nsa_caps-") as folder:
        host = named_machine(f"{folder}/machine", known)
        text = probe(host, engine=engine).to_json()
    for place, stands_for in ((host.search_path[0], _SITE), (host.root, ""), (", fake sm_", ", sm_")):
        text = text.replace(place, stands_for)
    return with_system(Capabilities.from_json(text), System(machine=known, folders=(_SITE,)))


def _known(name: str) -> str:
    known = name.lower().replace("-", "_")
    names = (*MACHINES, *AMISS)
    if known in names:
        return known
    raise MachineError(f"no machine is named {name!r}; there are {', '.join(names)}{did_you_mean(known, names)}")
