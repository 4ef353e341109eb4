"""A task in a process of its own: the parent comes back, knows how it ended, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from nsa_caps.selfcheck.process import Ended, run_task


def run(do: str, limit: float = 20) -> Ended:
    """Run the toy."""
    return run_task("tests.selfcheck.toy_child", {"do": do}, limit)


@pytest.mark.parametrize("do", ["answers", "answers-and-floods", "writes-into-the-answer", "leaves-a-file"])
def test_an_answer_comes_through_whatever_is_printed(do: str) -> None:
    """It has the parent's search path, and works in a folder of its own, which is gone afterwards."""
    ended = run(do)
    assert (ended.clean, ended.timed_out, ended.said["step"]) == (True, False, "doing")
    assert ended.said["done"]["path"] == [os.path.abspath(entry) for entry in __import__("sys").path]
    assert not os.path.exists(ended.said["done"]["cwd"])


@pytest.mark.parametrize(
    ("do", "how"),
    [
        ("segfaults", "killed by SIGSEGV"),
        ("exits", "ended by itself with exit code 7"),
        ("forges", "ended by itself with exit code 0"),
        ("half-an-answer", "ended by itself with exit code 0"),
        ("raises", "ended by itself with exit code 1"),
    ],
)
def test_how_it_ended_is_told(do: str, how: str) -> None:
    """No answer, and the step that it was in."""
    ended = run(do)
    assert (ended.how, ended.said) == (how, {"step": "doing"})
    assert not ended.timed_out


def test_an_answer_before_a_crash_is_not_clean() -> None:
    """An engine's process would have ended too."""
    ended = run("crashes-after-its-answer")
    assert (ended.how, ended.clean) == ("killed by SIGABRT", False)
    assert "done" in ended.said


@pytest.mark.parametrize("do", ["hangs", "ignores-signals-and-hangs", "floods"])
def test_its_time_is_limited(do: str) -> None:
    """Whatever it does with signals, and however much it prints, of which little is kept."""
    began = time.monotonic()
    ended = run(do, 1.5)
    assert (ended.timed_out, ended.clean, ended.how) == (True, False, "did not end within 1.5 s")
    assert time.monotonic() - began < 15
    assert len(ended.words) <= 6 * 600


def test_what_it_started_ends_with_it() -> None:
    """Though it holds the pipes, nobody waits for it, and it is gone."""
    began = time.monotonic()
    ended = run("leaves-a-child")
    assert ended.seconds < 15
    # A zombie, until whoever adopted it has seen to it.
    while (status := Path(f"/proc/{ended.words}/status")).exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() - began < 30
        time.sleep(0.05)


def test_last_words_are_one_printable_line() -> None:
    """A traceback's last lines, with what would steer a terminal spelled out."""
    assert run("raises").words.endswith("ZeroDivisionError: division by zero")
    assert run("floods", 1.5).words.isprintable()


def test_a_process_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An embedded Python has no executable; no pipe is left open."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="no-python"):
        run("answers")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_parent_that_ignores_its_children_still_gets_the_answer() -> None:
    """With SIGCHLD ignored, as some engines have it, the kernel tells nobody how a child ended."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ended = run("answers")
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert ended.clean
