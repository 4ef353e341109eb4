"""Version texts as their consumers compare them."""

from __future__ import annotations

from functools import lru_cache

from packaging.version import Version

__all__ = ["base_version", "comes_before", "parse_version", "without_local"]


@lru_cache
def parse_version(text: str | None) -> Version | None:
    """Return the version, or None where the text is none (`unknown`, empty, absent)."""
    try:
        return Version(text) if text else None
    # InvalidVersion is one; int() refuses thousands of digits by another.
    except ValueError:
        return None


def base_version(text: str | None) -> Version | None:
    """Return `Version(Version(text).base_version)`: 3.5.0rc1 and 3.5.0+git count as 3.5.0."""
    version = parse_version(text)
    return None if version is None else parse_version(version.base_version)


def without_local(text: str | None) -> Version | None:
    """Return `Version(text.split("+")[0])`: 3.6.0rc1 and 3.6.0.dev1 stay below 3.6.0."""
    return parse_version(text.split("+")[0]) if text else None


def comes_before(text: str | None, floor: str | None) -> bool:
    """Return whether this is a pre-release of the very version that was measured, such as 3.6.0rc1 of 3.6.0."""
    found, measured = without_local(text), parse_version(floor)
    return found is not None and measured is not None and found < measured == base_version(text)
