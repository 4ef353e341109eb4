"""Whether a test fails: in a child of a process that has imported pytest and never the library.

A first run tells which tests execute a line, and how long each takes. A mutant is shown to those of its line, the
quickest first, and where it survives them to all others of their files, which may use what one of them had computed.
A line that runs as its module is imported is executed by every file.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import coverage
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from multiprocessing.queues import SimpleQueue

__all__ = ["Baseline", "baselines", "is_killed", "warm_up", "workers"]

# What tests import, and what takes longer than most of them; nothing that imports the library.
_WARM = ("hypothesis", "jsonschema", "numpy", "packaging", "rich", "torch")
# The seconds of the processor that a test of a mutant has beyond ten times its own, where it makes something endless,
# and those by the clock beyond forty times, where it waits.
_SECONDS, _WAITING = 10, 60
_OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class Baseline(NamedTuple):
    """The tests of a part, without any mutant.

    Attributes:
        seconds: how long each takes, by its identifier.
        by_line: the tests that execute a line, by module and line; a file stands for what it executes in no test.
        failed: the tests and files that fail.
        options: what pytest is given with them.
    """

    seconds: Mapping[str, float]
    by_line: Mapping[str, Mapping[int, frozenset[str]]]
    failed: tuple[str, ...]
    options: tuple[str, ...]

    def executing(self, module: str, source: str, line: int) -> frozenset[str]:
        """Return the tests and files that execute any line of the statement that a line is part of."""
        lines = self.by_line.get(module, {})
        return frozenset().union(*(lines.get(number, frozenset()) for number in _statement(source, line)))


# Of each part, in a worker.
_BASES: dict[str, Baseline] = {}


def warm_up() -> None:
    """Import what tests import, so that a child need not."""
    # Each worker has one core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in _WARM:
        if find_spec(name) is not None:
            import_module(name)


def workers(copies: Collection[Path], bases: Mapping[str, Baseline]) -> ProcessPoolExecutor:
    """Return a process for each copy of the sources, which works in it, takes the library from it, and has `bases`."""
    context = get_context("fork")
    queue: SimpleQueue[Path] = context.SimpleQueue()
    for copy in copies:
        queue.put(copy)
    return ProcessPoolExecutor(len(copies), context, initializer=_settle, initargs=(queue, bases))


def _settle(queue: SimpleQueue[Path], bases: Mapping[str, Baseline]) -> None:
    copy = queue.get()
    sys.path[:0] = [str(copy / "src"), str(copy)]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2] + os.environ.get("PYTHONPATH", "").split(os.pathsep))
    os.chdir(copy)
    _BASES.update(bases)


def baselines(
    pool: ProcessPoolExecutor, parts: Mapping[str, Collection[str]], options: tuple[str, ...]
) -> dict[str, Baseline]:
    """Run the files of tests of some parts, each once, counting lines."""
    running = {file: pool.submit(_timed, file, options) for files in parts.values() for file in files}
    return {part: _together([running[file].result() for file in files], options) for part, files in parts.items()}


def _together(found: Iterable[dict[str, Any]], options: tuple[str, ...]) -> Baseline:
    seconds: dict[str, float] = {}
    by_line: dict[str, dict[int, set[str]]] = {}
    failed: set[str] = set()
    for told in found:
        seconds.update(told["seconds"])
        failed.update(told["failed"])
        for module, lines in told["lines"].items():
            for line, tests in lines.items():
                by_line.setdefault(module, {}).setdefault(int(line), set()).update(tests)
    return Baseline(
        {test: taken for test, taken in seconds.items() if test not in failed},
        {m: {line: frozenset(tests - failed) for line, tests in lines.items()} for m, lines in by_line.items()},
        tuple(sorted(failed)),
        options,
    )


def _timed(file: str, options: tuple[str, ...]) -> dict[str, Any]:
    """Run a file of tests: how long each takes, the tests of each line, and those that fail."""
    sources, told = Path("src/nsa_caps").resolve(), Path(f"{file}.json")
    told.unlink(missing_ok=True)

    def run() -> int:
        counted = coverage.Coverage(data_file=None, config_file=False, include=[f"{sources}/*"])
        counted.start()
        timing = _Timing(counted)
        base = f"--basetemp=../tests-{file.replace('/', '-')}"
        status = int(pytest.main([*_OPTIONS, *options, base, file], plugins=[timing]))
        counted.stop()
        data = counted.get_data()
        lines = {
            str(Path(path).relative_to(sources)): {
                line: [test or file for test in tests] for line, tests in data.contexts_by_lineno(path).items()
            }
            for path in data.measured_files()
        }
        told.write_text(json.dumps({"seconds": timing.seconds, "lines": lines, "failed": timing.failed}))
        return status

    _in_child(run)
    if not told.exists():
        return {"seconds": {}, "lines": {}, "failed": [file]}
    found: dict[str, Any] = json.loads(told.read_text())
    if not found["seconds"]:
        found["failed"].append(file)
    return found


def is_killed(part: str, module: str, source: str, line: int) -> bool:
    """Return whether a test of a part fails: of those that execute a line, or, where they pass, of their files."""
    base = _BASES[part]
    executing = base.executing(module, source, line)
    files = {test.split("::")[0] for test in executing}
    nearest = base.seconds.keys() & executing
    others = {test for test in base.seconds if test.split("::")[0] in files} - nearest
    return any(_fails(base, tests) for tests in (nearest, others) if tests)


def _fails(base: Baseline, tests: Collection[str]) -> bool:
    def run() -> int:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        files = sorted({test.split("::")[0] for test in tests})
        # No child that is ended at once leaves a folder behind: each clears that of the one before.
        options = ("-x", "--basetemp=../tests", *base.options)
        return int(pytest.main([*_OPTIONS, *options, *files], plugins=[_Picking(base.seconds, tests)]))

    # Where a mutant has other parameters of tests, those that were picked may not be there: nothing failed.
    return _in_child(run) not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def _in_child(run: Callable[[], int]) -> int:
    """Return what `run` returns in a child, or what the child ended with; it prints nothing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            quiet = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(quiet, descriptor)
            status = run()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


class _Timing:
    """A plugin of pytest's that tells coverage which test runs, how long it took, and whether it failed."""

    def __init__(self, counted: coverage.Coverage) -> None:
        self._counted = counted
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._counted.switch_context(item.nodeid)
        start = time.monotonic()
        yield
        self.seconds[item.nodeid] = time.monotonic() - start
        self._counted.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


class _Picking:
    """A plugin of pytest's that leaves only some tests, the quickest first, and ends the process that waits for one."""

    def __init__(self, seconds: Mapping[str, float], tests: Collection[str]) -> None:
        self._seconds, self._tests = seconds, frozenset(tests)
        self._limit(60.0)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        picked = [item for item in items if item.nodeid in self._tests]
        items[:] = sorted(picked, key=lambda item: self._seconds[item.nodeid])

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._limit(self._seconds[item.nodeid])

    @staticmethod
    def _limit(seconds: float) -> None:
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + _SECONDS + 10 * seconds), resource.RLIM_INFINITY))
        signal.alarm(int(_WAITING + 40 * seconds))


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
