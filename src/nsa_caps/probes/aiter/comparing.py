"""Comparisons, machine by machine."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.space import Choice, Opaque, is_known, lifted, text_of
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
    if len(functions) < len(ops) or not all(map(is_known, values)):
        return Opaque(text)

    def follow(*each: Any) -> Any:
        result: Any = True
        for at, function in enumerate(functions):
            result = function(each[at], each[at + 1])
            if not result:
                break
        return result

    return lifted(follow, values, run.may, text)


def compared(run: Run, op: ast.cmpop, left: Any, right: Any) -> Any:
    """Return whether two values compare so."""
    if isinstance(op, (ast.Is, ast.IsNot)):
        for one, other in ((left, right), (right, left)):
            if one is None and not isinstance(other, Choice):
                # Tensors, functions and modules are not None; of another unknown nothing can be said.
                if isinstance(other, Opaque) and not isinstance(other, Tensor):
                    break
                return (other is None) is isinstance(op, ast.Is)
        # Whether equal texts or numbers are one object is Python's own affair.
        if is_known(left) and is_known(right) and (_is_single(left) or _is_single(right)):
            test = operator.is_ if isinstance(op, ast.Is) else operator.is_not
            return lifted(test, [left, right], run.may, f"({text_of(left)} is {text_of(right)})")
        return Opaque(f"({text_of(left)} is {text_of(right)})")
    found = _COMPARE.get(type(op))
    text = f"({text_of(left)}{found[0] if found else '?'}{text_of(right)})"
    if found is None or not (is_known(left) and is_known(right)):
        return Opaque(text)
    return lifted(found[1], [left, right], run.may, text)
