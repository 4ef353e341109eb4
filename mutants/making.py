"""Which mutants there are: one change of one module each, by cosmic-ray's operators."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# What cannot matter: annotations are not run, so that `X | None` may as well be `X + None`; four arithmetic operators
# in place of one are enough; `is` and `==` mean the same of None, of truth values and of texts written in the source.
_LEFT_OUT = re.compile(
    r"core/(NoOp|ReplaceBinaryOperator_BitOr_.*"
    r"|ReplaceBinaryOperator_.*_(Pow|RShift|LShift|BitOr|BitAnd|BitXor)"
    r"|ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq|Eq_Is|NotEq_IsNot))"
)
# A mutant of these lines changes only what is imported for annotations.
_NO_MATTER = re.compile(r"if (not )?TYPE_CHECKING:|^from |^import ")


class Mutant(NamedTuple):
    """One change of one module.

    Attributes:
        module: below `src/nsa_caps`.
        operator: cosmic-ray's name of the change.
        occurrence: at which of the places where it can be made.
    """

    module: str
    operator: str
    occurrence: int

    def text(self, source: str) -> str:
        """Return the module's text with the change."""
        return str(mutate_code(source, get_operator(self.operator)(), self.occurrence))


class Changed(NamedTuple):
    """The first line that a mutant changed.

    Attributes:
        number: which line it is, from 1.
        before: the line as it was.
        after: the line as it is.
    """

    number: int
    before: str
    after: str

    @property
    def matters(self) -> bool:
        """Whether it is no line that is read for annotations alone, and another one than before."""
        return _NO_MATTER.search(self.before) is None and self.before != self.after


def mutants_of(modules: Iterable[str], sources: Path) -> Iterator[Mutant]:
    """Yield all mutants of some modules that may matter; a folder stands for all of its own."""
    for name in modules:
        place = sources / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            module, text = str(path.relative_to(sources)), path.read_text(encoding="utf-8")
            nodes = list(ast_nodes(get_ast(text)))
            for operator in operator_names():
                kind = get_operator(operator)
                if _LEFT_OUT.fullmatch(operator) or kind.arguments():
                    continue
                made = kind()
                places = sum(len(list(made.mutation_positions(node))) for node in nodes)
                yield from (Mutant(module, operator, occurrence) for occurrence in range(places))


def line_changed(before: str, after: str) -> Changed:
    """Return the first line in which two texts differ."""
    pairs = zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    found = ((number, old, new) for number, (old, new) in enumerate(pairs, 1) if old != new)
    number, old, new = next(found, (0, "", ""))
    return Changed(number, old.strip(), new.strip())
