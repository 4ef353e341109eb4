"""A matrix as a picture. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.base.lines import printable
from nsa_caps.base.svg import escaped, fill_of, picture, text_at
from nsa_caps.policy.reasons import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.report.matrix import Cell, Matrix

__all__ = ["draw"]

# Pixels. A cell holds the longest code, 26 letters, and a count at 11 pixels; a letter at 13 pixels is seldom wider.
_MARGIN, _CELL, _HEIGHT, _GAP, _LINE, _LETTER = 20, 190, 58, 4, 20, 8


def draw(found: Matrix) -> str:
    """Return the picture: rows by Triton version, columns by arch, colour by chosen row, reasons in the cells."""
    rows, columns = len(found.triton_versions), len(found.archs)
    table_top = _MARGIN + 3 * _LINE
    legend_top = table_top + _LINE + rows * (_HEIGHT + _GAP) + _LINE
    legend = list(_legend(found))
    longest = max(len(text) for _, text in legend)
    width = max(_left(found, columns) - _GAP + _MARGIN, 2 * _MARGIN + longest * _LETTER)
    height = legend_top + len(legend) * _LINE + _MARGIN
    body = [
        text_at(_MARGIN, _MARGIN + 16, "Indexer row by Triton version and GPU arch", "head"),
        text_at(_MARGIN, _MARGIN + 36, found.subject, "dim"),
        *_table(found, table_top),
        *(part for index, (fill, text) in enumerate(legend) for part in _entry(legend_top + index * _LINE, fill, text)),
    ]
    title = f"Indexer row by Triton version and GPU arch: {found.subject}"
    return picture(width, height, title, _description(found), body)


def _description(found: Matrix) -> str:
    """Return the picture in words, a sentence for each Triton version, for those who cannot see it."""
    return " ".join(
        f"Triton {found.starred(version)}: "
        + ", ".join(f"{arch} {found.cell(version, arch).chosen or 'no row'}" for arch in found.archs)
        + "."
        for version in found.triton_versions
    )


def _table(found: Matrix, top: int) -> Iterator[str]:
    yield text_at(_MARGIN, top + 12, "Triton", "dim")
    for column, arch in enumerate(found.archs):
        yield text_at(_left(found, column), top + 12, found.starred(arch), "strong")
    for row, version in enumerate(found.triton_versions):
        y = top + _LINE + row * (_HEIGHT + _GAP)
        yield text_at(_MARGIN, y + _HEIGHT // 2 + 5, found.starred(version), "strong")
        for column, arch in enumerate(found.archs):
            yield from _cell(found.cell(version, arch), found.best_row, _left(found, column), y)


def _left(found: Matrix, column: int) -> int:
    label = max(len(found.starred(version)) for version in found.triton_versions) * _LETTER
    return 2 * _MARGIN + label + column * (_CELL + _GAP)


def _cell(cell: Cell, best: str | None, x: int, y: int) -> Iterator[str]:
    codes = cell.codes
    size = f"page size {cell.page_size}" if cell.chosen else ""
    more = f"{codes[0]} +{len(codes) - 1}" if len(codes) > 1 else "".join(codes)
    lines = [f"Triton {cell.triton} on {cell.arch}: {cell.chosen or 'no row'} {size}".rstrip()]
    lines += [f"not {best}: {reason}" for reason in cell.reasons]
    yield "<g>"
    yield f"<title>{escaped(chr(10).join(map(printable, lines)))}</title>"
    yield f'<rect class="{fill_of(cell.chosen)}" x="{x}" y="{y}" width="{_CELL}" height="{_HEIGHT}" rx="4"/>'
    yield text_at(x + 9, y + 18, cell.chosen or "no row", "strong")
    yield text_at(x + 9, y + 34, size, "small")
    yield text_at(x + 9, y + 50, more, "small")
    yield "</g>"


def _legend(found: Matrix) -> Iterator[tuple[str | None, str]]:
    """Return lines of the legend: a fill, or None, and a text."""
    for row, page_size in found.chosen_rows():
        yield fill_of(row.name), f"{row.name}, page size {page_size}: {row.summary}"
    if any(cell.chosen is None for cell in found.cells):
        yield "no-row", "no row: each is refused, or needs what is not known"
    if found.codes():
        yield None, f"In a cell, what is against {found.best_row} (+1: and one reason more):"
    for code in found.codes():
        yield None, f"{code}: {CODES[code]}"
    yield None, "*  as on this machine"


def _entry(y: int, fill: str | None, text: str) -> Iterator[str]:
    if fill is not None:
        yield f'<rect class="{fill}" x="{_MARGIN}" y="{y}" width="14" height="14" rx="3"/>'
    yield text_at(_MARGIN + (22 if fill else 0), y + 12, text, "dim" if fill is None else "")
