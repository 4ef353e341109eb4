from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("cosmic_ray", reason="needs the extra `mutants`")

from mutants.making import line_changed, mutants_of
from mutants.report import Figures, Survivor, read, report, write

if TYPE_CHECKING:
    from pathlib import Path


def changes(folder: Path, source: str) -> set[str]:
    """Return the lines that mutants of a module have in place of its own."""
    (folder / "module.py").write_text(source, encoding="utf-8")
    return {line_changed(source, mutant.text(source)).after for mutant in mutants_of(["module.py"], folder)}


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("a = b < c\n", {"a = b <= c"}),
        ("a = b == c\n", {"a = b != c"}),
        ("a = b is None\n", {"a = b is not None"}),
        ("a = b + c\n", {"a = b - c"}),
        ("a = b & c\n", {"a = b | c"}),
        ("a = b and not c\n", {"a = b or not c", "a = b and  c"}),
        ("if a in b: c\n", {"if not a in b: c"}),
        ("if a == b: c\n", {"if a != b: c"}),
        ("a = 7\n", {"a = 8", "a = 6"}),
        ("a = loads(b, strict=True)\n", {"a = loads(b, strict=False)"}),
        ("@dataclass(frozen=True)\nclass A: ...\n", {"@dataclass(frozen=False)", "class A: ..."}),
    ],
)
def test_each_operator_has_one_neighbour(source: str, mutants: set[str], tmp_path: Path) -> None:
    """A boundary moves by one, equality and identity are denied, arithmetic turns about, numbers are one off."""
    assert changes(tmp_path, source) == mutants


@pytest.mark.parametrize(
    "source",
    [
        "a: int | None\n",
        "def f(a: X | Y, *, b: X) -> X | Y: ...\n",
        "def f(*a, **b): return g(*a, **b)\n",
        "a = zip(b, c, strict=True)\n",
        "if TYPE_CHECKING:\n    a = 1 + 2\n",
        "@overload\ndef f(): ...\n",
    ],
)
def test_what_never_runs_is_not_changed(source: str, tmp_path: Path) -> None:
    """Annotations, what stands for type checkers alone, the star among parameters, `strict=` of `zip`: no mutants."""
    assert changes(tmp_path, source) == set()


def test_a_decorator_that_goes_is_the_line_that_changed() -> None:
    """Not the blank line before it, which no test executes."""
    assert line_changed("a = 1\n\n\n@cache\ndef f(): ...\n", "a = 1\ndef f(): ...\n")[:2] == (4, "@cache")


def test_figures_come_back_as_they_were_written(tmp_path: Path) -> None:
    """The page is written from the files of several runs, which lose nothing."""
    rows = [Figures("pages", 9, 4, (Survivor("pages.py", "a | b", "a & b"),), "python -m mutants", "abc", ())]
    write(rows, tmp_path / "figures.json")
    assert read(tmp_path / "figures.json") == rows
    assert "| pages | 9 | 4 | 3 | 75.0 % (30.1 to 95.4) | `python -m mutants` | abc |" in report(rows)
    assert "| `pages.py` | `a \\| b` | `a & b` |" in report(rows)
