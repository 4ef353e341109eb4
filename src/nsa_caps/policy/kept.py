"""What a kept verdict says of a row: known wrong here, or proven here. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps._version import __version__
from nsa_caps.base.lines import indented
from nsa_caps.capabilities.switches import SWITCHES
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.base.lines import Line
    from nsa_caps.capabilities.kept import KeptVerdict
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.pages import PageFormat
    from nsa_caps.policy.reasons import RowVerdict

__all__ = ["cost_here", "device_kinds", "failures", "format_fields", "proof_lines", "proofs_on", "void_because"]

# Read by kernels whichever engine runs, so that a verdict made under one value says nothing of another.
_VARIABLES = frozenset(reading.variable for row in SWITCHES for reading in row.always)


def device_kinds(caps: Capabilities) -> tuple[str | None, ...]:
    """Return the distinct kinds of the visible devices; None stands for one that is not known."""
    if caps.devices is None:
        return (None,)
    return tuple(dict.fromkeys(device.model for device in caps.devices)) or ("cpu",)


def format_fields(fmt: PageFormat) -> tuple[str, ...]:
    """Return a page format as a kept verdict names it."""
    return tuple(f"{name}={value}" for name, value in fmt.to_dict().items())


def void_because(kept: KeptVerdict, packages: Iterable[str], caps: Capabilities) -> str | None:
    """Return why a verdict says nothing of this machine; None: it holds. Files are the probe's to compare.

    Args:
        kept: the verdict.
        packages: those whose code runs when the row does: a verdict that is bound to fewer says nothing.
        caps: the machine.
    """
    if kept.device not in device_kinds(caps):
        return f"it is of {kept.device}"
    if kept.driver != caps.driver:
        return f"it is of the driver {kept.driver}"
    unbound = sorted({*packages} - {each.name for each in kept.packages})
    if unbound:
        return f"it is bound to no {unbound[0]}"
    for each in kept.packages:
        # Of a third party's package the version is not known here, and its files are compared.
        package = getattr(caps, each.name, None)
        now = __version__ if each.name == "nsa_caps" else getattr(package, "version", each.version)
        if each.version != now:
            return f"it is of {each.name} {each.version}"
    now_set = {f"{name}={text}" for name, text in caps.variables.items() if name in _VARIABLES}
    then_set = {each for each in kept.variables if each.partition("=")[0] in _VARIABLES}
    changed = sorted(now_set ^ then_set)
    return f"it is of another {changed[0].partition('=')[0]}" if changed else None


def proofs_on(
    row: str, packages: Iterable[str], fmt: PageFormat, heads: int, caps: Capabilities
) -> dict[str | None, KeptVerdict]:
    """Return what was found of a row on each kind of device here; of two verdicts the later in the list counts."""
    fields = format_fields(fmt)
    return {
        each.device: each
        for each in caps.kept
        if (each.row, each.format, each.heads) == (row, fields, heads) and void_because(each, packages, caps) is None
    }


def cost_here(row: str, caps: Capabilities) -> str | None:
    """Return what a row's calls cost on this machine against the best row that was timed here; None: nothing to say."""
    by_shape: dict[str, dict[str, float]] = {}
    device, made = "", ""
    for each in caps.kept:
        if each.timings and void_because(each, (), caps) is None:
            device, made = str(each.device), each.made
            for timing in each.timings:
                by_shape.setdefault(timing.shape, {})[each.row] = timing.microseconds
    told = []
    for shape, rows in by_shape.items():
        best = min(rows, key=lambda name: rows[name])
        if row in rows and best != row:
            told.append(f"{rows[row]:,.0f} us where {best} takes {rows[best]:,.0f} ({shape})")
    return f"takes {'; '.join(told)}; measured here on {device}, {made}" if told else None


def failures(found: Iterable[KeptVerdict]) -> Iterator[Reason]:
    """Return a reason for each verdict that a row failed."""
    for each in found:
        if each.verdict != "proven":
            again = Change("advice", f"nsa-caps prove --again --row {each.row}")
            yield Reason(
                f"selfcheck.{each.verdict}",
                "unmet",
                observed=f"{each.told}, on {each.device or 'the device here'}, {each.made}",
                required="kernels that were seen to run right on every kind of device here",
                source=each.source or "nsa_caps prove",
                changes=(again,),
            )


def proof_lines(verdict: RowVerdict) -> Iterator[Line]:
    """Return what was proven of a row here, and what that settles; nothing where nothing was."""
    for each in verdict.proofs:
        where = f"proven here on {each.device}, {each.made}"
        yield from indented("  ", f"{where}: {each.told}", "good")
    for reason in verdict.settled:
        yield from indented("  unknown, and proven here: ", f"{reason.summary}: {reason.observed} [{reason.code}]")
