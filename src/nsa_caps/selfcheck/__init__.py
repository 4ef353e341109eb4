"""Proof on a device: write known tokens, read them back, score them, compare, and say what is wrong."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsa_caps.selfcheck.check import (
        CAUSES,
        Cause,
        Mismatch,
        RowKernels,
        SelfCheck,
        causes_of,
        default_device,
        run,
        self_check,
        versions_of,
    )

__all__ = [
    "CAUSES",
    "Cause",
    "Mismatch",
    "RowKernels",
    "SelfCheck",
    "causes_of",
    "default_device",
    "run",
    "self_check",
    "versions_of",
]


def __dir__() -> list[str]:
    """Return what is public, as it is imported at first use."""
    return sorted([*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__"])


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # A start-up that asks for a proof and finds it kept needs none of this.
        if name in __all__:
            return getattr(import_module(f"{__name__}.check"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
