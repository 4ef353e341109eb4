"""Comparisons, machine by machine."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.space import Opaque, Thing, lifted, text_of
from nsa_caps.probes.aiter.values import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps.probes.aiter.run import Run

__all__ = ["chained", "compared"]

_COMPARE: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.In: ("in", lambda left, right: left in right),
    ast.NotIn: ("not in", lambda left, right: left not in right),
}


def _is_single(value: Any) -> bool:
    return value is None or value is True or value is False


def chained(run: Run, ops: list[ast.cmpop], values: list[Any]) -> Any:
    """Return whether values compare so one after the other, up to the first that does not."""
    functions = [_COMPARE[type(op)][1] for op in ops if type(op) in _COMPARE]
    text = f"chain({','.join(map(text_of, values))})"
    if len(functions) < len(ops):
        return Opaque(text)

    def follow(*each: Any) -> Any:
        return all(function(one, other) for function, one, other in zip(functions, each, each[1:], strict=False))

    return lifted(follow, values, run.may, text)


def compared(run: Run, op: ast.cmpop, left: Any, right: Any) -> Any:
    """Return whether two values compare so."""
    if isinstance(op, (ast.Is, ast.IsNot)):
        text = f"({text_of(left)} is {text_of(right)})"
        other = right if left is None else left
        # Tensors, functions and modules are not None; of another unknown nothing can be said.
        if (left is None or right is None) and isinstance(other, (Tensor, Thing)):
            return isinstance(op, ast.IsNot)
        # Whether equal texts or numbers are one object is Python's own affair.
        if not (_is_single(left) or _is_single(right)):
            return Opaque(text)
        return lifted(operator.is_ if isinstance(op, ast.Is) else operator.is_not, [left, right], run.may, text)
    found = _COMPARE.get(type(op))
    text = f"({text_of(left)}{found[0] if found else '?'}{text_of(right)})"
    return lifted(found[1], [left, right], run.may, text) if found else Opaque(text)
