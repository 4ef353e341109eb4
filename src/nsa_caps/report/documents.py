"""Decisions as JSON documents, by `schemas/report.json`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import to_plain
from nsa_caps.layout.layout import ForcedRowWarning, NoUsableLayoutError, select_indexer_layout
from nsa_caps.policy.document import (
    change_document,
    chosen_document,
    decision_document,
    document_head,
    fix_document,
    reason_document,
    verdict_document,
)
from nsa_caps.policy.engine import decisions_for_engine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.decision import Decision
    from nsa_caps.report.matrix import Matrix
    from nsa_caps.selfcheck.records import SelfCheck

__all__ = [
    "matrix_document",
    "report_document",
    "row_document",
    "selfcheck_document",
    "what_if_document",
]


def report_document(decision: Decision) -> dict[str, Any]:
    """Return what `nsa-caps --json` prints: the layout (None: no row), the decision, the smallest fix, the machine.

    And which rows the machine's engine will run.
    """
    fix = decision.best_fix()
    return {
        **document_head("report"),
        "layout": _layout_of(decision),
        "decision": decision_document(decision),
        "smallest_fix": None if fix is None else fix_document(fix),
        "engine_runs": _engine_runs(decision),
        "capabilities": decision.caps.to_dict(),
    }


def what_if_document(decision: Decision, changes: Iterable[Change], before: Decision) -> dict[str, Any]:
    """Return what `nsa-caps what-if --json` prints: the report after `changes`, and what is chosen `before` them."""
    return {
        **report_document(decision),
        "command": "what-if",
        "changes": [change_document(change) for change in changes],
        "before": chosen_document(before),
    }


def selfcheck_document(checks: Iterable[SelfCheck]) -> dict[str, Any]:
    """Return what `nsa-caps selfcheck --json` prints: a verdict a row."""
    return {**document_head("selfcheck"), "checks": [check.to_dict() for check in checks]}


def row_document(command: str, decision: Decision, row: str, changes: Iterable[Change] = ()) -> dict[str, Any]:
    """Return what `nsa-caps why --json` and `require --json` print: whether a row is chosen, and if not, why.

    `changes` are those that `decision` was made after.

    Raises:
        UnknownRowError: there is no row of this name.
    """
    verdict, fix = decision.verdict(row), decision.fix(row)
    return {
        **document_head(command),
        "row": row,
        "answer": decision.chosen == row and not decision.forced,
        "verdict": verdict_document(verdict),
        **chosen_document(decision),
        "forced": decision.forced,
        "request": to_plain(decision.request),
        "changes": [change_document(change) for change in changes],
        "smallest_fix": None if fix is None else fix_document(fix),
    }


def matrix_document(matrix: Matrix) -> dict[str, Any]:
    """Return what `nsa-caps matrix --json` prints: the decision over Triton versions x archs, a cell each."""
    return {
        **document_head("matrix"),
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
                "reasons": [reason_document(reason) for reason in cell.reasons],
            }
            for cell in matrix.cells
        ],
    }


def _engine_runs(decision: Decision) -> dict[str, Any] | None:
    ways = decisions_for_engine(decision.caps, decision.request)
    return {way: None if found is None else chosen_document(found) for way, found in ways.items()} or None


def _layout_of(decision: Decision) -> dict[str, Any] | None:
    with warnings.catch_warnings():
        # The document says itself that a row was forced.
        warnings.simplefilter("ignore", ForcedRowWarning)
        try:
            layout = select_indexer_layout(decision.caps, decision.request, decision.rows)
        except NoUsableLayoutError:
            return None
    return {name: value for name, value in layout.to_dict().items() if name != "decision"}
