"""The calls of SGLang's indexer, in SGLang's shapes and names, on one layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.engines.sglang.decided import indexer_layout

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["gather", "store"]


def gather(
    pool: Any,
    buf: Tensor,
    page_indices: Tensor,
    seq_len_tensor: Tensor,
    seq_len_sum: int,
    max_seq_len: int,  # noqa: ARG001 SGLang's signature; no kernel here needs it
    *,
    layout: IndexerLayout | None = None,
) -> tuple[Tensor, Tensor]:
    """Read index keys and scales out of their pages: `GetKAndS.execute`.

    Args:
        pool: SGLang's token-to-KV pool, asked for its page size only.
        buf: uint8 `[pages, page_bytes]`.
        page_indices: int32 or int64 `[batch, max_pages]`.
        seq_len_tensor: int32 or int64 `[batch]`.
        seq_len_sum: the sum of these, known on the host.
        max_seq_len: not looked at.
        layout: None: this process's, for the pool's page size.

    Returns:
        uint8 `[seq_len_sum, head_dim]`, the fp8 keys, and uint8 `[seq_len_sum, 4]`, their fp32 scales.

    Raises:
        NoUsableLayoutError: there is no layout for the pool's page size.
        KernelLoadError: the row's kernels cannot be loaded.
        KernelArgumentError: an argument does not fit; nothing was launched.
    """
    layout = _of_pool(pool) if layout is None else layout
    cu_seq_lens = seq_len_tensor.new_zeros(seq_len_tensor.shape[0] + 1)
    cu_seq_lens[1:] = seq_len_tensor.cumsum(0)
    keys, scales = layout.gather(buf, page_indices.int(), cu_seq_lens.int(), total_tokens=seq_len_sum)
    return keys.view(buf.dtype), scales.view(buf.dtype).view(-1, 4)


def store(
    pool: Any,
    buf: Tensor,
    loc: Tensor,
    index_k: Tensor,
    index_k_scale: Tensor,
    *,
    layout: IndexerLayout | None = None,
) -> None:
    """Write quantised index keys and scales into their slots: `SetKAndS.execute`.

    Args:
        pool: as in `gather`.
        buf: as in `gather`.
        loc: int32 or int64 `[tokens]`: page x page size + slot in the page; negative ones are skipped.
        index_k: fp8 `[tokens, head_dim]`.
        index_k_scale: float32 `[tokens]` or `[tokens, 1]`.
        layout: as in `gather`.

    Raises:
        NoUsableLayoutError: there is no layout for the pool's page size.
        KernelLoadError: the row's kernels cannot be loaded.
        KernelArgumentError: an argument does not fit; nothing was launched.
    """
    layout = _of_pool(pool) if layout is None else layout
    layout.store(buf, loc.long().contiguous(), index_k.contiguous(), index_k_scale.reshape(-1).contiguous())


def _of_pool(pool: Any) -> IndexerLayout:
    index_kpool = getattr(pool, "index_kpool", 1)
    # 0.5.12 pools nothing and has the one page size.
    return indexer_layout(getattr(pool, "index_page_size", pool.page_size) * index_kpool, index_kpool)
