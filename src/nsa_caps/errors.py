"""The base of every error that this package raises on purpose."""

from __future__ import annotations

__all__ = ["NsaCapsError"]


class NsaCapsError(Exception):
    """Something is wrong with what was asked or found; subclasses carry what as data."""
