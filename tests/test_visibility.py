"""The visible-device variables, text by text, against their readers: torch itself, and ROCr's and HIP's sources."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest

from nsa_caps.probes.visibility import cuda_list, hip_list, rocr_list, torch_list

TEXTS = (
    *("", " ", "0", "0,1", "1,0", "0,0", "0,1,1", "-1", "0,-1,1", "+1", "+1,-2", "1gpu2,2ampere", " 0, 1 ", "0,,1"),
    *(",0", "0,", "0x1", "0x10", "010", "abc", "GPU-", "GPU-abc", "GPU-abc,GPU-abc", "GPU-a,GPU-b", " GPU-a"),
    *("GPU-a, GPU-b", "gpu-a", "MIG-a", "MIG-a,MIG-b", "MIG-a,MIG-a", "GPU-a,MIG-b", "0;1", "9", "64", "65,1", "1.5"),
    *("none", "NoDevFiles", "+", "-", "\u00b2", "1\u00b2", "0 1", "\t1", "1,GPU-a", "0,1,2,-1,3", "00", "0,00", "1e3"),
)
UUIDS = ("GPU-00000000000000aa", "GPU-00000000000000ab", None, "GPU-00000000000000cd")


@pytest.mark.parametrize("text", TEXTS)
def test_as_torch_reads_it(text: str) -> None:
    """The same list as `torch.cuda._parse_visible_devices`, and None where that raises."""
    torch = pytest.importorskip("torch")
    with patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": text}):
        try:
            expected = torch.cuda._parse_visible_devices()  # noqa: SLF001 the reading to match
        except ValueError:
            expected = None
    assert torch_list(text) == expected


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("0,1", (0, 1)),
        ("3,7,0", (3,)),
        ("1,1", ()),
        ("", ()),
        ("GPU-00000000000000c", (3,)),
        ("GPU-00000000000000a", ()),
        ("GPU-00000000000000aa,GPU-00000000000000ab", (0, 1)),
        ("GPU-00000000000000aa,GPU-00000000000000a", (0,)),
        ("GPU-00000000000000c,GPU-00000000000000cd", ()),
    ],
)
def test_which_gpus_cuda_shows(text: str, chosen: tuple[int, ...]) -> None:
    """A list ends at an entry that names no GPU, and one GPU under two names leaves none."""
    listed = cuda_list(text, UUIDS)
    assert listed is not None
    assert listed.chosen == chosen
    assert (listed.ended is None) == (
        text in ("0,1", "GPU-00000000000000c", "GPU-00000000000000aa,GPU-00000000000000ab")
    )


@pytest.mark.parametrize("text", ["+", "1\u00b2"])
def test_what_torch_fails_on(text: str) -> None:
    """Torch raises ValueError: nothing is known of what CUDA would show."""
    assert cuda_list(text, UUIDS) is None


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("0,1", (0, 1)),
        ("0,0,1", (0,)),
        ("", ()),
        ("0x1,+2", (1, 2)),
        ("010", ()),
        ("03", (3,)),
        ("08", ()),
        (" 1 , 0 ", (1, 0)),
        ("1,", (1,)),
        ("1,,0", ()),
        ("-1", ()),
        ("4294967296", (0,)),
        ("99999999999999999999", ()),
        ("gpu-00000000000000CD", (3,)),
        ("GPU-00000000000000a", ()),
        ("GPU", ()),
        ("0,1,2,3,0", (0, 1, 2, 3)),
        ("1x", ()),
    ],
)
def test_which_gpus_rocr_shows(text: str, chosen: tuple[int, ...]) -> None:
    """`amd_filter_device.cpp`: C's numbers of any base, 32 bits wide; UUIDs in any case; the list ends at a repeat."""
    assert rocr_list(text, UUIDS).chosen == chosen


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("0,1", (0, 1)),
        ("0,0,1", (0, 1)),
        ("1,", (1,)),
        ("0, 1", (0,)),
        ("+1", ()),
        ("01", ()),
        ("0x1", ()),
        ("-1", ()),
        ("1gpu", ()),
        ("9", ()),
        ("GPU-00000000000000cd", (3,)),
        ("GPU-00000000000000a", (0,)),
        ("GPU-00000000000000CD", ()),
    ],
)
def test_which_gpus_hip_shows(text: str, chosen: tuple[int, ...]) -> None:
    """`rocdevice.cpp`: an index as HIP itself would write it; of several UUIDs the first; a repeat is passed over."""
    assert hip_list(text, UUIDS).chosen == chosen
