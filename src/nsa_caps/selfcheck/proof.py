"""How rows are to be proven."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Proof"]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How rows are proven.

    Attributes:
        limit: seconds that one row is given on one device, the import of its packages and the first compilation of its
            kernels among them; aiter may build C++ at its first import.
        device: the torch device, such as `cuda:3`; None: the first visible one of each kind, or the CPU.
        again: prove also what a verdict is kept of.
        keep: write verdicts, so that the next start finds them.
        measure: also time the calls of a row that is proven, and prove anew what is kept without times.
    """

    limit: float = 300.0
    device: str | None = None
    again: bool = False
    keep: bool = True
    measure: bool = False
