"""Processes that tests start."""

from __future__ import annotations

import os

__all__ = ["uncounted"]


def uncounted() -> dict[str, str]:
    """Return the environment for a child that is not counted: coverage imports a lot, and writes as its user."""
    return {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
