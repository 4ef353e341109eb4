"""The parts of pictures: the same SVG for the same data, on light and dark pages. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nsa_caps.base.lines import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["escaped", "fill_of", "picture", "text_at"]

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


def fill_of(row: str | None) -> str:
    """Return the class that fills with a row's colour; None: no row."""
    return "no-row" if row is None else row if row in _FILLS else "other-row"


def text_at(x: int, y: int, text: str, kind: str = "") -> str:
    """Return a line of text from this point on; `kind` is a class: head, strong, small, dim."""
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x}" y="{y}">{escaped(printable(text))}</text>'


def escaped(text: str) -> str:
    """Return a text as XML has it."""
    return escape(text, quote=True)
