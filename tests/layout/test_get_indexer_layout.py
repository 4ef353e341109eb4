"""One layout per process and engine: asked by many threads at once, across forks, and after a change of mind.

Each test runs in a process of its own, on a laid-out import folder; an audit hook counts how often its torch is read,
which one probe does a fixed number of times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from nsa_caps.testing import lay_out_packages
from tests.processes import uncounted

if TYPE_CHECKING:
    from collections.abc import Callable

Run: TypeAlias = "Callable[..., str]"
SOURCES = Path(__file__).parents[2] / "src"
START = """
import os, sys, threading, time
reads, hold = [], None
def hook(event, args):
    if event == "open" and str(args[0]).endswith("torch/version.py"):
        reads.append(os.getpid())
        if hold is not None:
            hold()
sys.addaudithook(hook)
import nsa_caps
from nsa_caps import get_indexer_layout
nsa_caps.probe()
ONE_PROBE = len(reads)
assert ONE_PROBE > 0
reads.clear()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs code on a machine with a CPU build of torch and returns what it prints."""
    lay_out_packages(tmp_path / "site", platform="cpu", torch="2.9.1")

    def run(code: str, **environ: str) -> str:
        path = os.pathsep.join((str(tmp_path / "site"), str(SOURCES)))
        done = subprocess.run(
            # Forking with threads is what is tested; Python 3.12 warns of it.
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", START + code],
            env={**uncounted(), "PYTHONPATH": path, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_layout_is_this_process_own(run: Run) -> None:
    """What is returned is the layout of the machine as probed, with the engine that was named."""
    out = run(
        "layout = get_indexer_layout(engine='vllm')\n"
        "print(layout.row, layout.decision.caps.engine, layout.decision.caps.torch.version)"
    )
    assert out == "reference vllm 2.9.1\n"


def test_the_second_call_probes_nothing(run: Run) -> None:
    """A second call returns the same object without looking at the machine again."""
    out = run("""
first = get_indexer_layout(engine="sglang")
before = len(reads)
second = get_indexer_layout(engine="sglang")
print(before == ONE_PROBE, first is second, len(reads) == before)
""")
    assert out == "True True True\n"


def test_each_engine_has_its_own(run: Run) -> None:
    """Engines read other switches, so each is asked about once."""
    out = run("""
layouts = [get_indexer_layout(engine=engine) for engine in ("sglang", "vllm", "sglang", "vllm")]
print(len({id(layout) for layout in layouts}), len(reads) == 2 * ONE_PROBE, get_indexer_layout() is layouts[0])
""")
    assert out == "2 True True\n"


def test_each_request_has_its_own(run: Run) -> None:
    """An engine's limits are decided once each; equal requests are one."""
    out = run("""
ask = lambda size: get_indexer_layout(request=nsa_caps.Request(page_size=size))
layouts = [ask(16), get_indexer_layout(), ask(32), ask(16)]
print([layout.page_size for layout in layouts], layouts[0] is layouts[3], len(reads) == 3 * ONE_PROBE)
""")
    assert out == "[16, 64, 32, 16] True True\n"


def test_thirty_two_threads_make_one_probe(run: Run) -> None:
    """Threads that ask at the same moment wait for one probe and get one object."""
    out = run("""
hold = lambda: time.sleep(0.05)
barrier, found = threading.Barrier(32), []
def ask():
    barrier.wait()
    found.append(get_indexer_layout(engine="sglang"))
threads = [threading.Thread(target=ask) for _ in range(32)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len({id(layout) for layout in found}), len(reads) == ONE_PROBE)
""")
    assert out == "32 1 True\n"


def test_clearing_probes_again(run: Run) -> None:
    """After `cache_clear` the machine is looked at again, and its switches with it."""
    out = run("""
first = get_indexer_layout()
os.environ["NSA_CAPS_ROW"] = "reference"
get_indexer_layout.cache_clear()
second = get_indexer_layout()
print(len(reads) == 2 * ONE_PROBE, first is second, second.decision.caps.switches["row"].value)
""")
    assert out == "True False reference\n"


def test_clearing_while_a_probe_runs(run: Run) -> None:
    """A probe that began before `cache_clear` does not fill what was cleared."""
    out = run("""
entered, release = threading.Event(), threading.Event()
hold = lambda: (entered.set(), release.wait(10))
asking = threading.Thread(target=get_indexer_layout)
asking.start()
entered.wait(10)
clearing = threading.Thread(target=get_indexer_layout.cache_clear)
clearing.start()
time.sleep(0.1)
release.set()
asking.join(), clearing.join()
hold = None
before = len(reads)
get_indexer_layout()
print(before == ONE_PROBE, len(reads) == 2 * ONE_PROBE)
""")
    assert out == "True True\n"


def test_a_child_decides_for_itself(run: Run) -> None:
    """A forked child may see other GPUs than its parent, so it probes again; the parent keeps its own."""
    out = run("""
mine = get_indexer_layout()
child = os.fork()
if child == 0:
    fresh = get_indexer_layout()
    os._exit(0 if fresh is not mine and reads.count(os.getpid()) == ONE_PROBE else 1)
status = os.waitpid(child, 0)[1]
print(status, get_indexer_layout() is mine)
""")
    assert out == "0 True\n"


def test_eight_children_of_a_parent_in_the_middle_of_it(run: Run) -> None:
    """A fork while another thread holds the lock leaves children that answer: none waits for a thread that is gone."""
    out = run("""
import signal
parent = os.getpid()
entered, release = threading.Event(), threading.Event()
def hold():
    if os.getpid() == parent:
        entered.set()
        release.wait(30)
asking = threading.Thread(target=get_indexer_layout)
asking.start()
entered.wait(10)
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if get_indexer_layout().row == "reference" else 1)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
release.set()
asking.join()
print(get_indexer_layout().row)
""")
    assert out == "[0, 0, 0, 0, 0, 0, 0, 0]\nreference\n"


def test_a_failure_is_not_kept(run: Run) -> None:
    """Where every row is out the error comes each time, and a machine that was mended is asked again."""
    out = run("""
os.environ["NSA_CAPS_ROW"] = "deepgemm"
for _ in range(2):
    try:
        get_indexer_layout()
    except nsa_caps.NoUsableLayoutError as error:
        print(error.decision.chosen)
del os.environ["NSA_CAPS_ROW"]
print(get_indexer_layout().row)
""")
    assert out == "None\nNone\nreference\n"


def test_an_engine_that_is_not_known(run: Run) -> None:
    """The error names the engines that are."""
    out = run("""
try:
    get_indexer_layout(engine="trtllm")
except nsa_caps.UnknownEngineError as error:
    print("sglang" in str(error))
""")
    assert out == "True\n"


def test_what_is_no_question_is_refused_by_name(run: Run) -> None:
    """Arguments of other types, also those that no dictionary takes, are errors of this library's."""
    out = run("""
for wanted in ({"engine": []}, {"engine": 3}, {"request": "x"}, {"request": {}}, {"prove": "yes"}):
    try: get_indexer_layout(**wanted)
    except nsa_caps.NsaCapsError as error: print(type(error).__name__, str(error).split(",")[0])
""")
    assert out.splitlines() == [
        "UnknownEngineError engine is []",
        "UnknownEngineError engine is 3",
        "RequestError request is 'x'",
        "RequestError request is {}",
        "RequestError prove is 'yes'",
    ]
