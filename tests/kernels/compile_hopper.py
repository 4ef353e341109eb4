"""Compile the logits kernel for Hopper; run by ``test_logits_hopper.py``, as a process of its own.

prints one JSON object a variant: ``{"variant": ..., "error": null}``.
"""

from __future__ import annotations

import json
import sys
from itertools import product

import triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon import language as gl
from triton.experimental.gluon._runtime import GluonASTSource

from nsa_caps.kernels.portable import logits_sm90 as hopper
from nsa_caps.kernels.portable.logits_sm90_kernel import logits_kernel

# As the launcher finds them: tensors at multiples of 16 bytes, lengths at multiples of 16.
TENSORS = {"context_lens": "*i32", "page_table": "*i32", "out": "*fp32"}
ALIGNED = (*TENSORS, "max_model_len", "capacity", "table_stride", "out_stride")


def descriptor(dtype: str, shape: list[int], swizzle: int, bits: int) -> str:
    """The type of a tensor descriptor's argument."""
    return f"tensordesc<{dtype}{shape},{gl.NVMMASharedLayout(swizzle, bits, len(shape))!r}>"


def compile_variant(rows: int, *, tiles: bool, early: bool) -> None:
    """One of the kernel's variants, of 128 columns."""
    keys = ([1, 8, 4, 256], 0) if tiles else ([1, 64, 128], 128)
    types = TENSORS | {
        "q_desc": descriptor("fp8e4nv", [128, 128], 128, 8),
        "weights_desc": descriptor("fp32", [1, 128], 0, 32),
        "keys_desc": descriptor("fp8e4nv", *keys, 8),
        "scales_desc": descriptor("fp32", [1, 64], 0, 32),
    }
    constants = {
        "ROWS": rows,
        "HEADS": 128 // rows,
        "DIM": 128,
        "BLOCK": 64,
        "BATCH": 128,
        "STAGES": hopper.STAGES,
        "TILES": tiles,
        "FILL": hopper.FILL,
        "LOAD_REGISTERS": hopper.LOAD_REGISTERS,
        "SCORE_REGISTERS": hopper.SCORE_REGISTERS,
        "PROGRAMS": 132,
        "EARLY": early,
    }
    names = list(logits_kernel.arg_names)
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    divisible = {(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED}
    source = GluonASTSource(logits_kernel, signature, constants, divisible)
    triton.compile(
        source,
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": hopper.WARPS, "maxnreg": hopper.REGISTERS},
    )


def main() -> None:
    """Compile all variants."""
    for rows, tiles, early in product((1, 2, 4), (False, True), (False, True)):
        line = {"variant": f"{rows} queries, {'tiles' if tiles else 'flat'}, early {early}", "error": None}
        try:
            compile_variant(rows, tiles=tiles, early=early)
        except Exception as error:  # noqa: BLE001 whatever the compiler raises is the result
            line["error"] = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
