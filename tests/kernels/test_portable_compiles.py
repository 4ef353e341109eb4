"""Every portable kernel compiles, down to machine code, for every GPU that the project names."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nsa_caps
from tests.kernels.targets import MARKED_TARGETS, TARGETS

KERNELS = {"gather_kernel", "store_kernel", "quantise_kernel"}


# Folders that each hold another Triton: pip install --no-deps --target FOLDER triton==3.5.1
RELEASES = list(filter(None, os.environ.get("NSA_CAPS_TRITON_PATHS", "").split(os.pathsep)))


def compile_all(target: str, path: str) -> list[str]:
    """The errors of compiling every kernel, in a process without the interpreter; Triton keeps what it compiled."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environ["PYTHONPATH"] = path
    script = Path(__file__).with_name("compile_portable.py")
    done = subprocess.run(
        [sys.executable, str(script), target], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["kernel"] for record in records} == KERNELS
    return [f"{record['kernel']}, {record['variant']}: {record['error']}" for record in records if record["error"]]


@pytest.mark.parametrize("target", MARKED_TARGETS)
def test_every_kernel_compiles(target: str) -> None:
    """With the Triton that is installed."""
    assert compile_all(target, os.environ.get("PYTHONPATH", "")) == []


@pytest.mark.skipif(not RELEASES, reason="opt-in: NSA_CAPS_TRITON_PATHS names no folder with another Triton")
@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_kernel_compiles_with_other_releases(target: str, release: str) -> None:
    """Seen with Triton 3.3.1 to 3.8.0. The target gfx1250 needs 3.6 or newer."""
    errors = compile_all(target, os.pathsep.join([release, os.environ.get("PYTHONPATH", "")]))
    if errors and all("ld.lld not found" in error for error in errors):
        pytest.skip(f"Triton before 3.5 links with ROCm's ld.lld, which is not here: {release}")
    assert errors == []


@pytest.mark.parametrize("module", ["logits", "operands", "ragged_logits", "store_gather_kernels"])
def test_no_kernel_calls_itself(module: str) -> None:
    """Triton 3.3 and 3.4 follow a function that does for ever."""
    path = Path(nsa_caps.__file__).parent / "kernels" / "portable" / f"{module}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    called = {(one.name, node.id) for one in functions for node in ast.walk(one) if isinstance(node, ast.Name)}
    assert functions
    assert [name for name, other in called if name == other] == []
