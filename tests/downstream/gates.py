"""The engines' own gates, executed from their wheels for an imagined machine."""

from __future__ import annotations

import functools
import io
import os
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.downstream.wheels import Sandbox, take

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nsa_caps.capabilities.records import Platform
    from tests.downstream.wheels import Wheel

GATE = "aiter_can_use_preshuffle_paged_mqa"
UTILS = ("sglang.srt.layers.attention.dsa.utils", "sglang.srt.layers.attention.nsa.utils")
COMMON, ENVIRON = "sglang.srt.utils.common", "sglang.srt.environ"
VLLM_BACKEND = "vllm.v1.attention.backends.mla.indexer"


def home_of_gate(wheel: Wheel) -> str:
    """Return the module of SGLang's that defines the gate."""
    return next(module for module in UTILS if module in wheel.modules() and f"def {GATE}" in wheel.source(module))


def sglang_tiles(wheel: Wheel, folder: Path) -> Callable[[Platform, str | None, Mapping[str, str]], bool]:
    """Return SGLang's own gate as a function of platform, Triton's version and environment.

    Its Triton and its torch are stand-ins; the functions that it calls, and its registry of variables, are its own,
    the latter written below a folder.
    """
    environ: dict[str, str] = {}
    system = SimpleNamespace(environ=environ, getenv=environ.get, path=os.path)
    torch, triton = SimpleNamespace(version=SimpleNamespace(hip=None)), SimpleNamespace(__version__="")
    logger = SimpleNamespace(warning=lambda *_: None)
    given = {"os": system, "torch": torch, "logger": logger}
    common = take(wheel.source(COMMON), ["_warned_bool_env_var_keys", "get_bool_env_var"], {**given, "Set": set})
    is_hip = take(wheel.source(COMMON), ["is_hip"], {**given, "lru_cache": lambda **_: lambda function: function})
    registry = _environ(wheel, system, folder)
    gate = take(
        wheel.source(home_of_gate(wheel)),
        [GATE],
        {
            **common,
            **is_hip,
            "triton": triton,
            "envs": registry,
            "lru_cache": lambda **_: lambda function: function,
        },
    )[GATE]

    def says(platform: Platform, version: str | None, variables: Mapping[str, str]) -> bool:
        environ.clear()
        environ.update(variables)
        torch.version.hip = "7.0" if platform == "rocm" else None
        triton.__version__ = version or ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer: bool = gate()
        return answer

    return says


def _environ(wheel: Wheel, system: SimpleNamespace, folder: Path) -> Any:
    """Return SGLang's registry of variables, reading the system given."""
    # It rewrites deprecated variables of this process when it is imported, and says so.
    kept = dict(os.environ)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Sandbox(wheel, folder, {ENVIRON}, {}).load(ENVIRON)
    os.environ.clear()
    os.environ.update(kept)
    vars(module)["os"] = system
    return vars(module)["envs"]


def vllm_supports(wheel: Wheel) -> Callable[[Platform, int], bool]:
    """Return vLLM's own test of a kernel block size, by platform, for its indexer of DeepSeek-V3.2 and GLM-5."""
    multiple = take(
        wheel.source("vllm.v1.attention.backend"), ["MultipleOf"], {"dataclass": dataclass, "__name__": __name__}
    )["MultipleOf"]
    platform_now = SimpleNamespace(name="")
    sizes = take(
        wheel.source(VLLM_BACKEND),
        ["DeepseekV32IndexerBackend.get_supported_kernel_block_sizes"],
        {"MultipleOf": multiple, "current_platform": SimpleNamespace(is_rocm=lambda: platform_now.name == "rocm")},
    )["get_supported_kernel_block_sizes"]
    supported = _block_size_test(wheel, multiple)
    backend = SimpleNamespace(get_supported_kernel_block_sizes=sizes)

    @functools.cache
    def says(platform: Platform, block_size: int) -> bool:
        platform_now.name = platform
        return supported(backend, block_size)

    return says


def _block_size_test(wheel: Wheel, multiple: type) -> Callable[[Any, int], bool]:
    source, name = wheel.source("vllm.v1.worker.utils"), "_block_size_is_supported"
    if f"\ndef {name}(" in source:
        test = take(source, [name], {"MultipleOf": multiple})[name]
        return lambda backend, size: test([backend], size, [None])
    # 0.30.0 has it within the function that picks a size, which refuses where no backend takes one.
    pick = take(source, ["select_common_block_size"], {"MultipleOf": multiple})["select_common_block_size"]

    def picks(backend: Any, size: int) -> bool:
        try:
            answer: bool = pick(size, [backend]) == size
        except ValueError:
            return False
        return answer

    return picks
