"""The vendors whose engines have a path of their own to sparse attention, which this library leaves alone. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities.records import Capabilities

__all__ = ["OWN_PATHS", "OwnPath", "own_path"]


class OwnPath(NamedTuple):
    """The path that an engine takes by itself on a vendor's GPUs.

    Attributes:
        vendor: whose GPUs.
        page_size: tokens a page there, in linear pages.
        source: where that is said.
    """

    vendor: str
    page_size: int
    source: str


OWN_PATHS: Mapping[str, OwnPath] = MappingProxyType(
    {
        "dcu": OwnPath("Hygon DCU", 64, "inference-cookbook-das#17: LIGHTOP, linear pages of 64"),
        "npu": OwnPath("Ascend NPU", 128, "SGLang's NPU backend: pages of 128"),
        "xpu": OwnPath("Intel XPU", 64, "SGLang's XPU backend: pages of 64 or 128"),
        "musa": OwnPath("Moore Threads", 64, "SGLang's MUSA backend: pages of 64"),
        "metax": OwnPath("MetaX", 64, "xllm#1851: a CUDA torch, and CUDA's pages of 64"),
        "hpu": OwnPath("Habana Gaudi", 128, "vllm-gaudi: blocks of 128"),
    }
)
"""By `Capabilities.platform`."""


def own_path(caps: Capabilities) -> OwnPath | None:
    """Return the engine's own path on this machine; None where there is none and this library decides."""
    return OWN_PATHS.get(caps.platform)
