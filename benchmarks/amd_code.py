"""What AMD's GPUs would run: registers, spills, LDS, matrix instructions and wide loads of every portable kernel.

    python benchmarks/amd_code.py [gfx942 ...]

prints a table from the assembly that Triton compiles, on a machine without a GPU: the nearest to a measurement that
can be had there. As the launcher has them: pages of 64 in the GPU's own dialect, 64 heads, tensors at multiples of
16 bytes.
"""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nsa_caps.archs import dialect_of
from nsa_caps.kernels.portable.logits import _logits_kernel
from nsa_caps.kernels.portable.ragged_logits import _ragged_kernel
from nsa_caps.kernels.portable.store_gather_kernels import gather_kernel, quantise_kernel, store_kernel
from nsa_caps.kernels.portable.tuning import tuning_of

TARGETS = ("gfx942", "gfx950", "gfx1100", "gfx1201")
TENSORS = {
    **dict.fromkeys(("q", "cache"), "*u8"),
    **dict.fromkeys(("weights", "scales", "out"), "*fp32"),
    **dict.fromkeys(("context_lens", "page_table", "cu_seq_lens", "starts", "ends"), "*i32"),
    "slots": "*i64",
    "keys": "*u8",
}
NUMBERS = ("max_model_len", "capacity", "table_stride", "out_stride")
PAGES = {"PAGE_SIZE": 64, "WORDS": 32, "PACKED": False, "ALIGN": 4, "BLOCK": 32}
SCORES = {"DIM": 128, "HEADS": 64, "COLUMNS": 64, "FILL": 1024}
PAGED = {"PAGE_STRIDE": 64 * 132, "PAGE_SIZE": 64, "PACKED": False, "BATCH": 64, "LEAST": 4}
STORE_WARPS = 2


class Code(NamedTuple):
    """What one kernel became.

    Attributes:
        target: the GPU.
        kernel: which, and in what form.
        registers: vector registers a thread.
        spills: registers that had no room, vector and scalar.
        lds: bytes of a workgroup's shared memory.
        matrix: the matrix instructions that it has, each once.
        wide: loads of 16 bytes from memory.
        loads: all loads from memory.
    """

    target: str
    kernel: str
    registers: int
    spills: int
    lds: int
    matrix: tuple[str, ...]
    wide: int
    loads: int


def kernels(target: str) -> dict[str, tuple[Any, dict[str, Any], dict[str, str]]]:
    """Every kernel with its constants and options, and the types that differ from `TENSORS`."""
    dialect = dialect_of(target)
    fnuz = {"FNUZ": dialect == "e4m3fnuz"}
    tuning = tuning_of(target, 1, dialect, 128)
    scores = SCORES | fnuz | tuning.sum_arguments(64) | tuning.launch_options()
    scores |= {"FP8_DOT": tuning.fp8_dot, "BLOCK": tuning.block, "STAGES": tuning.stages}
    quantise = fnuz | {"ROUND": True, "HARDWARE": False, "KEY_ALIGN": 8}
    found: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {}
    for order, tiles in (("flat", {"TILES": False}), ("tiles", {"TILES": True})):
        found |= {
            f"gather, {order}": (gather_kernel, PAGES | tiles | {"SEARCH": True}, {}),
            f"store, {order}": (store_kernel, PAGES | tiles | {"num_warps": STORE_WARPS}, {}),
            f"quantise, {order}": (quantise_kernel, PAGES | tiles | quantise, {"keys": "*bf16"}),
        }
        for next_n in (1, 2):
            constants = scores | PAGED | tiles | {"NEXT_N": next_n, "ROWS": next_n, "CLEAN": True}
            found[f"logits, {order}, next_n {next_n}"] = (_logits_kernel, constants, {})
    found["ragged_logits"] = (_ragged_kernel, scores | {"ROWS": 2, "CHUNK": 4096, "WORDS": True, "CLEAN": False}, {})
    return found


def compiled(target: str, name: str, kernel: Any, constants: dict[str, Any], types: dict[str, str]) -> Code:
    """Compile one kernel, and read its assembly."""
    names = kernel.arg_names
    options = {each: constants[each] for each in ("num_warps", "num_stages") if each in constants}
    constants = {each: value for each, value in constants.items() if each in names}
    known = TENSORS | types
    signature = {each: "constexpr" if each in constants else known.get(each, "i32") for each in names}
    aligned = [
        index for index, each in enumerate(names) if each in NUMBERS or (each in known and each not in constants)
    ]
    attributes = {(index,): [["tt.divisibility", 16]] for index in aligned}
    fixed = {(names.index(each),): value for each, value in constants.items()}
    gpu = GPUTarget("hip", target, 64 if target.startswith("gfx9") else 32)
    done = triton.compile(ASTSource(kernel, signature, fixed, attributes), target=gpu, options=options)
    text = done.asm["amdgcn"]

    def number(field: str) -> int:
        return int(re.search(rf"\.{field}:\s+(\d+)", text)[1])  # type: ignore[index] # the assembler writes each

    loads = re.findall(r"^\s+(?:global|buffer)_load_(\S+)", text, re.MULTILINE)
    return Code(
        target=target,
        kernel=name,
        registers=number("vgpr_count"),
        spills=number("vgpr_spill_count") + number("sgpr_spill_count"),
        lds=done.metadata.shared,
        matrix=tuple(sorted(set(re.findall(r"^\s+(v_(?:s?mfmac?|s?wmmac?)_\S+)", text, re.MULTILINE)))),
        wide=sum(load.removeprefix("lds_") in ("dwordx4", "b128") for load in loads),
        loads=len(loads),
    )


def main() -> None:
    """Print the table."""
    print(f"Triton {triton.__version__}.\n")
    print("| GPU | kernel | registers | spilled | LDS, bytes | matrix instruction | loads of 16 bytes, of all |")
    print("|---|---|---|---|---|---|---|")
    for target in sys.argv[1:] or TARGETS:
        for name, (kernel, constants, types) in kernels(target).items():
            code = compiled(target, name, kernel, constants, types)
            matrix = ", ".join(f"`{each}`" for each in code.matrix) or "-"
            print(
                f"| {target} | {name} | {code.registers} | {code.spills} | {code.lds:,} | {matrix} | "
                f"{code.wide} of {code.loads} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
