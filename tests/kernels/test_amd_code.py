"""What AMD's GPUs would run, read from the assembly that Triton compiles; no GPU is needed for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MATRIX = {"gfx942": "fp8_fp8", "gfx950": "f8f6f4", "gfx1100": "_f16", "gfx1201": "fp8_fp8", "gfx90a": "f16"}


@pytest.mark.slow
@pytest.mark.parametrize("target", MATRIX)
def test_nothing_is_spilled_and_matrix_units_multiply(target: str, tmp_path: Path) -> None:
    """Every kernel fits its registers and loads 16 bytes at once: scores are products of matrix units."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environ["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).parents[2] / "benchmarks" / "amd_code.py"
    done = subprocess.run(
        [sys.executable, str(script), target], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith(f"| {target}")]
    assert len(lines) == 11
    assert [line[1] for line in lines if line[3] != "0"] == []
    assert [line[1] for line in lines if line[6].startswith("0 ")] == []
    scores = [line for line in lines if "logits" in line[1]]
    assert len(scores) == 5
    assert [line[1] for line in scores if MATRIX[target] not in line[5]] == []
