"""What the engine hands aiter's functions, against those that the installed aiter has: one more keyword is a TypeError.

It comes late, at the first forward or at the first prefill beyond the top-k's 2,048 tokens, so it is asked for here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.flydsl import flydsl_there
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.capabilities.engines import Handed
    from nsa_caps.capabilities.records import AiterSource, Capabilities
    from nsa_caps.policy.request import Request

__all__ = ["other_release", "takes_what_is_handed"]


def takes_what_is_handed(caps: Capabilities, _: Request) -> Reason | None:
    """Need aiter to take what the engine hands it, as its installed release does.

    One whose release is not known is taken for the newest that was read, of which this one may or may not do the same;
    one that is not installed asks nothing.
    """
    engine = ENGINE_TABLE[caps.engine]
    installed = next((package for package in caps.engines if package.name == caps.engine), None)
    if installed is None or caps.aiter_source is None or not engine.hands:
        return None
    is_known = base_version(installed.version) is not None
    release = str(installed.version) if is_known else engine.releases[-1]
    for handed in _lacking(caps, caps.aiter_source, release):
        changes = (Change.aiter(handed.aiter),) if handed.aiter else ()
        if handed.off:
            changes = (*changes, Change("set", handed.off, "1"))
        needed = f"an aiter that takes {handed.takes}"
        observed = f"{engine.title} {release} hands it {handed.takes}"
        return Reason(
            "engine.keyword",
            "unmet" if is_known and caps.aiter_source.takes is not None else "unknown",
            observed=observed if is_known else f"{engine.title}'s release is not known; {observed}",
            required=f"{needed}, or {handed.off}=1" if handed.off else needed,
            source=handed.source,
            changes=changes,
        )
    return _without_flydsl(caps, caps.aiter_source, release, is_known=is_known)


def _without_flydsl(caps: Capabilities, source: AiterSource, release: str, *, is_known: bool) -> Reason | None:
    """Return why flydsl does not do for what the engine calls of aiter; None: it does, or nothing needs it."""
    title = ENGINE_TABLE[caps.engine].title
    for handed in ENGINE_TABLE[caps.engine].hands:
        if handed.flydsl and _is_handed(handed, caps, release, []):
            reason = flydsl_there(caps, source, f"flydsl, for the {handed.takes} that {title} {release} imports")
            if reason is not None:
                return reason if is_known else replace(reason, verdict="unknown")
    return None


def other_release(caps: Capabilities) -> str | None:
    """Return what to mind where the engine is not installed, or is none that was read."""
    engine = ENGINE_TABLE[caps.engine]
    if not engine.hands or caps.aiter_source is None:
        return None
    newest, found = engine.releases[-1], base_version(caps.engine_release)
    installed = any(package.name == caps.engine for package in caps.engines)
    if found is None and installed:
        return f"{engine.title}'s release is not known: it was judged as {newest}"
    if found is not None and found <= Version(newest):
        return None
    lacking = list(_lacking(caps, caps.aiter_source, newest))
    there = "is not installed here" if found is None else f"{caps.engine_release} is newer than any that was read"
    if not lacking:
        return None if found is None else f"{engine.title} {there}: it was judged as {newest}"
    needs = [handed.aiter for handed in lacking if handed.aiter]
    tail = f" (aiter {max(needs, key=list(AITER_RELEASES).index)} has it)" if needs else ""
    names = " and ".join(handed.takes for handed in lacking)
    return f"{engine.title} {there}: {newest} hands aiter {names}, which this aiter lacks{tail}"


def _lacking(caps: Capabilities, source: AiterSource, release: str) -> Iterator[Handed]:
    """Yield what a release of the engine hands on this machine and aiter does not take."""
    has = [*(source.takes or ())]
    if source.store_preshuffle:
        has.append("indexer_k_quant_and_cache(preshuffle)")
    for handed in ENGINE_TABLE[caps.engine].hands:
        if _is_handed(handed, caps, release, has) and handed.takes not in has:
            yield handed


def _is_handed(handed: Handed, caps: Capabilities, release: str, has: list[str]) -> bool:
    found = base_version(release)
    if found is None or found < Version(handed.since):
        return False
    archs = caps.archs or ()
    if handed.archs and not any(arch in handed.archs for arch in archs):
        return False
    if handed.switch is not None and not caps.is_on(handed.switch):
        return False
    if handed.probed is not None and handed.probed not in has:
        return False
    return handed.off_switch is None or not caps.is_on(handed.off_switch)
