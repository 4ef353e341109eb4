"""What the package flydsl must be, from which aiter builds some of its kernels: it is optional, and aiter checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.common import not_found
from nsa_caps.policy.versions import without_local

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource, Capabilities
    from nsa_caps.policy.request import Request

__all__ = ["flydsl_fits", "flydsl_there"]

_SOURCE = "aiter/ops/flydsl/__init__.py"
# What aiter's own requirements pin beside a minimum, in `setup.py` at v0.1.13, v0.1.14, v0.1.16.post6 and v0.1.18.
_PINNED = {">=0.1.3": "0.1.4", ">=0.1.5.dev515": "0.1.7", ">=0.1.8": "0.2.2", ">=0.2.4": "0.2.4"}
# The archs of `SMEM_CAPACITY_MAP` in flydsl 0.2.4: elsewhere aiter since 044f906a does as if flydsl were not there.
_ARCHS = ("gfx942", "gfx950", "gfx1151", "gfx1201", "gfx1250")


def flydsl_fits(caps: Capabilities, _: Request) -> Reason | None:
    """Need a flydsl that is installed to be one that this aiter takes, where `import aiter` asks for it."""
    source = caps.aiter_source
    if source is None or not source.imports_flydsl or (source.flydsl_needs and caps.flydsl.state == "missing"):
        return None
    return _unfit(caps, source)


def flydsl_there(caps: Capabilities, source: AiterSource, required: str) -> Reason | None:
    """Need flydsl to be installed, and of a version that this aiter takes.

    Args:
        caps: the machine.
        source: what its aiter shows.
        required: what needs it.
    """
    if caps.flydsl.state != "found":
        return not_found(caps.flydsl, required, _installing(source))
    return _unfit(caps, source)


def _unfit(caps: Capabilities, source: AiterSource) -> Reason | None:
    """Return why a flydsl that may be there does not do, or may not."""
    package, needs = caps.flydsl, source.flydsl_needs
    if needs == "none":
        return None
    taken = None if needs is None or package.state != "found" else _takes(needs, package.version)
    if taken:
        return None
    reached = all(arch in _ARCHS for arch in caps.archs or ()) and caps.archs is not None
    return Reason(
        "aiter.flydsl",
        "unmet" if taken is False and reached else "unknown",
        observed=f"flydsl {package.version or 'of unknown version'}" if package.state == "found" else package.state,
        required="a source of which every statement is accounted for" if needs is None else f"flydsl{needs}",
        source=_SOURCE,
        changes=_installing(source),
    )


def _takes(needs: str, version: str | None) -> bool | None:
    """Return whether aiter's comparison takes a version; None: it cannot be read."""
    if needs.startswith("==="):
        return None if version is None else version == needs[3:]
    found, other = without_local(version), without_local(needs[2:])
    if found is None or other is None:
        return None
    return found >= other if needs.startswith(">=") else found == other


def _installing(source: AiterSource) -> tuple[Change, ...]:
    """Return how to get the flydsl that this aiter was built with."""
    needs = source.flydsl_needs or ""
    version = needs.lstrip("=") if needs.startswith("==") else _PINNED.get(needs)
    return (Change("package", "flydsl", f"flydsl=={version}"),) if version else ()
