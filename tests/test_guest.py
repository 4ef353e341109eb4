"""A guest in an engine's process: what is the engine's reaches it, nothing changes, nobody waits for ever.

Each test runs in a process of its own, on a laid-out import folder whose torch an audit hook sees being read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from nsa_caps.testing import lay_out_packages

if TYPE_CHECKING:
    from collections.abc import Callable

Run: TypeAlias = "Callable[..., str]"
SOURCES = Path(__file__).parents[1] / "src"
START = """
import os, signal, sys, threading, time, warnings
during = None
def hook(event, args):
    if event == "open" and str(args[0]).endswith("torch/version.py") and during is not None:
        during()
sys.addaudithook(hook)
import nsa_caps
from nsa_caps import Host, get_indexer_layout, probe
probe()
signal.alarm(50)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return an import folder with a CPU build of torch."""
    return Path(lay_out_packages(tmp_path / "site", platform="cpu", torch="2.9.1"))


@pytest.fixture
def run(site: Path) -> Run:
    """Return a function that runs code there and returns what it prints and, after it, its exit code."""

    def run(code: str, **environ: str) -> str:
        path = os.pathsep.join((str(site), str(SOURCES)))
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + code],
            env={**os.environ, "PYTHONPATH": path, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return f"{done.stdout.strip()} {done.returncode}".strip()

    return run


# --- What is the engine's own


@pytest.mark.parametrize(
    ("signal", "raised"),
    [
        ("SIGTERM", "SystemExit(7)"),
        ("SIGALRM", "TimeoutError('the start-up takes too long')"),
        ("SIGALRM", "ValueError('a bug of the handler')"),
        ("SIGINT", "KeyboardInterrupt()"),
    ],
)
@pytest.mark.parametrize("call", ["probe()", "get_indexer_layout()"])
def test_what_a_signal_handler_raises_reaches_the_engine(run: Run, signal: str, raised: str, call: str) -> None:
    """SIGTERM, a watchdog and Ctrl-C end the call that they come in, whatever a probe does just then."""
    out = run(f"""
def handler(*_): raise {raised}
signal.signal(signal.{signal}, handler)
def during():
    os.kill(os.getpid(), signal.{signal})
    time.sleep(0.2)
try: {call}; print("swallowed")
except BaseException as error: print(repr(error))
""")
    assert out == f"{raised} 0"


def test_a_handler_that_raises_while_a_plugin_is_waited_for(run: Run) -> None:
    """The wait for a third party's probe ends with what a signal handler raises."""
    out = run("""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
probe(probes=[lambda host: time.sleep(30)])
print("swallowed")
""")
    assert out == "7"


def test_an_interrupt_leaves_nothing_locked(run: Run) -> None:
    """After a call that was interrupted the next one answers."""
    out = run("""
def handler(*_): raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
during = lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0.1))
try: get_indexer_layout()
except KeyboardInterrupt: during = None
print(get_indexer_layout().row)
""")
    assert out == "reference 0"


def test_what_a_plugin_raises_is_its_own(run: Run) -> None:
    """KeyboardInterrupt out of a third party's probe, when nobody pressed a key, is a note like any other."""
    out = run("""
def bad(host): raise KeyboardInterrupt
print([note.text for note in probe(probes=[bad]).notes])
""")
    assert out == "['failed with KeyboardInterrupt: '] 0"


# --- Nobody waits for ever


def test_a_handler_may_ask_while_its_own_thread_asks(run: Run) -> None:
    """A signal handler that asks gets the layout, and the interrupted call the same object."""
    out = run("""
inner = []
def handler(*_):
    inner.append(get_indexer_layout())
signal.signal(signal.SIGUSR1, handler)
def during():
    global during
    during = None
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.2)
layout = get_indexer_layout()
print(layout is inner[0], layout.row)
""")
    assert out == "True reference 0"


def test_a_driver_that_does_not_answer_is_waited_for_a_while(run: Run) -> None:
    """NVML that hangs is a note, and everything else is found."""
    out = run("""
import types
driver = types.SimpleNamespace(nvmlInit=lambda: time.sleep(1000), NVMLError=Exception)
start = time.monotonic()
caps = probe(Host({}, tuple(sys.path), {"pynvml": driver}, "/nowhere"))
notes = [note.source for note in caps.notes if note.probe == "devices"]
print(time.monotonic() - start < 10, caps.devices, caps.torch.version, *notes)
""")
    assert out == "True None 2.9.1 NVML 0"


def test_the_recursion_of_the_caller_counts_for_nothing(run: Run) -> None:
    """Asked near the end of the recursion limit, the answer is the one that it is elsewhere."""
    out = run("""
def deep(left):
    return deep(left - 1) if left else probe().replace(notes=())
want = probe().replace(notes=())
print(deep(sys.getrecursionlimit() - 60) == want)
""")
    assert out == "True 0"
