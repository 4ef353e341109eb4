"""Calls that are waited for no longer than a while, in a thread of their own.

What such a call raises is its own. What a signal handler raises reaches whoever waits, in the thread that Python runs
handlers in: an engine's SIGTERM, Ctrl-C or watchdog is never taken for a probe's failure.
"""

from __future__ import annotations

import sys
import threading
import time
from _thread import RLock, allocate_lock, stack_size, start_new_thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_TIMEOUT", "TimeLimit", "describe", "is_within_call"]

DEFAULT_TIMEOUT = 5.0
"""Seconds that third parties' probes, rows and their imports are waited for, all of them together."""

_LONGEST_TEXT = 1000
# Of each such thread: what Linux gives a process's first one. Python's parser ends a process that has 128 KiB, as musl
# gives and engines may set, at a hundred brackets in brackets.
_STACK = 8 * 2**20
# Who sets the size of threads' stacks, which is the interpreter's. A handler may ask in the thread that holds it; a
# process that was forked while another thread held it goes without, after a moment.
_setting_stack = RLock()

T = TypeVar("T")

_here = threading.local()


class TimeLimit:
    """Seconds that some calls may take, all of them together."""

    def __init__(self, seconds: float | None = None) -> None:
        """Take the seconds; None: `DEFAULT_TIMEOUT`."""
        self._seconds = self._left = DEFAULT_TIMEOUT if seconds is None else seconds

    def call(
        self, call: Callable[[], T], *, charged: bool = True, or_here: bool = False
    ) -> tuple[T | None, str | None]:
        """Return what `call` returns and None, or None and what went wrong, in words; raise nothing of its own.

        Python cannot end a thread: a call that hangs stays, as a daemon that keeps no process from ending, with
        whatever locks it holds.

        Args:
            call: what to call.
            charged: its time counts even where it ends; one that does not end takes all that is left in any case.
            or_here: call it in this thread where no other can be started: at the interpreter's end, or out of memory.
        """
        if or_here and sys.is_finalizing():
            return _call_here(call)
        if not self._left > 0:
            return None, f"not asked: the {self._seconds:g} s for all of them together were up"
        found: list[T] = []
        problem: list[str] = []
        # Not threading.Thread: it holds a lock while it starts, for which a signal handler that asks would wait for
        # ever, in the thread that holds it.
        ended = allocate_lock()
        ended.acquire()

        def run() -> None:
            try:
                # As threading.Thread does, for debuggers and coverage.
                if trace := threading.gettrace():
                    sys.settrace(trace)
                _here.is_call = True
                found.append(call())
            except BaseException as error:  # noqa: BLE001 no signal handler runs here: whatever it is, it is the call's
                problem.append(describe(error))
            finally:
                ended.release()

        start = time.monotonic()
        try:
            _start(run)
        except RuntimeError as error:
            return _call_here(call) if or_here else (None, f"no thread to wait for it in: {error}")
        is_over = ended.acquire(timeout=max(0.0, min(self._left, threading.TIMEOUT_MAX)))
        if not is_over:
            self._left = 0.0
            text = f"TimeoutError: no answer within {self._seconds:g} s; its thread cannot be ended and was left behind"
            return None, text
        if charged:
            self._left -= time.monotonic() - start
        return (None, problem[0]) if problem else (found[0], None)


def _start(run: Callable[[], None]) -> None:
    """Start a thread whose stack is large enough to parse any source, and leave the size of others' as it was."""
    if not _setting_stack.acquire(timeout=0.1):
        start_new_thread(run, ())
        return
    try:
        before = stack_size(_STACK)
        try:
            start_new_thread(run, ())
        finally:
            stack_size(before)
    finally:
        _setting_stack.release()


def _call_here(call: Callable[[], T]) -> tuple[T | None, str | None]:
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001 as in a thread of its own
        return None, describe(error)


def is_within_call() -> bool:
    """Return whether this thread is one that a `TimeLimit` waits for."""
    return getattr(_here, "is_call", False)


def describe(error: BaseException) -> str:
    """Return an error's type and text, cut where it is long; a third party's may fail to tell its own."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException as second:  # noqa: BLE001 whatever it fails with is what there is to tell
        text = f"{type(error).__name__}, whose text is a {type(second).__name__}"
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
