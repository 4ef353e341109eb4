"""Calls, machine by machine: known functions, those of the package, and the methods of values and of tensors."""

from __future__ import annotations

import ast
import operator
from typing import Any

from nsa_caps.probes.aiter.natives import METHODS, TENSOR_METHODS
from nsa_caps.probes.aiter.run import Event, Run
from nsa_caps.probes.aiter.space import Choice, Opaque, choice, is_known, joined, lifted, parts_of, text_of
from nsa_caps.probes.aiter.values import Bound, Function, Launch, Launcher, Native, Special, Symbol, Tensor, Where

__all__ = ["called", "last_axis", "sliced"]

# The bytes of one element of the types that a cache is looked at as.
_WIDTHS = {
    "aiter.dtypes.fp8": 1, "torch.float8_e4m3fn": 1, "torch.float8_e4m3fnuz": 1, "torch.uint8": 1, "torch.float32": 4,
}  # fmt: skip


def called(run: Run, callee: Any, positional: list[Any], named: dict[str, Any], place: Where) -> Any:
    """Return what a call gives."""
    inner = ",".join([*map(text_of, positional), *(f"{name}={text_of(value)}" for name, value in named.items())])
    text = f"{getattr(callee, 'text', '?')}({inner})"
    if isinstance(callee, Special):
        return run.settle(callee.call(run, positional, named, place), place)
    if isinstance(callee, Function):
        return run.call(run, callee, positional, named, place)
    if isinstance(callee, Choice):
        return _each_called(run, callee, positional, named, place)
    if isinstance(callee, Native) and not named and all(map(is_known, positional)):
        return run.settle(lifted(callee.call, positional, run.may, text), place)
    if isinstance(callee, Launcher):
        launch = Launch(callee.kernel, tuple(positional), named)
        run.events.append(Event("launch", run.may, run.must, launch, *place))
        return Opaque("launched")
    if isinstance(callee, Bound):
        return _method(run, callee, positional, named, text, place)
    tensor_like = isinstance(callee, Opaque) and not isinstance(callee, Symbol)
    if isinstance(callee, Native) or (tensor_like and callee.text.rpartition(".")[2] in TENSOR_METHODS):
        return Opaque(text)
    return run.unaccounted(f"a call of {getattr(callee, 'text', 'what is no function')[:80]}", place)


def _method(run: Run, method: Bound, positional: list[Any], named: dict[str, Any], text: str, place: Where) -> Any:
    if not isinstance(method.owner, Tensor):
        return _of_value(run, method, positional, named, text, place)
    if method.name not in TENSOR_METHODS:
        return run.unaccounted(f"a call of .{method.name} of a tensor", place)
    return Opaque(text) if named else _of_tensor(run, method.owner, method.name, positional, text)


def _each_called(run: Run, callee: Choice, positional: list[Any], named: dict[str, Any], place: Where) -> Any:
    """Call what differs between machines, each on its own."""
    parts: list[tuple[int, Any]] = []
    for mask, part in parts_of(callee, run.may):
        value = run.within(mask, mask, lambda part=part: called(run, part, positional, named, place))  # type: ignore[misc]
        parts += [(mask & inner, found) for inner, found in parts_of(value, run.space.all)]
    return choice([(mask & run.may, part) for mask, part in parts], callee.text) if run.may else Opaque("raised")


def _of_value(run: Run, method: Bound, positional: list[Any], named: dict[str, Any], text: str, place: Where) -> Any:
    owner, name = method.owner, method.name
    if name not in METHODS or named:
        return run.unaccounted(f"a call of .{name}", place)
    if isinstance(owner, dict) and name == "get" and positional and is_known(positional[0]):
        default = positional[1] if len(positional) > 1 else None
        return run.settle(
            joined(lifted(lambda key: owner.get(key, default), positional[:1], run.may, text), text), place
        )
    # A view of a dict changes with it.
    if name in ("keys", "values", "items"):
        return Opaque(text)
    value = lifted(lambda value, *rest: getattr(value, name)(*rest), [owner, *positional], run.may, text)
    return run.settle(value, place)


def _of_tensor(run: Run, tensor: Tensor, method: str, arguments: list[Any], text: str) -> Any:
    (only,) = arguments if len(arguments) == 1 else (None,)
    if method == "size" and not arguments:
        return tensor.size
    if method == "size" and isinstance(only, int):
        return lifted(tensor.size.__getitem__, [only], run.may, text)
    if method == "stride" and arguments == [0] and tensor.row is not None:
        row = tensor.row
        return Choice(row.parts, text) if isinstance(row, Choice) else row
    if method == "view" and isinstance(only, (Opaque, Choice)):
        return _as_type(run, tensor, only, text)
    if method == "view" and all(isinstance(each, (int, Opaque, Choice)) for each in arguments):
        return _reshaped(run, tensor, arguments, text)
    return Opaque(text)


def _as_type(run: Run, tensor: Tensor, kind: Any, text: str) -> Tensor:
    """Return the same bytes as another type; of one that is not known the width is 0."""
    widths = {_WIDTHS.get(text_of(part), 0) for _, part in parts_of(kind, run.may)}
    width = widths.pop() if len(widths) == 1 else 0
    if width == tensor.width:
        return Tensor(text, tensor.size, tensor.row, width)
    row = tensor.row
    if row is not None:
        row = lifted(lambda value: value * tensor.width // width, [row], run.may, text) if width else None
    return Tensor(text, (*tensor.size[:-1], Opaque("cut")), row, width)


def _reshaped(run: Run, tensor: Tensor, sizes: list[Any], text: str) -> Tensor:
    """Return the same elements in other sizes."""
    row, rest = None, Opaque(f"rest of {text}")
    if len(sizes) == 2 and text_of(sizes[0]) == "-1":
        row = sizes[1]
        if lifted(operator.eq, [row, tensor.row], run.may, text) is True:
            # As many as there were.
            rest = tensor.size[0]
    elif text_of(sizes[0]) == text_of(tensor.size[0]):
        # The rows stay, and each is split.
        row = tensor.row
    return Tensor(text, tuple(rest if text_of(each) == "-1" else each for each in sizes), row, tensor.width)


def last_axis(tensor: Tensor, at: ast.expr) -> ast.Slice | None:
    """Return what is taken of a tensor's last axis, as `[..., a:b]` or `[:, a:b]` do; None: it is cut otherwise."""
    if not (isinstance(at, ast.Tuple) and at.elts):
        return None
    *others, last = at.elts
    whole = [ast.unparse(each) for each in others] in (["..."], [":"] * (len(tensor.size) - 1))
    return last if whole and isinstance(last, ast.Slice) and last.step is None else None


def sliced(tensor: Tensor, first: Any, last: Any) -> Tensor:
    """Return a part along the last axis: its rows stay as far apart."""
    ends = ("" if end is None else text_of(end) for end in (first, last))
    return Tensor(f"{tensor.text}[{':'.join(ends)}]", (*tensor.size[:-1], Opaque("cut")), tensor.row, tensor.width)
