"""Lines on a stream: as wide as the terminal, coloured where a person watches and rich is there."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

from nsa_caps.base.lines import WIDTH, parted, pieces, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TextIO

    from rich.text import Text

    from nsa_caps.base.lines import Line

__all__ = ["kept_for_data", "print_lines", "print_text", "width_of"]

_STYLES: Mapping[str, str] = {
    "good": "bold green",
    "fallback": "bold yellow",
    "bad": "bold red",
    "warning": "yellow",
    "label": "bold",
    "row": "bold",
    "source": "dim",
    "command": "cyan",
}
# Narrower terminals break lines themselves.
_NARROWEST = 40


@contextmanager
def kept_for_data(*, for_good: bool) -> Iterator[TextIO | None]:
    """Yield a stdout that nothing else writes to: what third parties' code prints meanwhile goes to stderr.

    Also what it writes to the descriptor itself, what its children write, and what a thread of it that does not end
    goes on writing.

    Args:
        for_good: leave it so: this process is the command's own, and its stdout is data to the end.
    """
    stdout = sys.stdout
    try:
        is_whole = (stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    # None, closed, or a text in memory.
    except (OSError, ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        yield stdout
        return
    stdout.flush()
    with open(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors) as own:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        try:
            yield own
        finally:
            if not for_good:
                sys.stdout = stdout
                os.dup2(own.fileno(), 1)


def print_lines(lines: Iterable[Line], stream: TextIO | None, color: str = "auto") -> None:
    """Print lines as wide as the stream, in colour where that is wanted and rich is installed.

    Args:
        lines: what to print.
        stream: where to; None: this process was started with that descriptor closed, and nobody reads.
        color: `always`, `never` or `auto`: as NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE say, else where the stream is a
            terminal that is not dumb.
    """
    listed = list(lines)
    if listed and stream is not None:
        width = width_of(stream)
        coloured = _in_colour(listed, width) if _wants_colour(stream, color) else None
        print_text(coloured or plain(listed, width), stream)


def print_text(text: str, stream: TextIO | None) -> None:
    """Print a text; what the stream's encoding lacks is spelled out, and a reader that went away is no error.

    Args:
        text: the text.
        stream: as in `print_lines`.

    Raises:
        OSError: the stream cannot be written to for another reason.
    """
    if stream is None:
        return
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError as error:
        # The interpreter flushes once more when it exits, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def width_of(stream: TextIO) -> int:
    """Return how many columns a stream has: a terminal's own number, 80 elsewhere."""
    if not stream.isatty():
        return WIDTH
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        return WIDTH
    # A serial console says 0.
    return max(columns, _NARROWEST) if columns else WIDTH


def _wants_colour(stream: TextIO, color: str) -> bool:
    if color != "auto":
        return color == "always"
    # no-color.org and force-color.org: present and not empty.
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _in_colour(lines: Iterable[Line], width: int) -> str | None:
    """Return lines with colours, broken as `plain` breaks them, or None without rich."""
    try:
        from rich.console import Console  # noqa: PLC0415 optional, and 60 ms
        from rich.text import Text  # noqa: PLC0415 as above
    except ImportError:
        return None
    console = Console(force_terminal=True, color_system="standard", no_color=False, highlight=False)
    with console.capture() as captured:
        for line in lines:
            for text in _broken(line, width, Text):
                console.print(text, soft_wrap=True)
    return captured.get().removesuffix("\n")


def _broken(line: Line, width: int, kind: type[Text]) -> Iterator[Text]:
    parts = parted(line)
    start, body = (
        kind.assemble(*((text, _STYLES.get(role, "")) for text, role in each)) for each in parts or (line, ())
    )
    if parts is None:
        yield start
        return
    for index, part in enumerate(pieces(body.plain, width - len(start))):
        yield kind.assemble(start if index == 0 else " " * len(start), body[part])
