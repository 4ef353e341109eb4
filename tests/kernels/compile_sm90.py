"""Compile the kernels for Hopper; run by `test_sm90.py`, as a process of its own without Triton's interpreter.

prints one JSON object a variant: `{"variant": ..., "local": bytes of local memory a thread, "fp8": products of fp8}`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource

from nsa_caps.kernels.portable import sm90
from nsa_caps.pages import Order, PageFormat

TENSORS = {"starts": "*i32", "ends": "*i32", "context_lens": "*i32", "page_table": "*i32", "out": "*fp32"}
# As the launcher finds them: tensors at multiples of 16 bytes, lengths at multiples of 16.
ALIGNED = (*TENSORS, "max_model_len", "capacity", "table_stride", "out_stride")


def described(one: Any) -> str:
    """The type of a descriptor's argument."""
    dtype = "fp32" if one.dtype == torch.float32 else "fp8e4nv"
    return f"tensordesc<{dtype}{list(one.fields['block_shape'])},{one.fields['layout']!r}>"


def compiled(variant: str, launch: Any) -> None:
    """Print one line."""
    kernel, constants = launch.kernel, launch.constants
    names = list(kernel.arg_names)
    options = {name: constants[name] for name in ("num_warps", "maxnreg", "launch_pdl") if name in constants}
    fixed = {name: value for name, value in constants.items() if name in names}
    types = TENSORS | dict(zip(names, map(described, launch.described), strict=False))
    signature = {name: "constexpr" if name in fixed else types.get(name, "i32") for name in names}
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
    """Compile what layouts launch, on tensors of any size: the copy engine is asked for nothing."""
    fp8 = torch.float8_e4m3fn
    for heads, next_n, order, clean in product((32, 64), (1, 2), get_args(Order), (False, True)):
        fmt = PageFormat(page_size=64, order=order)
        q = torch.empty(4, next_n, heads, 128, dtype=fp8)
        pages = torch.empty(16, fmt.page_bytes, dtype=torch.uint8)
        table = torch.empty(4, 16, dtype=torch.int32)
        launch = sm90.plan_logits(q, pages, table, 1024, 1024, fmt, programs=132, clean=clean)
        compiled(f"logits, {heads} heads, next_n {next_n}, {order}, clean {clean}", launch)
    for heads, clean in product((32, 64, 128), (False, True)):
        q, keys = torch.empty(64, heads, 128, dtype=fp8), torch.empty(32768, 128, dtype=fp8)
        launch = sm90.plan_ragged(q, keys, 32768, programs=132, clean=clean)
        compiled(f"ragged, {heads} heads, clean {clean}", launch)


if __name__ == "__main__":
    main()
