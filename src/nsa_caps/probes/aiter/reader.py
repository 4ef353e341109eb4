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
from nsa_caps.probes.aiter.chain import chain
from nsa_caps.probes.aiter.fitting import fit
from nsa_caps.probes.aiter.flydsl import flydsl_facts
from nsa_caps.probes.aiter.imports import fp8_facts, gate_facts, trim_facts
from nsa_caps.probes.aiter.kernels import body_digest
from nsa_caps.probes.aiter.known import KERNELS as KERNEL_NAMES
from nsa_caps.probes.aiter.logits import ENTRY, LOGITS, outcome_of
from nsa_caps.probes.aiter.modules import FLYDSL, PACKAGE, Modules
from nsa_caps.probes.aiter.run import Event, Run, TooMuchError
from nsa_caps.probes.aiter.signatures import cache_facts, taken, takes_tiles
from nsa_caps.probes.aiter.space import Space
from nsa_caps.probes.aiter.values import Where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from nsa_caps.probes.aiter.files import PackageFiles

    # What is not accounted for: file and text.
    Lines: TypeAlias = list[tuple[str, str]]
    Part: TypeAlias = Callable[[PackageFiles], tuple[dict[str, Any], Lines]]

__all__ = ["PARTS", "read_in_full"]

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
# The modules that the part of the logits executes, beside its facts.
_EXECUTED_TOO = "executed"
# More lines than a reader would look at.
_MOST_LINES = 12


def read_in_full(
    files: PackageFiles, package: str, known: Callable[[str], dict[str, Any] | None] = lambda _: None
) -> Mapping[str, Any]:
    """Find what a source shows.

    Args:
        files: the package's files.
        package: its folder.
        known: returns the facts of a part by its name, None where it must be read.
    """
    source, lines = _read(files, package, known)
    notes = [*files.notes, *(Note("aiter_source", f"{package}/{file}", text) for file, text in lines)]
    return {"aiter_source": source, "notes": tuple(notes)}


def _read(
    files: PackageFiles, package: str, known: Callable[[str], dict[str, Any] | None]
) -> tuple[AiterSource, Lines]:
    module = next((name for name in LOGITS if files.module(name)), None)
    if module is None or files.shadowed.keys() & LOGITS:
        return _without_logits(files, package)
    facts: dict[str, Any] = {"location": package}
    facts["logits_module"] = files.module(module)
    facts["logits_preshuffle"] = takes_tiles(files, module, ENTRY)
    told: dict[str, Lines] = {}
    executed: tuple[str, ...] = ()
    # The logits first: a module that they execute has told what it refuses.
    for name in ("logits", *(each for each in PARTS if each != "logits")):
        old = name in _OF_TILES and facts["logits_preshuffle"] is False
        # Of a module that cannot be read there are no calls.
        if old or (name == "kernels" and "calls" not in facts):
            continue
        found = known(name)
        if found is None:
            found, told[name] = _imports(files, executed) if name == "imports" else PARTS[name](files)
        executed = found.pop(_EXECUTED_TOO, executed)
        facts.update(found)
    lines = [line for name in PARTS for line in told.get(name, ())]
    for dotted, fact in _WHERE.items():
        if files.module(dotted) is None and facts.get(fact) is None and facts["logits_preshuffle"]:
            lines.append((_file(dotted), "is not there"))
    lines = list(dict.fromkeys(lines))[:_MOST_LINES]
    unaccounted = tuple(f"{file}: {text}" for file, text in lines)
    return AiterSource(**facts, unaccounted=unaccounted), lines


def _without_logits(files: PackageFiles, package: str) -> tuple[AiterSource, Lines]:
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


def _told(events: Iterable[Event]) -> Lines:
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
        run.unaccounted(str(error), Where(module))
        found = None
    blamed = tuple(event for event in run.events if event.kind in ("unaccounted", "raise"))
    if blamed or not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        return {}, blamed
    # 0 maps to the word `native`, which is no arch.
    return {"known_archs": tuple(name for name in found.values() if name != "native")}, ()


def _imports(files: PackageFiles, executed: Iterable[str] = ()) -> tuple[dict[str, Any], Lines]:
    """Return whether every module that `import aiter` runs is there and none refuses (None: not known), and two more.

    These are whether the gluon package and that of flydsl are among them. A module that was executed has told what it
    refuses.
    """
    linked = chain(files, next(name for name in LOGITS if files.module(name)))
    told = set(map(files.module, (*_EXECUTED, *executed)))
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
    for name, importer in linked.others.items():
        lines.append((files.module(importer) or importer, f"imports {name}, which no release of aiter needs"))
    return {
        "package_imports_gluon": linked.gluon,
        "imports_flydsl": FLYDSL in linked.certain,
        "imports": None if lines else True,
    }, lines


def _logits(files: PackageFiles) -> tuple[dict[str, Any], Lines]:
    """Return what the logits module does with calls."""
    modules = Modules(files)
    outcome = outcome_of(modules, files)
    if outcome is None:
        return {}, []
    fitted = fit(outcome)
    facts = {**fitted.facts, "calls": fitted.calls, _EXECUTED_TOO: tuple(sorted(modules.frames))}
    return facts, _told(fitted.unaccounted)


def _kernels(files: PackageFiles) -> tuple[dict[str, Any], Lines]:
    """Return what is known of the kernels' bodies: by their digests, each compiled once."""
    lines: Lines = []
    found: dict[str, KernelBody] = {}
    left_out: list[str] = []
    for name, kind in KERNEL_NAMES.items():
        modules = _PLAIN_KERNELS if kind == "plain" else (_GLUON_KERNELS,)
        path = next((files.module(module) for module in modules if files.module(module)), None)
        if path is None and kind == "plain" and all(map(files.excerpt, modules)):
            left_out.append("plain:*")
        if not path or files.text(path) is None:
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
    return facts, lines


def _by_events(look: Callable[[PackageFiles], tuple[dict[str, Any], tuple[Event, ...]]]) -> Part:
    def part(files: PackageFiles) -> tuple[dict[str, Any], Lines]:
        found, blamed = look(files)
        return found, _told(blamed)

    return part


# Each asks only the files for what it tells of.
PARTS: dict[str, Part] = {
    "gate": _by_events(gate_facts),
    "trim": _by_events(trim_facts),
    "fp8": _by_events(fp8_facts),
    "archs": _by_events(_archs),
    "cache": _by_events(cache_facts),
    "takes": lambda files: ({"takes": taken(files)}, []),
    "flydsl": flydsl_facts,
    "imports": _imports,
    "logits": _logits,
    "kernels": _kernels,
}
_OF_TILES = ("cache", "logits")
