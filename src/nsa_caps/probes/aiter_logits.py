"""What the source of aiter's logits module shows: its Triton gate, how AOT and JIT exclude each other, page rules."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["logits_facts"]

# The test of the module-level `if` that lets gluon in, and how it compares Triton's version.
_TRITON_TESTS = {
    r"triton\.__version__ >= '([\d.]+)'": "text",
    r"triton_version >= Version\('([\d.]+)'\)": "base_version",
}
_BASE_VERSION = "triton_version = Version(Version(triton.__version__).base_version)"
_AOT_VARIABLE = "enable_aot_gluon_pa_mqa_logits = enable_aot_gluon_pa_mqa_logits == '1'"
# What turns gluon on (with a new Triton, with an old one), and what that says of an arch outside the list.
_GLUON_SWITCHES = {
    ("True", "enable_aot_gluon_pa_mqa_logits"): "assert",
    (
        "get_gfx() in _GLUON_PA_MQA_LOGITS_ARCHS",
        "enable_aot_gluon_pa_mqa_logits and get_gfx() in _GLUON_PA_MQA_LOGITS_ARCHS",
    ): "select",
}
# What turns compiling in place on (with a new Triton, with an old one), and whether the AOT variable stops it.
_JIT_SWITCHES = {("True", "False"): False, ("not enable_aot_gluon_pa_mqa_logits", "False"): True}
_CHUNK_RULES = {
    "ChunkK % KVBlockSize == 0": "divides",
    "ChunkK % KVBlockSize == 0 or KVBlockSize % ChunkK == 0": "either",
}
# Assertions on the page size beside the chunk rule: it is the cache's own; tiles; the plain kernel's single token.
_OTHER_PAGE_RULES = {"block_Size == KVBlockSize", "KVBlockSize % 16 == 0", "KVBlockSize == 1"}
# How the wrapper sets WavePerEU on gfx1250, and what the preshuffle kernel then gets at head dim 128.
_GFX1250_WAVES = {
    "if get_gfx() == 'gfx1250' and (not Preshuffle):\n    WavePerEU = 1": 2,
    "if get_gfx() == 'gfx1250':\n    if Preshuffle and hidden_dim <= 128:\n        WavePerEU = 4\n"
    "    else:\n        WavePerEU = 1": 4,
}


def logits_facts(module: ast.Module) -> Iterator[tuple[str, Any]]:
    """Return the facts of `AiterSource` that stand in the module of `deepgemm_fp8_paged_mqa_logits`, by name.

    One whose piece of source has another shape than those in the tables above is None or left out.
    """
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    entry = functions.get("deepgemm_fp8_paged_mqa_logits")
    if entry is None:
        return
    takes = {argument.arg for argument in (*entry.args.args, *entry.args.kwonlyargs)}
    yield "logits_preshuffle", {"Preshuffle", "KVBlockSize"} <= takes
    yield from _triton_gate(module, functions.get("_compile_deepgemm_fp8_paged_mqa_logits"))
    yield from _page_rules(entry)


def _triton_gate(module: ast.Module, compile_function: ast.FunctionDef | None) -> Iterator[tuple[str, Any]]:
    branches = [(node, *found) for node in module.body if isinstance(node, ast.If) and (found := _triton_test(node))]
    statements = {ast.unparse(node) for node in module.body if isinstance(node, ast.Assign)}
    if len(branches) != 1 or _AOT_VARIABLE not in statements or compile_function is None:
        return
    ((branch, comparison, version),) = branches
    if comparison == "base_version" and _BASE_VERSION not in statements:
        return
    if _refuses([node for node in module.body if node is not branch] + branch.body):
        return
    new, old = _assigned(branch.body), _assigned(branch.orelse)
    yield "triton_comparison", comparison
    yield "gluon_triton", version
    yield "triton_gap", _gap(branch.orelse)
    # Assigned a third time, a switch is something else.
    assigned = [node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    switches = [
        (new.get(name, ""), old.get(name, "")) if assigned.count(name) == 2 else ("", "")
        for name in ("enable_gluon_pa_mqa_logits", "enable_jit_gluon_pa_mqa_logits_kernel")
    ]
    yield "arch_gate", _GLUON_SWITCHES.get(switches[0])
    yield "aot_stops_jit", _JIT_SWITCHES.get(switches[1])
    yield "aot_needs_gluon_triton", _needs_cdna_version(module, branch, compile_function)
    yield "gluon_archs", _asserted_archs(module, compile_function)


def _triton_test(node: ast.If) -> tuple[str, str] | None:
    test = ast.unparse(node.test)
    for shape, comparison in _TRITON_TESTS.items():
        if match := re.fullmatch(shape, test):
            return comparison, match[1]
    return None


def _assigned(body: list[ast.stmt]) -> dict[str, str]:
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in body if isinstance(node, ast.Assign)}


def _refuses(body: list[ast.stmt]) -> bool:
    """Return whether statements that run at import raise or assert."""
    code = [node for node in body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return any(isinstance(node, (ast.Raise, ast.Assert)) for statement in code for node in ast.walk(statement))


def _gap(old: list[ast.stmt]) -> str | None:
    """Return the Triton from which the branch for old ones asserts; `none`: it does not; None: something else."""
    assertions = [ast.unparse(node.test) for node in old if isinstance(node, ast.Assert)]
    if not assertions:
        return "none"
    match = re.fullmatch(r"triton\.__version__ < '([\d.]+)'", assertions[0])
    return match[1] if match and len(assertions) == 1 else None


def _needs_cdna_version(module: ast.Module, branch: ast.If, compile_function: ast.FunctionDef) -> bool | None:
    """Return whether the compile function calls a `get_cdna_version` that only the branch for new Tritons imports."""
    called = any(isinstance(node, ast.Name) and node.id == "get_cdna_version" for node in ast.walk(compile_function))
    if not called:
        return False
    if _imports(module.body, "get_cdna_version") or _imports(branch.orelse, "get_cdna_version"):
        return False
    return True if _imports(branch.body, "get_cdna_version") else None


def _imports(body: list[ast.stmt], name: str) -> bool:
    return any(alias.name == name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names)


def _asserted_archs(module: ast.Module, compile_function: ast.FunctionDef) -> tuple[str, ...] | None:
    """Return the archs of the compile function's assertion on `gfx_version`, written in or by the module's tuple."""
    assertions = [ast.unparse(node.test) for node in compile_function.body if isinstance(node, ast.Assert)]
    if len(assertions) != 1:
        return None
    (test,) = assertions
    if match := re.fullmatch(r"gfx_version in (_\w+)", test):
        test = _assigned(module.body).get(match[1], "")
    if re.fullmatch(r"gfx_version == '\w+'( or gfx_version == '\w+')*|(gfx_version in )?\('\w+'(, '\w+')*,?\)", test):
        return tuple(re.findall(r"'(gfx\w+)'", test)) or None
    return None


def _page_rules(entry: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    assertions = {ast.unparse(node.test) for node in ast.walk(entry) if isinstance(node, ast.Assert)}
    rules = {test for test in assertions if "KVBlockSize" in test} - _OTHER_PAGE_RULES
    yield "chunk_rule", _CHUNK_RULES.get(rules.pop()) if len(rules) == 1 else None
    yield "gfx1250_waves", _gfx1250_waves(entry)
    plain = [
        node
        for node in entry.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "enable_gluon_pa_mqa_logits"
    ]
    if len(plain) != 1:
        return
    otherwise = ast.Module(plain[0].orelse, [])
    if any(
        isinstance(node, ast.Assert) and ast.unparse(node.test) == "KVBlockSize == 1" for node in ast.walk(otherwise)
    ):
        yield "plain_pages", "one"
    elif any(isinstance(node, ast.keyword) and node.arg == "KVBlockSize" for node in ast.walk(otherwise)):
        yield "plain_pages", "any"


def _gfx1250_waves(entry: ast.FunctionDef) -> int | None:
    """Return the preshuffle kernel's WavePerEU on gfx1250: the default of 2, unless a branch for gfx1250 says 4."""
    branches = [node for node in entry.body if isinstance(node, ast.If) and "WavePerEU = " in ast.unparse(node)]
    if not branches:
        return 2
    return _GFX1250_WAVES.get(ast.unparse(branches[0])) if len(branches) == 1 else None
