"""Measures what `agree` sends where all ranks agree: bytes given to collectives, and bytes over the loopback device.

Run as `python benchmarks/agreement_bytes.py [RANKS ...]`; it starts torchrun with gloo on 2, 4 and 8 ranks. The bytes
of the loopback device hold everything: TCP and IP headers, acknowledgements, gloo's and the store's own messages. Where
it may (`unshare -n`, as root), each job has a network of its own, so that nobody else's bytes are counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

import nsa_caps
from nsa_caps.agreement.collectives import Wire
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 200


def main(sizes: list[int]) -> None:
    """Start a job of each size and print the table."""
    own = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    print(f"Bytes a rank and call, mean of {CALLS} calls, {'a network of its own' if own else 'a shared network'}:\n")
    print("| ranks | given to the collective | over lo: all-reduce | over lo: roll call | over lo: agree |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for ranks in sizes:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", __file__]
        if own:
            command = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


def measure() -> None:
    """Be one rank of a job; the first one prints a row of the table."""
    dist.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as folder:
        host = machine(folder, archs=["gfx942"] * 8, aiter="a6bb4993", environ={"SGLANG_USE_AITER": "1"})
        layout = nsa_caps.select_indexer_layout(nsa_caps.probe(host))
    wire = Wire(None, 60)
    reduced = _over_lo(lambda: wire.all_same(bytes(16)))
    called = _over_lo(lambda: wire.roll_call())
    given: list[int] = []
    _count(given)
    agreed = _over_lo(lambda: nsa_caps.agree(layout))
    if dist.get_rank() == 0:
        each = sum(given) / (CALLS + 1)
        print(f"| {dist.get_world_size()} | {each:.0f} | {reduced:.0f} | {called:.0f} | {agreed:.0f} |", flush=True)
    dist.destroy_process_group()


def _count(given: list[int]) -> None:
    """Note the bytes of every tensor that any collective is given from now on."""

    def counted(collective: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, torch.Tensor)]
            given.extend(each.numel() * each.element_size() for each in tensors)
            return collective(*args, **kwargs)

        return call

    for name in ("all_reduce", "all_gather", "broadcast"):
        setattr(dist, name, counted(getattr(dist, name)))


def _over_lo(call: Callable[[], object]) -> float:
    """Return the bytes that the loopback device sent for a call, divided by the ranks."""
    # The first call makes connections.
    call()
    dist.barrier()
    before = _sent()
    dist.barrier()
    for _ in range(CALLS):
        call()
    dist.barrier()
    return (_sent() - before) / CALLS / dist.get_world_size()


def _sent() -> int:
    for line in Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    raise RuntimeError("there is no loopback device")


if __name__ == "__main__":
    if "RANK" in os.environ:
        measure()
    else:
        main([int(text) for text in sys.argv[1:]] or [2, 4, 8])
