"""The logits kernel for Hopper: it compiles, and is chosen only where it was run.

On an H200, where alone it runs, ``benchmarks/gpu_logits.py`` compares it with the reference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa_caps.kernels.portable.tuning import Tuning, fits_hopper, hopper_programs, runs_on_hopper
from nsa_caps.pages import PageFormat

# Folders that each hold another Triton: pip install --no-deps --target FOLDER triton==3.6.0
RELEASES = list(filter(None, os.environ.get("NSA_CAPS_TRITON_PATHS", "").split(os.pathsep)))
MULTIPROCESSORS = 132


def errors(path: str) -> list[str]:
    """Of compiling every variant, in a process without the interpreter."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environ["PYTHONPATH"] = path
    script = Path(__file__).with_name("compile_hopper.py")
    done = subprocess.run([sys.executable, str(script)], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 12
    return [f"{line['variant']}: {line['error']}" for line in lines if line["error"]]


@pytest.mark.slow
def test_every_variant_compiles() -> None:
    """With the Triton that is installed, though it may not be the one that it was run with."""
    assert errors(os.environ.get("PYTHONPATH", "")) == []


@pytest.mark.skipif(not RELEASES, reason="opt-in: NSA_CAPS_TRITON_PATHS names no folder with another Triton")
@pytest.mark.parametrize("release", RELEASES)
def test_every_variant_compiles_with_other_releases(release: str) -> None:
    """Seen with 3.6.0, 3.7.0 and 3.8.0; older ones lack a part of Gluon that it needs."""
    assert errors(os.pathsep.join([release, os.environ.get("PYTHONPATH", "")])) == []


@pytest.mark.parametrize("version", ["3.6.0", "3.6.1+git0123", "3.6.0rc1"])
def test_it_runs_where_it_was_run(version: str) -> None:
    """One architecture, and one Triton: Gluon still changes."""
    assert runs_on_hopper("sm_90", version)
    assert not runs_on_hopper("sm_100", version)


@pytest.mark.parametrize("version", ["3.5.1", "3.7.0", "3.8.0", "4.6.0"])
def test_it_runs_with_no_other_triton(version: str) -> None:
    """Not even with one that compiles it."""
    assert not runs_on_hopper("sm_90", version)


def arguments(**changes: Any) -> dict[str, Any]:
    """What it takes, but for the changes."""
    fmt = changes.pop("fmt", PageFormat(page_size=64))
    batch, next_n, heads = (changes.pop(name, value) for name, value in (("batch", 64), ("next_n", 2), ("heads", 64)))
    q = torch.zeros(batch, next_n, heads, fmt.head_dim, dtype=torch.uint8)
    given = {
        "q": q,
        "pages": torch.zeros(2, fmt.page_bytes, dtype=torch.uint8),
        "weights": torch.zeros(batch * next_n, heads),
        "page_table": torch.zeros(batch, 128, dtype=torch.int32),
        "max_model_len": 8192,
        "out": torch.empty(1, 1).expand(batch * next_n, 8192),
        "fmt": fmt,
        "units": MULTIPROCESSORS,
    }
    return given | changes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"next_n": 1, "heads": 128},
        {"next_n": 4, "heads": 32},
        {"fmt": PageFormat(page_size=64, order="tiles", scale_format="ue8m0")},
        {"fmt": PageFormat(page_size=64, row_stride=144)},
    ],
)
def test_it_takes(changes: dict[str, Any]) -> None:
    """128 columns on pages of 64, flat or tiled."""
    assert fits_hopper(**arguments(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"next_n": 1},
        {"next_n": 3},
        {"heads": 32},
        {"next_n": 16, "heads": 8},
        {"batch": 257},
        {"batch": 32},
        {"max_model_len": 4096},
        {"fmt": PageFormat(page_size=128)},
        {"fmt": PageFormat(page_size=64, dialect="e4m3fnuz")},
        {"fmt": PageFormat(page_size=64, scale_format="ue8m0_packed")},
        {"out": torch.empty(1).as_strided((1, 1), (2**30, 1))},
        {"pages": torch.zeros(2, 64 * 132 + 4, dtype=torch.uint8)[:, :-4]},
        {"weights": torch.zeros(128 * 64 + 1)[1:].view(128, 64)},
    ],
)
def test_it_leaves_to_the_general_kernel(changes: dict[str, Any]) -> None:
    """Other shapes and formats, too little work, offsets beyond 32 bits, and what the copy engine cannot address."""
    assert not fits_hopper(**arguments(**changes))


def test_it_is_for_gpus_only() -> None:
    """On the CPU the general kernel is interpreted."""
    given = arguments()
    del given["units"]
    assert hopper_programs(**given) is None


def test_an_early_launch_is_asked_of_the_launcher() -> None:
    """Only where the tuning says so: other GPUs' launchers do not know the option."""
    assert "launch_pdl" not in Tuning(programs=1, fp8_dot=True).launch_options()
    assert Tuning(programs=1, fp8_dot=True, early=True).launch_options()["launch_pdl"]
