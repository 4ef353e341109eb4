"""What the installed torch was built for."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.records import Note, Platform
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.python_source import SourceError, parse, string_literals
from nsa_caps.probes.signs import has_driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["platform"]

# The names in torch/version.py, and what a build that sets one is for; the first one set decides.
_BUILDS: tuple[tuple[str, Platform], ...] = (("hip", "rocm"), ("cuda", "cuda"), ("xpu", "xpu"))
# Vendors whose torch is a plugin beside another build: the CPU's, or on x86 the index's own, which is CUDA's.
_PLUGINS: tuple[tuple[str, Platform], ...] = (
    ("torch_npu", "npu"),
    ("torch_musa", "musa"),
    ("habana_frameworks", "hpu"),
)
# Vendors whose torch passes for another's, by a word in its version: 2.7.1+das.opt1, 2.6.0+metax3.2.1.3.
_DISGUISED: tuple[tuple[str, Platform, Platform], ...] = (
    ("das", "rocm", "dcu"),
    ("dtk", "rocm", "dcu"),
    ("metax", "cuda", "metax"),
    ("maca", "cuda", "metax"),
)


def platform(host: Host) -> Mapping[str, Any]:
    """Find the platform: a fact of torch's build, true also on a node without a GPU."""
    notes: list[Note] = []
    build, source = _build(host, notes)
    kind, told, release = _platform(host, build, source, notes)
    return {"platform": kind, "platform_source": told, "build": release, "notes": tuple(notes)}


def _platform(
    host: Host, build: dict[str, str | None] | None, source: str | None, notes: list[Note]
) -> tuple[Platform, str | None, str | None]:
    """Return the platform, where it was read, and the release of CUDA or ROCm."""
    if build is None:
        return "unknown", source, None
    name, kind = next(((name, kind) for name, kind in _BUILDS if build.get(name)), (None, None))
    if name is None or kind is None or (kind == "cuda" and not has_driver(host, "nvidia")):
        for plugin, other in _PLUGINS:
            try:
                location = host.find_package(plugin)
            except UnreadableError as error:
                notes.append(Note("platform", plugin, error.why))
                return "unknown", plugin, None
            if location is not None:
                return other, location, None
    if name is None or kind is None:
        return "cpu", f"{source}: no hip, cuda or xpu", None
    version = str(build.get("__version__") or "").partition("+")[2].lower()
    for word, passes_for, other in _DISGUISED:
        if kind == passes_for and word in version:
            return other, f"{source}: __version__ = {build['__version__']}", None
    if kind == "cuda" and has_driver(host, "metax") and not has_driver(host, "nvidia"):
        return "metax", "/dev/mxcd, and no NVIDIA driver", None
    release = build[name] if kind in ("cuda", "rocm") else None
    return kind, f"{source}: {name} = {build[name]}", release


def _build(host: Host, notes: list[Note]) -> tuple[dict[str, str | None] | None, str | None]:
    """Return the literals of torch's version module, with where they were read."""
    problem = host.stands_in("torch")
    version = host.attribute("torch", "version")
    if problem is None and version is not None:
        held = vars(version) if isinstance(version, (ModuleType, SimpleNamespace)) else {}
        if any(name in held for name, _ in _BUILDS):
            names = ("__version__", *(name for name, _ in _BUILDS))
            texts = {name: host.attribute("torch", "version", name) for name in names}
            return {
                name: text if isinstance(text, str) else None for name, text in texts.items()
            }, "torch.version, as imported"
        # A stub, or one in the middle of its import, has none of them, and says by that of no build what it is for.
        problem = "its version, as imported, names neither hip, cuda nor xpu"
    if problem is not None:
        notes.append(Note("platform", "torch", problem))
        return None, "torch, as imported"
    try:
        location = host.find_package("torch")
    except UnreadableError as error:
        notes.append(Note("platform", "torch", error.why))
        return None, None
    if location is None:
        return None, None
    path = location + "/version.py"
    try:
        text = host.read_text(path)
        literals = string_literals(parse(text or ""))
    except UnreadableError as error:
        notes.append(Note("platform", path, error.why))
        return None, path
    except SourceError as error:
        notes.append(Note("platform", path, str(error)))
        return None, path
    builds = {name for name, _ in _BUILDS}
    unclear = sorted(builds & literals.unclear | (builds - literals.values.keys() if literals.is_open else set()))
    if unclear:
        notes.append(Note("platform", path, f"{', '.join(unclear)}: not a plain text or None to the end of the file"))
        return None, path
    if not literals.values.keys() & builds:
        notes.append(Note("platform", path, "names neither hip, cuda nor xpu"))
        return None, path
    return literals.values, path
