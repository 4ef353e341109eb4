"""The rows to decide over: third parties' before this library's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nsa_caps.capabilities.records import Note
from nsa_caps.capabilities.switches import resolve
from nsa_caps.layout.guarded_row import checked_row, guarded_row
from nsa_caps.policy.rows import ROWS, Row
from nsa_caps.probes.plugins import load_plugins
from nsa_caps.probes.timeout import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities.records import Capabilities

__all__ = ["row_table"]


def row_table(caps: Capabilities, environ: Mapping[str, str] | None = None) -> tuple[Capabilities, tuple[Row, ...]]:
    """Return the rows to decide over: third parties' before this library's where plugins are asked for.

    Args:
        caps: the machine; it comes back with a note for each row that did not load.
        environ: where NSA_CAPS_PLUGINS is looked up for a machine that somebody else's document tells of: such a
            document runs no code here. None: the machine was probed here, and its own switch counts.
    """
    switches = caps.switches if environ is None else resolve(environ, caps.engine)[0]
    switch = switches.get("plugins")
    if switch is None or switch.value is not True:
        return caps, ROWS
    notes: list[Note] = []
    limit = TimeLimit()
    rows: list[Row] = []
    for source, loaded in load_plugins("nsa_caps.rows", notes, limit):
        row, problem = limit.call(partial(checked_row, loaded))
        if row is not None and any(row.name == other.name for other in (*rows, *ROWS)):
            problem = f"there is a row {row.name!r} already"
        if row is None or problem is not None:
            notes.append(Note("plugins", source, f"is left out: {problem}"))
        else:
            rows.append(guarded_row(row, source, limit))
    return caps.replace(notes=(*caps.notes, *notes)), (*rows, *ROWS)
