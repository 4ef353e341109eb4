"""What the installed torch was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.records import Note, Platform
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.python_source import SourceError, parse, string_literals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["platform"]

# The names in torch/version.py, and what a build that sets one is for; the first one set decides.
_BUILDS: tuple[tuple[str, Platform], ...] = (("hip", "rocm"), ("cuda", "cuda"), ("xpu", "xpu"))
# Vendors whose torch is a plugin beside a CPU build.
_PLUGINS: tuple[tuple[str, Platform], ...] = (("torch_npu", "npu"), ("torch_musa", "musa"))


def platform(host: Host) -> Mapping[str, Any]:
    """Find the platform: a fact of torch's build, true also on a node without a GPU."""
    notes: list[Note] = []
    build, source = _build(host, notes)
    if build is None:
        return {"platform": "unknown", "platform_source": source, "notes": tuple(notes)}
    for name, kind in _BUILDS:
        if build.get(name):
            return {"platform": kind, "platform_source": f"{source}: {name} = {build[name]}", "notes": tuple(notes)}
    for name, kind in _PLUGINS:
        location = host.find_package(name)
        if location is not None:
            return {"platform": kind, "platform_source": location, "notes": tuple(notes)}
    return {"platform": "cpu", "platform_source": f"{source}: no hip, cuda or xpu", "notes": tuple(notes)}


def _build(host: Host, notes: list[Note]) -> tuple[dict[str, str | None] | None, str | None]:
    """Return the literals of torch's version module, with where they were read."""
    loaded = getattr(host.modules.get("torch"), "version", None)
    if loaded is not None:
        return {name: getattr(loaded, name, None) for name, _ in _BUILDS}, "torch.version, as imported"
    location = host.find_package("torch")
    if location is None:
        return None, None
    path = location + "/version.py"
    try:
        text = host.read_text(path)
        literals = string_literals(parse(text)) if text is not None else {}
    except UnreadableError as error:
        notes.append(Note("platform", path, error.why))
        return None, path
    except SourceError as error:
        notes.append(Note("platform", path, str(error)))
        return None, path
    if not literals.keys() & {name for name, _ in _BUILDS}:
        notes.append(Note("platform", path, "names neither hip, cuda nor xpu"))
        return None, path
    return literals, path
