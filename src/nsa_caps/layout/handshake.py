"""What a node tells another of its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps._version import __version__

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.pages import PageFormat

__all__ = ["HANDSHAKE_VERSION", "handshake_document"]

HANDSHAKE_VERSION = 2


def handshake_document(
    row: str, fmt: PageFormat, index_kpool: int, assumed: tuple[str, ...], caps: Capabilities
) -> dict[str, Any]:
    """Return what a layout's owner tells its peers, by `schemas/handshake.json`: about 500 bytes as JSON."""
    versions = {
        package.name: package.version or "of unknown version" for package in caps.packages if package.state == "found"
    }
    stated = " (stated)" if any(device.stated for device in caps.devices or ()) else ""
    archs = {} if caps.archs is None else {"archs": (", ".join(caps.archs) or "none") + stated}
    return {
        "schema_version": HANDSHAKE_VERSION,
        "nsa_caps": __version__,
        "fingerprint": fmt.fingerprint,
        "format": fmt.to_dict(),
        "index_kpool": index_kpool,
        "row": row,
        "assumed": list(assumed),
        "diagnostics": {"engine": caps.engine, "platform": caps.platform, **archs, **versions},
    }
