"""The facts of a logits module foretell it: of outcomes laid out machine by machine the facts come back.

The oracle is `fate`: what becomes of one machine, written without masks from what the facts mean.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from nsa_caps.capabilities.aiter_digests import LAUNCHES
from nsa_caps.probes.aiter.fitting import AOT_VARIABLE, Fitted, fit
from nsa_caps.probes.aiter.logits import LEFT_OUT, Fired, Outcome
from nsa_caps.probes.aiter.run import Event
from nsa_caps.probes.aiter.space import Opaque, Space, choice
from nsa_caps.probes.aiter.values import Launch

if TYPE_CHECKING:
    from collections.abc import Mapping

TRITONS = ("3.2.0", "3.3.1", "3.4.0", "3.5.0rc1", "3.5.0", "3.9.0", "3.10.0")
ARCHS = ("gfx942", "gfx950", "gfx1250", "gfx90a")
PAGES = (1, 16, 24, 64, 512)
DIMENSIONS: dict[str, tuple[Any, ...]] = {
    "triton": TRITONS,
    "arch": ARCHS,
    "page": PAGES,
    "tiles": (False, True),
    "heads": (64, 32),
    f"env:{AOT_VARIABLE}": (None, "1"),
}
SPACE = Space(DIMENSIONS)
FITS = next(key for key, how in LAUNCHES.items() if how == "fits")
SHORT = next(key for key, how in LAUNCHES.items() if how == "short")
FOLDER = "/aiter/ops/triton/configs/paged_mqa_logits/aot/paged_mqa_logits"
CALLS = ("tiles", "token", "flat")


class Facts(NamedTuple):
    """The facts of a source with gluon, as `AiterSource` has them."""

    triton_comparison: Literal["text", "base_version"]
    gluon_triton: str
    triton_gap: str
    arch_gate: Literal["assert", "select"]
    gluon_archs: tuple[str, ...]
    aot_stops_jit: bool
    aot_needs_gluon_triton: bool
    plain_pages: Literal["one", "any"]
    chunk_rule: Literal["divides", "either"]
    gfx1250_waves: int


class Machine(NamedTuple):
    """One point of the space."""

    triton: str
    arch: str
    page: int
    tiles: bool
    heads: int
    aot: str | None

    @property
    def call(self) -> str:
        """How it calls."""
        return "tiles" if self.tiles else "token" if self.page == 1 else "flat"


class Fate(NamedTuple):
    """The kernel that a machine comes to, and how; `how` is empty where it raises."""

    how: str = ""
    kernel: str = ""
    path: str | None = None
    key: str = FITS
    told: bool = True


# In the order of their bits.
MACHINES = tuple(Machine(*reversed(values)) for values in product(*(DIMENSIONS[name] for name in reversed(DIMENSIONS))))
RAISES = Fate()


version = cache(Version)


def is_new(facts: Facts, triton: str) -> bool:
    """Return whether a Triton counts as new."""
    if facts.triton_comparison == "text":
        return triton >= facts.gluon_triton
    return version(version(triton).base_version) >= version(facts.gluon_triton)


def fate(facts: Facts, it: Machine) -> Fate:
    """Return what becomes of one machine."""
    new, aot, listed = is_new(facts, it.triton), it.aot == "1", it.arch in facts.gluon_archs
    if facts.triton_gap != "none" and not new and it.triton >= facts.triton_gap:
        return RAISES
    if 256 % it.page and (facts.chunk_rule == "divides" or it.page % 256):
        return RAISES
    if it.tiles and it.page % 16:
        return RAISES
    if not (new or aot) or (facts.arch_gate == "select" and not listed):
        if it.tiles or (facts.plain_pages == "one" and it.page != 1):
            return RAISES
        return Fate("plain", "plain")
    if not listed or (it.arch == "gfx1250" and (256 % it.page if it.tiles else it.page != 1)):
        return RAISES
    kernel = "preshuffle" if it.tiles else "base"
    if new and not (aot and facts.aot_stops_jit):
        return Fate("jit", kernel)
    if not new:
        release = version(it.triton).release
        counts_as_old = facts.triton_comparison == "text" and release >= (3, 5)
        if facts.aot_needs_gluon_triton or not (release[:2] == (3, 3) or counts_as_old):
            return RAISES
    waves = 2 if it.arch != "gfx1250" else facts.gfx1250_waves if it.tiles else 1
    kind = "_preshuffle" if it.tiles else ""
    return Fate("aot", kernel, f"{FOLDER}{kind}_{it.heads}x256x128_B{it.page}PFW{waves}")


def outcome(fates: Mapping[Machine, Fate], events: tuple[Event, ...] = (), space: Space = SPACE) -> Outcome:
    """Return an outcome in which each machine has its fate."""
    found = Outcome(space, events=list(events), module="it")
    launches: dict[tuple[object, ...], dict[str | None, int]] = {}
    for at, each in enumerate(fates.values()):
        if each.how:
            paths = launches.setdefault((each.how, each.kernel, each.key, each.told), {})
            paths[each.path] = paths.get(each.path, 0) | 1 << at
        else:
            found.raised |= 1 << at
    for (how, kernel, key, told), paths in launches.items():
        path = choice([(mask, path) for path, mask in paths.items()], "path")
        named = {"KVBlockSize": Opaque("page")} if told else {}
        fired = Fired(sum(paths.values()), str(kernel), "it", str(how), path, str(key), Launch(None, (), named))
        found.fired.append(fired)
    return found


def fates_of(facts: Facts) -> dict[Machine, Fate]:
    """Return what becomes of every machine."""
    return {machine: fate(facts, machine) for machine in MACHINES}


def fitted(fates: dict[Machine, Fate]) -> Fitted:
    """Return the facts that are found of an outcome."""
    return fit(outcome(fates))


BY_TEXT = st.tuples(st.just("text"), st.sampled_from(["3.4.0", "3.5.0rc1", "3.5.0", "3.9.0"]))
BY_VERSION = st.tuples(st.just("base_version"), st.sampled_from(["3.4.0", "3.5.0", "3.9.0"]))
FACTS = st.builds(
    lambda compared, **rest: Facts(*compared, **rest),
    st.one_of(BY_TEXT, BY_VERSION),
    triton_gap=st.sampled_from(["none", "none", "3.4.0", "3.5.0"]),
    arch_gate=st.sampled_from(["assert", "select"]),
    gluon_archs=st.sampled_from([("gfx942", *more) for more in ((), ("gfx950",), ("gfx1250",), ("gfx950", "gfx1250"))]),
    aot_stops_jit=st.booleans(),
    aot_needs_gluon_triton=st.booleans(),
    plain_pages=st.sampled_from(["one", "any"]),
    chunk_rule=st.sampled_from(["divides", "either"]),
    gfx1250_waves=st.sampled_from([2, 4]),
)
KNOWN = Facts("base_version", "3.5.0", "none", "select", ("gfx942", "gfx1250"), True, False, "any", "either", 4)


def told(facts: Facts) -> Facts:
    """Return the facts without what no machine shows."""
    raised = [each for each in TRITONS if not is_new(facts, each) and each >= facts.triton_gap]
    fates = fates_of(facts)
    bundled = {machine.arch for machine, each in fates.items() if each.how == "aot" and machine.tiles}
    old = [
        each
        for machine, each in fates.items()
        if each.how == "aot" and machine.call == "token" and version(machine.triton).release[:2] == (3, 3)
    ]
    return facts._replace(
        triton_gap="none" if facts.triton_gap == "none" or not raised else min(raised),
        gfx1250_waves=facts.gfx1250_waves if "gfx1250" in bundled else 2,
        aot_needs_gluon_triton=facts.aot_needs_gluon_triton or not old,
    )


@settings(max_examples=40)
@given(FACTS)
def test_the_facts_of_an_outcome_come_back(facts: Facts) -> None:
    """Whatever facts a source has, its outcome shows them, and each of the three calls is accounted for."""
    found = fitted(fates_of(facts))
    expected = {**told(facts)._asdict(), "wrapper": "switch", "launches_short": ()}
    assert {name: found.facts[name] for name in expected} == expected
    assert found.calls == CALLS
    assert found.unaccounted == ()


def other(facts: Facts, machine: Machine, how: str) -> Fate:
    """Return another fate than a machine has."""
    mine = fate(facts, machine)
    bundle = f"{FOLDER}_{96 - machine.heads}x256x128_B{machine.page}PFW2"
    given = {
        "raise": RAISES,
        "jit": Fate("jit", "preshuffle" if machine.tiles else "base"),
        "the other kernel": Fate("jit", "base" if machine.tiles else "preshuffle"),
        "plain": Fate("plain", "plain"),
        "another launch": mine._replace(key="nobody's") if mine.how else RAISES,
        "another bundle": Fate("aot", "preshuffle" if machine.tiles else "base", bundle),
    }[how]
    return given if given != mine else RAISES if mine.how else Fate("plain", "plain")


WAYS = ("raise", "jit", "the other kernel", "plain", "another launch", "another bundle")


@settings(max_examples=60)
@given(FACTS, st.sampled_from(MACHINES), st.sampled_from(WAYS))
def test_one_machine_that_fares_otherwise_is_not_accounted_for(facts: Facts, machine: Machine, how: str) -> None:
    """Where one machine of thousands does something else than the facts foretell, nothing is known of its call."""
    fates = fates_of(facts)
    fates[machine] = other(facts, machine, how)
    found = fitted(fates)
    # Pages of more tokens that are no tiles are read wrong by gluon, whatever its bundle is called.
    if how == "another bundle" and machine.call == "flat" and fate(facts, machine).how == "aot":
        return
    assert machine.call not in found.calls
    if not fates[machine].how:
        assert [each for each in CALLS if each != machine.call] == list(found.calls)


@settings(max_examples=20)
@given(FACTS, st.sampled_from(MACHINES))
def test_one_machine_that_is_not_sure_is_not_accounted_for(facts: Facts, machine: Machine) -> None:
    """Its call is not known, and the two others are."""
    unsure = outcome(fates_of(facts))
    unsure.unsure = 1 << MACHINES.index(machine)
    assert fit(unsure).calls == tuple(each for each in CALLS if each != machine.call)


def test_what_one_call_alone_shows_is_not_known_without_it() -> None:
    """The rule of chunks is that of tiles, and the pages of the plain kernel those of the flat call."""
    for call, fact in (("tiles", "chunk_rule"), ("flat", "plain_pages")):
        unsure = outcome(fates_of(KNOWN))
        unsure.unsure = sum(1 << at for at, machine in enumerate(MACHINES) if machine.call == call)
        found = fit(unsure)
        assert call not in found.calls
        assert found.facts[fact] is None
        assert [name for name, value in found.facts.items() if value is None] == [fact]


def test_nothing_is_known_where_no_call_is() -> None:
    """Where each call has a machine that is not sure, no fact is told."""
    unsure = outcome(fates_of(KNOWN))
    unsure.unsure = SPACE.all
    assert (fit(unsure).facts, fit(unsure).calls) == ({}, ())


def test_nothing_is_known_where_nothing_is_launched() -> None:
    """A function that raises everywhere has no facts, and what it raises is named."""
    raised = Event("raise", SPACE.all, SPACE.all, "OSError", "it.py", 3)
    found = fit(outcome(dict.fromkeys(MACHINES, RAISES), (raised,)))
    assert found == Fitted({}, (), (raised,))


def test_a_wrapper_without_gluon_knows_no_new_triton() -> None:
    """Where only the plain kernel is called every call is accounted for, unless some Tritons are refused."""
    fates = {machine: RAISES if machine.tiles or 256 % machine.page else Fate("plain", "plain") for machine in MACHINES}
    found = fitted(fates)
    assert found.facts["wrapper"] == "plain"
    assert found.facts["gluon_archs"] == ()
    assert found.calls == CALLS
    for machine in MACHINES:
        if machine.triton == "3.10.0":
            fates[machine] = RAISES
    assert fitted(fates).calls == ()


def test_a_plain_kernel_that_is_not_told_the_page_takes_none_but_one() -> None:
    """It would take every page for one token: which pages it takes is not known."""
    fates = {machine: each._replace(told=machine.page == 1) for machine, each in fates_of(KNOWN).items()}
    assert fitted(fates).facts["plain_pages"] is None
    more = {machine: each._replace(told=machine.page != 1) for machine, each in fates_of(KNOWN).items()}
    assert fitted(more).facts["plain_pages"] == "any"
    some = {machine: each._replace(told=machine.arch != "gfx90a") for machine, each in fates_of(KNOWN).items()}
    assert fitted(some).facts["plain_pages"] is None


@pytest.mark.parametrize(("key", "short"), [(SHORT, ("preshuffle",)), (LEFT_OUT, ()), (FITS, ())])
def test_a_launch_that_hands_too_little_is_told(key: str, short: tuple[str, ...]) -> None:
    """By the digest of a launch and its kernel; one that is left out of an excerpt is compared with nothing."""
    fates = {
        machine: each._replace(key=key) if each.kernel == "preshuffle" else each
        for machine, each in fates_of(KNOWN).items()
    }
    found = fitted(fates)
    assert found.facts["launches_short"] == short
    assert found.calls == CALLS


def test_without_the_variable_of_bundles_nothing_is_asked_of_it() -> None:
    """A source that never reads it has no bundles: whether one stops the compiler is not known."""
    space = Space({name: values for name, values in DIMENSIONS.items() if name != f"env:{AOT_VARIABLE}"})
    fates = {machine: fate(KNOWN, machine) for machine in MACHINES if machine.aot is None}
    told = fit(outcome(fates, space=space))
    assert told.facts["aot_stops_jit"] is None
    assert told.calls == CALLS


def bundle(path: str) -> Fitted:
    """Return what is found where the tiled bundle of one machine has another path."""
    machine = Machine("3.5.0", "gfx942", 64, True, 64, "1")
    fates = fates_of(KNOWN)
    assert fates[machine].path == f"{FOLDER}_preshuffle_64x256x128_B64PFW2"
    fates[machine] = fates[machine]._replace(path=path)
    return fitted(fates)


@pytest.mark.parametrize(
    "name",
    [
        "_preshuffle_32x256x128_B64PFW2",
        "_preshuffle_64x256x128_B16PFW2",
        "_preshuffle_64x256x128_B64PFW4",
        "_preshuffle_64x256x128_B64PFW1",
        "_preshuffle_64x128x128_B64PFW2",
        "_64x256x128_B64PFW2",
        "_preshuffle_64x256x128_B64PFW2x",
    ],
)
def test_a_bundle_of_another_name_is_not_accounted_for(name: str) -> None:
    """Its heads, page, waves and kind stand in its name, each as the machine has them."""
    assert bundle(f"{FOLDER}{name}").calls == ("token", "flat")


def event(kind: str, mask: int, line: int, detail: Any = "ValueError") -> Event:
    """Return an event on some machines."""
    return Event(kind, mask, mask, detail, "it.py", line)


def test_what_is_blamed_is_what_is_not_understood_first() -> None:
    """Then refusals in a line that history has not had, then those of most of the machines, then launches."""
    one = MACHINES.index(Machine("3.5.0", "gfx942", 64, True, 64, None))
    wrong = 0b111 << one
    events = (
        event("launch", wrong, 1),
        event("raise", 1 << one, 2),
        event("raise", wrong, 3),
        event("raise", 0, 4),
        event("unaccounted", 1, 5),
        event("launch", 0, 7),
        event("launch", wrong, 6),
    )

    def lines(*kinds: str, text: str = "") -> list[int]:
        unsure = outcome(fates_of(KNOWN), tuple(each for each in events if each.kind in kinds))
        unsure.unsure, unsure.text = wrong, lambda _: text
        return [each.line for each in fit(unsure).unaccounted]

    assert lines("launch", "raise", "unaccounted") == [5]
    assert lines("launch", "raise", text="\n\n\nassert nobody\n") == [4]
    assert lines("launch", "raise") == [3, 2]
    assert lines("launch") == [1, 6]
    assert lines() == []


def test_the_archs_of_gluon_are_those_that_take_pages_of_one() -> None:
    """An arch that comes to gluon with others alone is in no list, and these are what is not accounted for."""
    fates = fates_of(KNOWN._replace(arch_gate="assert"))
    for machine in MACHINES:
        if machine.arch == "gfx942" and machine.call == "token" and fates[machine].kernel == "base":
            fates[machine] = RAISES
    found = fitted(fates)
    assert (found.calls, found.facts["gluon_archs"]) == (("token",), ("gfx1250",))


def test_what_gfx1250_loads_is_not_told_by_the_bundle_of_another_arch() -> None:
    """Of tiles one machine alone has a bundle, and is no gfx1250."""
    machine = Machine("3.5.0", "gfx942", 64, True, 64, "1")
    fates = {each: RAISES if each.tiles else one for each, one in fates_of(KNOWN).items()}
    fates[machine] = Fate("aot", "preshuffle", f"{FOLDER}_preshuffle_64x256x128_B64PFW4")
    assert fitted(fates).facts["gfx1250_waves"] == 2
