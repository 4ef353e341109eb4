"""Python's operators between two values, where what they give is of a size that a source may have."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.space import Opaque

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BINARY"]

_MOST_TIMES = 5_000


def _times(left: Any, right: Any) -> Any:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, (str, tuple, list)) and isinstance(times, int) and len(many) * times > _MOST_TIMES:
            return Opaque("many times")
    return left * right


def _rest(left: Any, right: Any) -> Any:
    # A format may ask for any width.
    return Opaque("formatted") if isinstance(left, (str, bytes)) else left % right


BINARY: dict[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", _times),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Div: ("/", operator.truediv),
    ast.Mod: ("%", _rest),
    ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_),
}
