"""Writes `docs/tables/differences.md`: `python -m tests.downstream.table DIR`, a folder with the engines' wheels."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.downstream.differences import CLASSES, count
from tests.downstream.wheels import find_wheels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.downstream.differences import Count

WHEELS = ("sglang 0.5.12", "sglang 0.5.23", "vllm 0.33.0")
PAGE = Path(__file__).parents[2] / "docs/tables/differences.md"


def text(counts: Mapping[str, Count]) -> str:
    """Return the table: a row a class, a column a wheel, with the questions of that class, and of it alone."""
    lines = [
        ["class", "what the engine's gate does not look at", "seen in", *counts],
        ["---"] * (3 + len(counts)),
        ["", "questions asked", "", *(f"{each.cells:,}" for each in counts.values())],
        ["", "the same answer", "", *(f"{each.agree:,}" for each in counts.values())],
    ]
    for code, (why, seen) in CLASSES.items():
        numbers = (f"{each.classes[code]:,} ({each.alone[code]:,})" for each in counts.values())
        lines.append([f"`{code}`", why, ", ".join(seen) or "-", *numbers])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main(arguments: list[str]) -> int:
    """Write the table; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.downstream.table DIR\n")
        return 2
    counts = {}
    for wheel in find_wheels(Path(arguments[0])):
        if str(wheel) not in WHEELS:
            continue
        with tempfile.TemporaryDirectory() as folder:
            counts[str(wheel)] = count(wheel, Path(folder))
        wheel.close()
    PAGE.write_text(text(counts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
