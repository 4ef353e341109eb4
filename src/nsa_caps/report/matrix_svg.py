"""A matrix as a picture, and the parts of pictures: the same SVG for the same data, on light and dark pages. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nsa_caps.base.lines import printable
from nsa_caps.policy.reasons import CODES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.report.matrix import Cell, Matrix

__all__ = ["draw", "escaped", "fill_of", "picture", "text_at"]

# Fill of a row's cells on a light and on a dark page. The cell names its row too: colour alone tells nothing.
_FILLS = {
    "aiter-preshuffle": ("#bfe3c6", "#1f5b2c"),
    "aiter-flat": ("#dcecb4", "#445512"),
    "aiter-token": ("#fbe3a1", "#5f4805"),
    "deepgemm": ("#bcdcf5", "#17496f"),
    "portable": ("#dccdf2", "#4b3478"),
    "reference": ("#e0e0e0", "#4a4a4a"),
    "other-row": ("#c5e4e4", "#1d5454"),
    "no-row": ("#f4b8b3", "#7a2320"),
}
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


def picture(width: int, height: int, title: str, description: str, body: Iterable[str]) -> str:
    """Return a whole picture: its size in pixels, what it shows in words, and its parts."""
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="nsa-caps-title nsa-caps-desc">',
        f'<title id="nsa-caps-title">{escaped(title)}</title>',
        f'<desc id="nsa-caps-desc">{escaped(description)}</desc>',
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        *body,
        "</svg>\n",
    ])  # fmt: skip


def _style() -> str:
    def fills(dark: int) -> str:
        return "".join(f".{name}{{fill:{pair[dark]}}}" for name, pair in _FILLS.items())

    # System fonts only: a picture in a page may load nothing.
    return (
        "text{font:13px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2328}"
        ".head{font-size:17px;font-weight:600}.strong{font-weight:600}.small{font-size:11px}.dim{fill:#59636e}"
        f".page{{fill:#ffffff}}{fills(0)}"
        "@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.dim{fill:#9198a1}"
        f".page{{fill:#0d1117}}{fills(1)}}}"
    )


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


def fill_of(row: str | None) -> str:
    """Return the class that fills with a row's colour; None: no row."""
    return "no-row" if row is None else row if row in _FILLS else "other-row"


def _legend(found: Matrix) -> Iterator[tuple[str | None, str]]:
    """Return lines of the legend: a fill, or None, and a text."""
    for row, page_size in found.chosen_rows():
        yield fill_of(row.name), f"{row.name}, page size {page_size}: {row.summary}"
    if any(cell.chosen is None for cell in found.cells):
        yield "no-row", "no row: every one is refused or rests on something unknown"
    if found.codes():
        yield None, f"In a cell, what is against {found.best_row} (+1: and one reason more):"
    for code in found.codes():
        yield None, f"{code}: {CODES[code]}"
    yield None, "*  as on this machine"


def _entry(y: int, fill: str | None, text: str) -> Iterator[str]:
    if fill is not None:
        yield f'<rect class="{fill}" x="{_MARGIN}" y="{y}" width="14" height="14" rx="3"/>'
    yield text_at(_MARGIN + (22 if fill else 0), y + 12, text, "dim" if fill is None else "")


def text_at(x: int, y: int, text: str, kind: str = "") -> str:
    """Return a line of text from this point on; `kind` is a class: head, strong, small, dim."""
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x}" y="{y}">{escaped(printable(text))}</text>'


def escaped(text: str) -> str:
    """Return a text as XML has it."""
    return escape(text, quote=True)
