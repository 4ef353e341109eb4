"""The lean frozen dataclass; the oracle is the standard library's, given the same class body."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest

from nsa_caps import frozen
from tests.processes import uncounted

BODY = """
@dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
    tags: dict = field(default_factory=dict)
    hidden: str = field(default="h", repr=False)
    def norm(self):
        return abs(self.x) + abs(self.y)

@dataclass(frozen=True, kw_only=True)
class Named:
    size: int = 1
    name: str
    def __post_init__(self):
        if self.size < 0:
            raise ValueError("size")
        object.__setattr__(self, "name", self.name.upper())

@dataclass(frozen=True)
class Own:
    x: int
    def __hash__(self):
        return 7
    def __repr__(self):
        return "own"
"""


@frozen.dataclass(frozen=True)
class Module:
    """A record that pickle can find by its name."""

    x: int
    y: tuple[int, ...] = ()


def classes(module: Any) -> dict[str, Any]:
    """Return the classes of the body as this module's decorator makes them."""
    scope: dict[str, Any] = {"dataclass": module.dataclass, "field": module.field, "__name__": __name__}
    exec(compile("from __future__ import annotations\n" + BODY, "body", "exec"), scope)  # noqa: S102 the body above
    return scope


OURS, THEIRS = classes(frozen), classes(dataclasses)


@pytest.mark.parametrize(
    "expression",
    [
        "Point(1)",
        "Point(1, 2, {'a': 1})",
        "Point(x=3, hidden='z')",
        "Point(1).tags is Point(1).tags",
        "Point(1) == Point(1, 2, {})",
        "Point(1) == Point(2)",
        "Point(1) == 1",
        "Point(1) != Point(1, hidden='other')",
        "Point(1, 2).norm()",
        "Named(name='a')",
        "Named(name='a', size=2).name",
        "Named(name='a') == Own(1)",
        "hash(Named(name='a')) == hash((1, 'A'))",
        "hash(Own(1))",
        "repr(Own(1))",
        "Own(1) == Own(1)",
        "Point.__match_args__",
        "Named.__match_args__",
    ],
)
def test_a_record_behaves_as_the_standard_library_has_it(expression: str) -> None:
    """Whatever is asked of a record is answered as by a frozen dataclass of the same body."""
    ours, theirs = (eval(expression, dict(scope)) for scope in (OURS, THEIRS))  # noqa: S307 the list above
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    "expression",
    [
        "Point()",
        "Point(1, 2, {}, 'h', 5)",
        "Point(1, z=2)",
        "Named('a')",
        "Named()",
        "Named(name='a', size=-1)",
        "hash(Point(1))",
        "setattr(Point(1), 'x', 2)",
        "setattr(Point(1), 'new', 2)",
        "delattr(Point(1), 'x')",
    ],
)
def test_what_a_frozen_dataclass_refuses_is_refused_alike(expression: str) -> None:
    """A wrong call, a change and an unhashable field end in the same kind of error."""
    with pytest.raises(Exception) as theirs:  # noqa: PT011 which one is what is compared below
        eval(expression, dict(THEIRS))  # noqa: S307 the list above
    with pytest.raises(type(theirs.value)) as ours:
        eval(expression, dict(OURS))  # noqa: S307 the list above
    assert type(ours.value) is type(theirs.value)


def test_only_frozen_ones_are_made() -> None:
    """A record that could be changed is no use here, and refused by name."""
    with pytest.raises(TypeError, match="frozen"):
        frozen.dataclass(frozen=False)


def test_dataclasses_knows_a_record() -> None:
    """`fields`, `replace`, `asdict` and `is_dataclass` read a record as they read a dataclass."""
    point = OURS["Point"](1, tags={"a": (1,)})
    assert all(dataclasses.is_dataclass(each) for each in (point, OURS["Named"]))
    assert dataclasses.replace(point, y=5) == OURS["Point"](1, 5, {"a": (1,)})
    assert dataclasses.asdict(point) == {"x": 1, "y": 2, "tags": {"a": (1,)}, "hidden": "h"}
    for name in ("Point", "Named", "Own"):
        ours, theirs = dataclasses.fields(OURS[name]), dataclasses.fields(THEIRS[name])
        assert [(f.name, f.type, f.default, f.repr, f.kw_only) for f in ours] == [
            (f.name, f.type, f.default, f.repr, f.kw_only) for f in theirs
        ]
        assert inspect.signature(OURS[name]).parameters.keys() == inspect.signature(THEIRS[name]).parameters.keys()


def test_replace_makes_a_checked_copy() -> None:
    """A replaced field goes through the checks of a new record, and the original stays."""
    named = OURS["Named"](name="a")
    assert frozen.replace(named, name="b").name == "B"
    assert named.name == "A"
    with pytest.raises(ValueError, match="size"):
        frozen.replace(named, size=-1)
    with pytest.raises(TypeError):
        frozen.replace(named, colour="red")


def test_field_names_are_those_of_the_class_in_order() -> None:
    """The names come in the order of the class body, of a record as of its class; others are no records."""
    assert frozen.field_names(OURS["Point"](1)) == frozen.field_names(OURS["Point"]) == ("x", "y", "tags", "hidden")
    assert frozen.is_record(OURS["Point"])
    assert not frozen.is_record({"x": 1})


def test_a_record_is_copied_and_pickled() -> None:
    """A record goes to another process, or is copied, and comes back equal and still frozen."""
    record = Module(1, (2,))
    for copied in (pickle.loads(pickle.dumps(record)), copy.copy(record), copy.deepcopy(record)):  # noqa: S301 our own
        assert copied == record
        with pytest.raises(dataclasses.FrozenInstanceError):
            copied.x = 5  # type: ignore[misc]  # what is tested is that it fails


def test_making_records_imports_no_dataclasses() -> None:
    """The reason for it all: a record is made, compared and shown without `dataclasses` and `inspect`."""
    code = (
        "import sys; from nsa_caps import Device;"
        "d = Device(0, 'gfx942', 'x'); repr(d), hash(d), d == d;"
        "sys.exit(bool({'dataclasses', 'inspect'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=uncounted(), check=False).returncode == 0
