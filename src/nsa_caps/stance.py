"""Where one machine stands: its layout, what it says of every row, and the facts beneath; and how two of them differ.

What ranks, peers and the machines of a fleet are compared by. It travels as JSON, so that the receiver needs neither
the sender's rows nor its plugins to understand it. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps._version import __version__
from nsa_caps.frozen import dataclass, field_names
from nsa_caps.pages import PageFormat, difference
from nsa_caps.policy import find_row, page_format
from nsa_caps.records import from_plain, to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsa_caps.capabilities import Capabilities, Package
    from nsa_caps.policy import Decision
    from nsa_caps.request import Request
    from nsa_caps.rows import Row

__all__ = ["Fact", "FactDifference", "RowStance", "Stance", "fact_differences", "stance_of"]


# Beside these no other reason matters, and no change removes them.
_OUT_OF_REACH = ("platform.mismatch", "row.not-in-request")


@dataclass(frozen=True)
class Fact:
    """One fact about a machine or a request.

    Attributes:
        name: what it is about, such as `triton` or `switch use_aiter`.
        value: what was found, as text.
        source: where it was read; None: not said.
    """

    name: str
    value: str
    source: str | None = None

    def __str__(self) -> str:
        """Return the fact with its source."""
        return f"{self.name} {self.value}" + (f" ({self.source})" if self.source else "")


@dataclass(frozen=True)
class FactDifference:
    """One fact that two machines have differently.

    Attributes:
        left: as the first has it.
        right: as the second has it.
    """

    left: Fact
    right: Fact

    def __str__(self) -> str:
        """Return both values, the first with its source."""
        return f"{self.left}, not {self.right.value}"


@dataclass(frozen=True)
class RowStance:
    """What one machine says of one row.

    Attributes:
        row: its name.
        usable: the machine may use it: its verdict is met, or it was forced.
        format: the bytes of its pages there; None where there is no such format.
        reasons: what is against it, a sentence each, with sources; empty where it is met.
        fix: the fewest changes after which it would be chosen there; None: no change that can be foreseen brings it.
        fixed: the bytes of its pages after that fix.
    """

    row: str
    usable: bool
    format: PageFormat | None
    reasons: tuple[str, ...] = ()
    fix: tuple[str, ...] | None = None
    fixed: PageFormat | None = None


@dataclass(frozen=True)
class Stance:
    """Where one machine stands.

    Attributes:
        row: the row chosen; None: no row, or it is not known which.
        format: the bytes of its pages; None: no layout.
        index_kpool: tokens that share one index slot.
        rows: what it says of every row, best first; empty where only the layout is known.
        facts: what was found there.
        error: why there is no layout; None where there is one.
    """

    row: str | None
    format: PageFormat | None
    index_kpool: int
    rows: tuple[RowStance, ...] = ()
    facts: tuple[Fact, ...] = ()
    error: str | None = None

    def row_stance(self, row: str | None) -> RowStance | None:
        """Return what is said of a row, or None where nothing is."""
        return next((each for each in self.rows if each.row == row), None)

    def field_differences(self, other: Stance) -> Iterator[str]:
        """Return in which fields of the layout this differs from another one, and what that does, a sentence each."""
        if self.format is None or other.format is None:
            return
        for found in difference(self.format, other.format):
            yield f"{found.field} {found.left}, not {found.right}: {found.effect}"
        if self.index_kpool != other.index_kpool:
            values = f"index_kpool {self.index_kpool}, not {other.index_kpool}"
            yield f"{values}: an index slot stands for another number of tokens"

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON values; `from_dict` takes them back."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str) -> Stance:
        """Return what `to_dict` was called on.

        Raises:
            SnapshotError: a field is of the wrong name or type; the message begins with `where`.
            PageFormatError: a page format cannot exist.
        """
        return from_plain(cls, document, where)


def stance_of(decision: Decision, error: str | None = None) -> Stance:
    """Return where a machine stands, from its decision."""
    caps, request = decision.caps, decision.request
    chosen = None if decision.chosen is None else find_row(decision.chosen, decision.rows)
    pages = None if chosen is None else page_format(caps, request, chosen)
    if pages is None and error is None:
        error = "no layout: every row is refused or rests on something unknown"
    return Stance(
        row=None if pages is None else decision.chosen,
        format=pages,
        index_kpool=request.index_kpool,
        rows=tuple(_row_stance(decision, row) for row in decision.rows),
        facts=tuple(_facts(caps, request)),
        error=error,
    )


def _row_stance(decision: Decision, row: Row) -> RowStance:
    verdict, pages = decision.verdict(row.name), page_format(decision.caps, decision.request, row)
    usable = pages is not None and (verdict.verdict == "met" or decision.chosen == row.name)
    out_of_reach = [reason for reason in verdict.reasons if reason.code in _OUT_OF_REACH]
    # The search for a fix would find none.
    steps = None if out_of_reach else decision.smallest_fix(row.name)
    caps, request = decision.caps, decision.request
    for change in (step.changes[0] for step in steps or ()):
        caps, request = change.apply(caps, request)
    return RowStance(
        row=row.name,
        usable=usable,
        format=pages,
        reasons=tuple(f"{reason} [{reason.code}]" for reason in out_of_reach or verdict.reasons),
        fix=None if steps is None else tuple(step.fix or "" for step in steps),
        fixed=None if steps is None else page_format(caps, request, row),
    )


def _facts(caps: Capabilities, request: Request) -> Iterator[Fact]:
    yield Fact("nsa_caps", __version__)
    yield Fact("engine", caps.engine)
    yield Fact("platform", caps.platform, caps.platform_source)
    yield Fact("devices", _devices(caps), caps.devices[0].source if caps.devices else None)
    yield Fact("aiter's arch", caps.rocminfo_arch or "not known")
    for package in (caps.torch, caps.triton, caps.aiter, caps.deep_gemm):
        yield Fact(package.name, _version(package), package.source or package.location)
    if caps.aiter_source is not None:
        for name in field_names(caps.aiter_source):
            if name != "location":
                yield Fact(f"aiter's {name}", _text(getattr(caps.aiter_source, name)), caps.aiter_source.location)
    kernels = caps.aot_bundle.kernels
    names = None if kernels is None else tuple(f"{kernel.name} for {kernel.arch}" for kernel in kernels)
    yield Fact("ahead-of-time kernels", _text(names), caps.aot_bundle.location)
    for name, switch in sorted(caps.switches.items()):
        source = f"{switch.variable}={switch.raw}" if switch.variable else "default"
        yield Fact(f"switch {name}", _text(switch.value), source)
    for name in field_names(request):
        value = getattr(request, name)
        yield Fact(f"request {name}", "not given" if value is None else _text(value))


def _devices(caps: Capabilities) -> str:
    if caps.devices is None:
        return "not known"
    archs = [device.arch for device in caps.devices]
    return ", ".join(f"{archs.count(arch)} x {arch}" for arch in caps.archs or ()) or "none"


def _version(package: Package) -> str:
    if package.state == "missing":
        return "missing"
    version = package.version or "of unknown version"
    return version if package.state == "found" else f"{version}, {package.state}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "not known" if value is None else str(value) or "none"


def fact_differences(left: Stance, right: Stance) -> tuple[FactDifference, ...]:
    """Return the facts that both have, and differently."""
    others = {fact.name: fact for fact in right.facts}
    return tuple(
        FactDifference(fact, other)
        for fact in left.facts
        if (other := others.get(fact.name)) is not None and other.value != fact.value
    )
