"""Draws the pictures of the docs, from what they show; with `--check`, fails where they differ.

Run as `python docs/pictures.py [--check]`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps import Capabilities, PageFormat, decide, probe
from nsa_caps.base.lines import WIDTH, parted, pieces, plain
from nsa_caps.base.svg import escaped, picture, text_at
from nsa_caps.pages import TILE
from nsa_caps.policy.explain import report_lines
from nsa_caps.report.matrix import matrix
from nsa_caps.report.matrix_svg import draw
from nsa_caps.testing import named_machine
from nsa_caps.testing.named_machines import named_capabilities

# Beside the tests, which hold what it measures.
sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.house import FACES, arrows, floors, imports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.base.lines import Line, Span
    from nsa_caps.pages import Order

DOCS = Path(__file__).parent
_MARGIN, _LINE = 20, 18
# Fills on a light and on a dark page: two neutral ones, three that are told apart, and lines.
_FILLS = {
    "even": ("#eceff2", "#2a3038"),
    "odd": ("#dde2e7", "#343c46"),
    "first": ("#3f9a54", "#58b96f"),
    "second": ("#3d85c6", "#5aa2e0"),
    "third": ("#d98b2b", "#e8a654"),
    "stroke": ("#59636e", "#9198a1"),
}
_STYLE = "".join((
    "<style>",
    *(f".{name}{{fill:{light}}}" for name, (light, _) in _FILLS.items()),
    "@media (prefers-color-scheme:dark){",
    *(f".{name}{{fill:{dark}}}" for name, (_, dark) in _FILLS.items()),
    "}</style>",
))  # fmt: skip


def matrix_picture() -> str:
    """Return what `nsa-caps matrix --svg` draws on an MI300X in a ROCm 7.2 image."""
    with tempfile.TemporaryDirectory() as folder:
        found = probe(named_machine(f"{folder}/machine", "mi300x_rocm720")).to_json().replace(f"{folder}/machine", "")
    return draw(matrix(Capabilities.from_json(found)))


# --- A report as a terminal shows it, in colours that can be read on both grounds

_COLUMN, _MONO = 8, "13px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace"
_ROLES = {
    "good": ("#1a7f37", "#3fb950"),
    "fallback": ("#8a5a00", "#d9a520"),
    "warning": ("#8a5a00", "#d9a520"),
    "source": ("#59636e", "#9198a1"),
    "command": ("#0a6c80", "#39c5dd"),
}


def report_picture() -> str:
    """Return what `nsa-caps --machine mi300x_rocm700` prints on a terminal of 80 columns."""
    decision = decide(named_capabilities("mi300x_rocm700"))
    shown = [spans for line in report_lines(decision) for spans in _pieces_of(line)]
    style = [f"text{{font:{_MONO};white-space:pre}}", ".good,.fallback,.row,.label{font-weight:bold}"]
    light, dark = ("".join(f".{role}{{fill:{pair[ground]}}}" for role, pair in _ROLES.items()) for ground in (0, 1))
    body = [f"<style>{''.join(style)}{light}@media (prefers-color-scheme:dark){{{dark}}}</style>"]
    for number, spans in enumerate(shown):
        inner = "".join(f'<tspan class="{role or "plain"}">{escaped(text)}</tspan>' for text, role in spans if text)
        if inner:
            body.append(f'<text x="{_MARGIN}" y="{_MARGIN + 14 + number * _LINE}">{inner}</text>')
    title = "A report on an MI300X with Triton 3.4: the fallback in yellow, the fix in blue"
    width, height = 2 * _MARGIN + WIDTH * _COLUMN, 2 * _MARGIN + len(shown) * _LINE
    return picture(width, height, title, " ".join(plain(report_lines(decision)).split()), body)


def _pieces_of(line: Line) -> Iterator[Line]:
    """Return a line as the lines that it is broken into at 80 columns, with their roles."""
    parts = parted(line)
    if parts is None:
        yield line
        return
    start, body = parts
    indent, text = sum(len(text) for text, _ in start), "".join(text for text, _ in body)
    for number, piece in enumerate(pieces(text, WIDTH - indent)):
        head = start if number == 0 else ((" " * indent, ""),)
        yield (*head, *_between(body, piece.start, piece.stop))


def _between(spans: Line, start: int, stop: int) -> Iterator[Span]:
    place = 0
    for text, role in spans:
        yield text[max(0, start - place) : max(0, stop - place)], role
        place += len(text)


# --- Where the bytes of a page are: a cell is 16 bytes, a line of cells 256

_CELL, _CELL_HEIGHT, _CELLS = 24, 12, 16
_LINE_BYTES = 256
_MARKED = {0: "first", 1: "second", 37: "third"}


def order_picture() -> str:
    """Return a page of 64 tokens in both orders, with the bytes of three tokens marked."""
    width, top = 2 * (_CELLS * _CELL + 70 + _MARGIN) + _MARGIN, _MARGIN + 70
    height = top + 33 * _CELL_HEIGHT + 40 + len(_MARKED) * _LINE + _MARGIN
    title = "One page of 64 tokens, flat and in tiles: where three tokens' bytes lie"
    words = [f"Token {slot}: {_runs_in_words(slot)}." for slot in _MARKED]
    body = [
        _STYLE,
        text_at(_MARGIN, _MARGIN + 16, title, "head"),
        text_at(_MARGIN, _MARGIN + 36, "A cell is 16 bytes, a line 256. The shades are groups of 16 tokens.", "dim"),
        *_page("flat", _MARGIN, top),
        *_page("tiles", _MARGIN + width // 2, top),
    ]
    for number, fill in enumerate(_MARKED.values()):
        y = height - _MARGIN - (len(_MARKED) - number - 1) * _LINE
        body += [
            _rect(fill, _MARGIN, y - 11, 14, 12),
            text_at(_MARGIN + 22, y, words[number]),
        ]
    return picture(width, height, title, " ".join(words), body)


def _page(order: Order, x: int, y: int) -> Iterator[str]:
    page, left = PageFormat(page_size=64, order=order, dialect="e4m3fn"), x + 60
    yield text_at(left, y - 10, f"{order}, {page.page_bytes:,} bytes", "strong")
    # In both orders 16 tokens have the same bytes of a page to themselves.
    lines = TILE * page.head_dim // _LINE_BYTES
    for group in range(page.page_size // TILE):
        top = y + group * lines * _CELL_HEIGHT
        yield _rect("odd" if group % 2 else "even", left, top, _CELLS * _CELL, lines * _CELL_HEIGHT)
        yield text_at(x, top + 10, f"{page.key_offset(group * TILE, 0):,}", "small")
    scales = page.scale_offset(0)
    yield _rect("even", left, y + scales // _LINE_BYTES * _CELL_HEIGHT + 4, _CELLS * _CELL, _CELL_HEIGHT)
    yield text_at(x, y + scales // _LINE_BYTES * _CELL_HEIGHT + 14, f"{scales:,}", "small")
    for slot, fill in _MARKED.items():
        for dim in range(0, page.head_dim, TILE):
            offset = page.key_offset(slot, dim)
            line, byte = divmod(offset, _LINE_BYTES)
            told = f"token {slot}, dims {dim} to {dim + TILE - 1}: bytes {offset} to {offset + TILE - 1}"
            place = left + byte // TILE * _CELL, y + line * _CELL_HEIGHT
            yield _rect(fill, *place, _CELL - 1, _CELL_HEIGHT - 1, told)
        offset = page.scale_offset(slot)
        line, byte = divmod(offset, _LINE_BYTES)
        place = left + byte * _CELL // TILE, y + line * _CELL_HEIGHT + 4
        yield _rect(fill, *place, _CELL // 4, _CELL_HEIGHT, f"scale of token {slot}: bytes {offset} to {offset + 3}")
    yield text_at(left, y + 33 * _CELL_HEIGHT + 20, "the last line: scales, 4 bytes a token", "dim")


def _runs_in_words(slot: int) -> str:
    return ", ".join(f"{order} {_runs(PageFormat(page_size=64, order=order, dialect='e4m3fn'), slot)}" for order in
        ("flat", "tiles"))  # fmt: skip


def _runs(page: PageFormat, slot: int) -> str:
    """Return the runs of consecutive bytes that a token's key is made of, in words."""
    offsets = [page.key_offset(slot, dim) for dim in range(page.head_dim)]
    runs = [[byte for _, byte in run] for _, run in groupby(enumerate(offsets), lambda pair: pair[1] - pair[0])]
    if len(runs) == 1:
        return f"one run of {len(runs[0])} bytes from byte {runs[0][0]:,}"
    return f"{len(runs)} runs of {len(runs[0])} bytes, {runs[1][0] - runs[0][0]} apart, from byte {runs[0][0]:,}"


# --- The gather's bandwidth, from the table on the page of figures

_MEASURED = re.compile(
    r"^\| ([\d,]+ x [\d,]+) \| (\d+ (?:flat|tiles)) \| [\d.]+ \| [\d.]+ \(([\d,]+) GB/s, ([\d.]+)\)", re.MULTILINE
)
_BAR, _FULL, _PANEL = 14, 220, 420


class _Bar(NamedTuple):
    shape: str
    page: str
    speed: str
    ratio: str


def gather_picture() -> str:
    """Return the gather against a copy of as many bytes, by page size, a panel for each shape measured."""
    section = (DOCS / "performance_appendix.md").read_text(encoding="utf-8").partition("<!-- begin gather -->")[2]
    section = section.partition("<!-- end gather -->")[0].strip()
    bars = [_Bar(*found) for found in _MEASURED.findall(section)]
    panels = [(shape, list(those)) for shape, those in groupby(bars, lambda bar: bar.shape)]
    height_of = max(len(those) for _, those in panels) * _LINE + 50
    height = _MARGIN + 60 + (len(panels) + 1) // 2 * height_of
    title = "Gather against a copy of the same bytes, by page size"
    body = [
        _STYLE,
        text_at(_MARGIN, _MARGIN + 16, title, "head"),
        text_at(_MARGIN, _MARGIN + 36, section.partition("\n")[0].rpartition(", seed")[0]
            + ". The line is the copy; the figures are bytes read and written a second.", "dim"),
    ]  # fmt: skip
    words = []
    for number, (shape, those) in enumerate(panels):
        x, y = _MARGIN + number % 2 * _PANEL, _MARGIN + 66 + number // 2 * height_of
        body += [text_at(x, y + 12, f"{shape} tokens", "strong"), *_bars(those, x, y + 22)]
        words.append(f"{shape}: " + ", ".join(f"pages of {bar.page} {bar.ratio}" for bar in those) + ".")
    return picture(2 * _PANEL + 2 * _MARGIN, height, title, f"Ratios to the copy. {' '.join(words)}", body)


def _bars(bars: list[_Bar], x: int, y: int) -> Iterator[str]:
    for number, bar in enumerate(bars):
        top = y + number * _LINE
        yield text_at(x, top + 12, bar.page)
        fill = "first" if bar.page.endswith("tiles") else "second"
        yield _rect(fill, x + 70, top, round(_FULL * float(bar.ratio)), _BAR, f"{bar.ratio} of the copy")
        yield text_at(x + 70 + _FULL + 10, top + 12, f"{bar.speed} GB/s, {bar.ratio}", "small")
    yield _rect("stroke", x + 70 + _FULL, y - 4, 1, len(bars) * _LINE + 4)


# --- How the library is built: measured, from every import of its sources

_BOX, _BOX_GAP, _FLOOR = 150, 14, 64


def built_picture() -> str:
    """Return the packages on their floors; each imports only what stands below it, as its words list."""
    graph = arrows(imports(), packages=True)
    order = floors(graph)
    levels = [sorted(name for name in order if order[name] == level) for level in range(max(order.values()), 0, -1)]
    width = 2 * _MARGIN + 30 + max(len(names) for names in levels) * (_BOX + _BOX_GAP)
    title = f"Packages on {len(levels)} floors: each imports only what stands below it"
    body = [_STYLE, text_at(_MARGIN, _MARGIN + 16, title, "head")]
    words = []
    for number, names in enumerate(levels):
        y = 60 + number * _FLOOR
        body.append(text_at(_MARGIN, y + 28, str(len(levels) - number), "dim"))
        for column, name in enumerate(names):
            x = _MARGIN + 30 + column * (_BOX + _BOX_GAP)
            below = ", ".join(sorted(graph[name])) or "nothing of its own house"
            body.append(_rect("even" if name in FACES else "odd", x, y, _BOX, 44, f"{name} imports {below}"))
            body.append(text_at(x + 10, y + 27, name, "strong"))
            words.append(f"{name} imports {below}.")
    return picture(width, 60 + len(levels) * _FLOOR + _MARGIN, title, " ".join(words), body)


def _rect(fill: str, x: int, y: int, width: int, height: int, told: str = "") -> str:
    inner = f"<title>{escaped(told)}</title></rect>" if told else "</rect>"
    return f'<rect class="{fill}" x="{x}" y="{y}" width="{width}" height="{height}">{inner}'


PICTURES = {
    "matrix.svg": matrix_picture,
    "report.svg": report_picture,
    "order.svg": order_picture,
    "gather.svg": gather_picture,
    "built.svg": built_picture,
}


def main(arguments: list[str]) -> int:
    """Write the pictures, or check them; return the exit code."""
    check = arguments == ["--check"]
    stale = []
    for name, drawn in PICTURES.items():
        path = DOCS / name
        text = drawn()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(str(path))
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"not what they show: {', '.join(stale)}; run python docs/pictures.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
