"""This library's kernels in the place of those that SGLang's indexer calls: each name looked up before any is replaced.

Read in 0.5.17, 0.5.21 and 0.5.23. What they call differently is looked for by its names.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from nsa_caps.engines.replacing import ABSENT, InstallError, Replacement, find, namespace, need
from nsa_caps.engines.sglang.calls import gather, store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["ACCESSORS", "cache_kernels", "indexer_kernels"]

ACCESSORS = (
    "sglang.kernels.ops.kvcache.dsa_index_k_cache",
    "sglang.kernels.ops.attention.dsa.index_buf_accessor",
    "sglang.srt.layers.attention.dsa.index_buf_accessor",
    "sglang.srt.layers.attention.nsa.index_buf_accessor",
)
"""Where GetKAndS and SetKAndS are: since 0.5.23, since 0.5.16, since 0.5.13, and in 0.5.12."""

_INDEXER = "sglang.srt.layers.attention.dsa.dsa_indexer"
_BACKEND = "sglang.srt.layers.attention.dsa_backend"
_UTILS = "sglang.srt.layers.attention.dsa.utils"
# Where `act_quant` is, since 0.5.23 and before; HIP takes the first pair's.
_TILELANG = ("sglang.kernels.ops.quantization.act_quant_tilelang", "sglang.kernels.ops.attention.dsa.tilelang_kernel")
_TRITON = ("sglang.kernels.ops.quantization.act_quant_triton", "sglang.kernels.ops.attention.dsa.triton_kernel")
_RAGGED_OF_AITER = "aiter.ops.triton.fp8_mqa_logits"


def cache_kernels(loaded: list[ModuleType], layout: IndexerLayout) -> list[Replacement]:
    """Return what puts the layout's gather and store in the place of SGLang's, and of no others' (V4 has its own)."""
    ours: tuple[tuple[str, Callable[..., object]], ...] = (("GetKAndS", gather), ("SetKAndS", store))
    return [
        Replacement(owner, "execute", vars(owner)["execute"], staticmethod(partial(function, layout=layout)))
        for module in loaded
        if module.__name__ in ACCESSORS
        for name, function in ours
        if (owner := namespace(module).get(name)) is not None and owner.__module__ == module.__name__
    ]


def indexer_kernels(layout: IndexerLayout, modules: Mapping[str, ModuleType] | None) -> list[Replacement]:
    """Return what puts all of the layout's kernels in the place of SGLang's, but the gather and the store.

    Args:
        layout: whose kernels.
        modules: the loaded modules; None: this process's, into which what is needed is imported.

    Raises:
        InstallError: SGLang has no such name; the error says which.
        ImportError: a module of SGLang's does not import.
    """
    accessor = _module(ACCESSORS, modules)
    for name in ("GetKAndS", "SetKAndS"):
        need(accessor, name)
    if layout.decision.caps.platform == "rocm":
        return [*_quantisers(layout, modules, (_TILELANG, _TRITON)), *_on_rocm(layout, modules)]
    return [*_quantisers(layout, modules, (_TRITON,)), *_on_cuda(layout, modules)]


def _module(names: tuple[str, ...], modules: Mapping[str, ModuleType] | None) -> ModuleType:
    found = find(names, modules)
    if found is None:
        raise InstallError(f"SGLang has no {' nor '.join(names)}, in which this library's kernels have their place")
    return found


def _replacing(owner: ModuleType, **ours: object) -> list[Replacement]:
    return [Replacement(owner, name, need(owner, name), value) for name, value in ours.items()]


def _quantisers(
    layout: IndexerLayout, modules: Mapping[str, ModuleType] | None, homes: tuple[tuple[str, ...], ...]
) -> list[Replacement]:
    """Put a quantiser of plain torch in the place of SGLang's: Triton casts to no fp8 below sm_89, tilelang is rare."""
    from nsa_caps.engines.scores import quantise  # noqa: PLC0415 needs torch
    from nsa_caps.kernels.arguments import fp8_dtype  # noqa: PLC0415 likewise

    def act_quant(x: object, block_size: int = 128, scale_fmt: str | None = None) -> object:
        return quantise(x, scale_fmt, fp8_dtype(layout.format), block_size)  # type: ignore[arg-type]  # a tensor

    found = []
    for names in homes:
        try:
            found += _replacing(_module(names, modules), act_quant=act_quant)
        except InstallError:
            raise
        # SGLang's own module lacks a package, such as tilelang, and would not import at the first forward either.
        except Exception:  # noqa: BLE001 whatever its import raises
            name = next(each for each in names if _is_there(each))
            found.append(_stand_in(name, act_quant=act_quant))
    return found


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # nor is the package that it would lie in
        return False


def _stand_in(name: str, **functions: object) -> Replacement:
    module = ModuleType(name, "A stand-in of nsa_caps for a module that does not import.")
    vars(module).update(functions)
    return Replacement(sys.modules, name, sys.modules.get(name, ABSENT), module)


def _on_rocm(layout: IndexerLayout, modules: Mapping[str, ModuleType] | None) -> list[Replacement]:
    from nsa_caps.engines.scores import hadamard  # noqa: PLC0415 needs torch
    from nsa_caps.engines.sglang.deep_gemm import AiterCalls  # noqa: PLC0415 likewise

    indexer, calls = _module((_INDEXER,), modules), AiterCalls(layout)
    found = _replacing(indexer, aiter_paged_mqa_logits=calls.paged)
    if need(indexer, "_use_aiter"):
        found += _replacing(indexer, indexer_k_quant_and_cache=calls.quantise_and_store)
    # Since 0.5.21: gfx950's fused kernels write and read the cache by themselves.
    for name in ("aiter_fused_fp8_writer_available", "gfx950_fused_indexer_runtime_ok"):
        if name in vars(indexer):
            found += _replacing(indexer, **{name: _no})
    if modules is None and find_spec("fast_hadamard_transform") is None:
        found += _replacing(indexer, rotate_activation=hadamard)
    return [*found, _ragged_of_aiter(calls.ragged)]


def _no() -> bool:
    return False


def _ragged_of_aiter(ragged: Callable[..., object]) -> Replacement:
    """SGLang imports aiter's prefill scores in the function that calls them; without aiter a stand-in has the name."""
    try:
        module = importlib.import_module(_RAGGED_OF_AITER)
    # Whatever an import of aiter raises.
    except Exception:  # noqa: BLE001 then there is nothing to replace
        return _stand_in(_RAGGED_OF_AITER, fp8_mqa_logits=ragged)
    return Replacement(module, "fp8_mqa_logits", getattr(module, "fp8_mqa_logits", ABSENT), ragged)


def _on_cuda(layout: IndexerLayout, modules: Mapping[str, ModuleType] | None) -> list[Replacement]:
    from nsa_caps.engines.sglang.deep_gemm import DeepGemmCalls  # noqa: PLC0415 needs torch

    calls, indexer = DeepGemmCalls(layout), _module((_INDEXER,), modules)
    found = _replacing(indexer, can_use_dsa_fused_store=_no_fused_store)
    utils = _module((_UTILS,), modules)
    if "resolve_fp8_mqa_logits_fn" in vars(utils):
        # 0.5.23 takes its functions of DeepGEMM through these, by value in several modules.
        ours = {
            "resolve_num_sms": calls.get_num_sms,
            "resolve_paged_mqa_logits_metadata_fn": lambda: calls.get_paged_mqa_logits_metadata,
            "resolve_fp8_paged_mqa_logits_fn": lambda: calls.fp8_paged_mqa_logits,
            "resolve_fp8_mqa_logits_fn": lambda: calls.fp8_mqa_logits,
        }
        holders = [utils, indexer]
        backend = find((_BACKEND,), modules)
        holders += [] if backend is None else [backend]
        return found + [
            Replacement(holder, name, need(utils, name), function)
            for holder in holders
            for name, function in ours.items()
            if name in vars(holder)
        ]
    for module in (indexer, _backend_without_deep_gemm(modules)):
        found += _replacing(module, deep_gemm=calls.standing_in_for(need(module, "deep_gemm")))
    return found


def _no_fused_store(*_: object, **__: object) -> bool:
    return False


def _backend_without_deep_gemm(modules: Mapping[str, ModuleType] | None) -> ModuleType:
    """Import SGLang's backend, which up to 0.5.21 does not import without DeepGEMM."""
    try:
        return _module((_BACKEND,), modules)
    except ModuleNotFoundError as error:
        if error.name != "deep_gemm":
            raise
    # What it imports before that line is loaded now, and has not seen the stand-in; nobody sees it afterwards.
    sys.modules["deep_gemm"] = ModuleType("deep_gemm", "A stand-in of nsa_caps, while SGLang's backend is imported.")
    try:
        return _module((_BACKEND,), modules)
    finally:
        del sys.modules["deep_gemm"]
