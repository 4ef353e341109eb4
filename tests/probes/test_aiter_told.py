"""What is told of a source: how a value was made, and at which line stands what is not understood."""

from __future__ import annotations

import builtins
import re
from itertools import product
from typing import TYPE_CHECKING

import pytest

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.known import named
from nsa_caps.probes.aiter.modules import Modules
from nsa_caps.probes.aiter.run import Catcher, Run
from nsa_caps.probes.aiter.space import Space, parts_of, text_of
from nsa_caps.probes.aiter.values import Compiled, Kernel, Special, Where
from tests.probes.small_modules import HEAD, MODULE, OneFile, compared, reading

if TYPE_CHECKING:
    from collections.abc import Callable

# ruff: noqa: E501
ENV = "os.environ.get('AITER_X')"
# What is computed of two things that are not known, and how that is told.
TEXTS = {
    "q + r": "({q}+{r})", "r - q": "({r}-{q})", "q * 2": "({q}*2)", "q ** r": "({q}?{r})", "q == r": "({q}=={r})",
    "r != 1": "({r}!=1)", "q < r": "({q}<{r})", "q in r": "({q}in{r})", "q is r": "({q} is {r})", "q is not r": "({q} is {r})",
    "q < r < 1": "chain({q},{r},1)", "q and r": "({q} and {r})", "r or q": "({r} or {q})", "q or 0 or r": "({q} or 0 or {r})",
    "not q": "not {q}", "-q": "-{q}", "~q": "~{q}", "q if r else 1": "({q} if {r} else 1)", "1 if q else r": "(1 if {q} else {r})",
    "q[0]": "{q}[0]", "q[r]": "{q}[{r}]", "q[1:]": "{q}[:]", "q.x": "{q}.x", "(q, r)": "({q},{r})", "[r]": "[{r}]",
    "{1: q}": "{{1:{q}}}", "str(q)": "str({q})", "len(r)": "len({r})", "f'{q}-{r}'": "str({q})+-+str({r})",
    "'x'.join(q)": "x.join({q})", "(1, 2)[q]": "(1,2)[{q}]", "print(q)": "print({q})",
    "os.getenv('AITER_X') or 5 or q": "(environ AITER_X or None or 5)",
    "os.getenv('AITER_X') or q": "(environ AITER_X or None or {q})",
    "os.getenv('AITER_X') and 1": "(environ AITER_X or None and 1)",
}  # fmt: skip


def renamed(expression: str, q: str, r: str) -> str:
    """Return an expression in which two names are others."""
    return re.sub(r"\bq\b", q, re.sub(r"\br\b", r, expression))


@pytest.mark.parametrize("expression", TEXTS)
def test_how_a_value_was_made_is_told_without_the_names_of_locals(expression: str) -> None:
    """By the values themselves: a renamed local changes nothing, and what is computed otherwise is told otherwise."""
    expected = TEXTS[expression].format(q="hasattr(os,'sep')", r="callable(os)")
    for q, r in (("q", "r"), ("left", "right")):
        _, frame = reading(f"{HEAD}{q} = hasattr(os, 'sep')\n{r} = callable(os)\na = {renamed(expression, q, r)}\n")
        assert frame is not None
        told = text_of(frame.names["a"])
        assert told.replace("'x'", "x").replace("-'+", "-+").replace("+'-", "+-") == expected


def test_what_either_way_leaves_is_told_by_both() -> None:
    """In one order, whichever way comes first."""
    for one, other in ((1, 2), (2, 1)):
        body = f"if hasattr(os, 'sep'):\n    a = {one}\nelse:\n    a = {other}\n"
        _, frame = reading(HEAD + body)
        assert frame is not None
        assert text_of(frame.names["a"]) == "1|2"


SOURCE = "from triton.compiler import ASTSource\ndef f(): pass\n"
# What is not understood, at which line of the body.
LINES = {
    "a loop": ("a = 1\nb = 2\nfor a in (1,):\n    pass\n", 3),
    "a while": ("a = 1\nwhile a:\n    a = 0\n", 2),
    "a del": ("a = 1\ndel a\n", 2),
    "a with": ("a = 1\n\nwith a:\n    pass\n", 3),
    "a class with a base": ("a = 1\nclass C(int):\n    pass\n", 2),
    "a finally behind an error": ("try:\n    raise OSError\nfinally:\n    a = 1\n    b = 2\n", 4),
    "a comprehension": ("a = 1\nb = (\n    1,\n    [x for x in (1,)],\n)\n", 4),
    "a walrus": ("a = 1\nb = 2\nc = (a := 3)\n", 3),
    "a call of what is no function": ("a = 1\nif a:\n    a()\n", 3),
    "a call of what is not known": ("import json\na = 1\nb = json.loads('1')\n", 3),
    "a method": ("a = 'x'\nb = a.encode()\n", 2),
    "parts that do not fit": ("c = (1, 2, 3)\na, b = c\n", 2),
    "a star among parts": ("c = (1, 2, 3)\na, *b = c\n", 2),
    "an item": ("a = [1]\na[0] = 2\n", 2),
    "an item that is added to": ("a = {'x': 1}\na['x'] += 2\n", 2),
    "a decorator": ("a = 1\n\n@a\ndef f():\n    pass\n", 3),
    "a second decorator": ("a = 1\n@cache\n@a\ndef f():\n    pass\n", 3),
    "in a function": ("def f():\n    a = 1\n    for b in (1,):\n        pass\n\nf()\n", 3),
    "a decorator in a function": ("a = 1\ndef f():\n    @a\n    def g(): pass\nf()\n", 3),
    "a name that a star may bring": ("from json import *\na = 1\nb = loads\n", 3),
    "an operator": ("a = 1\nb = a << 2\n", 2),
    "a function among operands": ("a = 1\nb = len + a\n", 2),
    "a dict by what differs": ("a = 1\nb = {\n    len(triton.__version__): 1}\n", 2),
    "a dict of none": ("a = 1\nb = {**None}\n", 2),
    "arguments by a star": ("def f(x, y):\n    return x\na = f(*hasattr(os, 'sep'))\n", 3),
    "arguments by two stars": (f"def f(x=1):\n    return x\na = f(**({{'x': 2}} if {ENV} else {{'x': 3}}))\n", 3),
    "arguments whose names are no texts": ("def f(**k):\n    return 3\na = f(**{1: 2})\n", 3),
    "arguments of what is no dict": ("def f(x=1):\n    return x\na = f(**'')\n", 3),
    "a source by place": (f"{SOURCE}a = ASTSource(f, fn=f, signature={{}}, constexprs={{}})\n", 3),
    "a source without constants": (f"{SOURCE}a = ASTSource(fn=f, signature={{}})\n", 3),
    "what is compiled is not known": ("a = triton.compile(hasattr(os, 'sep'))\n", 1),
    "what is compiled is not known of some": (
        f"{SOURCE}a = ASTSource(fn=f, signature={{}}, constexprs={{}}) if {ENV} else None\nb = triton.compile(a)\n", 4,
    ),
    "globals": ("a = 1\nglobals()['b'] = 2\n", 2),
}  # fmt: skip


@pytest.mark.parametrize("what", LINES)
def test_what_is_not_understood_is_told_at_its_line(what: str) -> None:
    """The first thing that is told is that, and nothing else is sure from there on."""
    body, line = LINES[what]
    run, _ = reading(HEAD + body)
    first = next(event for event in run.events if event.kind == "unaccounted")
    assert (first.file, first.line - HEAD.count("\n"), first.must) == ("it.py", line, 0)
    assert compared(body)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("body", "line", "told"),
    [("a = 1\ndef f(:\n    pass\nb = f\n", 2, "cannot parse"), ("a = 1\nclass C(:\n    pass\n", 2, "the class C")],
)
def test_a_definition_that_cannot_be_parsed_is_told_at_its_line(body: str, line: int, told: str) -> None:
    """A function where it is asked for, a class at once."""
    run, _ = reading(body)
    ((kind, at, detail),) = [(event.kind, event.line, event.detail) for event in run.events]
    assert (kind, at) == ("unaccounted", line)
    assert told in detail


def test_a_handler_takes_the_errors_that_pythons_own_would() -> None:
    """By their bases; an error of a package is an exception of no other kind."""
    errors = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
    errors = {name: kind for name, kind in errors.items() if issubclass(kind, BaseException)}
    for one, other in product(errors, errors):
        assert Catcher((one,)).takes(other) is issubclass(errors[other], errors[one])
    takes = [name for name in errors if Catcher((name,)).takes("CompilationError")]
    assert sorted(takes) == ["BaseException", "Exception"]
    assert Catcher(("KeyError", "CompilationError")).takes("CompilationError")
    assert not Catcher(("KeyError", "CompilationError")).takes("ValueError")


def test_sources_that_differ_are_compiled_each_for_itself() -> None:
    """What is compiled for a machine is known where the source is one of several."""
    source = f"ASTSource(fn=f, signature={{'a': 1}} if {ENV} else {{'b': 2}}, constexprs={{}})"
    run, frame = reading(f"{HEAD}from triton.compiler import ASTSource\ndef f(): pass\na = triton.compile({source})\n")
    assert frame is not None
    assert run.events == []
    parts = [part for _, part in parts_of(frame.names["a"], run.space.all)]
    assert all(isinstance(part, Compiled) for part in parts)
    assert [part.source.signature for part in parts] == [("a",), ("b",)]


def test_sources_that_differ_in_two_ways_are_each_on_its_own_machines() -> None:
    """The signature differs by the variable, the constants by Triton: four sources, and each machine has one."""
    source = (
        f"ASTSource(fn=f, signature={{'a': 1}} if {ENV} else {{'b': 2}},"
        " constexprs={'c': 3} if triton.__version__ == '3.4.0' else {'d': 4})"
    )
    run, frame = reading(f"{HEAD}{SOURCE}a = triton.compile({source})\n")
    assert frame is not None
    assert run.events == []
    told = {(part.source.signature, part.source.constants): mask for mask, part in frame.names["a"].parts}
    unset, first = run.space.has("env:AITER_X", None), run.space.has("triton", "3.4.0")
    unset |= run.space.has("env:AITER_X", "")
    assert told == {
        (("a",), ("c",)): first & ~unset,
        (("a",), ("d",)): ~first & ~unset & run.space.all,
        (("b",), ("c",)): first & unset,
        (("b",), ("d",)): ~first & unset & run.space.all,
    }


def test_a_source_is_compiled_since_triton_3_3() -> None:
    """Before, its constants had another name."""
    run = Run(
        Space({"triton": ("3.2.0", "3.3", "3.3.1")}),
        Modules(OneFile(f"{SOURCE}a = ASTSource(fn=f, signature={{}}, constexprs={{}})\n")),
        call_function,
    )
    run.modules.frame(run, MODULE, Where(MODULE))
    assert [(event.kind, event.must, event.detail) for event in run.events] == [("raise", 0b001, "TypeError")]


def test_a_module_of_tritons_is_there_since_the_release_that_has_it() -> None:
    """Whatever its number ends with."""
    run = Run(
        Space({"triton": ("3.3.1", "3.4", "3.4.0")}), Modules(OneFile("import triton.experimental\n")), call_function
    )
    run.modules.frame(run, MODULE, Where(MODULE))
    assert [(event.kind, event.must, event.detail) for event in run.events] == [("raise", 0b001, "ModuleNotFoundError")]


def test_a_kernel_is_one_wherever_it_is_defined() -> None:
    """At the left edge its body need not be parsed; another decorator of it is not known."""
    run, frame = reading(
        "import triton\n@triton.jit\ndef k(:\n    pass\n\na = k\nif True:\n    @triton.jit\n    def b(): pass\n"
    )
    assert frame is not None
    assert run.events == []
    for name, defined in (("a", "k"), ("b", "b")):
        kernel = frame.names[name]
        assert (type(kernel), kernel.module, kernel.name) == (Kernel, MODULE, defined)
    run, frame = reading("import triton\nif 1:\n    @triton.jit()\n    def b(): pass\n")
    assert [event.detail for event in run.events] == ["the decorator triton.jit"]


def test_the_parameters_of_a_kernel_are_those_of_its_head() -> None:
    """None are known of one that is not there, or whose head cannot be parsed; an excerpt leaves it out."""
    modules = Modules(OneFile("def k(:\n    pass\ndef g(a, b):\n    pass\n"))
    run = Run(Space({"triton": ("3.5.0",)}), modules, call_function)
    modules.frame(run, MODULE, Where(MODULE))
    assert [modules.parameters(Kernel(MODULE, name)) for name in "gkx"] == [["a", "b"], [], []]
    assert Modules(Excerpt("")).parameters(Kernel("aiter.other", "g")) is None


FUNCTIONS = ("f", *(f"g{at}" for at in range(8)))


def closures(changed: str = "", new: str = "return 2", *, doing: bool) -> str:
    """Return the digest of a function that calls eight others of its module, and as many that are none of it."""
    body = "; ".join(f"g{at}(); other{at}()" for at in range(8))
    text = "".join(f"def {name}():\n    {body if name == 'f' else 'return 1'}\n" for name in (*FUNCTIONS, "apart"))
    text = text.replace(f"def {changed}():\n    return 1", f"def {changed}():\n    {new}")
    modules = Modules(OneFile(text))
    modules.frame(Run(Space({"triton": ("3.5.0",)}), modules, call_function), MODULE, Where(MODULE))
    return modules.closure(MODULE, "f", doing=doing)


@pytest.mark.parametrize("doing", [True, False])
def test_a_function_is_known_with_all_that_it_names(doing: bool) -> None:
    """A change of any other of its module that it names makes another digest, one of what it does not name does not."""
    before = closures(doing=doing)
    assert closures("apart", doing=doing) == before
    assert len({before, *(closures(name, doing=doing) for name in FUNCTIONS[1:])}) == len(FUNCTIONS)


def test_a_comment_changes_what_a_function_is_written_as_alone() -> None:
    """What it does stays; of what cannot be parsed nothing is known."""
    assert closures("g3", "return 1  # one", doing=True) == closures(doing=True)
    assert closures("g3", "return 1  # one", doing=False) != closures(doing=False)
    assert closures("g3", "return (", doing=True) == ""


def test_a_statement_is_known_with_the_functions_that_it_names() -> None:
    """Not with the others of its module."""
    told = []
    for first, second in ((1, 1), (2, 1), (1, 2)):
        modules = Modules(OneFile(f"def f(): return {first}\ndef g(): return {second}\na = f()\n"))
        modules.frame(Run(Space({"triton": ("3.5.0",)}), modules, call_function), MODULE, Where(MODULE))
        told.append(modules.doing(MODULE, modules.files.segments("it.py")[-1], 0))
    assert told[0] != told[1]
    assert told[0] == told[2]


class Excerpt(OneFile):
    """A package that leaves out what every release has."""

    def module(self, dotted: str) -> str | None:
        """Return the file of the one module; the rest is left out."""
        return "it.py" if dotted == MODULE else None

    def excerpt(self, dotted: str) -> bool:
        """Return that anything else is left out."""
        return dotted != MODULE


@pytest.mark.parametrize(
    ("dotted", "name", "is_one"),
    [
        ("aiter.jit.utils.chip_info", "get_gfx", lambda found: isinstance(found, Special)),
        ("aiter.jit.core", "compile_ops", lambda found: isinstance(found, Special)),
        ("aiter.ops.triton.utils.more", "PATH", lambda found: text_of(found) == "aiter.ops.triton.utils.more.PATH"),
        ("aiter.ops.triton.gluon.pa_decode_gluon", "get_cdna_version", lambda found: isinstance(found, Special)),
    ],
)
def test_what_an_excerpt_leaves_out_is_as_every_release_had_it(
    dotted: str, name: str, is_one: Callable[[object], bool]
) -> None:
    """Where no release is known to have had it, nothing is known of it."""
    modules = Modules(Excerpt(""))
    run = Run(Space({"triton": ("3.5.0",)}), modules, call_function)
    assert is_one(modules.load(run, dotted, name))
    assert run.events == []


def test_an_excerpt_without_the_folder_of_configs_has_it_where_every_release_had_it() -> None:
    """The ahead-of-time kernels are looked for there."""
    assert named("aiter.ops.triton.utils.core", "AITER_TRITON_CONFIGS_PATH") == "/aiter/ops/triton/configs"


def test_a_deciding_module_is_executed_where_it_is_an_attribute_of_its_package() -> None:
    """What it refuses is told; a module that decides nothing is left alone."""
    modules = Modules(OneFile("raise OSError\n"))
    run = Run(Space({"triton": ("3.5.0",)}), modules, call_function)
    modules.load(run, "aiter.ops.triton", "utils")
    assert run.events == []
    modules.load(run, "aiter.ops.triton.utils", "core")
    assert [(event.detail, event.file, event.line) for event in run.events] == [("OSError", "it.py", 1)]


BUNDLES = """import triton
from triton.compiler import ASTSource
from aiter.utility.triton.triton_metadata_redirect import AOTMetadataContext
def f(): pass
"""


@pytest.mark.parametrize(
    ("bundles", "path"),
    [
        ("with AOTMetadataContext('f', 'x'):\n    with AOTMetadataContext('f', 'y'):\n        ", "y"),
        ("with AOTMetadataContext('f', 'x'):\n    with AOTMetadataContext('f', 'y'):\n        pass\n    ", "x"),
        ("with AOTMetadataContext('f', 'x'):\n    pass\n", None),
    ],
)
def test_what_is_compiled_comes_from_the_innermost_bundle(bundles: str, path: str | None) -> None:
    """Outside of all it is compiled in place."""
    modules = Modules(
        Excerpt(f"{BUNDLES}{bundles}a = triton.compile(ASTSource(fn=f, signature={{}}, constexprs={{}}))\n")
    )
    run = Run(Space({"triton": ("3.5.0",)}), modules, call_function)
    frame = modules.frame(run, MODULE, Where(MODULE))
    assert frame is not None
    assert run.events == []
    assert frame.names["a"].bundle == path


@pytest.mark.parametrize("more", [", AOTMetadataContext('f', 'y')", " as c"])
def test_another_with_is_not_understood(more: str) -> None:
    """Two contexts in one, or a name for it."""
    modules = Modules(Excerpt(f"{BUNDLES}with AOTMetadataContext('f', 'x'){more}:\n    pass\n"))
    run = Run(Space({"triton": ("3.5.0",)}), modules, call_function)
    modules.frame(run, MODULE, Where(MODULE))
    assert [event.detail for event in run.events] == ["a with statement"]
