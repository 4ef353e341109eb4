"""Decisions as JSON documents, by `schemas/report.json`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from nsa_caps._version import __version__
from nsa_caps.explain import best_fix, page_size_after
from nsa_caps.layout import ForcedRowWarning, NoUsableLayoutError, select_indexer_layout
from nsa_caps.records import to_plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsa_caps.changes import Change
    from nsa_caps.layout import IndexerLayout
    from nsa_caps.matrix import Matrix
    from nsa_caps.policy import Decision, RowVerdict
    from nsa_caps.reasons import Reason
    from nsa_caps.selfcheck.verdict import SelfCheck

__all__ = [
    "DOCUMENT_VERSION",
    "decision_document",
    "layout_document",
    "matrix_document",
    "report_document",
    "row_document",
    "selfcheck_document",
    "what_if_document",
]

DOCUMENT_VERSION = 1


def decision_document(decision: Decision) -> dict[str, Any]:
    """Return a decision: the request, the row chosen (None: no row) and the verdict on every row, best first."""
    return {
        **_chosen(decision),
        "forced": decision.forced,
        "request": to_plain(decision.request),
        "verdicts": [_verdict_document(verdict) for verdict in decision.verdicts],
    }


def layout_document(layout: IndexerLayout) -> dict[str, Any]:
    """Return a layout with the whole decision."""
    return {**_layout_fields(layout), "decision": decision_document(layout.decision)}


def report_document(decision: Decision) -> dict[str, Any]:
    """Return what `nsa-caps --json` prints: the layout (None: no row), the decision, the smallest fix, the machine."""
    found = best_fix(decision)
    return {
        **_head("report"),
        "layout": _layout_of(decision),
        "decision": decision_document(decision),
        "smallest_fix": None if found is None else _fix_document(found[0].row, *found[1:]),
        "capabilities": decision.caps.to_dict(),
    }


def what_if_document(decision: Decision, changes: Iterable[Change], before: Decision) -> dict[str, Any]:
    """Return what `nsa-caps what-if --json` prints: the report after `changes`, and what is chosen `before` them."""
    return {
        **report_document(decision),
        "command": "what-if",
        "changes": [_change_document(change) for change in changes],
        "before": _chosen(before),
    }


def selfcheck_document(checks: Iterable[SelfCheck]) -> dict[str, Any]:
    """Return what `nsa-caps selfcheck --json` prints: a verdict a row."""
    return {**_head("selfcheck"), "checks": [check.to_dict() for check in checks]}


def row_document(command: str, decision: Decision, row: str) -> dict[str, Any]:
    """Return what `nsa-caps why --json` and `require --json` print: whether a row is chosen, and if not, why.

    Raises:
        UnknownRowError: there is no row of this name.
    """
    verdict, steps = decision.verdict(row), decision.smallest_fix(row)
    fix = None if steps is None else _fix_document(row, page_size_after(decision, verdict, steps), steps)
    return {
        **_head(command),
        "row": row,
        "answer": decision.chosen == row and not decision.forced,
        "verdict": _verdict_document(verdict),
        **_chosen(decision),
        "forced": decision.forced,
        "request": to_plain(decision.request),
        "smallest_fix": fix,
    }


def matrix_document(matrix: Matrix) -> dict[str, Any]:
    """Return what `nsa-caps matrix --json` prints: the decision over Triton versions x archs, a cell each."""
    return {
        **_head("matrix"),
        "engine": matrix.caps.engine,
        "platform": matrix.caps.platform,
        "aiter": to_plain(matrix.caps.aiter),
        "request": to_plain(matrix.request),
        "triton_versions": list(matrix.triton_versions),
        "archs": list(matrix.archs),
        "best_row": matrix.best_row,
        "cells": [
            {
                "triton": cell.triton,
                "arch": cell.arch,
                "chosen": cell.chosen,
                "page_size": cell.page_size,
                "reasons": [_reason_document(reason) for reason in cell.reasons],
            }
            for cell in matrix.cells
        ],
    }


def _head(command: str) -> dict[str, Any]:
    return {"schema_version": DOCUMENT_VERSION, "nsa_caps": __version__, "command": command}


def _chosen(decision: Decision) -> dict[str, Any]:
    size = None if decision.chosen is None else decision.verdict(decision.chosen).page_size
    return {"chosen": decision.chosen, "page_size": size}


def _layout_of(decision: Decision) -> dict[str, Any] | None:
    with warnings.catch_warnings():
        # The document says itself that a row was forced.
        warnings.simplefilter("ignore", ForcedRowWarning)
        try:
            return _layout_fields(select_indexer_layout(decision.caps, decision.request, decision.rows))
        except NoUsableLayoutError:
            return None


def _layout_fields(layout: IndexerLayout) -> dict[str, Any]:
    return {
        "row": layout.row,
        "page_size": layout.page_size,
        "model_page_size": layout.model_page_size,
        "preshuffle": layout.preshuffle,
        "format": layout.format.to_dict(),
        "fingerprint": layout.fingerprint,
        "logits_options": dict(layout.logits_options),
    }


def _verdict_document(verdict: RowVerdict) -> dict[str, Any]:
    return {
        "row": verdict.row,
        "verdict": verdict.verdict,
        "page_size": verdict.page_size,
        "reasons": [_reason_document(reason) for reason in verdict.reasons],
    }


def _reason_document(reason: Reason) -> dict[str, Any]:
    return {
        "code": reason.code,
        "summary": reason.summary,
        "verdict": reason.verdict,
        "observed": reason.observed,
        "required": reason.required,
        "source": reason.source,
        "fix": reason.fix,
        "changes": [_change_document(change) for change in reason.changes],
    }


def _change_document(change: Change) -> dict[str, Any]:
    return {"kind": change.kind, "name": change.name, "value": change.value, "text": change.text}


def _fix_document(row: str, page_size: int, steps: Iterable[Reason]) -> dict[str, Any]:
    return {"row": row, "page_size": page_size, "steps": [_reason_document(step) for step in steps]}
