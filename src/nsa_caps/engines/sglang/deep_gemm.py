"""The functions of DeepGEMM and aiter that SGLang's indexer calls, with their arguments, on one layout. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.engines.scores import paged_scores, quantise, ragged_scores
from nsa_caps.kernels.arguments import fp8_dtype

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["AiterCalls", "DeepGemmCalls"]


class DeepGemmCalls:
    """What SGLang takes of DeepGEMM; everything else of it is the real one's, where there is one."""

    def __init__(self, layout: IndexerLayout, real: object = None) -> None:
        """Take the layout whose kernels are called, and the DeepGEMM that is stood in for."""
        self._layout, self._real = layout, real

    def standing_in_for(self, real: object) -> DeepGemmCalls:
        """Return the same for another DeepGEMM."""
        return DeepGemmCalls(self._layout, real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_num_sms(self) -> int:
        """Return the GPU's multiprocessors, by which SGLang sizes its chunks."""
        return torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count

    def get_paged_mqa_logits_metadata(self, context_lens: Tensor, _block_size: int, num_sms: int) -> Tensor:
        """Return a schedule in DeepGEMM's shape, which no kernel here needs: int32 `[num_sms + 1, 2]`."""
        return torch.zeros((num_sms + 1, 2), dtype=torch.int32, device=context_lens.device)

    def fp8_paged_mqa_logits(
        self,
        q: Tensor,
        kv_cache: Tensor,
        weights: Tensor,
        context_lens: Tensor,
        block_table: Tensor,
        _schedule: Tensor | None,
        max_len: int,
        clean_logits: bool = False,
        indices: Tensor | None = None,
    ) -> Tensor:
        """Score paged keys; SGLang's top-k masks what lies outside the contexts, so nothing is cleaned."""
        del clean_logits
        return paged_scores(self._layout, q, kv_cache, weights, context_lens, block_table, max_len, indices)

    def fp8_mqa_logits(
        self,
        q: Tensor,
        kv: tuple[Tensor, Tensor],
        weights: Tensor,
        ks: Tensor,
        ke: Tensor,
        clean_logits: bool = False,
        max_seqlen_k: int = 0,
    ) -> Tensor:
        """Score gathered keys, likewise."""
        del clean_logits, max_seqlen_k
        return ragged_scores(self._layout, q, *kv, weights, ks, ke)


class AiterCalls:
    """What SGLang's indexer calls on ROCm."""

    def __init__(self, layout: IndexerLayout) -> None:
        """Take the layout whose kernels are called."""
        self._layout = layout

    def paged(
        self,
        q_fp8: Tensor,
        kv_cache_fp8: Tensor,
        weights: Tensor,
        seq_lens: Tensor,
        block_tables: Tensor,
        max_seq_len: int,
        *,
        preshuffle: bool,
        kv_block_size: int,
    ) -> Tensor:
        """Score paged keys: SGLang's `aiter_paged_mqa_logits`; the layout knows its order and page size itself."""
        del preshuffle, kv_block_size
        layout = self._layout
        return paged_scores(layout, q_fp8.unsqueeze(1), kv_cache_fp8, weights, seq_lens, block_tables, max_seq_len)

    def ragged(
        self, q: Tensor, kv: Tensor, kv_scales: Tensor, weights: Tensor, ks: Tensor, ke: Tensor, **_: object
    ) -> Tensor:
        """Score gathered keys: aiter's `fp8_mqa_logits`, whatever keywords SGLang hands it."""
        return ragged_scores(self._layout, q, kv, kv_scales, weights, ks, ke)

    def quantise_and_store(
        self, k: Tensor, kv_cache: Tensor, slot_mapping: Tensor, block_size: int, scale_fmt: str | None, **_: object
    ) -> None:
        """Quantise and store keys: aiter's `indexer_k_quant_and_cache`."""
        keys, scales = quantise(k, scale_fmt, fp8_dtype(self._layout.format), block_size)
        pages = kv_cache.view(torch.uint8).reshape(kv_cache.shape[0], -1)
        self._layout.store(pages, slot_mapping.long().contiguous(), keys.contiguous(), scales.reshape(-1).contiguous())
