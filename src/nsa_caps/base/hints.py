"""What a mistyped name may have meant. Used where something is refused, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """Return `. Did you mean X?`, to be put behind a message, or nothing where no name is close."""
    from difflib import get_close_matches  # noqa: PLC0415 only a mistake needs it

    # Upper case and dashes for underscores are one mistake, not as many as there are letters.
    plain = {name.lower().replace("-", "_"): name for name in names}
    meant = given.lower().replace("-", "_")
    # `mi300` is the beginning of several: any of them shows how one is written.
    close = [name for name in plain if len(meant) > 2 and name.startswith(meant)] or get_close_matches(meant, plain, 1)
    return f". Did you mean {plain[close[0]]}?" if close else ""
