"""vLLM's plugin: it puts this library's kernels into vLLM where that was asked for."""

from __future__ import annotations

import logging

from nsa_caps.engines.vllm.decided import indexer_layout, probe_machine
from nsa_caps.engines.vllm.install import install
from nsa_caps.layout.layout import NoUsableLayoutError

__all__ = ["plugin"]

_log = logging.getLogger("nsa_caps.engines.vllm")


def plugin() -> None:
    """Put this library's kernels into vLLM: the entry point in `vllm.general_plugins`.

    Does nothing unless `NSA_CAPS_INSTALL=1`, and nothing where vLLM runs the best of its rows as it is.
    """
    caps = probe_machine()
    if not caps.is_on("install"):
        return
    try:
        own = indexer_layout(caps).row
    except NoUsableLayoutError:
        own = None
    layout = indexer_layout(caps, kernels=True)
    if layout.row == own:
        _log.info("nsa_caps: vLLM runs %s as it is", own)
        return
    install(layout)
