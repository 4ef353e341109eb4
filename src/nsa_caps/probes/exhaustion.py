"""What this process lacks and the machine does not: descriptors and memory. An answer that lacks them is none."""

from __future__ import annotations

import errno

from nsa_caps.errors import NsaCapsError

__all__ = ["ExhaustedError", "is_exhaustion"]

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class ExhaustedError(NsaCapsError, OSError):
    """A file could not be looked at, since this process has no descriptor or no memory left for it."""


def is_exhaustion(error: BaseException) -> bool:
    """Return whether an error tells of what this process lacks, and nothing of what it asked about."""
    return isinstance(error, (ExhaustedError, MemoryError)) or (isinstance(error, OSError) and error.errno in _LACKING)
