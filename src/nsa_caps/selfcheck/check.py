"""Prove a row on a real device: write known tokens, read them back, and compare byte by byte with the reference.

Importing this imports no torch, so that a machine without it can be told why nothing is checked there.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from nsa_caps._version import __version__
from nsa_caps.capabilities.records import dialect
from nsa_caps.pages import PageFormat
from nsa_caps.policy.decision import decide, find_row
from nsa_caps.policy.rows import ROWS
from nsa_caps.selfcheck.records import CAUSES, Cause, Mismatch, RowKernels, SelfCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row

__all__ = [
    "CAUSES",
    "Cause",
    "Mismatch",
    "RowKernels",
    "SelfCheck",
    "causes_of",
    "default_device",
    "run",
    "self_check",
    "versions_of",
]


def self_check(
    kernels: RowKernels,
    fmt: PageFormat,
    device: str,
    *,
    seed: int = 0,
    heads: int = 64,
    beyond_2gib: bool = False,
    versions: Mapping[str, str | None] | None = None,
    rounds: int = 1,
    begin: Callable[[str], object] | None = None,
) -> SelfCheck:
    """Check a row's kernels on a device.

    Each step is compared with the reference on the same device: the cache's raw bytes after a store, so that a store
    and a gather that are wrong in the same way are found; the bytes that a gather returns; and which 2,048 tokens of a
    context beyond 4,096 the logits choose, of pages in decode and of gathered keys in prefill. Ragged batches beyond
    2,048 tokens with empty requests, pages in shuffled
    order, negative slots, every fp8 code, outputs and pages poisoned.

    Args:
        kernels: the row's.
        fmt: the format that they are asked for.
        device: where, such as `cuda:1`.
        seed: of the random bytes.
        heads: query heads of the logits.
        beyond_2gib: check also pages around and beyond 2 and 4 GiB of a cache; takes that much memory on a GPU.
        versions: what the verdict is bound to; None: nsa_caps and torch.
        rounds: how often each step is done, each time with other bytes: output that is stale, or right by chance, is
            found from 2 on.
        begin: told the name of each step before it is done.

    Returns:
        the verdict. Errors of the row's kernels are reasons in it; they are not raised.
    """
    import torch  # noqa: PLC0415 a verdict can be told without it

    from nsa_caps.selfcheck.steps import NoRoomError, RowFailedError, Trial, open_device  # noqa: PLC0415 needs torch

    if versions is None:
        versions = {"nsa_caps": __version__, "torch": torch.__version__}
    name: str | None = None
    checked: list[str] = []
    mismatches: list[Mismatch] = []
    reasons: list[str] = []
    failed = False
    try:
        where, name = open_device(device)
        for beyond in (False, True) if beyond_2gib else (False,):
            generator = torch.Generator().manual_seed(seed)
            trial = Trial(
                kernels=kernels, fmt=fmt, device=where, generator=generator, heads=heads, beyond=beyond, rounds=rounds
            )
            for step, mismatch in trial.run(begin or str):
                checked.append(step)
                mismatches += [mismatch] if mismatch else []
    except NoRoomError as error:
        # Beyond 2 GiB is more than was asked of the row; nothing at all is no proof.
        failed = not checked
        reasons.append(f"not checked: {error}")
    except RowFailedError as error:
        failed = True
        reasons.append(f"{error}: {causes_of(error.cause)}")
    return SelfCheck(
        row=kernels.row,
        verdict="wrong" if mismatches else "cannot-run" if failed else "proven",
        format=fmt,
        device=name,
        versions=versions,
        checked=tuple(checked),
        mismatches=tuple(mismatches),
        reasons=tuple(reasons),
    )


def run(
    caps: Capabilities,
    request: Request,
    device: str,
    row_names: Iterable[str],
    rows: tuple[Row, ...] = ROWS,
    *,
    beyond_2gib: bool = False,
) -> tuple[SelfCheck, ...]:
    """Check rows of the table on a device, each in the format that it would be used with on this machine.

    A row that the policy refuses cannot run, for its reasons. One that only lacks knowledge is tried: to try it is what
    is asked for.

    Args:
        caps: the machine, from `nsa_caps.probe`.
        request: the model.
        device: where, such as `cuda:1`.
        row_names: the rows.
        rows: the table.
        beyond_2gib: as in `self_check`.

    Returns:
        one verdict a row, in the order of the names.

    Raises:
        UnknownRowError: there is no row of one of the names.
    """
    decision = decide(caps, request, rows)
    spoken = dialect(caps)
    found = []
    for row in [find_row(name, rows) for name in row_names]:
        verdict = decision.verdict(row.name)
        reasons = tuple(f"{reason.verdict}: {reason}" for reason in verdict.reasons)
        versions = versions_of(caps, row)
        if verdict.verdict == "unmet" or spoken is None:
            found.append(_cannot_run(row, None, versions, reasons))
            continue
        fmt = PageFormat(
            page_size=verdict.page_size,
            order=row.order,
            head_dim=request.head_dim,
            quant_block_size=request.quant_block_size,
            dialect=spoken,
        )
        try:
            kernels = _load(row, fmt)
        # Whatever an import of torch, Triton, aiter or DeepGEMM raises: ImportError, RuntimeError, KeyError, OSError.
        except Exception as error:  # noqa: BLE001 the verdict carries it
            found.append(_cannot_run(row, fmt, versions, (*reasons, f"loading its kernels: {causes_of(error)}")))
            continue
        check = self_check(kernels, fmt, device, heads=request.heads, beyond_2gib=beyond_2gib, versions=versions)
        found.append(replace(check, reasons=(*reasons, *check.reasons)))
    return tuple(found)


def default_device() -> str:
    """Return the torch device to check on where none is named: the GPU if there is one."""
    try:
        import torch  # noqa: PLC0415 a verdict can be told without it
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def versions_of(caps: Capabilities, row: Row) -> dict[str, str | None]:
    """Return the versions that a verdict on this row is bound to on this machine; imports none of the packages."""
    names = ("torch", "triton", *row.packages)
    return {"nsa_caps": __version__, **{name: getattr(caps, name).version for name in names}}


def causes_of(error: BaseException) -> str:
    """Return an error and what it came from, the first cause last."""
    told = []
    link: BaseException | None = error
    while link is not None:
        told.append(f"{type(link).__name__}: {link}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "; caused by ".join(told)


def _load(row: Row, fmt: PageFormat) -> RowKernels:
    kernels, scorer = import_module(row.kernels), import_module(row.logits_kernels)
    return RowKernels(
        row.name,
        kernels.store,
        kernels.gather,
        kernels.quantise_and_store,
        scorer.logits,
        row.logits_options(fmt.page_size),
        getattr(scorer, "ragged_logits", None),
    )


def _cannot_run(
    row: Row, fmt: PageFormat | None, versions: Mapping[str, str | None], reasons: tuple[str, ...]
) -> SelfCheck:
    return SelfCheck(row=row.name, verdict="cannot-run", format=fmt, device=None, versions=versions, reasons=reasons)
