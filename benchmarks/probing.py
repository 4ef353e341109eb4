"""Measures what an engine pays at start-up, against the incumbent in the same run, and writes it into the docs.

Run as `python benchmarks/probing.py [--aiter-checkout DIR] [--only-print]`, on an otherwise idle machine, by a Python
that the project is installed for. The incumbent is what an engine does today to learn what it has: `import torch,
triton`. With a checkout of ROCm/aiter its sources at 04907edc are what is read, otherwise the small tree of
`nsa_caps.testing`.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import nsa_caps
from nsa_caps.probes.aiter.files import EXCERPTS, PackageFiles
from nsa_caps.probes.aiter.reader import read_in_full
from nsa_caps.probes.aiter.releases import known_facts, release_table
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.testing import machine
from sections import write_section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AITER_COMMIT = "04907edc"
# What a commit of aiter touches most days, what decides most, and what most of the deciding code asks.
CHANGED = ("ops/attention.py", "ops/triton/attention/pa_mqa_logits.py", "jit/utils/chip_info.py")
# What the modules of `nsa-caps --json` import of others, and the least that argparse does.
STANDS_ON = (
    "import argparse, dataclasses, hashlib, json, locale, packaging.version, re, shlex, textwrap, threading, typing;"
    "argparse.ArgumentParser().parse_args([])"
)
# A process that has loaded the standard library's modules, asked once.
FIRST_CALL = """
import ast, collections.abc, dataclasses, functools, importlib, inspect, json, os, re, sys, time, typing, warnings
import packaging.version
import nsa_caps
host = nsa_caps.Host({environ!r}, {search_path!r}, {{}}, {root!r})
start = time.perf_counter()
layout = nsa_caps.select_indexer_layout(nsa_caps.probe(host))
print(time.perf_counter() - start, layout.row)
"""
# The same, of this machine, with a proof or without one; in CPU time, which others on the machine change least.
PROVEN = """
import ast, collections.abc, dataclasses, functools, importlib, inspect, json, os, re, sys, time, typing, warnings
import packaging.version
import nsa_caps
start = time.process_time()
layout = nsa_caps.get_indexer_layout(prove={prove})
print(time.process_time() - start, layout.row)
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aiter-checkout", type=Path)
    parser.add_argument("--only-print", action="store_true")
    options = parser.parse_args()
    # As pip does when it installs: without, each process would compile the sources again.
    compileall.compile_dir(str(Path(nsa_caps.__file__).parent), quiet=1)
    checkout = options.aiter_checkout
    parts = [_head(checkout), _whole_process(), _first_calls(checkout), *([_reading(checkout)] if checkout else ())]
    text = "\n\n".join((*parts, _proven(), _cached()))
    print(text)
    if not options.only_print:
        write_section("probing", text)


def _head(checkout: Path | None) -> str:
    source = f"aiter's own sources at {AITER_COMMIT}" if checkout else "the small aiter tree of nsa_caps.testing"
    command = "python benchmarks/probing.py" + (" --aiter-checkout ../aiter" if checkout else "")
    cores, python = os.cpu_count(), platform.python_version()
    return f"Made by `{command}` on a machine of {cores} cores, Python {python}; {source}. Medians."


def _whole_process() -> str:
    """Time whole processes in turn, so that a busy moment of the machine falls on both."""
    python = [sys.executable, "-c"]
    floor, incumbent = "`python -c pass`, the floor", '`python -c "import torch, triton"`'
    commands = {
        "`nsa-caps --json`": [str(Path(sys.executable).with_name("nsa-caps")), "--json"],
        '`python -c "import nsa_caps"`': [*python, "import nsa_caps"],
        "what its modules import of others": [*python, STANDS_ON],
        floor: [*python, "pass"],
        incumbent: [*python, "import torch, triton"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(9):
        for name, command in commands.items():
            times[name].append(_process_seconds(command))
    median = {name: statistics.median(values) for name, values in times.items()}
    return _table(
        ("whole process", "ms", "above the floor", "against `import torch, triton`"),
        [
            (name, _ms(value), _ms(value - median[floor]), f"{median[incumbent] / value:.1f}x faster")
            for name, value in median.items()
        ],
    )


def _process_seconds(command: list[str]) -> float:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(command, env=environ, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def _first_calls(checkout: Path | None) -> str:
    rows = []
    for distributions in (30, 300, 1000):
        without = _first_call(distributions, with_aiter=False, checkout=checkout)
        with_source = _first_call(distributions, with_aiter=True, checkout=checkout)
        rows.append((str(distributions), _ms(without), _ms(with_source)))
    return _table(("distributions installed", "`probe` + `select`, ms", "with an aiter source to read, ms"), rows)


def _first_call(distributions: int, *, with_aiter: bool, checkout: Path | None) -> float:
    """Return the median of first calls, each in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        host = machine(
            Path(folder), platform="rocm", archs=("gfx942",), triton="3.6.0", aiter=AITER_COMMIT if with_aiter else None
        )
        site = Path(host.search_path[0])
        if with_aiter and checkout:
            _take_sources(checkout, site)
        for number in range(distributions):
            metadata = site / f"distribution_{number}-1.0.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(f"Name: distribution-{number}\nVersion: 1.0\n", encoding="utf-8")
            (site / f"distribution_{number}").mkdir()
        code = FIRST_CALL.format(environ=dict(host.environ), search_path=host.search_path, root=host.root)
        answers = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(11)]
    return statistics.median(float(seconds) for seconds, _ in answers)


def _take_sources(checkout: Path, site: Path, commit: str = AITER_COMMIT) -> None:
    """Put aiter's own sources in the place of the small tree, which is marked as an excerpt."""
    shutil.rmtree(site / "aiter", ignore_errors=True)
    (site / EXCERPTS).unlink(missing_ok=True)
    archive = subprocess.check_output(["git", "-C", str(checkout), "archive", commit, "aiter"])
    site.mkdir(exist_ok=True)
    subprocess.run(["tar", "x", "-C", str(site), "--wildcards", "*.py"], input=archive, check=True)


def _reading(checkout: Path) -> str:
    """Take the CPU's time for reading aiter's source alone, in this process, which has imported all that it needs."""
    rows = []
    for commit in ("v0.1.13", "v0.1.16", "v0.1.20", AITER_COMMIT):
        with tempfile.TemporaryDirectory() as folder:
            _take_sources(checkout, Path(folder, "site"), commit)
            host = nsa_caps.Host({}, (str(Path(folder, "site")),), {}, folder)
            package = str(Path(folder, "site/aiter"))
            is_known = known_facts(PackageFiles(host, package), release_table()) is not None
            times = [_cpu_seconds(lambda: aiter_source(host))]  # noqa: B023 called at once
            for name in CHANGED:
                path = Path(package, name)
                text = path.read_bytes()
                path.write_bytes(text + b"\n# a comment\n")
                times.append(_cpu_seconds(lambda: aiter_source(host)))  # noqa: B023 as above
                path.write_bytes(text)
            times.append(_cpu_seconds(lambda: read_in_full(PackageFiles(host, package), package)))  # noqa: B023
        known, *others = map(_ms, times)
        rows.append((commit, known if is_known else "not known", *others))
    changed = (f"with a comment more in `{name}`" for name in CHANGED)
    head = ("aiter's source, read in a warm process", "known by its digest, ms of CPU time", *changed, "in full")
    return _table(head, rows)


def _cpu_seconds(read: Callable[[], object]) -> float:
    """Return the median of the CPU's time for a reading that nothing of an earlier one is kept for."""
    times = []
    for _ in range(15):
        start = time.process_time()
        read()
        times.append(time.process_time() - start)
    return statistics.median(times)


def _proven() -> str:
    """Time first calls of this machine with a kept verdict of plain torch, each in a new process and in turn."""
    times: dict[str, list[float]] = {"nothing kept": [], "kept": [], "kept, `prove=True`": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(21):
            for name, values in times.items():
                place = os.path.join(folder, "none" if name == "nothing kept" else "proofs")
                environ = {**os.environ, "NSA_CAPS_ROW": "reference", "NSA_CAPS_PROOFS": place}
                # The first turn makes the verdict.
                code = PROVEN.format(prove=name.endswith("`") or (turn == 0 and name == "kept"))
                seconds, _ = subprocess.check_output([sys.executable, "-c", code], text=True, env=environ).split()
                values += [float(seconds)] if turn else []
    plain = statistics.median(times["kept"])
    rows = []
    for name, values in times.items():
        median = statistics.median(values)
        rows.append((name, _ms(median), f"{(median - plain) * 1e3:+.1f}"))
    return _table(("`get_indexer_layout`, with a verdict", "ms of CPU time", "against kept, without `prove`, ms"), rows)


def _cached() -> str:
    """Time `get_indexer_layout` once it has decided."""
    os.environ["NSA_CAPS_ROW"] = "reference"
    nsa_caps.get_indexer_layout()
    rounds, best = 200_000, []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(rounds):
            nsa_caps.get_indexer_layout(engine="sglang")
        best.append((time.perf_counter() - start) / rounds)
    return _table(("once cached", "ns"), [("`get_indexer_layout()`", f"{statistics.median(best) * 1e9:.0f}")])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def _table(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
