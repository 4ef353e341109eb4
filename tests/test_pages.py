"""Page formats: offsets, sizes, identity and errors, against the byte layout as the engines describe it."""

from __future__ import annotations

import itertools
import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa_caps.archs import Dialect
from nsa_caps.pages import Order, PageFormat, PageFormatError, ScaleFormat, difference


@st.composite
def page_formats(draw: st.DrawFn) -> PageFormat:
    """Any valid format, of small pages."""
    order: Order = draw(st.sampled_from(get_args(Order)))
    step = 16 if order == "tiles" else 1
    # 48 is no power of two, so that offsets cannot be put together by anything but sums.
    head_dim = draw(st.sampled_from([16, 48, 64, 128]))
    quant_block_size = head_dim // draw(st.sampled_from([1, 2, 4]))
    packed = head_dim + 4 * head_dim // quant_block_size
    return PageFormat(
        page_size=step * draw(st.integers(1, 64 // step)),
        order=order,
        head_dim=head_dim,
        quant_block_size=quant_block_size,
        dialect=draw(st.sampled_from(get_args(Dialect))),
        scale_format=draw(st.sampled_from(get_args(ScaleFormat))),
        row_stride=packed + 4 * draw(st.integers(0, 4)),
    )


def key_places(fmt: PageFormat) -> np.ndarray:
    """Byte of each [slot, dim], by laying the page out whole and turning it around: the oracle of `key_offset`."""
    page = np.arange(fmt.page_size * fmt.head_dim)
    if fmt.order == "flat":
        return page.reshape(fmt.page_size, fmt.head_dim)
    tiles = page.reshape(fmt.page_size // 16, fmt.head_dim // 16, 16, 16)
    return tiles.swapaxes(1, 2).reshape(fmt.page_size, fmt.head_dim)


@given(page_formats())
def test_key_offsets_are_those_of_the_page_laid_out_whole(fmt: PageFormat) -> None:
    """`key_offset` agrees with numpy's transposition of the tiles, for every slot and element."""
    found = [[fmt.key_offset(slot, dim) for dim in range(fmt.head_dim)] for slot in range(fmt.page_size)]
    np.testing.assert_array_equal(found, key_places(fmt))


@given(page_formats())
def test_keys_and_scales_fill_the_page_up_to_its_padding(fmt: PageFormat) -> None:
    """No byte has two meanings, and all that have none lie together at the page's end."""
    keys = [fmt.key_offset(slot, dim) for slot in range(fmt.page_size) for dim in range(fmt.head_dim)]
    scales = [
        fmt.scale_offset(slot, block) + byte
        for slot in range(fmt.page_size)
        for block in range(fmt.scales_per_token)
        for byte in range(4)
    ]
    assert sorted(keys) == list(range(fmt.page_size * fmt.head_dim))
    assert scales == list(range(len(keys), len(keys) + len(scales)))
    assert len(keys) + len(scales) <= fmt.page_bytes == fmt.page_size * fmt.row_stride


@pytest.mark.parametrize(("page_size", "page_bytes"), [(1, 132), (64, 8448), (128, 16896)])
def test_pages_of_the_field_have_the_sizes_of_the_field(page_size: int, page_bytes: int) -> None:
    """132 bytes a token: 8,448 for a page of 64."""
    fmt = PageFormat(page_size=page_size)
    assert (fmt.page_bytes, fmt.row_stride) == (page_bytes, 132)
    assert fmt.scale_offset(page_size - 1) == page_bytes - 4


def test_rows_hold_every_scale() -> None:
    """A key of 128 in blocks of 32 has four scales: 144 bytes a token."""
    assert PageFormat(page_size=64, quant_block_size=32).row_stride == 144
    with pytest.raises(PageFormatError, match="at least 144"):
        PageFormat(page_size=64, quant_block_size=32, row_stride=132)


def test_atom_rows_of_144_bytes_pad_the_end_of_the_page() -> None:
    """Keys and scales of ROCm/ATOM's padded cache lie where unpadded ones do; only the page is larger."""
    plain, padded = PageFormat(page_size=16), PageFormat(page_size=16, row_stride=144)
    assert padded.page_bytes == 16 * 144
    assert [padded.scale_offset(slot) for slot in range(16)] == [plain.scale_offset(slot) for slot in range(16)]
    assert padded.key_offset(15, 127) == plain.key_offset(15, 127)


@pytest.mark.parametrize(("order", "tile"), [("flat", None), ("tiles", (16, 16))])
def test_only_the_tiled_order_has_a_tile(order: Order, tile: tuple[int, int] | None) -> None:
    """The tile is that of a 16x16 MFMA instruction."""
    assert PageFormat(page_size=64, order=order).tile == tile


@pytest.mark.parametrize(("dialect", "largest"), [("e4m3fn", 448.0), ("e4m3fnuz", 240.0)])
def test_the_largest_number_of_a_dialect(dialect: Dialect, largest: float) -> None:
    """e4m3fnuz, whose exponent bias is one higher, ends at 240."""
    assert PageFormat(page_size=64, dialect=dialect).fp8_max == largest


@given(page_formats(), page_formats())
def test_formats_share_a_fingerprint_only_if_they_are_the_same(left: PageFormat, right: PageFormat) -> None:
    """Digest, fingerprint, equality and `difference` agree on whether two formats are one."""
    same = left == right
    assert (left.digest == right.digest) is same
    assert (left.fingerprint == right.fingerprint) is same
    assert (difference(left, right) == ()) is same
    assert len(left.digest) == 32


def test_the_fingerprint_is_the_same_in_every_process_and_release() -> None:
    """Ranks of different builds compare it, so it may only change along with the schema that it hashes."""
    assert PageFormat(page_size=64).fingerprint == "386f5656f963a95f"


@given(page_formats())
def test_formats_survive_json(fmt: PageFormat) -> None:
    """`from_dict` takes back what `to_dict` wrote, through JSON text."""
    assert PageFormat.from_dict(json.loads(json.dumps(fmt.to_dict()))) == fmt


def test_difference_names_each_field_with_both_values_and_an_effect() -> None:
    """Two formats that share no field have one record a field, in the order of the fields."""
    left = PageFormat(page_size=64)
    right = PageFormat(
        page_size=16,
        order="tiles",
        head_dim=64,
        quant_block_size=32,
        dialect="e4m3fnuz",
        scale_format="ue8m0_packed",
        row_stride=80,
        rotated=True,
    )
    records = difference(left, right)
    assert [record.field for record in records] == [field.name for field in fields(PageFormat)]
    for record in records:
        assert (record.left, record.right) == (getattr(left, record.field), getattr(right, record.field))
    # What a mismatch does depends on the field.
    assert len({record.effect for record in records}) == len(records)


def test_the_effect_of_scale_formats_depends_on_the_pair() -> None:
    """Two forms stored as fp32 can be read for each other; the packed one with neither."""
    formats = {name: PageFormat(page_size=64, scale_format=name) for name in get_args(ScaleFormat)}
    effects = {
        frozenset(pair): difference(formats[pair[0]], formats[pair[1]])[0].effect
        for pair in itertools.permutations(formats, 2)
    }
    assert "read alike" in effects[frozenset({"fp32", "ue8m0"})]
    assert effects[frozenset({"fp32", "ue8m0_packed"})] == effects[frozenset({"ue8m0", "ue8m0_packed"})]
    assert "0.21" in effects[frozenset({"fp32", "ue8m0_packed"})]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"page_size": 0}, "page_size"),
        ({"page_size": True}, "page_size"),
        ({"page_size": 64.0}, "page_size"),
        ({"page_size": 1, "order": "tiles"}, "page_size"),
        ({"page_size": 24, "order": "tiles"}, "page_size"),
        ({"order": "swizzled"}, "order"),
        ({"order": None}, "order"),
        ({"head_dim": -128}, "head_dim"),
        ({"head_dim": 6, "quant_block_size": 6}, "head_dim"),
        ({"head_dim": 10, "quant_block_size": 10}, "head_dim"),
        ({"head_dim": 72, "quant_block_size": 72, "order": "tiles"}, "head_dim"),
        ({"quant_block_size": 96}, "quant_block_size"),
        ({"dialect": "e5m2"}, "dialect"),
        ({"scale_format": "bf16"}, "scale_format"),
        ({"row_stride": 131}, "row_stride"),
        ({"row_stride": 128}, "row_stride"),
        ({"row_stride": -132}, "row_stride"),
        ({"row_stride": 134}, "row_stride"),
        ({"row_stride": False}, "row_stride"),
    ],
)
def test_impossible_formats_are_refused_by_field(changes: dict[str, object], field: str) -> None:
    """The error names the field and the value, in its text and as data."""
    arguments: dict[str, object] = {"page_size": 64, **changes}
    with pytest.raises(PageFormatError, match=f"^{field}=") as caught:
        PageFormat(**arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.observed == arguments[field]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda fmt: fmt.key_offset(64, 0), "slot=64: must be within 0 to 63"),
        (lambda fmt: fmt.key_offset(1000, 0), "slot=1000: must be within 0 to 63"),
        (lambda fmt: fmt.key_offset(-1, 0), "slot=-1: must be within 0 to 63"),
        (lambda fmt: fmt.key_offset(0, 128), "dim=128: must be within 0 to 127"),
        (lambda fmt: fmt.scale_offset(64), "slot=64: must be within 0 to 63"),
        (lambda fmt: fmt.scale_offset(0, 1), "block=1: must be within 0 to 0"),
    ],
)
def test_places_outside_the_page_are_refused(call: object, told: str) -> None:
    """An offset beyond the page would lie in another token's bytes."""
    with pytest.raises(PageFormatError, match=f"^{told}$"):
        call(PageFormat(page_size=64))  # type: ignore[operator]


@pytest.mark.parametrize("change", [{"row_strides": 132}, {"order": "swizzled"}])
def test_foreign_records_are_refused(change: dict[str, object]) -> None:
    """A record with an unknown field or value is no format of ours, and says which."""
    record = PageFormat(page_size=64).to_dict() | change
    with pytest.raises(PageFormatError, match=next(iter(change))):
        PageFormat.from_dict(record)


def test_a_format_is_made_by_names() -> None:
    """Four of the fields are numbers: by place they could be taken for each other."""
    with pytest.raises(TypeError):
        PageFormat(64, "flat", 128)  # type: ignore[call-arg]  # that is the point


def test_records_without_a_field_are_refused() -> None:
    """No default stands in for what a record does not say."""
    record = PageFormat(page_size=64).to_dict()
    del record["dialect"]
    with pytest.raises(PageFormatError, match=r"dialect.*missing"):
        PageFormat.from_dict(record)


def test_a_replaced_format_is_checked_again() -> None:
    """`dataclasses.replace` goes through the same checks, with the row stride that was filled in."""
    with pytest.raises(PageFormatError, match="row_stride"):
        replace(PageFormat(page_size=64), head_dim=256, quant_block_size=256)


@pytest.mark.parametrize("name", ["page_size", "head_dim", "quant_block_size"])
def test_sizes_are_numbers_of_31_bits(name: str) -> None:
    """What no int32 holds is refused, and the error says what is held."""
    with pytest.raises(PageFormatError, match=f"{name}.*whole number of 1 to 2147483647"):
        replace(PageFormat(page_size=64), **{name: 2**31})  # type: ignore[arg-type]  # each is a number


def test_the_largest_page_is_taken() -> None:
    """The largest number that an int32 holds is one."""
    assert PageFormat(page_size=2**31 - 1).page_bytes == 132 * (2**31 - 1)


def test_formats_and_differences_do_not_change() -> None:
    """They are values: what was agreed on stays as it was, and is a key of what is kept."""
    (found,) = difference(PageFormat(page_size=64), PageFormat(page_size=64, dialect="e4m3fnuz"))
    values: list[tuple[Any, str]] = [(PageFormat(page_size=64), "page_size"), (found, "field")]
    for value, name in values:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)
        assert hash(value) == hash(replace(value))
