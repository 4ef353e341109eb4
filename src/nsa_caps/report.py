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

    from nsa_caps.apart import Party
    from nsa_caps.changes import Change
    from nsa_caps.fleet import Fleet
    from nsa_caps.layout import IndexerLayout
    from nsa_caps.matrix import Matrix
    from nsa_caps.policy import Decision, RowVerdict
    from nsa_caps.reasons import Reason
    from nsa_caps.selfcheck.verdict import SelfCheck
    from nsa_caps.stance import Stance

__all__ = [
    "DOCUMENT_VERSION",
    "compare_document",
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
        "caveats": list(decision.caveats),
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


def row_document(command: str, decision: Decision, row: str, changes: Iterable[Change] = ()) -> dict[str, Any]:
    """Return what `nsa-caps why --json` and `require --json` print: whether a row is chosen, and if not, why.

    `changes` are those that `decision` was made after.

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
        "changes": [_change_document(change) for change in changes],
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


def compare_document(fleet: Fleet) -> dict[str, Any]:
    """Return what `nsa-caps compare --json` prints: the groups, and what sets each party apart from the largest."""
    reference = fleet.groups[0].stance
    return {
        **_head("compare"),
        "answer": fleet.shared,
        "count": fleet.count,
        "groups": [
            {
                "fingerprint": None if group.stance.format is None else group.stance.format.fingerprint,
                "format": to_plain(group.stance.format),
                "index_kpool": group.stance.index_kpool,
                "rows": list(group.rows),
                "count": group.count,
                "parties": [_party_document(party, reference) for party in group.parties],
            }
            for group in fleet.groups
        ],
    }


def _party_document(party: Party, reference: Stance) -> dict[str, Any]:
    from nsa_caps.apart import apart_from  # noqa: PLC0415 no other command needs it

    apart = apart_from(party.stance, reference)
    return {
        "count": party.count,
        "names": list(party.names),
        "row": party.stance.row,
        "error": party.stance.error,
        "apart": {
            "fields": list(apart.fields),
            "reasons": list(apart.reasons),
            "facts": [{**to_plain(each.left), "instead_of": each.right.value} for each in apart.facts],
            "fix": list(apart.fix),
        },
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
