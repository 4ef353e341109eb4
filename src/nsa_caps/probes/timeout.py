"""Third parties' code, waited for no longer than a while."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_TIMEOUT", "describe", "run_with_timeout"]

DEFAULT_TIMEOUT = 5.0
"""Seconds that a third party's probe, or the import of one, is waited for."""

T = TypeVar("T")


def run_with_timeout(call: Callable[[], T], seconds: float) -> T:
    """Return what `call` returns and raise what it raises, SystemExit too, if it ends within `seconds`.

    It runs in a thread of its own, since nothing else in a process can be waited for with a limit. Python cannot end a
    thread: one that hangs stays, as a daemon that keeps no process from ending, with whatever locks it holds.

    Raises:
        TimeoutError: it did not end.
    """
    ended: list[tuple[T, None] | tuple[None, BaseException]] = []

    def run() -> None:
        try:
            ended.append((call(), None))
        except BaseException as error:  # noqa: BLE001 it is raised again, where it is waited for
            ended.append((None, error))

    thread = threading.Thread(target=run, name="nsa_caps plugin", daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise TimeoutError(f"no answer within {seconds:g} s; its thread cannot be ended and was left behind")
    value, error = ended[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # without an error it is call's own


def describe(error: BaseException) -> str:
    """Return an error's type and text; a third party's may fail to tell its own."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 whatever it fails with is what there is to tell
        text = f"whose text is a {type(second).__name__}"
    return f"{type(error).__name__}: {text}"
