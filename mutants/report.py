"""What mutants showed: `python -m mutants.report FILE ...` writes the page of figures from what runs have written.

Of a part that stands in several files the first counts.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- mutants -->\n", "<!-- end of mutants -->\n"


class Survivor(NamedTuple):
    """A mutant that no test fails for.

    Attributes:
        module: below `src/nsa_caps`.
        before: the line as it was.
        after: the line as it is.
    """

    module: str
    before: str
    after: str


class Figures(NamedTuple):
    """How the mutants of a part fared.

    Attributes:
        part: its name, or `all`.
        found: how many mutants there are.
        tried: how many were tried.
        survivors: those of them that no test fails for.
        command: what was run.
        commit: of which commit.
        failed: the tests that fail without any mutant, and were left out.
    """

    part: str
    found: int
    tried: int
    survivors: tuple[Survivor, ...]
    command: str
    commit: str
    failed: tuple[str, ...]

    @property
    def killed(self) -> int:
        """How many a test failed for."""
        return self.tried - len(self.survivors)

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


def write(rows: Iterable[Figures], path: Path) -> None:
    """Write the figures of a run as JSON."""
    path.write_text(json.dumps([row._asdict() for row in rows], indent=1), encoding="utf-8")


def read(path: Path) -> list[Figures]:
    """Read what a run has written."""
    rows = (Figures(**row) for row in json.loads(path.read_text(encoding="utf-8")))
    return [
        row._replace(survivors=tuple(Survivor(*one) for one in row.survivors), failed=tuple(row.failed)) for row in rows
    ]


def report(rows: Iterable[Figures]) -> str:
    """Return the figures and the survivors as Markdown."""
    rows = list(rows)
    lines = ["| part | mutants | tried | killed | | command | commit |", "|---|---|---|---|---|---|---|"]
    whole = Figures(
        "all",
        sum(row.found for row in rows),
        sum(row.tried for row in rows),
        tuple(survivor for row in rows for survivor in row.survivors),
        "",
        "",
        (),
    )
    lines += [
        f"| {row.part} | {row.found:,} | {row.tried:,} | {row.killed:,} | {row.share} |"
        f" {f'`{row.command}`' if row.command else ''} | {row.commit} |"
        for row in (*rows, *([whole] if len(rows) > 1 else []))
    ]
    failed = sorted({test for row in rows for test in row.failed})
    if failed:
        lines += [
            "",
            f"Left out, since they fail there without any mutant: {', '.join(f'`{test}`' for test in failed)}.",
        ]
    if whole.survivors:
        lines += ["", "Survivors:", "", "| module | line | mutant |", "|---|---|---|"]
        lines += [f"| `{module}` | `{_cell(old)}` | `{_cell(new)}` |" for module, old, new in whole.survivors]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page."""
    arguments = argparse.ArgumentParser(prog="python -m mutants.report", description=__doc__)
    arguments.add_argument("files", nargs="+", type=Path, metavar="FILE")
    rows: dict[str, Figures] = {}
    for path in arguments.parse_args().files:
        for row in read(path):
            rows.setdefault(row.part, row)
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = f"{before}{BEGIN}\n{report(rows.values())}\n{END}{rest.split(END)[1]}"
    PAGE.write_text(text, encoding="utf-8")
    return 0


def _cell(line: str) -> str:
    return line.replace("|", "\\|") or " "


if __name__ == "__main__":
    sys.exit(main())
