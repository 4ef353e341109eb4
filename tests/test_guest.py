"""A guest in an engine's process: what is the engine's reaches it, nothing changes, nobody waits for ever.

Each test runs in a process of its own, on a laid-out import folder whose torch an audit hook sees being read.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from nsa_caps.testing import lay_out_packages
from tests.processes import uncounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
            env={**uncounted(), "PYTHONPATH": path, **environ},
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


def test_what_an_engine_puts_in_the_place_of_open_is_not_called(run: Run) -> None:
    """Files are read by the system's own calls: an `open` that is the engine's may refuse, count or wait."""
    out = run("""
import builtins
want = probe()
def refuse(*_, **__):
    raise RuntimeError("open is not yours")
builtins.open = refuse
print(probe() == want, get_indexer_layout().row)
""")
    assert out == "True reference 0"


@pytest.fixture
def silent_mount(tmp_path: Path) -> Iterator[str]:
    """Return a folder that is mounted, whose file system answers the mount and nothing else; given up at the end."""
    folder, libc = tmp_path / "silent", ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"needs FUSE: {error}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"silent", str(folder).encode(), b"fuse", 0, options):
        os.close(device)
        pytest.skip(f"needs the right to mount: {os.strerror(ctypes.get_errno())}")
    # FUSE_INIT is 26; the answer is that of protocol 7.22: a header, and 24 bytes of limits.
    _, operation, unique = struct.unpack_from("<IIQ", os.read(device, 1 << 17))
    assert operation == 26
    limits = struct.pack("<IIIIHHI", 7, 22, 65536, 0, 12, 9, 4096)
    os.write(device, struct.pack("<IiQ", 16 + len(limits), 0, unique) + limits)
    # A request that nobody has taken ends with its process; one that was taken, and is not answered, does not.
    threading.Thread(target=_take_all, args=(device,), daemon=True).start()
    yield str(folder)
    libc.umount2(str(folder).encode(), 1 | 2)
    os.close(device)


def _take_all(device: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(device, 1 << 17):
            pass


def test_a_mount_that_does_not_answer_keeps_no_process_from_ending(silent_mount: str) -> None:
    """On the import path it is a note; the call answers, and the process ends, though the mount is still there."""
    code = f"""
import sys, time, nsa_caps
sys.path.insert(0, {silent_mount!r})
start = time.monotonic()
caps = nsa_caps.probe()
told = [note.source for note in caps.notes if {silent_mount!r} + ", which does not answer" in note.text]
print(caps.torch.state, caps.platform, "torch" in told, nsa_caps.decide(caps).chosen, time.monotonic() - start < 12)
"""
    environ = {**uncounted(), "PYTHONPATH": str(SOURCES)}
    child = subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        # That the output ends shows that no process is left that holds it.
        out, _ = child.communicate(timeout=40)
    finally:
        # Forced: what waits, as that which looked, is told that the file system is gone.
        ctypes.CDLL(None).umount2(silent_mount.encode(), 1 | 2)
        child.kill()
    assert (out, child.returncode) == ("unknown unknown True None True\n", 0)


@pytest.mark.parametrize("kibibytes", [64, 128, 256, 512])
@pytest.mark.parametrize("value", [f"{'(' * 199}1{')' * 199}", "lambda: " * 3000 + "1"], ids=["brackets", "lambdas"])
def test_a_little_stack_is_enough_for_any_source(run: Run, site: Path, kibibytes: int, value: str) -> None:
    """A deeply nested file, read for a thread of as little stack as musl gives (128 KiB), is read as elsewhere."""
    version = site / "torch" / "version.py"
    version.write_text(f"{version.read_text()}x = {value}\n")
    out = run(f"""
want = probe().replace(notes=())
threading.stack_size({kibibytes} * 1024)
found = []
thread = threading.Thread(target=lambda: found.append(probe().replace(notes=())))
thread.start()
thread.join()
print(found == [want], threading.stack_size())
""")
    assert out == f"True {kibibytes * 1024} 0"


def test_the_recursion_of_the_caller_counts_for_nothing(run: Run) -> None:
    """Asked near the end of the recursion limit, the answer is the one that it is elsewhere."""
    out = run("""
def deep(left):
    return deep(left - 1) if left else probe().replace(notes=())
want = probe().replace(notes=())
print(deep(sys.getrecursionlimit() - 60) == want)
""")
    assert out == "True 0"


# --- Nothing of the process changes


def test_nothing_of_the_process_changes(run: Run, site: Path) -> None:
    """Eight threads that probe, beside one that uses warnings, leave filters, paths, handlers, files as they were."""
    (site / "torch" / "version.py").write_text(
        (site / "torch" / "version.py").read_text() + "\nodd = '\\d', b'\\N', r'\\d'\n"
    )
    out = run("""
import locale
def state():
    signals = [signal.getsignal(number) for number in signal.valid_signals()]
    files = sorted(name for name in os.listdir("/proc/self/fd"))
    return (list(warnings.filters), list(sys.path), list(sys.meta_path), dict(os.environ), signals, files,
        locale.setlocale(locale.LC_ALL), os.getcwd(), sys.getrecursionlimit(), threading.stack_size(),
        warnings.showwarning, threading.active_count())
probe()
before = state()
sys.setswitchinterval(1e-5)
stop = []
def other():
    while not stop:
        with warnings.catch_warnings(): warnings.simplefilter("error")
beside = threading.Thread(target=other)
beside.start()
for _ in range(10):
    threads = [threading.Thread(target=probe) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
stop.append(1)
beside.join()
print([index for index, (left, right) in enumerate(zip(before, state())) if left != right])
""")
    assert out == "[] 0"


def test_an_odd_escape_warns_nobody(run: Run, site: Path) -> None:
    """A vendor's escape that Python knows none of is read as what it is, where warnings are errors too."""
    (site / "torch" / "version.py").write_text(
        "odd, raw = '\\\\d', r'\\\\d'  # '\\d'\n__version__ = '2.9.1\\d'\nhip = None\ncuda = None\n"
    )
    out = run("""
warnings.simplefilter("error")
caps = probe()
print(caps.torch.version, caps.platform)
""")
    assert out == "2.9.1\\d cpu 0"


@pytest.mark.parametrize("entry", ["b'/x'", "None", "3", "__import__('pathlib').Path(sys.path[0])"])
def test_what_is_no_text_in_the_path_is_passed_over(run: Run, entry: str) -> None:
    """As the import system does: bytes, None, numbers and paths in `sys.path` find nothing and break nothing."""
    # Taken out again at the end: coverage, where it counts, looks at every entry as the process ends.
    out = run(f"sys.path.insert(0, {entry})\nprint(probe().torch.version)\ndel sys.path[0]")
    assert out == "2.9.1 0"


def test_a_module_that_is_barred_is_missing(run: Run) -> None:
    """None in `sys.modules` is Python's own mark of what cannot be imported."""
    out = run("sys.modules['torch'] = None\nprint(probe().torch.state, probe().platform)")
    assert out == "missing unknown 0"


@pytest.mark.parametrize("torch", ["types.ModuleType('torch')", "MagicMock()"])
def test_a_stub_says_nothing_of_the_platform(run: Run, torch: str) -> None:
    """An imported torch that is a mock, or whose version names no build, is unknown, and never a CPU's."""
    out = run(f"""
import types
from unittest.mock import MagicMock
sys.modules["torch"] = {torch}
if isinstance(sys.modules["torch"], types.ModuleType): sys.modules["torch"].version = types.ModuleType("version")
print(probe().platform)
""")
    assert out == "unknown 0"


def test_a_file_that_says_it_is_empty_is_read_to_its_end(run: Run) -> None:
    """Of a file below /proc half is not taken for the whole: beyond the limit it is unreadable."""
    out = run("""
from nsa_caps.probes import regular_file
regular_file._LARGEST_FILE = 1000
try: print(len(Host({}, (), {}, "/").read_text("/proc/self/maps")))
except nsa_caps.NsaCapsError as error: print(error)
""")
    assert out == "/proc/self/maps: more than the 1000 bytes that are read 0"


# --- What the process lacks


def test_a_full_table_of_descriptors_is_no_answer(run: Run) -> None:
    """With no descriptor left nothing is known, which is said and kept by nobody; with some the answer is as ever."""
    out = run("""
import resource
want = probe()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
caps = probe()
try: get_indexer_layout(); said = "a layout"
except nsa_caps.NoUsableLayoutError as error: said = error.reasons[0].verdict
for file in held: os.close(file)
print(caps.torch.state, caps.platform, said, any("Too many open files" in note.text for note in caps.notes))
print(probe() == want, get_indexer_layout().row)
""")
    assert out == "unknown unknown unknown True\nTrue reference 0"


def test_a_reader_that_no_descriptor_is_left_to_import_is_no_answer(run: Run, site: Path) -> None:
    """The reader of aiter comes in where it is needed: where it cannot, nothing is known, and the next call has it."""
    lay_out_packages(site, platform="rocm", torch="2.9.1", aiter="04907edc")
    out = run("""
import resource
from nsa_caps.probes import installed_aiter
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held, known = [], installed_aiter.known_facts
def known_facts(files, table):
    assert known(files, table) is None
    sys.modules.pop("nsa_caps.probes.aiter.reader", None)
    try:
        while True: held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError: pass
installed_aiter.known_facts = known_facts
caps = probe()
for file in held: os.close(file)
installed_aiter.known_facts = known
print(caps.platform, caps.aiter_source, any("/nsa_caps/probes/aiter" in note.text for note in caps.notes))
caps = probe()
print(caps.platform, caps.aiter_source is not None and caps.aiter_source.unaccounted == ())
""")
    assert out == "unknown None True\nrocm True 0"


@pytest.mark.parametrize("place", ["torch/version.py", "triton/__init__.py"])
def test_a_moment_of_little_memory_is_no_answer(run: Run, site: Path, place: str) -> None:
    """Where one file could not be parsed for want of memory, nothing is known, not even what was read before it."""
    (site / "triton").mkdir()
    (site / "triton" / "__init__.py").write_text("__version__ = '3.6.0'\n")
    out = run(f"""
import ast
real, wanted = ast.parse, open({str(site / place)!r}).read()
def parse(text, *more):
    if text == wanted: raise MemoryError
    return real(text, *more)
ast.parse = parse
caps = probe()
print(caps.platform, *(package.state for package in caps.packages), *(note.text.split(":")[0] for note in caps.notes))
ast.parse = real
print(probe().triton.version, get_indexer_layout().row)
""")
    first, second = out.splitlines()
    assert first.startswith("unknown unknown unknown unknown unknown failed with MemoryError")
    assert second == "3.6.0 reference 0"
