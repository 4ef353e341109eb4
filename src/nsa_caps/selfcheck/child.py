"""The process that runs a row's kernels: one task from stdin, what comes of it on a pipe of its own.

Whatever kernels, compilers and drivers print goes to stderr and is last words; it never mixes with the answer, whose
lines begin with a token that only this run has.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import resource
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nsa_caps.pages import PageFormat
from nsa_caps.selfcheck.check import causes_of, self_check
from nsa_caps.selfcheck.records import RowKernels, SelfCheck

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROUNDS", "main"]

# How often each step is done: output that is right at every second call only is found.
ROUNDS = 3
# Beyond the limit that the parent holds: should it be gone, this process ends all the same.
_GRACE = 10
# What a device says that others use, or that is not there, and the check where there is no room for it.
_OF_THIS_MOMENT = ("out of memory", "outofmemory", "busy or unavailable", "opening the device", "not checked:")
# Of torch the file that names its build: what else it has loaded are thousands of files.
_NAMED_BY = {"torch": ("version.py",)}


@dataclass(frozen=True, slots=True)
class _Line:
    """The pipe to the parent."""

    pipe: int
    token: str

    def send(self, kind: str, said: Any) -> None:
        """Send one line of the answer."""
        line = f"\n{self.token} {kind} {json.dumps(said)}\n".encode()
        while line:
            line = line[os.write(self.pipe, line) :]

    def begin(self, step: str) -> None:
        """Say what is done next, so that the parent knows it if nothing more comes."""
        self.send("step", step)


def main(pipe: int, task: Mapping[str, Any]) -> None:
    """Do the task, answer, and end without a word from anyone: teardown is not what is asked about.

    Args:
        pipe: the file descriptor that answers go to.
        task: what `proof` sends.
    """
    _settle_down(pipe, task["limit"])
    line = _Line(pipe, task["token"])
    check, transient, timings = _check(task, line)
    # Again: a first call may have loaded more.
    line.send("files", {name: _loaded(name) for name in task["packages"]})
    line.send(
        "done", {"check": check.to_dict(), "arch": _arch(task["device"]), "transient": transient, "timings": timings}
    )
    os._exit(0)


def _settle_down(pipe: int, limit: float) -> None:
    """Keep what others print apart, tell where a crash happened, leave no dump, and end in any case."""
    os.set_inheritable(pipe, False)
    os.dup2(2, 1)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(limit) + _GRACE)


def _check(task: Mapping[str, Any], line: _Line) -> tuple[SelfCheck, bool, list[tuple[str, float]]]:
    """Return the verdict, whether it is of this moment rather than of the row, and what calls cost if that is asked."""
    fmt = PageFormat.from_dict(task["format"])
    line.begin("importing torch")
    try:
        import_module("torch")
        line.begin("loading the kernels")
        kernels = _load(task)
    # Whatever an import of torch, Triton, aiter or DeepGEMM raises: ImportError, RuntimeError, KeyError, OSError.
    except Exception as error:  # noqa: BLE001 the verdict carries it
        reasons = (f"loading its kernels: {causes_of(error)}",)
        check = SelfCheck(row=task["row"], verdict="cannot-run", format=fmt, device=None, versions={}, reasons=reasons)
        return check, False, []
    line.send("files", {name: _loaded(name) for name in task["packages"]})
    check = self_check(kernels, fmt, task["device"], heads=task["heads"], rounds=ROUNDS, begin=line.begin)
    said = " ".join(check.reasons).lower()
    transient = check.verdict == "cannot-run" and any(word in said for word in _OF_THIS_MOMENT)
    if check.verdict != "proven" or not task["measure"]:
        return check, transient, []
    from nsa_caps.selfcheck.timing import time_calls  # noqa: PLC0415 imports torch

    return check, transient, time_calls(kernels, fmt, task["device"], task["heads"], line.begin)


def _load(task: Mapping[str, Any]) -> RowKernels:
    kernels, scorer = import_module(task["kernels"]), import_module(task["logits_kernels"])
    return RowKernels(
        task["row"],
        kernels.store,
        kernels.gather,
        kernels.quantise_and_store,
        scorer.logits,
        task["options"],
        getattr(scorer, "ragged_logits", None),
    )


def _arch(device: str) -> str | None:
    """Return the arch of the device as torch tells it, such as `gfx942` or `sm_90`; None without a GPU."""
    import torch  # noqa: PLC0415 costs seconds, and the first to ask for it is told of its failure

    with contextlib.suppress(Exception):
        found = torch.cuda.get_device_properties(device)
        name = getattr(found, "gcnArchName", None) if torch.version.hip else f"sm_{found.major}{found.minor}"
        return None if name is None else name.partition(":")[0]
    return None


def _loaded(name: str) -> list[str]:
    """Return the files of a package that this process has loaded, below the package's folder."""
    origin = getattr(sys.modules.get(name), "__file__", None)
    if origin is None:
        return []
    folder = os.path.dirname(origin)
    if name in _NAMED_BY:
        return [each for each in _NAMED_BY[name] if os.path.exists(os.path.join(folder, each))]
    modules = list(sys.modules.items())
    files = {
        file
        for module, found in modules
        if module.partition(".")[0] == name and isinstance(file := getattr(found, "__file__", None), str)
    }
    return sorted(os.path.relpath(file, folder) for file in files if os.path.isfile(file))
