"""The picture of a matrix: whole, the same every time, and readable by everybody."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from nsa_caps import Capabilities, Request, probe
from nsa_caps.base.serial import field_names
from nsa_caps.base.svg import fill_of
from nsa_caps.policy.reasons import CODES
from nsa_caps.policy.rows import ROWS
from nsa_caps.report.matrix import Matrix, matrix
from nsa_caps.report.matrix_svg import draw
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"
# Of DejaVu Sans, the widest of the fonts named, at 11 and 13 pixels: the mean of a code's letters.
SMALL, LARGE = 5.8, 7.6


@pytest.fixture
def found(tmp_path: Path) -> Matrix:
    """Return a matrix in which several rows are chosen."""
    environ = {"SGLANG_USE_AITER": "1"}
    return matrix(probe(machine(tmp_path, archs=["gfx942"], aiter="04907edc", aiter_version="0.1.17", environ=environ)))


def parsed(found: Matrix) -> ET.Element:
    """Return the picture's root element."""
    return ET.fromstring(draw(found))  # noqa: S314 the picture is our own


def texts(element: ET.Element) -> list[str]:
    """Return the texts drawn in an element."""
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour such as #1f2328, by WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, by WCAG 2.2."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_a_cell_holds_row_page_and_reason(found: Matrix) -> None:
    """There is one group a cell, row by row, with the chosen row, its page size and the first reason's code."""
    groups = list(parsed(found).iter(f"{SVG}g"))
    assert len(groups) == len(found.cells) == len(found.triton_versions) * len(found.archs)
    for group, cell in zip(groups, found.cells, strict=True):
        row, size, code = texts(group)
        assert (row, size) == (cell.chosen, f"page size {cell.page_size}")
        first, _, more = code.partition(" +")
        assert first == (cell.codes[0] if cell.codes else "")
        assert more == (str(len(cell.codes) - 1) if len(cell.codes) > 1 else "")
        assert group.find(f"{SVG}rect").get("class") == cell.chosen  # type: ignore[union-attr]
        title = group.findtext(f"{SVG}title") or ""
        assert title.startswith(f"Triton {cell.triton} on {cell.arch}: {cell.chosen}")
        assert all(str(reason) in title for reason in cell.reasons)


def test_cells_stand_in_rows_by_version_and_columns_by_arch(found: Matrix) -> None:
    """Cells of one version share their height, cells of one arch their column, and none overlap."""
    places = [
        (int(rect.get("x", "")), int(rect.get("y", "")), int(rect.get("width", "")), int(rect.get("height", "")))
        for group in parsed(found).iter(f"{SVG}g")
        for rect in group.iter(f"{SVG}rect")
    ]
    columns, rows = sorted({place[0] for place in places}), sorted({place[1] for place in places})
    assert (len(columns), len(rows)) == (len(found.archs), len(found.triton_versions))
    assert [place[:2] for place in places] == [(x, y) for y in rows for x in columns]
    width, height = places[0][2:]
    assert all(right - left > width for left, right in pairwise(columns))
    assert all(lower - upper > height for upper, lower in pairwise(rows))


def test_everything_lies_within_the_picture(found: Matrix) -> None:
    """Texts end before the picture does, and a cell's texts before the cell does."""
    root = parsed(found)
    width, height = int(root.get("width", "")), int(root.get("height", ""))
    assert root.get("viewBox") == f"0 0 {width} {height}"
    for text in root.iter(f"{SVG}text"):
        assert int(text.get("y", "")) < height
        assert int(text.get("x", "")) + len(text.text or "") * 6.5 < width, text.text
    for rect in root.iterfind(f"{SVG}g/{SVG}rect"):
        assert int(rect.get("x", "")) + int(rect.get("width", "")) <= width - 20
    cell = root.find(f"{SVG}g/{SVG}rect")
    assert cell is not None
    room = int(cell.get("width", "")) - 18
    assert max(len(code) + len(" +9") for code in CODES) * SMALL < room
    assert max(len(row.name) for row in ROWS) * LARGE < room


def test_a_long_version_has_room(tmp_path: Path) -> None:
    """A build's long version ends before its row of cells begins."""
    host = machine(tmp_path, archs=["gfx942"], triton="3.7.0+amd.rocm7.2.0.git89002410")
    root = parsed(matrix(probe(host)))
    first = min(int(rect.get("x", "")) for rect in root.iterfind(f"{SVG}g/{SVG}rect"))
    label = next(text for text in root.findall(f"{SVG}text") if (text.text or "").startswith("3.7.0+amd"))
    assert int(label.get("x", "")) + len(label.text or "") * LARGE < first


def test_it_is_the_same_every_time(found: Matrix) -> None:
    """A picture can be kept under version control: it changes only where the decision does."""
    assert draw(found) == draw(matrix(Capabilities.from_json(found.caps.to_json())))


def test_it_tells_itself_to_those_who_cannot_see_it(found: Matrix) -> None:
    """The picture is an image with a title, and a description that has every cell in words."""
    root = parsed(found)
    ids = (root.get("aria-labelledby") or "").split()
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert (root.get("role"), ids) == ("img", [title.get("id"), description.get("id")])
    assert "aiter 0.1.17, platform rocm, engine sglang" in (title.text or "")
    for cell in found.cells:
        sentence = next(part for part in (description.text or "").split("Triton ") if part.startswith(cell.triton))
        assert f"{cell.arch} {cell.chosen}" in sentence


def test_the_legend_explains_colours_and_codes(found: Matrix) -> None:
    """Every row chosen and every code in the picture is explained, with a swatch of the row's colour."""
    root = parsed(found)
    below = [text.text or "" for text in root.findall(f"{SVG}text")]
    swatches = [rect.get("class") for rect in root.findall(f"{SVG}rect")][1:]
    assert swatches == [row.name for row, _ in found.chosen_rows()]
    assert all(f"{row.name}, page size {size}: {row.summary}" in below for row, size in found.chosen_rows())
    assert all(f"{code}: {CODES[code]}" in below for code in found.codes())
    assert not any(line.split(":")[0] in CODES.keys() - set(found.codes()) for line in below)


def test_it_can_be_read_in_light_and_dark(found: Matrix) -> None:
    """Text has a contrast of at least 4.5 on the page and 7 on every fill, in both schemes."""
    style = parsed(found).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media (prefers-color-scheme:dark)")
    for scheme in (light, dark):
        fills = dict(re.findall(r"\.([\w-]+)\{fill:(#[0-9a-f]{6})\}", scheme))
        (ink,) = re.findall(r"text\{[^}]*fill:(#[0-9a-f]{6})\}", scheme)
        (dim,) = re.findall(r"\.dim\{fill:(#[0-9a-f]{6})\}", scheme)
        assert fills.keys() >= {fill_of(row.name) for row in ROWS} | {"page", fill_of(None), fill_of("a plugin's")}
        assert contrast(dim, fills["page"]) >= 4.5
        for name, fill in fills.items():
            assert name == "dim" or contrast(ink, fill) >= 7, (name, fill)


def test_nothing_is_loaded_or_run(found: Matrix) -> None:
    """A picture in a page asks for no other file and runs nothing."""
    text = draw(found)
    assert not re.search(r"href|url\(|@import|<script|\son\w+=", text)
    assert text.count("http") == 1


def test_hostile_texts_stay_texts() -> None:
    """Markup and control characters in a machine's own words are drawn, not obeyed."""
    environ = {"aiter": "</svg><script>\x1b\x00"}
    caps = Capabilities(platform="rocm", engine="sglang").replace(
        aiter=Capabilities().aiter.__class__("aiter", "found", environ["aiter"])
    )
    root = parsed(matrix(caps))
    assert any("</svg><script>\\x1b\\x00" in text for text in texts(root))
    assert root.find(f".//{SVG}script") is None


def test_no_row_and_rows_of_third_parties_have_colours(found: Matrix) -> None:
    """A cell without a row, or with a row that is not ours, is drawn in a colour of its own."""
    nothing = parsed(matrix(found.caps, Request(rows=("deepgemm",))))
    assert {rect.get("class") for rect in nothing.iter(f"{SVG}rect")} == {"page", "no-row"}
    assert "no row" in texts(nothing)
    renamed = tuple(
        type(row)(**{**{n: getattr(row, n) for n in field_names(row)}, "name": f"x-{row.name}"}) for row in ROWS
    )
    theirs = parsed(matrix(found.caps, None, renamed))
    assert {rect.get("class") for rect in theirs.iter(f"{SVG}rect")} == {"page", "other-row"}
