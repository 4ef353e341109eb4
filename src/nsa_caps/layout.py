"""What an engine holds: one layout, whose page size, page table, kernels and options belong together."""

from __future__ import annotations

import os
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsa_caps.errors import NsaCapsError
from nsa_caps.pages import PageFormat
from nsa_caps.policy import Decision, decide, find_row
from nsa_caps.probes import probe
from nsa_caps.requirements import dialect
from nsa_caps.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities import Capabilities
    from nsa_caps.reasons import Reason
    from nsa_caps.request import Request
    from nsa_caps.rows import Row

__all__ = ["ForcedRowWarning", "IndexerLayout", "NoUsableLayoutError", "get_indexer_layout", "select_indexer_layout"]


class NoUsableLayoutError(NsaCapsError, RuntimeError):
    """Every allowed row is out.

    Attributes:
        decision: the whole decision, with every row's reasons.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.explain())
        self.decision = decision

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The reasons of all rows, best row first."""
        return tuple(reason for verdict in self.decision.verdicts for reason in verdict.reasons)


class ForcedRowWarning(UserWarning):
    """A row was taken by NSA_CAPS_ROW_FORCE against reasons."""


@dataclass(frozen=True, slots=True)
class IndexerLayout:
    """A row bound to a machine, with the whole decision attached.

    Attributes:
        row: the row's name.
        format: the bytes of one page.
        model_page_size: tokens a model page: index slots a page times `index_kpool`.
        logits_options: the keyword arguments that this row's logits kernel takes, such as
            `{"Preshuffle": True, "KVBlockSize": 64}`.
        decision: every row and every reason.
    """

    row: str
    format: PageFormat
    model_page_size: int
    logits_options: Mapping[str, Any]
    decision: Decision

    @property
    def page_size(self) -> int:
        """Index slots a page."""
        return self.format.page_size

    @property
    def preshuffle(self) -> bool:
        """Whether the keys of a page lie in 16x16 tiles."""
        return self.format.order == "tiles"

    @property
    def fingerprint(self) -> str:
        """A short stable hash of exactly what decides the meaning of a page's bytes."""
        return self.format.fingerprint

    def explain(self) -> str:
        """Return the decision in words."""
        return self.decision.explain()

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON values, by `schemas/report.json`."""
        from nsa_caps.report import layout_document

        return layout_document(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was decided from, since kernels and tables are not data."""
        return (select_indexer_layout, (self.decision.caps, self.decision.request))


def select_indexer_layout(
    caps: Capabilities, request: Request | None = None, rows: tuple[Row, ...] = ROWS
) -> IndexerLayout:
    """Return the best layout that this machine may use. Pure.

    Args:
        caps: the machine, from `nsa_caps.probe`.
        request: the model and the engine's limits; None: `Request()`.
        rows: the table, best first.

    Raises:
        NoUsableLayoutError: every allowed row is out; it carries every reason.
        UnknownRowError: the request, or NSA_CAPS_ROW, names a row that there is none of.
    """
    decision = decide(caps, request, rows)
    spoken = dialect(caps)
    if decision.chosen is None or spoken is None:
        raise NoUsableLayoutError(decision)
    row, page_size, request = (
        find_row(decision.chosen, rows),
        decision.verdict(decision.chosen).page_size,
        decision.request,
    )
    if decision.forced:
        reasons = "; ".join(map(str, decision.verdict(row.name).reasons))
        warnings.warn(f"NSA_CAPS_ROW_FORCE takes {row.name} against: {reasons}", ForcedRowWarning, stacklevel=2)
    page_format = PageFormat(
        page_size=page_size,
        order=row.order,
        head_dim=request.head_dim,
        quant_block_size=request.quant_block_size,
        dialect=spoken,
    )
    return IndexerLayout(
        row.name, page_format, page_size * request.index_kpool, row.logits_options(page_size), decision
    )


class _OncePerEngine:
    """`probe` and `select_indexer_layout`, once per process and engine."""

    def __init__(self) -> None:
        self._renew()
        # A child may see other GPUs than its parent, and a lock that another thread held at the fork would never open.
        os.register_at_fork(after_in_child=self._renew)

    def __call__(self, *, engine: str = "sglang") -> IndexerLayout:
        """Return the layout of this process for an engine; thread-safe, and decided anew in a forked child.

        Raises:
            NoUsableLayoutError: every row is out.
            UnknownEngineError: the engine has no switches here.
        """
        layout = self._layouts.get(engine)
        return self._decide(engine) if layout is None else layout

    def cache_clear(self) -> None:
        """Forget every decision, so that the next call probes again."""
        self._renew()

    def _renew(self) -> None:
        self._layouts: dict[str, IndexerLayout] = {}
        self._lock = threading.Lock()

    def _decide(self, engine: str) -> IndexerLayout:
        with self._lock:
            if engine not in self._layouts:
                caps = probe(engine=engine)
                self._layouts[engine] = select_indexer_layout(caps, rows=_rows(caps))
            return self._layouts[engine]


def _rows(caps: Capabilities) -> tuple[Row, ...]:
    """Return the table, with third parties' rows before this library's where plugins are asked for."""
    if not caps.switches["plugins"].value:
        return ROWS
    from nsa_caps.plugins import load_plugins

    return (*load_plugins("nsa_caps.rows", []), *ROWS)


get_indexer_layout = _OncePerEngine()
