"""Measure from which Triton on this library's kernels compile for each GPU, and write `floors.json` beside this file.

    pip install --no-deps --target /somewhere/triton-3.6.0 triton==3.6.0    # one folder for each Triton
    python -m tests.kernels.measure_floors /somewhere/triton-*

Needs torch, and no GPU. Every variant of `compile_portable` (store, gather, quantise) and of
`benchmarks/logits_targets.py` (logits) is compiled down to machine code with Triton's own `ptxas`: the floors of
`nsa_caps.archs` are the lowest Triton of which every later one compiles all of them. The logits variants that
multiply fp8 matrices count for `FP8_DOTS` alone: the library asks for them only where that table has the GPU.
Triton 3.4 and older want an external linker for AMD's code, so there the step after the machine code is left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton
from triton.backends import backends

from tests.kernels import compile_portable

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import logits_targets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

NVIDIA = (
    *("sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_101", "sm_103", "sm_107", "sm_110"),
    *("sm_120", "sm_121"),
)
AMD = (
    *("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1102", "gfx1103", "gfx1150", "gfx1151", "gfx1152"),
    *("gfx1153", "gfx1200", "gfx1201", "gfx1250"),
)
DIALECTS = ("e4m3fn", "e4m3fnuz")
OUTPUT = Path(__file__).with_name("floors.json")


def outcomes(target: str, results: Connection) -> None:
    """Send `[variant, error, fp8]` of everything; runs in a process of its own, as LLVM may abort."""
    # What the compiler prints goes past sys.stderr.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    for kernel, variant, constants, types in compile_portable.variants(target):
        error = compile_portable.compile_for(target, kernel, constants, types)
        results.send([f"{kernel.__name__}, {variant}", error, None])
    for variant in logits_targets.VARIANTS:
        line = logits_targets.compile_for(target, variant, fp8_dot=False)
        results.send([f"logits, {variant}", line["error"], None])
    for dialect in DIALECTS:
        line = logits_targets.compile_for(target, dialect, fp8_dot=True)
        results.send([f"logits, {dialect}", line["error"], line["fp8"]])
    results.close()


def measure_target(target: str) -> dict[str, Any]:
    """One record: how many variants compiled, the first error, and the dialects whose products are fp8 instructions."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=outcomes, args=(target, send))
    child.start()
    send.close()
    lines: list[list[Any]] = []
    try:
        while True:
            lines.append(receive.recv())
    except EOFError:
        child.join()
    if child.exitcode:
        number = child.exitcode
        name = signal.Signals(-number).name if number < 0 else f"exit {number}"
        lines.append(["the next one", f"crash: {name}", None])
    plain = [line for line in lines if line[2] is None]
    errors = [f"{variant}: {error}"[:200] for variant, error, _ in plain if error]
    return {
        "triton": triton.__version__,
        "arch": target,
        "compiled": len(plain) - len(errors),
        "failed": len(errors),
        "error": errors[0] if errors else None,
        "fp8": [dialect for dialect, line in zip(DIALECTS, lines[-2:], strict=True) if line[2]],
    }


def measure_triton(targets: list[str]) -> Iterator[dict[str, Any]]:
    """The records of the Triton on this process's path."""
    compiler = backends["amd"].compiler
    if hasattr(compiler, "path_to_rocm_lld"):
        compiler.make_hsaco = staticmethod(lambda *_: b"")
    for target in targets:
        yield measure_target(target)


def main() -> None:
    """Measure every Triton folder in its own process and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=[*NVIDIA, *AMD])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("triton", type=Path, nargs="*", help="folders made by pip install --target")
    args = parser.parse_args()
    if not args.triton:
        for record in measure_triton(args.targets):
            print(json.dumps(record), flush=True)  # noqa: T201
        return
    records: list[dict[str, Any]] = []
    for folder in args.triton:
        command = [sys.executable, "-m", "tests.kernels.measure_floors", "--targets", *args.targets]
        with tempfile.TemporaryDirectory() as cache:
            path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
            env = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
            env |= {"PYTHONPATH": path, "TRITON_CACHE_DIR": cache, "TRITON_HIP_LLD_PATH": sys.executable}
            ran = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE)
        records += map(json.loads, ran.stdout.splitlines())
    args.output.write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")


if __name__ == "__main__":
    main()
