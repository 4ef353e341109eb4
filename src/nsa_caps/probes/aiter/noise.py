"""Statements that say something and do nothing."""

from __future__ import annotations

import ast

__all__ = ["is_noise"]

_LOGS = frozenset({"logger", "logging", "log", "warnings", "_logger", "LOGGER"})


def is_noise(statement: ast.stmt) -> bool:
    """Return whether a statement does nothing: a docstring, `pass`, a line of a log whose arguments call nothing."""
    if isinstance(statement, ast.Pass):
        return True
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Constant):
        return True
    if not isinstance(value, ast.Call) or not _is_log(value.func):
        return False
    calls = (ast.Call, ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.Subscript, ast.BinOp, ast.Starred)
    return not any(isinstance(inner, calls) for part in (*value.args, *value.keywords) for inner in ast.walk(part))


def _is_log(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "print"
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in _LOGS
