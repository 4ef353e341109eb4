"""What a node tells another of its pages."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 base/serial.py resolves the annotations at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsa_caps._version import __version__
from nsa_caps.base.serial import to_plain
from nsa_caps.pages import PageFormat  # noqa: TC001 as above

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities

__all__ = ["HANDSHAKE_VERSION", "Handshake", "handshake_document"]

HANDSHAKE_VERSION = 2


@dataclass(frozen=True)
class Handshake:
    """The fields of the document; `schemas/handshake.json` says what they mean."""

    schema_version: int
    nsa_caps: str
    fingerprint: str
    format: PageFormat
    index_kpool: int
    row: str
    assumed: tuple[str, ...]
    diagnostics: Mapping[str, str]


def handshake_document(
    row: str, fmt: PageFormat, index_kpool: int, assumed: tuple[str, ...], caps: Capabilities
) -> dict[str, Any]:
    """Return what a layout's owner tells its peers, by `schemas/handshake.json`: about 500 bytes as JSON."""
    versions = {
        package.name: package.version or "of unknown version" for package in caps.packages if package.state == "found"
    }
    stated = " (stated)" if any(device.stated for device in caps.devices or ()) else ""
    archs = {} if caps.archs is None else {"archs": (", ".join(caps.archs) or "none") + stated}
    document: dict[str, Any] = to_plain(
        Handshake(
            schema_version=HANDSHAKE_VERSION,
            nsa_caps=__version__,
            fingerprint=fmt.fingerprint,
            format=fmt,
            index_kpool=index_kpool,
            row=row,
            assumed=assumed,
            diagnostics={"engine": caps.engine, "platform": caps.platform, **archs, **versions},
        )
    )
    return document
