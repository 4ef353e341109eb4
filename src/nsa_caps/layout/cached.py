"""One layout per process and engine: what `get_indexer_layout` is."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from nsa_caps.layout.layout import select_indexer_layout
from nsa_caps.layout.row_table import row_table
from nsa_caps.probes.probe import probe

if TYPE_CHECKING:
    from nsa_caps.layout.layout import IndexerLayout
    from nsa_caps.policy.request import Request

__all__ = ["get_indexer_layout", "row_table"]


class _OncePerEngine:
    """`probe` and `select_indexer_layout`, once per process and engine."""

    def __init__(self) -> None:
        self._renew()
        # A child may see other GPUs than its parent, and a lock that another thread held at the fork would never open.
        os.register_at_fork(after_in_child=self._renew)

    def __call__(self, *, engine: str = "sglang", request: Request | None = None) -> IndexerLayout:
        """Return the layout of this process for an engine; thread-safe, and decided anew in a forked child.

        Args:
            engine: whose switches to read.
            request: the model and the engine's limits, decided once each; None: `Request()`.

        Raises:
            NoUsableLayoutError: every row is out.
            UnknownEngineError: the engine has no switches here.
        """
        layout = self._layouts.get((engine, request))
        return self._decide(engine, request) if layout is None else layout

    def cache_clear(self) -> None:
        """Forget every decision, so that the next call probes again."""
        with self._lock:
            self._layouts.clear()

    def _renew(self) -> None:
        self._layouts: dict[tuple[str, Request | None], IndexerLayout] = {}
        self._lock = Lock()

    def _decide(self, engine: str, request: Request | None) -> IndexerLayout:
        with self._lock:
            if (engine, request) not in self._layouts:
                caps, rows = row_table(probe(engine=engine))
                self._layouts[engine, request] = select_indexer_layout(caps, request, rows)
            return self._layouts[engine, request]


get_indexer_layout = _OncePerEngine()
