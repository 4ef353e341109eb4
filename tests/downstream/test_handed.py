"""What the engines hand aiter's functions, read in their wheels, against the table that says so; needs `--wheels`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.capabilities.engines import ENGINE_TABLE

if TYPE_CHECKING:
    from tests.downstream.wheels import Wheel

# aiter's functions for the indexer, by the modules from which engines take them.
FUNCTIONS = (
    "indexer_k_quant_and_cache", "cp_gather_indexer_k_quant_cache", "indexer_qk_rope_quant_and_cache",
    "fp8_mqa_logits", "deepgemm_fp8_paged_mqa_logits", "flydsl_fp8_mqa_logits",
)  # fmt: skip
# What every aiter takes that has passed the rows' other requirements: each is a fact of its own, or as old as its
# function.
ELSEWHERE = {
    "deepgemm_fp8_paged_mqa_logits": "logits_module",
    "deepgemm_fp8_paged_mqa_logits(Preshuffle)": "logits_preshuffle",
    "deepgemm_fp8_paged_mqa_logits(KVBlockSize)": "logits_preshuffle",
    "deepgemm_fp8_paged_mqa_logits(ChunkK)": "as old as the function",
    "deepgemm_fp8_paged_mqa_logits(WavePerEU)": "as old as the function",
    "cp_gather_indexer_k_quant_cache": "gather_preshuffle",
    "cp_gather_indexer_k_quant_cache(preshuffle)": "gather_preshuffle",
    "indexer_k_quant_and_cache": "store_preshuffle",
    "indexer_qk_rope_quant_and_cache": "looked for by name",
    "indexer_qk_rope_quant_and_cache(is_neox)": "as old as the function",
    "indexer_qk_rope_quant_and_cache(preshuffle)": "as old as the function",
    "fp8_mqa_logits": "older than the paged kernel",
}


def handed(wheel: Wheel) -> set[str]:
    """Return the functions of aiter that a wheel's modules call, and each keyword that they hand them."""
    found: set[str] = set()
    for text in wheel.sources():
        if "aiter" not in text or not any(name in text for name in FUNCTIONS):
            continue
        tree = ast.parse(text)
        own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name in FUNCTIONS and name not in own:
                    found |= {name, *(f"{name}({each.arg})" for each in node.keywords if each.arg)}
    return found


def test_every_keyword_is_in_the_table(wheels: list[Wheel]) -> None:
    """Of each release: what it hands and what the table says of it are the same."""
    for wheel in wheels:
        expected = {
            each.takes for each in ENGINE_TABLE[wheel.project].hands if Version(wheel.version) >= Version(each.since)
        }
        assert handed(wheel) - ELSEWHERE.keys() == expected, f"{wheel}"
