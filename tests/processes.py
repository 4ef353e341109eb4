"""Processes that tests start."""

from __future__ import annotations

import os

__all__ = ["uncounted"]


def uncounted() -> dict[str, str]:
    """Return the environment for a child that coverage does not count: it imports a lot, and writes as its user.

    Every child that has an audit hook wants it. In Python 3.11 a hook written in Python lets other threads run within
    `sys.settrace`, and the second that gets there is refused with RuntimeError, which ends coverage's thread. So does
    every child that forks while its threads run: coverage writes as the fork ends, and waits for locks of theirs.
    """
    return {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
