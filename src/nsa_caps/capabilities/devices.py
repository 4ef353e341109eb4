"""The GPUs of a machine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Device"]


@dataclass(frozen=True)
class Device:
    """One GPU that this process may use.

    Attributes:
        index: its number after the visible-device variables were applied.
        arch: `gfx942` as ROCm names it, or `sm_90` from CUDA's compute capability.
        source: where the arch was read.
        physical: its number in the driver's own order, before any variable; None: not known.
        model: what the driver calls it: of two of one model, kernels do the same; None: not known.
    """

    index: int
    arch: str
    source: str
    physical: int | None = None
    model: str | None = None

    @property
    def number(self) -> int:
        """What a visible-device variable calls it: the driver's number where it is known, else this process's."""
        return self.index if self.physical is None else self.physical
