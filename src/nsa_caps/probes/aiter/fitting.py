"""Facts that foretell what a source does, found by asking its outcome and then held against it on every machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nsa_caps.capabilities.aiter_digests import LAUNCHES, LOGITS_LINES
from nsa_caps.probes.aiter.logits import LEFT_OUT, Fired, Outcome
from nsa_caps.probes.aiter.machines import version_of
from nsa_caps.probes.aiter.normal import text_digest
from nsa_caps.probes.aiter.space import parts_of, text_of, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nsa_caps.probes.aiter.run import Event

__all__ = ["Fitted", "fit"]

Comparison = Literal["text", "base_version"]
AOT_VARIABLE = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"
CHUNK_K = 256
# W of every arch but gfx1250.
_WAVES = 2
_BUNDLE = re.compile(
    r"/aiter/ops/triton/configs/paged_mqa_logits/aot/paged_mqa_logits(?P<tiles>_preshuffle)?"
    r"_(?P<heads>\d{1,5})x256x128_B(?P<page>\d{1,5})PFW(?P<waves>\d)"
)
_NEWEST = "3.9.0"


class Fitted(NamedTuple):
    """The facts of the logits module, by their names in `AiterSource`; the calls of which they foretell everything.

    Attributes:
        facts: by their names.
        calls: the calls.
        unaccounted: what stands against the other calls.
    """

    facts: dict[str, Any]
    calls: tuple[str, ...]
    unaccounted: tuple[Event, ...]


class _Machines:
    """Masks of an outcome's machines, and what becomes of them."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.space = outcome.space
        self.tritons = self.space.dimensions["triton"]
        self.archs = self.space.dimensions["arch"]
        variable = f"env:{AOT_VARIABLE}"
        there = variable in self.space.dimensions
        self.aot = self.space.has(variable, "1") if there else 0
        self.tiles = self.space.where("tiles", bool)
        self.rows = self.space.all ^ self.tiles
        self.one = self.space.has("page", 1)
        self.pages64 = self.space.has("page", 64)
        self.gfx1250 = self.space.has("arch", "gfx1250")
        self.gluon = self.fired(lambda each: each.kernel != "plain")
        self.plain = self.fired(lambda each: each.kernel == "plain")

    def fired(self, takes: Callable[[Fired], bool]) -> int:
        mask = 0
        for each in self.outcome.fired:
            if takes(each):
                mask |= each.mask
        return mask

    def triton(self, takes: Callable[[str], bool]) -> int:
        return self.space.where("triton", takes)

    def arch(self, takes: Callable[[str], bool]) -> int:
        return self.space.where("arch", takes)


def fit(outcome: Outcome) -> Fitted:
    """Return the facts that foretell an outcome."""
    here = _Machines(outcome)
    if not here.gluon | here.plain:
        return Fitted({}, (), tuple(_blamed(outcome, outcome.space.all)))
    facts = dict(_asked(here))
    calls = {
        "tiles": here.tiles,
        "token": here.one & here.rows,
        "flat": without(here.rows, here.one),
    }
    wrong = outcome.unsure
    for mine, theirs in _foretold(here, facts):
        wrong |= mine ^ theirs
    accounted = [name for name, mask in calls.items() if not wrong & mask]
    # What one call alone shows says nothing where that call is not accounted for.
    for name, fact in (("tiles", "chunk_rule"), ("flat", "plain_pages")):
        if name not in accounted:
            facts[fact] = None
    # Where gluon is never called, nothing tells a new Triton from an old one.
    if facts["wrapper"] == "plain" and facts["triton_gap"] != "none":
        accounted = []
    blamed = () if len(accounted) == len(calls) else tuple(_blamed(outcome, wrong))
    return Fitted(facts if accounted else {}, tuple(accounted), blamed)


def _blamed(outcome: Outcome, wrong: int) -> Iterator[Event]:
    """Return what makes the outcome of some machines another than foretold, or unsure.

    That is what is not understood; else the refusals in a line that history has not had; else those that these machines
    come to, that of the most machines first; else the launches that they come to, where a refusal was foretold.
    """
    doubtful = [event for event in outcome.events if event.kind == "unaccounted"]
    raised = [event for event in outcome.events if event.kind == "raise"]
    new = [event for event in raised if (line := outcome.line(event)) and text_digest(line) not in LOGITS_LINES]
    here = sorted((event for event in raised if event.may & wrong), key=lambda event: -(event.may & wrong).bit_count())
    launched = [
        event._replace(detail="a launch") for event in outcome.events if event.kind == "launch" and event.may & wrong
    ]
    yield from doubtful or new or here or launched


def _asked(here: _Machines) -> Iterator[tuple[str, Any]]:
    token = without(here.one & here.rows, here.aot)
    newest = here.triton(lambda version: version == _NEWEST)
    listed = [arch for arch in here.archs if here.gluon & newest & token & here.space.has("arch", arch)]
    yield "gluon_archs", tuple(listed)
    yield "wrapper", "switch" if here.gluon else "plain"
    in_list = here.arch(lambda arch: arch in listed)
    gluon_at = [version for version in here.tritons if here.gluon & token & in_list & here.triton(_is(version))]
    comparison, threshold = _threshold(here.tritons, gluon_at)
    yield "triton_comparison", comparison
    yield "gluon_triton", threshold
    raised_at = [
        version
        for version in here.tritons
        if version not in gluon_at and not without(token & here.triton(_is(version)), here.outcome.raised)
    ]
    yield "triton_gap", "none" if not raised_at else _gap(here.tritons, gluon_at, raised_at)
    other = here.arch(lambda arch: arch not in listed)
    yield "arch_gate", "select" if here.plain & newest & token & other else "assert"
    asked = here.one & here.rows & here.aot & in_list
    by_jit = here.fired(lambda each: each.how == "jit")
    yield "aot_stops_jit", not by_jit & asked & newest if here.aot else None
    old = here.triton(_is_3_3)
    yield "aot_needs_gluon_triton", not here.gluon & asked & old
    flat = without(here.pages64 & here.rows & here.plain, here.aot)
    yield "plain_pages", "any" if flat and _takes_pages(here, flat) else None if flat else "one"
    big = here.space.where("page", lambda page: page == 512) & here.tiles & here.gluon
    yield "chunk_rule", "either" if big else "divides"
    yield "gfx1250_waves", _waves(here)
    short = {each.kernel for each in here.outcome.fired if LAUNCHES.get(each.key) == "short"}
    yield "launches_short", tuple(sorted(short))


def _is(version: str) -> Callable[[str], bool]:
    return lambda each: each == version


def _is_3_3(version: str) -> bool:
    return version_of(version).release[:2] == (3, 3)


def _threshold(tritons: tuple[str, ...], new: list[str]) -> tuple[Comparison | None, str | None]:
    """Return how Triton's version is compared, and with what: the comparison whose outcome is the one seen."""
    ways: dict[Comparison, Callable[[str], Any]] = {
        "base_version": lambda version: version_of(version_of(version).base_version),
        "text": lambda version: version,
    }
    for comparison, way in ways.items():
        for least in sorted(new, key=version_of):
            if [version for version in tritons if way(version) >= way(least)] == new:
                text = version_of(least).base_version if comparison == "base_version" else least
                return comparison, text
    return None, None


def _gap(tritons: tuple[str, ...], new: list[str], raised: list[str]) -> str | None:
    for least in sorted(raised):
        if [version for version in tritons if version not in new and version >= least] == raised:
            return least
    return None


def _takes_pages(here: _Machines, flat: int) -> bool:
    """Return whether the plain kernel is told the page size: otherwise it takes every page for one token."""
    told = [
        text_of(each.launch.named.get("KVBlockSize")) == "page"
        for each in here.outcome.fired
        if each.kernel == "plain" and each.mask & flat
    ]
    return all(told)


def _waves(here: _Machines) -> int | None:
    """Return the W that the loader asks the preshuffle kernel for on gfx1250."""
    found: set[int | None] = set()
    for each in here.outcome.fired:
        if each.kernel == "preshuffle" and each.how == "aot" and each.mask & here.gfx1250:
            for _, path in parts_of(each.path, each.mask & here.gfx1250):
                waves = path.rpartition("W")[2] if isinstance(path, str) else ""
                found.add(int(waves) if waves.isdigit() else None)
    return found.pop() if len(found) == 1 else None if found else 2


def _foretold(here: _Machines, facts: dict[str, Any]) -> list[tuple[int, int]]:
    """Return, for each thing that may become of a machine, where the facts foretell it and where it is so."""
    every, tiles, rows, one = here.space.all, here.tiles, here.rows, here.one
    new = here.triton(lambda version: _is_new(facts, version))
    gap = here.triton(lambda version: _in_gap(facts, version))
    listed = here.arch(lambda arch: arch in facts["gluon_archs"])
    asked = new | here.aot
    active = asked & listed if facts["arch_gate"] == "select" else asked
    if facts["wrapper"] == "plain":
        active = 0
    divides = fits = here.space.where("page", lambda page: CHUNK_K % page == 0)
    if facts["chunk_rule"] == "either":
        fits |= here.space.where("page", lambda page: page % CHUNK_K == 0)
    tileable = here.space.where("page", lambda page: page % 16 == 0)
    passes = without(fits & (rows | tileable), gap)
    at_gfx1250 = (every ^ here.gfx1250) | (tiles & divides) | (rows & one)
    jit = active & passes & listed & at_gfx1250 & new
    if facts["aot_stops_jit"]:
        jit = without(jit, here.aot)
    bundle = without(active & passes & listed & at_gfx1250, jit)
    loads = new
    if not facts["aot_needs_gluon_triton"]:
        loads |= here.triton(lambda version: _loads_as_old(facts, version))
    bundle &= loads
    plain = without(passes & rows, active)
    if facts["plain_pages"] == "one":
        plain &= one
    names = 0
    for each in here.outcome.fired:
        if each.how == "aot":
            names |= _misnamed(here, each, facts)
    odd = here.fired(lambda each: each.key not in LAUNCHES and each.key != LEFT_OUT)
    fired = here.fired
    return [
        (jit & tiles, fired(lambda each: each.how == "jit" and each.kernel == "preshuffle")),
        (jit & rows, fired(lambda each: each.how == "jit" and each.kernel == "base")),
        (bundle & tiles, fired(lambda each: each.how == "aot" and each.kernel == "preshuffle")),
        (bundle & rows, fired(lambda each: each.how == "aot" and each.kernel == "base")),
        (plain, here.plain),
        (without(every, jit | bundle | plain), here.outcome.raised),
        (0, names),
        (0, odd),
    ]


def _is_new(facts: dict[str, Any], version: str) -> bool:
    least: str | None = facts["gluon_triton"]
    if least is not None and facts["triton_comparison"] == "text":
        return version >= least
    return least is not None and version_of(version_of(version).base_version) >= version_of(least)


def _loads_as_old(facts: dict[str, Any], version: str) -> bool:
    """Return whether a Triton that counts as old loads a bundle: 3.3, and what only the text compares as old (3.10)."""
    by_text = facts["triton_comparison"] == "text" and version_of(version).release >= (3, 5)
    return _is_3_3(version) or by_text


def _in_gap(facts: dict[str, Any], version: str) -> bool:
    gap = facts["triton_gap"]
    return gap not in (None, "none") and not _is_new(facts, version) and version >= str(gap)


def _misnamed(here: _Machines, fired: Fired, facts: dict[str, Any]) -> int:
    """Return the machines whose bundle has another name than the facts say."""
    wrong = 0
    tiles = fired.kernel == "preshuffle"
    at_gfx1250 = facts["gfx1250_waves"] if tiles else 1
    # Pages of more tokens that are no tiles are read wrong by gluon anyway, whatever the bundle is called.
    for mask, path in parts_of(fired.path, fired.mask & (here.space.all if tiles else here.one)):
        match = _BUNDLE.fullmatch(path) if isinstance(path, str) else None
        if match is not None and bool(match["tiles"]) is tiles:
            mask = without(mask, _named(here, match, at_gfx1250))
        wrong |= mask
    return wrong


def _named(here: _Machines, bundle: re.Match[str], at_gfx1250: int) -> int:
    """Return the machines that have the waves, heads and page of a bundle's name."""
    waves = here.arch(lambda arch: int(bundle["waves"]) == (at_gfx1250 if arch == "gfx1250" else _WAVES))
    return waves & here.space.has("heads", int(bundle["heads"])) & here.space.has("page", int(bundle["page"]))
