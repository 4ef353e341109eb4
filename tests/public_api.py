"""The public surface, line by line: what `tests/public_api.txt` records. `python -m tests.public_api` writes it anew.

A line that goes or changes breaks somebody's code and needs a line in CHANGELOG.md; a reason code never goes.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from nsa_caps.cli.parser import parser
from nsa_caps.policy.reasons import CODES
from nsa_caps.policy.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = Path(__file__).with_name("public_api.txt")
# The modules whose `__all__` is for others; every other module may change between any two releases.
MODULES = (
    "nsa_caps",
    "nsa_caps.engines.sglang",
    "nsa_caps.engines.vllm",
    "nsa_caps.page_table",
    "nsa_caps.pages",
    "nsa_caps.reasons",
    "nsa_caps.selfcheck",
    "nsa_caps.switches",
    "nsa_caps.testing",
    "nsa_caps.testing.plugin",
    "nsa_caps.testing.strategies",
)
CODE = "reason code "


def surface() -> list[str]:
    """Return every line, sorted within its part."""
    first: dict[int, str] = {}
    names = {line for module in MODULES for line in _module(module, first)}
    codes = {CODE + code for code in CODES}
    rows = [f"row {row.name}: {row.order}, {row.page_size} a page" for row in ROWS]
    return [*sorted(names), *sorted(codes), *rows, *sorted(_command_line())]


def recorded() -> list[str]:
    """Return what was declared."""
    return RECORD.read_text(encoding="utf-8").splitlines()


def _module(module: str, first: dict[int, str]) -> Iterator[str]:
    found = import_module(module)
    for name in found.__all__:
        path, value = f"{module}.{name}", getattr(found, name)
        known = first.setdefault(id(value), path) if callable(value) else path
        yield from _name(path, value) if known == path else [f"{path} is {known}"]


def _name(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, type):
        yield from _class(path, value)
    elif get_origin(value) is not None:
        yield f"{path} = one of {', '.join(map(repr, get_args(value)))}"
    elif inspect.isfunction(value):
        yield path + _signature(value)
        # What a decorator gave it, such as `cache_clear`.
        yield from (f"{path}.{name}{_signature(own)}" for name, own in vars(value).items() if inspect.ismethod(own))
    elif callable(value):
        yield path + _signature(type(value).__call__)
        yield from _members(path, type(value))
    elif isinstance(value, Mapping):
        yield f"{path}: {', '.join(map(str, value))}"
    elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        yield f"{path} = {', '.join(value)}"
    else:
        yield f"{path}: {type(value).__name__}"


def _class(path: str, kind: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    made = _signature(vars(kind)["__init__"]) if "__init__" in vars(kind) and "Protocol" not in bases else ""
    yield f"class {path}{made}{' from ' + bases if bases else ''}"
    if issubclass(kind, tuple):
        yield from (f"{path}.{field}: {_text(annotation)}" for field, annotation in kind.__annotations__.items())
    if "__call__" in vars(kind):
        yield f"{path}.__call__{_signature(vars(kind)['__call__'])}"
    yield from _members(path, kind)


def _members(path: str, kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"{path}.{name}: {inspect.signature(value.fget).return_annotation}"  # type: ignore[arg-type]  # has one
        elif isinstance(value, (classmethod, staticmethod)):
            yield f"{path}.{name}{_signature(value.__func__)}"
        elif inspect.isfunction(value):
            yield f"{path}.{name}{_signature(value)}"


def _text(annotation: Any) -> str:
    return re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", str(annotation))


def _signature(function: Any) -> str:
    parts: list[str] = []
    signature = inspect.signature(function)
    star = False
    for name, parameter in signature.parameters.items():
        if name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        stars = (parameter.kind is parameter.VAR_POSITIONAL) + 2 * (parameter.kind is parameter.VAR_KEYWORD)
        text = "*" * stars + name
        if parameter.annotation is not parameter.empty:
            text += f": {_text(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            # A default that is an object of ours is told by being there.
            plain = isinstance(parameter.default, (str, int, float, bool, tuple, type(None)))
            shown = repr(parameter.default) if plain else "..."
            text += f" = {shown if len(shown) < 40 else '...'}"
        parts.append(text)
    answer = signature.return_annotation
    return f"({', '.join(parts)})" + ("" if answer in (signature.empty, None, "None") else f" -> {_text(answer)}")


def _command_line() -> Iterator[str]:
    whole = parser()
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001 argparse shows its actions no other way
    for command, found in commands.choices.items():
        for action in found._actions:  # noqa: SLF001 as above
            name = "/".join(action.option_strings) or str(action.metavar)
            value = f" {action.metavar}" if action.option_strings and action.metavar else ""
            choices = f" of {', '.join(map(str, action.choices))}" if action.choices else ""
            yield f"$ nsa-caps {command} {name}{value}{choices}"


def main() -> int:
    """Write the record; reason codes that are no longer there stay in it, and fail the test."""
    before = [line for line in recorded() if line.startswith(CODE)] if RECORD.exists() else []
    lines = surface()
    gone = [line for line in before if line not in lines]
    RECORD.write_text("\n".join([*lines, *gone]) + "\n", encoding="utf-8")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main())
