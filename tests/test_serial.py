"""Records as JSON values and back: what is refused, by which words, and where the limits lie."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 annotations of the records are resolved
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints
from unittest.mock import Mock

import pytest

from nsa_caps.base.serial import SnapshotError, expect_json, field_names, from_plain, shortened, to_plain


@dataclass(frozen=True)
class Part:
    """A record in a record."""

    name: str
    size: int = 1


@dataclass(frozen=True)
class Whole:
    """A field of every kind that records have."""

    kind: Literal["found", "missing"] = "found"
    parts: tuple[Part, ...] = ()
    by_name: Mapping[str, int] = None  # type: ignore[assignment]  # as absent as it gets
    maybe: str | None = None
    either: bool | str | None = None
    count: int = 0
    share: float = 0.0
    extras: Any = None


WHOLE = Whole("missing", (Part("a"), Part("b", 2)), {"x": 1}, "text", True, 3, 0.5, {"k": [1, None, "t"]})
PLAIN = {
    "kind": "missing",
    "parts": [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
    "by_name": {"x": 1},
    "maybe": "text",
    "either": True,
    "count": 3,
    "share": 0.5,
    "extras": {"k": [1, None, "t"]},
}


def nested(levels: int) -> list[Any]:
    """Return a list in a list ..., of so many levels below the first."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def keyed(levels: int) -> dict[str, Any]:
    """Return an object in an object ..., of so many levels below the first."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"k": value}
    return value


def test_a_record_is_its_fields_by_name_and_comes_back() -> None:
    """Tuples and lists are lists, mappings objects, records objects; what was written is read as the same."""
    assert to_plain(WHOLE) == PLAIN
    assert list(to_plain(WHOLE)) == list(field_names(WHOLE)) == list(field_names(Whole))
    assert from_plain(Whole, PLAIN) == WHOLE
    assert to_plain({1: (Part("a"),)}) == {"1": [{"name": "a", "size": 1}]}


def test_a_field_that_is_left_out_has_its_default() -> None:
    """An older document may lack a field; one without a default is missed by name."""
    assert from_plain(Part, {"name": "a"}) == Part("a", 1)
    with pytest.raises(SnapshotError, match=r"^snapshot: .*'name'"):
        from_plain(Part, {"size": 2})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "lost"}, "here.kind: holds 'lost', needs one of 'found', 'missing'"),
        ({"kind": ["found"]}, "here.kind: holds ['found'], needs one of 'found', 'missing'"),
        ({"parts": {}}, "here.parts: holds {}, needs list"),
        ({"parts": [{"name": "a"}, {"name": 1}]}, "here.parts[1].name: holds 1, needs str"),
        ({"parts": [{"name": "a"}, 7]}, "here.parts[1]: holds 7, needs an object"),
        ({"by_name": []}, "here.by_name: holds [], needs Mapping"),
        ({"by_name": {"x": "1"}}, "here.by_name.x: holds '1', needs int"),
        ({"by_name": {"x" * 70: "1"}}, f"here.by_name.{'x' * 60}: holds '1', needs int"),
        ({"by_name": {1: 1}}, "here.by_name: holds 1, needs str"),
        ({"maybe": 1}, "here.maybe: holds 1, needs str"),
        ({"either": 1.5}, "here.either: holds 1.5, needs str"),
        ({"count": True}, "here.count: holds True, needs int"),
        ({"count": None}, "here.count: holds None, needs int"),
        ({"count": 2**63}, "here.count: holds a number of more than 63 bits"),
        ({"unheard": 1}, f"here: unknown field 'unheard'; known are {', '.join(PLAIN)}"),
        ({"zz": 1, "aa": 1}, f"here: unknown field 'aa'; known are {', '.join(PLAIN)}"),
        ({"extras": (1,)}, "here.extras: holds (1,) of type tuple, needs a JSON value"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(change: dict[Any, Any], told: str) -> None:
    """The error names the field, down to the entry, what it holds and what is needed."""
    with pytest.raises(SnapshotError) as caught:
        from_plain(Whole, {**PLAIN, **change}, "here")
    assert str(caught.value) == told


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_document_is_an_object(document: object) -> None:
    """What is none is quoted."""
    with pytest.raises(SnapshotError, match=r"^snapshot: holds .*, needs an object$"):
        from_plain(Whole, document)


@pytest.mark.parametrize("maybe", [None, "text"])
@pytest.mark.parametrize("either", [None, True, False, "text", ""])
def test_a_field_of_several_kinds_takes_each(maybe: str | None, either: bool | str | None) -> None:
    """Null is one of them."""
    found = from_plain(Whole, {**PLAIN, "maybe": maybe, "either": either})
    assert (found.maybe, found.either) == (maybe, either)


@pytest.mark.parametrize(
    ("found", "version", "oldest", "read"),
    [
        (3, 3, None, True), (2, 3, None, False), (4, 3, None, False),
        (1, 3, 1, True), (2, 3, 1, True), (3, 3, 1, True), (0, 3, 1, False), (4, 3, 1, False),
        (True, 3, 1, False), (2.0, 3, 1, False), ("3", 3, 1, False),
    ],
)  # fmt: skip
def test_a_schema_within_what_is_read_is_brought_to_the_newest(
    found: object, version: int, oldest: int | None, read: bool
) -> None:
    """True is no 1; without an oldest the newest alone is read, and the error says which are."""

    @dataclass(frozen=True)
    class Versioned:
        schema_version: int

    if read:
        assert from_plain(Versioned, {"schema_version": found}, version=version, oldest=oldest).schema_version == 3
        return
    readable = "3" if oldest is None else "1 to 3"
    with pytest.raises(SnapshotError) as caught:
        from_plain(Versioned, {"schema_version": found}, version=version, oldest=oldest)
    assert str(caught.value) == (
        f"snapshot: schema_version is {found!r}, this release reads {readable};"
        " make the snapshot and read it with the same release of nsa_caps"
    )


def test_a_document_without_a_version_is_of_the_newest() -> None:
    """Where its reader looks for none, a field of that name is like any other."""

    @dataclass(frozen=True)
    class Versioned:
        schema_version: int = 0

    assert from_plain(Versioned, {}, version=3).schema_version == 3
    assert from_plain(Versioned, {}).schema_version == 0
    assert from_plain(Versioned, {"schema_version": 9}).schema_version == 9


def test_numbers_of_fields_fit_into_64_bits_and_those_of_others_into_2000() -> None:
    """Python refuses to write a number of 4,300 digits: none is taken in that could not be given out again."""
    for number in (2**63 - 1, -(2**63) + 1):
        assert from_plain(Whole, {**PLAIN, "count": number}).count == number
    for number in (2**2000 - 1, -(2**2000) + 1):
        expect_json({"a": [number]}, "here")
    with pytest.raises(SnapshotError, match=r"^here: holds a number of more than 2000 bits$"):
        expect_json({"a": [2**2000]}, "here")


@pytest.mark.parametrize("nest", [nested, keyed])
def test_extras_are_nested_32_levels_deep(nest: Any) -> None:
    """Far from where Python's own reader and writer of JSON give up."""
    expect_json(nest(32), "here")
    with pytest.raises(SnapshotError, match=r"^here: is nested deeper than 32 levels$"):
        expect_json(nest(33), "here")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": float("nan")}, "holds nan, and JSON has finite numbers only"),
        ([float("-inf")], "holds -inf, and JSON has finite numbers only"),
        ({1: 2}, "holds the key 1, and keys in JSON are texts"),
        ([{None: 2}], "holds the key None, and keys in JSON are texts"),
        ([(1, 2)], "holds (1, 2) of type tuple, needs a JSON value"),
        ({"a": b"x"}, "holds b'x' of type bytes, needs a JSON value"),
        ({"a": [{1, 2}]}, "holds {1, 2} of type set, needs a JSON value"),
    ],
)
def test_what_json_would_not_give_back_is_refused(value: object, told: str) -> None:
    """Wherever it stands, and by what it is."""
    with pytest.raises(SnapshotError) as caught:
        expect_json(value, "here")
    assert str(caught.value) == f"here: {told}"


def test_what_json_has_is_taken() -> None:
    """Texts, whole numbers, finite ones, truth values, null, lists and objects."""
    expect_json({"a": [None, True, False, "", 0, -1, 1.5, {}, []]}, "here")


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("x" * 58, f"'{'x' * 58}'"),
        (2**1999, str(2**1999)[:57] + "..."),
        (2**2001, "a number of 2002 bits"),
        ([[[[[[[[1]]]]]]]], "[[[[[[[...]]]]]]]"),
        ({"a": 1}, "{'a': 1}"),
    ],
)
def test_an_error_quotes_no_more_than_60_characters(value: object, quoted: str) -> None:
    """A value that fits is quoted whole, and one that Python refuses to write is told by its size."""
    assert len(quoted) <= 60
    found = shortened(value)
    assert len(found) <= 60
    if isinstance(value, int) and value.bit_length() == 2000:
        # `repr` leaves out the middle of it.
        assert found.startswith(str(value)[:10])
        assert "..." in found
    else:
        assert found == quoted


def test_what_is_longer_shows_its_beginning_and_its_end() -> None:
    """A text is cut in its middle, a list at its end; both to 60 characters at the most."""
    text = shortened("a" * 59 + "z")
    assert (len(text), text[:5], text[-3:]) == (60, "'aaaa", "az'")
    assert "..." in text
    many = shortened(["a" * 40, "b" * 40])
    assert (len(many), many[-3:]) == (60, "...")


def test_a_class_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To resolve annotations takes longer than everything else about reading a record."""
    resolved = Mock(wraps=get_type_hints)
    monkeypatch.setattr("nsa_caps.base.serial.get_type_hints", resolved)

    @dataclass(frozen=True)
    class Fresh:
        name: str

    for name in "ab":
        assert from_plain(Fresh, {"name": name}) == Fresh(name)
    assert resolved.call_count == 1
