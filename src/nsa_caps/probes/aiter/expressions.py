"""Expressions of Python, evaluated on every machine of a space at once; what is not understood is not known."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from nsa_caps.probes.aiter.arithmetic import BINARY
from nsa_caps.probes.aiter.calls import called, last_axis, sliced
from nsa_caps.probes.aiter.comparing import chained, compared
from nsa_caps.probes.aiter.natives import BUILTINS, MACHINE, SPECIALS, VERSION_PARTS
from nsa_caps.probes.aiter.run import Run, TooMuchError, merged
from nsa_caps.probes.aiter.space import (
    Choice,
    Opaque,
    Raised,
    Sure,
    Thing,
    choice,
    is_known,
    joined,
    kept,
    lifted,
    parts_of,
    text_of,
)
from nsa_caps.probes.aiter.values import (
    Bound,
    Compiled,
    Frame,
    Function,
    Kernel,
    Later,
    Launcher,
    ModuleRef,
    Symbol,
    Tensor,
    Where,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["attribute", "evaluate", "kept_value", "where"]

_MOST_DEEP = 60
# What these give is no list or dict that has a name already; what a function returns is none either.
_FRESH = (ast.List, ast.Dict, ast.Tuple, ast.Call, ast.BinOp)


def where(node: ast.expr | ast.stmt, frame: Frame) -> Where:
    """Return the place of a node."""
    return Where(frame.file, node.lineno)


def evaluate(run: Run, node: ast.expr, frame: Frame) -> Any:
    """Return the value of an expression."""
    run.step()
    # Half of what is evaluated.
    if type(node) is ast.Constant:
        return node.value
    run.depth += 1
    if run.depth > _MOST_DEEP:
        raise TooMuchError("deeper than any aiter nests")
    try:
        kind = _KINDS.get(type(node))
        if kind is None:
            return run.unaccounted(type(node).__name__, where(node, frame))
        value = kind(run, node, frame)
        return run.settle(value, where(node, frame)) if isinstance(value, (Choice, Raised)) else value
    finally:
        run.depth -= 1


def kept_value(run: Run, node: ast.expr, frame: Frame) -> Any:
    """Return the value of an expression that is kept: in a name, in something else, or by who called."""
    either = isinstance(node, ast.IfExp) and isinstance(node.body, _FRESH) and isinstance(node.orelse, _FRESH)
    return kept(evaluate(run, node, frame), fresh=either or isinstance(node, _FRESH))


def _name(run: Run, node: Any, frame: Frame) -> Any:
    if node.id in frame.local and node.id not in frame.names:
        return Raised("UnboundLocalError")
    for names in (frame.names, frame.globals, BUILTINS):
        if node.id in names:
            value = names[node.id]
            if isinstance(value, Later):
                value = names[node.id] = run.modules.resolve(run, value)
            elif isinstance(value, Choice):
                return _resolved(run, value)
            return value
    if "*" in frame.globals:
        return run.unaccounted(f"{node.id}, which a star import may bind", where(node, frame))
    return Raised("NameError")


def _resolved(run: Run, value: Choice) -> Any:
    if not value.holds(Later):
        return value
    parts = [(mask, run.modules.resolve(run, part) if isinstance(part, Later) else part) for mask, part in value.parts]
    return choice(parts, value.text)


def _sequence(make: Callable[[list[Any]], Any]) -> Callable[[Run, Any, Frame], Any]:
    def build(run: Run, node: Any, frame: Frame) -> Any:
        values = [kept_value(run, each, frame) for each in node.elts if not isinstance(each, ast.Starred)]
        if len(values) != len(node.elts):
            return Opaque("starred")
        return make(values)

    return build


def _set(values: list[Any]) -> Any:
    return frozenset(values) if all(isinstance(each, (str, int)) for each in values) else Opaque("set")


def _dict(run: Run, node: Any, frame: Frame) -> Any:
    found: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        inner = evaluate(run, value, frame) if key is None else kept_value(run, value, frame)
        if key is None:
            if not isinstance(inner, dict):
                return (
                    run.unaccounted("a dict of what differs", where(node, frame)) if is_known(inner) else Opaque("dict")
                )
            found.update(inner)
            continue
        name = evaluate(run, key, frame)
        if not all(isinstance(each, (str, int)) for each in (name if isinstance(name, tuple) else (name,))):
            return run.unaccounted("a dict by what differs", where(node, frame)) if is_known(name) else Opaque("dict")
        found[name] = inner
    return found


def _text(run: Run, node: Any, frame: Frame) -> Any:
    values: list[Any] = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            values.append(part.value)
        else:
            inner = evaluate(run, part.value, frame)
            plain = part.conversion == -1 and part.format_spec is None
            values.append(lifted(str, [inner], run.may, f"str({text_of(inner)})") if plain else Opaque("formatted"))
    return lifted(lambda *parts: "".join(parts), values, run.may, "+".join(map(text_of, values)))


def _binary(run: Run, node: Any, frame: Frame) -> Any:
    left, right = evaluate(run, node.left, frame), evaluate(run, node.right, frame)
    found = BINARY.get(type(node.op))
    text = f"({text_of(left)}{found[0] if found else '?'}{text_of(right)})"
    if isinstance(left, Thing) or isinstance(right, Thing) or (found is None and is_known(left) and is_known(right)):
        return run.unaccounted(f"operands of {type(node.op).__name__}", where(node, frame))
    return lifted(found[1], [left, right], run.may, text) if found else Opaque(text)


def _unary(run: Run, node: Any, frame: Frame) -> Any:
    inner = evaluate(run, node.operand, frame)
    if isinstance(node.op, ast.Not):
        true, false, unknown = run.truth(inner)
        parts = [(true, False), (false, True), (unknown, Opaque(f"not {text_of(inner)}"))]
        return choice(parts, f"not {text_of(inner)}")
    if isinstance(node.op, ast.USub):
        return lifted(operator.neg, [inner], run.may, f"-{text_of(inner)}")
    return Opaque(f"~{text_of(inner)}")


def _boolean(run: Run, node: Any, frame: Frame) -> Any:
    stops_on_true = isinstance(node.op, ast.Or)
    sign = " or " if stops_on_true else " and "
    parts: list[tuple[int, Any]] = []
    texts: list[str] = []
    # The machines that surely come to the next operand, and those that may.
    go, perhaps = run.may, 0
    for each in node.values:
        value = run.within(go | perhaps, go, lambda each=each: evaluate(run, each, frame))  # type: ignore[misc]
        texts.append(text_of(value))
        true, false, unknown = run.truth(value)
        stop, on = (true, false) if stops_on_true else (false, true)
        # Which of the operands it is is not known, but what it counts as.
        parts += [(perhaps & stop, Sure(sign.join(texts), truth=stops_on_true))]
        perhaps ^= perhaps & stop
        # The last operand is the value, whatever it counts as.
        ends = go if each is node.values[-1] else go & stop
        parts += [(mask & ends, part) for mask, part in parts_of(value, run.may)]
        go ^= ends
        perhaps |= go & unknown
        go &= on
        if not go | perhaps:
            break
    text = f"({sign.join(texts)})"
    parts.append((perhaps, Opaque(text)))
    return choice([(mask & run.may, part) for mask, part in parts], text)


def _either(run: Run, node: Any, frame: Frame) -> Any:
    test = evaluate(run, node.test, frame)
    true, false, unknown = run.truth(test)
    parts: list[tuple[int, Any]] = []
    if true | unknown:
        parts.append((true, run.within(true | unknown, true, lambda: evaluate(run, node.body, frame))))
    if false | unknown:
        parts.append((false, run.within(false | unknown, false, lambda: evaluate(run, node.orelse, frame))))
    if not parts:
        return Opaque("never")
    if not unknown:
        return merged(parts, 0)
    text = f"({text_of(parts[0][1])} if {text_of(test)} else {text_of(parts[1][1])})"
    flat: list[tuple[int, Any]] = [(unknown, Opaque(text))]
    for mask, value in parts:
        flat += parts_of(value, mask)
    return choice(flat, text)


def _compare(run: Run, node: Any, frame: Frame) -> Any:
    (op, *more), (second, *others) = node.ops, node.comparators
    values = [evaluate(run, each, frame) for each in (node.left, second)]
    if not more:
        return compared(run, op, *values)
    # Whether control comes to those beyond is not sure.
    values += [run.within(run.may, 0, lambda each=each: evaluate(run, each, frame)) for each in others]  # type: ignore[misc]
    return chained(run, node.ops, values)


def _attribute(run: Run, node: Any, frame: Frame) -> Any:
    return attribute(run, evaluate(run, node.value, frame), node.attr)


def attribute(run: Run, owner: Any, name: str) -> Any:
    """Return an attribute of a value."""
    if isinstance(owner, Choice):
        return _of_each(run, owner, name)
    if isinstance(owner, ModuleRef):
        return run.modules.load(run, owner.name, name)
    if isinstance(owner, Symbol):
        text = f"{owner.text}.{name}"
        return MACHINE[text](run) if text in MACHINE else SPECIALS.get(text) or Symbol(text)
    if isinstance(owner, Kernel) and name in ("fn", "__name__"):
        return owner if name == "fn" else owner.name
    if isinstance(owner, Tensor):
        return owner.size if name == "shape" else Bound(owner, name)
    if isinstance(owner, (Opaque, Function)):
        return Opaque(f"{owner.text}.{name}")
    if name in VERSION_PARTS and isinstance(owner, Version):
        return getattr(owner, name)
    return Bound(owner, name) if _has(owner, name) else Raised("AttributeError")


def _of_each(run: Run, owner: Choice, name: str) -> Any:
    if all(isinstance(part, (Kernel, Symbol)) for _, part in owner.parts):
        parts = [(mask, attribute(run, part, name)) for mask, part in owner.parts]
        return choice(parts, f"{owner.text}.{name}")
    if name in VERSION_PARTS and is_known(owner):
        return lifted(lambda value: getattr(value, name), [owner], run.may, f"{owner.text}.{name}")
    if is_known(owner) and not all(_has(part, name) for _, part in owner.parts):
        text = f"{owner.text}.{name}"
        parts = [(mask, Opaque(text) if _has(part, name) else Raised("AttributeError")) for mask, part in owner.parts]
        return choice(parts, text)
    return Bound(owner, name)


def _has(owner: Any, name: str) -> bool:
    # A set of the source is a frozen one here, and lacks what changes it.
    return isinstance(owner, (Thing, frozenset)) or hasattr(owner, name)


def _subscript(run: Run, node: Any, frame: Frame) -> Any:
    owner = evaluate(run, node.value, frame)
    if isinstance(owner, Tensor):
        return _slice_of(run, owner, node.slice, frame)
    if all(isinstance(part, (Kernel, Compiled)) for _, part in parts_of(owner, run.may)):
        evaluate(run, node.slice, frame)
        return Launcher(owner)
    if isinstance(node.slice, ast.Slice):
        ends = [None if end is None else evaluate(run, end, frame) for end in (node.slice.lower, node.slice.upper)]
        if node.slice.step is None:
            return lifted(lambda value, low, high: value[low:high], [owner, *ends], run.may, f"{text_of(owner)}[:]")
        return Opaque(f"{text_of(owner)}[:]")
    key = evaluate(run, node.slice, frame)
    text = f"{text_of(owner)}[{text_of(key)}]"
    if isinstance(owner, Opaque):
        return Opaque(text)
    if is_known(key) and all(isinstance(part, (tuple, list, dict)) for _, part in parts_of(owner, run.may)):
        # What it holds need not be known.
        parts: list[tuple[int, Any]] = []
        for mask, part in parts_of(owner, run.may):
            value = joined(lifted(part.__getitem__, [key], mask, text), text)
            parts += [(mask & inner, found) for inner, found in parts_of(value, run.may)]
        return choice(parts, text)
    return lifted(operator.getitem, [owner, key], run.may, text)


def _slice_of(run: Run, tensor: Tensor, at: ast.expr, frame: Frame) -> Any:
    cut = last_axis(tensor, at)
    if cut is None:
        return Opaque(f"{tensor.text}[?]")
    first, last = (None if end is None else evaluate(run, end, frame) for end in (cut.lower, cut.upper))
    return sliced(tensor, first, last)


def _call(run: Run, node: Any, frame: Frame) -> Any:
    callee = evaluate(run, node.func, frame)
    place = where(node, frame)
    positional: list[Any] = []
    for each in node.args:
        if not isinstance(each, ast.Starred):
            positional.append(evaluate(run, each, frame))
            continue
        several = evaluate(run, each.value, frame)
        if not isinstance(several, (tuple, list)):
            return run.unaccounted("a call by stars", place)
        positional += several
    named: dict[str, Any] = {}
    for keyword in node.keywords:
        value = evaluate(run, keyword.value, frame)
        several = value if keyword.arg is None else {keyword.arg: value}
        # Python refuses a name that is no text, and one that is given twice.
        texts = isinstance(several, dict) and all(isinstance(key, str) for key in several)
        if not texts or several.keys() & named.keys():
            return run.unaccounted("a call by stars", place)
        named.update(several)
    return called(run, callee, positional, named, place)


def _lambda(_: Run, node: Any, frame: Frame) -> Any:
    return Opaque(f"lambda at {frame.module}:{node.lineno}")


_KINDS: dict[type, Callable[[Run, Any, Frame], Any]] = {
    ast.Name: _name,
    ast.Tuple: _sequence(tuple),
    ast.List: _sequence(list),
    ast.Set: _sequence(_set),
    ast.Dict: _dict,
    ast.JoinedStr: _text,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.IfExp: _either,
    ast.Compare: _compare,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Call: _call,
    ast.Lambda: _lambda,
}
