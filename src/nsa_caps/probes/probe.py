"""Probes: functions from a host to one part of the capabilities."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from nsa_caps.base.serial import SnapshotError, field_names, from_plain, to_plain
from nsa_caps.capabilities.records import Capabilities, Note, Package, Switch
from nsa_caps.capabilities.switches import engine_meant, resolve
from nsa_caps.probes.aot_bundle import aot_bundle
from nsa_caps.probes.deep_gemm import bundled_deep_gemm, deep_gemm
from nsa_caps.probes.devices import devices
from nsa_caps.probes.driver import driver
from nsa_caps.probes.exhaustion import is_exhaustion
from nsa_caps.probes.host import Host
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.probes.kept import kept
from nsa_caps.probes.packages import packages
from nsa_caps.probes.platform import platform
from nsa_caps.probes.plugins import keeping_path, load_plugins
from nsa_caps.probes.ptxas import ptxas
from nsa_caps.probes.switches import switches
from nsa_caps.probes.timeout import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BUILT_IN", "ENTRY_POINTS", "Probe", "probe"]

ENTRY_POINTS = "nsa_caps.probes"


class Probe(Protocol):
    """A function from a host to one part of the capabilities.

    It returns fields of `Capabilities` by name: `notes` are added to the others' notes, `extras` (JSON values by name)
    to the others' extras; any other field replaces what an earlier probe found.
    """

    def __call__(self, host: Host, /) -> Mapping[str, Any]:
        """Return what was found; raise nothing that a note can tell."""


# Variables first: where a file system does not answer, they are still known.
BUILT_IN: tuple[Probe, ...] = (
    switches, platform, devices, packages, aiter_source, aot_bundle, deep_gemm, ptxas, driver, kept,
)  # fmt: skip
# What one engine alone brings, and takes where nothing else is installed.
_OF_ENGINE: Mapping[str, tuple[Probe, ...]] = {"vllm": (bundled_deep_gemm,)}
# `switches` are resolved from `variables` below; the rest is this release's, not a probe's.
_SETTABLE = frozenset(field_names(Capabilities)) - {"engine", "switches", "schema_version"}
# Seconds that this library's own probes are waited for: a file system that takes 50 ms a call is still read.
_OWN_TIMEOUT = 15.0
# The notes that are kept of one probe: whoever has more has one thing wrong many times.
_MOST_NOTES = 100
# Where the packages could not be looked for, they are not known, and not missing.
_NO_PACKAGES = {name: Package(name, "unknown") for name in ("torch", "triton", "aiter", "deep_gemm", "flydsl")}


def probe(
    host: Host | None = None,
    *,
    engine: str | None = None,
    probes: Iterable[Probe] | None = None,
    plugins: bool | None = None,
    timeout: float | None = None,
    dry_run: bool | str = False,
) -> Capabilities:
    """Return what is known of a machine, in milliseconds, importing neither torch, triton nor aiter.

    Args:
        host: the machine; None: this one.
        engine: whose switches to read, one of `nsa_caps.switches.ENGINES`; None: NSA_CAPS_ENGINE's, else the only one
            installed, else SGLang's.
        probes: the probes to run, instead of the built-in ones.
        plugins: also run those of the entry-point group `nsa_caps.probes`; None: as `NSA_CAPS_PLUGINS` says.
        timeout: seconds that third parties' probes, and their imports, are waited for, all of them together; None: 5.
            They run in threads of their own; one that does not end is left behind: nothing can end it.
        dry_run: also execute aiter's own gates, in a process of this Python, or of the one that is named, without a
            GPU, torch or Triton: it settles what the reading leaves unknown. That runs aiter's code.

    Never raises on a broken machine: what could not be read is unknown and leaves a note, and so does a probe that
    fails. Where this process has no descriptor or no memory left, nothing is known but the variables. What the
    engine's own signal handlers raise meanwhile reaches the engine.

    Raises:
        UnknownEngineError: the engine has no switches here.
    """
    host = Host.current() if host is None else host
    found = _Found({}, [], {}, [])
    own, third_party = TimeLimit(_OWN_TIMEOUT), TimeLimit(timeout)
    for each in BUILT_IN if probes is None else probes:
        if any(each is known for known in BUILT_IN):
            found.add_own(each, host, own)
        else:
            found.add_third_party(each, host, third_party)
    meant, resolved, switch_notes = _resolve(found.parts, engine)
    for each in _OF_ENGINE.get(meant, ()) if probes is None else ():
        found.add_own(each, host, own)
    if dry_run:
        found.add_dry_run(host, dry_run if isinstance(dry_run, str) else None)
    if resolved["plugins"].value if plugins is None else plugins:
        for _, loaded in load_plugins(ENTRY_POINTS, found.notes, third_party):
            found.add_third_party(loaded, host, third_party)
        meant, resolved, switch_notes = _resolve(found.parts, engine)
    parts = found.parts
    if found.lacking:
        # What was found before would be an answer, and another one than a moment later.
        parts = {"variables": parts.get("variables", {}), **_NO_PACKAGES}
    return Capabilities(
        engine=meant, switches=resolved, notes=(*found.notes, *switch_notes), extras=found.extras, **parts
    )


def _resolve(parts: Mapping[str, Any], engine: str | None) -> tuple[str, dict[str, Switch], tuple[Note, ...]]:
    """Return the engine, what its switches hold, and the notes that finding both leaves."""
    variables = parts.get("variables", {})
    notes: tuple[Note, ...] = ()
    if engine is None:
        engine, notes = engine_meant(variables, (package.name for package in parts.get("engines", ())))
    switches, more = resolve(variables, engine)
    return engine, switches, (*notes, *more)


class _Found(NamedTuple):
    """What the probes found so far; whatever one does wrong becomes a note that names it.

    Attributes:
        parts: fields of `Capabilities` by name.
        notes: the notes.
        extras: third parties' facts.
        lacking: this library's own probes that this process had no descriptor or no memory for.
    """

    parts: dict[str, Any]
    notes: list[Note]
    extras: dict[str, Any]
    lacking: list[str]

    def add_own(self, each: Probe, host: Host, limit: TimeLimit) -> None:
        name = str(getattr(each, "__qualname__", each))
        fields, problem = limit.call(lambda: self._ask_own(name, each, host), or_here=True)
        if fields is None and each is packages:
            self.parts.update(_NO_PACKAGES)
        if name in self.lacking:
            problem = (
                f"{problem}; this process has no memory or no descriptor left, so that nothing is known: ask again"
            )
        self._add(name, fields, problem)

    def add_dry_run(self, host: Host, python: str | None) -> None:
        from nsa_caps.probes.dry_run.probe import LIMIT, after_dry_run, nothing  # noqa: PLC0415 only where it is asked for

        source = self.parts.get("aiter_source")
        limit = TimeLimit(LIMIT + _OWN_TIMEOUT)
        fields, problem = limit.call(lambda: dict(after_dry_run(host, source, python)), or_here=True)
        self._add("dry_run", dict(nothing("", f"failed with {problem}")) if fields is None else fields, None)

    def _ask_own(self, name: str, each: Probe, host: Host) -> dict[str, Any]:
        try:
            return dict(each(host))
        except Exception as error:
            if is_exhaustion(error):
                self.lacking.append(name)
            raise

    def add_third_party(self, each: Probe, host: Host, limit: TimeLimit) -> None:
        name, _ = limit.call(lambda: _name(each))
        name = type(each).__qualname__ if name is None else name
        with keeping_path(f"probe {name}", self.notes):
            fields, problem = limit.call(lambda: _ask(name, each, host))
        self._add(name, fields, problem)

    def _add(self, name: str, fields: dict[str, Any] | None, problem: str | None) -> None:
        if fields is None:
            self.notes.append(Note(name, f"probe {name}", f"failed with {problem}"))
            return
        notes = fields.pop("notes", ())
        self.notes.extend(notes[:_MOST_NOTES])
        if len(notes) > _MOST_NOTES:
            self.notes.append(Note(name, name, f"left {len(notes) - _MOST_NOTES:,} notes more"))
        self.extras.update(fields.pop("extras", {}))
        self.parts.update(fields)


def _name(each: Probe) -> str:
    """Return what a third party's probe is called; a proxy may answer with anything, or raise."""
    name = getattr(each, "__qualname__", None)
    return str(name) if isinstance(name, str) else type(each).__qualname__


def _ask(name: str, each: Probe, host: Host) -> dict[str, Any]:
    """Return what a third party's probe finds, as plain values that nothing of its own comes along with.

    Raises:
        SnapshotError: a field is not of its type, or an extra is no JSON value.
        Exception: whatever the probe raises.
    """
    found = dict(each(host))
    part = {field: found[field] for field in (*_SETTABLE, "notes", "extras") if field in found}
    plain = json.loads(json.dumps(to_plain(part), allow_nan=False))
    record = from_plain(Capabilities, plain)
    extras = part.get("extras", {})
    if plain.get("extras", {}) != extras:
        raise SnapshotError("extras: needs JSON values")
    strange = sorted(repr(field) for field in found if field not in part)
    notes = [
        Note(name, f"probe {name}", f"returned {field}, which is no field that a probe may set") for field in strange
    ]
    fields = {field: getattr(record, field) for field in part}
    return {**fields, "notes": (*fields.get("notes", ()), *notes)}
