"""Compile the kernels for Hopper; run by `test_sm90.py`, as a process of its own without Triton's interpreter.

prints one JSON object a variant: `{"variant": ..., "local": bytes of local memory a thread, "fp8": products of fp8}`.
"""

# What layouts launch with is private to the launcher.
# ruff: noqa: SLF001

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource

from nsa_caps.kernels.portable import sm90
from nsa_caps.kernels.portable.logits_sm90_kernel import logits_kernel
from nsa_caps.kernels.portable.ragged_sm90_kernel import ragged_kernel

TENSORS = {"starts": "*i32", "ends": "*i32", "context_lens": "*i32", "page_table": "*i32", "out": "*fp32"}
# As the launcher finds them: tensors at multiples of 16 bytes, lengths at multiples of 16.
ALIGNED = (*TENSORS, "max_model_len", "capacity", "table_stride", "out_stride")


def descriptor(dtype: str, shape: list[int], swizzle: int, bits: int) -> str:
    """The type of a tensor descriptor's argument."""
    return f"tensordesc<{dtype}{shape},{gl.NVMMASharedLayout(swizzle, bits, len(shape))!r}>"


def compiled(variant: str, kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> None:
    """Print one line."""
    names = list(kernel.arg_names)
    options = {name: constants[name] for name in ("num_warps", "maxnreg", "launch_pdl") if name in constants}
    fixed = {name: value for name, value in constants.items() if name in names}
    known = TENSORS | types
    signature = {name: "constexpr" if name in fixed else known.get(name, "i32") for name in names}
    divisible = {(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED if name in names}
    source = GluonASTSource(kernel, signature, fixed, divisible)
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(done.asm["cubin"])
        file.flush()
        asked = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    stack = re.search(r"STACK:(\d+)", asked.stdout)
    line = {
        "variant": variant,
        "local": int(stack[1]) if stack else None,
        "fp8": len(re.findall(r"wgmma\.mma_async\S*\.e4m3\.e4m3", done.asm["ptx"])),
    }
    sys.stdout.write(json.dumps(line) + "\n")


def main() -> None:
    """Compile what layouts launch."""
    shared = {"DIM": 128, "BLOCK": 64, "FILL": 512, "PROGRAMS": 132}
    for heads, next_n, tiles, clean in product((32, 64), (1, 2), (False, True), (False, True)):
        columns = heads * next_n
        types = {
            "q_desc": descriptor("fp8e4nv", [columns, 128], 128, 8),
            "weights_desc": descriptor("fp32", [1, columns], 0, 32),
            "keys_desc": descriptor("fp8e4nv", [1, 8, 4, 256] if tiles else [1, 64, 128], 0 if tiles else 128, 8),
            "scales_desc": descriptor("fp32", [1, 64], 0, 32),
        }
        constants = sm90._LOGITS | shared | {"ROWS": next_n, "HEADS": heads, "BATCH": 128, "STAGES": sm90._PAGES}
        constants |= {"LEVELS": sm90._levels(heads), "TILES": tiles, "CLEAN": clean}
        variant = f"logits, {heads} heads, next_n {next_n}, {'tiles' if tiles else 'flat'}, clean {clean}"
        compiled(variant, logits_kernel, types, constants)
    for heads, clean in product((32, 64, 128), (False, True)):
        types = {
            "q_desc": descriptor("fp8e4nv", [256, 128], 128, 8),
            "weights_desc": descriptor("fp32", [256], 0, 32),
            "keys_desc": descriptor("fp8e4nv", [64, 128], 128, 8),
            "scales_desc": descriptor("fp32", [64], 0, 32),
        }
        constants = sm90._RAGGED | shared | {"ROWS": 256 // heads, "HEADS": heads, "STAGES": sm90._BLOCKS}
        constants |= {"LEVELS": sm90._levels(heads), "CHUNK": 2048, "CLEAN": clean}
        compiled(f"ragged, {heads} heads, clean {clean}", ragged_kernel, types, constants)


if __name__ == "__main__":
    main()
