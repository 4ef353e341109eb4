"""What a definition binds: a function, a kernel, or what other decorators make of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.expressions import evaluate, where
from nsa_caps.probes.aiter.normal import children
from nsa_caps.probes.aiter.space import Opaque, kept, text_of
from nsa_caps.probes.aiter.values import Frame, Function, Kernel

if TYPE_CHECKING:
    from nsa_caps.probes.aiter.run import Run

__all__ = ["define"]

_JIT = frozenset({"triton.jit", "triton.experimental.gluon.jit"})


def define(run: Run, node: ast.FunctionDef, frame: Frame) -> Any:
    """Return what a definition binds: a function, or what its decorators make of it."""
    text = f"{frame.module}.{node.name}"
    given = [*node.args.posonlyargs, *node.args.args]
    defaults = {
        argument.arg: kept(evaluate(run, value, frame), fresh=False)
        for argument, value in [
            *zip(given[len(given) - len(node.args.defaults) :], node.args.defaults, strict=True),
            *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
        ]
        if value is not None
    }
    value: Any = Function(node, frame, defaults, _local(node), text)
    for decorator in reversed(node.decorator_list):
        value = _decorated(run, value, decorator, frame, text)
    return value


def _decorated(run: Run, value: Any, decorator: ast.expr, frame: Frame, text: str) -> Any:
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = text_of(evaluate(run, call, frame))
    if name in _JIT and call is decorator:
        return Kernel(frame.module, text.rpartition(".")[2])
    if name in ("functools.cache", "functools.lru_cache"):
        return value
    if name == "aiter.jit.utils.torch_guard.torch_compile_guard":
        return value
    if name == "aiter.jit.core.compile_ops":
        return Opaque(text)
    return run.unaccounted(f"the decorator {name}", where(decorator, frame))


def _local(node: ast.FunctionDef) -> frozenset[str]:
    """Return the names that Python takes for a function's own: reading one before it is bound is an error."""
    declared: set[str] = set()
    bound: set[str] = set()
    todo: list[ast.AST] = list(node.body)
    while todo:
        each = todo.pop()
        if isinstance(each, ast.Global):
            declared.update(each.names)
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            bound.add(each.id)
        elif isinstance(each, (ast.Import, ast.ImportFrom)):
            bound.update(alias.asname or alias.name.partition(".")[0] for alias in each.names)
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(each.name)
            # What stands in it is its own.
            continue
        elif isinstance(each, ast.ExceptHandler) and each.name:
            bound.add(each.name)
        todo += children(each)
    return frozenset(bound - declared)
