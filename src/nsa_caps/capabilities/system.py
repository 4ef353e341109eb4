"""The system around a machine's packages: which Python was asked, and what a bug report says. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.base.serial import SnapshotError, from_plain, to_plain

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities

__all__ = ["SYSTEM", "System", "system_of", "with_system"]

SYSTEM = "system"
"""Its place among the extras of a snapshot."""


@dataclass(frozen=True)
class System:
    """What a person asks first of a machine that behaves oddly.

    Attributes:
        machine: the name of a laid-out machine of `nsa_caps.testing`; None: a real one.
        python: path of the Python that was asked.
        python_version: its version.
        folders: where it looks packages up, in order.
        os: the distribution's name and version.
        kernel: the kernel's release.
        driver: the GPU driver and its version.
        runtime: ROCm's or CUDA's version, as installed on the system.
        gpus: name and memory of the GPUs that the drivers show, in their order.
    """

    machine: str | None = None
    python: str | None = None
    python_version: str | None = None
    folders: tuple[str, ...] = ()
    os: str | None = None
    kernel: str | None = None
    driver: str | None = None
    runtime: str | None = None
    gpus: tuple[str, ...] = ()


def system_of(caps: Capabilities) -> System:
    """Return the system that a snapshot tells of; one that tells nothing, or nothing readable, has an empty one."""
    try:
        return from_plain(System, caps.extras.get(SYSTEM, {}), SYSTEM)
    except SnapshotError:
        return System()


def with_system(caps: Capabilities, system: System) -> Capabilities:
    """Return the machine with its system among the extras."""
    return caps.replace(extras={**caps.extras, SYSTEM: to_plain(system)})
