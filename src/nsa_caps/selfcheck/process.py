"""Run a task in a process of its own, started afresh, and come back whatever it does: hang, crash, print, end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsa_caps.base.lines import printable

if TYPE_CHECKING:
    import selectors
    from collections.abc import Iterator, Mapping
    from subprocess import Popen

__all__ = ["Ended", "run_task"]

# The child's search path is its parent's, however the parent came by it.
_START = """
import json, sys
task = json.load(sys.stdin)
sys.path[:] = task["path"]
from {module} import main
main({pipe}, task)
"""
# What is kept of everything that is printed, and what is told of it.
_KEPT_BYTES, _WORDS = 16_384, 600
_ANSWER_BYTES, _CHUNK = 2**22, 65_536
# Seconds between two looks at whether the process is still there, and that one is given to end once it is told to.
_LOOK, _LAST = 0.05, 10.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended.

    Attributes:
        said: what it said, by kind, the last of each.
        timed_out: it was ended, as its time was up.
        how: how it ended, in words, such as `killed by SIGSEGV`.
        clean: it ended by itself with exit code 0.
        words: the last of what it printed.
        seconds: how long it took.
    """

    said: Mapping[str, Any]
    timed_out: bool
    how: str
    clean: bool
    words: str
    seconds: float


def run_task(module: str, task: Mapping[str, Any], limit: float) -> Ended:
    """Run `main(pipe, task)` of a module in a new Python process, for at most `limit` seconds.

    The process has a session of its own, so that what it starts ends with it; it works in an empty folder that is
    removed, as drivers leave dumps of a crash there.

    Args:
        module: the module's name.
        task: JSON values; `path`, `token` and `limit` are added.
        limit: seconds.

    Raises:
        OSError: no process could be started.
    """
    import subprocess  # noqa: PLC0415 with tempfile 10 ms, which no start-up needs that proves nothing
    import tempfile  # noqa: PLC0415 as above
    import time  # noqa: PLC0415 as above

    token = os.urandom(16).hex()
    path = [os.path.abspath(entry) for entry in sys.path]
    document = json.dumps({**task, "path": path, "token": token, "limit": limit}).encode()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nsa_caps-", ignore_cleanup_errors=True) as folder:
        read, write = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603 this Python and a module of this package
                [sys.executable, "-c", _START.format(module=module, pipe=write)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=(write,), start_new_session=True, cwd=folder,
            )  # fmt: skip
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        try:
            answered, printed, in_time = _listen(process, read, document, began + limit)
        finally:
            _end(process)
            os.close(read)
    return Ended(
        said=dict(_lines(answered, token)),
        timed_out=not in_time,
        how=_how(process.returncode) if in_time else f"did not end within {limit:g} s",
        clean=in_time and process.returncode == 0,
        words=_last_words(printed),
        seconds=time.monotonic() - began,
    )


def _listen(process: Popen[bytes], read: int, document: bytes, deadline: float) -> tuple[bytes, bytes, bool]:
    """Return the answer, the last of what was printed, and whether it ended or closed its answer in time."""
    import selectors  # noqa: PLC0415 as above
    import time  # noqa: PLC0415 as above

    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:  # pragma: no cover  # both are pipes
        return b"", b"", False
    try:
        stdin.write(document)
        stdin.close()
    except BrokenPipeError:
        # It ended before it read its task, and how it ended tells why.
        pass
    parts = {read: b"", stdout.fileno(): b""}
    with selectors.DefaultSelector() as selector:
        for descriptor in parts:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return parts[read], parts[stdout.fileno()], False
            over = process.poll() is not None
            for key, _ in selector.select(0 if over else min(left, _LOOK)):
                _take(selector, key.fd, parts, read)
            # What it started may hold the pipes open long after it is gone.
            if over:
                return parts[read], parts[stdout.fileno()], True


def _take(selector: selectors.BaseSelector, descriptor: int, parts: dict[int, bytes], whole: int) -> None:
    while True:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            selector.unregister(descriptor)
            return
        parts[descriptor] = (parts[descriptor] + chunk)[-(_ANSWER_BYTES if descriptor == whole else _KEPT_BYTES) :]
        if len(chunk) < _CHUNK or descriptor != whole:
            return


def _lines(answered: bytes, token: str) -> Iterator[tuple[str, Any]]:
    """Yield the whole lines of an answer: the kind and what it says."""
    for line in answered.split(b"\n")[:-1]:
        mark, _, rest = line.partition(b" ")
        kind, _, text = rest.partition(b" ")
        if mark == token.encode():
            with contextlib.suppress(ValueError):
                yield kind.decode("ascii", "replace"), json.loads(text)


def _end(process: Popen[bytes]) -> None:
    """See that the process and what it started are gone, as far as the kernel can end them."""
    import signal  # noqa: PLC0415 as above
    import subprocess  # noqa: PLC0415 as above

    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST)
    if process.stdout is not None:
        process.stdout.close()


def _how(code: int | None) -> str:
    import signal  # noqa: PLC0415 as above

    if code is None:
        return "could not be ended: the kernel holds it"
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _last_words(printed: bytes) -> str:
    """Return the last lines of what was printed, on one line; of a crash the place, which comes before much else."""
    lines = [printable(" ".join(line.split())) for line in printed.decode("utf-8", "replace").splitlines()]
    crash = next((at for at, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
    if crash is not None:
        return " | ".join(filter(None, lines[crash:]))[:_WORDS]
    return " | ".join(filter(None, lines))[-_WORDS:]
