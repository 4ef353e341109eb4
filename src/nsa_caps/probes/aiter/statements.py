"""Statements of Python, executed on every machine of a space at once; what is not understood makes the rest unsure."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.definitions import define
from nsa_caps.probes.aiter.expressions import attribute, evaluate, kept_value, where
from nsa_caps.probes.aiter.noise import is_noise
from nsa_caps.probes.aiter.run import Catcher, Run, merged
from nsa_caps.probes.aiter.space import Choice, Opaque, Raised, choice, kept, parts_of, text_of, without
from nsa_caps.probes.aiter.values import Context, Frame, ModuleRef, Symbol, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["execute"]


def execute(run: Run, body: list[ast.stmt], frame: Frame) -> None:
    """Execute statements."""
    for statement in body:
        if not run.may:
            return
        run.step()
        kind = _KINDS.get(type(statement))
        if kind is None:
            run.unaccounted(f"{type(statement).__name__.lower()}", where(statement, frame))
        else:
            kind(run, statement, frame)


def _expression(run: Run, node: Any, frame: Frame) -> None:
    call = node.value
    if is_noise(node):
        # What is told must be there all the same.
        for argument in call.args if isinstance(call, ast.Call) else ():
            if isinstance(argument, ast.Name):
                evaluate(run, argument, frame)
        return
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        name = call.func.value.id
        (only,) = call.args if len(call.args) == 1 and not call.keywords else (None,)
        grows = call.func.attr == "append" or (call.func.attr == "extend" and isinstance(only, ast.List))
        if only is not None and grows and isinstance(frame.names.get(name), list):
            evaluate(run, only, frame)
            # What it holds now differs between machines, and nothing that decides asks for it.
            frame.names[name] = Opaque(f"{name} changed")
            return
    evaluate(run, node.value, frame)


def _bind(run: Run, target: ast.expr, value: Any, frame: Frame) -> None:
    if isinstance(target, ast.Name):
        names = frame.globals if target.id in frame.declared else frame.names
        if names is frame.globals and names is not frame.names and target.id in names:
            value = merged([(run.may, value), (run.space.all ^ run.may, names[target.id])], without(run.may, run.must))
        names[target.id] = value
        return
    if isinstance(target, (ast.Tuple, ast.List)):
        _unpack(run, target, value, frame)
        return
    if isinstance(target, ast.Attribute) and target.attr == "__triton_builtin__" and value is True:
        # How Gluon marks a function that runs in the compiler.
        return
    if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
        evaluate(run, target.value, frame)
        held = frame.names.get(target.value.id)
        key = evaluate(run, target.slice, frame)
        tables = isinstance(held, dict) or (
            isinstance(held, Choice) and all(isinstance(part, dict) for _, part in held.parts)
        )
        if tables and isinstance(key, (str, int)):
            # A copy: another branch may hold the same.
            parts = [(mask, {**part, key: value}) for mask, part in parts_of(held, run.may)]
            frame.names[target.value.id] = choice(parts, text_of(held))
            return
    run.unaccounted("an assignment to a part of something", where(target, frame))


def _unpack(run: Run, target: ast.Tuple | ast.List, value: Any, frame: Frame) -> None:
    fits = isinstance(value, (tuple, list)) and len(value) == len(target.elts)
    starred = any(isinstance(each, ast.Starred) for each in target.elts)
    if starred or not (fits or (isinstance(value, Opaque) and not isinstance(value, Tensor))):
        # Of what is not known it is taken that it fits, as of other things that are done with it.
        run.unaccounted("an assignment to parts that do not fit", where(target, frame))
    for at, each in enumerate(target.elts):
        inner = each.value if isinstance(each, ast.Starred) else each
        _bind(run, inner, value[at] if fits and not starred else Opaque(f"{text_of(value)}[{at}]"), frame)


def _assign(run: Run, node: Any, frame: Frame) -> None:
    value = kept_value(run, node.value, frame)
    if len(node.targets) > 1:
        value = kept(value, fresh=False)
    for target in node.targets:
        _bind(run, target, value, frame)


def _annotated(run: Run, node: Any, frame: Frame) -> None:
    if node.value is not None:
        _bind(run, node.target, kept_value(run, node.value, frame), frame)


def _augmented(run: Run, node: Any, frame: Frame) -> None:
    if not isinstance(node.target, ast.Name):
        run.unaccounted("an assignment to a part of something", where(node, frame))
        return
    load = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
    both = ast.copy_location(ast.BinOp(load, node.op, node.value), node)
    _bind(run, node.target, evaluate(run, both, frame), frame)


def _if(run: Run, node: Any, frame: Frame) -> None:
    true, false, unknown = run.truth(evaluate(run, node.test, frame))
    branch(
        run,
        [(true, lambda: execute(run, node.body, frame)), (false, lambda: execute(run, node.orelse, frame))],
        unknown,
        frame,
    )


def branch(run: Run, ways: list[tuple[int, Callable[[], None]]], unknown: int, frame: Frame) -> None:
    """Go several ways, each on its own machines; on those of `unknown` any one of them may be gone."""
    may, must, doubt, names = run.may, run.must, run.doubt, dict(frame.names)
    left: list[tuple[int, dict[str, Any]]] = []
    alive, sure, doubts, through = 0, 0, 0, unknown
    for mask, act in ways:
        here = may & (mask | unknown)
        if not here:
            continue
        run.may, run.must, run.doubt = here, must & mask, 0
        _put(frame, names)
        before = len(frame.returns)
        act()
        alive |= run.may
        sure |= run.must & mask
        doubts |= run.doubt
        through &= without(run.may, run.doubt)
        for returned, _, _ in frame.returns[before:]:
            through = without(through, returned)
        if run.may:
            left.append((run.may, dict(frame.names)))
    run.may, run.must, run.doubt = alive, sure | (must & through), doubt | doubts
    if left:
        _put(frame, _joined(left, unknown & alive))


def _put(frame: Frame, names: dict[str, Any]) -> None:
    # In place: the functions of a module see the same names.
    if frame.names is not names:
        frame.names.clear()
        frame.names.update(names)


def _joined(left: list[tuple[int, dict[str, Any]]], unknown: int) -> dict[str, Any]:
    if len(left) == 1:
        ((_, names),) = left
        return names
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for _, names in left for name in names):
        values = [(mask, names.get(name, _UNBOUND)) for mask, names in left]
        (_, first), *_ = values
        found[name] = first if all(value is first for _, value in values) else merged(values, unknown)
    return found


_UNBOUND = Raised("NameError")


def _assert(run: Run, node: Any, frame: Frame) -> None:
    _, false, unknown = run.truth(evaluate(run, node.test, frame))
    place = where(node, frame)
    run.raises(false, "AssertionError", place)
    run.raises(unknown, "AssertionError", place, sure=False)


def _raise(run: Run, node: Any, frame: Frame) -> None:
    error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = error.id if isinstance(error, ast.Name) else error.attr if isinstance(error, ast.Attribute) else "Exception"
    run.raises(run.may, name, where(node, frame))
    # Where it was not sure that control came here, it is gone here all the same.
    run.may = 0


def _return(run: Run, node: Any, frame: Frame) -> None:
    value = None if node.value is None else kept_value(run, node.value, frame)
    frame.returns.append((run.may, run.must, value))
    run.may = run.must = 0


def _try(run: Run, node: Any, frame: Frame) -> None:
    errors: list[str] = []
    for handler in node.handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        errors += ["BaseException" if kind is None else ast.unparse(kind).rpartition(".")[2] for kind in kinds]
    catcher = Catcher(tuple(errors))
    may, before = run.may, dict(frame.names)
    run.catchers.append(catcher)
    execute(run, node.body, frame)
    run.catchers.pop()
    execute(run, node.orelse, frame)
    if catcher.may:
        through, sure, names = run.may, run.must, dict(frame.names)
        # What the body bound before it raised is not followed.
        changed = {name: Opaque(f"{name} of a try") for name in names if names[name] is not before.get(name)}
        left = [(through, names)] if through else []
        after_may = after_sure = 0
        for handler in node.handlers:
            _put(frame, {**before, **changed})
            frame.names[handler.name] = Opaque("error")
            run.may = catcher.may
            run.must = catcher.must if len(node.handlers) == 1 else 0
            execute(run, handler.body, frame)
            # Python unbinds it there.
            frame.names.pop(handler.name, None)
            after_may |= run.may
            after_sure |= run.must
            if run.may:
                left.append((run.may, dict(frame.names)))
        both = through & after_may
        run.may = through | after_may
        # On machines where the body may have raised, and its handler goes on without doubt, control goes on.
        run.must = (sure | after_sure | without(both, run.doubt)) & run.may
        if left:
            _put(frame, _joined(left, both))
    if node.finalbody and run.may != may:
        # It runs on the others too, and may bind, return or raise there.
        run.may = may
        run.unaccounted("a finally behind an error or a return", where(node.finalbody[0], frame))
    execute(run, node.finalbody, frame)


def _with(run: Run, node: Any, frame: Frame) -> None:
    item, *more = node.items
    held = evaluate(run, item.context_expr, frame)
    if more or item.optional_vars is not None or not isinstance(held, Context):
        run.unaccounted("a with statement", where(node, frame))
        execute(run, node.body, frame)
        return
    run.bundle.append(held.path)
    execute(run, node.body, frame)
    run.bundle.pop()


def _function(run: Run, node: Any, frame: Frame) -> None:
    frame.names[node.name] = define(run, node, frame)


def _import(run: Run, node: Any, frame: Frame) -> None:
    for alias in node.names:
        root = alias.name.partition(".")[0]
        found = run.modules.imports(run, alias.name, where(node, frame))
        if alias.asname:
            frame.names[alias.asname] = found
        else:
            frame.names[root] = ModuleRef(root) if isinstance(found, ModuleRef) else Symbol(root)


def _import_from(run: Run, node: Any, frame: Frame) -> None:
    base = node.module or ""
    if node.level:
        parents = frame.package.split(".")
        kept = parents[: len(parents) - node.level + 1]
        base = ".".join([*kept, base] if base else kept)
    place = where(node, frame)
    found = run.modules.imports(run, base, place)
    for alias in node.names:
        if alias.name == "*":
            frame.names["*"] = found
        elif isinstance(found, ModuleRef):
            frame.names[alias.asname or alias.name] = run.modules.later(run, found.name, alias.name)
        else:
            run.modules.since(run, f"{base}.{alias.name}", "ImportError", place)
            frame.names[alias.asname or alias.name] = attribute(run, found, alias.name)


def _global(_: Run, node: Any, frame: Frame) -> None:
    frame.declared.update(node.names)


def _pass(_: Run, __: Any, ___: Frame) -> None:
    pass


_KINDS: dict[type, Callable[[Run, Any, Frame], None]] = {
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.If: _if,
    ast.Assert: _assert,
    ast.Raise: _raise,
    ast.Return: _return,
    ast.Try: _try,
    ast.With: _with,
    ast.FunctionDef: _function,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.Global: _global,
    ast.Pass: _pass,
}
