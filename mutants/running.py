"""Whether a test fails: in a child of this process, which has imported pytest and never the library.

A first run tells which tests execute a line, and how long each takes. A mutant is shown to those of its line alone, the
quickest first, and to all others of its part only where it survives them.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = ["Baseline", "baseline", "is_killed", "warm_up"]

# What tests import, and what takes longer than most of them; nothing that imports the library.
_WARM = ("hypothesis", "jsonschema", "packaging.version", "torch")
# The seconds of the processor that a mutant has beyond ten times those of its tests, where it makes something endless.
_SECONDS = 10.0
# No child that is ended at once leaves a folder behind: each clears that of the one before.
_OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp=../tests"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


class Baseline(NamedTuple):
    """The tests of a part, without any mutant.

    Attributes:
        seconds: how long each takes, by its identifier.
        by_line: the tests that execute a line, by module and line.
        options: what pytest is given with them.
    """

    seconds: Mapping[str, float]
    by_line: Mapping[str, Mapping[int, frozenset[str]]]
    options: tuple[str, ...]

    def nearest(self, module: str, source: str, line: int) -> frozenset[str]:
        """Return the tests that execute any line of the statement that a line is part of."""
        lines = self.by_line.get(module, {})
        return frozenset().union(*(lines.get(number, frozenset()) for number in _statement(source, line)))


def warm_up(copy: Path) -> None:
    """Import what tests import, so that a child need not, and have the library taken from `copy`, in children too."""
    for name in _WARM:
        import_module(name)
    sys.path[:0] = [str(copy / "src"), str(copy)]
    os.environ["PYTHONPATH"] = f"{copy / 'src'}{os.pathsep}{copy}"
    os.chdir(copy)


def baseline(copy: Path, modules: Collection[str], tests: Collection[str], options: tuple[str, ...]) -> Baseline | None:
    """Run the tests of a part, counting lines; None: one of them fails."""
    told = copy / "baseline.json"

    def run() -> int:
        sources = copy / "src" / "nsa_caps"
        counted = coverage.Coverage(
            data_file=None, config_file=False, include=[f"{sources / name}*" for name in modules]
        )
        counted.start()
        timing = _Timing(counted)
        status = int(pytest.main([*_OPTIONS, *options, *(f"tests/{name}" for name in tests)], plugins=[timing]))
        counted.stop()
        data = counted.get_data()
        lines = {str(Path(path).relative_to(sources)): data.contexts_by_lineno(path) for path in data.measured_files()}
        told.write_text(json.dumps({"seconds": timing.seconds, "lines": lines}), encoding="utf-8")
        return status

    if _in_child(run, None) != 0:
        return None
    document = json.loads(told.read_text(encoding="utf-8"))
    by_line = {
        module: {int(line): frozenset(tests) - {""} for line, tests in lines.items()}
        for module, lines in document["lines"].items()
    }
    return Baseline(document["seconds"], by_line, options)


def is_killed(base: Baseline, nearest: Collection[str]) -> bool:
    """Return whether a test fails: of the nearest ones, or, where they pass, of all others."""
    others = base.seconds.keys() - set(nearest)
    return any(_fails(base, tests) for tests in (nearest, others) if tests)


def _fails(base: Baseline, tests: Collection[str]) -> bool:
    def run() -> int:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        files = sorted({test.split("::")[0] for test in tests})
        return int(pytest.main([*_OPTIONS, *base.options, *files], plugins=[_Picking(base.seconds, tests)]))

    return _in_child(run, _SECONDS + 10 * sum(base.seconds[test] for test in tests)) != 0


def _in_child(run: Callable[[], int], seconds: float | None) -> int:
    """Return what `run` returns in a child, or what the child ended with; it prints nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            quiet = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(quiet, descriptor)
            if seconds is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
            status = run()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


class _Timing:
    """A plugin of pytest's that tells coverage which test runs, and how long it took."""

    def __init__(self, counted: coverage.Coverage) -> None:
        self._counted = counted
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._counted.switch_context(item.nodeid)
        start = time.monotonic()
        yield
        self.seconds[item.nodeid] = time.monotonic() - start
        self._counted.switch_context("")


class _Picking:
    """A plugin of pytest's that leaves only some tests, the quickest first."""

    def __init__(self, seconds: Mapping[str, float], tests: Collection[str]) -> None:
        self._seconds, self._tests = seconds, frozenset(tests)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        picked = [item for item in items if item.nodeid in self._tests]
        items[:] = sorted(picked, key=lambda item: self._seconds[item.nodeid])


def _statement(source: str, line: int) -> range:
    """Return the lines of the innermost statement around a line; of one with a body only its head."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body: list[Any] = getattr(node, "body", [])
            last = body[0].lineno - 1 if body and body[0].lineno > node.lineno else node.end_lineno or node.lineno
            # A line of the body is a statement of its own, which comes later in the walk.
            if line <= last:
                found = range(node.lineno, last + 1)
    return found
