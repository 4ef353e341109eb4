"""Page tables of the indexer's cache: from an engine's metadata, or from its table of token slots.

torch is imported when a table is asked for, not before: this module is on the way of every engine start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.errors import NsaCapsError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PageTableError", "from_metadata", "from_token_table"]


_INT32 = 2**31 - 1


class PageTableError(NsaCapsError, ValueError):
    """No page table could be had: the message says what was found and what is needed.

    Attributes:
        argument: the argument or the getter that is wrong.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{argument}: {message}")
        self.argument = argument


def from_token_table(token_table: Tensor, page_size: int, index_kpool: int = 1) -> Tensor:
    """Page numbers from token slots: every (page_size x index_kpool)-th column, divided by that many tokens.

    Runs on the table's device, waits for nothing and can be captured in a graph. Pages must lie whole in the token
    table: the slots of one page follow each other and begin at a multiple of it, as engines allocate them.

    With pooling, `index_kpool` tokens share one index state, so that a page of `page_size` states stands for
    `page_size * index_kpool` tokens (GLM-5.3). A table of pages is pooled by the same rule with `page_size=1`.

    Args:
        token_table: int32 or int64 `[batch, max_len]`; columns beyond a request's length may hold anything,
            negative padding stays negative.
        page_size: index states a page.
        index_kpool: tokens that share one index state.

    Returns:
        int32 `[batch, ceil(max_len / (page_size * index_kpool))]`; the table itself, if there is nothing to do.

    Raises:
        PageTableError: the table is no such tensor, or a size is not a whole number of at least 1.
    """
    import torch  # noqa: PLC0415 an engine imports this module before it forks, and torch must not be loaded then

    for name, value in (("page_size", page_size), ("index_kpool", index_kpool)):
        if type(value) is not int or value < 1:
            raise PageTableError(name, f"got {value!r}, need a whole number of at least 1")
    _check_table("token_table", token_table)
    tokens = page_size * index_kpool
    if tokens > _INT32:
        raise PageTableError(
            "page_size", f"got {page_size} x index_kpool {index_kpool}, need at most {_INT32} together"
        )
    pages = token_table if tokens == 1 else torch.floor_divide(token_table[:, ::tokens], tokens)
    if pages.dtype == torch.int64:
        # What no int32 holds stays a page that no cache has: cut off, it would be another one's number.
        pages = pages.clamp(min=-1, max=_INT32)
    return pages.to(torch.int32)


def from_metadata(metadata: object, page_size: int, index_kpool: int = 1) -> Tensor:
    """The page table that an engine's attention metadata holds for this page size.

    SGLang's getters: `get_page_table_1` gives token slots; `get_page_table_64` gives pages of the *physical*
    size, whatever that is (its `DSAMetadata.real_page_table`), which it does not pool: that is done here.

    Args:
        metadata: an object with those getters, such as SGLang's `BaseIndexerMetadata`.
        page_size: index states a page.
        index_kpool: tokens that share one index state.

    Returns:
        int32 `[batch, max_pages]`.

    Raises:
        PageTableError: the metadata has no such getter, or it gave no table.
    """
    getter = "get_page_table_1" if page_size == 1 else "get_page_table_64"
    if not hasattr(metadata, getter):
        raise PageTableError(
            getter,
            f"{type(metadata).__qualname__} has no such method, and pages of {page_size} need it; "
            "hand in the engine's indexer metadata, or derive a table with from_token_table()",
        )
    try:
        table: Any = getattr(metadata, getter)()
    except Exception as error:
        raise PageTableError(
            getter, f"{type(metadata).__qualname__}'s raised {type(error).__name__}: {error}"
        ) from error
    _check_table(f"{type(metadata).__qualname__}.{getter}()", table)
    # The getter has divided by the page size already; only the pooling is left.
    return from_token_table(table, 1, index_kpool)


def _check_table(name: str, table: object) -> None:
    import torch  # noqa: PLC0415 as above

    if not isinstance(table, torch.Tensor):
        raise PageTableError(name, f"got {type(table).__qualname__}, need a tensor [batch, max_len]")
    if table.dim() != 2 or table.dtype not in (torch.int32, torch.int64):
        raise PageTableError(
            name, f"got {table.dtype} of shape {tuple(table.shape)}, need int32 or int64 [batch, max_len]"
        )
