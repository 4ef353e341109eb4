"""The facts of `AiterSource` that a dry run's outcomes show: the same questions as the reader's, asked of what ran."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.fitting import fit
from nsa_caps.probes.aiter.known import KERNELS
from nsa_caps.probes.aiter.logits import LEFT_OUT, Fired, Outcome
from nsa_caps.probes.aiter.machines import version_of
from nsa_caps.probes.aiter.signatures import CACHE_KERNELS
from nsa_caps.probes.aiter.space import Opaque, Space, choice
from nsa_caps.probes.aiter.values import Launch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["facts_of"]

_CALLS = ("tiles", "token", "flat")


def facts_of(task: Mapping[str, Any], answers: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the facts that what ran shows, by their names in `AiterSource`, the calls that refute them, the rest.

    The rest is what could not be said, in words.
    """
    asked, facts, told = task["asked"], dict[str, Any](), list[str]()
    # Another arch is a KeyError wherever it is asked for: that is what `known_archs` says.
    archs = answers["archs"]["found"]
    known = {arch for name in ("types", "logits") for arch in asked[name]["arch"] if not archs or arch in archs}
    for name, read in (
        ("gate", _gate),
        ("types", _types),
        ("cache", _cache),
        ("package", _package),
        ("archs", _archs),
        ("logits", _logits),
    ):
        found, why = read({**asked[name], "known": known}, answers[name])
        facts.update(found)
        told += [f"{name}: {each}" for each in why]
    return facts, facts.pop("refutes", []), told


def _doubts(outcomes: Iterator[Any]) -> list[str]:
    return list(dict.fromkeys(str(outcome[1]) for outcome in outcomes if outcome[0] == "unsure"))[:3]


def _gate(asked: Any, answer: Any) -> tuple[dict[str, Any], list[str]]:
    names = list(asked["environ"])
    doubts = _doubts(iter(answer["found"]))
    if doubts or answer["deciding"]:
        return {}, doubts or [f"{name} makes a difference" for name in answer["deciding"]]
    machines = list(product(asked["triton"], asked["arch"], *asked["environ"].values()))
    raised = {machine for machine, (what,) in zip(machines, answer["found"], strict=True) if what == "raises"}
    if not raised:
        return {"gate_triton": "none", "gate_escape": "none"}, []
    least = sorted({version_of(triton.split("+")[0]) for triton in asked["triton"]})
    for minimum in least:
        below = [machine for machine in machines if version_of(machine[0].split("+")[0]) < minimum]
        for at, escape in enumerate([None, *names]):
            expected = {machine for machine in below if escape is None or not _lets_by(machine[1 + at])}
            if expected == raised:
                return {"gate_triton": str(minimum), "gate_escape": escape or "none"}, []
    return {}, ["refuses in another way than by a minimum of Triton"]


def _lets_by(value: str | None) -> bool:
    try:
        return int("0" if value is None else value) != 0
    except ValueError:
        return False


def _types(asked: Any, answer: Any) -> tuple[dict[str, Any], list[str]]:
    here = [each for each in zip(asked["arch"], answer["found"], strict=True) if each[0] in asked["known"]]
    doubts = _doubts(what for _, what in here)
    if doubts:
        return {}, doubts
    found: list[str] = []
    for arch, (name,) in here:
        if name == ("float8_e4m3fnuz" if arch.startswith("gfx94") else "float8_e4m3fn"):
            found.append(arch)
        elif name not in ("uint8", "KeyError"):
            return {}, [f"{name or 'no dtype'} as fp8 on {arch}"]
    return {"fp8_archs": tuple(found)}, []


def _cache(_: Any, answer: Any) -> tuple[dict[str, Any], list[str]]:
    facts: dict[str, Any] = {}
    for name, (fact, positional) in CACHE_KERNELS.items():
        parameters = [tuple(each) for each in answer["found"].get(name, ())]
        old = [(each, "") for each in positional]
        if parameters in (old, [*old, ("preshuffle", "False")]):
            facts[fact] = len(parameters) > len(old)
    return facts, [] if len(facts) == len(CACHE_KERNELS) else [str(answer["why"])]


def _package(_: Any, answer: Any) -> tuple[dict[str, Any], list[str]]:
    if answer["plain"] != "bound":
        return {}, [f"without variables: {answer['plain']}"]
    if answer["read"] > len(answer["each"]):
        return {}, ["reads more variables than were tried"]
    trims: list[str] = []
    for name, found in answer["each"].items():
        if set(found.values()) == {"bound"}:
            continue
        if found != {"0": "bound", "1": "left out", "": "bound", "true": "bound"}:
            return {}, [f"with {name}: {found}"]
        trims.append(name)
    return {"trimmed_by": tuple(trims)}, []


def _archs(_: Any, answer: Any) -> tuple[dict[str, Any], list[str]]:
    if answer["found"] is None:
        return {}, ["GFX_MAP is not known"]
    return {"known_archs": tuple(name for name in answer["found"] if name != "native")}, []


def _logits(asked: Any, answer: Any) -> tuple[dict[str, Any], list[str]]:
    doubts = _doubts(iter(answer["outcomes"]))
    if answer["deciding"]:
        # Of a variable that decides, no fact tells: no call is what the facts foretell.
        return {"refutes": list(_CALLS)}, [f"{name} makes a difference" for name in answer["deciding"]]
    archs = tuple(arch for arch in asked["arch"] if arch in asked["known"])
    space = Space(
        {
            "triton": asked["triton"],
            "arch": archs,
            "page": asked["page"],
            "tiles": asked["tiles"],
            "heads": (64,),
            **{f"env:{name}": values for name, values in asked["environ"].items()},
        }
    )
    outcome = Outcome(space)
    launched: dict[tuple[str, str, bool], list[tuple[int, str | None]]] = {}
    short: set[str] = set()
    for (kind, *what), mask in zip(answer["outcomes"], _masks(space, asked, answer), strict=True):
        if kind == "raises":
            outcome.raised |= mask
            continue
        kernel, how, path, tells_page, fits = what if kind == "launches" else ("", "", None, False, "")
        name = KERNELS.get(kernel)
        if name is None or (name == "plain") is not (how == "plain") or fits not in ("fits", "short"):
            outcome.unsure |= mask
            if kind == "launches" and mask:
                doubts.append(f"{kernel or 'no kernel'} as {how}: {fits}")
            continue
        short |= {name} if fits == "short" and mask else set()
        launched.setdefault((name, how, tells_page), []).append((mask, path))
    for (name, how, tells_page), parts in launched.items():
        named = {"KVBlockSize": Opaque("page")} if tells_page else {}
        mask = sum(part for part, _ in parts)
        outcome.fired.append(Fired(mask, name, "", how, choice(parts, "path"), LEFT_OUT, Launch(name, (), named)))
    fitted = fit(outcome)
    facts: dict[str, Any] = dict(fitted.facts)
    if facts:
        facts["launches_short"] = tuple(sorted(short))
        facts["calls"] = fitted.calls
    one, tiles = space.has("page", 1), space.where("tiles", bool)
    masks = {"tiles": tiles, "token": one & ~tiles, "flat": ~one & ~tiles & space.all}
    # Nobody knows what an unsure one does: only a call of which all is sure is refuted.
    refutes = [name for name, mask in masks.items() if name not in fitted.calls and not outcome.unsure & mask]
    why = [f"what it does with {name} is no way that is known" for name in refutes]
    return {**facts, "refutes": refutes}, [*doubts[:3], *why]


def _masks(space: Space, asked: Any, answer: Any) -> list[int]:
    """Return the machines of each outcome."""
    bits = [bytearray((space.all.bit_length() + 7) // 8) for _ in answer["outcomes"]]
    tritons, archs = len(asked["triton"]), len(space.dimensions["arch"])
    calls = [len(asked[name]) for name in ("page", "tiles")]
    environ = [len(values) for values in asked["environ"].values()]
    # A space counts its first dimension fastest.
    strides = [1]
    for size in (tritons, archs, *calls, *environ):
        strides.append(strides[-1] * size)
    places = {arch: at for at, arch in enumerate(space.dimensions["arch"])}
    machines = product(range(tritons), asked["arch"], *map(range, environ))
    for (triton, arch, *values), found in zip(machines, answer["found"], strict=True):
        if arch not in places:
            continue
        first = triton + places[arch] * strides[1]
        first += sum(at * stride for at, stride in zip(values, strides[4:], strict=False))
        for (page, tiles), index in zip(product(*map(range, calls)), found, strict=True):
            at = first + page * strides[2] + tiles * strides[3]
            bits[index][at >> 3] |= 1 << (at & 7)
    return [int.from_bytes(each, "little") for each in bits]
