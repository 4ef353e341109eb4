"""What to mind of a row that is chosen: what it costs against the best, where its kernels go wrong. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.policy.aiter_gates import gluon_active

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.aiter_gates import Kernel

    Caveat: TypeAlias = Callable[[Capabilities], str | None]

__all__ = ["always", "narrow_offsets"]


def always(text: str) -> Caveat:
    """Return a caveat that holds on every machine."""
    return lambda _: text


def narrow_offsets(kernel: Kernel) -> Caveat:
    """Return the caveat of aiter#4774: with 32-bit offsets, keys beyond 2 GiB of cache are read as zeros.

    Of aiter's gluon kernels the source shows it; the plain one has them at every commit read, up to 04907edc.
    """

    def caveat(caps: Capabilities) -> str | None:
        wide = None if caps.aiter_source is None else caps.aiter_source.wide_offsets
        if gluon_active(caps) and wide is not None and kernel in wide:
            return None
        return "index keys beyond 2 GiB (254,200 pages of 64) score zero: 32-bit offsets (aiter#4774)"

    return caveat
