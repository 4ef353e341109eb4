"""`python -m fuzz [--inputs N] [PARSER]`: coverage-guided inputs for one parser, or for each in turn.

What fails is written to `tests/fuzz_regressions/PARSER/`, which `tests/test_fuzz.py` replays. Needs the extra `fuzz`.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nsa_caps"]):
    from fuzz.targets import TARGETS

# Of an input of 8 kB; the slowest takes some milliseconds.
_SECONDS = 2
REGRESSIONS = Path(__file__).parents[1] / "tests" / "fuzz_regressions"


def main() -> int:
    """Fuzz, and return 1 where a parser failed."""
    arguments = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    arguments.add_argument("parsers", nargs="*", metavar="PARSER", help=f"{', '.join(TARGETS)} (all)")
    arguments.add_argument("--inputs", type=int, default=100_000, help="inputs a parser (100000)")
    arguments.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    options = arguments.parse_args()
    unknown = sorted(set(options.parsers) - set(TARGETS))
    if unknown:
        arguments.error(f"there is no parser {unknown[0]!r}; there are {', '.join(TARGETS)}")
    failed = []
    for name in options.parsers or TARGETS:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="nsa-caps-fuzz-") as folder:
            # libFuzzer ends the process that it runs in.
            process = multiprocessing.get_context("fork").Process(
                target=fuzz, args=(name, Path(folder), options.inputs, options.seed)
            )
            process.start()
            process.join()
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
    limits = [f"-runs={inputs}", f"-seed={seed}", "-max_len=8192", "-timeout=600", "-rss_limit_mb=2048"]

    def feed(data: bytes) -> None:
        start = time.process_time()
        try:
            target.holds(data, work)
            assert time.process_time() - start < _SECONDS, f"took more than {_SECONDS} s"
        except BaseException:
            (findings / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
            raise

    # An endless loop, or too much memory, is written down by libFuzzer itself.
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={findings}/", "-print_final_stats=1", str(seeds)], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
