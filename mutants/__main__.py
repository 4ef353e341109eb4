"""`python -m mutants [--sample N] [PART ...]`: change the source at one place, and a test must fail.

cosmic-ray makes the mutants; the sources are changed in copies of what is committed. `--results` keeps the figures and
every survivor, from which `python -m mutants.report` writes the page. Needs the extra `mutants`.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mutants.making import Changed, Mutant, line_changed, mutants_of
from mutants.report import ROOT, Figures, Survivor, report, write
from mutants.running import baselines, is_killed, warm_up, workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Per cent that must be killed where all mutants were tried.
LEAST = 97.0


class Part(NamedTuple):
    """What is mutated together.

    Attributes:
        modules: the modules, below `src/nsa_caps`; a folder stands for all of its own.
        tests: one of which must fail, below `tests`; a folder stands for all of its own.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PARTS: Mapping[str, Part] = {
    "policy": Part(
        (
            "policy/reasons.py", "policy/rows.py", "policy/requirements", "policy/aiter_gates.py", "policy/decision.py",
            "policy/versions.py", "policy/formats.py", "policy/request.py", "policy/kept.py", "policy/engine.py",
        ),
        ("policy", "test_public_api.py"),
    ),
    "pages": Part(("pages.py", "page_table.py"), ("test_pages.py", "test_page_table.py")),
    "switches": Part(
        ("capabilities/switches.py",),
        ("capabilities/test_switches.py", "policy/test_policy.py", "policy/test_engine.py"),
    ),
    "serial": Part(
        ("base/serial.py",), ("test_serial.py", "report/test_schemas.py", "agreement/test_handshake.py", "test_fuzz.py")
    ),
    "reader": Part(
        ("probes/python_source.py", "probes/aiter"),
        (
            "probes/test_python_source.py", "probes/test_aiter_language.py", "probes/test_aiter_evaluation.py",
            "probes/test_aiter_told.py", "probes/test_aiter_text.py", "probes/test_aiter_edited.py",
            "probes/test_aiter_fitting.py", "probes/test_aiter_limits.py", "probes/test_aiter_imports.py",
            "probes/test_aiter_source.py", "probes/test_aiter_flydsl.py",
            "probes/test_aiter_hostile.py", "probes/test_aiter_files.py", "probes/test_aiter_releases.py",
            "probes/test_aiter_tensors.py", "probes/test_aiter_import_chain.py",
            "probes/test_aiter_import_facts.py", "test_fuzz.py",
        ),
    ),
}  # fmt: skip


def main() -> int:
    """Try the mutants, and return 1 where too many of all survive, or where a test fails without any."""
    arguments = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    arguments.add_argument("--sample", type=int, help="how many mutants of each part, drawn at random (all)")
    arguments.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    arguments.add_argument("--jobs", type=int, default=1, help="how many are tried at once (1)")
    arguments.add_argument("--minutes", type=float, help="begin no further mutant after this long")
    arguments.add_argument(
        "--aiter-checkout", metavar="DIR", help="aiter's history, which tests of the reader may read"
    )
    arguments.add_argument("--commit", help="copy the sources as they lie here, and call them so (what is committed)")
    arguments.add_argument("--results", type=Path, help="write the figures as JSON, for `python -m mutants.report`")
    options = arguments.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        arguments.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    end = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    warm_up()
    with tempfile.TemporaryDirectory(prefix="nsa-caps-mutants-") as folder:
        rows = try_parts(options.parts or list(PARTS), Path(folder), end, options)
    print(report(rows))
    tried, killed = sum(row.tried for row in rows), sum(row.killed for row in rows)
    failed = any(row.failed for row in rows)
    return int(failed or (options.sample is None and 100 * killed < LEAST * tried))


def try_parts(names: list[str], folder: Path, end: float, options: argparse.Namespace) -> list[Figures]:
    """Try the mutants of some parts, of each the same share where time runs out."""
    first = folder / "0" / "copy"
    commit = copied(first, options.commit)
    checkout = () if options.aiter_checkout is None else (f"--aiter-checkout={Path(ROOT, options.aiter_checkout)}",)
    with workers([first] * options.jobs, {}) as pool:
        bases = baselines(pool, {name: files_of(PARTS[name].tests, first) for name in names}, checkout)
    copies = [first, *(folder / str(number) / "copy" for number in range(1, options.jobs))]
    for copy in copies[1:]:
        # Compiled tests too.
        shutil.copytree(first, copy)
    drawn: list[tuple[float, str, Mutant]] = []
    rows: dict[str, Figures] = {}
    for name in names:
        found = list(mutants_of(PARTS[name].modules, first / "src" / "nsa_caps"))
        # All of them too in this order, so that one that is cut off is a sample.
        count = len(found) if options.sample is None else min(options.sample, len(found))
        sample = random.Random(options.seed).sample(found, count)  # noqa: S311 no secret
        drawn += ((place / count, name, mutant) for place, mutant in enumerate(sample))
        rows[name] = Figures(name, len(found), 0, (), asked(names, options), commit, bases[name].failed)
    with workers(copies, bases) as pool:
        trials = {pool.submit(try_one, name, mutant, end): (name, mutant) for _, name, mutant in sorted(drawn)}
        for trial in as_completed(trials):
            name, mutant = trials[trial]
            row, (outcome, changed) = rows[name], trial.result()
            print(f"{name}: {outcome} {mutant.module}:{changed.number}: {changed.after}", flush=True)
            if outcome == "no Python":
                rows[name] = row._replace(found=row.found - 1)
            if outcome in {"killed", "SURVIVED"}:
                rows[name] = row._replace(tried=row.tried + 1)
            if outcome == "SURVIVED":
                survivor = Survivor(mutant.module, changed.before, changed.after)
                rows[name] = rows[name]._replace(survivors=(*row.survivors, survivor))
            if options.results is not None:
                write(rows.values(), options.results)
    return list(rows.values())


def files_of(tests: Iterable[str], copy: Path) -> list[str]:
    """Return the files of some tests, below a copy of the sources."""
    places = [copy / "tests" / name for name in tests]
    files = [path for place in places for path in (sorted(place.glob("test_*.py")) if place.is_dir() else [place])]
    return [str(path.relative_to(copy)) for path in files]


def asked(names: list[str], options: argparse.Namespace) -> str:
    """Return the command that draws and tries the same mutants."""
    told = {"--sample": options.sample, "--seed": options.seed, "--jobs": options.jobs, "--minutes": options.minutes}
    given = [f"{name} {value:g}" for name, value in told.items() if value is not None]
    checkout = [] if options.aiter_checkout is None else [f"--aiter-checkout {options.aiter_checkout}"]
    return " ".join(["python -m mutants", *given, *checkout, *names])


def copied(copy: Path, commit: str | None) -> str:
    """Copy what is committed, or, given a name for them, the sources as they lie here; return what they are called."""
    if commit is None:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        head = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(head, cwd=copy, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return commit


def try_one(part: str, mutant: Mutant, end: float) -> tuple[str, Changed]:
    """Try a mutant in a worker's copy of the sources, and say how it fared and what it was."""
    if time.monotonic() > end:
        return "not begun", Changed(0, "", "")
    path = Path("src/nsa_caps") / mutant.module
    before, status = path.read_text(encoding="utf-8"), path.stat()
    after = mutant.text(before)
    changed = line_changed(before, after)
    try:
        compile(after, path, "exec", dont_inherit=True)
    except SyntaxError:
        return "no Python", changed
    path.write_text(after, encoding="utf-8")
    # Compiled code counts where time and size are those of the source: a mutant has a second of its own.
    os.utime(path, (status.st_atime, status.st_mtime + 1))
    killed = is_killed(part, mutant.module, before, changed.number)
    path.write_text(before, encoding="utf-8")
    os.utime(path, (status.st_atime, status.st_mtime))
    return "killed" if killed else "SURVIVED", changed


if __name__ == "__main__":
    sys.exit(main())
