"""The calls of vLLM's sparse indexer, with vLLM's arguments, on one layout. Needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nsa_caps.engines.scores import paged_scores, quantise, ragged_scores
from nsa_caps.kernels.arguments import fp8_dtype

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["Calls", "CustomOps"]


class CustomOps:
    """vLLM's custom ops with the two that touch index pages on the layout's kernels; all others are vLLM's own."""

    def __init__(self, layout: IndexerLayout, real: object) -> None:
        """Take the layout whose kernels are called, and vLLM's own ops."""
        self._layout, self._real = layout, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def indexer_k_quant_and_cache(
        self, k: Tensor, kv_cache: Tensor, slot_mapping: Tensor, quant_block_size: int, kv_cache_dtype: str
    ) -> None:
        """Quantise and store keys; those of negative slots are skipped."""
        scale_fmt = "ue8m0" if kv_cache_dtype == "ue8m0" else None
        keys, scales = quantise(k, scale_fmt, fp8_dtype(self._layout.format), quant_block_size)
        slots = slot_mapping.long().contiguous()
        self._layout.store(kv_cache, slots, keys.contiguous(), scales.reshape(-1).contiguous())

    def cp_gather_indexer_k_quant_cache(
        self, kv_cache: Tensor, dst_k: Tensor, dst_scale: Tensor, block_table: Tensor, cu_seq_lens: Tensor
    ) -> None:
        """Read the keys and scales of a batch of requests out of their pages into the tensors given."""
        keys = dst_k.view(fp8_dtype(self._layout.format))
        out = (keys, dst_scale.view(torch.float32).view(-1))
        table, lengths = block_table.int().contiguous(), cu_seq_lens.int().contiguous()
        self._layout.gather(kv_cache, table, lengths, total_tokens=dst_k.shape[0], out=out)


class Calls:
    """What vLLM's sparse indexer takes of DeepGEMM."""

    def __init__(self, layout: IndexerLayout) -> None:
        """Take the layout whose kernels are called."""
        self._layout = layout

    def fp8_fp4_mqa_logits(
        self,
        q: tuple[Tensor, Tensor | None],
        kv: tuple[Tensor, Tensor],
        weights: Tensor,
        cu_seqlen_ks: Tensor,
        cu_seqlen_ke: Tensor,
        max_seqlen_k: int | None = None,
        clean_logits: bool = False,
    ) -> Tensor:
        """Score gathered keys.

        Returns:
            0.30.0, without `max_seqlen_k`: float32 `[tokens, keys]`. Since then `[tokens, max_seqlen_k]`, each row from
            its own first key on. What lies outside is left as it is.
        """
        del clean_logits
        scores = ragged_scores(self._layout, q[0], *kv, weights, cu_seqlen_ks, cu_seqlen_ke)
        if max_seqlen_k is None:
            return scores
        columns = torch.arange(max_seqlen_k, device=scores.device) + cu_seqlen_ks.long().unsqueeze(1)
        return scores.gather(1, columns.clamp_(max=scores.shape[1] - 1))

    def fp8_fp4_paged_mqa_logits(
        self,
        q: tuple[Tensor, Tensor | None],
        kv_cache: Tensor,
        weights: Tensor,
        context_lens: Tensor,
        block_tables: Tensor,
        schedule_metadata: Tensor | None,
        max_model_len: int,
        clean_logits: bool = False,
        indices: Tensor | None = None,
    ) -> Tensor:
        """Score paged keys: float32 `[batch * next_n, max_model_len]`, what lies outside left as it is."""
        del clean_logits, schedule_metadata
        return paged_scores(self._layout, q[0], kv_cache, weights, context_lens, block_tables, max_model_len, indices)

    def get_paged_mqa_logits_metadata(
        self, context_lens: Tensor, _block_size: int, num_sms: int, *_: object, **__: object
    ) -> Tensor:
        """Return a schedule in DeepGEMM's shape, which no kernel here needs: int32 `[num_sms + 1, 2]`."""
        return torch.zeros((num_sms + 1, 2), dtype=torch.int32, device=context_lens.device)
