"""Formats that differ in any byte have different fingerprints: the reference writes, and bytes are compared."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa_caps import PageFormat, difference
from nsa_caps.kernels import reference
from nsa_caps.pages import FP8_MAX
from nsa_caps.testing.strategies import page_formats

if TYPE_CHECKING:
    from torch import Tensor

OF_A_KEY = ("head_dim", "quant_block_size")
KEYS = torch.randn(40, 256, generator=torch.Generator().manual_seed(13))


@cache
def hadamard(size: int) -> Tensor:
    """Return Sylvester's matrix, of a size that is a power of two."""
    if size == 1:
        return torch.ones(1, 1)
    half = hadamard(size // 2)
    return torch.cat((torch.cat((half, half), 1), torch.cat((half, -half), 1))) / 2**0.5


@cache
def written(fmt: PageFormat) -> Tensor:
    """Return what the reference writes of the same keys, into pages of 0xEE, rotated first where the format says so."""
    keys = KEYS[:, : fmt.head_dim]
    if fmt.rotated:
        # A block-diagonal one for the sizes that are no power of two.
        size = fmt.head_dim & -fmt.head_dim
        keys = (keys.reshape(-1, size) @ hadamard(size)).reshape(keys.shape)
    pages = -(-len(keys) // fmt.page_size)
    cache_of_keys = torch.full((pages, fmt.page_bytes), 0xEE, dtype=torch.uint8)
    reference.quantise_and_store(cache_of_keys, torch.arange(len(keys)), keys, fmt=fmt)
    return cache_of_keys.flatten()


def alike(one: PageFormat, other: PageFormat) -> bool:
    """Return whether the reference writes the same bytes under both."""
    return torch.equal(written(one), written(other))


@settings(deadline=None, max_examples=40)
@given(page_formats(), page_formats())
def test_other_bytes_other_fingerprint(one: PageFormat, other: PageFormat) -> None:
    """Any two formats: where their bytes differ, their fingerprints do, and `difference` names a field."""
    if not alike(one, other):
        assert one.fingerprint != other.fingerprint
        assert difference(one, other)


@pytest.mark.parametrize("field", [each.name for each in fields(PageFormat) if each.name not in OF_A_KEY])
@settings(deadline=None, max_examples=20)
@given(fmt=page_formats(), data=st.data())
def test_each_field_alone(field: str, fmt: PageFormat, data: st.DataObject) -> None:
    """A format with one field changed: equal size is not equal bytes, and each is another fingerprint."""
    fmt = replace(fmt, page_size=-(-fmt.page_size // 16) * 16)
    values: dict[str, Any] = {
        "order": ("flat", "tiles"),
        "dialect": sorted(FP8_MAX),
        "scale_format": ("fp32", "ue8m0", "ue8m0_packed"),
        "row_stride": (0, fmt.head_dim + 16),
        "rotated": (False, True),
        "page_size": (fmt.page_size, fmt.page_size + 16),
    }
    changed = replace(fmt, **{field: data.draw(st.sampled_from(values[field]))})
    if changed == fmt:
        assert alike(changed, fmt)
        return
    assert changed.fingerprint != fmt.fingerprint
    assert [each.field for each in difference(fmt, changed)][:1] == [field]
    assert not alike(changed, fmt)


@pytest.mark.parametrize("field", OF_A_KEY)
def test_a_key_of_another_shape(field: str) -> None:
    """In rows that hold both, so that every size is the same; no kernel writes several scales a token."""
    one = PageFormat(page_size=64, head_dim=128, quant_block_size=64, row_stride=512)
    changed: dict[str, Any] = {field: {"head_dim": 64, "quant_block_size": 128}[field]}
    other = replace(one, **changed)
    assert one.page_bytes == other.page_bytes
    assert one.fingerprint != other.fingerprint
    assert [each.field for each in difference(one, other)] == [field]
