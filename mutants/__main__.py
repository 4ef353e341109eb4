"""`python -m mutants [--sample N] [PART ...]`: change the source at one place, and a test must fail.

cosmic-ray makes the mutants; the sources are changed in a copy of what is committed. With `--report` the page of
figures gets the table and every survivor, by what was written and what the mutant has. Needs the extra `mutants`.
"""

from __future__ import annotations

import argparse
import difflib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutants -->\n", "<!-- end of mutants -->\n"
# Per cent that must be killed where all mutants were tried.
LEAST = 97.0
# Of one mutant; the tests of a part take seconds.
_SECONDS = 300


class Part(NamedTuple):
    """What is mutated together.

    Attributes:
        modules: the modules, below `src/nsa_caps`; a folder stands for all of its own.
        tests: what must fail, below `tests`.
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
    "switches": Part(("capabilities/switches.py",), ("capabilities/test_switches.py", "policy/test_policy.py")),
    "serial": Part(("base/serial.py",), ("report/test_schemas.py", "agreement/test_handshake.py", "test_fuzz.py")),
    "reader": Part(
        ("probes/python_source.py", "probes/aiter"),
        ("probes/test_python_source.py", "probes/test_aiter_source.py", "test_fuzz.py"),
    ),
}  # fmt: skip
# What cannot matter: annotations are not run, so that `X | None` may as well be `X + None`; four arithmetic operators
# in place of one are enough; `is` and `==` mean the same of None, of truth values and of texts written in the source.
_LEFT_OUT = re.compile(
    r"core/(NoOp|ReplaceBinaryOperator_BitOr_.*"
    r"|ReplaceBinaryOperator_.*_(Pow|RShift|LShift|BitOr|BitAnd|BitXor)"
    r"|ReplaceComparisonOperator_(Is_Eq|IsNot_NotEq|Eq_Is|NotEq_IsNot))"
)
# A mutant of these lines changes only what is imported for annotations.
_NO_MATTER = re.compile(r"if (not )?TYPE_CHECKING:|^from |^import ")


class Mutant(NamedTuple):
    """One change of one module.

    Attributes:
        module: below `src/nsa_caps`.
        operator: cosmic-ray's name of the change.
        occurrence: at which of the places where it can be made.
    """

    module: str
    operator: str
    occurrence: int

    def text(self, source: str) -> str:
        """Return the module's text with the change."""
        return str(mutate_code(source, get_operator(self.operator)(), self.occurrence))


def mutants_of(part: Part, sources: Path) -> Iterator[Mutant]:
    """Yield all mutants of a part that may matter."""
    for name in part.modules:
        place = sources / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            module, text = str(path.relative_to(sources)), path.read_text(encoding="utf-8")
            nodes = list(ast_nodes(get_ast(text)))
            for operator in operator_names():
                kind = get_operator(operator)
                if _LEFT_OUT.fullmatch(operator) or kind.arguments():
                    continue
                made = kind()
                places = sum(len(list(made.mutation_positions(node))) for node in nodes)
                yield from (Mutant(module, operator, occurrence) for occurrence in range(places))


def lines_changed(before: str, after: str) -> tuple[str, str]:
    """Return the first line that a mutant changed, as it was and as it is."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:2] in ("- ", "+ ")]
    old = next((line[2:].strip() for line in lines if line[0] == "-"), "")
    return old, next((line[2:].strip() for line in lines if line[0] == "+"), "")


def is_killed(copy: Path, part: Part) -> bool:
    """Return whether a test of the part fails in a copy of the project."""
    tests = [f"tests/{name}" for name in part.tests]
    environ = {**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=environ, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def main() -> int:
    """Try the mutants, and return 1 where too many of all survive, or where a test fails without any."""
    arguments = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (all)")
    arguments.add_argument("--sample", type=int, help="how many mutants of each part, drawn at random (all)")
    arguments.add_argument("--seed", type=int, default=1, help="of the draw (1)")
    arguments.add_argument("--minutes", type=float, help="begin no further mutant of a part after this long")
    arguments.add_argument("--report", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = arguments.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        arguments.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    rows, survivors = [], []
    sums: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="nsa-caps-mutants-") as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=copy, check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in options.parts or PARTS:
            part, sources = PARTS[name], copy / "src" / "nsa_caps"
            if is_killed(copy, part):
                print(f"{name}: a test fails without any mutant", file=sys.stderr)
                return 1
            found = list(mutants_of(part, sources))
            count = len(found) if options.sample is None else min(options.sample, len(found))
            # All of them too in this order, so that one that is cut off is a sample.
            drawn = random.Random(options.seed).sample(found, count)  # noqa: S311 no secret
            tried: Counter[bool] = Counter()
            start = time.monotonic()
            for mutant in drawn:
                if options.minutes is not None and time.monotonic() - start > 60 * options.minutes:
                    break
                path = sources / mutant.module
                before = path.read_text(encoding="utf-8")
                after = mutant.text(before)
                old, new = lines_changed(before, after)
                if _NO_MATTER.search(old) or old == new:
                    continue
                path.write_text(after, encoding="utf-8")
                killed = is_killed(copy, part)
                path.write_text(before, encoding="utf-8")
                tried[killed] += 1
                if not killed:
                    survivors.append(f"| `{mutant.module}` | `{_cell(old)}` | `{_cell(new)}` |")
                print(f"{name}: {'killed' if killed else 'SURVIVED'} {mutant.module}: {new}", flush=True)
            rows.append((name, len(found), tried[True] + tried[False], tried[True]))
            sums.update(found=len(found), tried=sum(tried.values()), killed=tried[True])
    rows.append(("all", sums["found"], sums["tried"], sums["killed"]))
    asked = " ".join(["python -m mutants", *sys.argv[1:]])
    text = report(asked, commit, rows, survivors)
    print(text)
    if options.report:
        page = PAGE.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return int(options.sample is None and 100 * sums["killed"] < LEAST * sums["tried"])


def report(asked: str, commit: str, rows: list[tuple[str, int, int, int]], survivors: list[str]) -> str:
    """Return the figures and the survivors as Markdown."""
    lines = [f"`{asked}`, of commit {commit}:", "", "| part | mutants | tried | killed | |", "|---|---|---|---|---|"]
    for name, found, tried, killed in rows:
        share = f"{100 * killed / tried:.1f} %" if tried else "none tried"
        lines.append(f"| {name} | {found:,} | {tried:,} | {killed:,} | {share} |")
    if survivors:
        lines += ["", "Survivors:", "", "| module | line | mutant |", "|---|---|---|", *survivors]
    return "\n".join(lines) + "\n"


def _cell(line: str) -> str:
    return line.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
