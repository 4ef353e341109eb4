"""Small modules, read and executed: the oracle is `exec`, on each of twelve machines."""

from __future__ import annotations

import builtins
import importlib
import posixpath
import traceback
import warnings
from itertools import product
from types import FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.modules import Modules
from nsa_caps.probes.aiter.run import Run
from nsa_caps.probes.aiter.segments import Segment, segments
from nsa_caps.probes.aiter.space import Raised, Space, Thing, is_known, parts_of
from nsa_caps.probes.aiter.values import Where

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.aiter.values import Frame

MODULE = "aiter.ops.triton.utils.core"
TRITONS = ("3.4.0", "3.5.0rc1", "3.10.0")
SETTINGS = (None, "0", "1", "yes")
VARIABLE = "AITER_X"
HEAD = "import os\nimport triton\nfrom packaging.version import Version\n"
NAMES = ("a", "b", "c")
MACHINES = tuple(product(TRITONS, SETTINGS))


class OneFile:
    """A package of which one module has a text, and its parents have none."""

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self, name: str) -> str | None:
        """Return the text of the one file."""
        return self._text if name == "it.py" else None

    def module(self, dotted: str) -> str | None:
        """Return the file of the module, or a folder for its parents."""
        return "it.py" if dotted == MODULE else "" if MODULE.startswith(f"{dotted}.") else None

    def segments(self, name: str) -> list[Segment]:
        """Return its statements."""
        return segments(self.text(name) or "")

    def excerpt(self, dotted: str) -> bool:
        """Return that nothing is left out."""
        del dotted
        return False


class Ended(NamedTuple):
    """How an execution ended.

    Attributes:
        error: the name of the error that ended it, if one did.
        line: at which line of the module that was raised, 0 where none was.
        scope: what the module has bound.
    """

    error: str | None
    line: int
    scope: Mapping[str, Any]


class Compared(NamedTuple):
    """What a reading says, held against an execution.

    Attributes:
        machines: how many of the twelve are known to run, or known to raise.
        values: how many values are known on those that run.
        unknown: machines, and names on machines that run, of which nothing is known.
    """

    machines: int
    values: int
    unknown: list[tuple[str | None, ...]]


def compiled(text: str) -> Any:
    """Compile a module; what Python would say of it, such as that a number is called, is not of interest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, "it.py", "exec", dont_inherit=True)


def executed(text: str, triton: str, setting: str | None) -> Ended:
    """Execute a module on a machine."""
    environ = {} if setting is None else {VARIABLE: setting}
    stand_ins: dict[str, Any] = {
        "os": SimpleNamespace(environ=environ, getenv=environ.get, sep="/", name="posix", path=posixpath),
        "triton": SimpleNamespace(__version__=triton),
    }

    def bring(name: str, *_: object) -> Any:
        return stand_ins[name] if name in stand_ins else importlib.import_module(name)

    scope: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": bring}, "__name__": MODULE}
    try:
        exec(compiled(text), scope)  # noqa: S102 - of these tests, and harmless
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is the answer
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "it.py"]
        return Ended(type(error).__name__, own[-1].lineno or 0, scope)
    return Ended(None, 0, scope)


def same(value: Any, real: Any) -> bool:
    """Return whether a value is the real one, and of its type; the reader has no sets that change."""
    if isinstance(real, (set, frozenset)):
        return isinstance(value, frozenset) and value == real
    if type(value) is not type(real):
        return False
    if isinstance(real, (tuple, list)):
        return len(value) == len(real) and all(map(same, value, real))
    if isinstance(real, dict):
        return list(value) == list(real) and all(same(value[key], real[key]) for key in real)
    return bool(value == real)


def reading(text: str) -> tuple[Run, Frame | None]:
    """Read a module, and return what happened and what it has bound.

    Raises:
        TooMuchError: it is not read.
    """
    modules = Modules(OneFile(text))
    run = Run(Space({"triton": TRITONS, f"env:{VARIABLE}": SETTINGS}), modules, call_function)
    return run, modules.frame(run, MODULE, Where(MODULE, 0))


def compared(body: str) -> Compared:
    """Compare a module's reading with its execution: whatever is known is so.

    Raises:
        TooMuchError: it is not read.
    """
    text = HEAD + body
    run, frame = reading(text)
    space = run.space
    raised = doubt = lost = 0
    for event in run.events:
        assert event.must | event.may | space.all == space.all, event
        assert event.must & ~event.may == 0, event
        # Behind what is not understood nothing is sure.
        assert event.must & lost == 0, event
        lost |= event.may if event.kind == "unaccounted" else 0
        doubt |= event.may & ~event.must
        raised |= event.must if event.kind == "raise" else 0
    assert run.must & ~run.may == 0
    assert run.may | run.doubt | space.all == space.all
    alive = run.may & run.must & ~run.doubt & ~doubt
    machines = values = 0
    unknown: list[tuple[str | None, ...]] = []
    for triton, setting in MACHINES:
        mask = space.has("triton", triton) & space.has(f"env:{VARIABLE}", setting)
        real = executed(text, triton, setting)
        if mask & raised & ~doubt:
            machines += 1
            told = [(event.detail, event.line) for event in run.events if event.kind == "raise" and event.must & mask]
            assert real.error is not None, (triton, setting, "does not raise")
            # Of two errors on one way the later, in a `finally`, is what Python raises.
            assert (real.error, real.line) == told[-1], (triton, setting, real, told)
        elif not mask & alive:
            unknown.append((triton, setting))
        else:
            machines += 1
            assert real.error is None, (triton, setting, real.error)
            assert frame is not None
            known = _known_names(frame.names, mask, real.scope, (triton, setting))
            values += len(known)
            unknown += [(triton, setting, name) for name in NAMES if _is_value(real.scope, name) and name not in known]
    return Compared(machines, values, unknown)


def _known_names(names: Mapping[str, Any], mask: int, real: Mapping[str, Any], machine: object) -> list[str]:
    """Return which names are known on a machine, after comparing them."""
    known = []
    for name in NAMES:
        value = _on(names.get(name, Raised("NameError")), mask)
        if isinstance(value, Raised):
            assert name not in real, (machine, name, real[name])
        elif not isinstance(value, Thing) and is_known(value):
            known.append(name)
            assert name in real, (machine, name, value)
            assert same(value, real[name]), (machine, name, value, real[name])
    return known


def _on(value: Any, mask: int) -> Any:
    """Return a value as it is on one machine, with all that it holds."""
    ((_, here),) = parts_of(value, mask)
    if type(here) in (tuple, list):
        return type(here)(_on(each, mask) for each in here)
    if isinstance(here, dict):
        return {key: _on(each, mask) for key, each in here.items()}
    return here


def _is_value(scope: Mapping[str, Any], name: str) -> bool:
    return name in scope and not isinstance(scope[name], (FunctionType, ModuleType, SimpleNamespace))
