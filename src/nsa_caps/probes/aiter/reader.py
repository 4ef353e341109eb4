"""What the installed aiter's own source shows of its gates: read, never imported, never guessed from a version.

Development builds named 0.1.14rc1.dev55 have a gate that release 0.1.14.post1 has not, so the version tells nothing.
Everything that decides is accounted for: evaluated over every machine to which it can make a difference, or known by a
digest. One statement more, and what depends on it is unknown (None); the policy never selects on an unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.aiter_digests import KERNELS, KernelBody
from nsa_caps.capabilities.records import AiterSource, Note
from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.chain import Chain, chain
from nsa_caps.probes.aiter.fitting import fit
from nsa_caps.probes.aiter.flydsl import flydsl_facts
from nsa_caps.probes.aiter.imports import fp8_facts, gate_facts, trim_facts
from nsa_caps.probes.aiter.kernels import body_digest
from nsa_caps.probes.aiter.known import KERNELS as KERNEL_NAMES
from nsa_caps.probes.aiter.logits import ENTRY, LOGITS, outcome_of
from nsa_caps.probes.aiter.modules import PACKAGE, Modules
from nsa_caps.probes.aiter.run import Event, Run, TooMuchError
from nsa_caps.probes.aiter.signatures import cache_facts, taken, takes_tiles
from nsa_caps.probes.aiter.space import Space
from nsa_caps.probes.aiter.values import Where

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsa_caps.probes.aiter.files import PackageFiles


__all__ = ["read_in_full"]

_CHIP = (f"{PACKAGE}.jit.utils.chip_info", f"{PACKAGE}.jit.utils.build_targets")
_GLUON_KERNELS = f"{PACKAGE}.ops.triton.gluon.pa_mqa_logits"
_PLAIN_KERNELS = (
    f"{PACKAGE}.ops.triton._triton_kernels.attention.pa_mqa_logits",
    f"{PACKAGE}.ops.triton._triton_kernels.pa_mqa_logits",
)
# Where a fact stands that every release with tiles has had.
_WHERE = {
    f"{PACKAGE}.utility.dtypes": "fp8_archs",
    f"{PACKAGE}.ops.cache": "store_preshuffle",
    f"{PACKAGE}.jit.utils.chip_info": "known_archs",
    _GLUON_KERNELS: "mfma",
}
# What the facts of types and archs are read from: its refusals are told with them.
_EXECUTED = (f"{PACKAGE}.utility.dtypes", *_CHIP)
# More lines than a reader would look at.
_MOST_LINES = 12


def read_in_full(files: PackageFiles, package: str) -> Mapping[str, Any]:
    """Find what a source shows, whether it is known or not."""
    source, lines = _read(files, package)
    notes = [*files.notes, *(Note("aiter_source", f"{package}/{file}", text) for file, text in lines)]
    return {"aiter_source": source, "notes": tuple(notes)}


def _read(files: PackageFiles, package: str) -> tuple[AiterSource, list[tuple[str, str]]]:
    module = next((name for name in LOGITS if files.module(name)), None)
    if module is None or files.shadowed.keys() & LOGITS:
        return _without_logits(files, package)
    facts: dict[str, Any] = {"location": package}
    lines: list[tuple[str, str]] = []
    facts["logits_module"] = files.module(module)
    facts["logits_preshuffle"] = takes_tiles(files, module, ENTRY)
    linked = chain(files, module)
    facts["package_imports_gluon"] = linked.gluon
    parts = [gate_facts(files), trim_facts(files), fp8_facts(files), _archs(files)]
    if facts["logits_preshuffle"] is not False:
        parts.append(cache_facts(files))
    for found, blamed in parts:
        facts.update(found)
        lines += _told(blamed)
    facts["takes"] = taken(files)
    found, told = flydsl_facts(files, linked)
    facts.update(found)
    lines += told
    modules = Modules(files)
    outcome = outcome_of(modules, files) if facts["logits_preshuffle"] is not False else None
    facts["imports"], told = _imports(files, linked, {*_EXECUTED, *modules.frames})
    lines += told
    if outcome is not None:
        fitted = fit(outcome)
        facts.update(fitted.facts)
        facts["calls"] = fitted.calls
        lines += _told(fitted.unaccounted)
        facts.update(_kernels(files, lines))
    for dotted, fact in _WHERE.items():
        if files.module(dotted) is None and facts.get(fact) is None and facts["logits_preshuffle"]:
            lines.append((_file(dotted), "is not there"))
    lines = list(dict.fromkeys(lines))[:_MOST_LINES]
    unaccounted = tuple(f"{file}: {text}" for file, text in lines)
    return AiterSource(**facts, unaccounted=unaccounted), lines


def _without_logits(files: PackageFiles, package: str) -> tuple[AiterSource, list[tuple[str, str]]]:
    """Return what is known without the module of the logits: what is older than the kernel has none."""
    if _is_older_than_the_kernel(files):
        return AiterSource(location=package, logits_preshuffle=False), []
    told = [(_file(name), files.shadowed[name]) for name in LOGITS if name in files.shadowed]
    lines = told or [(_file(LOGITS[0]), "is not there: there is no logits module")]
    return AiterSource(location=package, unaccounted=tuple(f"{file}: {text}" for file, text in lines)), lines


def _is_older_than_the_kernel(files: PackageFiles) -> bool:
    """Return whether the package is of before d36601a9: it has the flat folder of that time, and no logits module.

    A newer package that lacks the module may have moved it, of which nothing is known.
    """
    names = files.listing("ops/triton")
    return "pa_decode.py" in names and "attention" not in names and not files.shadowed


def _file(dotted: str) -> str:
    """Return where a module's source would be, below the package."""
    return f"{dotted.removeprefix(PACKAGE).lstrip('.').replace('.', '/')}.py"


def _told(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return where events are and what they are, as lines for a reader."""
    return [(event.file, f"line {event.line}: {event.detail}: not accounted for") for event in events]


def _archs(files: PackageFiles) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """Return the archs of `GFX_MAP`, as the module of `get_gfx` has it: one that it lacks is a KeyError everywhere."""
    modules = Modules(files)
    run = Run(Space({"triton": ("3.8.0",), "arch": ("gfx942",)}), modules, call_function)
    module = next((name for name in _CHIP if files.module(name)), None)
    if module is None:
        return {}, ()
    try:
        found = modules.load(run, module, "GFX_MAP")
    except (TooMuchError, RecursionError) as error:
        run.unaccounted(str(error), Where(module, 0))
        found = None
    blamed = tuple(event for event in run.events if event.kind in ("unaccounted", "raise"))
    if blamed or not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return {}, blamed
    # 0 maps to the word `native`, which is no arch.
    return {"known_archs": tuple(name for name in found.values() if name != "native")}, ()


def _imports(files: PackageFiles, linked: Chain, executed: Iterable[str]) -> tuple[bool | None, list[tuple[str, str]]]:
    """Return whether every module that `import aiter` runs is there and none of them refuses; None: not known.

    A module that was executed has told what it refuses.
    """
    told = set(map(files.module, executed))
    lines = [
        (path, f"line {line}: may refuse the import" if line else problem)
        for path, line, problem in linked.refusals
        if path not in told or not line
    ]
    for dotted, importer in linked.missing.items():
        if dotted in files.shadowed:
            lines.append((_file(dotted), files.shadowed[dotted]))
        elif not files.excerpt(dotted):
            lines.append((_file(dotted), f"is not there, and {files.module(importer) or importer} imports it"))
    return (None if lines else True), lines


def _kernels(files: PackageFiles, lines: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what is known of the kernels' bodies: by their digests, each compiled once."""
    found: dict[str, KernelBody] = {}
    left_out: list[str] = []
    for name, kind in KERNEL_NAMES.items():
        modules = _PLAIN_KERNELS if kind == "plain" else (_GLUON_KERNELS,)
        path = next((files.module(module) for module in modules if files.module(module)), None)
        if path is None and kind == "plain" and all(map(files.excerpt, modules)):
            left_out.append("plain:*")
        if path is None or files.text(path) is None:
            continue
        parts = files.segments(path)
        body = next(
            (
                KERNELS[digest]
                for doing in (False, True)
                if (digest := body_digest(parts, name, doing=doing)) in KERNELS and KERNELS[digest].kernel == kind
            ),
            None,
        )
        if body is None:
            lines.append((path, f"the body of {name} was never compiled"))
        else:
            found[kind] = body
    facts: dict[str, Any] = {}
    gluon = [found[kind] for kind in ("base", "preshuffle") if kind in found]
    compiled = [f"{kind}:{arch}" for kind, body in found.items() for arch in body.archs or ("*",)]
    facts["compiled"] = (*compiled, *left_out)
    if len(gluon) == 2:
        versions = {body.mfma for body in gluon}
        facts["mfma"] = versions.pop() if len(versions) == 1 else None
        facts["mfma_3d"] = tuple(body.kernel for body in gluon if body.mfma_3d)
        facts["wide_offsets"] = tuple(body.kernel for body in gluon if body.wide)
    return facts
