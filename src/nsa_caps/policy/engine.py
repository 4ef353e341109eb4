"""Which of the rows an engine can run on a machine: as it is, and with this library's kernels in it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.base.lines import HANG
from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.capabilities.records import Package
from nsa_caps.policy.changes import Change
from nsa_caps.policy.decision import decide, not_in_request
from nsa_caps.policy.explain import short_headline
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.request import Request
from nsa_caps.policy.rows import ROWS
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.base.lines import Line
    from nsa_caps.capabilities.engines import EngineRow
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.decision import Decision
    from nsa_caps.policy.reasons import RowVerdict
    from nsa_caps.policy.rows import Row

__all__ = ["decide_for_engine", "decisions_for_engine", "engine_lines", "engine_rows", "with_engine"]


def engine_rows(caps: Capabilities, *, kernels: bool = False, index_kpool: int = 1) -> tuple[EngineRow, ...] | None:
    """Return the rows that the machine's engine can run there, best first; None: it is yours, and runs all.

    What is not known of the machine bars no row here: the row's own requirements tell that.

    Args:
        caps: the machine; its engine is `caps.engine`.
        kernels: with this library's kernels in the place of the engine's own.
        index_kpool: tokens that share one index key.
    """
    rows = ENGINE_TABLE[caps.engine].rows
    return None if rows is None else tuple(row for row in rows if _runs(row, caps, kernels, index_kpool))


def _runs(row: EngineRow, caps: Capabilities, kernels: bool, index_kpool: int) -> bool:
    if (row.kernels and not kernels) or (index_kpool > 1 and not row.pooled_sizes):
        return False
    if caps.platform != "unknown" and caps.platform not in row.platforms:
        return False
    if row.archs and not all(arch.startswith(row.archs) for arch in caps.archs or ()):
        return False
    if not _takes_it_by_switch(row, caps):
        return False
    return row.since is None or _since(caps.engine_release, row.since)


def _takes_it_by_switch(row: EngineRow, caps: Capabilities) -> bool:
    if row.switch is None or caps.is_on(row.switch[0]) is row.switch[1]:
        return True
    return any(package.name == row.without and package.state == "missing" for package in caps.packages)


def _since(installed: str | None, first: str) -> bool:
    # Without a release nothing is known of the engine but what every release has.
    found = base_version(installed)
    return found is not None and found >= Version(first)


def decide_for_engine(
    caps: Capabilities, request: Request | None = None, *, kernels: bool = False, rows: tuple[Row, ...] = ROWS
) -> Decision:
    """Return the decision among the rows, and the page sizes of each, that the machine's engine can run.

    Args:
        caps: the machine; its engine is `caps.engine`.
        request: the model, and the page size that the user gave; None: `Request()`.
        kernels: with this library's kernels in the place of the engine's own.
        rows: the table, best first.

    Returns:
        A decision whose request names what the engine can run, so that `select_indexer_layout` decides the same.
    """
    request = Request() if request is None else request
    caps = with_engine(caps)
    found = engine_rows(caps, kernels=kernels, index_kpool=request.index_kpool)
    if found is None:
        return decide(caps, request, rows)
    allowed = [row for row in found if request.rows is None or row.row in request.rows]
    for row in allowed:
        for size in _sizes(row, request):
            decision = decide(caps, replace(request, rows=(row.row,), page_size=size), rows)
            if decision.chosen is not None:
                names = tuple(each.row for each in allowed if size in _sizes(each, request))
                return decide(caps, replace(request, rows=names, page_size=size), rows)
    names = tuple(dict.fromkeys(row.row for row in allowed or ENGINE_TABLE[caps.engine].rows or ()))
    verdicts = decide(caps, replace(request, rows=None), rows).verdicts
    # A fix is looked for among these alone. What only the engine bars is none of them, or deciding again would take it.
    barred = {each.row for each in verdicts if each.verdict == "met"}
    unmet = tuple(each.row for each in verdicts if each.verdict == "unmet")
    own = {row.row for row in ENGINE_TABLE[caps.engine].rows or () if request.index_kpool == 1 or row.pooled_sizes}
    names = tuple(name for name in names if name not in barred) or tuple(name for name in unmet if name in own) or unmet
    return _nothing(decide(caps, replace(request, rows=names), rows), request, kernels=kernels)


def with_engine(caps: Capabilities) -> Capabilities:
    """Return the machine with its engine on it, of a release that is not known where it is not installed."""
    if not ENGINE_TABLE[caps.engine].hands or any(package.name == caps.engine for package in caps.engines):
        return caps
    return caps.replace(engines=(*caps.engines, Package(caps.engine, "found")))


def decisions_for_engine(caps: Capabilities, request: Request | None = None) -> dict[str, Decision | None]:
    """Return what the machine's engine will run `as_it_is` and `with_kernels`; empty for your own.

    Args:
        caps: the machine; its engine is `caps.engine`.
        request: as in `decide_for_engine`.

    Returns:
        None for `with_kernels` where this library's kernels have no place in it.
    """
    engine = ENGINE_TABLE[caps.engine]
    if engine.rows is None:
        return {}
    ours = decide_for_engine(caps, request, kernels=True) if engine.kernel_releases else None
    return {"as_it_is": decide_for_engine(caps, request), "with_kernels": ours}


def engine_lines(caps: Capabilities, request: Request | None = None) -> Iterator[Line]:
    """Return the same in words; nothing for your own."""
    ways = {"as_it_is": "as it is", "with_kernels": "with nsa_caps' kernels"}
    title = " ".join(filter(None, (ENGINE_TABLE[caps.engine].title, caps.engine_release)))
    found = decisions_for_engine(caps, request)
    if found:
        yield ()
    for way, decision in found.items():
        if decision is not None:
            role = "bad" if decision.chosen is None else "good"
            yield (f"{title} {ways[way]}: ", "label"), HANG, (short_headline(decision), role)


def _sizes(row: EngineRow, request: Request) -> tuple[int | None, ...]:
    sizes = row.pooled_sizes if request.index_kpool > 1 else row.page_sizes
    if not sizes:
        return (request.page_size,)
    return sizes if request.page_size is None else tuple(size for size in sizes if size == request.page_size)


def _nothing(decision: Decision, asked: Request, *, kernels: bool) -> Decision:
    """Return the decision with every row refused: those that the engine has elsewhere by what it would take."""
    caps, rows = decision.caps, decision.request.rows or ()
    known = {row.row for row in ENGINE_TABLE[caps.engine].rows or () if caps.platform in row.platforms}

    def refused(each: RowVerdict) -> RowVerdict:
        # What was not asked for is out for that alone: no fix brings it.
        reason = not_in_request(each.row, asked)
        if reason is None and each.row in known and each.row not in rows:
            reason = _not_run(each.row, caps, asked, kernels=kernels)
        return each if reason is None else replace(each, verdict="unmet", reasons=(reason,))

    return replace(decision, verdicts=tuple(map(refused, decision.verdicts)), chosen=None, forced=False)


def _not_run(name: str, caps: Capabilities, request: Request, *, kernels: bool) -> Reason:
    engine = ENGINE_TABLE[caps.engine]
    title = " ".join(filter(None, (engine.title, caps.engine_release)))
    entries = [row for row in engine.rows or () if row.row == name and caps.platform in row.platforms]
    takes = [row for row in entries if request.index_kpool == 1 or row.pooled_sizes]
    with_kernels = not kernels and any(row.kernels for row in takes)
    changes = (Change("advice", f"put this library's kernels into {engine.title}: NSA_CAPS_INSTALL=1"),)
    observed = f"{title}{'' if kernels else ' as it is'}"
    asked = (f"page size {request.page_size}" if request.page_size else "", f"index_kpool {request.index_kpool}")
    observed = ", ".join((observed, *(each for each in asked if each and each != "index_kpool 1")))
    needed = "; or ".join(_needs(entry, request) for entry in entries)
    return Reason("engine.row", "unmet", observed, needed, "the table of engines", changes if with_kernels else ())


def _needs(row: EngineRow, request: Request) -> str:
    pooled = request.index_kpool > 1 and row.pooled_sizes
    sizes = " or ".join(map(str, row.pooled_sizes if pooled else row.page_sizes))
    parts = (
        "this library's kernels in it" if row.kernels else "",
        f"pages of {sizes}" if sizes else "",
        f"{' or '.join(row.archs)}" if row.archs else "",
        _switch_in_words(row),
        f"release {row.since}" if row.since else "",
        "" if row.pooled_sizes else "one token an index key",
    )
    return ", ".join(filter(None, parts))


def _switch_in_words(row: EngineRow) -> str:
    if row.switch is None:
        return ""
    state = f"{row.switch[0]} {'on' if row.switch[1] else 'off'}"
    return f"{state} or no {row.without}" if row.without else state
