"""Calls, machine by machine: known functions, those of the package, and the methods of values and of tensors."""

from __future__ import annotations

from typing import Any

from nsa_caps.probes.aiter.natives import METHODS, TENSOR_METHODS
from nsa_caps.probes.aiter.run import Event, Run
from nsa_caps.probes.aiter.space import Choice, Opaque, Raised, choice, is_known, joined, lifted, parts_of, text_of
from nsa_caps.probes.aiter.values import Bound, Function, Launch, Launcher, Native, Special, Symbol, Tensor, Where

__all__ = ["called", "sliced"]


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
    if isinstance(method.owner, Tensor):
        return _of_tensor(run, method.owner, method.name, positional, place)
    return _of_value(run, method, positional, named, text, place)


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
    if name in ("keys", "values", "items") or not (is_known(owner) and all(map(is_known, positional))):
        return Opaque(text)
    value = lifted(lambda value, *rest: getattr(value, name)(*rest), [owner, *positional], run.may, text)
    return run.settle(value, place)


def _of_tensor(run: Run, tensor: Tensor, method: str, arguments: list[Any], place: Where) -> Any:
    text = f"{tensor.text}.{method}({','.join(map(text_of, arguments))})"
    if method == "size" and not arguments:
        return tensor.size
    if method == "size" and isinstance(arguments[0], int):
        return (
            tensor.size[arguments[0]] if -len(tensor.size) <= arguments[0] < len(tensor.size) else Raised("IndexError")
        )
    if method == "stride":
        if arguments == [0] and tensor.row is not None:
            row = tensor.row
            return Choice(row.parts, text) if isinstance(row, Choice) else row
        return Opaque(text)
    if method == "view":
        return _view(run, tensor, arguments, text)
    if method in TENSOR_METHODS:
        return Opaque(text)
    return run.unaccounted(f"a call of .{method} of a tensor", place)


def _view(run: Run, tensor: Tensor, arguments: list[Any], text: str) -> Any:
    if len(arguments) == 1 and isinstance(arguments[0], (Opaque, Choice)):
        # Another type of the same bytes: a float32 is four of them.
        wide = text_of(arguments[0]) == "torch.float32"
        row = tensor.row
        if wide and row is not None:
            row = lifted(lambda value: value // 4, [row], run.may, f"{text_of(row)}//4")
        return Tensor(text, tensor.size, row, 4 if wide else 1)
    if len(arguments) == 2 and isinstance(arguments[0], int) and arguments[0] == -1:
        return Tensor(text, (Opaque("pages"), arguments[1]), arguments[1], tensor.width)
    # The rows stay, and each is split.
    return Tensor(text, tuple(arguments), tensor.row, tensor.width)


def sliced(tensor: Tensor, first: Any, last: Any) -> Tensor:
    """Return a tensor's part along its last axis, `[..., a:b]` or `[:, a:b]`: its rows stay as far apart."""
    ends = ("" if end is None else text_of(end) for end in (first, last))
    return Tensor(f"{tensor.text}[{':'.join(ends)}]", (*tensor.size[:-1], Opaque("cut")), tensor.row, tensor.width)
