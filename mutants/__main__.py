"""`python -m mutants [--sample N] [PART ...]`: change the source at one place, and a test must fail.

cosmic-ray makes the mutants; the sources are changed in a copy of what is committed. With `--report` the page of
figures gets the table and every survivor, by what was written and what the mutant has. Needs the extra `mutants`.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mutants.making import line_changed, mutants_of
from mutants.running import baseline, is_killed, warm_up

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutants -->\n", "<!-- end of mutants -->\n"
# Per cent that must be killed where all mutants were tried.
LEAST = 97.0


class Part(NamedTuple):
    """What is mutated together.

    Attributes:
        modules: the modules, below `src/nsa_caps`; a folder stands for all of its own.
        tests: one of which must fail, below `tests`.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PARTS: Mapping[str, Part] = {
    "policy": Part(
        (
            "policy/reasons.py", "policy/rows.py", "policy/requirements", "policy/aiter_gates.py", "policy/decision.py",
            "policy/versions.py", "policy/formats.py", "policy/request.py", "policy/kept.py", "policy/engine.py",
        ),
        (
            "policy/test_policy.py", "policy/test_requirements.py", "policy/test_caveats.py", "policy/test_versions.py",
            "policy/test_kept.py", "policy/test_engine.py", "policy/test_changes.py", "test_public_api.py",
            "policy/test_machines.py",
        ),
    ),
    "pages": Part(("pages.py", "page_table.py"), ("test_pages.py", "test_page_table.py")),
    "switches": Part(
        ("capabilities/switches.py",),
        ("capabilities/test_switches.py", "policy/test_policy.py", "policy/test_engine.py"),
    ),
    "serial": Part(("base/serial.py",), ("report/test_schemas.py", "agreement/test_handshake.py", "test_fuzz.py")),
    "reader": Part(
        ("probes/python_source.py", "probes/aiter"),
        (
            "probes/test_python_source.py", "probes/test_aiter_source.py", "probes/test_aiter_evaluation.py",
            "probes/test_aiter_hostile.py", "probes/test_aiter_files.py", "probes/test_aiter_releases.py",
            "test_fuzz.py",
        ),
    ),
}  # fmt: skip


def main() -> int:
    """Try the mutants, and return 1 where too many of all survive, or where a test fails without any."""
    arguments = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    arguments.add_argument("--sample", type=int, help="how many mutants of each part, drawn at random (all)")
    arguments.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    arguments.add_argument("--minutes", type=float, help="begin no further mutant of a part after this long")
    arguments.add_argument(
        "--aiter-checkout", metavar="DIR", help="aiter's history, which tests of the reader may read"
    )
    arguments.add_argument("--report", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = arguments.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        arguments.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    rows: list[Figures] = []
    survivors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="nsa-caps-mutants-") as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        head = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(head, cwd=copy, check=True, capture_output=True, text=True).stdout.strip()
        warm_up(copy)
        for name in options.parts or PARTS:
            figures = try_part(name, copy, options, survivors)
            if figures is None:
                print(f"{name}: a test fails without any mutant", file=sys.stderr)
                return 1
            rows.append(figures)
        os.chdir(ROOT)
    text = report(" ".join(["python -m mutants", *sys.argv[1:]]), commit, rows, survivors)
    print(text)
    if options.report:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    tried, killed = sum(row.tried for row in rows), sum(row.killed for row in rows)
    return int(options.sample is None and 100 * killed < LEAST * tried)


def try_part(name: str, copy: Path, options: argparse.Namespace, survivors: list[str]) -> Figures | None:
    """Try the mutants of a part, and add those that survive; None: a test fails without any."""
    part, sources = PARTS[name], copy / "src" / "nsa_caps"
    checkout = () if options.aiter_checkout is None else (f"--aiter-checkout={Path(ROOT, options.aiter_checkout)}",)
    base = baseline(copy, part.modules, part.tests, checkout)
    if base is None:
        return None
    found = list(mutants_of(part.modules, sources))
    # All of them too in this order, so that one that is cut off is a sample.
    count = len(found) if options.sample is None else min(options.sample, len(found))
    drawn = random.Random(options.seed).sample(found, count)  # noqa: S311 no secret
    tried: Counter[bool] = Counter()
    start = time.monotonic()
    for count, mutant in enumerate(drawn, 1):
        if options.minutes is not None and time.monotonic() - start > 60 * options.minutes:
            break
        path = sources / mutant.module
        before, status = path.read_text(encoding="utf-8"), path.stat()
        after = mutant.text(before)
        changed = line_changed(before, after)
        if not changed.matters:
            continue
        path.write_text(after, encoding="utf-8")
        # Compiled code counts where time and size are those of the source: a mutant has a second of its own.
        os.utime(path, (status.st_atime, status.st_mtime + count))
        killed = is_killed(base, base.nearest(mutant.module, before, changed.number))
        path.write_text(before, encoding="utf-8")
        os.utime(path, (status.st_atime, status.st_mtime))
        tried[killed] += 1
        if not killed:
            survivors.append(f"| `{mutant.module}` | `{_cell(changed.before)}` | `{_cell(changed.after)}` |")
        print(f"{name}: {'killed' if killed else 'SURVIVED'} {mutant.module}: {changed.after}", flush=True)
    return Figures(name, len(found), tried[True] + tried[False], tried[True])


class Figures(NamedTuple):
    """How the mutants of a part fared.

    Attributes:
        part: its name, or `all`.
        found: how many mutants there are.
        tried: how many were tried.
        killed: how many of those a test failed for.
    """

    part: str
    found: int
    tried: int
    killed: int

    @property
    def share(self) -> str:
        """Per cent that were killed, and, of a sample, what that says of all with 95 % confidence (Wilson)."""
        if not self.tried:
            return "none tried"
        share, z = self.killed / self.tried, 1.96
        if self.tried == self.found:
            return f"{100 * share:.1f} %"
        middle = share + z * z / (2 * self.tried)
        half = z * math.sqrt(share * (1 - share) / self.tried + z * z / (4 * self.tried**2))
        low, high = ((middle + side) / (1 + z * z / self.tried) for side in (-half, half))
        return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def report(asked: str, commit: str, rows: list[Figures], survivors: list[str]) -> str:
    """Return the figures and the survivors as Markdown."""
    lines = [f"`{asked}`, of commit {commit}:", "", "| part | mutants | tried | killed | |", "|---|---|---|---|---|"]
    whole = Figures(
        "all", sum(row.found for row in rows), sum(row.tried for row in rows), sum(row.killed for row in rows)
    )
    lines += [
        f"| {row.part} | {row.found:,} | {row.tried:,} | {row.killed:,} | {row.share} |" for row in (*rows, whole)
    ]
    if survivors:
        lines += ["", "Survivors:", "", "| module | line | mutant |", "|---|---|---|", *survivors]
    return "\n".join(lines) + "\n"


def _cell(line: str) -> str:
    return line.replace("|", "\\|") or " "


if __name__ == "__main__":
    sys.exit(main())
