"""What the reader says that a module does, against Python: small modules are generated, read, and executed.

The oracle is `exec` on each machine. The reader may say that it does not know; what it says must be so.
"""

from __future__ import annotations

import builtins
import importlib
import warnings
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.modules import Modules
from nsa_caps.probes.aiter.run import Run, TooMuchError
from nsa_caps.probes.aiter.segments import Segment, segments
from nsa_caps.probes.aiter.space import Raised, Space, Thing, is_known, parts_of
from nsa_caps.probes.aiter.values import Where

if TYPE_CHECKING:
    from collections.abc import Mapping

MODULE = "aiter.ops.triton.utils.core"
TRITONS = ("3.4.0", "3.5.0rc1", "3.10.0")
SETTINGS = (None, "0", "1", "yes")
VARIABLE = "AITER_X"
HEAD = "import os\nimport triton\nfrom packaging.version import Version\n"
NAMES = ("a", "b", "c")


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


def compiled(text: str) -> Any:
    """Compile a module; what Python would say of it, such as that a number is called, is not of interest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, "it.py", "exec", dont_inherit=True)


def executed(text: str, triton: str, setting: str | None) -> tuple[str | None, Mapping[str, Any]]:
    """Return the error that ends a module on a machine, if one does, and what it has bound."""
    environ = {} if setting is None else {VARIABLE: setting}
    stand_ins: dict[str, Any] = {
        "os": SimpleNamespace(environ=environ, getenv=environ.get, sep="/"),
        "triton": SimpleNamespace(__version__=triton),
    }

    def bring(name: str, *_: object) -> Any:
        return stand_ins[name] if name in stand_ins else importlib.import_module(name)

    scope: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": bring}, "__name__": MODULE}
    try:
        exec(compiled(text), scope)  # noqa: S102 - generated below, and harmless
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return type(error).__name__, scope
    return None, scope


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


def checked(body: str) -> tuple[int, int]:
    """Compare a module's reading with its execution; return how many machines and values were known."""
    text = HEAD + body
    space = Space({"triton": TRITONS, f"env:{VARIABLE}": SETTINGS})
    modules = Modules(OneFile(text))
    run = Run(space, modules, call_function)
    try:
        frame = modules.frame(run, MODULE, Where(MODULE, 0))
    except TooMuchError:
        return 0, 0
    raised = doubt = 0
    for event in run.events:
        doubt |= event.may & ~event.must
        raised |= event.must if event.kind == "raise" else 0
    alive = run.may & run.must & ~run.doubt & ~doubt
    machines = values = 0
    for triton, setting in product(TRITONS, SETTINGS):
        mask = space.has("triton", triton) & space.has(f"env:{VARIABLE}", setting)
        error, real = executed(text, triton, setting)
        if mask & raised & ~doubt:
            machines += 1
            assert error is not None, (triton, setting, "does not raise")
        if not mask & alive:
            continue
        machines += 1
        assert error is None, (triton, setting, error)
        assert frame is not None
        for name in NAMES:
            for _, value in parts_of(frame.names.get(name, Raised("NameError")), mask):
                if isinstance(value, Raised):
                    assert name not in real, (triton, setting, name, real[name])
                elif not isinstance(value, Thing) and is_known(value):
                    values += 1
                    assert name in real, (triton, setting, name, value)
                    assert same(value, real[name]), (triton, setting, name, value, real[name])
    return machines, values


PLAIN = st.sampled_from(["0", "1", "2", "'3'", "'a.b'", "''"])
ATOMS = st.sampled_from(
    [
        "0",
        "1",
        "2",
        "5",
        "-1",
        "True",
        "False",
        "None",
        "''",
        "'3'",
        "'1'",
        "'3.5.0'",
        "'a.b'",
        "1.5",
        *NAMES,
        "triton.__version__",
        f"os.environ.get('{VARIABLE}')",
        f"os.environ.get('{VARIABLE}', '0')",
        f"os.getenv('{VARIABLE}', '1')",
        f"(os.environ.get('{VARIABLE}') or 'x')",
        "Version(triton.__version__)",
        "Version('3.5.0')",
        "()",
        "[]",
        "{}",
        "f(1)",
        "f",
    ]
)


def _expressions(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(two, st.sampled_from(["+", "-", "*", "//", "%", "/", "&", "|", "<<", "**"])).map(_binary),
        st.tuples(two, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not"])).map(
            _binary
        ),
        st.tuples(two, st.sampled_from(["and", "or"])).map(_binary),
        st.tuples(inner, inner, inner).map("({0[0]} < {0[1]} <= {0[2]})".format),
        inner.map("(not {})".format),
        PLAIN.map("(-{})".format),
        st.tuples(inner, inner, inner).map("({0[0]} if {0[1]} else {0[2]})".format),
        two.map("({0[0]}, {0[1]})".format),
        two.map("[{0[0]}, {0[1]}]".format),
        st.tuples(PLAIN, inner).map("{{{0[0]}: {0[1]}}}".format),
        st.tuples(PLAIN, PLAIN).map("{{{0[0]}, {0[1]}}}".format),
        two.map("{0[0]}[{0[1]}]".format),
        two.map("{0[0]}[{0[1]}:]".format),
        two.map("({{'1': {0[0]}, '3.4.0': {0[1]}}}).get(triton.__version__, 2)".format),
        st.tuples(
            inner, st.sampled_from(["len", "int", "str", "bool", "tuple", "max", "sorted", "any", "f", "Version"])
        ).map("{0[1]}({0[0]})".format),
        st.tuples(
            inner,
            st.sampled_from(
                [
                    "split('.')",
                    "startswith('3')",
                    "upper()",
                    "partition('.')",
                    "base_version",
                    "release",
                    "replace('3', '4')",
                    "lower().strip()",
                    "join(('x', 'y'))",
                    "isdigit()",
                    "count('3')",
                    "keys()",
                    "get('1')",
                    "append(1)",
                ]
            ),
        ).map("{0[0]}.{0[1]}".format),
        two.map("f'{{{0[0]}}}-{{{0[1]}}}'".format).filter(lambda text: text.count("'") == 2),
        inner.map("(a := {})".format),
        inner.map("(lambda: {})()".format),
        inner.map("[x for x in {}]".format),
    )


def _binary(parts: tuple[tuple[str, str], str]) -> str:
    (left, right), sign = parts
    return f"({left} {sign} {right})"


EXPRESSIONS = st.recursive(ATOMS, _expressions, max_leaves=5)
ERRORS = st.sampled_from(["ValueError", "TypeError", "Exception", "(KeyError, IndexError)", "ImportError", "NameError"])


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _statements(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    block = st.lists(inner, min_size=1, max_size=2).map("\n".join).map(_indented)
    name = st.sampled_from(NAMES)
    return st.one_of(
        st.tuples(EXPRESSIONS, block, block).map("if {0[0]}:\n{0[1]}\nelse:\n{0[2]}".format),
        st.tuples(EXPRESSIONS, block).map("if {0[0]}:\n{0[1]}".format),
        st.tuples(block, ERRORS, block).map("try:\n{0[0]}\nexcept {0[1]}:\n{0[2]}".format),
        st.tuples(block, block, block).map("try:\n{0[0]}\nexcept ValueError:\n{0[1]}\nelse:\n{0[2]}".format),
        st.tuples(block, block).map("try:\n{0[0]}\nfinally:\n{0[1]}".format),
        st.tuples(name, EXPRESSIONS, block).map("for {0[0]} in {0[1]}:\n{0[2]}".format),
        st.tuples(block, EXPRESSIONS).map("def f(x, y=2):\n{0[0]}\n    return {0[1]}".format),
        st.tuples(name, block, EXPRESSIONS).map("def f(x, y=2):\n    global {0[0]}\n{0[1]}\n    return {0[2]}".format),
        st.tuples(EXPRESSIONS, block).map("def f(x):\n    if {0[0]}:\n        return 1\n{0[1]}".format),
        block.map("class g:\n{}".format),
    )


SIMPLE = st.one_of(
    st.tuples(st.sampled_from(NAMES), EXPRESSIONS).map(" = ".join),
    st.tuples(st.sampled_from(NAMES), EXPRESSIONS).map("{0[0]}: object = {0[1]}".format),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["+=", "-=", "*="]), EXPRESSIONS).map(" ".join),
    EXPRESSIONS.map("a = b = {}".format),
    EXPRESSIONS.map("a, b = {}".format),
    EXPRESSIONS.map("a, *b = {}".format),
    st.tuples(st.sampled_from(NAMES), EXPRESSIONS, EXPRESSIONS).map("{0[0]}[{0[1]}] = {0[2]}".format),
    EXPRESSIONS.map("assert {}".format),
    EXPRESSIONS,
    st.sampled_from(
        [
            "raise ValueError('no')",
            "raise KeyError",
            "del a",
            "del b",
            "pass",
            "a.append(1)",
            "globals()['a'] = 1",
            "import sys",
            "from os import sep as a",
            "b.update({1: 2})",
            "global a",
            "vars()['b'] = 2",
            "print(a)",
            "f = len",
            "max = min",
        ]
    ),
)
STATEMENTS = st.recursive(SIMPLE, _statements, max_leaves=4)
BODIES = st.lists(STATEMENTS, min_size=1, max_size=6).map("\n".join)


def parses(body: str) -> bool:
    """Return whether Python takes a module; how a `global` stands can keep it from that."""
    try:
        compiled(HEAD + body)
    except SyntaxError:
        return False
    return True


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(BODIES.filter(parses))
def test_what_is_said_of_a_module_is_so(body: str) -> None:
    """Where a module is said to run it runs, and binds what is said; where it is said to raise it raises."""
    checked(body)


# Each was once read wrong, or shows that something is known at all.
MODULES = {
    "a loop over what is no sequence": "for a in 0:\n    pass",
    "parts of what has none": "a, b = 0",
    "parts of a longer tuple": "a, b = (1, 2, 3)",
    "a class whose body refuses": "class g:\n    a[0] = 0",
    "a comprehension over a name that nothing binds": "a = [x for x in b]",
    "a chain that stops at its first": "a = 0 < (1 == 0) <= triton.__version__",
    "a chain that stops before a name that nothing binds": "a = 2 < 1 < b",
    "an attribute that a text has not": "if not 'a.b'.base_version:\n    a = 1",
    "an attribute that one text has not": f"if not (os.environ.get('{VARIABLE}') or 1).upper:\n    a = 1",
    "equal numbers that need not be one": "a = 257 is int('257')",
}


@pytest.mark.parametrize("body", MODULES.values(), ids=MODULES)
def test_a_module_that_was_once_read_wrong(body: str) -> None:
    """What was found stays mended."""
    checked(body)


def test_what_differs_from_machine_to_machine_is_known() -> None:
    """On each of twelve machines it is known that the module runs, and what two names hold."""
    gate = "a = 1\nif Version(triton.__version__) >= Version('3.5'):\n    a = 2\n"
    assert checked(f"{gate}b = os.getenv('{VARIABLE}', '0') == '1'") == (12, 24)
