"""A decision in words: one screen, plain text, the verdict first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.capabilities import Capabilities, Package
    from nsa_caps.policy import Decision, RowVerdict
    from nsa_caps.reasons import Reason

__all__ = ["explain", "fix_lines", "headline", "reason_lines"]


def explain(decision: Decision) -> str:
    """Return the verdict, what it rests on, why every better row is out, and the smallest fix for the best of them."""
    blocks = [
        [headline(decision)],
        list(_evidence(decision.caps)),
        [line for verdict in decision.better_rows() for line in reason_lines(verdict)],
        list(_notes(decision.caps)),
        list(fix_lines(decision)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def headline(decision: Decision) -> str:
    """Return the verdict in one line."""
    if decision.chosen is None:
        return "No row may be used on this machine: every one is refused or rests on something unknown."
    verdict = decision.verdict(decision.chosen)
    forced = " (refused, and forced by NSA_CAPS_ROW_FORCE)" if decision.forced else ""
    summary = next(row.summary for row in decision.rows if row.name == verdict.row)
    return f"{verdict.row}, page size {verdict.page_size}{forced}: {summary}"


def _evidence(caps: Capabilities) -> Iterator[str]:
    yield f"platform   {caps.platform}  [{caps.platform_source or 'no readable torch'}]"
    if not caps.devices:
        yield f"devices    {'not known' if caps.devices is None else 'none'}"
    for arch in caps.archs or ():
        same = [device for device in caps.devices or () if device.arch == arch]
        yield f"devices    {len(same)} x {arch}  [{same[0].source}]"
    for package in (caps.torch, caps.triton, caps.aiter, caps.deep_gemm):
        yield f"{package.name:<10} {_package(package)}"
    for switch in caps.switches.values():
        if switch.variable:
            yield f"switch     {switch.variable}={switch.raw}: {switch.name} is {_value(switch.value)}  [{switch.source}]"
    yield f"engine     {caps.engine}"


def _package(package: Package) -> str:
    if package.state == "missing":
        return "missing"
    version = package.version or "of unknown version"
    state = "" if package.state == "found" else f", {package.state}"
    where = package.source or package.location
    return f"{version}{state}" + (f"  [{where}]" if where else "")


def _value(value: bool | str | None) -> str:
    return "unreadable" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def reason_lines(verdict: RowVerdict) -> Iterator[str]:
    """Return a row's verdict and all of its reasons, a line each."""
    yield f"{verdict.row}: {verdict.verdict}"
    for reason in verdict.reasons:
        yield f"  - [{reason.code}] {reason}"
        if reason.fix:
            yield f"    fix: {reason.fix}"


def _notes(caps: Capabilities) -> Iterator[str]:
    for note in caps.notes:
        yield f"note: {note.source}: {note.text}"


def fix_lines(decision: Decision) -> Iterator[str]:
    """Return the smallest fix of the best row that one can have, as commands."""
    for verdict in decision.better_rows():
        steps: list[Reason] | None = decision.smallest_fix(verdict.row)
        if steps is None:
            continue
        yield f"Smallest fix, for {verdict.row}, page size {verdict.page_size}:"
        for step in steps:
            yield f"  {step.fix}"
        return
