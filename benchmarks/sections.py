"""Puts a measured table into its section of docs/performance_appendix.md.

Benchmarks call `write_section`. What another machine measured is put in by hand:
`python benchmarks/sections.py NAME FILE`.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["write_section"]

PAGE = Path(__file__).parent.parent / "docs" / "performance_appendix.md"


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the page's `begin NAME` and `end NAME` comments.

    Raises:
        ValueError: the page has no such comments.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no section between {begin.strip()} and {end}")
    page.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    section, path = sys.argv[1:]
    write_section(section, Path(path).read_text(encoding="utf-8"))
