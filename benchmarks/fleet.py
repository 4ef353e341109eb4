"""Measures `nsa-caps compare` on the snapshots of a fleet, and writes time and peak memory into the docs.

Run as `python benchmarks/fleet.py [--only-print]`, on an otherwise idle machine. The machines are laid out and probed;
their snapshots are drawn with a fixed seed, most machines being of one kind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from nsa_caps import Capabilities, probe
from nsa_caps.testing import machine
from sections import write_section

# The command, which then says how much memory it took at most; getrusage would count the parent's before the exec.
COMMAND = """
import re, sys
from nsa_caps.cli.main import main
code = main(["compare", *sys.argv[1:]])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""
SIZES = (1_000, 10_000, 100_000)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only-print", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kinds = _kinds(Path(folder))
        rows = [_measure(Path(folder), kinds, size, own) for own in (False, True) for size in SIZES]
    cores, python = os.cpu_count(), platform.python_version()
    text = "\n".join([
        f"Made by `python benchmarks/fleet.py` on a machine of {cores} cores, Python {python}: whole processes of",
        f"`nsa-caps compare fleet.jsonl --html FILE`, one run each, over machines of {len(kinds)} kinds,",
        "nine of ten of them of one kind.",
        "",
        "| machines | read from | groups | MB of JSON | seconds | peak memory, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
    ])  # fmt: skip
    print(text)
    if not options.only_print:
        write_section("fleet", text)


def _kinds(folder: Path) -> list[Capabilities]:
    """Return machines that differ in arch, Triton, aiter or a switch; the first is the usual one."""
    found = []
    specs: list[dict[str, Any]] = [
        {"archs": [arch] * 8, "triton": triton, "aiter": commit, "environ": {"SGLANG_USE_AITER": asked}}
        for arch, triton, commit, asked in product(
            ("gfx942", "gfx950"), ("3.6.0", "3.4.0"), ("a6bb4993", "04907edc"), ("1", "0")
        )
    ]
    specs += [{"platform": "cuda", "archs": ["sm_90"] * 8, "deep_gemm": gemm} for gemm in ("2.1.0", None)]
    for number, spec in enumerate(specs):
        found.append(probe(machine(folder / str(number), **spec)))
    return found


def _measure(folder: Path, kinds: list[Capabilities], size: int, own_paths: bool) -> str:
    """Return a row of the table."""
    dice = random.Random(size)  # noqa: S311 nothing here is secret
    path = folder / "fleet.jsonl"
    texts = [json.dumps(kind.to_dict()).replace(str(folder), "/opt/images") for kind in kinds]
    with path.open("w", encoding="utf-8") as stream:
        for number in range(size):
            text = texts[0] if dice.random() < 0.9 else dice.choice(texts)
            stream.write((re.sub("/site/", f"/host{number}/", text) if own_paths else text) + "\n")
    start = time.perf_counter()
    command = [sys.executable, "-c", COMMAND, path.name, "--html", f"{size}.html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    found = re.match(r"([\d,]+) machines in (\d+) groups:", done.stdout)
    if found is None or int(found[1].replace(",", "")) != size:
        raise RuntimeError(f"compare says something else: {done.stdout[:200]} {done.stderr}")
    where = "folders of their own" if own_paths else "the same folders"
    return (
        f"| {size:,} | {where} | {found[2]} | {path.stat().st_size / 1e6:.0f} | {seconds:.2f} | "
        f"{int(done.stderr) / 1024:.1f} |"
    )


if __name__ == "__main__":
    main()
