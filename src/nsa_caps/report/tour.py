"""The same question asked of known machines: what this library is for, in one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.lines import HANG, printable
from nsa_caps.policy.document import chosen_document, document_head, reason_document
from nsa_caps.policy.explain import headline, is_best, short_headline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsa_caps.base.lines import Line
    from nsa_caps.policy.decision import Decision
    from nsa_caps.policy.reasons import Reason, RowVerdict

__all__ = ["Stop", "tour_document", "tour_lines"]


class Stop(NamedTuple):
    """One known machine, and what is decided of it.

    Attributes:
        name: what `--machine` takes.
        title: what it is, in a few words.
        decision: the decision.
    """

    name: str
    title: str
    decision: Decision

    @property
    def best(self) -> RowVerdict | None:
        """What was decided of the best row of the platform; None where that is the one chosen."""
        return next((verdict for verdict in self.decision.better_rows() if verdict.out_of_reach is None), None)

    @property
    def reason(self) -> Reason | None:
        """The first reason against the best row; where it cannot be had, the first that nothing can change."""
        if self.best is None:
            return None
        final = [reason for reason in self.best.reasons if not reason.changes]
        return final[0] if final and self.decision.fix(self.best.row) is None else self.best.reasons[0]


def tour_lines(here: Decision, stops: Sequence[Stop]) -> Iterator[Line]:
    """Return this machine's verdict, then a line or two for each stop: its row, its page size, the one reason."""
    yield ("This machine: ", "label"), HANG, *(span for span in headline(here) if span != HANG)
    yield ()
    width = 2 + max(len(stop.name) for stop in stops)
    yield (("The same question, asked of machines that you may know", "label"),)
    for stop in stops:
        role = "good" if is_best(stop.decision) else "fallback" if stop.decision.chosen else "bad"
        yield ("  ", ""), (f"{stop.name:<{width}}", "label"), HANG, (short_headline(stop.decision), role)
        yield (" " * (width + 2), ""), HANG, (f"{stop.title}. {_why(stop)}", "")
    yield ()
    yield HANG, ("Ask any of them, in every command:", "label")
    yield ("  ", ""), HANG, (f"nsa-caps --machine {stops[0].name} why aiter-preshuffle", "command")
    yield ("  ", ""), HANG, ("nsa-caps report", "command"), ("  what this machine's answer rests on", "")


def _why(stop: Stop) -> str:
    reason = stop.reason
    if reason is None or stop.best is None:
        return f"The best row on {stop.decision.caps.platform}."
    return printable(f"Not {stop.best.row}: {reason.observed}; needs {reason.required}.")


def tour_document(here: Decision, stops: Sequence[Stop]) -> dict[str, Any]:
    """Return what `nsa-caps tour --json` prints."""
    return {
        **document_head("tour"),
        **chosen_document(here),
        "machines": [
            {
                "name": stop.name,
                "title": stop.title,
                **chosen_document(stop.decision),
                "reason": None if stop.reason is None else reason_document(stop.reason),
            }
            for stop in stops
        ],
    }
