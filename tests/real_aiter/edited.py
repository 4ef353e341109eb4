"""A commit of aiter with small edits, and what its own code then does: the truth that the reader is held against."""

from __future__ import annotations

import inspect
import sys
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import gates, stand_ins
from .checkout import Checkout
from .gates import LOGITS, Call, Outcome, RealMachine
from .sandbox import Sandbox
from .stand_ins import Launched, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CALLS = {"aiter-preshuffle": Call(True, 64), "aiter-flat": Call(False, 64), "aiter-token": Call(False, 1)}
CACHE = "aiter/ops/cache.py"


@dataclass(frozen=True)
class Edited(Checkout):
    """A commit of which some files have another text, or are gone (None)."""

    files: tuple[tuple[str, str | None], ...] = ()

    def paths(self) -> frozenset[str]:
        """Every file of this commit, after the edits."""
        edits = dict(self.files)
        gone = {f"aiter/{name}" for name, text in edits.items() if text is None}
        return (super().paths() | {f"aiter/{name}" for name in edits}) - gone

    def text(self, path: str) -> str | None:
        """The file after the edits."""
        edits = dict(self.files)
        name = path.removeprefix("aiter/")
        return edits[name] if name in edits else super().text(path)


def edited(git: Path, commit: str, edits: tuple[tuple[str, str, str], ...]) -> Edited:
    """Replace pieces of text: (file, old, new), once each; `*` is the whole file, and nothing new takes it away."""
    base = Checkout(git, commit)
    files: dict[str, str | None] = {}
    for name, old, new in edits:
        text = files[name] if name in files else base.text(f"aiter/{name}")
        if old == "*":
            files[name] = new or None
        else:
            assert text is not None, name
            assert text.count(old) >= 1, f"{name} of {commit} has no {old!r}"
            files[name] = text.replace(old, new, 1)
    return Edited(git, commit, tuple(files.items()))


def truth(checkout: Checkout, machine: RealMachine) -> dict[str, str]:
    """What becomes of each row's call: `runs`, or what keeps it from that."""
    sandbox = Sandbox(checkout, machine)
    try:
        sandbox.load("aiter")
        module = sandbox.load(next(filter(sandbox.is_module, LOGITS), LOGITS[0]))
        logits = vars(module)["deepgemm_fp8_paged_mqa_logits"]
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the answer
        return dict.fromkeys(CALLS, f"{type(error).__name__} at import: {error}")
    found = {row: _called(logits, machine, call) for row, call in CALLS.items()}
    cache = cache_kernels(checkout)
    if cache != "runs":
        found["aiter-preshuffle"] = cache
    return found


def _called(logits: Any, machine: RealMachine, call: Call) -> str:
    try:
        logits(
            Tensor((3, 1, call.heads, 128), "fp8"),
            Tensor((8, call.page_size, 1, 132), "uint8"),
            Tensor((3, call.heads), "float32"),
            Tensor((3, 4096), "float32"),
            Tensor((3,), "int32"),
            Tensor((3, 8), "int32"),
            4096,
            Preshuffle=call.preshuffle,
            KVBlockSize=call.page_size,
        )
    except Launched as launched:
        found: Outcome = gates.judge(launched, machine, call)
        kind = found.kind
        if kind == "runs" and launched.how != "plain" and ("preshuffle" in launched.name) != call.preshuffle:
            return f"wrong: launches {launched.name}"
        if kind == "runs" and launched.how == "plain" and call.page_size > 1 and launched.page != call.page_size:
            return f"wrong: the plain kernel gets pages of {launched.page}"
        return kind if kind == "runs" else f"{kind}: {found.message}"
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the answer
        return f"{type(error).__name__}: {error}"
    return "returned without a launch"


def cache_kernels(checkout: Checkout) -> str:
    """Whether both cache kernels of `ops/cache.py` take `preshuffle=True` and build what they are named."""
    text = checkout.text(CACHE)
    if text is None:
        return "no ops/cache.py"
    names = ("indexer_k_quant_and_cache", "cp_gather_indexer_k_quant_cache")
    built: dict[str, str] = {}

    def compile_ops(module: str, fc_name: str | None = None, **_: Any) -> Any:
        def decorate(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> str:
                inspect.signature(function).bind(*args, **kwargs)
                return f"{module}.{fc_name or function.__name__}"

            built[function.__name__] = f"{module}.{fc_name or function.__name__}"
            call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
            return call

        return decorate

    core = types.ModuleType("core")
    core.compile_ops = compile_ops  # type: ignore[attr-defined]
    torch = stand_ins.StandIn("torch")
    names_of: Mapping[str, Any] = {"torch": torch, "core": core}

    def import_(name: str, *_: Any, **__: Any) -> Any:
        return names_of["core" if name.endswith("core") else "torch"] if name not in sys.modules else sys.modules[name]

    scope: dict[str, Any] = {
        "__name__": "aiter.ops.cache",
        "__builtins__": {**vars(__import__("builtins")), "__import__": import_},
    }
    try:
        exec(compile(text, CACHE, "exec", dont_inherit=True), scope)  # noqa: S102 - the code under examination
        for name in names:
            made = scope[name](*[None] * 5, preshuffle=True)
            if made != f"module_cache.{name}":
                return f"wrong: {name} builds {made}"
            if inspect.signature(scope[name]).parameters["preshuffle"].default is not False:
                return f"wrong: {name} tiles by default"
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the answer
        return f"{type(error).__name__}: {error}"
    return "runs"
