"""Where the kernels in Gluon are used: on sm_90, with the Tritons that they were run with, for some shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsa_caps.kernels.portable.launch import launches_directly
from nsa_caps.kernels.portable.tuning import logits_on_sm90, ragged_on_sm90, runs_on_sm90
from nsa_caps.pages import PageFormat

FLAT = PageFormat(page_size=64)
TILES = PageFormat(page_size=64, order="tiles")


@pytest.mark.parametrize("version", ["3.6.0", "3.6.1+git0123", "3.7.1", "3.8.0", "3.9.0", "3.9.0rc1"])
def test_they_run_where_they_were_run(version: str) -> None:
    """One architecture, and the releases of Triton that were tried on it: Gluon still changes."""
    assert runs_on_sm90("sm_90", version)
    assert not runs_on_sm90("sm_100", version)


@pytest.mark.parametrize("version", ["3.5.1", "3.10.0", "4.6.0"])
def test_they_run_with_no_other_triton(version: str) -> None:
    """What was run on no GPU is not taken: an older one, one that is not out yet, another major release."""
    assert not runs_on_sm90("sm_90", version)


@pytest.mark.parametrize(("version", "direct"), [("3.6.0", True), ("3.9.1", True), ("3.5.1", False), ("3.10.0", False)])
def test_triton_is_passed_by_only_where_that_was_run(version: str, direct: bool) -> None:
    """A kernel that is compiled is launched without Triton's front only by releases that did so on a GPU."""
    assert launches_directly(version) == direct


@pytest.mark.parametrize("fmt", [FLAT, TILES, PageFormat(page_size=64, scale_format="ue8m0")])
@pytest.mark.parametrize(("next_n", "heads"), [(1, 32), (2, 32), (1, 64), (2, 64)])
def test_what_the_paged_kernel_takes(fmt: PageFormat, next_n: int, heads: int) -> None:
    """One or two queries of 32 or 64 heads on pages of 64, flat or tiled: what was run."""
    assert logits_on_sm90(fmt, 64, next_n, heads, fmt.page_bytes, 8192)


@pytest.mark.parametrize(
    ("fmt", "batch", "next_n", "heads", "page_stride", "row_stride"),
    [
        (PageFormat(page_size=128), 64, 2, 64, 128 * 132, 8192),
        (PageFormat(page_size=64, dialect="e4m3fnuz"), 64, 2, 64, 8448, 8192),
        (PageFormat(page_size=64, scale_format="ue8m0_packed"), 64, 2, 64, 8448, 8192),
        (FLAT, 257, 2, 64, 8448, 8192),
        (FLAT, 64, 3, 64, 8448, 8192),
        (FLAT, 64, 1, 128, 8448, 8192),
        (FLAT, 64, 2, 64, 8448 + 4, 8192),
        (FLAT, 64, 2, 64, 8448, 2**30),
    ],
    ids=["pages", "dialect", "packed", "batch", "next_n", "heads", "stride", "offsets"],
)
def test_what_is_left_to_the_general_kernel(
    fmt: PageFormat, batch: int, next_n: int, heads: int, page_stride: int, row_stride: int
) -> None:
    """Other shapes and formats, offsets beyond 32 bits, and what the copy engine cannot address."""
    assert not logits_on_sm90(fmt, batch, next_n, heads, page_stride, row_stride)


@pytest.mark.parametrize(
    ("fmt", "heads", "row_stride", "taken"),
    [
        (FLAT, 64, 131_072, True),
        (FLAT, 32, 131_072, True),
        (FLAT, 16, 131_072, False),
        (FLAT, 64, 2**28, False),
        (PageFormat(page_size=64, dialect="e4m3fnuz"), 64, 131_072, False),
    ],
)
def test_what_the_ragged_kernel_takes(fmt: PageFormat, heads: int, row_stride: int, taken: bool) -> None:
    """32, 64 or 128 heads of e4m3fn, and rows whose offsets fit in 32 bits."""
    assert ragged_on_sm90(fmt, heads, row_stride) == taken


@pytest.mark.slow
def test_they_compile_to_fp8_products_and_hardly_spill(tmp_path: Path) -> None:
    """With the Triton that is installed, though it may not be one that they were run with."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environ["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).with_name("compile_sm90.py")
    done = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 22
    assert [line["variant"] for line in lines if not line["fp8"]] == []
    # The warp that fills keeps two words there, outside its loops.
    spilled = {line["variant"]: line["local"] for line in lines if line["local"]}
    assert set(spilled) <= {f"ragged, {heads} heads, clean True" for heads in (32, 64, 128)}
    assert max(spilled.values(), default=0) <= 8
