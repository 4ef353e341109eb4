"""Machines that there are, by name: what `machine` takes for each."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nsa_caps.testing.machines import MachineError, machine

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["MACHINES", "named_machine"]

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
            "archs": ["gfx942"] * 8, "triton": "3.8.0+git4cff872c.rocm10.0.0", "aiter": "04907edc", "environ": _IMAGE,
        },
        "mi355x": {
            "archs": ["gfx950"] * 8, "triton": "3.7.0+amd.rocm7.2.0.git89002410", "aiter": "861b4c93",
            "aiter_version": "0.1.16", "environ": _IMAGE,
        },
        "mi250x": {"archs": ["gfx90a"] * 8, "triton": "3.6.0", "aiter": "04907edc", "environ": _ASKED},
        "strix_halo": {"archs": ["gfx1151"], "triton": "3.7.0"},
        "h200": {"platform": "cuda", "archs": ["sm_90"] * 8, "triton": "3.6.0", "deep_gemm": "2.1.1"},
        "a100": {"platform": "cuda", "archs": ["sm_80"] * 8, "triton": "3.6.0", "deep_gemm": "2.1.1"},
        "dcu": {"archs": ["gfx936"] * 8, "triton": "3.6.0"},
        "cpu_only": {"platform": "cpu", "triton": None},
    }
)  # fmt: skip
"""Arguments of `machine`, by name. Those of `mi300x_` are the ROCm 7.0, 7.2 and 10.0 images."""


def named_machine(folder: str | os.PathLike[str], name: str, **changes: Any) -> Host:
    """Lay out a machine of `MACHINES`, with some of its arguments changed.

        >>> host = named_machine(tmp_path, "mi300x_rocm700", triton="3.6.0")

    Args:
        folder: as `machine` takes it.
        name: a key of `MACHINES`.
        changes: arguments of `machine` that stand for the named machine's own; `environ` is added to it.

    Raises:
        MachineError: there is no machine of this name, or it cannot be laid out so.
    """
    if name not in MACHINES:
        raise MachineError(f"name is {name!r}, needs one of {', '.join(MACHINES)}")
    described = MACHINES[name]
    environ = {**described.get("environ", {}), **changes.pop("environ", {})}
    return machine(folder, **{**described, **changes, "environ": environ})
