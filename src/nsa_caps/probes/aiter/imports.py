"""What `import aiter` meets before any kernel: the gluon package's minimum, its own branches, the fp8 types."""

from __future__ import annotations

from typing import Any

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.machines import archs_of, triton_versions, variables, version_of
from nsa_caps.probes.aiter.modules import PACKAGE, Modules
from nsa_caps.probes.aiter.run import Event, Run, TooMuchError
from nsa_caps.probes.aiter.space import Space, parts_of, text_of, without
from nsa_caps.probes.aiter.values import Frame, Later, ModuleRef, Where

__all__ = ["fp8_facts", "gate_facts", "trim_facts"]

GATE = f"{PACKAGE}.ops.triton.gluon"
TYPES = f"{PACKAGE}.utility.dtypes"
# Whole numbers, also spelled oddly, and what is none.
_INTEGERS = (None, "0", "1", "2", " -1 ", "true", "")
_FLAGS = (None, "", "0", "1", "true")
# Variables that may keep `import aiter` from bringing the kernels; others are read for a log or a cache.
_TRIMS = ("AITER_TRITON_ONLY", "AITER_AOT_IMPORT")
_FNUZ, _FN = "torch.float8_e4m3fnuz", "torch.float8_e4m3fn"
_NO_FP8 = "torch.uint8"


def _executed(files: Any, module: str, space: Space) -> tuple[Run, Frame | None]:
    modules = Modules(files, apart=frozenset({PACKAGE, GATE}) - {module})
    run = Run(space, modules, call_function)
    try:
        frame = modules.frame(run, module, Where(module))
    except (TooMuchError, RecursionError) as error:
        run.unaccounted(str(error), Where(module))
        frame = None
    return run, frame


def _outcome(run: Run) -> tuple[int, int]:
    """Return the machines that surely raise, and those of which that is not known."""
    raised = doubt = 0
    for event in run.events:
        doubt |= without(event.may, event.must)
        if event.kind == "raise":
            raised |= event.must
    return without(raised, doubt), doubt


def _blamed(run: Run) -> tuple[Event, ...]:
    doubtful = [event for event in run.events if event.kind == "unaccounted"]
    return tuple(doubtful or (event for event in run.events if event.kind == "raise"))


def gate_facts(files: Any) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """Return the Triton minimum of the gluon package (f061fba9) and its way out (3b2e6f48), and what stands against it.

    `none` where there is no minimum. Nothing is returned where the source refuses in another way.
    """
    path = files.module(GATE)
    text = files.text(path) if path else ""
    names = variables(text or "")[:2]
    space = Space(
        {
            "triton": triton_versions(text or ""),
            "arch": archs_of(text or ""),
            **{f"env:{name}": _INTEGERS for name in names},
        }
    )
    run, _ = _executed(files, GATE, space)
    raised, doubt = _outcome(run)
    beyond = [event for event in run.events if event.kind == "raise" and event.file != path]
    if doubt or beyond or (path and text is None):
        return {}, tuple(beyond) or _blamed(run)
    if not raised:
        return {"gate_triton": "none", "gate_escape": "none"}, ()
    tritons = space.dimensions["triton"]
    for escape in (None, *names):
        unset = space.has(f"env:{escape}", None) if escape else space.all
        below = [version for version in tritons if not without(space.has("triton", version) & unset, raised)]
        for least in tritons:
            minimum = version_of(least.split("+")[0])
            if [version for version in tritons if version_of(version.split("+")[0]) < minimum] != below:
                continue
            expected = space.where("triton", lambda version: version_of(version.split("+")[0]) < minimum)  # noqa: B023
            if escape:
                expected &= ~space.where(f"env:{escape}", _lets_by)
            if expected == raised:
                return {"gate_triton": str(minimum), "gate_escape": escape or "none"}, ()
    return {}, _blamed(run)


def _lets_by(value: str | None) -> bool:
    try:
        return int("0" if value is None else value) != 0
    except ValueError:
        return False


def trim_facts(files: Any) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """Return the variables that leave `dtypes`, which the kernels' modules take from the package, out of it."""
    text = files.text("__init__.py") or ""
    names = [name for name in _TRIMS if name in variables(text)]
    space = Space({"triton": ("3.8.0",), "arch": archs_of(text), **{f"env:{name}": _FLAGS for name in names}})
    run, frame = _executed(files, PACKAGE, space)
    raised, doubt = _outcome(run)
    if doubt or raised or frame is None:
        return {}, _blamed(run)
    # Whatever a star import below may bind again: the modules beyond take `dtypes` from the package themselves.
    bound = sum(
        mask
        for mask, value in parts_of(frame.names.get("dtypes"), space.all)
        if isinstance(value, (Later, ModuleRef)) and value.text == TYPES
    )
    expected, trims = space.all, []
    for name in names:
        on = space.has(f"env:{name}", "1")
        if not on & bound:
            trims.append(name)
            expected &= ~on
    if bound != expected or not bound:
        run.unaccounted("another way to leave dtypes out", Where("__init__.py"))
        return {}, _blamed(run)
    return {"trimmed_by": tuple(trims)}, ()


def fp8_facts(files: Any) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """Return the archs that aiter has an fp8 type for, if each is the one that its GPU speaks."""
    path = files.module(TYPES)
    text = files.text(path) if path else None
    if text is None:
        return {}, ()
    archs = archs_of(text)
    space = Space({"triton": ("3.8.0",), "arch": archs})
    run, frame = _executed(files, TYPES, space)
    raised, doubt = _outcome(run)
    if doubt or raised or frame is None:
        return {}, _blamed(run)
    found: list[str] = []
    for mask, value in parts_of(frame.names.get("fp8"), space.all):
        name = text_of(value)
        here = [arch for arch in archs if space.has("arch", arch) & mask]
        for arch in here:
            if name == (_FNUZ if arch.startswith("gfx94") else _FN):
                found.append(arch)
            elif name != _NO_FP8:
                run.unaccounted(f"{name} for {arch}", Where(path))
                return {}, _blamed(run)
    return {"fp8_archs": tuple(arch for arch in archs if arch in found)}, ()
