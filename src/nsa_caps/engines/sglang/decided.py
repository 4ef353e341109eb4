"""What SGLang is told: one layout, its gate's answer and its page size, limited to what SGLang can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import Version

from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.capabilities.own_path import own_path
from nsa_caps.engines.deciding import layout_for
from nsa_caps.layout.layout import NoUsableLayoutError
from nsa_caps.policy.request import Request, RequestError
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["ROWS", "aiter_can_use_preshuffle_paged_mqa", "indexer_layout", "page_size", "rows"]

_TABLE = ENGINE_TABLE["sglang"].rows or ()
# Since then a page of pooled keys is one of 64 keys; in 0.5.21 it is one of 64 tokens, which `dsa_backend` asserts.
_PAGES_OF_POOLED_KEYS = Version("0.5.22")

ROWS = tuple(row.row for row in _TABLE if not row.kernels and row.switch is None)
"""The rows that SGLang can run as it is.

On ROCm its indexer calls aiter's logits kernel whatever the switches say, and its pool asserts pages of 1 wherever they
are not tiled; elsewhere it asserts flat pages of 64 for DeepGEMM. `aiter-flat` and `portable` need this library's
kernels in it: `install(kernels=True)`.
"""


def rows(index_kpool: int = 1, *, kernels: bool = False) -> tuple[str, ...]:
    """Return the rows that SGLang can run somewhere; pooled index keys (GLM-5.3) have no path on pages of one token.

    Args:
        index_kpool: tokens that share one index key.
        kernels: with this library's kernels in it.
    """
    if index_kpool > 1:
        return tuple(row.row for row in _TABLE if row.pooled_sizes)
    return tuple(row.row for row in _TABLE if row.row in ROWS or (kernels and row.kernels))


def indexer_layout(
    user_page_size: int | None = None,
    index_kpool: int = 1,
    *,
    heads: int = 64,
    caps: Capabilities | None = None,
    kernels: bool = False,
) -> IndexerLayout:
    """Return the layout, limited to what SGLang can run; this machine is asked once a process for the same arguments.

    Args:
        user_page_size: tokens a page of the KV cache, given by the user; None: the best row's own.
        index_kpool: tokens that share one index key.
        heads: the model's `index_n_heads`.
        caps: the machine, from `nsa_caps.probe`; None: this one.
        kernels: with this library's kernels in it, which `install(kernels=True)` puts there.

    Raises:
        NoUsableLayoutError: SGLang can run nothing here, or not with that page size; it carries every reason.
        RequestError: the page size is no multiple of `index_kpool`.
    """
    size = None
    if user_page_size is not None:
        size, rest = divmod(user_page_size, max(index_kpool, 1))
        if rest:
            needed = f"a multiple of index_kpool = {index_kpool}"
            raise RequestError(f"page_size is {user_page_size}, needs {needed}")
    request = Request(heads=heads, index_kpool=index_kpool, page_size=size)
    return layout_for("sglang", request, caps, kernels=kernels)


def aiter_can_use_preshuffle_paged_mqa(caps: Capabilities | None = None) -> bool:
    """Return whether aiter's tiled pages can be used: `dsa.utils`' function (`nsa.utils`' in 0.5.12; sglang#25205).

    False also where SGLang can run nothing at all, as SGLang's own says; `page_size` raises there.

    Args:
        caps: the machine, from `nsa_caps.probe`; None: this one, asked once.
    """
    try:
        return indexer_layout(caps=caps).preshuffle
    except NoUsableLayoutError:
        return False


def page_size(user_page_size: int | None = None, index_kpool: int = 1, *, caps: Capabilities | None = None) -> int:
    """Return the page size of the KV cache, for SGLang's argument resolution.

    Args:
        user_page_size: `--page-size`, where the user gave one: honoured or refused. SGLang itself replaces it.
        index_kpool: tokens that share one index key.
        caps: as in `indexer_layout`.

    Returns:
        Tokens a page: what SGLang calls `page_size`, `index_kpool` times the index keys of a page; in releases before
        0.5.22, whatever `index_kpool` is, 64. On a vendor's GPUs on which SGLang has a path of its own
        (`nsa_caps.capabilities.own_path`) the page of that path.

    Raises:
        NoUsableLayoutError: as `indexer_layout` raises it, before a cache is allocated.
        RequestError: the page size is no multiple of `index_kpool`, or with pooled keys not 64 of them.
    """
    in_tokens = _layout_in_tokens(index_kpool, caps)
    if in_tokens is not None:
        if user_page_size not in (None, in_tokens.page_size):
            needed = f"{in_tokens.page_size}: with pooled keys SGLang before {_PAGES_OF_POOLED_KEYS} takes no other"
            raise RequestError(f"page_size is {user_page_size}, needs {needed}")
        return in_tokens.page_size
    try:
        return indexer_layout(user_page_size, index_kpool, caps=caps).model_page_size
    except NoUsableLayoutError as error:
        own = own_path(error.decision.caps)
        if own is None and index_kpool > 1 and user_page_size not in (None, 64 * index_kpool):
            # `dsa_indexer_kpool` asserts it at the first decode.
            needed = f"{64 * index_kpool}: 64 index keys a page"
            raise RequestError(f"page_size is {user_page_size}, needs {needed}") from error
        if own is None:
            raise
        return own.page_size * index_kpool if user_page_size is None else user_page_size


def _layout_in_tokens(index_kpool: int, caps: Capabilities | None) -> IndexerLayout | None:
    """Return the layout of pooled keys where SGLang counts a page in tokens all the same; None: it does not."""
    if index_kpool <= 1:
        return None
    try:
        layout = indexer_layout(index_kpool=index_kpool, caps=caps)
    except NoUsableLayoutError:
        return None
    release = base_version(layout.decision.caps.engine_release)
    return layout if release is not None and release < _PAGES_OF_POOLED_KEYS else None
