"""What to mind of a row that is chosen: what it costs against the best, where its kernels go wrong. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.policy.aiter_gates import CHUNK_K, aiter_arch, gluon_active

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.aiter_gates import Kernel

    Warn: TypeAlias = Callable[[Capabilities, int], str | None]
    Caveat: TypeAlias = Callable[[Capabilities], str | None]

__all__ = ["always", "narrow_offsets"]


def always(text: str) -> Caveat:
    """Return a caveat that holds on every machine."""
    return lambda _: text


def narrow_offsets(kernel: Kernel) -> Warn:
    """Return the warning of aiter#4774: with 32-bit offsets, keys beyond 2 GiB of cache are read as zeros.

    aiter#4774 mended one pipeline of the preshuffle kernel, that of pages which divide half a chunk. Pages of 256 and
    more take the other one; so does the plain kernel, at every commit read, up to 04907edc; on gfx1250 it is not known.
    """

    def warning(caps: Capabilities, page_size: int) -> str | None:
        source = caps.aiter_source
        wide = None if source is None else source.wide_offsets
        if gluon_active(caps) and wide is not None and kernel in wide and CHUNK_K // 2 % page_size == 0:
            if aiter_arch(caps) != "gfx1250":
                return None
            return "whether index keys beyond 2 GiB (254,200 pages of 64) are read is not known on gfx1250 (aiter#4774)"
        return "index keys beyond 2 GiB (254,200 pages of 64) score zero: 32-bit offsets (aiter#4774)"

    return warning
