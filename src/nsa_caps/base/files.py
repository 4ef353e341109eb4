"""Documents that somebody hands in: files and pipes, piece by piece; a device, or a pipe without a writer, is none."""

from __future__ import annotations

import codecs
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

__all__ = ["text_pieces"]

_PIECE = 1 << 16


def text_pieces(path: str, stdin: TextIO) -> Iterator[str]:
    """Return the text of a file in pieces; `-` is `stdin`.

    Raises:
        OSError: it cannot be read, or is neither a file nor a pipe that somebody writes.
        UnicodeDecodeError: it is not UTF-8.
    """
    if path == "-":
        yield from iter(lambda: stdin.read(_PIECE), "")
        return
    # Opening a pipe waits for its writer, and reading a terminal or /dev/zero for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError("neither a file nor a pipe")
        decoder = codecs.getincrementaldecoder("utf-8")()
        while piece := _read(descriptor):
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIECE)
    except BlockingIOError:
        # Somebody has opened the pipe and not yet written: such as the command in a shell's `<(...)`.
        os.set_blocking(descriptor, True)
        return os.read(descriptor, _PIECE)
