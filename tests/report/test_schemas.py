"""The JSON Schemas: that they say exactly what the records and documents hold."""

from __future__ import annotations

import json
import math
import pickle
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from nsa_caps import (
    AotBundle,
    AotKernel,
    Capabilities,
    Device,
    Note,
    Package,
    PageFormat,
    Request,
    SnapshotError,
    Switch,
    probe,
    select_indexer_layout,
)
from nsa_caps.archs import Dialect
from nsa_caps.base.serial import shortened
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles, Ptxas
from nsa_caps.capabilities.devices import Hidden
from nsa_caps.capabilities.records import SCHEMA_VERSION, AiterSource
from nsa_caps.cli.main import main
from nsa_caps.pages import Order, ScaleFormat
from nsa_caps.policy.changes import Change, ChangeKind
from nsa_caps.policy.document import DOCUMENT_VERSION
from nsa_caps.policy.reasons import CODES, Reason, Verdict
from nsa_caps.testing import GENERATIONS, machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def schema(name: str) -> dict[str, Any]:
    """Return a schema as it is shipped."""
    text = (resources.files("nsa_caps") / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


CAPABILITIES, REPORT = schema("capabilities"), schema("report")
REGISTRY: Registry[Any] = Registry().with_resources(
    (each["$id"], Resource.from_contents(each)) for each in (CAPABILITIES, REPORT)
)


def check(document: Any, name: str = "report", part: str | None = None) -> None:
    """Validate a document against a schema, or against one definition of it."""
    identity = {"capabilities": CAPABILITIES, "report": REPORT}[name]["$id"]
    validator = Draft202012Validator({"$ref": f"{identity}#/$defs/{part}" if part else identity}, registry=REGISTRY)
    validator.validate(document)


def objects(node: Any) -> list[dict[str, Any]]:
    """Return every schema of an object with properties in a schema."""
    found = [node] if isinstance(node, dict) and "properties" in node else []
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [*found, *(each for child in children for each in objects(child))]


@pytest.mark.parametrize("name", ["capabilities", "report"])
def test_it_is_a_schema(name: str) -> None:
    """Both are valid schemas of the draft that they name, and leave no object open or optional by oversight."""
    loaded = schema(name)
    Draft202012Validator.check_schema(loaded)
    assert loaded["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for each in objects(loaded):
        assert each["additionalProperties"] is False
        optional = {"decision"} if "fingerprint" in each["properties"] else set()
        assert set(each["required"]) == each["properties"].keys() - optional


def as_schema(hint: Any) -> Any:
    """Return what the schema must say of a field, from its annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        members = [as_schema(arg) for arg in args if arg is not type(None)]
        if "enum" in members[0]:
            return {"enum": [*members[0]["enum"], None]}
        if "$ref" in members[0]:
            return {"anyOf": [*members, {"type": "null"}]}
        kinds = [member["type"] for member in members] + (["null"] if type(None) in args else [])
        return {**members[0], "type": kinds}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": as_schema(args[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": as_schema(args[1])}
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return {"type": {str: "string", bool: "boolean", int: "integer"}[hint]}


@pytest.mark.parametrize(
    "record",
    [
        *(Capabilities, Package, Device, Switch, AiterSource, AotBundle, AotKernel, Note),
        *(Hidden, DeepGemmFiles, CudaToolkit, Ptxas),
    ],
)
def test_the_schema_of_capabilities_is_that_of_the_records(record: type) -> None:
    """Every record's fields, their order and their types are in the schema as the annotations have them."""
    written = CAPABILITIES if record is Capabilities else CAPABILITIES["$defs"][record.__name__]
    hints = get_type_hints(record)
    expected = {field.name: as_schema(hints[field.name]) for field in fields(record)}
    if record is Capabilities:
        expected["schema_version"] = {"const": SCHEMA_VERSION}
    assert written["required"] == list(expected)
    bare = {
        name: {key: value for key, value in each.items() if key != "description"}
        for name, each in written["properties"].items()
    }
    assert bare == expected
    assert all(each.get("description") or "$ref" in each for each in written["properties"].values())


def test_the_schema_of_capabilities_has_no_record_too_many() -> None:
    """Every definition is a record's."""
    assert CAPABILITIES["$defs"].keys() == {
        "AiterSource", "AotBundle", "AotKernel", "BoundPackage", "CudaToolkit", "DeepGemmFiles", "Device", "Hidden",
        "KeptVerdict", "Note", "Package", "Ptxas", "Switch", "Timing",
    }  # fmt: skip


def full() -> Capabilities:
    """Return capabilities in which every field is set."""
    return Capabilities(
        engine="vllm",
        platform="rocm",
        platform_source="/t/version.py: hip = 7.0",
        devices=(Device(0, "gfx942", "kfd"), Device(1, "gfx950", "kfd")),
        rocminfo_arch="gfx942",
        torch=Package("torch", "found", "2.9.1", "torch", "/t", "/t/version.py"),
        triton=Package("triton", "broken", None, None, "/tr", None),
        aiter=Package("aiter", "impostor", "0.13", "aiter", "/a", "/a"),
        aiter_source=replace(GENERATIONS["04907edc"], location="/a"),
        aot_bundle=AotBundle("/a/aot", (AotKernel("k", complete=True, arch="gfx942"), AotKernel("l", complete=False))),
        variables={"GPU_ARCHS": "native"},
        switches={
            "a": Switch("a", True, "A", "1", "grammar"),
            "b": Switch("b", "text", None, None, "default"),
            "c": Switch("c", None, "C", "?", "grammar"),
        },
        notes=(Note("packages", "/t", "noticed"),),
        extras={"third": {"party": [1, 2.5, None, True, "x"]}},
    )


@pytest.mark.parametrize(
    "caps",
    [
        Capabilities(),
        full(),
        full().replace(devices=None, aiter_source=None, aot_bundle=AotBundle(None, None)),
        *(Capabilities(aiter_source=source) for source in GENERATIONS.values()),
    ],
)
def test_every_capabilities_is_accepted(caps: Capabilities) -> None:
    """What the records write, the schema takes, and reading it back gives the same."""
    check(json.loads(caps.to_json()), "capabilities")
    assert Capabilities.from_json(caps.to_json()) == caps


def test_a_document_of_the_schema_before_is_read() -> None:
    """What it has is taken, and it becomes one of this release's schema."""
    caps = Capabilities.from_dict({"schema_version": SCHEMA_VERSION - 1, "engine": "vllm"})
    assert (caps.schema_version, caps.engine) == (SCHEMA_VERSION, "vllm")


@pytest.mark.parametrize("of", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"])
def test_how_deep_an_extra_may_be(of: Callable[[Any], Any]) -> None:
    """32 levels are written and read back; one more is refused by both."""
    extra: Any = 1
    for _ in range(32):
        extra = of(extra)
    caps = Capabilities(extras={"x": extra})
    assert Capabilities.from_json(caps.to_json()) == caps
    with pytest.raises(SnapshotError, match="nested deeper than 32"):
        Capabilities(extras={"x": of(extra)}).to_json()
    with pytest.raises(SnapshotError, match="nested deeper than 32"):
        Capabilities.from_dict({"extras": {"x": of(extra)}})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("x" * 58, f"'{'x' * 58}'"),
        ("x" * 59, f"'{'x' * 27}...{'x' * 28}'"),
        (["x" * 57], f"['{'x' * 55}..."),
        (2**1999, f"{str(2**1999)[:18]}...{str(2**1999)[-19:]}"),
        (2**2000 - 1, f"{str(2**2000 - 1)[:18]}...{str(2**2000 - 1)[-19:]}"),
        (2**2000, "a number of 2001 bits"),
    ],
    ids=["whole", "cut", "in a list", "long", "longer", "too long"],
)
def test_how_much_of_a_value_is_quoted(value: object, told: str) -> None:
    """Sixty characters at most, all of it where there are no more, and never a number that Python will not write."""
    assert shortened(value) == told


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ((1, 2), r"snapshot.extras.x: holds \(1, 2\) of type tuple"),
        ({"deep": [(1,)]}, r"snapshot.extras.x: holds \(1,\) of type tuple"),
        ({1: 2}, r"snapshot.extras.x: holds the key 1\b"),
        (b"x", "of type bytes"),
        ({1, 2}, "of type set"),
        (object(), "of type object"),
        (math.nan, "finite numbers"),
        pytest.param(10**5000, "bits", id="long"),
    ],
)
def test_an_extra_that_would_be_read_back_as_another_is_not_written(extra: object, words: str) -> None:
    """A tuple would come back as a list, the key 1 as a text: the error names the extra, and nothing is lost unseen."""
    caps = Capabilities(extras={"x": extra})
    for write in (caps.to_json, caps.to_dict, lambda: pickle.dumps(caps)):
        with pytest.raises(SnapshotError, match=words):
            write()


def test_names_of_extras_are_texts() -> None:
    """An extra of the name 1 would be read back under another one."""
    with pytest.raises(SnapshotError, match=r"snapshot.extras: holds the key 1\b"):
        Capabilities(extras={1: 2}).to_dict()  # type: ignore[dict-item]  # what is refused


def places(document: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Return the paths of every record in a document of capabilities."""
    if isinstance(document, list):
        return [place for index, item in enumerate(document) for place in places(item, *path, index)]
    if not isinstance(document, dict) or path[:1] == ("extras",):
        return []
    below = [place for key, item in document.items() for place in places(item, *path, key)]
    return below if path in (("switches",), ("variables",)) else [path, *below]


def at(document: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands at a path."""
    for step in path:
        document = document[step]
    return document


PLACES = places(full().to_dict())


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "top")
def test_an_unknown_field_is_refused_by_schema_and_reader(path: tuple[Any, ...]) -> None:
    """A field that there is none of is an error to the schema and to `from_dict`, at every level."""
    document = full().to_dict()
    at(document, path)["colour"] = "red"
    with pytest.raises(ValidationError, match="colour"):
        check(document, "capabilities")
    with pytest.raises(SnapshotError, match="colour"):
        Capabilities.from_dict(document)


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "top")
def test_a_wrong_type_is_refused_by_schema_and_reader(path: tuple[Any, ...]) -> None:
    """A field of another type, in turn each field of each record, is an error to both."""
    for name in at(full().to_dict(), path):
        document = full().to_dict()
        at(document, path)[name] = 1.5
        with pytest.raises(ValidationError):
            check(document, "capabilities")
        with pytest.raises(SnapshotError):
            Capabilities.from_dict(document)


def test_there_are_records_at_every_level() -> None:
    """The tests above reach into lists and mappings."""
    assert {(), ("torch",), ("devices", 1), ("aot_bundle", "kernels", 0), ("switches", "c"), ("notes", 0)} <= set(
        PLACES
    )


@pytest.mark.parametrize(
    ("part", "record"), [("request", Request), ("format", PageFormat), ("change", Change), ("reason", Reason)]
)
def test_the_schema_of_reports_has_the_fields_of_the_records(part: str, record: Any) -> None:
    """What a report takes from a record it takes whole; summary, fix and text are said besides."""
    said = {"reason": {"summary", "fix"}, "change": {"text"}}.get(part, set())
    assert REPORT["$defs"][part]["properties"].keys() == {field.name for field in fields(record)} | said


def test_the_schema_of_reports_has_the_words_of_the_records() -> None:
    """Where a field takes certain words, the schema has the same ones."""
    parts = REPORT["$defs"]
    assert parts["change"]["properties"]["kind"]["enum"] == list(get_args(ChangeKind))
    assert parts["verdict"]["properties"]["verdict"]["enum"] == list(get_args(Verdict))
    assert set(parts["reason"]["properties"]["verdict"]["enum"]) == set(get_args(Verdict)) - {"met"}
    for name, words in (("order", Order), ("dialect", Dialect), ("scale_format", ScaleFormat)):
        assert parts["format"]["properties"][name]["enum"] == list(get_args(words))
    for code in CODES:
        Draft202012Validator(parts["reason"]["properties"]["code"]).validate(code)


def test_versions_are_those_of_the_code() -> None:
    """The version in a schema, in its name and in the documents is one."""
    assert CAPABILITIES["$id"].endswith(f":capabilities:{SCHEMA_VERSION}")
    assert REPORT["$id"].endswith(f":report:{DOCUMENT_VERSION}")
    for part in ("report", "what_if", "row", "matrix"):
        assert REPORT["$defs"][part]["properties"]["schema_version"]["const"] == DOCUMENT_VERSION


ASKED = (
    ("report",),
    ("why", "aiter-preshuffle"),
    ("why", "reference"),
    ("require", "deepgemm"),
    (
        "what-if",
        "--triton",
        "3.8.0",
        "--arch",
        "gfx950",
        "--aiter",
        "main",
        "--set",
        "GPU_ARCHS=",
        "--unset",
        "AITER_TRITON_ONLY",
    ),
    ("matrix",),
    ("tour",),
)


@pytest.mark.parametrize("argv", ASKED, ids=lambda argv: " ".join(argv[:2]))
@pytest.mark.parametrize(
    "generation",
    [None, "04907edc", *(pytest.param(each, marks=pytest.mark.slow) for each in ("impostor", "fe927e8d", "3b2e6f48"))],
)
def test_every_document_follows_the_schema(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, generation: str | None, argv: tuple[str, ...]
) -> None:
    """What any command prints with --json is valid, on machines where rows are met, unmet and unknown."""
    environ = {"SGLANG_USE_AITER": "1", "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS": "1"}
    for name, archs, triton in (
        ("a", ["gfx942"], "3.8.0"),
        ("b", ["gfx950", "gfx942"], "unknown"),
        ("c", None, "3.4.0"),
    ):
        host = machine(tmp_path / name, archs=archs, triton=triton, aiter=generation, environ=environ)
        for options in ((), ("--page-size", "48"), ("--index-kpool", "2")):
            main([*argv, *options, "--json"], host=host)
            document = json.loads(capsys.readouterr().out)
            check(document)
            assert document["command"] == argv[0]


def test_no_row_and_a_forced_row_follow_the_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """So does the document of a machine that no row runs on, and of one that is forced."""
    main(["--json"], host=machine(tmp_path / "a", platform="unknown", torch=None, triton=None))
    document = json.loads(capsys.readouterr().out)
    check(document)
    assert (document["layout"], document["decision"]["chosen"]) == (None, None)
    forced = {"NSA_CAPS_ROW": "aiter-preshuffle", "NSA_CAPS_ROW_FORCE": "1"}
    main(["--json"], host=machine(tmp_path / "b", archs=["gfx942"], triton="3.4.0", aiter="a6bb4993", environ=forced))
    check(json.loads(capsys.readouterr().out))


def test_snapshots_follow_their_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`snapshot` prints capabilities, with --json or without."""
    host = machine(tmp_path, archs=["gfx942"], aiter="861b4c93")
    for argv in (["snapshot"], ["snapshot", "--json"]):
        main(argv, host=host)
        check(json.loads(capsys.readouterr().out), "capabilities")


def test_layouts_follow_the_schema(tmp_path: Path) -> None:
    """`IndexerLayout.to_dict` is a layout with its decision, as plain JSON."""
    environ = {"SGLANG_USE_AITER": "1"}
    layout = select_indexer_layout(probe(machine(tmp_path, archs=["gfx942"], aiter="861b4c93", environ=environ)))
    document = json.loads(json.dumps(layout.to_dict()))
    check(document, part="layout")
    assert document["decision"]["chosen"] == document["row"] == "aiter-preshuffle"
    assert (document["fingerprint"], document["format"]["order"]) == (layout.fingerprint, "tiles")


@pytest.mark.parametrize(
    "broken",
    [{"command": "compare"}, {"colour": "red"}, {"layout": {}}, {"schema_version": 2}, {"decision": None}],
)
def test_what_is_no_report_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, broken: dict[str, Any]
) -> None:
    """The schema can fail: another command, field, type or version is none of its documents."""
    main(["--json"], host=machine(tmp_path, archs=["gfx942"]))
    document = json.loads(capsys.readouterr().out)
    check(document)
    with pytest.raises(ValidationError):
        check(document | broken)
