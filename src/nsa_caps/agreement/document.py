"""What machines of a fleet share, as a JSON document, by `schemas/report.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.agreement.mismatch import mismatch_between
from nsa_caps.base.serial import to_plain
from nsa_caps.policy.document import document_head

if TYPE_CHECKING:
    from nsa_caps.agreement.fleet import Fleet
    from nsa_caps.agreement.mismatch import Cohort
    from nsa_caps.agreement.summary import MachineSummary

__all__ = ["compare_document"]


def compare_document(fleet: Fleet) -> dict[str, Any]:
    """Return what `nsa-caps compare --json` prints: the groups, and what sets each party apart from the largest."""
    return {
        **document_head("compare"),
        "answer": fleet.shared,
        "count": fleet.count,
        "groups": [
            {
                "fingerprint": None if group.summary.format is None else group.summary.format.fingerprint,
                "format": to_plain(group.summary.format),
                "index_kpool": group.summary.index_kpool,
                "rows": list(group.rows),
                "count": group.count,
                "parties": [_party_document(party, fleet.groups[0].summary) for party in group.parties],
            }
            for group in fleet.groups
        ],
        "failures": to_plain(fleet.failures),
    }


def _party_document(party: Cohort, reference: MachineSummary) -> dict[str, Any]:
    apart = mismatch_between(party.summary, reference)
    return {
        "count": party.count,
        "names": list(party.names),
        "row": party.summary.row,
        "error": party.summary.error,
        "apart": {
            "fields": list(apart.fields),
            "reasons": list(apart.reasons),
            "facts": [{**to_plain(each.left), "instead_of": each.right.value} for each in apart.facts],
            "fix": list(apart.fix),
        },
    }
