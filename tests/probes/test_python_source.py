"""Literals of a source: the value that a name has once the module has run, or nothing."""

from __future__ import annotations

import pytest

from nsa_caps.probes.python_source import SourceError, parse, string_literals

CLEAR = {
    "a literal": "v = '1'",
    "annotated": "v: str = '1'",
    "chained": "w = v = '1'",
    "the later of two": "v = '0'\nv = '1'",
    "a literal behind a call": "v = str(0)\nv = '1'",
    "behind a branch": "if w: v = '0'\nv = '1'",
    "behind a star": "from os import *\nv = '1'",
    "declared, and not bound again": "v = '1'\nv: str",
    "another name bound": "v = '1'\nw = str(2)\nimport os\ndef f(v): v = 2",
    "a loop's own name": "v = '1'\nw = [v for v in 'ab']",
}
UNCLEAR = {
    "a call": "v = '0'\nv = str(1)",
    "an f-string": "v = None\nv = f'1'",
    "added to": "v = '0'\nv += '1'",
    "a branch": "v = '0'\nif True: v = '1'",
    "a try": "v = '0'\ntry: v = '1'\nexcept Exception as w: pass",
    "an error's name": "v = '0'\ntry: 1 / 0\nexcept Exception as v: pass",
    "deleted": "v = '0'\ndel v",
    "imported": "v = '0'\nfrom os import name as v",
    "a star": "v = '0'\nfrom os import *",
    "a function": "v = '0'\ndef v(): pass",
    "a class": "v = '0'\nclass v: pass",
    "a loop": "v = '0'\nfor v in 'ab': pass",
    "a walrus": "v = '0'\nprint(v := '1')",
    "unpacked": "v = '0'\nv, w = 'ab'",
    "globals()": "v = '0'\nglobals()['v'] = '1'",
    "exec": "v = '0'\nexec('v = 1')",
    "a function that says global": "v = '0'\ndef f():\n    global v\n    v = '1'\nf()",
}


@pytest.mark.parametrize("text", CLEAR.values(), ids=CLEAR)
def test_a_literal_that_has_the_last_word_is_the_value(text: str) -> None:
    """Executed, the module has that very value."""
    scope: dict[str, object] = {"w": 0}
    exec(text, scope)  # noqa: S102 texts of this file, and the truth of what they bind
    assert string_literals(parse(text)).values["v"] == scope["v"]


@pytest.mark.parametrize("text", UNCLEAR.values(), ids=UNCLEAR)
def test_a_literal_without_the_last_word_is_no_value(text: str) -> None:
    """Whatever else binds the name may bind anything: it is told as unclear, and no value is given."""
    found = string_literals(parse(text))
    assert "v" not in found.values
    assert "v" in found.unclear


@pytest.mark.parametrize(
    "statement",
    ["from os import *", "globals().update(hip='7')", "def __getattr__(name): return '7'", "vars()['hip'] = '7'"],
)
def test_what_may_bind_any_name_leaves_the_source_open(statement: str) -> None:
    """A name that has no literal may then be bound all the same; one that has a later literal is what that says."""
    literals = string_literals(parse(f"{statement}\ncuda = None\n"))
    assert literals.is_open
    assert literals.values == {"cuda": None}
    assert not string_literals(parse("import os\ncuda = None\n")).is_open


def test_what_is_nested_too_deep_for_the_parser_is_told_from_little_memory() -> None:
    """CPython's parser has one error for both, and a text of a few lines is never too deep."""
    with pytest.raises(SourceError, match="nested too deep"):
        parse("x = " + "-" * 20_000 + "1\n")
