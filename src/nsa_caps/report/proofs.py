"""What proving came to, and what is kept, as lines and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.lines import HANG, indented, printable
from nsa_caps.base.serial import to_plain
from nsa_caps.policy.document import decision_document, document_head
from nsa_caps.policy.explain import headline
from nsa_caps.policy.kept import proof_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nsa_caps.base.lines import Line
    from nsa_caps.capabilities.kept import KeptVerdict
    from nsa_caps.policy.decision import Decision
    from nsa_caps.selfcheck.records import SelfCheck

__all__ = ["Listed", "kept_document", "kept_lines", "prove_document", "prove_lines"]


class Listed(NamedTuple):
    """One kept verdict.

    Attributes:
        path: its file.
        void: why it says nothing of this machine; None: it holds.
        verdict: the verdict.
    """

    path: str
    void: str | None
    verdict: KeptVerdict


def prove_document(decision: Decision, checks: Sequence[SelfCheck], *, answer: bool) -> dict[str, Any]:
    """Return what `nsa-caps prove --json` prints: what was run, the decision after it, and the machine."""
    return {
        **document_head("prove"),
        "answer": answer,
        "checks": [check.to_dict() for check in checks],
        "decision": decision_document(decision),
        "capabilities": decision.caps.to_dict(),
    }


def prove_lines(decision: Decision, checks: Sequence[SelfCheck], names: Sequence[str]) -> Iterator[Line]:
    """Return what was run, and the row that is now chosen, or what is known of each row that was asked for."""
    for check in checks:
        first, *rest = check.explain().splitlines()
        yield ((printable(first), "good" if check.verdict == "proven" else "bad"),)
        for line in rest:
            yield from indented("  ", line.strip())
    if checks:
        yield ()
    if not names:
        yield headline(decision)
        names = (decision.chosen,) if decision.chosen else ()
    for name in names:
        verdict = decision.verdict(name)
        word = "proven" if verdict.proofs else "not proven"
        yield ((f"{name}, page size {verdict.page_size}: {word}", "good" if verdict.proofs else "bad"),)
        yield from proof_lines(verdict)
        for reason in verdict.reasons:
            yield from indented("  - ", f"{reason} [{reason.code}]")


def kept_document(listed: Iterable[Listed], forgotten: Iterable[str] = ()) -> dict[str, Any]:
    """Return what `nsa-caps prove --list --json` and `--forget --json` print."""
    kept = [{"path": each.path, "void": each.void, "verdict": to_plain(each.verdict)} for each in listed]
    return {**document_head("prove"), "kept": kept, "forgotten": list(forgotten)}


def kept_lines(listed: Sequence[Listed], folder: str | None) -> Iterator[Line]:
    """Return every kept verdict, whether it holds here, and its file."""
    where = folder or "nowhere: neither NSA_CAPS_PROOFS, XDG_CACHE_HOME nor HOME is set"
    yield (f"{len(listed)} kept", "label"), HANG, (f" in {printable(where)}", "source")
    for each in listed:
        kept = each.verdict
        state = "void here" if each.void else "holds here"
        role = "" if each.void else "good" if kept.verdict == "proven" else "bad"
        yield ()
        yield (printable(f"{kept.row}: {kept.verdict}"), role), (f", {state}", "")
        if each.void:
            yield from indented("  void:   ", each.void)
        yield from indented("  device: ", f"{kept.device}, driver {kept.driver}, {kept.made}")
        yield from indented("  pages:  ", f"{', '.join(kept.format)}; {kept.heads} heads")
        yield from indented("  told:   ", kept.told)
        yield from indented("  file:   ", each.path, "source")
