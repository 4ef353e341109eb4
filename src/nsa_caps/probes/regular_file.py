"""Regular files, read whole or refused: never a device, never a pipe, never half of one."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from nsa_caps.errors import NsaCapsError
from nsa_caps.probes.exhaustion import ExhaustedError, is_exhaustion

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = [
    "LARGEST_SEARCHED", "PIECE", "UnreadableError", "decoded", "open_regular", "read_regular", "status_of",
    "unreadable",
]  # fmt: skip

# The largest file that a probe asks for is a kernel module of 81 kB (aiter at 04907edc).
_LARGEST_FILE = 2 * 1024 * 1024
# A compiled file that is searched and not read: ptxas has 52 MB, vLLM's DeepGEMM 29 MB.
LARGEST_SEARCHED, PIECE = 512 * 1024 * 1024, 1024 * 1024
_SMALL_PIECE = 64 * 1024
# Windows has neither, nor the pipes and forks that they are for.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class UnreadableError(NsaCapsError, OSError):
    """A file or folder is there but could not be read.

    Attributes:
        path: what was asked for.
        why: what stood in the way, in words.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


def unreadable(path: str, error: OSError | ValueError) -> NsaCapsError:
    """Return what to raise where a file could not be read: what this process lacks is no fact of the file."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ExhaustedError(f"{path}: {why}") if is_exhaustion(error) else UnreadableError(path, why)


def status_of(path: str, look: Callable[[str], os.stat_result] = os.stat) -> os.stat_result | None:
    """Return what is known of a file, or None where there is none, also to Python's own finder."""
    try:
        return look(path)
    except (OSError, ValueError) as error:
        if is_exhaustion(error):
            raise unreadable(path, error) from error
        return None


def read_regular(path: str) -> bytes:
    """Return the bytes of a regular file of at most 2 MiB.

    Raises:
        UnreadableError: it is no regular file, or larger.
        OSError: it cannot be opened.
    """
    # Opening a device may act on it (a watchdog starts to count), so it is looked at first.
    _check_regular(path, os.stat(path), _LARGEST_FILE)
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        status = os.fstat(descriptor)
        _check_regular(path, status, _LARGEST_FILE)
        data = os.read(descriptor, status.st_size + 1)
        # Files below /sys say 4096 bytes and hold less, those below /proc say none and hold anything: read to the end,
        # not to the size, and by the small piece, for a buffer of 2 MiB costs more than a file.
        while len(data) != status.st_size and (piece := os.read(descriptor, _SMALL_PIECE)):
            data += piece
            if len(data) > _LARGEST_FILE:
                raise UnreadableError(path, f"more than the {_LARGEST_FILE} bytes that are read")
    finally:
        os.close(descriptor)
    return data


def open_regular(path: str, largest: int, buffering: int = -1) -> BinaryIO:
    """Open a regular file of at most `largest` bytes to read it.

    Raises:
        UnreadableError: it is no regular file, or larger.
        OSError: it cannot be opened.
    """
    # Opening a device may act on it (a watchdog starts to count), so it is looked at first.
    _check_regular(path, os.stat(path), largest)
    # O_NONBLOCK: should a named pipe have taken its place, opening would wait for a writer for ever.
    stream = os.fdopen(os.open(path, _OPEN_FLAGS), "rb", buffering=buffering)
    try:
        _check_regular(path, os.fstat(stream.fileno()), largest)
    except UnreadableError:
        stream.close()
        raise
    return stream


def _check_regular(path: str, status: os.stat_result, largest: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(path, "not a regular file")
    if status.st_size > largest:
        raise UnreadableError(path, f"{status.st_size} bytes, more than the {largest} that are read")


def decoded(path: str, data: bytes) -> str:
    """Return the text of a file's bytes.

    Raises:
        UnreadableError: they are not UTF-8.
    """
    try:
        # Python itself passes over a byte order mark.
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UnreadableError(path, f"not UTF-8 at byte {error.start}") from error
