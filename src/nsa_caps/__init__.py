"""Which memory layout may the sparse-attention indexer use on this machine, and why.

    >>> import nsa_caps
    >>> caps = nsa_caps.probe(engine="sglang")
    >>> layout = nsa_caps.select_indexer_layout(caps)  # doctest: +SKIP

Importing this imports neither torch, triton, aiter nor numpy, and opens no device.
"""

from __future__ import annotations

from nsa_caps._version import __version__
from nsa_caps.capabilities import (
    AiterSource,
    AotBundle,
    AotKernel,
    Capabilities,
    Device,
    Note,
    Package,
    SnapshotError,
    Switch,
)
from nsa_caps.changes import Change
from nsa_caps.errors import NsaCapsError
from nsa_caps.host import Host
from nsa_caps.layout import (
    ForcedRowWarning,
    IndexerLayout,
    KernelLoadError,
    NoUsableLayoutError,
    select_indexer_layout,
)
from nsa_caps.once import get_indexer_layout
from nsa_caps.pages import PageFormat, PageFormatError, difference
from nsa_caps.policy import Decision, RowVerdict, UnknownRowError, decide
from nsa_caps.probes import Probe, probe
from nsa_caps.reasons import Reason
from nsa_caps.request import Request, RequestError
from nsa_caps.rows import ROWS, Row
from nsa_caps.switches import UnknownEngineError

__all__ = [
    "ROWS",
    "AiterSource",
    "AotBundle",
    "AotKernel",
    "Capabilities",
    "Change",
    "Decision",
    "Device",
    "ForcedRowWarning",
    "Host",
    "IndexerLayout",
    "KernelLoadError",
    "NoUsableLayoutError",
    "Note",
    "NsaCapsError",
    "Package",
    "PageFormat",
    "PageFormatError",
    "Probe",
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
    "decide",
    "difference",
    "get_indexer_layout",
    "probe",
    "select_indexer_layout",
]
