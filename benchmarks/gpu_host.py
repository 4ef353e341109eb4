"""What a call costs the host on a real GPU, beyond a bare Triton launch with as many arguments.

    python benchmarks/gpu_host.py --output host.md

A bare launch is that of a kernel that does nothing, with as many tensors, whole numbers and constants; both are timed
in turn, and medians count. Calls are those of a step's layers: the tensors look alike from call to call.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl

from gpu_logits import FLAT, Batch, normal, positive, random_cache
from nsa_caps.kernels.portable import logits as portable_logits
from nsa_caps.kernels.portable import store_gather
from nsa_caps.kernels.portable.ragged_logits import ragged_logits
from nsa_caps.kernels.portable.tuning import tuning_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CALLS, ROUNDS = 300, 9
BUDGET = 8.0


def bare(tensors: int, numbers: int, constants: int) -> Callable[[], object]:
    """A launch that does nothing with so many arguments."""
    names = [f"t{i}" for i in range(tensors)] + [f"n{i}" for i in range(numbers)]
    fixed = [f"C{i}" for i in range(constants)]
    text = f"def empty({', '.join(names + [name + ': tl.constexpr' for name in fixed])}):\n    pass\n"
    # Triton reads a kernel's source from its file.
    path = Path(tempfile.mkdtemp()) / "bare.py"
    path.write_text(f"import triton\nimport triton.language as tl\n@triton.jit\n{text}", encoding="utf-8")
    space: dict[str, Any] = {"tl": tl, "triton": triton}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)  # noqa: S102 a text made above
    tensor = torch.empty(64, device="cuda")
    launcher = space["empty"][(8,)]
    arguments = [tensor] * tensors + [64] * numbers
    return partial(launcher, *arguments, **dict.fromkeys(fixed, 64), num_warps=4)


def medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of the host for each call, the device running behind."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            torch.cuda.synchronize()
            begin = time.perf_counter()
            for _ in range(CALLS):
                call()
            if turn:
                spent[name].append((time.perf_counter() - begin) / CALLS * 1e6)
    torch.cuda.synchronize()
    return {name: statistics.median(times) for name, times in spent.items()}


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    pool = random_cache(FLAT, 1024, partial(normal, FLAT.head_dim), positive)
    table = torch.arange(64, dtype=torch.int32, device="cuda").view(4, 16)
    lengths = torch.full((4,), 64, device="cuda")
    batch = Batch.make(FLAT, pool, table, lengths, 1024, 64, 1)
    bounds = torch.arange(0, 5 * 64, 64, dtype=torch.int32, device="cuda")
    out = (torch.empty(256, 128, dtype=torch.uint8, device="cuda"), torch.empty(256, device="cuda"))
    slots = torch.arange(64, device="cuda")
    keys = torch.randn(64, 128, dtype=torch.bfloat16, device="cuda")
    q = batch.q.view(4, 64, 128)
    starts, ends = torch.zeros(4, dtype=torch.int32, device="cuda"), torch.full((4,), 256, device="cuda").int()
    scores = torch.empty(4, 256, device="cuda")
    general = tuning_for(torch.device("cuda", 0), "e4m3fn", 64)
    given = (batch.q, pool, batch.weights, batch.context_lens, table, 1024)
    asked = (q, out[0], out[1], batch.weights, starts, ends)
    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "gather": (
            partial(store_gather.gather, pool, table, bounds, total_tokens=256, out=out, fmt=FLAT),
            bare(5, 6, 7),
        ),
        "store": (
            partial(store_gather.store, pool, slots, out[0][:64], out[1][:64], fmt=FLAT),
            bare(4, 2, 6),
        ),
        "quantise_and_store": (partial(store_gather.quantise_and_store, pool, slots, keys, fmt=FLAT), bare(3, 3, 10)),
        "logits": (partial(portable_logits.logits, *given, fmt=FLAT, out=batch.out), bare(7, 5, 15)),
        "logits, general kernel": (
            partial(portable_logits.logits, *given, fmt=FLAT, out=batch.out, tuning=general),
            bare(6, 5, 20),
        ),
        "ragged_logits": (partial(ragged_logits, *asked, fmt=FLAT, out=scores), bare(7, 5, 13)),
        "ragged_logits, general kernel": (
            partial(ragged_logits, *asked, fmt=FLAT, out=scores, tuning=general),
            bare(7, 3, 13),
        ),
    }
    both = {name: call for name, (call, _) in calls.items()} | {
        f"bare {name}": less for name, (_, less) in calls.items()
    }
    found = medians(both)
    versions = f"torch {torch.__version__}, Triton {triton.__version__}"
    lines = [
        f"{torch.cuda.get_device_name()}, {versions}. Host microseconds; at most {BUDGET:.0f} beyond a bare launch.",
        "",
        "| call | host | bare launch, as many arguments | beyond |",
        "|---|---|---|---|",
        *(
            f"| `{name}` | {found[name]:.1f} | {bare:.1f} | {found[name] - bare:.1f} |"
            for name in calls
            for bare in (found[f"bare {name}"],)
        ),
    ]
    print("\n".join(lines))
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
