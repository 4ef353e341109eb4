"""A process that does what kernels may do, without any: what `run_task` must come back from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def main(pipe: int, task: Mapping[str, Any]) -> None:
    """Do what the task says."""
    send(pipe, task, "step", "doing")
    deeds: dict[str, Callable[[], object]] = {
        "answers": lambda: None,
        "hangs": lambda: time.sleep(600),
        "ignores-signals-and-hangs": ignore_and_hang,
        "segfaults": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "exits": lambda: os._exit(7),
        "floods": flood,
        "answers-and-floods": lambda: os.write(1, b"\xff" * 1_000_000),
        "forges": forge,
        "writes-into-the-answer": lambda: os.write(pipe, b"\0garbage" * 20_000),
        "leaves-a-child": leave_a_child,
        "crashes-after-its-answer": lambda: crash_after(pipe, task),
        "half-an-answer": lambda: half(pipe, task),
        "leaves-a-file": lambda: open("gpucore.1", "w").close(),
        "raises": lambda: 1 / 0,
    }
    deeds[task["do"]]()
    send(pipe, task, "done", {"path": sys.path, "cwd": os.getcwd()})
    os._exit(0)


def send(pipe: int, task: Mapping[str, Any], kind: str, said: Any) -> None:
    """Say something to the parent."""
    os.write(pipe, f"\n{task['token']} {kind} {json.dumps(said)}\n".encode())


def forge() -> None:
    """Print what looks like an answer, and end as if all were well."""
    os.write(1, b"done {}\n" * 10)
    os._exit(0)


def ignore_and_hang() -> None:
    """Let no signal that can be ignored end this."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def flood() -> None:
    """Print for ever."""
    while True:
        os.write(2, b"\x1b[31m\xff\0" * 1_000)


def leave_a_child() -> None:
    """Leave a process that holds the pipes, and tell its number."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
    os.write(1, f"{child.pid}\n".encode())
    os._exit(0)


def crash_after(pipe: int, task: Mapping[str, Any]) -> None:
    """Answer, and then crash."""
    send(pipe, task, "done", {})
    os.kill(os.getpid(), signal.SIGABRT)


def half(pipe: int, task: Mapping[str, Any]) -> None:
    """Begin an answer."""
    os.write(pipe, f'\n{task["token"]} done {{"ch'.encode())
    os._exit(0)
