"""Which mutants there are: one change of one module each, by cosmic-ray's operators."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BINARY, _COMPARISON = "core/ReplaceBinaryOperator_", "core/ReplaceComparisonOperator_"
# One neighbour for each operator, as mutation tools do: a boundary moved by one, a comparison denied, arithmetic turned
# about. An order in place of equality says the same wherever nothing lies beyond, as `len(x) <= 1` of what is never
# empty; twelve operators in place of one are killed by the same test.
_OPERATORS = (
    *(_BINARY + name for name in ("Add_Sub", "Sub_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv")),
    *(_BINARY + name for name in ("Pow_Mul", "LShift_RShift", "RShift_LShift")),
    *(_BINARY + name for name in ("BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitAnd")),
    *(_COMPARISON + name for name in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(_COMPARISON + name for name in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"core/ReplaceUnaryOperator_Delete_{name}" for name in ("USub", "Invert", "Not")),
    *(f"core/{name}" for name in ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue")),
    *(f"core/{name}" for name in ("ReplaceAndWithOr", "ReplaceOrWithAnd")),
    *(f"core/{name}" for name in ("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop")),
    *(f"core/{name}" for name in ("ExceptionReplacer", "NumberReplacer", "RemoveDecorator")),
)
# What holds two operands: `*` and `/` also part parameters, and cosmic-ray takes them for arithmetic.
_WITH_OPERANDS = frozenset({"expr", "xor_expr", "and_expr", "shift_expr", "arith_expr", "term", "power"})
# Decorators that only type checkers read.
_FOR_TYPES = frozenset({"overload", "final", "override"})


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


def mutants_of(modules: Iterable[str], sources: Path) -> Iterator[Mutant]:
    """Yield all mutants of some modules that may matter; a folder stands for all of its own."""
    for name in modules:
        place = sources / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            module, text = str(path.relative_to(sources)), path.read_text(encoding="utf-8")
            nodes = list(ast_nodes(get_ast(text)))
            for operator in _OPERATORS:
                made = get_operator(operator)()
                places = [node for node in nodes for _ in made.mutation_positions(node)]
                for occurrence, node in enumerate(places):
                    if _matters(node) and not _is_another(operator, node):
                        yield Mutant(module, operator, occurrence)


def line_changed(before: str, after: str) -> Changed:
    """Return the first line in which two texts differ; a decorator goes with the blank lines before it."""
    pairs = zip_longest(before.splitlines(), after.splitlines(), fillvalue="")
    found = ((number, old, new) for number, (old, new) in enumerate(pairs, 1) if old != new and old.strip())
    number, old, new = next(found, (0, "", ""))
    return Changed(number, old.strip(), new.strip())


def _matters(node: Any) -> bool:
    """Return whether a change of a node can be told: not of what never runs, nor of an assertion."""
    if node.type == "decorator" and node.children[1].get_code() in _FOR_TYPES:
        return False
    while node is not None:
        if node.type == "argument" and _is_strict_zip(node):
            return False
        if node.type == "if_stmt" and node.children[1].get_code(include_prefix=False) == "TYPE_CHECKING":
            return False
        parent = node.parent
        if parent is not None and node is _annotation(parent):
            return False
        node = parent
    return True


def _is_strict_zip(node: Any) -> bool:
    """Return whether an argument is `strict=` of `zip`, which compares lengths that the code itself has made."""
    call = node.search_ancestor("atom_expr")
    name, function = (each.get_code(include_prefix=False) for each in (node.children[0], call.children[0]))
    return (name, function) == ("strict", "zip")


def _is_another(operator: str, node: Any) -> bool:
    """Return whether a change is none of its kind: no arithmetic, or a `not` where one operator is denied anyway."""
    if operator.startswith(_BINARY):
        return node.parent.type not in _WITH_OPERANDS
    if operator != "core/AddNot":
        return False
    condition = node.children[2 if node.type == "test" else 1]
    if condition.type == "comparison" and len(condition.children) == 3:
        return condition.children[1].get_code(include_prefix=False) in {"==", "!=", "is", "is not"}
    return bool(condition.type == "not_test")


def _annotation(node: Any) -> Any:
    """Return the part of a node that is an annotation, if any."""
    place = {"annassign": 1, "tfpdef": 2}.get(node.type)
    if place is not None:
        return node.children[place]
    return node.annotation if node.type == "funcdef" else None
