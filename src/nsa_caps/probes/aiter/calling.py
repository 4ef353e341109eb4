"""Calls of the package's own functions: arguments are bound as Python does, and what happens inside is noted."""

from __future__ import annotations

from typing import Any

from nsa_caps.probes.aiter.run import Run, TooMuchError, merged
from nsa_caps.probes.aiter.space import Opaque, choice, kept, parts_of, text_of, without
from nsa_caps.probes.aiter.statements import execute
from nsa_caps.probes.aiter.values import Frame, Function, Where

__all__ = ["call_function"]

_MOST_CALLS = 12


def call_function(run: Run, function: Function, positional: list[Any], named: dict[str, Any], place: Where) -> Any:
    """Return what a function of the package gives; what happens in it is noted."""
    if run.calls >= _MOST_CALLS:
        raise TooMuchError("more nested calls than any aiter makes")
    arguments = _arguments(function, positional, named)
    if arguments is None:
        run.raises(run.may, "TypeError", place)
        return Opaque("raised")
    frame = Frame(arguments, function.frame.names, function.frame.file, function.frame.module, function.frame.package)
    frame.local = function.local
    must, doubt = run.must, run.doubt
    run.doubt = 0
    run.calls += 1
    execute(run, function.node.body, frame)
    run.calls -= 1
    returns = list(frame.returns)
    if run.may:
        returns.append((run.may, run.must, None))
    alive = 0
    for mask, _, _ in returns:
        alive |= mask
    run.may, run.must = alive, without(must & alive, run.doubt)
    run.doubt |= doubt
    return _returned(returns)


def _returned(returns: list[tuple[int, int, Any]]) -> Any:
    if not returns:
        return Opaque("raised")
    seen = unsure = 0
    for mask, _, _ in returns:
        unsure |= seen & mask
        seen |= mask
    parts = [(here, value) for mask, _, value in returns if (here := without(mask, unsure))]
    value = merged(parts, 0) if parts else Opaque("either")
    if not unsure:
        return value
    text = "|".join(sorted({text_of(value) for _, _, value in returns}))
    return choice(
        [(unsure, Opaque(text)), *((without(mask, unsure), part) for mask, part in parts_of(value, seen))], text
    )


def _arguments(function: Function, positional: list[Any], named: dict[str, Any]) -> dict[str, Any] | None:
    """Bind arguments as Python does; None is a TypeError."""
    args = function.node.args
    names = [argument.arg for argument in (*args.posonlyargs, *args.args)]
    every = [*names, *(argument.arg for argument in args.kwonlyargs)]
    if len(positional) > len(names) and args.vararg is None:
        return None
    bound: dict[str, Any] = dict(function.defaults)
    bound.update((name, kept(value, fresh=False)) for name, value in zip(names, positional, strict=False))
    if args.vararg is not None:
        bound[args.vararg.arg] = Opaque("args")
    for name, value in named.items():
        if name in names[: len(positional)]:
            return None
        if name in every:
            bound[name] = kept(value, fresh=False)
        elif args.kwarg is None:
            return None
    if args.kwarg is not None:
        bound[args.kwarg.arg] = Opaque("kwargs")
    return bound if all(name in bound for name in every) else None
