"""What a dry run adds to a reading: it settles what was not known, and where the two differ nothing is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps.probes.aiter.machines import version_of

if TYPE_CHECKING:
    from nsa_caps.capabilities.aiter_source import AiterSource
    from nsa_caps.probes.dry_run.kept import Ran

__all__ = ["CALLS", "FACTS", "Settled", "settled"]

FACTS = (
    "triton_comparison", "gluon_triton", "triton_gap", "aot_stops_jit", "aot_needs_gluon_triton", "arch_gate",
    "gluon_archs", "known_archs", "plain_pages", "chunk_rule", "gate_triton", "gate_escape", "trimmed_by", "fp8_archs",
    "gfx1250_waves", "wrapper", "launches_short", "store_preshuffle", "gather_preshuffle",
)  # fmt: skip
"""What a dry run can see: the kernels' bodies, C++ and the rest of what the import runs are not among them."""

CALLS = ("tiles", "token", "flat")


class Settled(NamedTuple):
    """A source after a dry run.

    Attributes:
        source: its facts.
        settled: those that were not known and now are.
        differs: those of which reading and running say different things, each with both.
    """

    source: AiterSource
    settled: tuple[str, ...]
    differs: tuple[str, ...]


def settled(read: AiterSource, ran: Ran) -> Settled:
    """Return a source after a dry run: a fact that was read is never replaced, only doubted."""
    changed: dict[str, object] = {}
    new: list[str] = []
    differs: list[str] = []
    for name in FACTS:
        one, other = getattr(read, name), getattr(ran.shows, name)
        if other is None:
            continue
        if one is None:
            changed[name] = other
            new.append(name)
        elif _was_seen(name, ran.shows) and not _same(_within(name, one, ran.shows.known_archs), other):
            changed[name] = None
            differs.append(f"{name}: read as {_words(one)}, executed as {_words(other)}")
    known = read.calls or ()
    for name in CALLS:
        if name in ran.refutes and name in known:
            differs.append(f"{name}: read as the facts foretell, executed otherwise")
        elif name in (ran.shows.calls or ()) and name not in known:
            new.append(f"what it does with {name}")
    refuted = set(ran.refutes)
    if read.calls is not None or ran.shows.calls is not None:
        changed["calls"] = tuple(
            name for name in CALLS if name in (*known, *(ran.shows.calls or ())) and name not in refuted
        )
    return Settled(replace(read, **changed), tuple(new), tuple(differs))  # type: ignore[arg-type]  # by name


def _was_seen(name: str, shows: AiterSource) -> bool:
    """Return whether a fact about some archs was seen: on one that aiter does not know nothing was executed."""
    if shows.known_archs is None:
        return True
    if name == "gfx1250_waves":
        return "gfx1250" in shows.known_archs
    return name != "arch_gate" or not set(shows.known_archs) <= set(shows.gluon_archs or ())


def _within(name: str, value: object, known: tuple[str, ...] | None) -> object:
    """Return a list of archs without those that aiter does not know, on which nothing was executed."""
    if known is None or name not in ("fp8_archs", "gluon_archs") or not isinstance(value, tuple):
        return value
    return tuple(arch for arch in value if arch in known)


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return set(one) == set(other)
    if isinstance(one, str) and isinstance(other, str) and one[:1].isdigit():
        # A Triton: 3.9 is 3.9.0.
        return version_of(one) == version_of(other)
    return one == other


def _words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
