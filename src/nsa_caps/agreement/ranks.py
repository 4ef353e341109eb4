"""One layout for all ranks of a job: agreed on the engine's own process group, or refused on every rank alike.

Importing this imports no torch; `agree` uses the torch that the engine has imported long before.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nsa_caps._version import __version__
from nsa_caps.agreement.errors import AgreementError
from nsa_caps.agreement.mismatch import Cohort, LayoutMismatchError, groups_of, mismatch_lines, rank_names
from nsa_caps.agreement.summary import MachineSummary, kernels_of, summary_of
from nsa_caps.base.lines import indented, plain
from nsa_caps.base.serial import shortened
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.layout import IndexerLayout, NoUsableLayoutError, select_indexer_layout
from nsa_caps.policy.decision import find_row
from nsa_caps.probes.timeout import TimeLimit, describe

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from torch.distributed import ProcessGroup

    from nsa_caps.agreement.collectives import Wire
    from nsa_caps.agreement.mismatch import Group
    from nsa_caps.base.lines import Line
    from nsa_caps.pages import PageFormat

__all__ = ["AgreementError", "LayoutMismatchError", "Mode", "agree"]

Mode: TypeAlias = Literal["strict", "common"]

# Part of what is hashed: raised when what ranks send one another changes.
_PROTOCOL = b"nsa_caps.agreement/3"
_DIGEST = 16
# Seconds of a week: a timeout that is longer is none.
_LONGEST = 604_800.0


def agree(
    layout: IndexerLayout | BaseException,
    group: ProcessGroup | None = None,
    mode: Mode = "strict",
    timeout: float = 300.0,
) -> IndexerLayout:
    """Return the layout that all ranks of a group share, or raise the same error on all of them.

    A collective: every rank of the group calls it, also one that has no layout, which hands in its exception. Where all
    agree, one all-reduce of 32 bytes a rank is all that the group's backend carries. The row counts as well as the page
    format: ranks that share pages but run other kernels may choose other tokens. A layout takes its proof along: where
    every rank's row was proven (`get_indexer_layout(prove=True)`), `common` takes none that was not proven on all.

    Args:
        layout: this rank's layout, or the exception that kept it from having one.
        group: the process group; None: the default one. Any backend: gloo, nccl (which is RCCL on ROCm), mpi.
        mode: `strict`: raise where ranks differ. `common`: decide again within what all can run. Where the ranks
            differ in this too, `strict` counts.
        timeout: seconds to wait for the others at each step, at most a week. Who is missing is told by the store of
            the process group; mpi's has none, and there the backend alone notices.

    Returns:
        this rank's layout; in mode `common` the best one that every rank may use, with equal pages everywhere.

    Raises:
        LayoutMismatchError: on every rank, with the same message: who differs in what, by which evidence, and the fix.
        MissingRanksError: on every rank that came: those named did not, or were lost on the way, within the timeout.
        AgreementError: an argument is none of these, this rank is not of the group, or there is no group: nothing was
            sent. Or, on every rank, that their releases of nsa_caps do not read each other.
    """
    from nsa_caps.agreement.collectives import Wire  # noqa: PLC0415 imports torch

    if mode not in ("strict", "common"):
        raise AgreementError(f"mode is {mode!r}, needs 'strict' or 'common'")
    if not (type(timeout) in (int, float) and 0 < timeout <= _LONGEST):
        raise AgreementError(
            f"timeout is {shortened(timeout)}, needs a number of seconds above 0, at most {_LONGEST:g}"
        )
    if not isinstance(layout, (IndexerLayout, BaseException)):
        raise AgreementError(
            f"layout is {shortened(layout)}, needs an IndexerLayout or the exception that came instead of one"
        )
    wire = Wire(group, timeout)
    outcome: IndexerLayout | Exception | None = None
    failure: str | None = None
    with wire.turn():
        wire.roll_call()
        try:
            outcome = _outcome(wire, layout, mode, timeout)
        # Of whichever backend: a rank that went away is a RuntimeError to all of them.
        except RuntimeError as error:
            failure = describe(error)
        wire.end(failure)
    if isinstance(outcome, IndexerLayout):
        return outcome
    raise outcome from (layout if isinstance(layout, BaseException) else None)  # type: ignore[misc]  # end() has raised


def _outcome(
    wire: Wire, layout: IndexerLayout | BaseException, mode: Mode, timeout: float
) -> IndexerLayout | Exception:
    """Return the layout to use, or the error to raise, after checking that it is the same on all ranks.

    Raises:
        RuntimeError: the backend failed.
    """
    if wire.all_same(_digest(layout)) and not isinstance(layout, BaseException):
        return layout
    # Asked for its fixes, a third party's row may hang or raise anything, while the other ranks wait.
    summary, problem = TimeLimit(timeout).call(lambda: _summary(layout), or_here=True)
    document = {
        "nsa_caps": __version__,
        "mode": mode,
        "summary": (summary or _failed(problem or "")).to_dict(),
    }
    documents = wire.exchange(document)
    found: IndexerLayout | Exception
    try:
        found = _conclusion(documents, layout)
    except NsaCapsError as error:
        found = error
    digest = _digest(found, strict=False) or sha256(str(found).encode()).digest()[:_DIGEST]
    if wire.all_same(digest):
        return found
    said = ", ".join(f"{rank_names(ranks)} {document.get('nsa_caps')}" for document, ranks in documents)
    return AgreementError(
        f"the ranks do not read each other alike, or a row answers otherwise when it is asked again; nsa_caps: {said}"
    )


def _conclusion(
    documents: Sequence[tuple[dict[str, Any], tuple[int, ...]]], layout: IndexerLayout | BaseException
) -> IndexerLayout | LayoutMismatchError:
    """Return what follows from what all ranks said.

    Raises:
        NsaCapsError: a rank said what cannot be read here, or this rank cannot run the row that all could.
    """
    parties = tuple(
        Cohort(MachineSummary.from_dict(document["summary"], rank_names(ranks)), len(ranks), ranks=ranks)
        for document, ranks in documents
    )
    strict = any(document["mode"] == "strict" for document, _ in documents)
    summaries = [party.summary for party in parties]
    usable = _shared(summaries, proven=False)
    shared = _shared(summaries, proven=True) if all(each.is_proven for each in summaries) else usable
    if strict or shared is None or isinstance(layout, BaseException):
        groups = groups_of(parties, _key)
        return LayoutMismatchError(plain(_message_lines(groups, shared, usable, strict=strict)), groups)
    return _decide_again(layout, shared)


def _digest(layout: IndexerLayout | BaseException, *, strict: bool = True) -> bytes | None:
    """Return 16 bytes that differ between any two layouts; None where there is no layout.

    Args:
        layout: the layout.
        strict: layouts whose package runs another of its kernels differ, too.
    """
    if isinstance(layout, BaseException):
        return None
    row, page_size = find_row(layout.row, layout.decision.rows), layout.format.page_size
    variant = row.variant(layout.decision.caps) if strict and row.variant is not None else None
    texts = (row.name, kernels_of(row, page_size), str(layout.model_page_size), str(variant))
    fields = (_PROTOCOL, layout.format.digest, *(text.encode("utf-8", "surrogatepass") for text in texts))
    return sha256(b"\0".join(fields)).digest()[:_DIGEST]


def _key(summary: MachineSummary) -> Hashable:
    return summary.row, summary.kernels, summary.format, summary.index_kpool


def _summary(layout: IndexerLayout | BaseException) -> MachineSummary:
    if isinstance(layout, IndexerLayout) or type(layout) is NoUsableLayoutError:
        return summary_of(layout.decision)
    return _failed(describe(layout))


def _failed(problem: str) -> MachineSummary:
    return MachineSummary(None, None, 1, error=f"no layout: {' '.join(problem.split())}")


def _shared(summaries: Sequence[MachineSummary], *, proven: bool) -> tuple[str, PageFormat] | None:
    """Return the best row that every machine may use with equal pages, in the order of the first one's table.

    Args:
        summaries: the machines.
        proven: only among the rows that were proven on all of them.
    """
    if len({summary.index_kpool for summary in summaries}) > 1:
        return None
    for mine in summaries[0].rows:
        others = [summary.row_summary(mine.row) for summary in summaries]
        if mine.format and all(
            each
            and each.usable
            and each.proven >= proven
            and (each.format, each.kernels) == (mine.format, mine.kernels)
            for each in others
        ):
            return mine.row, mine.format
    return None


def _decide_again(layout: IndexerLayout, shared: tuple[str, PageFormat]) -> IndexerLayout:
    row, _ = shared
    decision = layout.decision
    if layout.row == row:
        return layout
    return select_indexer_layout(decision.caps, replace(decision.request, rows=(row,)), decision.rows)


def _message_lines(
    groups: tuple[Group, ...],
    shared: tuple[str, PageFormat] | None,
    usable: tuple[str, PageFormat] | None,
    *,
    strict: bool,
) -> Iterator[Line]:
    count = sum(group.count for group in groups)
    yield ((f"{count:,} ranks do not agree on the layout of the indexer's pages:", "bad"),)
    yield from mismatch_lines(groups)
    yield ()
    if shared is not None and strict:
        row, pages = shared
        text = f"All ranks may use {row}, pages of {pages.page_size}: agree(..., mode='common') takes it."
    elif usable is not None and shared is None:
        row, pages = usable
        text = f"All ranks may use {row}, pages of {pages.page_size}, which was not proven on all: "
        text += f"nsa-caps prove --row {row}"
    else:
        text = "There is no row that every rank may use with equal pages."
    yield from indented("", text)
