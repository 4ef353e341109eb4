"""What goes wrong while ranks agree."""

from __future__ import annotations

from nsa_caps.errors import NsaCapsError

__all__ = ["AgreementError", "MissingRanksError"]


class AgreementError(NsaCapsError, RuntimeError):
    """The ranks cannot be asked: a wrong argument, or a rank outside the group."""


class MissingRanksError(NsaCapsError, TimeoutError):
    """Ranks of the group did not come to `agree` in time.

    Attributes:
        missing: their global ranks, ascending; None where the group's store, which knows, cannot be reached.
    """

    def __init__(self, message: str, missing: tuple[int, ...] | None) -> None:
        super().__init__(message)
        self.missing = missing
