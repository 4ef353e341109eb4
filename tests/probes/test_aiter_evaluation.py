"""What the reader says that a module does, against Python: small modules are generated, read, and executed.

The oracle is `exec` on each machine. The reader may say that it does not know; what it says must be so.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsa_caps.probes.aiter.run import TooMuchError
from tests.probes.small_modules import HEAD, NAMES, VARIABLE, compared, compiled


def checked(body: str) -> tuple[int, int]:
    """Compare a module's reading with its execution; return how many machines and values were known."""
    try:
        found = compared(body)
    except TooMuchError:
        return 0, 0
    return found.machines, found.values


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
    "a tuple of what differs": "a = 5 in (len(triton.__version__), 1)",
    "tuples of what differs": "a = (len(triton.__version__), 1) == (5, 1)",
    "the largest of what differs": "a = max((len(triton.__version__), 6))",
    "a text of what differs": "a = f'{(triton.__version__, 1)}'",
    "a text of a function": "a = f'{len}'",
    "a key that differs": "a = {(len(triton.__version__), 1): 2}.get((5, 1))",
    "equal versions of other parts": f"a = (Version('3') if os.getenv('{VARIABLE}') else Version('3.0')).release",
    "equal tuples of other parts": f"a = str((1,) if os.getenv('{VARIABLE}') else (True,))",
    "a view of what changes": "a = {'x': 1}\nb = a.values()\na['y'] = 2",
    "a list in a tuple": "a = [1]\nb = (a, 2)\na.append(3)",
    "a list in a list": "a = [[1]]\nb = a[0]\nb.append(2)",
    "a dict in a dict": "a = {'x': {}}\nb = a['x']\nb['y'] = 1",
    "a list of either": f"a = [1]\nb = a if os.getenv('{VARIABLE}') else [2]\na.append(3)",
    "a list with a type": "a = [1]\nb: object = a\na.append(2)",
    "a list that is handed": "a = [1]\ndef f(x):\n    x.append(2)\nf(a)",
    "a list that is handed by name": "a = [1]\ndef f(x):\n    x.append(2)\nf(x=a)",
    "a list that is given back": "a = [1]\ndef f():\n    return a\nb = f()\nb.append(2)",
    "a dict as a default": "a = {}\ndef f(x=a):\n    x['x'] = 2\nf()",
    "a return in a finally": "def f():\n    try:\n        raise KeyError\n    finally:\n        return 1\na = f()",
    "a return in a finally behind one": "def f():\n    try:\n        return 1\n    finally:\n        return 2\na = f()",
    "a finally behind a return": (
        "a = 1\ndef f():\n    global a\n    try:\n        return 1\n    finally:\n        a = 2\nf()"
    ),
    "a finally behind an error": (
        "a = 1\ntry:\n    try:\n        raise KeyError\n    finally:\n        a = 2\nexcept KeyError:\n    b = a"
    ),
    "a finally behind an error of some": (
        f"a = 1\ntry:\n    try:\n        assert os.getenv('{VARIABLE}')\n    finally:\n        a = 2\n"
        "except AssertionError:\n    b = a"
    ),
    "an error's name behind its handler": "a = 1\ntry:\n    raise KeyError\nexcept KeyError as a:\n    pass\nb = a",
    "an error's name in a function": (
        "a = 1\ndef f():\n    b = a\n    try:\n        pass\n    except KeyError as a:\n        pass\nf()"
    ),
    "an import in a function": "a = 1\ndef f():\n    b = a\n    import sys as a\nf()",
    "a function in a function": "a = 1\ndef f():\n    b = a\n    def a(): pass\nf()",
    "a local of a function in a function": (
        "a = 1\ndef f():\n    def g():\n        a = 2\n        return a\n    return (a, g())\nb = f()"
    ),
    "an item of what nothing binds": "a[0 // 0] = 0",
    "or behind what is not known": "a = hasattr(os, 'sep') and 0",
    "a dict has nothing appended": "a = {}\na.append(1)",
    "a list is extended by what is none": "a = []\na.extend(1)",
    "a list is extended by nothing": "a = []\na.extend()",
    "a list that another extends": "a = [1]\nb = a\nb.extend([2])",
    "a dict of none": "a = {**None}",
    "a name that is given twice": "def f(x): return x\na = f(x=1, **{'x': 2})",
    "arguments of a tuple": "def f(x): return x\na = f(*(1, 2))",
    "arguments of a text": "def f(x): return x\na = f(*'ab')",
    "arguments of what is not known": "def f(x): return x\na = f(*hasattr(os, 'sep'))",
    "keywords of a text": "def f(**k): pass\nf(**'ab')",
    "keywords of texts": "def f(**k): pass\nf(**('a', 'b'))",
    "keywords that are no texts": "def f(**k): pass\nf(**{1: 2})",
    "keywords of what is not known": "def f(**k): pass\nf(**hasattr(os, 'sep'))",
    "a shift": "a = 0 << -1",
    "a line of a log of what nothing binds": "print(a)",
    "a line of a log in a class": "class g:\n    print(a)",
    "a function among operands": "def f(): pass\nif 0 + f:\n    a = 0\nelse:\n    a = 0",
}


@pytest.mark.parametrize("body", MODULES.values(), ids=MODULES)
def test_a_module_that_was_once_read_wrong(body: str) -> None:
    """What was found stays mended."""
    checked(body)


def test_what_differs_from_machine_to_machine_is_known() -> None:
    """On each of twelve machines it is known that the module runs, and what two names hold."""
    gate = "a = 1\nif Version(triton.__version__) >= Version('3.5'):\n    a = 2\n"
    assert checked(f"{gate}b = os.getenv('{VARIABLE}', '0') == '1'") == (12, 24)
