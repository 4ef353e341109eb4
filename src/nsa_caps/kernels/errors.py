"""What a kernel refuses; kept apart from what checks it, which imports torch."""

from __future__ import annotations

from nsa_caps.errors import NsaCapsError

__all__ = ["KernelArgumentError", "MissingKernelError"]


class KernelArgumentError(NsaCapsError, ValueError):
    """An argument that a kernel cannot take.

    Attributes:
        argument: its name.
        observed: what came.
        needed: what the kernel takes.
    """

    def __init__(self, argument: str, observed: str, needed: str) -> None:
        super().__init__(f"{argument}: got {observed}; need {needed}")
        self.argument = argument
        self.observed = observed
        self.needed = needed


class MissingKernelError(NsaCapsError, NotImplementedError):
    """The package that a row's kernels come from has no such kernel; the message says which and where."""
