"""What peers tell each other, and when one is refused."""

from __future__ import annotations

import json
from collections import UserDict
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Any, get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError

import nsa_caps
from nsa_caps import HandshakeError, IndexerLayout, LayoutMismatchError, Request, check_peer, probe
from nsa_caps.archs import Dialect
from nsa_caps.layout.handshake import HANDSHAKE_VERSION
from nsa_caps.pages import Order, ScaleFormat
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., IndexerLayout]

SCHEMA: dict[str, Any] = json.loads(
    (resources.files("nsa_caps") / "schemas" / "handshake.json").read_text(encoding="utf-8")
)
AITER = {"SGLANG_USE_AITER": "1"}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that gives the layout of a machine, an MI300X with all it needs unless it is told otherwise."""
    count = 0

    def make(request: Request | None = None, **spec: Any) -> IndexerLayout:
        nonlocal count
        count += 1
        usual = {"archs": ["gfx942"], "aiter": "a6bb4993", "environ": AITER}
        # What the engine writes is told, as no engine is installed here.
        request = replace(Request() if request is None else request, scale_format="fp32", rotated=False)
        return nsa_caps.select_indexer_layout(probe(machine(tmp_path / str(count), **{**usual, **spec})), request)

    return make


def sent(layout: IndexerLayout) -> dict[str, Any]:
    """Return a layout's handshake after its way over the wire."""
    received: dict[str, Any] = json.loads(json.dumps(layout.handshake()))
    return received


def refusal(mine: IndexerLayout, theirs: dict[str, Any]) -> str:
    """Return why a peer is refused, its blanks made single."""
    with pytest.raises(LayoutMismatchError) as refused:
        check_peer(mine, theirs)
    assert [len(group.parties) for group in refused.value.groups] == [1, 1]
    return " ".join(str(refused.value).split())


def test_other_dialects_are_refused(make: Make) -> None:
    """gfx942 and gfx950, both preshuffled at 64: the same size, the same row, other numbers."""
    mine, theirs = make(), make(archs=["gfx950"])
    assert (mine.row, mine.page_size) == (theirs.row, theirs.page_size) == ("aiter-preshuffle", 64)
    text = refusal(mine, sent(theirs))
    assert "dialect e4m3fn, not e4m3fnuz: the same bits are worth exactly twice or half as much" in text
    assert "archs gfx950, not gfx942" in text
    assert "row aiter" not in text


def test_other_orders_are_refused(make: Make) -> None:
    """Flat against tiled pages of 64 in one dialect."""
    mine, theirs = make(), make(aiter=None)
    assert (theirs.row, theirs.page_size, theirs.format.dialect) == ("portable", 64, "e4m3fnuz")
    text = refusal(mine, sent(theirs))
    assert "order flat, not tiles" in text
    assert "page_size" not in text
    assert refusal(theirs, sent(mine)).count("order tiles, not flat") == 1


def test_other_pools_are_refused(make: Make) -> None:
    """Equal pages whose slots stand for other numbers of tokens."""
    text = refusal(make(), sent(make(Request(index_kpool=4))))
    assert "index_kpool 4, not 1" in text


def test_versions_are_diagnostics(make: Make) -> None:
    """Equal formats pass whatever brought them about; what differs is returned for the log."""
    mine, theirs = make(triton="3.6.0"), make(triton="3.8.0")
    assert check_peer(mine, sent(mine)) == ()
    assert [str(each) for each in check_peer(mine, sent(theirs))] == ["triton 3.8.0, not 3.6.0"]
    assert check_peer(sent(mine), theirs) == check_peer(mine, theirs) == check_peer(mine, sent(theirs))


def test_other_rows_of_equal_pages_pass(make: Make) -> None:
    """DeepGEMM reads what our kernels wrote, on another vendor's GPU even: only the bytes count."""
    hopper = make(platform="cuda", archs=["sm_90"], aiter=None, deep_gemm="2.1.0")
    radeon = make(archs=["gfx1100"], aiter=None)
    assert (hopper.row, radeon.row) == ("deepgemm", "portable")
    told = {each.left.name: (each.left.value, each.right.value) for each in check_peer(hopper, sent(radeon))}
    assert told == {"platform": ("rocm", "cuda"), "archs": ("gfx1100", "sm_90")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 9, "nsa_caps": "9.0"}, "written by nsa_caps 9.0: schema_version is 9"),
        ({"schema_version": None}, "schema_version is None"),
        ({"fingerprint": "0" * 16}, "fingerprint is '0000000000000000', its format has"),
        ({"row": 3}, "the peer's handshake.row: holds 3, needs str"),
        ({"diagnostics": {"triton": 3.6}}, "the peer's handshake.diagnostics.triton: holds 3.6"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"index_kpool": "1"}, "index_kpool"),
        (
            {"format": {"page_size": 48, "order": "tiles", "head_dim": 100}},
            "the peer's handshake.format: quant_block_size=128",
        ),
        ({"format": {"page_size": 64, "order": "zigzag"}}, "order"),
    ],
)
def test_what_is_no_handshake_is_an_error_of_its_own(make: Make, change: dict[str, Any], words: str) -> None:
    """A document of another shape is neither equal nor unequal: the error names the field."""
    layout = make()
    with pytest.raises(HandshakeError) as refused:
        check_peer(layout, {**sent(layout), **change})
    assert words in str(refused.value)


@pytest.mark.parametrize("theirs", [None, "", [], 64, {}])
def test_a_peer_that_sends_none_is_an_error(make: Make, theirs: Any) -> None:
    """A peer without this library is told apart from one that differs."""
    with pytest.raises(HandshakeError, match="the peer's handshake"):
        check_peer(make(), theirs)


def test_a_missing_field_is_an_error(make: Make) -> None:
    """Every field is needed."""
    layout = make()
    for name in sent(layout):
        with pytest.raises(HandshakeError):
            check_peer(layout, {key: value for key, value in sent(layout).items() if key != name})


def test_it_is_small_and_follows_the_schema(make: Make) -> None:
    """The document is valid, half a kilobyte, and the schema refuses anything else."""
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    for layout in (make(), make(archs=["gfx950"], triton="3.4.0"), make(platform="cpu", archs=(), aiter=None)):
        document = sent(layout)
        validator.validate(document)
        assert len(json.dumps(document)) < 600
        assert document["fingerprint"] == layout.fingerprint
        for name in document:
            with pytest.raises(ValidationError):
                validator.validate({**document, name: 1.5})
    with pytest.raises(ValidationError):
        validator.validate({**sent(make()), "colour": "red"})


def test_the_schema_has_the_words_of_the_records(make: Make) -> None:
    """Fields, choices and version are those of the code."""
    document = sent(make())
    assert SCHEMA["required"] == list(SCHEMA["properties"]) == list(document)
    assert SCHEMA["properties"]["schema_version"]["const"] == HANDSHAKE_VERSION
    assert SCHEMA["$id"].endswith(f":handshake:{HANDSHAKE_VERSION}")
    fields = SCHEMA["$defs"]["format"]
    assert fields["required"] == list(fields["properties"]) == list(document["format"])
    for name, words in (("order", Order), ("dialect", Dialect), ("scale_format", ScaleFormat)):
        assert fields["properties"][name]["enum"] == list(get_args(words))


def engine_of(tmp_path: Path, engine: str, release: str | None, **spec: Any) -> IndexerLayout:
    """Return the layout of a machine with an engine of a release; None: it is not installed."""
    place = tmp_path / f"{engine}-{release}-{spec['archs'][0]}"
    host = machine(place, **spec)
    if release is not None:
        (place / "site" / engine).mkdir()
        (place / "site" / engine / "__init__.py").touch()
        (place / "site" / engine / "_version.py").write_text(f"__version__ = '{release}'\n")
    return nsa_caps.select_indexer_layout(probe(host, engine=engine))


def test_vllm_of_two_gpus_writes_other_scales(tmp_path: Path) -> None:
    """Scales are packed on sm_100 by vLLM 0.33, not by 0.30, and on sm_90 by neither: equal sizes, other bytes."""
    hopper, blackwell, older = (
        engine_of(tmp_path, "vllm", release, platform="cuda", archs=[arch], deep_gemm="2.1.1")
        for release, arch in (("0.33.0", "sm_90"), ("0.33.0", "sm_100"), ("0.30.0", "sm_100"))
    )
    assert [layout.format.scale_format for layout in (hopper, blackwell, older)] == ["ue8m0", "ue8m0_packed", "ue8m0"]
    assert hopper.fingerprint != blackwell.fingerprint
    assert "scale_format ue8m0_packed, not ue8m0" in refusal(hopper, sent(blackwell))
    assert "scale_format" in refusal(blackwell, sent(older))
    assert check_peer(hopper, sent(hopper)) == ()


def test_rotated_keys_are_refused(tmp_path: Path) -> None:
    """SGLang 0.5.12 rotates, vLLM does not: of the same keys 0.20 of the top 256 would be right."""
    vllm = engine_of(tmp_path, "vllm", "0.33.0", platform="cuda", archs=["sm_90"], deep_gemm="2.1.1")
    sglang = engine_of(tmp_path, "sglang", "0.5.12", platform="cuda", archs=["sm_90"], deep_gemm="2.1.1")
    assert (vllm.format.rotated, sglang.format.rotated) == (False, True)
    assert "rotated True, not False" in refusal(vllm, sent(sglang))


@pytest.mark.parametrize(
    ("engine", "release", "assumed"),
    [
        ("sglang", "0.5.12", ()),
        ("sglang", "0.5.23", ("rotated",)),
        ("sglang", None, ("scale_format", "rotated")),
        ("sglang", "0.9.0", ("scale_format", "rotated")),
        ("vllm", "0.31.0", ("scale_format", "rotated")),
        ("vllm", "0.33.0", ()),
        ("generic", None, ("rotated",)),
    ],
)
def test_what_is_not_known_is_not_equal(
    tmp_path: Path, engine: str, release: str | None, assumed: tuple[str, ...]
) -> None:
    """Where the release or the model decides and nobody told, the peer is refused with what to tell."""
    layout = engine_of(tmp_path, engine, release, platform="cuda", archs=["sm_90"], deep_gemm="2.1.1")
    assert layout.assumed == assumed
    if not assumed:
        check_peer(layout, sent(layout))
        return
    with pytest.raises(LayoutMismatchError) as refused:
        check_peer(layout, sent(layout))
    text = " ".join(str(refused.value).split())
    assert "unknown on one side" in text
    assert all(f"{name}=" in text for name in assumed)
    told = nsa_caps.select_indexer_layout(layout.decision.caps, Request(scale_format="fp32", rotated=False))
    assert told.assumed == ()
    check_peer(told, sent(told))


def test_a_mapping_that_does_not_answer_is_no_handshake(make: Make) -> None:
    """What a peer's client hands over may raise when it is asked; who sent it is told."""

    class Lazy(UserDict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise RuntimeError("asked")

    with pytest.raises(HandshakeError, match=r"the peer's handshake is a .*asked"):
        check_peer(make(), Lazy(make().handshake()))
