"""The decision: every row with every reason, the first that is met, and the smallest fix. Pure.

No I/O, no clock, no environment, no torch: the machine is an argument, so that any machine can be decided about.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.hints import did_you_mean
from nsa_caps.base.serial import shortened
from nsa_caps.policy.changes import Change
from nsa_caps.policy.explain import explain
from nsa_caps.policy.formats import page_format
from nsa_caps.policy.kept import cost_here, device_kinds, failures, proofs_on
from nsa_caps.policy.reasons import Reason, RowVerdict, Verdict
from nsa_caps.policy.request import Request, RequestError
from nsa_caps.policy.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.capabilities.kept import KeptVerdict
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.rows import Row

__all__ = ["Decision", "Fix", "UnknownRowError", "decide", "find_row", "not_in_request"]

# No machine in the test matrix needs more than four changes; a search that finds none ends.
_MOST_CHANGES = 5


class UnknownRowError(RequestError):
    """No row has this name."""


@dataclass(frozen=True)
class Decision:
    """The verdict on every row, in order of preference, and the one chosen.

    Attributes:
        caps: the machine.
        request: what was asked.
        verdicts: one per row, best first.
        chosen: the name of the row to use; None where none may be used.
        forced: the chosen row is refused, and NSA_CAPS_ROW_FORCE took it all the same.
        rows: the table that was decided over.
    """

    caps: Capabilities
    request: Request
    verdicts: tuple[RowVerdict, ...]
    chosen: str | None
    forced: bool = False
    rows: tuple[Row, ...] = field(default=ROWS, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was decided from: the table of rows is functions, and the default one is not sent."""
        own_rows = () if self.rows is ROWS else (self.rows,)
        return (decide, (self.caps, self.request, *own_rows))

    def verdict(self, row: str) -> RowVerdict:
        """Return what was decided of a row.

        Raises:
            UnknownRowError: there is no row of this name.
        """
        find_row(row, self.rows)
        return next(verdict for verdict in self.verdicts if verdict.row == row)

    def better_rows(self) -> tuple[RowVerdict, ...]:
        """Return the verdicts on the rows that come before the chosen one; on all rows where none is chosen."""
        names = [verdict.row for verdict in self.verdicts]
        return self.verdicts[: names.index(self.chosen)] if self.chosen else self.verdicts

    @property
    def caveats(self) -> tuple[str, ...]:
        """What to know of the row chosen, such as what it costs against the best: here, where that was measured."""
        if self.chosen is None:
            return ()
        here = cost_here(self.chosen, self.caps)
        if here is not None:
            return (here,)
        caveats = find_row(self.chosen, self.rows).caveats
        return tuple(text for caveat in caveats if (text := caveat(self.caps)) is not None)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the kernels of the row chosen give wrong results without a sign, at its page size."""
        if self.chosen is None:
            return ()
        page_size, warnings = self.verdict(self.chosen).page_size, find_row(self.chosen, self.rows).warnings
        return tuple(text for warning in warnings if (text := warning(self.caps, page_size)) is not None)

    def explain(self) -> str:
        """Return the decision in words: the verdict, what it rests on, why better rows are out, the smallest fix."""
        return explain(self)

    def smallest_fix(self, row: str) -> list[Reason] | None:
        """Return the fewest changes after which `row` would be chosen, found by deciding again.

        Each is the reason that it removes, its `changes` narrowed to the one to make. Empty: the row is chosen as
        things are. None: no change that can be foreseen brings it.

        Raises:
            UnknownRowError: there is no row of this name.
        """
        fix = self.fix(row)
        return None if fix is None else list(fix.steps)

    def fix(self, row: str) -> Fix | None:
        """Return what `smallest_fix` returns, with what would be decided after it.

        Raises:
            UnknownRowError: there is no row of this name.
        """
        find_row(row, self.rows)
        level: list[_Plan] = [_Plan(self, {})]
        seen: set[frozenset[Change]] = set()
        for _ in range(_MOST_CHANGES + 1):
            for plan in level:
                if plan.decision.chosen == row and not plan.decision.forced:
                    return Fix(plan.decision.verdict(row), tuple(plan.steps.values()))
            level = [after for plan in level for after in plan.next_plans(row, seen)]
        return None

    def best_fix(self) -> Fix | None:
        """Return the fewest changes that bring a better row than the one chosen, for the best such row; None: none."""
        for verdict in self.better_rows():
            # No change reaches these; the search would find that out, and takes 0.1 ms a row for it.
            if verdict.out_of_reach is None and (fix := self.fix(verdict.row)) is not None:
                return fix
        return None


@dataclass(frozen=True)
class Fix:
    """The fewest changes after which a row would be chosen.

    Attributes:
        verdict: what would be decided of the row after them.
        steps: the reasons that they remove, each with the one change to make; empty: the row is chosen as things are.
    """

    verdict: RowVerdict
    steps: tuple[Reason, ...]


class _Plan(NamedTuple):
    """Changes made so far, by the slot that each occupies, and what would be decided after them."""

    decision: Decision
    steps: dict[tuple[str, str], Reason]

    def next_plans(self, row: str, seen: set[frozenset[Change]]) -> Iterator[_Plan]:
        """Return the plans with one change more, made for one of the reasons that remain."""
        for reason in self._reasons(row):
            for change in reason.changes:
                steps = {**self.steps, change.slot: replace(reason, changes=(change,))}
                key = frozenset(step.changes[0] for step in steps.values())
                if change.kind == "advice" or key in seen:
                    continue
                seen.add(key)
                caps, request = change.apply(self.decision.caps, self.decision.request)
                yield _Plan(decide(caps, request, self.decision.rows), steps)

    def _reasons(self, row: str) -> tuple[Reason, ...]:
        reasons = self.decision.verdict(row).reasons
        if reasons or self.decision.chosen is None:
            return reasons
        force = Change("set", "NSA_CAPS_ROW", row)
        return (
            Reason(
                "row.outranked",
                "unmet",
                observed=f"{self.decision.chosen} is met too",
                required=f"NSA_CAPS_ROW={row}",
                source=None,
                changes=(force,),
            ),
        )


def find_row(name: str, rows: tuple[Row, ...] = ROWS, where: str = "") -> Row:
    """Return the row of a name, which was given `where`.

    Raises:
        UnknownRowError: there is none.
    """
    for row in rows:
        if row.name == name:
            return row
    names = [row.name for row in rows]
    meant = did_you_mean(name, names)
    raise UnknownRowError(f"{where}there is no row {shortened(name)}; there are {', '.join(names)}{meant}")


def decide(caps: Capabilities, request: Request | None = None, rows: tuple[Row, ...] = ROWS) -> Decision:
    """Return the verdict on every row, and the first that is met.

    Args:
        caps: the machine.
        request: the model and the engine's limits; None: `Request()`.
        rows: the table, best first.

    Raises:
        RequestError: the request is none.
        UnknownRowError: the request, or NSA_CAPS_ROW, names a row that does not exist.
    """
    request = Request() if request is None else request
    if not isinstance(request, Request):
        raise RequestError(f"request is {shortened(request)}, needs a Request")
    for name in request.rows or ():
        find_row(name, rows)
    forced_name = _forced_row(caps)
    if forced_name:
        find_row(forced_name, rows, "NSA_CAPS_ROW: ")
    verdicts = tuple(_judge(row, caps, request, forced_name) for row in rows)
    chosen = next((verdict.row for verdict in verdicts if verdict.verdict == "met"), None)
    # A refused row may be forced, but not one that the engine cannot run, nor one without a page format.
    override = (
        chosen is None
        and bool(forced_name)
        and caps.is_on("row_force")
        and any(
            verdict.row == forced_name
            and verdict.format is not None
            and forced_name in (request.rows or (forced_name,))
            for verdict in verdicts
        )
    )
    return Decision(caps, request, verdicts, forced_name if override else chosen, forced=override, rows=rows)


def _forced_row(caps: Capabilities) -> str:
    switch = caps.switches.get("row")
    return str(switch.value) if switch is not None and switch.value else ""


def _judge(row: Row, caps: Capabilities, request: Request, forced: str) -> RowVerdict:
    page_size = row.page_size if request.page_size is None else request.page_size
    found = (
        not_in_request(row.name, request),
        _not_displaced(row, forced),
        *(check(caps, request) for check in row.requirements),
    )
    reasons = tuple(reason for reason in found if reason is not None)
    pages, problem = page_format(caps, request, row)
    # The rows here require what a page format needs; a third party's may not.
    if problem is not None and not reasons:
        reasons = (problem,)
    found_here: dict[str | None, KeptVerdict] = {}
    if pages is not None and caps.kept:
        found_here = proofs_on(row.name, row.bound_packages, pages, request.heads, caps)
    reasons += tuple(failures(found_here.values()))
    settled: tuple[Reason, ...] = ()
    proofs: tuple[KeptVerdict, ...] = ()
    # Of what is unmet no proof says anything: it may be a switch, or a limit of the engine's.
    if found_here.keys() >= set(device_kinds(caps)) and all(reason.verdict == "unknown" for reason in reasons):
        reasons, settled, proofs = (), reasons, tuple(found_here.values())
    verdict: Verdict = "met"
    if reasons:
        verdict = "unmet" if any(reason.verdict == "unmet" for reason in reasons) else "unknown"
    return RowVerdict(row.name, verdict, page_size, reasons, pages, settled, proofs)


def not_in_request(row: str, request: Request) -> Reason | None:
    """Return why a row is out where the request names others."""
    if request.rows is None or row in request.rows:
        return None
    return Reason(
        "row.not-in-request",
        "unmet",
        observed=row,
        required=f"one of {', '.join(request.rows)}",
        source="the request",
    )


def _not_displaced(row: Row, forced: str) -> Reason | None:
    if not forced or row.name == forced:
        return None
    change = Change("unset", "NSA_CAPS_ROW")
    return Reason(
        "row.forced",
        "unmet",
        observed=f"NSA_CAPS_ROW={forced}",
        required=f"NSA_CAPS_ROW={row.name}, or unset",
        source="nsa_caps",
        changes=(change,),
    )
