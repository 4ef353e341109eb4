"""What a dry run is asked: which modules of aiter are executed, and on which machines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.logits import ENTRY, LOGITS
from nsa_caps.probes.aiter.machines import archs_of, page_sizes, triton_versions, variables
from nsa_caps.probes.aiter.signatures import CACHE, CACHE_KERNELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.probes.aiter.files import PackageFiles

__all__ = ["CHIP", "FLAGS", "GATE", "INTEGERS", "PACKAGE", "TYPES", "task_of"]

PACKAGE = "aiter"
GATE = f"{PACKAGE}.ops.triton.gluon"
TYPES = f"{PACKAGE}.utility.dtypes"
CHIP = (f"{PACKAGE}.jit.utils.chip_info", f"{PACKAGE}.jit.utils.build_targets")
# Everything below is executed; the other modules, C++ operators above all, stand in.
_EXECUTED = (f"{PACKAGE}.ops.triton.", f"{PACKAGE}.utility.")
_TOO = frozenset({PACKAGE, f"{PACKAGE}.ops.triton", CACHE, *CHIP})
_LEFT_OUT = frozenset({f"{PACKAGE}.utility.aiter_types"})
INTEGERS = (None, "0", "1", "2", " -1 ", "true", "")
FLAGS = (None, "", "0", "1", "true")
# Machines on which a variable that is no dimension is tried.
_TRIED = (("3.8.0", "gfx942"), ("3.5.0", "gfx950"), ("3.3.1", "gfx942"), ("3.8.0", "gfx1100"))
_MOST_MODULES, _MOST_CHARACTERS = 150, 2**22
_MOST_ARCHS, _MOST_VARIABLES = 14, 2
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+([\w., \t]+))", re.MULTILINE
)
_NAME = re.compile(r"\w+")


class _Closure:
    """The modules that some roots take names from."""

    def __init__(self, files: PackageFiles) -> None:
        self.files = files
        self.sources: dict[str, tuple[str, str]] = {}
        self.present: set[str] = set()
        self._left = _MOST_CHARACTERS

    def add(self, root: str) -> None:
        """Add a module and all that it imports, each with its parents."""
        todo = [root]
        while todo:
            parts = todo.pop().split(".")
            for end in range(1, len(parts) + 1):
                todo += self._one(".".join(parts[:end]))

    def _one(self, name: str) -> list[str]:
        if name in self.sources:
            return []
        path = self.files.module(name)
        if path is None:
            return []
        text = self.files.text(path) if path else None
        runs = name in _TOO or (name.startswith(_EXECUTED) and name not in _LEFT_OUT)
        if text is None or not runs or len(self.sources) == _MOST_MODULES or len(text) > self._left:
            self.present.add(name)
            return []
        self._left -= len(text)
        self.sources[name] = (path, text)
        if name in (PACKAGE, f"{PACKAGE}.ops.triton"):
            # What a package brings beside the kernels stands in.
            self.present.update(each for each in _imported(name, path, text) if self.files.module(each) is not None)
            return []
        return list(_imported(name, path, text))


def _imported(name: str, path: str, text: str) -> Iterator[str]:
    """Yield every module that a text may import; too many do no harm, so that nothing is parsed."""
    package = (name if path.endswith("__init__.py") else name.rpartition(".")[0]).split(".")
    for base, names, plain in _IMPORT.findall(text):
        level = len(base) - len(base.lstrip("."))
        above = package[: len(package) - level + 1] if level else []
        whole = ".".join([*above, base[level:]] if base[level:] else above)
        for dotted in [whole] if whole else plain.split(","):
            yield from _named(dotted.strip().partition(" ")[0])
        if whole.partition(".")[0] == PACKAGE:
            yield from (f"{whole}.{each}" for each in _NAME.findall(names))


def _named(dotted: str) -> Iterator[str]:
    if dotted.partition(".")[0] == PACKAGE:
        yield dotted
    elif "." not in dotted:
        # aiter puts this folder on the path.
        yield f"{PACKAGE}.jit.utils.{dotted}"


def task_of(files: PackageFiles) -> dict[str, Any] | None:
    """Return the task as JSON values; None where there is no logits function to ask about."""
    module = next((name for name in LOGITS if files.module(name)), None)
    text = files.text(files.module(module) or "") if module else None
    if module is None or text is None:
        return None
    found = _Closure(files)
    chip = next((name for name in CHIP if files.module(name)), CHIP[0])
    for root in (PACKAGE, module, GATE, TYPES, CACHE, chip):
        found.add(root)
    deciding = _deciding_text(found, module)
    gate = found.sources.get(GATE, ("", ""))[1]
    names = variables(text)[:_MOST_VARIABLES]
    one = {"triton": "3.8.0", "arch": "gfx942"}
    return {
        "sources": found.sources,
        "present": sorted(found.present),
        "asked": {
            "gate": {
                "module": GATE,
                "triton": triton_versions(gate),
                "arch": archs_of(gate)[:_MOST_ARCHS],
                "environ": dict.fromkeys(variables(gate)[:_MOST_VARIABLES], INTEGERS),
                "tried": _TRIED,
            },
            "types": {"module": TYPES, "triton": "3.8.0", "arch": archs_of(found.sources.get(TYPES, ("", ""))[1])},
            "package": one,
            "cache": {"module": CACHE, "names": sorted(CACHE_KERNELS), **one},
            "archs": {"module": chip, **one},
            "logits": {
                "module": module,
                "entry": ENTRY,
                "triton": triton_versions(deciding),
                "arch": archs_of(text)[:_MOST_ARCHS],
                "page": page_sizes(text),
                "tiles": (False, True),
                "environ": dict.fromkeys(names, FLAGS),
                "tried": _TRIED,
            },
        },
    }


def _deciding_text(found: _Closure, module: str) -> str:
    """Return the texts in which a Triton may be named that makes a difference to a call: those that ask for one."""
    texts = [text for name, (_, text) in found.sources.items() if name not in (PACKAGE, GATE) and "__version__" in text]
    return "\n".join((found.sources[module][1], *texts))
