"""Compile every portable kernel for the targets named; run by `test_portable_compiles.py`, as a process of its own.

Compiling needs no GPU, but not the interpreter either, which the other kernel tests ask for in their process.

    python compile_portable.py gfx942 sm_90

prints one JSON object a kernel, variant and target: `{"kernel": ..., "variant": ..., "target": ..., "error": null}`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nsa_caps.kernels.portable import store_gather_kernels

# Arguments whose tensors torch allocates at multiples of 16 bytes, as the launcher finds them.
POINTERS = {
    "cache": "*u8",
    "page_table": "*i32",
    "cu_seq_lens": "*i32",
    "slots": "*i64",
    "keys": "*u8",
    "scales": "*fp32",
}
# Flat and tiled pages, pages that straddle 16 bytes, packed scales: every branch of the kernels is in one of them.
PAGES: dict[str, dict[str, Any]] = {
    "page 1": {"PAGE_SIZE": 1, "TILES": False, "PACKED": False, "ALIGN": 1},
    "flat 64": {"PAGE_SIZE": 64, "TILES": False, "PACKED": True, "ALIGN": 4},
    "tiles 64": {"PAGE_SIZE": 64, "TILES": True, "PACKED": False, "ALIGN": 4},
}


def gpu_target(name: str) -> GPUTarget:
    """Triton's target of this name; CDNA's wavefronts have 64 lanes, RDNA's and gfx1250's 32."""
    if name.startswith("sm_"):
        return GPUTarget("cuda", int(name.removeprefix("sm_")), 32)
    return GPUTarget("hip", name, 64 if name.startswith("gfx9") else 32)


def variants(target: str) -> list[tuple[Any, str, dict[str, Any], dict[str, str]]]:
    """Kernel, variant, constants, and the types that differ from `POINTERS`."""
    found: list[tuple[Any, str, dict[str, Any], dict[str, str]]] = []
    for name, pages in PAGES.items():
        shape = pages | {"WORDS": 32, "BLOCK": 32}
        found += [
            (store_gather_kernels.gather_kernel, name, shape | {"SEARCH": name != "page 1"}, {}),
            (store_gather_kernels.store_kernel, name, shape, {}),
        ]
        for dialect in ("e4m3fn", "e4m3fnuz"):
            constants = {
                "ROUND": pages["PACKED"],
                "FNUZ": dialect == "e4m3fnuz",
                "HARDWARE": dialect == "e4m3fn" and target in ("sm_90", "sm_100"),
                "KEY_ALIGN": 8,
            }
            kernel = store_gather_kernels.quantise_kernel
            found.append((kernel, f"{name} {dialect}", shape | constants, {"keys": "*bf16"}))
    return found


def compile_for(target: str, kernel: Any, constants: dict[str, Any], types: dict[str, str]) -> str | None:
    """The first line of the compiler's error, or None."""
    names = kernel.arg_names
    known = POINTERS | types
    signature = {name: "constexpr" if name in constants else known.get(name, "i32") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in names if name in POINTERS}
    fixed = {(names.index(name),): value for name, value in constants.items()}
    options = {"enable_fp_fusion": False} if kernel is store_gather_kernels.quantise_kernel else {}
    try:
        triton.compile(ASTSource(kernel, signature, fixed, aligned), target=gpu_target(target), options=options)
    except Exception as error:  # noqa: BLE001 whatever the compiler raises is the result
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


def main() -> None:
    """Compile for the targets on the command line."""
    for target in sys.argv[1:]:
        for kernel, variant, constants, types in variants(target):
            error = compile_for(target, kernel, constants, types)
            record = {"kernel": kernel.__name__, "variant": variant, "target": target, "error": error}
            sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
