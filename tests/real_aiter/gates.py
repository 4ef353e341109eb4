"""What aiter's own code does with a call for the indexer's logits on an imagined machine: an oracle that runs aiter.

Nothing is restated here: the gates are executed from the sources of the commit (see `sandbox`), up to the launch of a
kernel. Passing them is necessary, not sufficient: whether the kernel compiles is measured, in `compiles.json`.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .checkout import Checkout
from .sandbox import Sandbox
from .stand_ins import Bundle, Launched, RealMachine, Tensor

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Bundle", "Call", "Outcome", "RealMachine", "cache_kernels_take_preshuffle", "judge", "outcome"]

LOGITS = ("aiter.ops.triton.attention.pa_mqa_logits", "aiter.ops.triton.pa_mqa_logits")
CACHE_KERNELS = frozenset({"indexer_k_quant_and_cache", "cp_gather_indexer_k_quant_cache"})


class Call(NamedTuple):
    """One call of the logits function, as an engine makes it."""

    preshuffle: bool
    page_size: int
    heads: int = 64


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    `runs`: a kernel is launched that reads the pages as they were written. `wrong`: one is launched that reads them
    otherwise, silently. `raises`: `error` and `message` say what, `stage` when: importing, or the first call.
    `how` is `gluon-jit`, `gluon-aot` or `plain`; `kernel` is its column in `compiles.json`.
    """

    kind: Literal["runs", "wrong", "raises"]
    how: str = ""
    kernel: str = ""
    stage: Literal["", "import", "call"] = ""
    error: str = ""
    message: str = ""


def outcome(git: Path, commit: str, machine: RealMachine, call: Call) -> Outcome:
    """What aiter of `commit`, in the git folder `git`, does with `call` on `machine`."""
    logits = _import(git, commit, machine)
    if isinstance(logits, Outcome):
        return logits
    pages, dim = 8, 128
    try:
        logits(
            Tensor((3, 1, call.heads, dim), "fp8"),
            Tensor((pages, call.page_size, 1, dim + 4), "uint8"),
            Tensor((3, call.heads), "float32"),
            Tensor((3, 4096), "float32"),
            Tensor((3,), "int32"),
            Tensor((3, pages), "int32"),
            4096,
            Preshuffle=call.preshuffle,
            KVBlockSize=call.page_size,
        )
    except Launched as launched:
        return judge(launched, machine, call)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return _raised("call", error)
    raise AssertionError("aiter returned without a launch")


def cache_kernels_take_preshuffle(git: Path, commit: str) -> bool:
    """Whether both cache kernels have the parameter `preshuffle`, which engines always pass (aiter#2879)."""
    tree = Checkout(git, commit).tree("aiter/ops/cache.py")
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)] if tree else []
    taking = {function.name for function in functions if "preshuffle" in {arg.arg for arg in function.args.args}}
    return taking >= CACHE_KERNELS


def judge(launched: Launched, machine: RealMachine, call: Call) -> Outcome:
    """What becomes of a call that launched: it runs, or reads otherwise than was written."""
    kernel = "plain" if launched.how == "plain" else "preshuffle" if call.preshuffle else "base"
    dialect = "float8_e4m3fnuz" if machine.arch.startswith("gfx94") else "float8_e4m3fn"
    if launched.keys == "uint8":
        # utility/dtypes.py has no fp8 for the arch; compiles.json has the same error for every Triton.
        return Outcome("raises", launched.how, kernel, "call", "CompilationError", "tl.dot of fp8 with uint8")
    misread = call.page_size > 1 and not call.preshuffle and not launched.reads_flat_pages
    kind: Literal["runs", "wrong"] = "wrong" if misread or launched.keys != dialect else "runs"
    return Outcome(kind, launched.how, kernel)


def _raised(stage: Literal["import", "call"], error: BaseException) -> Outcome:
    return Outcome("raises", stage=stage, error=type(error).__name__, message=str(error))


@functools.lru_cache(maxsize=64)
def _import(git: Path, commit: str, machine: RealMachine) -> Any:
    checkout = Checkout(git, commit)
    checkout.paths()  # an unknown commit is the caller's mistake, not an outcome
    sandbox = Sandbox(checkout, machine)
    try:
        sandbox.load("aiter")
        module = sandbox.load(next(filter(sandbox.is_module, LOGITS), LOGITS[0]))
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return _raised("import", error)
    return vars(module)["deepgemm_fp8_paged_mqa_logits"]
