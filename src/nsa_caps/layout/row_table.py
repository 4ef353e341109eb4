"""The rows to decide over: third parties' before this library's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.policy.rows import ROWS, Row
from nsa_caps.probes.plugins import load_plugins

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities, Note

__all__ = ["row_table"]


def row_table(caps: Capabilities) -> tuple[Capabilities, tuple[Row, ...]]:
    """Return the rows to decide over: third parties' before this library's where plugins are asked for.

    The machine comes back with a note for each that did not load.
    """
    switch = caps.switches.get("plugins")
    if switch is None or not switch.value:
        return caps, ROWS
    notes: list[Note] = []
    rows = (*load_plugins("nsa_caps.rows", notes), *ROWS)
    return caps.replace(notes=(*caps.notes, *notes)), rows
