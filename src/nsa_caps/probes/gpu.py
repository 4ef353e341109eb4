"""What the readers of the GPU drivers hand on: one GPU each, before any variable."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Gpu"]


class Gpu(NamedTuple):
    """One GPU that a driver tells of.

    Attributes:
        arch: such as `gfx942` or `sm_90`.
        uuid: what visible-device variables may call it; None: it has none.
        source: where the arch was read.
        physical: its number in the driver's own order.
        render: the number of its `/dev/dri/renderD*` file; None: not told.
        model: what the driver calls it; None: not told.
    """

    arch: str
    uuid: str | None
    source: str
    physical: int = 0
    render: int | None = None
    model: str | None = None
