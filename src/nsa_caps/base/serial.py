"""Frozen records to plain JSON values and back, by their own annotations.

Kept apart from the records so that an engine's start-up never pays for it: only snapshots and `--json` do.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from reprlib import Repr
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nsa_caps.errors import NsaCapsError, printable

__all__ = ["SnapshotError", "expect_json", "field_names", "from_plain", "is_record", "shortened", "to_plain"]


class SnapshotError(NsaCapsError, ValueError):
    """A document is no snapshot of capabilities; the message names the field, what it holds and what is needed."""


T = TypeVar("T")

# Deeper than any fact, and far from where Python's own reader and writer of JSON give up.
_DEEPEST = 32
# Bits of the numbers of our own fields, and of others': Python refuses to write one of 4,300 digits, or as set, of 640.
_LONGEST_FIELD, _LONGEST = 63, 2000


class _Short(Repr):
    """`repr`, bounded in length and depth, and of numbers that Python refuses to write."""

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() <= _LONGEST else f"a number of {x.bit_length()} bits"


_REPR = _Short()
# A class's own would not count: `Repr` sets them for each instance.
_REPR.maxstring = _REPR.maxother = 60


def to_plain(value: Any) -> Any:
    """Return a record, or a container of records, as JSON values: dict, list, str, int, float, bool, None."""
    if is_record(value):
        return {name: to_plain(getattr(value, name)) for name in field_names(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return value


def from_plain(
    kind: type[T], document: Any, where: str = "snapshot", *, version: int | None = None, oldest: int | None = None
) -> T:
    """Return the record of type `kind` that `to_plain` was called on.

    Args:
        kind: the record's class.
        document: JSON values.
        where: what an error message calls the document.
        version: the schema version that is read; None: the document has none of its own, or its reader looks itself.
        oldest: the oldest that is read, too, and brought to `version`; None: no older one.

    Raises:
        SnapshotError: a field is of the wrong name or type, or the schema version is another one.
    """
    if not isinstance(document, Mapping):
        raise SnapshotError(f"{where}: holds {shortened(document)}, needs an object")
    if version is not None:
        document = _of_version(document, where, version, version if oldest is None else oldest)
    hints = _hints(kind)  # type: ignore[arg-type]  # every class is hashable
    names = field_names(kind)
    unknown = sorted(map(shortened, set(document) - set(names)))
    if unknown:
        raise SnapshotError(f"{where}: unknown field {unknown[0]}; known are {', '.join(names)}")
    values = {name: _value(hints[name], document[name], f"{where}.{name}") for name in names if name in document}
    try:
        return kind(**values)
    except TypeError as error:
        raise SnapshotError(f"{where}: {error}") from error


def _of_version(document: Mapping[Any, Any], where: str, version: int, oldest: int) -> Mapping[Any, Any]:
    """Return a document of a schema that is read as one of `version`."""
    found = document.get("schema_version", version)
    # True is 1 to Python.
    if type(found) is int and oldest <= found <= version:
        return {**document, "schema_version": version}
    readable = f"{version}" if oldest == version else f"{oldest} to {version}"
    raise SnapshotError(
        f"{where}: schema_version is {shortened(found)}, this release reads {readable};"
        " make the snapshot and read it with the same release of nsa_caps"
    )


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Return a record's annotations; to resolve them takes longer than everything else about reading one."""
    return get_type_hints(kind)


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the annotation `hint` has it."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        expect_json(value, where)
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _union(args, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in args:
            raise SnapshotError(f"{where}: holds {shortened(value)}, needs one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        _expect(value, list, where)
        return tuple(_value(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        _expect(value, Mapping, where)
        return {_key(key, where): _value(args[1], item, f"{where}.{printable(key):.60}") for key, item in value.items()}
    if is_record(hint):
        return from_plain(hint, value, where)
    _expect(value, hint, where)
    return value


def _union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return `value` as the first member of the union that takes it; the members here never overlap."""
    members = [arg for arg in args if arg is not type(None)]
    problem: SnapshotError | None = None
    for member in members:
        try:
            return _value(member, value, where)
        except SnapshotError as error:
            problem = error
    raise problem or SnapshotError(f"{where}: holds {shortened(value)}, needs nothing")


def _expect(value: Any, kind: Any, where: str) -> None:
    # bool is an int to Python and never one in a snapshot.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SnapshotError(f"{where}: holds {shortened(value)}, needs {kind.__name__}")
    if isinstance(value, int) and value.bit_length() > _LONGEST_FIELD:
        raise SnapshotError(f"{where}: holds a number of more than {_LONGEST_FIELD} bits")


def _key(key: Any, where: str) -> str:
    _expect(key, str, where)
    return str(key)


def expect_json(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what JSON could not hold, or not so that it is read back as the same.

    Raises:
        SnapshotError: it is no JSON value, as a tuple or a key that is no text, or it is too long or too deep.
    """
    if depth > _DEEPEST:
        raise SnapshotError(f"{where}: is nested deeper than {_DEEPEST} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise SnapshotError(f"{where}: holds {value}, and JSON has finite numbers only")
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        raise SnapshotError(f"{where}: holds a number of more than {_LONGEST} bits")
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise SnapshotError(f"{where}: holds the key {shortened(key)}, and keys in JSON are texts")
            expect_json(item, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            expect_json(item, where, depth + 1)
    elif value is not None and not isinstance(value, (str, int, float)):
        raise SnapshotError(f"{where}: holds {shortened(value)} of type {type(value).__name__}, needs a JSON value")


def shortened(value: Any) -> str:
    """Return a value as an error message quotes it."""
    # Bounded in depth too: `repr` of a list in a list in a list ... is a RecursionError.
    text = _REPR.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def field_names(record: Any) -> tuple[str, ...]:
    """Return the names of a record's fields in order; it may be the class or one of its instances."""
    return tuple(each.name for each in fields(record))


def is_record(value: Any) -> bool:
    """Return whether this is a record, or the class of one."""
    return is_dataclass(value)
