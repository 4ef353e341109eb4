"""A decision as plain JSON values, by `schemas/report.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps._version import __version__
from nsa_caps.base.serial import to_plain

if TYPE_CHECKING:
    from nsa_caps.policy.changes import Change
    from nsa_caps.policy.decision import Decision, Fix
    from nsa_caps.policy.reasons import Reason, RowVerdict

__all__ = [
    "DOCUMENT_VERSION",
    "change_document",
    "chosen_document",
    "decision_document",
    "document_head",
    "fix_document",
    "reason_document",
    "verdict_document",
]

DOCUMENT_VERSION = 1


def document_head(command: str) -> dict[str, Any]:
    """Return the fields that every document begins with."""
    return {"schema_version": DOCUMENT_VERSION, "nsa_caps": __version__, "command": command}


def decision_document(decision: Decision) -> dict[str, Any]:
    """Return a decision: the request, the row chosen (None: no row) and the verdict on every row, best first."""
    return {
        **chosen_document(decision),
        "forced": decision.forced,
        "caveats": list(decision.caveats),
        "warnings": list(decision.warnings),
        "request": to_plain(decision.request),
        "verdicts": [verdict_document(verdict) for verdict in decision.verdicts],
    }


def chosen_document(decision: Decision) -> dict[str, Any]:
    """Return the row chosen and its page size."""
    size = None if decision.chosen is None else decision.verdict(decision.chosen).page_size
    return {"chosen": decision.chosen, "page_size": size}


def verdict_document(verdict: RowVerdict) -> dict[str, Any]:
    """Return the verdict on a row."""
    return {
        "row": verdict.row,
        "verdict": verdict.verdict,
        "page_size": verdict.page_size,
        "reasons": [reason_document(reason) for reason in verdict.reasons],
        "settled": [reason_document(reason) for reason in verdict.settled],
        "proofs": [to_plain(proof) for proof in verdict.proofs],
    }


def reason_document(reason: Reason) -> dict[str, Any]:
    """Return a reason."""
    return {
        "code": reason.code,
        "summary": reason.summary,
        "verdict": reason.verdict,
        "observed": reason.observed,
        "required": reason.required,
        "source": reason.source,
        "fix": reason.fix,
        "changes": [change_document(change) for change in reason.changes],
    }


def change_document(change: Change) -> dict[str, Any]:
    """Return a change."""
    return {"kind": change.kind, "name": change.name, "value": change.value, "text": change.text}


def fix_document(fix: Fix) -> dict[str, Any]:
    """Return the fewest changes that bring a row."""
    steps = [reason_document(step) for step in fix.steps]
    return {"row": fix.verdict.row, "page_size": fix.verdict.page_size, "steps": steps}
