"""One layout per process and engine: what `get_indexer_layout` is."""

from __future__ import annotations

import os
from threading import RLock
from typing import TYPE_CHECKING

from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.layout import select_indexer_layout
from nsa_caps.layout.row_table import row_table
from nsa_caps.probes.probe import probe
from nsa_caps.probes.timeout import is_within_call

if TYPE_CHECKING:
    from nsa_caps.layout.layout import IndexerLayout
    from nsa_caps.policy.request import Request

__all__ = ["CircularQuestionError", "get_indexer_layout", "row_table"]


class CircularQuestionError(NsaCapsError, RuntimeError):
    """A probe or a row asked for the layout that it is asked about; it may ask `decide` of what it was given."""


class _OncePerEngine:
    """`probe` and `select_indexer_layout`, once per process and engine."""

    def __init__(self) -> None:
        self._renew()
        # A child may see other GPUs than its parent, and a lock that another thread held at the fork would never open.
        os.register_at_fork(after_in_child=self._renew)

    def __call__(self, *, engine: str | None = None, request: Request | None = None) -> IndexerLayout:
        """Return the layout of this process for an engine; thread-safe, and decided anew in a forked child.

        A signal handler may ask too, while its own thread is asking.

        Args:
            engine: whose switches to read; None: as `probe` finds it.
            request: the model and the engine's limits, decided once each; None: `Request()`.

        Raises:
            NoUsableLayoutError: every row is out.
            UnknownEngineError: the engine has no switches here.
            CircularQuestionError: a third party's probe or row asks, while it is asked.
        """
        layout = self._layouts.get((engine, request))
        return self._decide(engine, request) if layout is None else layout

    def cache_clear(self) -> None:
        """Forget every decision, so that the next call probes again."""
        with self._lock:
            self._layouts.clear()

    def _renew(self) -> None:
        self._layouts: dict[tuple[str | None, Request | None], IndexerLayout] = {}
        self._lock = RLock()

    def _decide(self, engine: str | None, request: Request | None) -> IndexerLayout:
        if is_within_call():
            # It would wait for a lock that whoever waits for it holds.
            raise CircularQuestionError("a third party's probe or row asks for the layout while it is asked about one")
        with self._lock:
            layout = self._layouts.get((engine, request))
            if layout is None:
                caps, rows = row_table(probe(engine=engine))
                decided = select_indexer_layout(caps, request, rows)
                # A signal handler may have asked meanwhile: all get one object.
                layout = self._layouts.setdefault((engine, request), decided)
            return layout


get_indexer_layout = _OncePerEngine()
