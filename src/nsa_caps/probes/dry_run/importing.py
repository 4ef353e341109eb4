"""Imports on an imagined machine, and what of their outcome cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.probes.dry_run.stand_ins import Doubts, Dtype, StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nsa_caps.probes.dry_run.world import World

__all__ = ["MOST_OTHERS", "apart", "deciding", "doubt_error", "first_doubt", "imported"]

# Read as the arch, which is a dimension of its own, and as a number of compute units.
_ARCHS = frozenset({"GPU_ARCHS", "AITER_GPU_ARCHS", "CU_NUM"})
MOST_OTHERS = 16


def imported(world: World, name: str) -> tuple[Any, str | None]:
    """Return a module, or what its import raises."""
    try:
        return world.load(name), None
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 whatever it raises is the answer
        doubt_error(error)
        return None, type(error).__name__


def doubt_error(error: BaseException) -> None:
    """Put down an error that a stand-in may have caused: what it lacks, the real one may have."""
    of_stand_in = type(getattr(error, "obj", None)).__module__.startswith(("nsa_caps.", "types"))
    if (isinstance(error, AttributeError) and of_stand_in) or type(error) is TypeError:
        Doubts.add(f"{type(error).__name__}: {error}"[:200])


def first_doubt() -> list[str] | None:
    """Return the outcome of a run that asked what nobody here can answer; None: it asked nothing of that kind."""
    asked = Doubts.taken()
    return ["unsure", asked[0]] if asked else None


def apart(world: World, module: str) -> None:
    """Put a stand-in for what has facts of its own: the package, and the gluon package's minimum."""
    for name in ("aiter", "aiter.ops.triton.gluon"):
        if name != module:
            world.modules[name] = StandIn(name)
    if module != "aiter.utility.dtypes":
        types = StandIn("aiter.utility.dtypes", fp8=Dtype("fp8", 1))
        world.modules["aiter.utility.dtypes"] = types
        vars(world.modules["aiter"])["dtypes"] = types


def deciding(names: set[str], machine: Callable[[str, str, Mapping[str, str | None]], Any], tried: Any) -> list[str]:
    """Return which of the variables that were read beside the dimensions make a difference on some machines."""
    others = sorted(name for name in names - _ARCHS if "LOG" not in name)
    found = others[MOST_OTHERS:]
    for name in others[:MOST_OTHERS]:
        for triton, arch in tried:
            plain = machine(triton, arch, {})
            if any(machine(triton, arch, {name: value}) != plain for value in ("0", "1")):
                found.append(name)
                break
    return found
