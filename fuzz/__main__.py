"""`python -m fuzz [--inputs N] [PARSER]`: coverage-guided inputs for some parsers, or for all, each by its share.

What fails is written to `tests/fuzz_regressions/PARSER/`, which `tests/test_fuzz.py` replays. Needs the extra `fuzz`.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nsa_caps"]):
    from fuzz.targets import TARGETS

# What one input of at most 8 kB may take: of the processor's time, and of memory, the interpreter's own 45 included.
_SECONDS, _MEBIBYTES = 1, 256
REGRESSIONS = Path(__file__).parents[1] / "tests" / "fuzz_regressions"


def main() -> int:
    """Fuzz, and return 1 where a parser failed."""
    arguments = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    arguments.add_argument("parsers", nargs="*", metavar="PARSER", help=f"{', '.join(TARGETS)} (all)")
    arguments.add_argument("--inputs", type=int, default=1_000_000, help="inputs, all parsers together (1000000)")
    arguments.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    options = arguments.parse_args()
    unknown = sorted(set(options.parsers) - set(TARGETS))
    if unknown:
        arguments.error(f"there is no parser {unknown[0]!r}; there are {', '.join(TARGETS)}")
    failed = []
    names = options.parsers or list(TARGETS)
    whole = sum(TARGETS[name].share for name in names)
    for name in names:
        inputs = -(-options.inputs * TARGETS[name].share // whole)
        with tempfile.TemporaryDirectory(prefix="nsa-caps-fuzz-") as folder:
            # libFuzzer ends the process that it runs in.
            process = multiprocessing.get_context("fork").Process(
                target=fuzz, args=(name, Path(folder), inputs, options.seed)
            )
            process.start()
            process.join()
            print(f"| `{name}` | {summary(Path(folder))} |", flush=True)
        if process.exitcode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all parsers hold")
    return 1 if failed else 0


def fuzz(name: str, folder: Path, inputs: int, seed: int) -> None:
    """Feed one parser, starting from its seeds; does not return."""
    target, findings = TARGETS[name], REGRESSIONS / name
    findings.mkdir(parents=True, exist_ok=True)
    seeds, work = folder / "seeds", folder / "work"
    seeds.mkdir()
    work.mkdir()
    for index, data in enumerate(target.seeds):
        (seeds / str(index)).write_bytes(data)
    # A clock on the wall counts what other processes do too: `feed` counts this one's time.
    limits = [f"-runs={inputs}", f"-seed={seed}", "-max_len=8192", "-timeout=600", f"-rss_limit_mb={_MEBIBYTES}"]
    # libFuzzer tells its figures on the descriptor itself.
    os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT), 2)
    slowest = 0.0

    def feed(data: bytes) -> None:
        nonlocal slowest
        start = time.process_time()
        try:
            target.holds(data, work)
            seconds = time.process_time() - start
            if seconds > slowest:
                slowest = seconds
                (folder / "slowest").write_text(f"{slowest:.3f}")
            assert seconds < _SECONDS, f"took more than {_SECONDS} s"
        except BaseException:
            (findings / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            raise

    # An endless loop, or too much memory, is written down by libFuzzer itself.
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={findings}/", "-print_final_stats=1", str(seeds)], feed)
    atheris.Fuzz()


def summary(folder: Path) -> str:
    """Return a parser's figures: inputs, edges reached, the slowest input in seconds, the most memory in MiB."""
    log = (folder / "log").read_text(errors="replace")
    edges = re.findall(r"cov: (\d+)", log)
    stats = dict(re.findall(r"stat::(\w+): +(\d+)", log))
    if "number_of_executed_units" not in stats:
        return f"ended before its last input: {log[-2000:]}"
    inputs, memory = int(stats["number_of_executed_units"]), stats["peak_rss_mb"]
    return f"{inputs:,} | {edges[-1] if edges else 0} | {(folder / 'slowest').read_text()} | {memory}"


if __name__ == "__main__":
    sys.exit(main())
