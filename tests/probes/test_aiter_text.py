"""Texts of sources: where their statements stand, what they do, and what is left out of that."""

from __future__ import annotations

import ast
import sys
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_caps.probes import python_source
from nsa_caps.probes.aiter.kernels import body_digest
from nsa_caps.probes.aiter.normal import children, digest, normal
from nsa_caps.probes.aiter.segments import segments
from nsa_caps.probes.python_source import SourceError, parse, string_literals

# --- segments

PIECES = st.sampled_from(
    [
        "import os\n",
        "x = 1\n",
        "# nothing\n",
        "\n",
        "x = (\n    1,\n)\n",
        "if x:\n    y = 1\nelse:\n    y = 2\n",
        "try:\n    x = 1\nexcept OSError:\n    pass\nfinally:\n    y = 1\n",
        "def f(a, b=1):\n    return a\n",
        "async def g():\n    pass\n",
        "class C:\n    x = 1\n\n    def m(self):\n        return 1\n",
        "@one\n@two(\n    3\n)\ndef h():\n    pass\n",
        "@one\nclass D:\n    pass\n",
        "'''A text\nof two lines.'''\n",
        "def d():\n    '''A docstring.\n\n    Of three lines.'''\n    return 1\n",
        "def i():\n    '''\ndef j():\n'''\n    return 1\n",
        "def e():\n    '''\nAt the edge.\n'''\n    return 1\n",
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_text_is_cut_into_its_statements_at_their_lines(text: str) -> None:
    """Each is as Python parses it from the whole, name, kind and line included."""
    found = segments(text)
    whole = ast.parse(text).body
    assert "".join(segment.text for segment in found) == text
    assert [ast.dump(each, include_attributes=True) for segment in found for each in segment.body] == [
        ast.dump(each, include_attributes=True) for each in whole
    ]
    if "'''" not in text:
        defined = [
            each.name for each in whole if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        ]
        assert [segment.name for segment in found if segment.kind] == defined
    for segment in found:
        assert text.split("\n")[segment.line - 1 :][0] == segment.text.split("\n")[0]
        if segment.kind:
            (node,) = segment.body
            assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            assert segment.name == node.name
            assert segment.kind == ("class" if isinstance(node, ast.ClassDef) else "def")
            first = node.decorator_list[0] if node.decorator_list else node
            assert segment.line <= first.lineno


@pytest.mark.parametrize(
    "head",
    [
        "def f(a, b=(1, 2), *, c: int = 3):",
        "def f(\n    a,\n    b,\n):",
        "def f(a) -> tuple[int, str]:",
        "@d(1)\ndef f(a):",
        "def f():",
    ],
)
def test_the_parameters_of_a_function_are_read_from_its_head(head: str) -> None:
    """The body need not be parsed: 38 kB of a kernel, or what another Python reads."""
    (whole,) = ast.parse(f"{head}\n    pass\n").body
    assert isinstance(whole, ast.FunctionDef)
    for body in ("    return 1\n", "    return (\n"):
        (segment,) = segments(f"{head}\n{body}")
        assert segment.arguments is not None
        assert ast.dump(segment.arguments) == ast.dump(whole.args)


def test_what_is_no_function_has_no_parameters() -> None:
    """Neither has a function on one line that cannot be parsed."""
    assert segments("class C:\n    pass\n")[0].arguments is None
    with pytest.raises(SourceError):
        _ = segments("def f(: pass\n")[0].arguments
    (quoted,) = segments("def f(a): '''(x):\n    more'''\n")
    assert quoted.arguments is not None
    assert [each.arg for each in quoted.arguments.args] == ["a"]
    one_line = segments("def f(a): return a\n")[0].arguments
    assert one_line is not None
    assert [each.arg for each in one_line.args] == ["a"]


def test_common_statements_have_no_digest() -> None:
    """Imports, functions, and what calls nothing are always followed; each other statement has one, and its names."""
    text = "import os\nx = 1\ny = f(z)\nw = a[b]\nif v:\n    g()\ntry:\n    pass\nexcept E:\n    pass\n"
    (segment,) = segments(text)
    assert [sorted(told.names) if told else None for told in segment.each] == [
        None, None, ["f", "y", "z"], ["a", "b", "w"], ["g", "v"], ["E"],
    ]  # fmt: skip
    assert [told.digest if told else None for told in segment.each][2] == digest(ast.parse("y = f(z)").body)


def test_a_text_that_begins_in_a_definition_and_ends_in_another_leaves_the_module_whole() -> None:
    """Cut at the second `def`, both would be something else."""
    text = "def f():\n    return '''\ndef g():\n    '''\n"
    assert [segment.text for segment in segments(text)] == [text]


def test_what_stands_below_a_dict_are_its_keys_and_values() -> None:
    """A `**` has no key."""
    found = ast.parse("{a: b, **c}", mode="eval").body
    assert [ast.unparse(each) for each in children(found)] == ["a", "b", "c"]


KERNEL = "import os\nA = f(1)\nB = 2\ndef k(x):\n    one(x)\n    two(A)\ndef one(x):\n    nothing()\n    three()\ndef two(x): pass\ndef three(): pass\n"


@pytest.mark.parametrize("doing", [True, False])
@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("three(): pass", "three(): return 1", False),
        ("two(x): pass", "two(x): return 1", False),
        ("f(1)", "f(2)", False),
        ("B = 2", "B = 3", True),
        ("def two", "def apart(): pass\ndef two", True),
    ],
)
def test_a_kernel_is_known_with_all_that_it_is_made_of(doing: bool, old: str, new: str, same: bool) -> None:
    """The functions and the constants that it names, directly or not, and nothing else of its module."""
    before, after = (body_digest(segments(text), "k", doing=doing) for text in (KERNEL, KERNEL.replace(old, new)))
    assert before is not None
    assert (before == after) is same


def test_a_comment_changes_what_a_kernel_is_written_as_alone() -> None:
    """What cannot be parsed has no digest, and neither has what is not there."""
    commented = KERNEL.replace("two(x): pass", "two(x): pass  # nothing")
    for doing in (True, False):
        before, after = (body_digest(segments(text), "k", doing=doing) for text in (KERNEL, commented))
        assert (before == after) is doing
        assert body_digest(segments(f"{KERNEL}A = (\n"), "k", doing=doing) is None
        assert body_digest(segments(KERNEL), "l", doing=doing) is None


# --- what statements do


def body(text: str) -> str:
    """Return what statements do."""
    return normal(ast.parse(text).body)


F = "def f(a, *b, c=1, **d):\n"
SAME = {
    "a docstring": (f"{F}    return a", f"{F}    '''What it does.'''\n    return a"),
    "a log": (f"{F}    return a", f"{F}    logger.info('x', a)\n    print(a)\n    return a"),
    "a pass": (f"{F}    return a", f"{F}    pass\n    return a"),
    "an annotation": ("x: str = 1", "x: int = 1"),
    "annotations": ("def f(a, b=1): return a", "def f(a: int, b: str = 1) -> int: return a"),
    "a name with a type alone": ("x = 1", "x = 1\ny: int"),
    "imports": ("import a\nimport b as c\nfrom d import e", "from d import e\nimport b as c\nimport a"),
    "what an error says": ("raise ValueError('a')", "raise ValueError('b', c)"),
    "what an assert says": ("assert x, 'a'", "assert x, 'b'"),
    "a local": (f"{F}    x = a\n    y = x\n    return y", f"{F}    p = a\n    q = p\n    return q"),
    "a loop's name": (f"{F}    for x in a:\n        use(x)", f"{F}    for y in a:\n        use(y)"),
    "an error's name": (
        f"{F}    try:\n        use(a)\n    except E as x:\n        use(x)", f"{F}    try:\n        use(a)\n    except E as y:\n        use(y)",
    ),
    "a local of a function in a function": (
        "def f():\n    x = 1\n    def g():\n        return x", "def f():\n    y = 1\n    def g():\n        return y",
    ),
}  # fmt: skip
OTHERS = {
    "a number": ("x = 1", "x = 2"),
    "a type": ("x = 1", "x = 1.0"),
    "a global": ("x = 1", "y = 1"),
    "a parameter": ("def f(a): return a", "def f(b): return b"),
    "another local": (f"{F}    x = a\n    y = c\n    return x", f"{F}    x = a\n    y = c\n    return y"),
    "a global of a function": ("def f():\n    global x\n    x = 1", "def f():\n    global y\n    y = 1"),
    "an outer name": (
        "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2", "def f():\n    x = 1\n    def g():\n        x = 2",
    ),
    "a name that a parameter hides": (
        "def f():\n    x = 1\n    def g(x):\n        return x", "def f():\n    x = 1\n    def g(y):\n        return x",
    ),
    "the rest of the arguments": (f"{F}    return b", f"{F}    return d"),
    "a name that is bound and a parameter": ("def f(a):\n    a = 1\n    return a", "def f(a):\n    b = 1\n    return b"),
    "an operator": ("x = a + b", "x = a - b"),
    "a comparison": ("x = a < b", "x = a <= b"),
    "an attribute": ("x = a.b", "x = a.c"),
    "a keyword": ("f(a=1)", "f(b=1)"),
    "an argument": ("f(a)", "f(b)"),
    "a default": ("def f(a=1): pass", "def f(a=2): pass"),
    "a decorator": ("@a\ndef f(): pass", "def f(): pass"),
    "the module of an import": ("from a import b", "from c import b"),
    "the level of an import": ("from .a import b", "from ..a import b"),
    "what is imported": ("from a import b", "from a import c"),
    "what it is called": ("import a as b", "import a as c"),
    "imports behind a statement": ("import a\nx = 1", "x = 1\nimport a"),
    "an error": ("raise ValueError('a')", "raise TypeError('a')"),
    "an error again": ("raise", "raise E"),
    "what is asserted": ("assert x", "assert y"),
    "what is caught": ("try:\n    x\nexcept A:\n    y()", "try:\n    x\nexcept B:\n    y()"),
    "the name of what is caught": ("try:\n    f()\nexcept A as x:\n    y()", "try:\n    f()\nexcept A as z:\n    y()"),
    "an order": ("f()\ng()", "g()\nf()"),
    "an else": ("if x:\n    f()", "if x:\n    f()\nelse:\n    g()"),
    "a body": ("if x:\n    f()\n    g()", "if x:\n    f()\ng()"),
    "a log that calls": ("print(f())", "x"),
    "a key": ("x = {'a': 1}", "x = {'b': 1}"),
    "a dict in a dict": ("x = {**a}", "x = {a: a}"),
    "a typed name": ("x: int = 1", "x: int = 2"),
    "a text's part": ("x = f'{a}'", "x = f'{b}'"),
    "how a text's part is written": ("x = f'{a!r}'", "x = f'{a}'"),
    "a kind of function": ("def f(): pass", "async def f(): pass"),
    "a class": ("class A: pass", "class B: pass"),
}  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize("what", SAME)
def test_what_says_nothing_is_left_out(what: str) -> None:
    """Two texts that do the same have one digest."""
    one, other = SAME[what]
    assert body(one) == body(other)


@pytest.mark.parametrize("what", OTHERS)
def test_what_does_something_else_is_told(what: str) -> None:
    """Two texts that do not do the same have two."""
    one, other = OTHERS[what]
    assert body(one) != body(other)


# --- parsing without a warning

LITERALS = st.lists(
    st.sampled_from(["\\", "\\\\", "a", "d", "n", "N", "u0041", "x41", "U", "'", '"', "0", "8", "\\\n", " ", "é"]),
    max_size=6,
).map("".join)


@given(
    st.sampled_from(["", "r", "R", "b", "B", "f", "rb", "Rb", "u"]), st.sampled_from(["'", '"', "'''", '"""']), LITERALS
)
def test_an_odd_escape_is_the_same_text(prefix: str, quote: str, inner: str) -> None:
    """A literal is what Python makes of it, warning or not, and nothing is warned of."""
    text = f"x = 1  # \\d {quote}\ny = {prefix}{quote}{inner}{quote}\nz = '\\d'\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = ast.dump(ast.parse(text))
        except (SyntaxError, ValueError):
            return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ast.dump(parse(text)) == expected


def test_a_star_brings_no_name_that_begins_with_a_line() -> None:
    """A private name stays what its literal says; one that ends with a line does not."""
    found = string_literals(parse("_v = '1'\nv_ = '2'\nfrom os import *\n"))
    assert found.values == {"_v": "1"}
    assert found.unclear == {"v_"}
    found = string_literals(parse("_v = '1'\nglobals()['_v'] = '2'\n"))
    assert found.values == {}


def test_an_error_tells_which_python_cannot_read_a_source() -> None:
    """Its first two numbers, and what that Python says."""
    with pytest.raises(SourceError, match=rf"^Python {sys.version_info[0]}\.{sys.version_info[1]} cannot parse it: "):
        parse("x = (")


@pytest.mark.parametrize(
    ("length", "memory", "error"), [(5999, 800, MemoryError), (6000, 800, SourceError), (6000, 1 << 45, MemoryError)]
)
def test_a_lack_of_memory_is_told_from_depth(
    monkeypatch: pytest.MonkeyPatch, length: int, memory: int, error: type[Exception]
) -> None:
    """A text of six thousand characters may be too deep for the parser, where there is memory for a tree of it."""

    def gives_up(_: str) -> ast.Module:
        raise MemoryError

    monkeypatch.setattr(python_source, "ast", SimpleNamespace(parse=gives_up))
    monkeypatch.setattr(python_source, "_BYTES_OF_A_TREE", memory)
    with pytest.raises(error):
        parse("x" * length)
