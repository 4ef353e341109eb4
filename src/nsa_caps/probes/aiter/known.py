"""What functions of aiter are known to be, where all that they are made of has a known digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.probes.aiter.natives import BUNDLE
from nsa_caps.probes.aiter.space import Opaque
from nsa_caps.probes.aiter.values import Special

if TYPE_CHECKING:
    from nsa_caps.probes.aiter.run import Run

__all__ = ["DECORATORS", "KERNELS", "ROLES", "TRUSTED", "named"]

DECORATORS = frozenset({
    "triton.jit", "gluon.jit", "triton.autotune", "triton.heuristics", "functools.lru_cache", "functools.cache",
    "functools.wraps", "lru_cache", "cache", "torch_compile_guard", "compile_ops", "dataclass",
})  # fmt: skip


def _arch(run: Run, *_: Any) -> Any:
    return run.space.choice("arch")


def _units(*_: Any) -> Any:
    return Opaque("compute units")


def _nothing(*_: Any) -> Any:
    return Opaque("nothing")


_CHIP = "aiter.jit.utils.chip_info"
# Functions that ask the machine: `FUNCTIONS` has the digests with which they are what is said here.
ROLES: dict[tuple[str, str], Special] = {
    (_CHIP, "get_gfx"): Special("get_gfx", _arch),
    (_CHIP, "get_gfx_runtime"): Special("get_gfx_runtime", _arch),
    (_CHIP, "get_cu_num"): Special("get_cu_num", _units),
    ("aiter.ops.triton.utils.device_info", "get_num_sms"): Special("get_num_sms", _units),
    ("aiter.utility.triton.triton_metadata_redirect", "AOTMetadataContext"): BUNDLE,
}
# What builds compiled code: nothing of it decides, and its own modules are scanned with the rest.
TRUSTED: dict[tuple[str, str], Special] = {
    ("aiter.jit.core", "compile_ops"): Special("aiter.jit.core.compile_ops", _nothing),
    ("aiter.jit.utils.torch_guard", "torch_compile_guard"): Special(
        "aiter.jit.utils.torch_guard.torch_compile_guard", _nothing
    ),
}

# The kernels of the logits function, by name.
KERNELS = {
    "_gluon_deepgemm_fp8_paged_mqa_logits": "base",
    "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle": "preshuffle",
    "_deepgemm_fp8_paged_mqa_logits": "plain",
}
# What an excerpt leaves out and every release had.
_NAMED: dict[tuple[str, str], Any] = {
    **ROLES,
    **TRUSTED,
    ("aiter.ops.triton.utils.core", "AITER_TRITON_CONFIGS_PATH"): "/aiter/ops/triton/configs",
    ("aiter.ops.triton.gluon.pa_decode_gluon", "get_cdna_version"): Special("get_cdna_version", _nothing),
}


def named(dotted: str, name: str) -> Any:
    """Return what a module that an excerpt leaves out has under a name, as every release had it."""
    return _NAMED.get((dotted, name), Opaque(f"{dotted}.{name}"))
