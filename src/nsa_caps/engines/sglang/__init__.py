"""SGLang's indexer (0.5.12 to 0.5.23) on this library's answer.

`install()` puts it into a running SGLang; the functions below are for an SGLang of one's own, each in the place and the
shape of SGLang's. Nothing of SGLang is imported before `install`.
"""

from nsa_caps.engines.model import IndexerModel
from nsa_caps.engines.replacing import InstallError, Replacement
from nsa_caps.engines.sglang.calls import gather, store
from nsa_caps.engines.sglang.decided import (
    ROWS,
    aiter_can_use_preshuffle_paged_mqa,
    indexer_layout,
    page_size,
    rows,
)
from nsa_caps.engines.sglang.install import install, uninstall
from nsa_caps.engines.sglang.plugin import plugin

__all__ = [
    "ROWS",
    "IndexerModel",
    "InstallError",
    "Replacement",
    "aiter_can_use_preshuffle_paged_mqa",
    "gather",
    "indexer_layout",
    "install",
    "page_size",
    "plugin",
    "rows",
    "store",
    "uninstall",
]
