"""Four laid-out machines in one job, one of them with Triton 3.4.0: what each rank is told, and whether that is right.

Run as `torchrun --nproc-per-node N benchmarks/agreement_gpus.py [--backend gloo|nccl]`, N from 2 on. The machines are
laid out in a folder, so that it is the same on CPU and on GPUs of any kind: only the collectives run on them. The last
rank has the old Triton. Exits with 1 where any rank is told anything else than it should be.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

import nsa_caps
from nsa_caps.testing import machine


def main() -> int:
    """Agree in both modes, print what each rank is told, and check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("gloo", "nccl"), default="nccl" if torch.cuda.is_available() else "gloo")
    backend = parser.parse_args().backend
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend)
    rank, size = dist.get_rank(), dist.get_world_size()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        # Every rank names the same files, whatever its folder.
        os.chdir(folder)
        alike = _layout("alike", "3.6.0")
        mine = _layout("mine", "3.4.0" if rank == size - 1 else "3.6.0")
        os.chdir(before)
    told = {
        "all alike": _told(alike, "strict"),
        "strict": _told(mine, "strict"),
        "common": _told(mine, "common"),
    }
    everyone: list[dict[str, str]] = [{} for _ in range(size)]
    dist.all_gather_object(everyone, told)
    problems = _problems(everyone)
    if rank == 0:
        where = torch.cuda.get_device_name() if backend == "nccl" else "CPU"
        print(f"{size} ranks, {backend} on {where}, torch {torch.__version__}\n")
        print(f"What strict says on rank 0:\n\n{told['strict']}\n")
        for number, each in enumerate(everyone):
            same = "the same" if each["strict"] == told["strict"] else "something else"
            print(f"rank {number}: all alike: {each['all alike']}; strict: {same}; common: {each['common']}")
        print("\n".join(problems) or "\nAs it should be on every rank.")
    dist.destroy_process_group()
    return 1 if problems else 0


def _layout(folder: str, triton: str) -> nsa_caps.IndexerLayout:
    host = machine(folder, archs=["gfx942"] * 8, triton=triton, aiter="a6bb4993", environ={"SGLANG_USE_AITER": "1"})
    return nsa_caps.select_indexer_layout(nsa_caps.probe(host))


def _told(layout: nsa_caps.IndexerLayout, mode: str) -> str:
    try:
        agreed = nsa_caps.agree(layout, mode="strict" if mode == "strict" else "common", timeout=60)
    except nsa_caps.LayoutMismatchError as error:
        return str(error)
    return f"{agreed.row}, page size {agreed.page_size}"


def _problems(everyone: list[dict[str, str]]) -> list[str]:
    found = []
    last = f"rank {len(everyone) - 1}, against rank"
    for rank, told in enumerate(everyone):
        if told["all alike"] != "aiter-preshuffle, page size 64":
            found.append(f"rank {rank}: machines that are alike do not agree: {told['all alike']}")
        if told["strict"] != everyone[0]["strict"] or last not in told["strict"] or "3.4.0" not in told["strict"]:
            found.append(f"rank {rank}: strict says something else, or does not name who differs in what")
        if told["common"] != "aiter-token, page size 1":
            found.append(f"rank {rank}: common gives {told['common']}, not aiter-token, page size 1")
    return found


if __name__ == "__main__":
    sys.exit(main())
