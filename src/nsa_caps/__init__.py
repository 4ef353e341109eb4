"""Which memory layout may the sparse-attention indexer use on this machine, and why.

    >>> import nsa_caps
    >>> caps = nsa_caps.probe(engine="sglang")
    >>> layout = nsa_caps.select_indexer_layout(caps)  # doctest: +SKIP

Importing this imports neither torch, triton, aiter nor numpy, and opens no device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps import reasons, rows, switches  # noqa: F401 public paths, there without an import of their own
from nsa_caps._version import __version__
from nsa_caps.base.serial import SnapshotError
from nsa_caps.capabilities.records import AiterSource, AotBundle, AotKernel, Capabilities, Device, Note, Package, Switch
from nsa_caps.capabilities.switches import UnknownEngineError
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.cached import get_indexer_layout
from nsa_caps.layout.layout import (
    ForcedRowWarning,
    IndexerLayout,
    KernelLoadError,
    NoUsableLayoutError,
    select_indexer_layout,
)
from nsa_caps.pages import PageFormat, PageFormatError, difference
from nsa_caps.policy.changes import Change
from nsa_caps.policy.decision import Decision, UnknownRowError, decide
from nsa_caps.policy.reasons import Reason, RowVerdict
from nsa_caps.policy.request import Request, RequestError
from nsa_caps.policy.rows import ROWS, Row
from nsa_caps.probes.host import Host
from nsa_caps.probes.probe import Probe, probe

if TYPE_CHECKING:
    from nsa_caps.agreement.errors import AgreementError, MissingRanksError
    from nsa_caps.agreement.mismatch import LayoutMismatchError
    from nsa_caps.agreement.peers import HandshakeError, check_peer
    from nsa_caps.agreement.ranks import agree
    from nsa_caps.kernels.errors import KernelArgumentError
    from nsa_caps.page_table import PageTableError
    from nsa_caps.selfcheck.proof import Proof

__all__ = [
    "ROWS",
    "AgreementError",
    "AiterSource",
    "AotBundle",
    "AotKernel",
    "Capabilities",
    "Change",
    "Decision",
    "Device",
    "ForcedRowWarning",
    "HandshakeError",
    "Host",
    "IndexerLayout",
    "KernelArgumentError",
    "KernelLoadError",
    "LayoutMismatchError",
    "MissingRanksError",
    "NoUsableLayoutError",
    "Note",
    "NsaCapsError",
    "Package",
    "PageFormat",
    "PageFormatError",
    "PageTableError",
    "Probe",
    "Proof",
    "Reason",
    "Request",
    "RequestError",
    "Row",
    "RowVerdict",
    "SnapshotError",
    "Switch",
    "UnknownEngineError",
    "UnknownRowError",
    "__version__",
    "agree",
    "check_peer",
    "decide",
    "difference",
    "get_indexer_layout",
    "probe",
    "select_indexer_layout",
]

# What few start-ups need is imported at first use.
_LATER = {
    "AgreementError": "agreement.errors",
    "HandshakeError": "agreement.peers",
    "KernelArgumentError": "kernels.errors",
    "LayoutMismatchError": "agreement.mismatch",
    "MissingRanksError": "agreement.errors",
    "PageTableError": "page_table",
    "Proof": "selfcheck.proof",
    "agree": "agreement.ranks",
    "check_peer": "agreement.peers",
}


def __dir__() -> list[str]:
    """Return what is public: completion shows what is imported at first use, and no module of the inside."""
    return sorted([*__all__, "__all__", "__doc__", "__file__", "__name__", "__path__"])


# To a type checker it would stand for any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 as the table says

        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
