"""SGLang's plugin: it installs nothing before SGLang has read the model's configuration, and nothing unasked."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING

from nsa_caps.engines.model import of_config
from nsa_caps.engines.sglang.decided import indexer_layout, rows
from nsa_caps.engines.sglang.install import install
from nsa_caps.probes.probe import probe

if TYPE_CHECKING:
    from typing import Any

    from nsa_caps.engines.model import IndexerModel

__all__ = ["plugin"]

_log = logging.getLogger("nsa_caps.engines.sglang")
_TARGET = "sglang.srt.configs.model_config.is_deepseek_dsa"
# The models that were installed for in this process: SGLang asks of each configuration many times.
_seen: set[IndexerModel] = set()


def plugin() -> None:
    """Put this library into SGLang, once it has read its model: the entry point in `sglang.srt.plugins`.

    Does nothing unless `NSA_CAPS_INSTALL=1`. SGLang asks `is_deepseek_dsa` of the configuration before it chooses a
    page size; its own registry of hooks calls us after that, with the configuration.
    """
    caps = probe(engine="sglang")
    if not caps.is_on("install"):
        return
    if caps.platform not in ("rocm", "cuda"):
        _log.info("nsa_caps: nothing to do on %s, whose pages SGLang has of its own", caps.platform)
        return
    if "ray" in sys.modules:
        _log.warning(
            "nsa_caps: SGLang runs no plugins in Ray's actors; there, give ray.init(runtime_env="
            '{"worker_process_setup_hook": "nsa_caps.engines.sglang.plugin"})'
        )
    registry = importlib.import_module("sglang.srt.plugins.hook_registry")
    registry.HookRegistry.register(_TARGET, _after_is_deepseek_dsa, registry.HookType.AFTER)


def _after_is_deepseek_dsa(is_dsa: bool, config: Any, *_: object, **__: object) -> None:
    model = of_config(config) if is_dsa else None
    if model is None or model.family != "dsa" or model in _seen:
        return
    _seen.add(model)
    layout = indexer_layout(index_kpool=model.index_kpool, heads=model.heads, kernels=True)
    kernels = layout.row not in rows(model.index_kpool)
    install(layout, kernels=kernels, model=model)
