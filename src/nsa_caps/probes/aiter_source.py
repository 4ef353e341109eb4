"""What the installed aiter's own source shows of its gates: read, never imported, never guessed from a version.

Development builds named 0.1.14rc1.dev55 have a gate that release 0.1.14.post1 has not, so the version tells nothing.
Each fact is looked up in a table of the shapes that the source has had; another shape is unknown (None), and the
policy never selects on an unknown.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import field_names
from nsa_caps.capabilities.records import AiterSource, Note
from nsa_caps.probes.aiter_logits import logits_facts
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.packages import aiter_folder
from nsa_caps.probes.python_source import SourceError, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nsa_caps.probes.host import Host

__all__ = ["aiter_source"]

# The first is where the module moved with 4c2a3025 (2026-01-07).
_LOGITS_MODULES = ("ops/triton/attention/pa_mqa_logits.py", "ops/triton/pa_mqa_logits.py")
_GFX_MAPS = ("jit/utils/build_targets.py", "jit/utils/chip_info.py")
_CACHE_MODULE, _TYPES, _ATTENTION = "ops/cache.py", "utility/dtypes.py", "ops/attention.py"
_PACKAGE = "__init__.py"
_GATE_MODULE, _GLUON_MODULE = "ops/triton/gluon/__init__.py", "ops/triton/gluon/pa_mqa_logits.py"
# Where a note on a fact that was not found sends its reader: the first file of these that is there. Every fact that is
# not named stands in the module of the logits function.
_STANDS_IN = {
    "store_preshuffle": (_CACHE_MODULE,),
    "gather_preshuffle": (_CACHE_MODULE,),
    "known_archs": _GFX_MAPS,
    "fp8_archs": (_TYPES,),
    "gate_triton": (_GATE_MODULE,),
    "gate_escape": (_GATE_MODULE,),
    "package_imports_gluon": (_ATTENTION,),
    "trimmed_by": (_PACKAGE,),
    "mfma": (_GLUON_MODULE,),
    "mfma_3d": (_GLUON_MODULE,),
    "wide_offsets": (_GLUON_MODULE,),
}

_GATE_VERSION = "_triton_version = Version(triton.__version__.split('+')[0])"
_GATE_TEST = "_triton_version < _min_version"
_GATE_ESCAPE = r"int\(os\.environ\.get\('(\w+)', (?:0|'0')\)\)(?: != 0)?"
# aiter#2879 gave both the argument `preshuffle`.
_CACHE_KERNELS = {
    "indexer_k_quant_and_cache": "store_preshuffle",
    "cp_gather_indexer_k_quant_cache": "gather_preshuffle",
}
_MFMA_LAYOUT = r"AMDMFMALayout\(\s*version=(\w+),\s*instr_shape=\[([^\]]*)\]"
_GLUON_KERNEL = r"(?m)^def _gluon_deepgemm_fp8_paged_mqa_logits(\w*)\("
# A branch of the package that binds less than the last one does, and the variable that leads into it.
_TRIM_VARIABLES = ("AITER_TRITON_ONLY", "AITER_AOT_IMPORT")
_TRIM = (
    r'(?m)^{0} = (?:\(\s*)?os\.getenv\("{0}", "0"\) == "1"(?:\n| or sys\.platform == "win32"\n\))'
    r"(?s:.*)^(?:el)?if {0}:$"
)
_GLUON_IMPORT = r"(?m)^(?:from|import) (?:aiter\.ops)?\.triton\.gluon\b"


def aiter_source(host: Host) -> Mapping[str, Any]:
    """Find what the installed aiter's source shows; nothing where there is no aiter, or not AMD's."""
    package = aiter_folder(host)
    if package is None:
        return {}
    files = _Files(host, package)
    facts: dict[str, Any] = {"location": package}
    for read in (_logits, _cache, _arch_map, _fp8_archs, _gate, _imports_gluon, _trimmed_by, _gluon_kernels):
        facts.update(read(files))
    unknown = sorted(name for name in field_names(AiterSource) if facts.get(name) is None)
    if unknown and facts.get("logits_preshuffle") is not False:
        files.notes.extend(_unknown_notes(files, package, unknown))
    return {"aiter_source": AiterSource(**facts), "notes": tuple(files.notes)}


def _unknown_notes(files: _Files, package: str, unknown: Sequence[str]) -> Iterator[Note]:
    by_file: dict[str, list[str]] = {}
    for name in unknown:
        places = _STANDS_IN.get(name, _LOGITS_MODULES)
        file = next((place for place in places if files.exists(place)), places[0])
        by_file.setdefault(file, []).append(name)
    for file, names in by_file.items():
        yield Note("aiter_source", f"{package}/{file}", f"not found in a known shape: {', '.join(names)}")


class _Files:
    """The package's files; one that cannot be read leaves a note and counts as not there to be understood."""

    def __init__(self, host: Host, package: str) -> None:
        self.notes: list[Note] = []
        self._host = host
        self._package = package

    def text(self, name: str) -> str | None:
        path = f"{self._package}/{name}"
        try:
            text = self._host.read_text(path)
        except UnreadableError as error:
            self.notes.append(Note("aiter_source", path, error.why))
            return None
        # Most __init__ files are empty; of the others none ever was.
        if text is not None and not text.strip() and not name.endswith("/__init__.py"):
            self.notes.append(Note("aiter_source", path, "is empty"))
            return None
        # As a crash leaves it; what is read by pattern would pass over them.
        if text is not None and "\0" in text:
            self.notes.append(Note("aiter_source", path, "has NUL bytes, which Python does not read"))
            return None
        return text

    def tree(self, name: str) -> ast.Module | None:
        text = self.text(name)
        try:
            return parse(text) if text is not None else None
        except SourceError as error:
            self.notes.append(Note("aiter_source", f"{self._package}/{name}", str(error)))
            return None

    def exists(self, name: str) -> bool:
        return self._host.exists(f"{self._package}/{name}")


def _logits(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read the module of `deepgemm_fp8_paged_mqa_logits`."""
    name = next((name for name in _LOGITS_MODULES if files.exists(name)), None)
    module = files.tree(name) if name else None
    if module is not None:
        yield "logits_module", name
        yield from logits_facts(module)


def _cache(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read which of the cache kernels take `preshuffle` (aiter#2879)."""
    module = files.tree(_CACHE_MODULE)
    for node in module.body if module else ():
        if isinstance(node, ast.FunctionDef) and node.name in _CACHE_KERNELS:
            yield _CACHE_KERNELS[node.name], any(argument.arg == "preshuffle" for argument in node.args.args)


def _arch_map(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read `GFX_MAP`: an arch that it lacks is a KeyError in every kernel."""
    for name in _GFX_MAPS:
        module = files.tree(name)
        for node in module.body if module else ():
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "GFX_MAP"
                and isinstance(node.value, ast.Dict)
            ):
                names = _texts(node.value.values)
                # 0 maps to the word `native`, which is no arch.
                yield "known_archs", names and tuple(name for name in names if name != "native")
                return


def _fp8_archs(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read the archs that aiter has an fp8 type for; elsewhere it views keys as uint8."""
    module = files.tree(_TYPES)
    for node in module.body if module else ():
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "defaultDtypes"
            and isinstance(node.value, ast.Dict)
        ):
            yield "fp8_archs", _texts(node.value.keys)


def _texts(nodes: Sequence[ast.expr | None]) -> tuple[str, ...] | None:
    """Return the texts that literals hold; None where one is no literal, so that no name is missing."""
    texts = tuple(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return texts if len(texts) == len(nodes) else None


def _gate(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read the Triton minimum in `ops/triton/gluon/__init__.py` (f061fba9) and its way out (3b2e6f48)."""
    if not files.exists(_GATE_MODULE):
        yield from (("gate_triton", "none"), ("gate_escape", "none"))
        return
    module = files.tree(_GATE_MODULE)
    if module is None:
        return
    # Only a file without code has no gate: what it imports might raise as well.
    if all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.body):
        yield from (("gate_triton", "none"), ("gate_escape", "none"))
        return
    nodes = list(ast.walk(module))
    statements = {ast.unparse(node) for node in nodes if isinstance(node, ast.Assign)}
    minimum = [
        match[1] for text in statements if (match := re.fullmatch(r"_min_version = Version\('([\d.]+)'\)", text))
    ]
    tests = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == _GATE_TEST]
    refusals = [node for node in nodes if isinstance(node, (ast.Raise, ast.Assert))]
    if len(minimum) != 1 or len(tests) != 1 or len(refusals) != 1 or _GATE_VERSION not in statements:
        return
    yield "gate_triton", minimum[0]
    yield "gate_escape", _escape(tests[0])


def _escape(test: ast.If) -> str | None:
    """Return the variable that turns the error into a warning, `none` where it is raised straight away."""
    if any(isinstance(node, ast.Raise) for node in test.body):
        return "none"
    for node in test.body:
        if isinstance(node, ast.If) and (match := re.fullmatch(_GATE_ESCAPE, ast.unparse(node.test))):
            return match[1]
    return None


def _imports_gluon(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read whether `import aiter` runs the gate: `ops/attention.py`, which it imports, takes a gluon kernel."""
    text = files.text(_ATTENTION)
    # Read by pattern: what every generation has is looked for too.
    if text is not None and "@compile_ops(" in text:
        yield "package_imports_gluon", re.search(_GLUON_IMPORT, text) is not None


def _trimmed_by(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read which variables leave `dtypes`, which the kernels' modules import from the package, out of it."""
    text = files.text(_PACKAGE)
    if text is None:
        return
    named = [variable for variable in _TRIM_VARIABLES if variable in text]
    if all(re.search(_TRIM.format(variable), text) for variable in named):
        yield "trimmed_by", tuple(named)


def _gluon_kernels(files: _Files) -> Iterator[tuple[str, Any]]:
    """Read the MFMA layouts of the gluon kernels by pattern: parsing their 81 kB would cost 23 ms."""
    text = files.text(_GLUON_MODULE)
    if text is None:
        return
    starts = [(match[1].strip("_") or "base", match.start()) for match in re.finditer(_GLUON_KERNEL, text)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    # Without any kernel there is one end too many.
    bodies = {name: text[start:end] for (name, start), end in zip(starts, ends, strict=False)}
    if not {"base", "preshuffle"} <= bodies.keys():
        return
    layouts = {name: re.findall(_MFMA_LAYOUT, bodies[name]) for name in ("base", "preshuffle")}
    if not all(layouts.values()):
        return
    versions = {version for found in layouts.values() for version, _ in found}
    mfma: Callable[[str], str | None] = {"CDNA_VERSION": "target", "3": "3", "4": "4"}.get
    yield "mfma", mfma(versions.pop()) if len(versions) == 1 else None
    yield "mfma_3d", tuple(name for name, found in layouts.items() if any(shape.count(",") == 2 for _, shape in found))
    wide = tuple(name for name in layouts if re.search(r"kv_idx\w*\.to\(gl\.int64\)", bodies[name]))
    yield "wide_offsets", wide
