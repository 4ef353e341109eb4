"""ROCm/ATOM's indexer of DeepSeek-V3.2 (read at ffdf3bb5, 2026-08-22): tiles in rows of 144 bytes, or nothing.

ATOM calls aiter with `Preshuffle=True` on every machine, whatever its variables say, and asks nothing first. What there
is to decide is whether that runs here, before a cache is allocated; what there is to tell others is that its pages are
longer than everyone else's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nsa_caps.capabilities.switches import with_variables
from nsa_caps.layout.layout import select_indexer_layout
from nsa_caps.policy.request import Request
from nsa_caps.probes.probe import probe

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.pages import PageFormat
    from nsa_caps.probes.host import Host

__all__ = ["ROWS", "ROW_STRIDE", "page_format", "probe_machine"]

ROWS = ("aiter-preshuffle",)
"""The one row that ATOM can run."""

ROW_STRIDE = 144
"""Bytes that a token takes of its page: 128 + 4, rounded up to 16 (`aligned_index_dim` in `aiter_mla.py`)."""


def probe_machine(host: Host | None = None) -> Capabilities:
    """Return `nsa_caps.probe` for an engine that always asks for aiter, unless `NSA_CAPS_USE_AITER` says otherwise."""
    caps = probe(host, engine="generic")
    return with_variables(caps, {"NSA_CAPS_USE_AITER": "1", **caps.variables}, "generic")


def page_format(block_size: int = 16, caps: Capabilities | None = None, *, heads: int = 64) -> PageFormat:
    """Return the bytes of ATOM's index pages, where aiter can read them on this machine.

    Args:
        block_size: ATOM's `kv_cache_block_size`.
        caps: the machine, from `probe_machine`; None: this one.
        heads: the model's `index_n_heads`.

    Raises:
        NoUsableLayoutError: aiter cannot, or not with this block size; it carries every reason.
    """
    caps = probe_machine() if caps is None else caps
    # Its `Indexer` hands "ue8m0" to aiter's `indexer_k_quant_and_cache`, and keys as the rotary embedding leaves them.
    request = Request(heads=heads, page_size=block_size, rows=ROWS, scale_format="ue8m0", rotated=False)
    layout = select_indexer_layout(caps, request)
    return replace(layout.format, row_stride=ROW_STRIDE)
