"""The GPUs of a machine: those that this process may use, and those that something keeps from it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Device", "Hidden"]


@dataclass(frozen=True)
class Device:
    """One GPU that this process may use.

    Attributes:
        index: its number after the visible-device variables were applied.
        arch: `gfx942` as ROCm names it, or `sm_90` from CUDA's compute capability.
        source: where the arch was read.
        physical: its number in the driver's own order, before any variable; None: not known.
        model: what the driver calls it: of two of one model, kernels do the same; None: not known.
        stated: nothing was read: `NSA_CAPS_ARCH` says that it is there.
    """

    index: int
    arch: str
    source: str
    physical: int | None = None
    model: str | None = None
    stated: bool = False

    @property
    def number(self) -> int:
        """What a visible-device variable calls it: the driver's number where it is known, else this process's."""
        return self.index if self.physical is None else self.physical


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """GPUs that this process would have, were it not for visible-device variables, or for a file that it may not open.

    Attributes:
        devices: those GPUs.
        variables: the variables that keep them; empty where a file does.
        path: the device file that this process may not open, such as `/dev/kfd`; None where variables keep them.
        present: that file is there, and its permissions stand in the way.
        group: the name of the group that may open it; None: the group has no name here, as in most containers.
        gid: that group's number.
    """

    devices: tuple[Device, ...]
    variables: tuple[str, ...] = ()
    path: str | None = None
    present: bool = False
    group: str | None = None
    gid: int | None = None
