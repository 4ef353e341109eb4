"""What an engine holds: one layout, whose page size, page table, kernels and options belong together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.handshake import handshake_document
from nsa_caps.page_table import from_metadata
from nsa_caps.policy.decision import Decision, decide, find_row
from nsa_caps.policy.document import decision_document
from nsa_caps.policy.formats import assumed_fields
from nsa_caps.policy.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from torch import Tensor

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.kernels.protocol import GatherStore, Logits
    from nsa_caps.pages import PageFormat
    from nsa_caps.policy.reasons import Reason
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row

__all__ = [
    "ForcedRowWarning",
    "IndexerLayout",
    "KernelLoadError",
    "NoUsableLayoutError",
    "select_indexer_layout",
]


class NoUsableLayoutError(NsaCapsError, RuntimeError):
    """Every allowed row is out.

    Attributes:
        decision: the whole decision, with every row's reasons.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.explain())
        self.decision = decision

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The reasons of all rows, best row first."""
        return tuple(reason for verdict in self.decision.verdicts for reason in verdict.reasons)


class KernelLoadError(NsaCapsError, RuntimeError):
    """A row's kernels could not be imported; the cause is chained.

    Attributes:
        layout: the layout whose kernels they are.
        module: the module that did not load.
    """

    def __init__(self, layout: IndexerLayout, module: str, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}"
        super().__init__(f"{module}, the kernels of {layout.row}, did not load: {cause}\n\n{layout.explain()}")
        self.layout = layout
        self.module = module


class ForcedRowWarning(UserWarning):
    """A row was taken by NSA_CAPS_ROW_FORCE against reasons."""


@dataclass(frozen=True)
class IndexerLayout:
    """A row bound to a machine, with the whole decision attached.

    Attributes:
        row: the row's name.
        format: the bytes of one page.
        model_page_size: tokens a model page: index slots a page times `index_kpool`.
        logits_options: the keyword arguments that this row's logits kernel takes, such as
            `{"Preshuffle": True, "KVBlockSize": 64}`.
        decision: every row and every reason.
    """

    row: str
    format: PageFormat
    model_page_size: int
    logits_options: Mapping[str, Any]
    decision: Decision = field(repr=False)

    def __str__(self) -> str:
        """Return one line for a log: what is used, and what bars each better row of this platform."""
        kpool = f" model_page={self.model_page_size}" if self.model_page_size != self.page_size else ""
        barred = [
            f"{verdict.row}[{', '.join(dict.fromkeys(reason.code for reason in verdict.reasons))}]"
            for verdict in self.decision.better_rows()
            if verdict.out_of_reach is None
        ]
        better = f"; not {', '.join(barred)}" if barred else ""
        forced = " forced" if self.decision.forced else ""
        return f"{self.row}{forced} page={self.page_size}{kpool} format={self.fingerprint}{better}"

    @property
    def page_size(self) -> int:
        """Index slots a page."""
        return self.format.page_size

    @property
    def preshuffle(self) -> bool:
        """Whether the keys of a page lie in 16x16 tiles."""
        return self.format.order == "tiles"

    @property
    def fingerprint(self) -> str:
        """A short stable hash of exactly what decides the meaning of a page's bytes."""
        return self.format.fingerprint

    @property
    def assumed(self) -> tuple[str, ...]:
        """The fields of the format that are taken for granted: of the engine's release and model nobody knows them."""
        return assumed_fields(self.decision.caps, self.decision.request)

    def explain(self) -> str:
        """Return the decision in words."""
        return self.decision.explain()

    def page_table(self, metadata: object) -> Tensor:
        """Return the page table that the engine's metadata holds for this layout's pages.

        Args:
            metadata: an object with SGLang's getters `get_page_table_1` and `get_page_table_64`.

        Returns:
            int32 `[batch, max_pages]`.

        Raises:
            PageTableError: the metadata has no such getter, or it gave no table.
        """
        return from_metadata(metadata, self.page_size, self.model_page_size // self.page_size)

    def gather(
        self,
        cache: Tensor,
        page_table: Tensor,
        cu_seq_lens: Tensor,
        *,
        total_tokens: int,
        out: tuple[Tensor, Tensor] | None = None,
        checked: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Read the keys of a batch of requests out of their pages, whole and next to each other.

        Waits for no device unless `checked`, so that it can be captured in a graph.

        Args:
            cache: uint8 `[pages, page_bytes]`, or the views of it that engines hold.
            page_table: int32 `[batch, max_pages]`.
            cu_seq_lens: int32 `[batch + 1]`: request r's rows are `cu_seq_lens[r]` to `cu_seq_lens[r + 1]`.
            total_tokens: rows to write at most.
            out: keys and scales to write into; rows beyond `cu_seq_lens[-1]` are left as they are. aiter's rows must
                not be asked for any: its kernel looks such rows up by uninitialised memory.
            checked: also refuse pages beyond the cache; waits for the device.

        Returns:
            fp8 keys of the format's dialect `[total_tokens, head_dim]` and float32 scales `[total_tokens]`.

        Raises:
            KernelLoadError: this row's kernels cannot be loaded.
            KernelArgumentError: an argument does not fit; nothing was launched.
        """
        kernels: GatherStore = self._kernels(_row_of(self).kernels)
        return kernels.gather(
            cache, page_table, cu_seq_lens, total_tokens=total_tokens, out=out, fmt=self.format, checked=checked
        )

    def store(self, cache: Tensor, slots: Tensor, keys: Tensor, scales: Tensor, *, checked: bool = False) -> None:
        """Write quantised keys into their slots.

        Args:
            cache: as in `gather`.
            slots: int64 `[tokens]`, page x page_size + slot in the page; negative ones are skipped.
            keys: fp8 of the format's dialect, or uint8, `[tokens, head_dim]`.
            scales: float32 `[tokens]`.
            checked: also refuse slots beyond the cache; waits for the device.

        Raises:
            KernelLoadError: this row's kernels cannot be loaded.
            KernelArgumentError: an argument does not fit; nothing was launched.
        """
        kernels: GatherStore = self._kernels(_row_of(self).kernels)
        kernels.store(cache, slots, keys, scales, fmt=self.format, checked=checked)

    def quantise_and_store(self, cache: Tensor, slots: Tensor, keys: Tensor, *, checked: bool = False) -> None:
        """Quantise keys and write them into their slots, in one pass.

        Args:
            cache: as in `gather`.
            slots: as in `store`.
            keys: bf16, fp16 or fp32 `[tokens, head_dim]`.
            checked: as in `store`.

        Raises:
            KernelLoadError: this row's kernels cannot be loaded.
            KernelArgumentError: an argument does not fit; nothing was launched.
        """
        kernels: GatherStore = self._kernels(_row_of(self).kernels)
        kernels.quantise_and_store(cache, slots, keys, fmt=self.format, checked=checked)

    def logits(
        self,
        q: Tensor,
        cache: Tensor,
        weights: Tensor,
        context_lens: Tensor,
        page_table: Tensor,
        max_model_len: int,
        *,
        out: Tensor | None = None,
        clean: bool = True,
    ) -> Tensor:
        """Score every cached token of every request: `sum_h w[h] * relu(q[h] . k[t]) * scale[t]`.

        Args:
            q: fp8 of the format's dialect `[batch, next_n, heads, head_dim]`.
            cache: as in `gather`.
            weights: float32 `[batch * next_n, heads]`.
            context_lens: int32 `[batch]`.
            page_table: int32 `[batch, max_pages]`.
            max_model_len: columns of the result.
            out: float32 `[batch * next_n, max_model_len]` to write into.
            clean: write `-inf` outside the context. Else `portable` and `reference` write nothing there, and DeepGEMM
                and aiter may leave anything: faster, where top-k is told the lengths.

        Returns:
            float32 `[batch * next_n, max_model_len]`.

        Raises:
            KernelLoadError: this row's kernels cannot be loaded.
            KernelArgumentError: an argument does not fit; nothing was launched.
        """
        kernels = self._kernels(_row_of(self).logits_kernels)
        asked = {"fmt": self.format, "out": out, "clean": clean, **self.logits_options}
        scores: Tensor = kernels.logits(q, cache, weights, context_lens, page_table, max_model_len, **asked)
        return scores

    def ragged_logits(
        self,
        q: Tensor,
        keys: Tensor,
        scales: Tensor,
        weights: Tensor,
        starts: Tensor,
        ends: Tensor,
        *,
        clean: bool = True,
        out: Tensor | None = None,
    ) -> Tensor:
        """Score gathered keys, for prefill: `sum_h w[t, h] * relu(q[t, h] . keys[k]) * scales[k]`.

        Args:
            q: fp8 of the format's dialect `[tokens, heads, head_dim]`.
            keys: fp8 of the dialect, or uint8, `[total, head_dim]`, as `gather` gives them.
            scales: float32 `[total]`, as `gather` gives them.
            weights: float32 `[tokens, heads]`.
            starts: int32 `[tokens]`, none below 0.
            ends: int32 `[tokens]`, none above `total`: token t sees the keys `starts[t]` to `ends[t]`.
            clean: as in `logits`.
            out: float32 `[tokens, total]` to write into.

        Returns:
            float32 `[tokens, total]`.

        Raises:
            KernelLoadError: this row's kernels cannot be loaded.
            KernelArgumentError: an argument does not fit; nothing was launched.
        """
        kernels: Logits = self._kernels(_row_of(self).logits_kernels)
        return kernels.ragged_logits(q, keys, scales, weights, starts, ends, fmt=self.format, clean=clean, out=out)

    def _kernels(self, module: str) -> Any:
        try:
            return _load(module)
        # Whatever an import of aiter or Triton raises: RuntimeError, KeyError, ImportError, OSError.
        except Exception as error:
            raise KernelLoadError(self, module, error) from error

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON values, by `schemas/report.json`."""
        return {
            "row": self.row,
            "page_size": self.page_size,
            "model_page_size": self.model_page_size,
            "preshuffle": self.preshuffle,
            "format": self.format.to_dict(),
            "fingerprint": self.fingerprint,
            "assumed": list(self.assumed),
            "logits_options": dict(self.logits_options),
            "decision": decision_document(self.decision),
        }

    def handshake(self) -> dict[str, Any]:
        """Return what to tell a node that will read these pages, by `schemas/handshake.json`; see `check_peer`."""
        caps, index_kpool = self.decision.caps, self.decision.request.index_kpool
        return handshake_document(self.row, self.format, index_kpool, self.assumed, caps)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was decided from, since kernels and tables are not data."""
        decision = self.decision
        own_rows = () if decision.rows is ROWS else (decision.rows,)
        return (select_indexer_layout, (decision.caps, decision.request, *own_rows))


@cache
def _load(module: str) -> ModuleType:
    return import_module(module)


def _row_of(layout: IndexerLayout) -> Row:
    return find_row(layout.row, layout.decision.rows)


def select_indexer_layout(
    caps: Capabilities, request: Request | None = None, rows: tuple[Row, ...] = ROWS
) -> IndexerLayout:
    """Return the best layout that this machine may use. Pure.

    Args:
        caps: the machine, from `nsa_caps.probe`.
        request: the model and the engine's limits; None: `Request()`.
        rows: the table, best first.

    Raises:
        NoUsableLayoutError: every allowed row is out; it carries every reason.
        UnknownRowError: the request, or NSA_CAPS_ROW, names a row that there is none of.
    """
    decision = decide(caps, request, rows)
    row = None if decision.chosen is None else find_row(decision.chosen, rows)
    pages = None if row is None else decision.verdict(row.name).format
    if row is None or pages is None:
        raise NoUsableLayoutError(decision)
    if decision.forced:
        reasons = "; ".join(map(str, decision.verdict(row.name).reasons))
        warnings.warn(f"NSA_CAPS_ROW_FORCE takes {row.name} against: {reasons}", ForcedRowWarning, stacklevel=2)
    model_page_size = pages.page_size * decision.request.index_kpool
    return IndexerLayout(row.name, pages, model_page_size, row.logits_options(pages.page_size), decision)
