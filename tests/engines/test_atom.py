"""ATOM's shim: whether its tiles run here, and how long its pages are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import nsa_caps
from nsa_caps.engines import atom, sglang
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from pathlib import Path


def caps(folder: Path, **changes: Any) -> nsa_caps.Capabilities:
    """Return an MI300X with an aiter that knows tiles, unless said otherwise."""
    return atom.probe_machine(machine(folder, **{"archs": ["gfx942"], "aiter": "a6bb4993", **changes}))


@pytest.mark.parametrize("block_size", [16, 64, 128])
def test_its_rows_are_padded(tmp_path: Path, block_size: int) -> None:
    """Tiles of 144 bytes a token, with no variable set: another meaning than SGLang's pages on the same GPU."""
    found = atom.page_format(block_size, caps(tmp_path))
    assert (found.page_size, found.order, found.dialect, found.row_stride) == (block_size, "tiles", "e4m3fnuz", 144)
    assert found.page_bytes == 144 * block_size
    on = nsa_caps.probe(
        machine(
            tmp_path / "sglang",
            archs=["gfx942"],
            aiter="a6bb4993",
            environ={"SGLANG_USE_AITER": "1"},
            engines={"sglang": "0.5.12"},
        )
    )
    others = sglang.indexer_layout(block_size, caps=on).format
    assert [each.field for each in nsa_caps.difference(found, others)] == ["row_stride", "rotated"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"triton": "3.4.0"}, "triton.too-old"),
        ({"aiter": "a1bdcec9"}, "aiter.no-preshuffle-cache"),
        ({"environ": {"NSA_CAPS_USE_AITER": "0"}}, "switch.aiter-off"),
    ],
)
def test_where_aiter_reads_no_tiles_it_is_said_at_once(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    """ATOM itself would go on, to an assertion or a TypeError at its first decode."""
    with pytest.raises(nsa_caps.NoUsableLayoutError) as caught:
        atom.page_format(caps=caps(tmp_path, **changes))
    assert [reason.code for reason in caught.value.decision.verdict("aiter-preshuffle").reasons] == [code]


def test_a_block_size_that_fails_at_the_first_decode_is_refused(tmp_path: Path) -> None:
    """ATOM takes any multiple of 16, aiter's kernel does not."""
    with pytest.raises(nsa_caps.NoUsableLayoutError):
        atom.page_format(48, caps(tmp_path))


def test_this_machine_is_asked_where_none_is_given() -> None:
    """With its own variables, as the machine's are read."""
    assert atom.probe_machine().engine == "generic"
    if not atom.probe_machine().devices:
        with pytest.raises(nsa_caps.NoUsableLayoutError):
            atom.page_format()
