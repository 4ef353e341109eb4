"""One rank of a job in which something goes wrong while ranks agree; it prints what came of it.

Started by torchrun as `fire.py SCENARIO OUT`; `OUT` is a folder.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

import nsa_caps
from nsa_caps.agreement import collectives, summary
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 4.0


def layout(folder: Path, triton: str = "3.6.0", *rows: nsa_caps.Row) -> nsa_caps.IndexerLayout:
    """Return the layout of an MI300X."""
    host = machine(folder, archs=["gfx942"], triton=triton, aiter="a6bb4993", environ={"SGLANG_USE_AITER": "1"})
    return nsa_caps.select_indexer_layout(nsa_caps.probe(host), None, rows or nsa_caps.ROWS)


def end_in(step: str, number: int) -> None:
    """Make this process get a signal when it comes to a step of the agreement."""

    def end(*_: Any) -> Any:
        os.kill(os.getpid(), number)

    setattr(collectives.Wire, step, end)


def killed(folder: Path, rank: int) -> tuple[Any, str]:
    """Rank 1 is killed between the roll call and the collective."""
    if rank == 1:
        end_in("all_same", signal.SIGKILL)
    return layout(folder), "strict"


def killed_in_the_exchange(folder: Path, rank: int) -> tuple[Any, str]:
    """Ranks differ, and rank 1 is killed before it says how."""
    if rank == 1:
        end_in("exchange", signal.SIGKILL)
    return layout(folder, "3.4.0" if rank == 1 else "3.6.0"), "common"


def killed_at_the_end(folder: Path, rank: int) -> tuple[Any, str]:
    """Rank 1 has sent its part, and is killed before it says that it has the answer."""
    if rank == 1:
        end_in("end", signal.SIGKILL)
    return layout(folder), "strict"


def stopped(folder: Path, rank: int) -> tuple[Any, str]:
    """Rank 1 is stopped between the roll call and the collective, and goes on long after the others are told."""
    if rank == 1:
        collectives.Wire.all_same = lambda *_: signal.pause()  # type: ignore[assignment,method-assign]  # it stops
    return layout(folder), "strict"


def later_release(folder: Path, rank: int) -> tuple[Any, str]:
    """Rank 1 sends a field more than rank 0 knows, which it can leave out when it reads."""
    kind = summary.MachineSummary
    if rank == 1:
        to_dict, from_dict = kind.to_dict, kind.from_dict.__func__  # type: ignore[attr-defined]  # a class method
        kind.to_dict = lambda self: {**to_dict(self), "new": 1}  # type: ignore[method-assign]  # what is tested
        kind.from_dict = classmethod(  # type: ignore[method-assign,assignment]  # as above
            lambda cls, document, where: from_dict(cls, {k: v for k, v in document.items() if k != "new"}, where)
        )
    return layout(folder, "3.4.0" if rank == 1 else "3.6.0"), "common"


class SpeechlessError(Exception):
    """An error that exits when it is told."""

    def __str__(self) -> str:
        """Exit."""
        sys.exit(5)


def speechless(folder: Path, rank: int) -> tuple[Any, str]:
    """Rank 1 hands in an error that cannot be told."""
    return SpeechlessError() if rank == 1 else layout(folder), "strict"


def a_row_that_exits(folder: Path, rank: int) -> tuple[Any, str]:
    """On rank 1 a row exits when it is asked again, for its fix."""
    asked = []

    def requirement(*_: Any) -> None:
        asked.append(1)
        if len(asked) > 1 and rank == 1:
            sys.exit(3)

    row = replace(nsa_caps.ROWS[-1], name="mine", page_size=16 if rank else 64, requirements=(requirement,))
    return layout(folder, "3.6.0", row, *nsa_caps.ROWS), "common"


def a_row_that_looks_at_the_request(folder: Path, rank: int) -> tuple[Any, str]:
    """On rank 1 the row in common is not met where it is the only one allowed."""

    def alone(_: Any, request: nsa_caps.Request) -> nsa_caps.Reason | None:
        refused = rank == 1 and request.rows == ("shared",)
        return nsa_caps.Reason("request.shape", "unmet", observed="alone", required="others") if refused else None

    def never(*_: Any) -> nsa_caps.Reason:
        return nsa_caps.Reason("request.shape", "unmet", observed="a", required="b")

    better = replace(nsa_caps.ROWS[-1], name="better", requirements=() if rank == 1 else (never,))
    shared = replace(nsa_caps.ROWS[-1], name="shared", page_size=16, requirements=(alone,))
    return layout(folder, "3.6.0", better, shared), "common"


def other_kernels(folder: Path, rank: int) -> tuple[Any, str]:
    """Rows of one name and format bring other kernels."""
    row = replace(nsa_caps.ROWS[-1], name="mine", logits_kernels=f"kernels_{rank}", requirements=())
    return layout(folder, "3.6.0", row), "strict"


def other_options(folder: Path, rank: int) -> tuple[Any, str]:
    """Rows of one name and format call their kernels with other options."""
    row = replace(nsa_caps.ROWS[-1], name="mine", logits_options=lambda _: {"ChunkK": 64 << rank}, requirements=())
    return layout(folder, "3.6.0", row), "strict"


def gluon_and_plain(folder: Path, rank: int) -> tuple[Any, str]:
    """Both ranks take aiter's pages of one, by gluon and by its plain Triton kernel."""
    token = tuple(row for row in nsa_caps.ROWS if row.name == "aiter-token")
    return layout(folder, "3.4.0" if rank else "3.6.0", *token), "strict"


def main(scenario: str, out: str) -> None:
    """Agree, and print what came of it on one line."""
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    rank = dist.get_rank()
    play: Callable[[Path, int], tuple[Any, Any]] = globals()[scenario]
    mine, mode = play(Path(out) / f"{rank}", rank)
    try:
        found = nsa_caps.agree(mine, mode=mode, timeout=TIMEOUT)
        text = f"{found.row} {found.page_size}"
    except nsa_caps.NsaCapsError as error:
        missing = f" of {error.missing}" if isinstance(error, nsa_caps.MissingRanksError) else ""
        text = f"{type(error).__name__}{missing}: {' '.join(str(error).split())}"
    (Path(out) / f"{rank}.txt").write_text(text)
    # Those that were left behind cannot take part in a clean end.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
