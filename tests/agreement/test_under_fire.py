"""Agreement while something goes wrong: every rank gets the same layout, or the same error of this library in time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is public, and not in __all__

from . import fire
from .jobs import environ

# Three ranks import torch for each scenario.
pytestmark = pytest.mark.slow

RANKS = 3


def play(folder: Path, scenario: str) -> dict[int, str]:
    """Play a scenario on three ranks and return what each that lived was told."""
    script = str(Path(__file__).with_name("fire.py"))
    # As torchrun's agent does, which would end all ranks as soon as one is lost.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, scenario, str(folder)],
            env=environ(**shared, RANK=str(rank), GLOO_SOCKET_IFNAME="lo", TORCHELASTIC_USE_AGENT_STORE="True"),
            stderr=subprocess.DEVNULL,
        )
        for rank in range(RANKS)
    ]
    end = time.monotonic() + 60
    while time.monotonic() < end and any(process.poll() is None for process in ranks if process is not ranks[1]):
        time.sleep(0.05)
    time.sleep(1)
    for process in ranks:
        process.kill()
        process.wait()
    paths = {rank: folder / f"{rank}.txt" for rank in range(RANKS)}
    return {rank: path.read_text() for rank, path in paths.items() if path.exists()}


@pytest.mark.parametrize("scenario", ["killed", "killed_in_the_exchange", "killed_at_the_end", "stopped"])
def test_a_rank_that_is_lost_on_the_way_is_named_to_all(tmp_path: Path, scenario: str) -> None:
    """Killed or stopped at any step, the others get one error that names it, and none goes away with a layout."""
    told = play(tmp_path, scenario)
    assert sorted(told) == [0, 2]
    assert len(set(told.values())) == 1
    assert told[0].startswith("MissingRanksError of (1,): rank 1 of 3 came to agree"), told[0]


WORDS = {
    "later_release": "AgreementError: the ranks do not read each other alike",
    "speechless": "no layout: SpeechlessError, whose text is a SystemExit",
    "a_row_that_exits": "no layout: SystemExit: 3",
    "a_row_that_looks_at_the_request": "AgreementError: the ranks do not read each other alike, or a row answers",
    "other_kernels": "kernels_1(), not nsa_caps.kernels.reference, kernels_0(): they may choose other tokens",
    "other_options": "(ChunkK=64): they may choose other tokens",
    "gluon_and_plain": "they may choose other tokens",
}


@pytest.mark.parametrize(("scenario", "words"), WORDS.items(), ids=WORDS)
def test_ranks_that_differ_in_what_is_not_seen_are_told_alike(tmp_path: Path, scenario: str, words: str) -> None:
    """Whatever sets them apart, or goes wrong on one rank alone, all get the same error."""
    assert getattr(fire, scenario).__doc__
    told = play(tmp_path, scenario)
    assert sorted(told) == [0, 1, 2]
    assert len(set(told.values())) == 1
    assert words in told[0]
