"""The functions of aiter that engines call, and which of the keywords that they hand these functions take."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.flydsl import flydsl_names
from nsa_caps.probes.aiter.modules import PACKAGE, Modules
from nsa_caps.probes.aiter.run import Event, Run, TooMuchError
from nsa_caps.probes.aiter.space import Space, text_of
from nsa_caps.probes.aiter.values import Where
from nsa_caps.probes.python_source import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.probes.aiter.segments import Segment

__all__ = ["CACHE", "CACHE_KERNELS", "cache_facts", "taken", "takes_tiles"]

CACHE = f"{PACKAGE}.ops.cache"
# The two cache kernels that engines of every release call: what they take in order, and what aiter#2879 added.
_STORE = ("k", "kv_cache", "slot_mapping", "quant_block_size", "scale_fmt")
_GATHER = ("kv_cache", "dst_k", "dst_scale", "block_table", "cu_seq_lens")
CACHE_KERNELS = {
    "indexer_k_quant_and_cache": ("store_preshuffle", _STORE),
    "cp_gather_indexer_k_quant_cache": ("gather_preshuffle", _GATHER),
}
# Keywords of the decorator that change neither the function that is built nor its arguments.
_HARMLESS = frozenset({"develop"})
_RAGGED = (f"{PACKAGE}.ops.triton.attention.fp8_mqa_logits", f"{PACKAGE}.ops.triton.fp8_mqa_logits")
_HANDED = {
    "fp8_mqa_logits": ("clean_logits",),
    "indexer_qk_rope_quant_and_cache": ("preshuffle", "compute_all_q_rope"),
}


def cache_facts(files: Any) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """Return whether the store and the gather kernel take `preshuffle` (aiter#2879), and what stands against that."""
    modules = Modules(files)
    run = Run(Space({"triton": ("3.8.0",), "arch": ("gfx942",)}), modules, call_function)
    facts: dict[str, Any] = {}
    try:
        for name, (fact, positional) in CACHE_KERNELS.items():
            value = modules.load(run, CACHE, name)
            segment = modules.lazy.get(CACHE, {}).get(name)
            if text_of(value) != f"{CACHE}.{name}" or segment is None:
                run.unaccounted(f"{name} is no function of the compiled module", Where(files.module(CACHE) or CACHE))
                continue
            facts[fact] = _takes_preshuffle(run, segment, positional, files.module(CACHE))
    except (TooMuchError, RecursionError, SourceError) as error:
        run.unaccounted(str(error), Where(CACHE))
    blamed = tuple(event for event in run.events if event.kind in ("unaccounted", "raise"))
    return ({} if blamed else facts), blamed


def _takes_preshuffle(run: Run, segment: Segment, positional: tuple[str, ...], path: str) -> bool | None:
    (node,) = segment.body
    where = Where(path, segment.line)
    if not isinstance(node, ast.FunctionDef) or len(node.decorator_list) != 1:
        run.unaccounted(f"the decorators of {segment.name}", where)
        return None
    (decorator,), args = node.decorator_list, node.args
    if not _builds_itself(decorator, segment.name):
        run.unaccounted(f"{segment.name} is built from another function", where)
    if not all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in node.body):
        run.unaccounted(f"{segment.name} has a body of its own", where)
    names = tuple(argument.arg for argument in args.args)
    takes = names == (*positional, "preshuffle")
    defaults = [each.value if isinstance(each, ast.Constant) else each for each in args.defaults]
    odd = args.vararg or args.kwarg or args.kwonlyargs or args.posonlyargs
    if odd or not (takes or names == positional) or defaults != ([False] if takes else []):
        run.unaccounted(f"the parameters of {segment.name}", where)
    return takes


def _builds_itself(decorator: ast.expr, name: str) -> bool:
    if not isinstance(decorator, ast.Call) or len(decorator.args) != 1:
        return False
    (module,) = decorator.args
    if not isinstance(module, ast.Constant) or module.value != "module_cache":
        return False
    for keyword in decorator.keywords:
        own = keyword.arg == "fc_name" and isinstance(keyword.value, ast.Constant) and keyword.value.value == name
        if not own and keyword.arg not in _HARMLESS:
            return False
    return True


def taken(files: Any) -> tuple[str, ...] | None:
    """Return what this aiter takes of what engines hand beyond the two cache kernels and the paged logits.

    Each is a function's name, or the name and a keyword: `fp8_mqa_logits`, `fp8_mqa_logits(clean_logits)`. None: a file
    that should say so cannot be read.
    """
    found: list[str] = []
    ragged = next((module for module in _RAGGED if files.module(module)), None)
    for module, name in ((CACHE, "indexer_qk_rope_quant_and_cache"), (ragged, "fp8_mqa_logits")):
        path = files.module(module) if module else None
        if path and files.text(path) is None:
            return None
        try:
            found += _asked(files.segments(path) if path else [], name)
        except SourceError:
            return None
    return (*found, *flydsl_names(files))


def _asked(parts: list[Segment], name: str) -> Iterator[str]:
    """Return a function's name, and those of its parameters that engines hand by keyword."""
    wanted = {name, *(f"{name}({keyword})" for keyword in _HANDED.get(name, ()))}
    yield from (each for each in _parameters(parts, name) if each in wanted)


def _parameters(parts: list[Segment], name: str) -> Iterator[str]:
    for part in [part for part in parts if part.name == name][-1:]:
        if part.arguments is not None:
            yield name
            yield from (f"{name}({each.arg})" for each in (*part.arguments.args, *part.arguments.kwonlyargs))


def takes_tiles(files: Any, module: str, entry: str) -> bool | None:
    """Return whether the logits function has `Preshuffle` and `KVBlockSize`, which engines always pass (fe927e8d)."""
    path = files.module(module)
    if not path:
        return None
    try:
        # None where the file cannot be read.
        names = set(_parameters(files.segments(path), entry))
    except SourceError:
        return None
    return names.issuperset((f"{entry}(Preshuffle)", f"{entry}(KVBlockSize)")) if names else None
