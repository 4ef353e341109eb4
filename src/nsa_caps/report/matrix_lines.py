"""The decision over Triton versions x GPU archs as text: a table where it fits, else a list by arch. Pure."""

from __future__ import annotations

from itertools import groupby
from string import ascii_lowercase
from typing import TYPE_CHECKING

from nsa_caps.base.lines import HANG, WIDTH, indented
from nsa_caps.policy.reasons import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsa_caps.base.lines import Line, Span
    from nsa_caps.report.matrix import Cell, Matrix

__all__ = ["matrix_lines"]


def matrix_lines(found: Matrix, width: int = WIDTH) -> Iterator[Line]:
    """Return a matrix with a letter for what is against the best row, and what row and letter mean.

    Args:
        found: the matrix.
        width: columns that there are; a table that needs more is told as a list.
    """
    marks = {code: ascii_lowercase[index % 26] for index, code in enumerate(found.codes())}
    yield HANG, ("Indexer row by Triton version and GPU arch: ", "label"), (found.subject, "")
    yield ()
    table = list(_table_lines(found, marks))
    fits = max(sum(len(text) for text, _ in line) for line in table) <= width
    yield from table if fits else _list_lines(found, marks)
    yield ()
    for row, page_size in found.chosen_rows():
        yield (f"{row.name:<18}", "row"), HANG, (f"page size {page_size}: {row.summary}", "")
    if marks:
        yield ()
        yield ((f"Against {found.best_row}:", "label"),)
    for code, mark in marks.items():
        yield from indented(f"  {mark}  ", f"{CODES.get(code, code)} [{code}]")
    yield (("  *  as on this machine", ""),)


def _table_lines(found: Matrix, marks: Mapping[str, str]) -> Iterator[Line]:
    width = 2 + max(len(text) for text in (*(_text(cell, marks) for cell in found.cells), *found.archs))
    label = 2 + max(len(found.starred(version)) for version in ("Triton", *found.triton_versions))
    archs = "".join(f"{found.starred(arch):<{width}}" for arch in found.archs)
    yield ((f"{'Triton':<{label}}{archs.rstrip()}", "label"),)
    for version in found.triton_versions:
        cells = (found.cell(version, arch) for arch in found.archs)
        spans = ((f"{_text(cell, marks):<{width}}", _role(cell, found)) for cell in cells)
        yield (f"{found.starred(version):<{label}}", "label"), *spans


def _list_lines(found: Matrix, marks: Mapping[str, str]) -> Iterator[Line]:
    """Return a line for each run of versions that an arch has the same answer with."""
    runs: list[tuple[str, str, Span]] = []
    for arch in found.archs:
        name = found.starred(arch)
        cells = (found.cell(version, arch) for version in found.triton_versions)
        for text, same in groupby(cells, key=lambda cell: _text(cell, marks)):
            run = list(same)
            versions = [found.starred(cell.triton) for cell in run]
            told = versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
            inside = "*" if any(version.endswith("*") for version in versions[1:-1]) else ""
            runs.append((name, told + inside, (text, _role(run[0], found))))
            name = ""
    first = 3 + max(len(name) for name in ("arch", *found.archs))
    second = 2 + max(len(told) for told in ("Triton", *(told for _, told, _ in runs)))
    yield ((f"{'arch':<{first}}{'Triton':<{second}}row", "label"),)
    for name, told, span in runs:
        yield (f"{name:<{first}}{told:<{second}}", "label"), span


def _text(cell: Cell, marks: Mapping[str, str]) -> str:
    return f"{cell.chosen or 'no row'} {''.join(marks[code] for code in cell.codes)}".rstrip()


def _role(cell: Cell, found: Matrix) -> str:
    return "bad" if cell.chosen is None else "good" if cell.chosen == found.best_row else "fallback"
