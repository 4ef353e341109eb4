"""One layout for all ranks of a job: agreed on the engine's own process group, or refused on every rank alike.

Importing this imports no torch; `agree` uses the torch that the engine has imported long before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from nsa_caps.agreement.errors import AgreementError
from nsa_caps.agreement.mismatch import Cohort, LayoutMismatchError, groups_of, mismatch_lines, rank_names
from nsa_caps.agreement.summary import MachineSummary, summary_of
from nsa_caps.base.lines import indented, plain
from nsa_caps.layout.layout import IndexerLayout, NoUsableLayoutError, select_indexer_layout

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from torch.distributed import ProcessGroup

    from nsa_caps.agreement.mismatch import Group
    from nsa_caps.base.lines import Line
    from nsa_caps.pages import PageFormat

__all__ = ["AgreementError", "LayoutMismatchError", "Mode", "agree"]

Mode: TypeAlias = Literal["strict", "common"]

# Part of what is hashed: raised when what ranks send one another changes.
_PROTOCOL = b"nsa_caps.agreement/1"
_DIGEST = 16


def agree(
    layout: IndexerLayout | BaseException,
    group: ProcessGroup | None = None,
    mode: Mode = "strict",
    timeout: float = 300.0,
) -> IndexerLayout:
    """Return the layout that all ranks of a group share, or raise the same error on all of them.

    A collective: every rank of the group calls it, also one that has no layout, which hands in its exception. Where all
    agree, one all-reduce of 32 bytes a rank is all that the group's backend carries. The row counts as well as the page
    format: ranks that share pages but run other kernels may choose other tokens.

    Args:
        layout: this rank's layout, or the exception that kept it from having one.
        group: the process group; None: the default one. Any backend: gloo, nccl (which is RCCL on ROCm), mpi.
        mode: `strict`: raise where ranks differ. `common`: decide again within what all can run. Where the ranks
            differ in this too, `strict` counts.
        timeout: seconds to wait for ranks that have not come. They are told apart by the store of the process group;
            mpi's has none, and there the backend alone notices.

    Returns:
        this rank's layout; in mode `common` the best one that every rank may use, with equal pages everywhere.

    Raises:
        LayoutMismatchError: on every rank, with the same message: who differs in what, by which evidence, and the fix.
        MissingRanksError: on every rank that came: those named did not, within the timeout.
        AgreementError: an argument is none of these, this rank is not of the group, or there is no group. Nothing was
            sent.
    """
    from nsa_caps.agreement.collectives import Wire  # noqa: PLC0415 imports torch

    if mode not in ("strict", "common"):
        raise AgreementError(f"mode is {mode!r}, needs 'strict' or 'common'")
    if not timeout > 0:
        raise AgreementError(f"timeout is {timeout!r}, needs a number of seconds above 0")
    if not isinstance(layout, (IndexerLayout, BaseException)):
        raise AgreementError(f"layout is {layout!r}, needs an IndexerLayout or the exception that came instead of one")
    wire = Wire(group)
    wire.roll_call(timeout)
    if wire.all_same(_digest(layout)) and not isinstance(layout, BaseException):
        return layout
    documents = wire.exchange({"mode": mode, "summary": _summary(layout).to_dict()})
    parties = tuple(
        Cohort(MachineSummary.from_dict(document["summary"], rank_names(ranks)), len(ranks), ranks=ranks)
        for document, ranks in documents
    )
    strict = any(document["mode"] == "strict" for document, _ in documents)
    shared = _shared([party.summary for party in parties])
    if strict or shared is None or isinstance(layout, BaseException):
        groups = groups_of(parties, _key)
        cause = layout if isinstance(layout, BaseException) else None
        raise LayoutMismatchError(plain(_message_lines(groups, shared, strict=strict)), groups) from cause
    return _decide_again(layout, shared)


def _digest(layout: IndexerLayout | BaseException) -> bytes | None:
    """Return 16 bytes that differ between any two layouts; None where there is no layout."""
    from hashlib import sha256  # noqa: PLC0415 as everywhere: no start-up needs it

    if isinstance(layout, BaseException):
        return None
    fields = (_PROTOCOL, layout.format.digest, layout.row.encode(), str(layout.model_page_size).encode())
    return sha256(b"\0".join(fields)).digest()[:_DIGEST]


def _key(summary: MachineSummary) -> Hashable:
    return summary.row, summary.format, summary.index_kpool


def _summary(layout: IndexerLayout | BaseException) -> MachineSummary:
    if isinstance(layout, BaseException) and not isinstance(layout, NoUsableLayoutError):
        return _failed(layout)
    try:
        return summary_of(layout.decision)
    # A third party's row may raise when it is asked for a fix, while the other ranks wait for what this one has to say.
    except Exception as error:  # noqa: BLE001 all ranks are told
        return _failed(error)


def _failed(error: BaseException) -> MachineSummary:
    return MachineSummary(None, None, 1, error=f"no layout: {type(error).__name__}: {' '.join(str(error).split())}")


def _shared(summaries: Sequence[MachineSummary]) -> tuple[str, PageFormat] | None:
    """Return the best row that every machine may use with equal pages, in the order of the first one's table."""
    if len({summary.index_kpool for summary in summaries}) > 1:
        return None
    for mine in summaries[0].rows:
        others = [summary.row_summary(mine.row) for summary in summaries]
        if mine.format and all(each and each.usable and each.format == mine.format for each in others):
            return mine.row, mine.format
    return None


def _decide_again(layout: IndexerLayout, shared: tuple[str, PageFormat]) -> IndexerLayout:
    row, _ = shared
    decision = layout.decision
    if layout.row == row:
        return layout
    return select_indexer_layout(decision.caps, replace(decision.request, rows=(row,)), decision.rows)


def _message_lines(groups: tuple[Group, ...], shared: tuple[str, PageFormat] | None, *, strict: bool) -> Iterator[Line]:
    count = sum(group.count for group in groups)
    yield ((f"{count:,} ranks do not agree on the layout of the indexer's pages:", "bad"),)
    yield from mismatch_lines(groups)
    yield ()
    if shared is not None and strict:
        row, pages = shared
        text = f"All ranks may use {row}, pages of {pages.page_size}: agree(..., mode='common') takes it."
    else:
        text = "There is no row that every rank may use with equal pages."
    yield from indented("", text)
