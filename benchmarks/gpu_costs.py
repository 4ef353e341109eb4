"""What rows cost on a real GPU against the best one there: the caveats of `nsa_caps.rows` take their figures from here.

    python benchmarks/gpu_costs.py --output costs.md

Timed as in gpu_logits.py, in one run: DeepGEMM, the portable kernel, the same without fp8 products as GPUs have it that
know none (sm_80, gfx90a, gfx11xx: keys become fp16 in the kernel), and with pages of one token; and plain torch, a
call at a time.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import triton

from gpu_logits import (
    FLAT,
    NEXT_N,
    POOL_PAGES,
    SHAPES,
    batches,
    deep_gemm_call,
    medians,
    normal,
    positive,
    random_cache,
)
from nsa_caps.kernels import reference_logits
from nsa_caps.kernels.portable import logits as portable_logits
from nsa_caps.kernels.portable.tuning import Tuning, tuning_for
from nsa_caps.pages import PageFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gpu_logits import Batch

HEADS = 64
TOKENS = PageFormat(page_size=1)


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    deep_gemm = importlib.import_module("deep_gemm")
    pool = random_cache(FLAT, POOL_PAGES, partial(normal, FLAT.head_dim), positive)
    versions = f"torch {torch.__version__}, Triton {triton.__version__}"
    lines = [
        f"{torch.cuda.get_device_name()}, {versions}, {HEADS} heads. Microseconds, and their ratio to DeepGEMM's.",
        "",
        "| batch x context | next_n | DeepGEMM | portable | without fp8 products | pages of 1 | plain torch |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch, length in SHAPES:
        for next_n in NEXT_N:
            lengths = torch.full((batch,), length, device="cuda")
            group = batches(pool, lengths, length, HEADS, next_n)
            tuning = without_fp8(next_n)
            found = medians({
                "DeepGEMM": [deep_gemm_call(deep_gemm, each) for each in group],
                "portable": [each.run for each in group],
                "without": [partial(portable, each, FLAT, each.page_table, tuning) for each in group],
                "tokens": [partial(portable, each, TOKENS, token_table(each), None) for each in group],
            })  # fmt: skip
            found["torch"] = plain_torch(group[0])
            rival = found.pop("DeepGEMM")
            cells = [f"{spent:,.1f} ({spent / rival:.2f})" for spent in found.values()]
            lines.append(f"| {batch} x {length:,} | {next_n} | {rival:.1f} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def without_fp8(next_n: int) -> Tuning:
    """What a GPU that was not measured and multiplies no fp8 gets."""
    columns, device = next_n * HEADS, torch.device("cuda")
    units = torch.cuda.get_device_properties(device).multi_processor_count
    measured = tuning_for(device, FLAT.dialect, columns)
    return replace(
        measured,
        fp8_dot=False,
        programs=(2 if columns > 128 else 4) * units,
        registers=None,
    )


def portable(batch: Batch, fmt: PageFormat, page_table: Tensor, tuning: Tuning | None) -> Tensor:
    """One launch over the pages of a batch, read as pages of another format."""
    cache = batch.cache.view(-1, fmt.page_bytes)
    return portable_logits.logits(
        batch.q, cache, batch.weights, batch.context_lens, page_table, batch.out.shape[1],
        fmt=fmt, out=batch.out, tuning=tuning,
    )  # fmt: skip


def token_table(batch: Batch) -> Tensor:
    """The same bytes as pages of one token: what is timed, not what they mean."""
    inside = torch.arange(FLAT.page_size, dtype=torch.int32, device="cuda")
    return (batch.page_table[:, :, None] * FLAT.page_size + inside).flatten(1).contiguous()


def plain_torch(batch: Batch) -> float:
    """Microseconds of the reference, the median of three calls behind one that is not counted."""
    call: Callable[[], object] = partial(batch.run, reference_logits)
    event: Callable[[], Any] = partial(torch.cuda.Event, enable_timing=True)
    spent = []
    for _ in range(4):
        begin, end = event(), event()
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        spent.append(float(begin.elapsed_time(end)) * 1e3)
    return statistics.median(spent[1:])


if __name__ == "__main__":
    main()
