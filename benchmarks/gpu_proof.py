"""Proves every row of a GPU machine, cold and warm, and a row that hangs and one that reads beyond memory.

Run as `python benchmarks/gpu_proof.py [--runs N]`; prints seconds and verdicts. Needs a GPU, torch and Triton. How long
a process takes to import torch is told first: most of a warm proof is that, and twice as much where an image has no
bytecode of torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nsa_caps
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.decision import find_row
from nsa_caps.selfcheck.proof import Proof
from nsa_caps.selfcheck.prove import Outcome, prove_rows

# The child finds the kernels below by the search path of this process.
sys.path.insert(0, str(Path(__file__).parent))
# What is emptied before each turn: Triton's cache, and that of DeepGEMM, which compiles by itself.
TURNS = {"no cache": ("triton", "deep_gemm"), "cold Triton cache": ("triton",), "warm": ()}
FAULTS = ("gpu_fault_hang", "gpu_fault_illegal_access")


def timed(caps: nsa_caps.Capabilities, row: str, proof: Proof, rows: tuple[nsa_caps.Row, ...]) -> Outcome:
    """Prove one row and print how long it took."""
    began = time.perf_counter()
    outcome = prove_rows(caps, nsa_caps.Request(), [row], rows, proof)
    seconds = time.perf_counter() - began
    for check in outcome.checks:
        print(f"{row:<18} {check.verdict:<11} {seconds:6.1f} s  {'; '.join(map(str, check.reasons))[:300]}")
        print("   ", "; ".join(map(str, check.mismatches))[:600] or ", ".join(check.checked))
    return outcome


def main() -> None:
    """Prove, and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=0, help="also check sound rows so many times in this process")
    runs = arguments.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NSA_CAPS_PROOFS"] = f"{folder}/proofs"
        os.environ["TRITON_CACHE_DIR"] = f"{folder}/triton"
        os.environ["DG_JIT_CACHE_DIR"] = f"{folder}/deep_gemm"
        caps, rows = row_table(nsa_caps.probe())
        print([(device.model, device.arch) for device in caps.devices or ()], caps.driver)
        names = [verdict.row for verdict in nsa_caps.decide(caps).verdicts if verdict.verdict != "unmet"]
        print("import torch:", ", ".join(f"{import_seconds():.1f} s" for _ in range(2)))
        for title, caches in TURNS.items():
            print(title)
            for cache in caches:
                shutil.rmtree(f"{folder}/{cache}", ignore_errors=True)
            for name in names:
                timed(caps, name, Proof(again=True), rows)
        print("what a kept proof adds, ms:", kept_milliseconds())
        print("faults")
        for fault in FAULTS:
            portable = find_row("portable", rows)
            row = replace(portable, name=fault, kernels=fault, logits_kernels="nsa_caps.kernels.portable.logits")
            timed(caps, fault, Proof(limit=30 if fault.endswith("hang") else 120), (row,))
        print("the next row, afterwards")
        timed(caps, names[0], Proof(again=True), rows)
        if runs:
            sound(names, runs)


def import_seconds() -> float:
    """Return how long a process of its own takes to import torch and Triton."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, triton"], check=True)
    return time.perf_counter() - began


def kept_milliseconds() -> list[float]:
    """Return what `get_indexer_layout` takes without and with `prove=True`, the verdict kept."""
    found = []
    for prove in (False, True, False, True):
        nsa_caps.get_indexer_layout.cache_clear()
        began = time.perf_counter()
        nsa_caps.get_indexer_layout(prove=prove)
        found.append(round((time.perf_counter() - began) * 1e3, 2))
    return found


def sound(names: list[str], runs: int) -> None:
    """Check sound rows so many times with other random bytes each time."""
    check = importlib.import_module("nsa_caps.selfcheck.check")
    fmt = nsa_caps.PageFormat(page_size=64)
    for name in names[:2]:
        kernels = check._load(find_row(name), fmt)  # noqa: SLF001 a benchmark of it
        checks = (check.self_check(kernels, fmt, "cuda", seed=seed) for seed in range(runs))
        refused = [found.explain() for found in checks if found.verdict != "proven"]
        print(f"{name}: {runs} runs, {len(refused)} refused", *refused[:2])


if __name__ == "__main__":
    main()
