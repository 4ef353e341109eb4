"""One layout for an engine, among the rows that it can run: this machine's, decided once, or another's."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from nsa_caps.layout.layout import NoUsableLayoutError, select_indexer_layout
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.engine import decide_for_engine
from nsa_caps.policy.rows import ROWS
from nsa_caps.probes.probe import probe

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.layout.layout import IndexerLayout
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row

__all__ = ["layout_for"]


def layout_for(engine: str, request: Request, caps: Capabilities | None = None, *, kernels: bool) -> IndexerLayout:
    """Return the best layout that an engine can run.

    Args:
        engine: a name of the table of engines.
        request: the model, and the page size that the user gave.
        caps: the machine, probed for that engine; None: this one, decided once a process.
        kernels: with this library's kernels in the engine.

    Raises:
        NoUsableLayoutError: it can run nothing; the error carries every reason.
    """
    return _here(engine, request, kernels) if caps is None else _decided(caps, request, kernels, ROWS)


@cache
def _here(engine: str, request: Request, kernels: bool) -> IndexerLayout:
    caps, rows = row_table(probe(engine=engine))
    return _decided(caps, request, kernels, rows)


# A child may see other GPUs than its parent.
if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_here.cache_clear)


def _decided(caps: Capabilities, request: Request, kernels: bool, rows: tuple[Row, ...]) -> IndexerLayout:
    decision = decide_for_engine(caps, request, kernels=kernels, rows=rows)
    if decision.chosen is None:
        raise NoUsableLayoutError(decision)
    return select_indexer_layout(caps, decision.request, rows)
