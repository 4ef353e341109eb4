"""What a module of kernels offers. mypy holds every such module against these, in `tests/typed/kernels.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nsa_caps.pages import PageFormat

__all__ = ["GatherStore", "Logits"]


class GatherStore(Protocol):
    """A row's gather and store; arguments as `nsa_caps.IndexerLayout` has them, with the format that they are for."""

    def gather(
        self,
        cache: Tensor,
        page_table: Tensor,
        cu_seq_lens: Tensor,
        *,
        total_tokens: int,
        out: tuple[Tensor, Tensor] | None = None,
        fmt: PageFormat,
        checked: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Read the keys of a batch of requests out of their pages."""

    def store(
        self, cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, fmt: PageFormat, checked: bool = False
    ) -> None:
        """Write quantised keys into their slots."""

    def quantise_and_store(
        self, cache: Tensor, slots: Tensor, keys: Tensor, *, fmt: PageFormat, checked: bool = False
    ) -> None:
        """Quantise keys and write them into their slots."""


class Logits(Protocol):
    """A row's logits; what its `logits_options` name comes beside these arguments."""

    def logits(
        self,
        q: Tensor,
        cache: Tensor,
        weights: Tensor,
        context_lens: Tensor,
        page_table: Tensor,
        max_model_len: int,
        *,
        fmt: PageFormat,
        out: Tensor | None = None,
        clean: bool = True,
    ) -> Tensor:
        """Score every cached token of every request."""

    def ragged_logits(
        self,
        q: Tensor,
        keys: Tensor,
        scales: Tensor,
        weights: Tensor,
        starts: Tensor,
        ends: Tensor,
        *,
        fmt: PageFormat,
        clean: bool = True,
        out: Tensor | None = None,
    ) -> Tensor:
        """Score gathered keys, each token those from its start to its end."""
