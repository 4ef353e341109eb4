"""Measure which of aiter's real indexer kernels compile, and write `compiles.json` beside this file.

    pip install --no-deps --target /somewhere/triton-3.6.0 triton==3.6.0    # one folder for each Triton
    python -m tests.real_aiter.measure_compiles --aiter-checkout /path/to/aiter /somewhere/triton-*

Needs torch and Triton, and no GPU: Triton's own LLVM emits AMD code on any machine. For each commit and arch the real
`deepgemm_fp8_paged_mqa_logits` is called with tensors on the CPU, so that signature, constants and options are
aiter's own; only the launch is left out. A call that aiter's own checks refuse never reaches the compiler and leaves
no record.
Triton 3.4 and older want an external linker, so there the step after the machine code is left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import triton
from triton.backends import backends
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from .checkout import Checkout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.connection import Connection

COMMITS = (
    "fe927e8d",
    "914dcee3",
    "9715eeccee",
    "a8eb62f5",
    "10c87ea1",
    "a1bdcec9",
    "a6bb4993",
    "3b2e6f48",
    "861b4c93",
    "04907edc",
)
ARCHS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1200", "gfx1250")
RDNA = ("gfx11", "gfx120")
PAGES = (16, 32, 64, 128, 256, 512)
HEADS, OTHER_HEADS = 64, 32  # of the indexers of DeepSeek-V3.2 and of GLM-5
OUTPUT = Path(__file__).with_name("compiles.json")
SOURCES = re.compile(
    r"aiter/(utility|ops/triton/(attention|_triton_kernels|gluon|utils))/.*\.py"
    r"|aiter/ops/triton/pa_mqa_logits\.py|csrc/include/aiter_enum\.h"
)
LOGITS = ("aiter/ops/triton/attention/pa_mqa_logits.py", "aiter/ops/triton/pa_mqa_logits.py")


class Call(NamedTuple):
    """One call to measure: which kernel it must reach, the page size and the number of index heads."""

    kernel: str
    page: int
    heads: int


CALLS = (
    *(Call("preshuffle", page, HEADS) for page in PAGES),
    Call("preshuffle", 64, OTHER_HEADS),
    *(Call("base", 1, heads) for heads in (HEADS, OTHER_HEADS)),
    *(Call("plain", page, heads) for page in (1, 64) for heads in (HEADS, OTHER_HEADS)),
)


class CompiledInsteadOfLaunched(Exception):  # noqa: N818 - what was asked for, not an error
    """Raised where the launch would be."""


def lay_out(checkout: Checkout, root: Path) -> None:
    """Write aiter's Triton sources below `root`; Triton reads the text of a kernel from its file."""
    for path in filter(SOURCES.match, checkout.paths()):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(str(checkout.text(path)))


def import_logits(root: Path, arch: str) -> Any:
    """The real logits module for a GPU of `arch`, without aiter's packages, which would build its C++ code."""
    for name in ("aiter", "aiter.jit", "aiter.jit.utils", "aiter.ops", "aiter.ops.triton", "aiter.utility"):
        sys.modules[name] = package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
    stubs: dict[str, dict[str, Any]] = {
        "aiter.jit.utils.chip_info": {
            "get_gfx": lambda: arch,
            "get_gfx_runtime": lambda: arch,
            "get_cu_num": lambda: 80,
        },
        "aiter.jit.core": {"compile_ops": lambda *_: lambda function: function},
        "aiter.ops.enum": {"QuantType": int, "ActivationType": int},
    }
    for name, values in stubs.items():
        sys.modules[name] = module = types.ModuleType(name)
        vars(module).update(values)
    vars(sys.modules["aiter"])["dtypes"] = importlib.import_module("aiter.utility.dtypes")
    path = next(path for path in LOGITS if (root / path).is_file())
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def pretend(arch: str) -> None:
    """Make Triton believe that a GPU of `arch` is there, and end every launch once the compiler has finished."""
    target = GPUTarget("hip", arch, 64 if arch.startswith("gfx9") else 32)
    driver.set_active(
        types.SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: 0,
            get_current_stream=lambda _device: 0,
        )
    )
    compiler = backends["amd"].compiler
    if hasattr(compiler, "path_to_rocm_lld"):
        compiler.make_hsaco = staticmethod(lambda *_: b"")
    run = JITFunction.run

    def compile_only(self: object, *args: Any, warmup: bool, **kwargs: Any) -> Any:  # noqa: ARG001
        run(self, *args, warmup=True, **kwargs)
        raise CompiledInsteadOfLaunched

    def no_launch(_self: object, _grid: object) -> Any:
        raise CompiledInsteadOfLaunched

    JITFunction.run = compile_only
    CompiledKernel.__getitem__ = no_launch


def invoke(module: Any, arch: str, call: Call) -> None:
    """Call aiter's function as an engine does."""
    fp8 = torch.float8_e4m3fnuz if arch == "gfx942" else torch.float8_e4m3fn
    batch, next_n, dim, length = 3, 1, 128, 4096
    module.deepgemm_fp8_paged_mqa_logits(
        torch.zeros((batch, next_n, call.heads, dim), dtype=torch.uint8).view(fp8),
        torch.zeros((4, call.page, 1, dim + 4), dtype=torch.uint8),
        torch.zeros((batch * next_n, call.heads)),
        torch.zeros((batch * next_n, length)),
        torch.zeros(batch, dtype=torch.int32),
        torch.zeros((batch, length // call.page), dtype=torch.int32),
        length,
        Preshuffle=call.kernel == "preshuffle",
        KVBlockSize=call.page,
    )


def outcome(root: Path, arch: str, call: Call, log: Path) -> str | None:
    """`ok`, the error, or None where aiter's own checks refuse the call or send it to another kernel."""
    try:
        module = import_logits(root, arch)
    except AssertionError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever the import meets is the measurement
        return f"import: {describe(error, log)}"
    reached = "base" if module.enable_gluon_pa_mqa_logits else "plain"
    if call.kernel not in {"preshuffle", reached}:
        return None
    try:
        invoke(module, arch, call)
    except CompiledInsteadOfLaunched:
        return "ok"
    except Exception as error:  # noqa: BLE001 - whatever the compiler meets is the measurement
        triton_at = Path(triton.__file__).parent
        files = {Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)}
        return describe(error, log) if any(triton_at in file.parents for file in files) else None
    raise RuntimeError("the call came back: a launch was not stopped")


def describe(error: Exception, log: Path) -> str:
    """One line: the compiler's own first error where it printed one, else the last line of the exception's cause."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    printed = [line.split("error: ", 1)[1] for line in log.read_text().splitlines() if "error: " in line]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {[*printed[:1], *lines[-1:], ''][0]}"[:200]


def measure_calls(root: Path, arch: str, calls: Iterable[Call], results: Connection) -> None:
    """Send the outcome of each call; runs in a process of its own, as LLVM may abort."""
    pretend(arch)
    for call in calls:
        for name in [name for name in sys.modules if name.split(".")[0] == "aiter"]:
            del sys.modules[name]
        with tempfile.NamedTemporaryFile() as log:
            os.dup2(log.fileno(), 2)  # MLIR prints to the descriptor, past sys.stderr
            results.send(outcome(root, arch, call, Path(log.name)))
    results.close()


def measure_arch(root: Path, arch: str) -> Iterator[tuple[Call, str | None]]:
    """Every call for one commit and arch."""
    todo = list(CALLS)
    if arch.startswith(RDNA):
        # The plain kernel takes LLVM up to a minute there, and with Triton 3.5 more than four.
        pages = {1} if triton.__version__.startswith("3.5.") else {1, 64}
        todo = [Call("plain", page, HEADS) for page in sorted(pages)]
    while todo:
        receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=measure_calls, args=(root, arch, todo, send))
        child.start()
        send.close()
        try:
            while todo:
                result = receive.recv()
                yield todo.pop(0), result
        except EOFError:
            child.join()
            if child.exitcode is None or child.exitcode >= 0:
                raise
            yield todo.pop(0), f"crash: {signal.Signals(-child.exitcode).name}"
        child.join()


def measure_triton(git: Path, commits: Iterable[str]) -> None:
    """Print the rows of the Triton on this process's path, one JSON list a line."""
    for commit in commits:
        with tempfile.TemporaryDirectory() as folder:
            lay_out(Checkout(git, commit), Path(folder))
            for arch in ARCHS:
                for call, result in measure_arch(Path(folder), arch):
                    if result is not None:
                        print(json.dumps([commit, triton.__version__, arch, *call, result]), flush=True)  # noqa: T201


def group_rows(rows: Iterable[list[Any]]) -> Iterator[dict[str, Any]]:
    """One record for all calls of a commit, arch and kernel that ended alike on the same versions of Triton."""
    alike: dict[tuple[str, str, str, str], dict[str, list[tuple[int, int]]]] = {}
    for commit, version, arch, kernel, page, heads, result in rows:
        alike.setdefault((commit, arch, kernel, result), {}).setdefault(version, []).append((page, heads))
    for (commit, arch, kernel, result), versions in alike.items():
        for calls in dict.fromkeys(map(tuple, versions.values())):
            same = [version for version, found in versions.items() if tuple(found) == calls]
            record = {"commit": commit, "arch": arch, "kernel": kernel, "triton": same, "calls": calls}
            yield {**record, "result": result}


def main() -> None:
    """Measure every Triton folder in its own process and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aiter-checkout", type=Path, required=True)
    parser.add_argument("--commits", nargs="+", default=COMMITS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("triton", type=Path, nargs="*", help="folders made by pip install --target")
    args = parser.parse_args()
    if not args.triton:
        measure_triton(args.aiter_checkout, args.commits)
        return
    measured: list[list[Any]] = []
    for folder in args.triton:
        command = [sys.executable, "-m", "tests.real_aiter.measure_compiles"]
        command += ["--aiter-checkout", str(args.aiter_checkout), "--commits", *args.commits]
        # The escape lets a Triton below the gluon minimum reach the compiler: whether it may is the gates' business.
        # The linker of Triton 3.4 and older is asked for its version only.
        env = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "AITER_USE_SYSTEM_TRITON": "1",
            "TRITON_HIP_LLD_PATH": sys.executable,
        }
        ran = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE)
        measured += map(json.loads, ran.stdout.splitlines())
    measured.sort(key=lambda row: (args.commits.index(row[0]), ARCHS.index(row[2]), row[3]))
    args.output.write_text("[\n" + ",\n".join(map(json.dumps, group_rows(measured))) + "\n]\n")


if __name__ == "__main__":
    main()
