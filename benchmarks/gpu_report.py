"""What a benchmark against DeepGEMM says and writes: its GPU, versions and seed, then line by line what it finds."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import triton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["report"]


def report(description: str | None, found: Callable[[Any], Iterator[str]]) -> None:
    """Seed, then print each line that `found` gives, for DeepGEMM or None, and write all of them at the end."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else None)
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="for repeating one run's data")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    deep_gemm, rival = None, "DeepGEMM"
    try:
        deep_gemm = importlib.import_module("deep_gemm")
    except ImportError as error:
        rival = f"no DeepGEMM ({error})"
    versions = f"torch {torch.__version__}, Triton {triton.__version__}, {rival}"
    lines = [f"{torch.cuda.get_device_name()}, {versions}, seed {arguments.seed}.", ""]
    print(*lines, sep="\n", flush=True)
    for line in found(deep_gemm):
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
