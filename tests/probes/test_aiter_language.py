"""What of Python is understood: every value and error of these small modules is known, and is what `exec` comes to."""

from __future__ import annotations

import pytest

from tests.probes.small_modules import MACHINES, VARIABLE, compared

ENV = f"os.environ.get('{VARIABLE}')"
V = "Version(triton.__version__)"
# Lengths 5, 8 and 6: a number that differs from Triton to Triton.
N = "len(triton.__version__)"

# ruff: noqa: E501
EXPRESSIONS = {
    "sums": ("7 + 2", "7 - 2", "7 * 2"),
    "quotients": ("7 // 2", "7 / 2", "7 % 4"),
    "bits": ("6 & 3", "6 | 3", "-5"),
    "sums of what differs": (f"{N} + 1", f"20 - {N}", f"2 * {N}"),
    "quotients of what differs": (f"{N} // 3", f"{N} / 3", f"{N} % 3"),
    "bits of what differs": (f"{N} & 6", f"{N} | 8", f"-{N}"),
    "two that differ": (f"{N} + len({ENV} or '')", f"({N}, {ENV})", f"[{ENV}, {N}]"),
    "texts": ("'a' + 'b'", "'ab' * 2", "f'{1}{triton.__version__}x'"),
    "texts that differ": (f"f'{{{N}}}-{{triton.__version__}}'", "triton.__version__ + 'x'", f"'x' * {N}"),
    "equal": (f"{N} == 5", f"{N} != 5", f"{ENV} == '0'"),
    "less": (f"{N} < 6", f"{N} <= 6", f"{V} < Version('3.5.0')"),
    "greater": (f"{N} > 6", f"{N} >= 6", f"{V} >= Version('3.5.0rc1')"),
    "texts compared": ("triton.__version__ < '3.4'", "triton.__version__ >= '3.5.0'", "triton.__version__ <= '3.4.0'"),
    "in": (f"{ENV} in ('0', None)", f"{ENV} not in ['0', '1']", "'rc' in triton.__version__"),
    "in a set": (f"{ENV} in {{'0', 'x'}}", "3 in {1, 2}", "2 in {1, 2}"),
    "is": (f"{ENV} is None", f"{ENV} is not None", f"None is {ENV}"),
    "is, of one value": ("None is None", "1 is not None", "() is None"),
    "is, of truth values": (f"({N} == 5) is True", f"True is not ({N} == 5)", "False is False"),
    "is, of a function": ("len is None", "len is not None", "max is None"),
    "chains": ("1 < 2 < 3", "3 > 2 == 1", "1 < 3 < 2"),
    "chains of what differs": (f"5 < {N} < 8", f"5 <= {N} <= 6", f"{N} > 5 != 5"),
    "not": (f"not {ENV}", f"not ({N} > 5)", "not ()"),
    "or": (f"{ENV} or 'x'", f"{ENV} or {N} == 5", "0 or '' or 3"),
    "and": (f"{ENV} and 'x'", f"{ENV} and {N} == 5", "1 and 2 and 3"),
    "or stops": ("1 or 1 // 0", f"{ENV} or 5 or 1 // 0", f"({N} == 5) or ({N} == 8) or 'x'"),
    "and stops": ("0 and 1 // 0", f"{ENV} and 0 and 1 // 0", f"({N} != 5) and ({N} != 8) and 'x'"),
    "and among or": (f"{ENV} and {N} == 5 or 7", f"({ENV} or {N} == 5) and 7", f"not ({ENV} and {N})"),
    "if": (f"1 if {ENV} else 2", f"{N} if {ENV} else {ENV}", f"{ENV} if {N} == 5 else 'x'"),
    "if on one way": ("1 if 1 else 1 // 0", "1 // 0 if 0 else 2", f"{N} if True else 0"),
    "if in if": (f"1 if {ENV} else 2 if {N} == 5 else 3", f"(1 if {N} == 5 else 2) if {ENV} == '1' else 3", "4"),
    "sequences": ("(1, 'a')", "[1, 'a']", "{1, 2}"),
    "dicts": ("{'a': 1, 2: 'b'}", "{**{'a': 1}, 'b': 2}", "{(1, 2): 3}"),
    "parts": ("(1, 2, 3)[1]", "[1, 2][-1]", "{'a': 1}['a']"),
    "parts of what differs": (f"(1, 2, 3, 4, 5, 6, 7, 8, 9)[{N}]", "triton.__version__[2]", f"(0, 1)[{N} == 5]"),
    "parts of either": (f"((1, 2) if {ENV} else (3, 4))[1]", f"({{'a': {N}}} if {ENV} else {{'a': 4}})['a']", "'ab'[1]"),
    "slices": ("(1, 2, 3)[1:]", "'abc'[:-1]", "triton.__version__[1:3]"),
    "slices of what differs": (f"'abcdefghij'[{N}:]", f"triton.__version__[:{N}]", f"(1, 2, 3)[{N} - 5:]"),
    "lookups": ("{'a': 1}.get('a')", "{'a': 1}.get('b')", "{'a': 1}.get('b', 2)"),
    "lookups of what differs": (f"{{'0': 1}}.get({ENV})", f"{{'0': 1}}.get({ENV}, 2)", f"{{'0': {N}}}.get({ENV}, {ENV})"),
    "cut": ("'a.b.c'.split('.')", "'a.b.c'.rsplit('.', 1)", "triton.__version__.split('.')[1]"),
    "cut in three": ("'a.b.c'.partition('.')", "'a.b.c'.rpartition('.')", "triton.__version__.partition('rc')[0]"),
    "stripped": ("' a '.strip()", "' a '.lstrip()", "' a '.rstrip()"),
    "cases": ("'aB'.lower()", "'aB'.upper()", f"({ENV} or 'X').lower()"),
    "ends": ("triton.__version__.startswith('3.5')", "triton.__version__.endswith('.0')", "'ab'.removeprefix('a')"),
    "rewritten": ("'ab'.removesuffix('b')", "'ab'.replace('a', 'c')", "'-'.join(('a', 'b'))"),
    "counted": ("'aba'.count('a')", "'abc'.index('c')", "'12'.isdigit()"),
    "versions": (f"{V}.base_version", f"{V}.release", f"{V}.major"),
    "versions' parts": (f"{V}.minor", f"{V}.micro", f"{V}.public"),
    "versions' kinds": ("Version('1+a').local", f"{V}.is_prerelease", f"{V}.is_devrelease"),
    "a version's parts": ("Version('3.5').release", "Version('3.5rc1').base_version", "Version('3.5').minor"),
    "counting": ("len((1, 2))", "max(1, 2)", "min((3, 1))"),
    "sizes": ("abs(-3)", "sum((1, 2))", "sorted((3, 1))"),
    "some and all": ("any((0, 1))", "all((0, 1))", "any(())"),
    "kinds": ("int('7')", "str(7)", "bool('')"),
    "more kinds": ("float('1.5')", "tuple([1])", "list((1,))"),
    "sets": ("set((1, 2))", "frozenset((1,))", f"set((1, 2, {N}))"),
    "kinds of what differs": (f"str({ENV})", f"bool({ENV})", "int(triton.__version__[0])"),
    "asked with a default": (f"os.environ.get('{VARIABLE}', '7')", f"os.getenv('{VARIABLE}', 'x')", f"os.getenv('{VARIABLE}')"),
    "paths": ("os.path.join('a', 'b')", "os.path.dirname('/a/b')", "os.path.normpath('a/../b')"),
    "of the system": ("os.sep", "os.name", "os.path.abspath('/a/../b')"),
    "parsed": ("Version('1+a') > Version('1')", "Version('1.0') == Version('1')", "Version('1.0rc1') < Version('1.0')"),
}  # fmt: skip


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_an_expression_is_known_on_every_machine(what: str) -> None:
    """Its value is what Python makes of it, whatever Triton and the variable are."""
    body = "".join(f"{name} = {each}\n" for name, each in zip("abc", EXPRESSIONS[what], strict=True))
    assert compared(body) == (len(MACHINES), 3 * len(MACHINES), [])


def lines(*each: str) -> str:
    """Return a body."""
    return "\n".join(each) + "\n"


STATEMENTS = {
    "a binding": lines("a = 1"),
    "two at once": lines("a = b = 2"),
    "with a type": lines("a: int = 3", "b: int"),
    "parts": lines("a, b = 1, 2", f"[c, a] = ({N}, 'x')"),
    "parts of parts": lines("a, (b, c) = 1, (2, 3)"),
    "parts of what differs": lines(f"a, b = ({N}, {ENV})"),
    "added": lines("a = 1", "a += 2", "b = 'x'", "b *= 3"),
    "subtracted": lines(f"a = {N}", "a -= 1", f"b = {N}", f"b //= {N}"),
    "rebound": lines("a = 1", "b = a", "a = 2"),
    "an item of a dict": lines("a = {}", "a['x'] = 1", "b = a['x']"),
    "items of dicts that differ": lines(f"a = {{'x': 1}} if {ENV} else {{'x': 2}}", "a['y'] = 3", "b = a['y']"),
    "an item that is replaced": lines("a = {'x': 1, 'y': 2}", "a['x'] = 3"),
    "an if": lines(f"if {ENV}:", "    a = 1"),
    "an if of a constant": lines("if True:", "    a = 1", "else:", "    a = 2", "if 0:", "    b = 1"),
    "an if with an else": lines(f"if {N} == 5:", "    a = 1", "else:", "    a = 2", "    b = 3"),
    "a chain of ifs": lines(
        f"if {N} == 5:", "    a = 1", f"elif {N} == 6:", "    a = 2", f"elif {ENV}:", "    a = 3", "else:", "    b = 1"
    ),
    "an if in an if": lines(f"if {N} == 5:", f"    if {ENV}:", "        a = 1", "    b = 2", "c = 3"),
    "a binding that an if changes": lines("a = 1", f"if {ENV}:", "    a = 2", "    b = a", "c = a"),
    "an if after an if": lines(f"if {ENV}:", "    a = 1", f"if not {ENV}:", "    a = 2", "b = a"),
    "a dict behind an if": lines("a = {'x': 1}", f"if {ENV}:", "    a = {'x': 2}", "b = a['x']"),
    "an assert that holds": lines("assert 1", "a = 1"),
    "an assert on some": lines(f"assert {N} == 5", "a = 1"),
    "an assert on none": lines("a = 1", "assert not a, 'no'", "b = 2"),
    "asserts one after the other": lines(f"assert {ENV} != '0'", f"assert {N} != 8", "a = 1"),
    "an error": lines("a = 1", "raise ValueError('no')"),
    "an error by name": lines("raise KeyError"),
    "an error of a module": lines("import builtins", "raise builtins.OSError('no')"),
    "errors that differ": lines(f"if {N} == 5:", "    raise ValueError", f"if {ENV} == '0':", "    raise KeyError", "a = 1"),
    "a division": lines(f"a = 1 // ({N} - 5)", "b = 2"),
    "a text that is no number": lines(f"a = int({ENV} or '4')", "b = 2"),
    "what is no number": lines(f"a = int({ENV})"),
    "a key that is not there": lines(f"a = {{'0': 1}}[{ENV}]"),
    "beyond the end": lines(f"a = (1, 2)[{N} - 5]"),
    "a name that nothing binds": lines("a = 1", "b = nothing"),
    "a name that only some bind": lines(f"if {ENV}:", "    a = 1", "b = a"),
    "an attribute that is not there": lines("a = 'x'.nothing"),
    "what cannot be added": lines(f"a = {ENV} + 'x'"),
    "what cannot be compared": lines(f"a = {ENV} < 'x'"),
    "an exit": lines("import sys", f"if {ENV}:", "    sys.exit(1)", "a = 1"),
    "another exit": lines("exit()"),
    "and another": lines(f"if {N} == 5:", "    quit()", "a = 1"),
    "a try in which nothing happens": lines("try:", "    a = 1", "except ValueError:", "    a = 2"),
    "a try and its else": lines("try:", "    a = 1", "except ValueError:", "    a = 2", "else:", "    b = 3"),
    "a try that is gone through": lines("try:", f"    assert {N} == 5", "except AssertionError:", "    a = 1"),
    "a try of all": lines("try:", "    raise OSError", "except:", "    a = 1"),
    "a try of others": lines("try:", "    raise OSError", "except KeyError:", "    a = 1", "b = 2"),
    "a try of a base": lines("try:", f"    raise OSError('{N}')", "except Exception as error:", "    a = 1"),
    "a try of what is no base": lines("import sys", "try:", "    sys.exit()", "except Exception:", "    a = 1"),
    "a try of an exit": lines("import sys", "try:", "    sys.exit()", "except SystemExit:", "    a = 1"),
    "a try of everything": lines("import sys", "try:", "    sys.exit()", "except BaseException:", "    a = 1"),
    "a try of two": lines("try:", "    raise KeyError", "except (ValueError, KeyError):", "    a = 1"),
    "a try of a module's": lines("import builtins", "try:", "    raise OSError", "except builtins.OSError:", "    a = 1"),
    "a try in a try": lines(
        "try:", "    try:", "        raise KeyError", "    except ValueError:", "        a = 1", "except KeyError:",
        "    b = 2",
    ),
    "an error in a handler": lines("try:", "    raise KeyError", "except KeyError:", f"    assert {ENV}", "    a = 1"),
    "a finally": lines("try:", "    a = 1", "finally:", "    b = 2"),
    "an import that is there": lines("try:", "    import math", "except ImportError:", "    a = 1", "b = 2"),
    "a pass": lines("pass", "a = 1"),
    "a docstring": lines("'''What this is.'''", "a = 1"),
    "a line of a log": lines("print('x', os)", "a = 1"),
    "a call": lines("def f():", "    return 1", "a = f()"),
    "a call that gives nothing": lines("def f():", "    pass", "a = f()"),
    "a bare return": lines("def f():", "    return", "    raise ValueError", "a = f()"),
    "parameters": lines("def f(x, y):", "    return (x, y)", f"a = f({N}, {ENV})", "b = f(y=1, x=2)"),
    "defaults": lines("def f(x, y=2, *, z=3):", "    return (x, y, z)", "a = f(1)", "b = f(1, z=4)", "c = f(1, 5)"),
    "parameters by place alone": lines("def f(x, /, y):", "    return (x, y)", "a = f(1, 2)", "b = f(1, y=3)"),
    "parameters by name alone": lines("def f(*, x, y=1):", "    return (x, y)", "a = f(x=2)", "b = f(y=3, x=4)"),
    "more arguments, passed over": lines("def f(x, *y, **z):", "    return x", "a = f(1, 2, 3)", "b = f(4, w=5)"),
    "too many arguments": lines("def f(x):", "    return x", "a = f(1)", "b = f(1, 2)"),
    "too few arguments": lines("def f(x, y):", "    return x", "f(1)"),
    "no argument of that name": lines("def f(x):", "    return x", "f(x=1, y=2)"),
    "an argument twice": lines("def f(x):", "    return x", "f(1, x=2)"),
    "a name alone that is not given": lines("def f(x, *, y):", "    return x", "f(1)"),
    "returns that differ": lines("def f(x):", f"    if {ENV}:", "        return x", "    return 2", "a = f(1)", f"b = f({N})"),
    "returns on each way": lines("def f(x):", f"    if {ENV}:", "        return 1", "    else:", "        return x", "a = f(3)"),
    "returns on some ways": lines("def f(x):", f"    if {ENV}:", "        return x", f"    if {N} == 5:", "        return 4", "a = f(3)"),
    "an error in a call": lines("def f(x):", "    assert x", "    return x", "a = f(1)", f"b = f({ENV})"),
    "an error that a caller takes": lines("def f(x):", "    raise ValueError", "try:", "    f(1)", "except ValueError:", "    a = 1"),
    "a call in a call": lines("def f(x):", "    return x + 1", "def g(x):", "    return f(f(x))", f"a = g({N})"),
    "a name of the module in a function": lines("def f():", "    return c", "c = 3", "a = f()"),
    "a local of the same name": lines("a = 1", "def f():", "    a = 2", "    return a", "b = f()"),
    "a local before it is bound": lines("a = 1", "def f():", "    b = a", "    a = 2", "    return b", "b = f()"),
    "a global": lines("a = 1", "def f():", "    global a", "    a = 2", "f()", "b = a"),
    "a global on some": lines("a = 1", "def f():", "    global a", f"    if {ENV}:", "        a = 2", "f()", "b = a"),
    "a function that some do not reach": lines("def f():", "    return 1", f"if {N} == 5:", "    a = f()"),
    "a function under an if": lines(f"if {N} == 5:", "    def f(): return 1", "else:", "    def f(): return 2", "a = f()"),
    "a known function under another name": lines("f = len", "a = f('abc')"),
    "a method, kept": lines("f = 'a.b'.split", "a = f('.')"),
    "a variable that is there twice": lines(f"a = {ENV}", f"b = os.getenv('{VARIABLE}')", "c = a == b"),
    "a class of constants": lines("class g:", "    x = 1", "    def y(self):", "        return 1", "a = 1"),
    "an import under another name": lines("import os as o", f"a = o.getenv('{VARIABLE}')"),
    "a name from a module": lines("from os import getenv, sep as b", f"a = getenv('{VARIABLE}')"),
}  # fmt: skip


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_statement_is_known_on_every_machine(what: str) -> None:
    """Each machine is known to run or to raise, and which names hold what, or which error is raised at which line."""
    found = compared(STATEMENTS[what])
    assert found.machines == len(MACHINES)
    assert found.unknown == []


Q = "hasattr(os, 'sep')"
U = "repr('abc')"
# On how many machines what becomes of a module is known, and how many values are.
PARTLY: dict[str, tuple[str, int, int]] = {
    "returns of which some are not sure": (f"def f():\n    if {ENV}:\n        return 1\n    if {Q}:\n        return 2\n    return 3\na = f()", 12, 9),
    "one of two": (f"a = 1\nif {Q}:\n    a = 2\nb = 3", 12, 12),
    "the same on either way": (f"if {Q}:\n    a = 2\nelse:\n    a = 2", 12, 12),
    "or behind what is not known": (f"a = {Q} or 1\nb = ({N} == 5) or {Q}\nc = 2 if {Q} or 1 else 3", 12, 12 + 4),
    "and behind what is not known": (f"a = {Q} and 0\nb = {ENV} and {Q}\nc = 2 if {Q} and 0 else 3", 12, 12 + 3),
    "or before what is not known": (f"b = {ENV} or {Q}\na = ({N} == 5) and {Q}", 12, 9 + 8),
    "an if of what is not known": (f"a = 1 if {Q} else 2\nb = 1 if {Q} else 1\nc = {Q} if {ENV} else 5", 12, 3),
    "an if in an if of what is not known": (f"c = 5 if {ENV} else {Q}\na = (1 if {ENV} else 2) if {Q} else 3\nb = 4 if ({ENV} and {Q}) else 5", 12, 12),
    "not of what is not known": (f"a = not {Q}\nb = not ({ENV} or {Q})", 12, 9),
    "an assert of what is not known": (f"assert {Q}\na = 1", 0, 0),
    "an assert of what some do not know": (f"assert {ENV} or {Q}\na = 1", 9, 9),
    "an error that may be": (f"if {Q}:\n    pass\nelse:\n    raise OSError\na = 1", 0, 0),
    "an error on either way": (f"if {Q}:\n    raise OSError\nelse:\n    raise ValueError", 0, 0),
    "an error that may be on some": (f"if {ENV}:\n    if not {Q}:\n        raise OSError\na = 1", 3, 3),
    "an error that may be, and is taken": (f"try:\n    assert {Q}\nexcept AssertionError:\n    a = 1\nb = 2", 12, 12),
    "an error that some may raise, and is taken": (f"try:\n    if {ENV}:\n        assert {Q}\nexcept AssertionError:\n    a = 1\nb = 2", 12, 12),
    "either way the same": (f"try:\n    assert {Q}\n    a = 2\nexcept AssertionError:\n    a = 2\nb = a", 12, 24),
    "one of two handlers raises": ("try:\n    raise KeyError\nexcept ValueError:\n    raise OSError\nexcept KeyError:\n    a = 1", 0, 0),
    "one of two handlers binds": ("a = 0\ntry:\n    raise KeyError\nexcept ValueError:\n    b = 1\nexcept KeyError:\n    a = 1", 0, 0),
    "a handler for some": (f"try:\n    assert {ENV}\nexcept AssertionError:\n    a = 1\nelse:\n    a = 2", 12, 12),
    "a handler beside what others bind": (f"try:\n    assert {ENV}\n    a = 3\nexcept AssertionError:\n    a = 1", 12, 12),
    "a handler after what all have bound": (f"a = 3\nb = 4\ntry:\n    assert {ENV}\nexcept AssertionError:\n    a = 1", 12, 24),
    "what a try binds before its error": (f"c = 1\ntry:\n    c = 2\n    assert {ENV}\nexcept AssertionError:\n    b = 1", 12, 12),
    "what a try binds behind its error": (f"a = 3\ntry:\n    assert {ENV}\n    a = 5\nexcept AssertionError:\n    b = a", 12, 9),
    "two tries that take the same": ("try:\n    try:\n        raise ValueError\n    except ValueError:\n        a = 1\nexcept ValueError:\n    b = 2", 12, 12),
    "a handler that raises": (f"try:\n    assert {ENV}\nexcept AssertionError:\n    raise OSError\na = 1", 12, 9),
    "a handler that returns": (f"def f():\n    try:\n        assert {ENV}\n    except AssertionError:\n        return 1\n    return 2\na = f()", 12, 12),
    "a call that may raise": (f"def f(x):\n    assert x\n    return 1\na = f({Q})", 0, 0),
    "a call of what may raise in it": (f"def f():\n    if not {Q}:\n        raise OSError\n    return 1\na = f()", 0, 0),
    "an error behind what is not understood": (f"for a in (1,):\n    pass\nif {ENV}:\n    raise OSError", 0, 0),
    "an error behind a handler that may raise": (f"try:\n    assert not {Q}\nexcept AssertionError:\n    assert not {Q}\nraise OSError", 0, 0),
    "an error behind a return that may be": (f"def f():\n    if {Q}:\n        return 1\n    raise OSError\na = f()", 0, 0),
    "what a way that may be gone binds": (f"a = 1\nif {Q}:\n    a = 2\n    assert a == 2\nb = 3", 12, 12),
    "is, of what is not known": (f"a = {Q} is True\nb = False is not {Q}\nc = {Q} == {Q}", 12, 0),
    "compared with a function": ("a = len == max\nb = len in (1, 2)", 12, 0),
    "what is not known of some": (f"a = ({Q} if {ENV} else 3) + 1\nb = ({Q} if {ENV} else 3) < 4\nc = -({Q} if {ENV} else 3)", 12, 9),
    "parts of what is not known of some": (f"a = ((1, 2) if {ENV} else {U})[1]\nb = ('ab' if {ENV} else {U})[1:]\nc = ('ab' if {ENV} else {U})[0]", 12, 27),
    "a mark of Gluon's": ("def f(): pass\nf.__triton_builtin__ = True\na = 1", 12, 12),
    "another mark": ("def f(): pass\nf.mark = True\na = 1", 0, 0),
    "a mark of another value": ("def f(): pass\nf.__triton_builtin__ = 1\na = 1", 0, 0),
    "a call that may be made": (f"def f(x):\n    return x\nif {Q}:\n    a = f(1)\nb = 2", 12, 12),
    "a global that may be bound": (f"a = 1\ndef f():\n    global a\n    if {Q}:\n        a = 2\nf()\nb = 1", 12, 12),
    "a global that some bind": (f"a = 1\ndef f():\n    global a\n    a = 2\nif {ENV}:\n    f()\nb = a", 12, 24),
    "an error in what is appended": ("a = []\na.append(1 // 0)", 12, 0),
    "a text has nothing appended": ("a = 'x'\na.append(1)", 12, 0),
    "a dict has nothing appended": ("a = {}\na.append(1)", 12, 0),
    "two are appended": ("a = []\na.append(1, 2)", 0, 0),
    "what is appended": ("a = []\na.append(1)\nb = 2", 12, 12),
    "an item is added to": ("a = {'x': 1}\na['x'] += 1\nb = a['x']", 0, 0),
    "an attribute is added to": ("a = 1\na.x += 1", 0, 0),
    "an attribute is bound": ("a = 1\na.x = 1", 0, 0),
    "an item of a list is bound": ("a = [1]\na[0] = 2", 0, 0),
    "an item of what differs is bound": (f"a = {{}}\na[{ENV}] = 2", 0, 0),
    "a with": ("with 1:\n    a = 2", 0, 0),
    "two names of one tuple": ("a = b = (1, 2)\nc = a == b", 12, 36),
    "two names of one list": ("a = b = [1]\nc = 1", 12, 12),
    "a list in a list": ("a = [[1], 2]\nb = a[0]\nc = a[1]", 12, 24),
    "stars": ("a = (1, *(2, 3))\nb = {*(1, 2)}", 12, 0),
    "a dict by what differs": (f"a = {{{N}: 1}}", 0, 0),
    "a set of what differs": (f"a = {{{N}}}", 12, 0),
    "a dict of what differs": (f"a = {{**{{1: 2}}, **({{3: 4}} if {ENV} else {{}})}}", 0, 0),
    "a dict of none": ("a = {**None}", 0, 0),
    "a text with a width": ("a = f'{1:3}'\nb = f'{1!r}'", 12, 0),
    "other signs": ("a = +1\nb = ~1", 12, 0),
    "a format": ("a = '%d' % 3\nb = b'%d' % 3", 12, 0),
    "a power": ("a = 2 ** 3", 0, 0),
    "a step": ("a = (1, 2, 3)[::2]", 12, 0),
    "a part of what has none": (f"a = {N}[1:]", 12, 0),
    "a part of a dict": ("a = {}[1:]", 12, 0),
    "a part by a text": ("a = (1, 2)['x']", 12, 0),
    "a part of a number": ("a = 1[0]", 12, 0),
    "a part of what only some have": (f"a = ((1, 2) if {ENV} else 3)[0]", 12, 9),
    "a version's part of what only some are": (f"a = (Version('1') if {ENV} else 'x').major", 12, 9),
    "a call of what differs": (f"f = len if {ENV} else max\na = f((1, 2))", 12, 12),
    "a call of what only some can call": (f"f = len if {ENV} else 1\na = f((1, 2))", 9, 9),
    "a chain with what is not known": (f"a = 1 < 2 < {Q}\nb = 1 < 0 < {Q}", 12, 0),
    "a chain of `is`": ("a = None is None is None", 12, 0),
    "a chain that some stop": (f"a = 5 < {N} < 1 // 0", 0, 0),
    "a chain of four": (f"a = 1 < 2 < 3 < {N}\nb = 1 < 2 < 3 > {N}", 12, 24),
    "what is not known is none or not": (f"a = {Q} is None\nb = None is not {Q}", 12, 0),
    "two that may be one": (f"a = {ENV} is {ENV}\nb = 257 is 257", 12, 0),
    "is false": (f"a = ({N} == 5) is False\nb = False is ({N} == 8)\nc = 0 is False", 12, 36),
    "is true": (f"a = ({N} == 5) is True\nb = True is not ({N} == 8)\nc = 1 is True", 12, 36),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("what", PARTLY)
def test_what_is_known_of_a_module_and_no_more(what: str) -> None:
    """As many machines and values are known as can be, and each is as Python has it."""
    body, machines, values = PARTLY[what]
    found = compared(body)
    assert (found.machines, found.values) == (machines, values)
