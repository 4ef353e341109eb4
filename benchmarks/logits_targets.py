"""Compile the portable logits kernel for GPUs that need not be there; by default for all that the project names.

    python benchmarks/logits_targets.py [--fp8] [gfx942 sm_90 ...]

prints one JSON object a variant and target: the compiler's error, or null, and whether the machine code multiplies fp8
matrices. `--fp8` leaves out all variants but those that ask for it; the ones that get it are `fp8_product` in
`nsa_caps/archs.py`, for the Triton that ran. Another Triton is asked by putting it before the installed one
on PYTHONPATH. Compiling needs no GPU, but not the interpreter either: unset TRITON_INTERPRET. Before 3.5 Triton brings
no linker for AMD: TRITON_HIP_LLD_PATH must name an ld.lld.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nsa_caps.archs import ARCHS
from nsa_caps.kernels.portable.logits import _logits_kernel
from nsa_caps.kernels.portable.tuning import Tuning

TARGETS = tuple(arch.name for arch in ARCHS.values() if arch.triton is not None)
POINTERS = {
    "q": "*u8",
    "cache": "*u8",
    "weights": "*fp32",
    "context_lens": "*i32",
    "page_table": "*i32",
    "out": "*fp32",
}
# An instruction that multiplies matrices of fp8: PTX for CUDA, assembly for AMD.
FP8_INSTRUCTION = re.compile(
    r"(wgmma|mma\.sync)\S*\.e4m3\.e4m3|tcgen05\.mma\S*kind::(mxf8)?f8f6f4|v_s?w?mfmac?_\S*fp8_fp8|v_wmma_\S*fp8_fp8"
    r"|v_(wmma|mfma)_(scale_)?f32_\S*f8f6f4"
)
BASE: dict[str, Any] = {
    "PAGE_STRIDE": 64 * 132,
    "PAGE_SIZE": 64,
    "DIM": 128,
    "TILES": False,
    "FNUZ": False,
    "PACKED": False,
    "NEXT_N": 1,
    "HEADS": 64,
    "BATCH": 64,
    "ROWS": 1,
    "COLUMNS": 64,
    "BLOCK": 64,
    "LEAST": 4,
    "FILL": 1024,
    "FP8_DOT": False,
    "STAGES": 3,
    "LANES": 0,
    "LEVELS": 0,
    "CLEAN": True,
}
TWO_QUERIES = {"NEXT_N": 2, "ROWS": 2}
PAGE_1 = {"PAGE_STRIDE": 132, "PAGE_SIZE": 1}
PAGE_16 = {"PAGE_STRIDE": 16 * 132, "PAGE_SIZE": 16}
# Every branch of the kernel is in one of them. The first two are also asked for fp8.
VARIANTS: dict[str, dict[str, Any]] = {
    "e4m3fn": {},
    "e4m3fnuz": {"FNUZ": True},
    "tiles": {"TILES": True},
    "tiles, two queries": {"TILES": True, **TWO_QUERIES},
    "two queries of 32 heads, packed": {"HEADS": 32, "COLUMNS": 32, "PACKED": True, **TWO_QUERIES},
    "page 1": PAGE_1,
    "page 16": PAGE_16,
    "page 16, tiles": {"TILES": True, **PAGE_16},
    "page 128": {"PAGE_STRIDE": 128 * 132, "PAGE_SIZE": 128},
    "scores outside left as they are": {"CLEAN": False},
}


def gpu_target(name: str) -> GPUTarget:
    """Triton's target of this name; CDNA's wavefronts have 64 lanes, RDNA's and gfx1250's 32."""
    if name.startswith("sm_"):
        return GPUTarget("cuda", int(name.removeprefix("sm_")), 32)
    return GPUTarget("hip", name, 64 if name.startswith("gfx9") else 32)


def compile_for(target: str, variant: str, *, fp8_dot: bool) -> dict[str, Any]:
    """One line of the result."""
    constants = BASE | VARIANTS[variant] | {"FP8_DOT": fp8_dot}
    # Heads are added up by hand where it is known which of them lie in one thread: `tuning_for` says where.
    tuning = Tuning(programs=1, fp8_dot=fp8_dot, lanes=8 if target.startswith("sm_") else 0)
    constants |= tuning.sum_arguments(constants["COLUMNS"])
    names = _logits_kernel.arg_names
    signature = {name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in names}
    # As the launcher finds them: tensors at multiples of 16 bytes, lengths at multiples of 16.
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if name in POINTERS or name in ("max_model_len", "capacity", "table_stride", "out_stride")
    }
    fixed = {(names.index(name),): value for name, value in constants.items()}
    line = {"target": target, "variant": f"fp8 {variant}" if fp8_dot else variant, "triton": triton.__version__}
    try:
        source = ASTSource(_logits_kernel, signature, fixed, aligned)
        compiled = triton.compile(source, target=gpu_target(target), options={"num_warps": 4, "num_stages": 3})
    except Exception as error:  # noqa: BLE001 whatever the compiler raises is the result
        text = str(error).strip()
        return line | {"error": f"{type(error).__name__}: {text.splitlines()[0] if text else ''}", "fp8": False}
    code = compiled.asm["ptx" if target.startswith("sm_") else "amdgcn"]
    return line | {"error": None, "fp8": FP8_INSTRUCTION.search(code) is not None}


def main() -> None:
    """Compile for the targets on the command line."""
    names = sys.argv[1:]
    only_fp8 = "--fp8" in names
    for target in [name for name in names if name != "--fp8"] or TARGETS:
        for variant in () if only_fp8 else VARIANTS:
            print(json.dumps(compile_for(target, variant, fp8_dot=False)), flush=True)
        for variant in ("e4m3fn", "e4m3fnuz"):
            print(json.dumps(compile_for(target, variant, fp8_dot=True)), flush=True)


if __name__ == "__main__":
    main()
