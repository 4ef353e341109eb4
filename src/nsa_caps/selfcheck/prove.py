"""Prove rows on this machine's devices, each in a process of its own, until one is proven or none is left.

The process that asks imports no torch, makes no GPU context, and goes on whatever a kernel does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.policy.decision import decide, find_row
from nsa_caps.policy.kept import device_kinds, proofs_on
from nsa_caps.policy.rows import ROWS
from nsa_caps.selfcheck.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row
    from nsa_caps.selfcheck.records import SelfCheck

__all__ = ["Outcome", "prove_best", "prove_rows"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of proving.

    Attributes:
        caps: the machine, with the verdicts among its facts.
        checks: the checks that were run now, in order; empty where all was kept.
    """

    caps: Capabilities
    checks: tuple[SelfCheck, ...]


def prove_best(
    caps: Capabilities, request: Request, rows: tuple[Row, ...] = ROWS, proof: Proof | None = None
) -> Outcome:
    """Prove the best row; where it fails, the next, until one is proven or none is left.

    A row against which nothing is unmet is tried, also where something is not known: a proof settles that.

    Args:
        caps: this machine, from `nsa_caps.probe`.
        request: the model and the engine's limits.
        rows: the table, best first.
        proof: how; None: `Proof()`.

    Returns:
        the machine with what was found. Decided about, it has the proven row, or none.
    """
    return _prove(caps, request, rows, [row.name for row in rows], proof or Proof(), until_proven=True)


def prove_rows(
    caps: Capabilities,
    request: Request,
    names: Iterable[str],
    rows: tuple[Row, ...] = ROWS,
    proof: Proof | None = None,
) -> Outcome:
    """Prove each of these rows that nothing unmet is against; as `prove_best`, and it stops at none.

    Raises:
        UnknownRowError: there is no row of one of the names.
    """
    return _prove(caps, request, rows, names, proof or Proof(), until_proven=False)


def _prove(
    caps: Capabilities,
    request: Request,
    rows: tuple[Row, ...],
    names: Iterable[str],
    proof: Proof,
    *,
    until_proven: bool,
) -> Outcome:
    checks: list[SelfCheck] = []
    # Decided again only where there is something new to decide about: a kept verdict costs one decision.
    decision = decide(caps, request, rows)
    for row in [find_row(name, rows) for name in names]:
        if proof.again:
            caps = caps.replace(kept=tuple(each for each in caps.kept if each.row != row.name))
            decision = decide(caps, request, rows)
        verdict = decision.verdict(row.name)
        # Without a page format there is nothing to ask a row for: its dialect is not known.
        if verdict.verdict == "unmet" or verdict.format is None:
            continue
        for kind in _kinds(caps, proof):
            known = proofs_on(row.name, row.bound_packages, verdict.format, request.heads, caps).get(kind)
            if known is None or (proof.measure and not known.timings):
                from nsa_caps.selfcheck.task import Task  # noqa: PLC0415 needed where no kept verdict is

                caps, check = Task(caps, row, verdict.format, request.heads, kind, proof).prove()
                checks += [check] if check is not None else []
        if caps is not decision.caps:
            decision = decide(caps, request, rows)
        if until_proven and decision.verdict(row.name).proofs:
            break
    return Outcome(caps=caps, checks=tuple(checks))


def _kinds(caps: Capabilities, proof: Proof) -> tuple[str | None, ...]:
    """Return the kinds of device to prove on: all that are visible, or that of the device that is asked for."""
    named = f"{proof.device or 'cpu'}:0".split(":")
    if named[0] == "cpu":
        return device_kinds(caps)
    return tuple(device.model for device in caps.devices or () if str(device.index) == named[1]) or (None,)
