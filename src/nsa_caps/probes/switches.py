"""The variables that a switch may read, as they stand in the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.switches import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["switches"]


def switches(host: Host) -> Mapping[str, Any]:
    """Find the variables of every engine; `nsa_caps.switches.resolve` reads them for the engine asked about."""
    return {"variables": {name: host.environ[name] for name in VARIABLES if name in host.environ}}
