"""vLLM's indexer of DeepSeek-V3.2 and GLM-5 (0.30.0 to 0.33.0) on this library's answer.

vLLM runs kernels of its own on its pages, and then what is decided here is the bytes; `install()` puts a layout's in
their place. Nothing of vLLM is imported before.
"""

from nsa_caps.engines.replacing import InstallError, Replacement
from nsa_caps.engines.vllm.decided import (
    BLOCK_SIZES,
    bundled_deep_gemm,
    get_supported_kernel_block_sizes,
    indexer_layout,
    layouts,
    preferred_kernel_block_size,
    probe_machine,
    rows,
)
from nsa_caps.engines.vllm.install import install, uninstall
from nsa_caps.engines.vllm.plugin import plugin

__all__ = [
    "BLOCK_SIZES",
    "InstallError",
    "Replacement",
    "bundled_deep_gemm",
    "get_supported_kernel_block_sizes",
    "indexer_layout",
    "install",
    "layouts",
    "plugin",
    "preferred_kernel_block_size",
    "probe_machine",
    "rows",
    "uninstall",
]
