"""Probes: functions from a host to one part of the capabilities."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from nsa_caps.base.serial import SnapshotError, field_names, from_plain, to_plain
from nsa_caps.capabilities.records import Capabilities, Note
from nsa_caps.capabilities.switches import resolve
from nsa_caps.probes.aiter_source import aiter_source
from nsa_caps.probes.aot_bundle import aot_bundle
from nsa_caps.probes.devices import devices
from nsa_caps.probes.host import Host
from nsa_caps.probes.packages import packages
from nsa_caps.probes.platform import platform
from nsa_caps.probes.plugins import load_plugins
from nsa_caps.probes.switches import switches
from nsa_caps.probes.timeout import DEFAULT_TIMEOUT, describe, run_with_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BUILT_IN", "ENTRY_POINTS", "Probe", "load_plugin_probes", "probe"]

ENTRY_POINTS = "nsa_caps.probes"


class Probe(Protocol):
    """A function from a host to one part of the capabilities.

    It returns fields of `Capabilities` by name: `notes` are added to the others' notes, `extras` (JSON values by name)
    to the others' extras; any other field replaces what an earlier probe found.
    """

    def __call__(self, host: Host, /) -> Mapping[str, Any]:
        """Return what was found; raise nothing that a note can tell."""


BUILT_IN: tuple[Probe, ...] = (platform, devices, switches, packages, aiter_source, aot_bundle)
# `switches` are resolved from `variables` below; the rest is this release's, not a probe's.
_SETTABLE = frozenset(field_names(Capabilities)) - {"engine", "switches", "schema_version"}


def probe(
    host: Host | None = None,
    *,
    engine: str = "sglang",
    probes: Iterable[Probe] | None = None,
    plugins: bool | None = None,
    timeout: float | None = None,
) -> Capabilities:
    """Return what is known of a machine, in milliseconds, importing neither torch, triton nor aiter.

    Args:
        host: the machine; None: this one.
        engine: whose switches to read, one of `nsa_caps.switches.ENGINES`.
        probes: the probes to run, instead of the built-in ones.
        plugins: also run those of the entry-point group `nsa_caps.probes`; None: as `NSA_CAPS_PLUGINS` says.
        timeout: seconds that each third party's probe, or its import, is waited for; None: 5. They run in a thread of
            their own, which is left behind where it does not end: nothing can end it.

    Never raises on a broken machine: what could not be read is unknown and leaves a note, and so does a probe that
    fails.

    Raises:
        UnknownEngineError: the engine has no switches here.
    """
    host = Host.current() if host is None else host
    parts: dict[str, Any] = {}
    notes: list[Note] = []
    extras: dict[str, Any] = {}
    for each in BUILT_IN if probes is None else probes:
        _run(each, host, parts, notes, extras, timeout)
    resolved, switch_notes = resolve(parts.get("variables", {}), engine)
    if resolved["plugins"].value if plugins is None else plugins:
        for each in load_plugin_probes(notes, timeout):
            _run(each, host, parts, notes, extras, timeout)
        resolved, switch_notes = resolve(parts.get("variables", {}), engine)
    return Capabilities(engine=engine, switches=resolved, notes=(*notes, *switch_notes), extras=extras, **parts)


def load_plugin_probes(notes: list[Note], timeout: float | None = None) -> list[Probe]:
    """Return the probes of installed third parties; one that does not load leaves a note instead."""
    return load_plugins(ENTRY_POINTS, notes, timeout)


def _ask(each: Probe, host: Host, timeout: float | None) -> dict[str, Any]:
    """Return what a third party's probe finds.

    Raises:
        SnapshotError: a field is not of its type, or an extra is no JSON value.
        TimeoutError: it does not end.
        Exception: whatever it raises.
    """

    def ask() -> dict[str, Any]:
        found = dict(each(host))
        _check(found)
        return found

    return run_with_timeout(ask, DEFAULT_TIMEOUT if timeout is None else timeout)


def _check(found: Mapping[str, Any]) -> None:
    """Refuse what a third party's probe returns of the wrong type.

    Raises:
        SnapshotError: a field is not of its type, or an extra is no JSON value.
    """
    part = {name: value for name, value in found.items() if name in {*_SETTABLE, "notes", "extras"}}
    from_plain(Capabilities, to_plain(part))
    extras = part.get("extras", {})
    if json.loads(json.dumps(extras, allow_nan=False)) != extras:
        raise SnapshotError("extras: needs JSON values")


def _run(
    each: Probe,
    host: Host,
    parts: dict[str, Any],
    notes: list[Note],
    extras: dict[str, Any],
    timeout: float | None,
) -> None:
    """Add what one probe finds; whatever it does wrong becomes a note that names it."""
    name = getattr(each, "__qualname__", None)
    name = name if isinstance(name, str) else type(each).__qualname__
    try:
        found = dict(each(host)) if each in BUILT_IN else _ask(each, host, timeout)
        notes.extend(found.pop("notes", ()))
        extras.update(found.pop("extras", {}))
    except KeyboardInterrupt:
        raise
    # A third party's SystemExit must not end the engine, nor its CancelledError its event loop.
    except BaseException as error:  # noqa: BLE001 a probe may fail in any way, and none is fatal
        notes.append(Note(name, f"probe {name}", f"failed with {describe(error)}"))
        return
    notes.extend(
        Note(name, f"probe {name}", f"returned {field!r}, which is no field that a probe may set")
        for field in sorted(found.keys() - _SETTABLE)
    )
    parts.update({field: value for field, value in found.items() if field in _SETTABLE})
