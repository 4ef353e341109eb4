"""Machines that are broken in every way that a file, a variable or a plugin can be: an answer, a note, no traceback."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from asyncio import CancelledError
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import AotKernel, Capabilities, Host, Note, Package, decide, probe
from nsa_caps.capabilities.switches import VARIABLES
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.probe import BUILT_IN
from nsa_caps.testing import AOT_FOLDER, machine
from tests.processes import uncounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NODES = "root/sys/class/kfd/kfd/topology/nodes"
TILED = "paged_mqa_logits_preshuffle_64x256x128_B64PFW2"
STEM = "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle"
# Every file of a whole machine that a probe reads, below the machine's folder.
FILES = (
    "site/torch/version.py",
    "site/triton/__init__.py",
    "site/aiter/_version.py",
    "site/aiter/ops/triton/attention/pa_mqa_logits.py",
    "site/aiter/ops/triton/gluon/__init__.py",
    "site/aiter/ops/triton/gluon/pa_mqa_logits.py",
    "site/aiter/ops/attention.py",
    "site/aiter/ops/cache.py",
    "site/aiter/jit/utils/chip_info.py",
    "site/aiter/utility/dtypes.py",
    "site/deep_gemm/__init__.py",
    f"site/{AOT_FOLDER}/{TILED}/{STEM}.json",
    f"{NODES}/0/properties",
    f"{NODES}/2/properties",
)
# Every folder that a probe lists.
FOLDERS = ("site", f"site/{AOT_FOLDER}", NODES)
SOURCES = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def whole(tmp_path: Path) -> Host:
    """Return an MI300X with everything: it takes aiter's tiled row as it is."""
    host = machine(
        tmp_path / "m",
        archs=["gfx942"],
        triton="3.6.0",
        aiter="04907edc",
        aiter_version="0.1.16",
        bundle=[AotKernel(TILED, complete=True, arch="gfx942")],
        deep_gemm="2.1.1",
        environ={"SGLANG_USE_AITER": "1", "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS": "1"},
    )
    assert decide(probe(host)).chosen == "aiter-preshuffle"
    return host


def base(host: Host) -> Path:
    """Return the folder that a machine is laid out in."""
    return Path(host.root).parent


def answer(host: Host) -> Capabilities:
    """Return what is found, having seen that it can be kept, decided about and explained."""
    caps = probe(host)
    assert Capabilities.from_json(caps.to_json()) == caps
    decision = decide(caps)
    assert decision.explain()
    # A built-in probe that fails as a whole would be a bug of ours, told as `probe NAME`.
    assert [note for note in caps.notes if note.source.startswith("probe ")] == []
    return caps


def remove(path: Path) -> None:
    """Take a file or a folder away."""
    if path.is_dir():
        path.rename(path.with_name(path.name + ".gone"))
    else:
        path.unlink()


def truncate(path: Path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def enlarge(path: Path) -> None:
    """Make a file of 1 GB, of which no block is on the disk."""
    with path.open("wb") as stream:
        stream.truncate(10**9)


def put(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that puts something else in a file's place."""

    def replace_file(path: Path) -> None:
        remove(path)
        make(path)

    return replace_file


BREAKS: dict[str, Callable[[Path], object]] = {
    "gone": remove,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "huge": enlarge,
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "NUL bytes": lambda path: path.write_bytes(bytes(5000)),
    "NUL bytes at its end": lambda path: path.write_bytes(path.read_bytes() + bytes(4096)),
    "one line of a megabyte": lambda path: path.write_bytes(b"x" * 10**6),
    "deep nesting": lambda path: path.write_bytes(b"[" * 10**6),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "a folder": put(Path.mkdir),
    "a named pipe": put(os.mkfifo),
    "a device": put(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": put(lambda path: path.symlink_to(path)),
    "a link to nothing": put(lambda path: path.symlink_to("/nowhere/at/all")),
    "a link to another file": put(lambda path: path.symlink_to(__file__)),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", BREAKS)
def test_every_file_broken_in_every_way(whole: Host, file: str, how: str) -> None:
    """Whatever stands in the place of a file there is an answer, in bounded time, and nothing selects on a guess."""
    path = base(whole) / file
    BREAKS[how](path)
    start = time.monotonic()
    caps = answer(whole)
    assert time.monotonic() - start < 5
    decision = decide(caps)
    # What does not bear on aiter's rows, or only says a version, may be broken without harm.
    harmless = "deep_gemm" in file or file.endswith("_version.py") or "/0/" in file
    # The metadata tell Triton's version too.
    harmless |= file == FILES[1] and how in ("truncated", "one line of a megabyte", "a link to another file")
    # That is what it looked like before f061fba9: no gate.
    harmless |= how in ("gone", "empty") and file.endswith("gluon/__init__.py")
    # Read by pattern, and half of it is whole.
    harmless |= how == "truncated" and file.endswith("ops/attention.py")
    # A line of them beside the driver's own.
    harmless |= how == "NUL bytes at its end" and file.endswith("properties")
    if not harmless:
        assert decision.chosen != "aiter-preshuffle", f"{file} {how} decided nothing"
    if (how, file) not in SILENT:
        assert {note.source for note in caps.notes} & named(path, how), f"{file} {how} is not named: {caps.notes}"


# A checkout has no version file, an older aiter no gate, and DeepGEMM's own __init__ no version.
SILENT = {(how, "site/aiter/_version.py") for how in ("gone", "a link to nothing")}
SILENT |= {(how, "site/aiter/ops/triton/gluon/__init__.py") for how in ("gone", "empty")}
SILENT |= {("truncated", "site/aiter/ops/attention.py")}
SILENT |= {("NUL bytes at its end", file) for file in FILES if file.endswith("properties")}
SILENT |= {
    (how, "site/deep_gemm/__init__.py") for how in ("truncated", "one line of a megabyte", "a link to another file")
}


def named(path: Path, how: str) -> set[str]:
    """Return what a note may name: the file, or what is known of it where there is none to read."""
    found = {str(path)}
    if path.name == "__init__.py" and path.parent.parent.name == "site":
        # Without a regular __init__.py the folder is no package: that is what there is to say.
        found.add(str(path.parent))
    if how in ("gone", "a link to nothing"):
        # The kernel that lacks it; and the arch map's newer place, where it is looked for first.
        found |= {str(path.parent), str(path.with_name("build_targets.py"))}
    return found


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("how", ["a file", "a link to itself", "a link to nothing", "gone", "empty"])
def test_every_folder_broken_in_every_way(whole: Host, folder: str, how: str) -> None:
    """A folder that is not there, is none, or cannot be listed leaves an answer without the fast row."""
    path = base(whole) / folder
    remove(path)
    makes: dict[str, Callable[[Path], object]] = {
        "a file": Path.touch,
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to nothing": lambda path: path.symlink_to("/nowhere"),
        "gone": lambda _: None,
        "empty": Path.mkdir,
    }
    makes[how](path)
    caps = answer(whole)
    assert decide(caps).chosen != "aiter-preshuffle"
    if how == "a link to itself":
        assert any(note.source == str(path) for note in caps.notes)


class Locked(Host):
    """A host on which every file and folder is there and may not be read, as for another user's."""

    __slots__ = ()

    def read_text(self, path: str) -> str | None:
        """Refuse what is there."""
        if super().read_text(path) is None:
            return None
        raise UnreadableError(path, "Permission denied")

    def list_folder(self, path: str, beginnings: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Refuse what is there."""
        del beginnings
        if not super().list_folder(path):
            return ()
        raise UnreadableError(path, "Permission denied")


def test_permission_denied_everywhere(whole: Host) -> None:
    """Where nothing may be read nothing is known: no row of a GPU is chosen, and every place is noted."""
    caps = answer(Locked(whole.environ, whole.search_path, whole.modules, whole.root))
    assert (caps.platform, caps.devices, caps.aot_bundle.kernels) == ("unknown", None, None)
    assert {caps.torch.state, caps.triton.state, caps.aiter.state} == {"broken"}
    assert decide(caps).chosen is None
    assert {note.text for note in caps.notes if note.probe != "aiter_source"} >= {"Permission denied"}
    assert whole.search_path[0] in {note.source for note in caps.notes}


NOBODY = 65534


@pytest.fixture
def locked() -> Iterator[Host]:
    """Return an MI300X of which an ordinary user may list everything and read nothing."""
    # Not tmp_path, whose parents are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        host = machine(Path(folder) / "m", archs=["gfx942"], aiter="04907edc", environ={"SGLANG_USE_AITER": "1"})
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0)
        yield host


def as_ordinary_user(host: Host, code: str) -> str:
    """Run code on `host` and its `caps` as a user whom modes bind, which root is not, and return what it prints."""
    start = f"""import sys; sys.path.insert(0, {SOURCES!r})
import os
from nsa_caps import Host, decide, probe
host = Host({dict(host.environ)!r}, {host.search_path!r}, {{}}, {host.root!r})
if os.geteuid() == 0:
    # Python's own library may be closed to that user too, so that everything is imported before.
    decide(probe(host)).explain()
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
caps = probe(host)
"""
    done = subprocess.run(
        [sys.executable, "-c", start + code], env=uncounted(), capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_permission_denied_by_the_kernel(locked: Host) -> None:
    """Where the files' modes forbid it nothing is known either, and each file is noted."""
    out = as_ordinary_user(
        locked,
        """
print(decide(caps).chosen, caps.devices, caps.triton.state)
print(*sorted(note.source for note in caps.notes if note.text == "Permission denied"), sep="\\n")
""",
    )
    verdict, *noted = out.splitlines()
    assert verdict == "None None broken"
    site = locked.search_path[0]
    unread = {f"{site}/torch/version.py", f"{site}/triton/__init__.py", f"{site}/aiter/ops/cache.py"}
    assert unread < set(noted)
    assert f"{locked.root}/sys/class/kfd/kfd/topology/nodes/0/properties" in noted


def test_folders_that_may_not_be_entered(locked: Host) -> None:
    """A folder closed to this user is no package to Python either; it is noted where it is listed."""
    nodes = f"{locked.root}/sys/class/kfd/kfd/topology/nodes"
    for place in (locked.search_path[0], nodes):
        Path(place).chmod(0)
    out = as_ordinary_user(
        locked,
        """
print(decide(caps).chosen, caps.devices, caps.torch.state, sorted((note.source, note.text) for note in caps.notes))
""",
    )
    listed = sorted((place, "Permission denied") for place in (locked.search_path[0], nodes))
    assert out == f"None None missing {listed}\n"


class Vanishing(Host):
    """A host whose files are there when they are looked for and gone when they are read."""

    __slots__ = ()

    def read_text(self, path: str) -> str | None:
        """Find nothing."""
        del path
        return None


def test_files_that_vanish_between_a_look_and_a_read(whole: Host) -> None:
    """An installation that is being replaced leaves an answer."""
    caps = answer(Vanishing(whole.environ, whole.search_path, whole.modules, whole.root))
    assert caps.devices is None
    assert decide(caps).chosen is None


class Moving(Host):
    """A host on which an upgrade takes each file away right after a folder was listed or a file was looked for."""

    __slots__ = ()

    def list_folder(self, path: str, beginnings: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """List, then take everything that is listed away."""
        names = super().list_folder(path, beginnings)
        for name in names:
            remove(Path(path) / name)
        return names

    def is_file(self, path: str) -> bool:
        """Look, then take it away."""
        there = super().is_file(path)
        if there:
            remove(Path(path))
        return there


def test_files_that_are_taken_away_while_they_are_read(whole: Host) -> None:
    """What a listing names and is gone a moment later is not known: no row of a GPU is chosen."""
    caps = answer(Moving(whole.environ, whole.search_path, whole.modules, whole.root))
    assert caps.devices is None
    assert any(note.source.endswith("/properties") for note in caps.notes)
    assert decide(caps).chosen is None


def test_links_that_lead_in_a_circle(whole: Host) -> None:
    """Folders that lead back to themselves are entered once: a whole package behind a circle is still found."""
    site = Path(whole.search_path[0])
    (site / "aiter/ops/loop").symlink_to(site, target_is_directory=True)
    (site / "loop").symlink_to(".", target_is_directory=True)
    (site / f"{AOT_FOLDER}/paged_mqa_logits_loop").symlink_to("..", target_is_directory=True)
    path = (str(site / "loop/loop/loop"), *whole.search_path)
    assert decide(answer(replace(whole, search_path=path))).chosen == "aiter-preshuffle"


# --- Installations that contradict themselves


@pytest.mark.parametrize("count", [2, 3])
def test_several_tritons(tmp_path: Path, count: int) -> None:
    """Of several distributions that bring Triton the package's own word counts, and a note names them all."""
    named = dict(list({"triton": "3.4.0", "pytorch-triton-rocm": "3.6.0", "amd-triton": "3.7.0"}.items())[:count])
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.6.0", triton_distributions=named, aiter="a6bb4993",
        environ={"SGLANG_USE_AITER": "1"})  # fmt: skip
    caps = answer(host)
    assert (caps.triton.version, caps.triton.distribution) == ("3.6.0", "pytorch-triton-rocm")
    assert decide(caps).chosen == "aiter-preshuffle"
    (note,) = (note for note in caps.notes if "several distributions" in note.text)
    assert note.source == f"{host.search_path[0]}/triton"
    assert all(f"{name} {version}" in note.text for name, version in named.items())


def test_several_tritons_one_behind_the_other(tmp_path: Path) -> None:
    """Of several packages on the import path the first is the one that is imported."""
    first = machine(tmp_path / "1", archs=["gfx942"], triton="3.4.0", aiter="a6bb4993")
    second = machine(tmp_path / "2", triton="3.6.0")
    third = machine(tmp_path / "3", triton="3.7.0")
    for path, version in (((first, second, third), "3.4.0"), ((third, second, first), "3.7.0")):
        caps = answer(replace(first, search_path=tuple(host.search_path[0] for host in path)))
        assert caps.triton.version == version


@pytest.mark.parametrize("name", ["torch", "triton", "aiter", "deep_gemm"])
def test_metadata_without_files(whole: Host, name: str) -> None:
    """Metadata whose package is gone is no package, and a note names them."""
    site = Path(whole.search_path[0])
    remove(site / name)
    distribution = {"aiter": "amd_aiter"}.get(name, name)
    metadata = site / f"{distribution}-{'3.6.0' if name == 'triton' else '2.0'}.dist-info"
    metadata.mkdir(exist_ok=True)
    caps = answer(whole)
    assert getattr(caps, name).state == "missing"
    assert any(note.source == str(metadata) for note in caps.notes)
    assert decide(caps).chosen != "aiter-preshuffle" or name == "deep_gemm"


def test_files_without_metadata(whole: Host) -> None:
    """Packages without any metadata are found by their own files, each with the version that these tell."""
    for metadata in Path(whole.search_path[0]).glob("*-info"):
        remove(metadata)
    caps = answer(whole)
    assert decide(caps).chosen == "aiter-preshuffle"
    assert (caps.triton.version, caps.triton.distribution) == ("3.6.0", None)


# --- Code that is read is never executed


def test_nothing_that_is_read_is_executed(whole: Host, tmp_path: Path) -> None:
    """Source that would leave a trace if it ran is read as data."""
    trace = tmp_path / "executed"
    for file in FILES:
        if file.endswith(".py"):
            path = base(whole) / file
            path.write_text(f"{path.read_text()}\nopen({str(trace)!r}, 'w').close()\n")
    caps = answer(whole)
    assert not trace.exists()
    assert caps.triton.version == "3.6.0"


@pytest.mark.parametrize(
    "text",
    [
        "__version__ = __import__('os').system('touch {trace}') or '3.6.0'",
        "__version__ = open('{trace}', 'w') and '3.6.0'",
        '__version__ = f\'{{open("{trace}", "w")}}\'',
        "@print\ndef f(): ...\n__version__ = '3.6.0'\nimport {trace}",
        "__version__ = '3.6.0'\nraise SystemExit",
        "# -*- coding: rot13 -*-\n__version__ = '3.6.0'",
    ],
)
def test_a_version_that_would_have_to_be_run(whole: Host, tmp_path: Path, text: str) -> None:
    """An expression is no version, and a statement beside a version is not run."""
    trace = tmp_path / "trace"
    (base(whole) / FILES[1]).write_text(text.replace("{trace}", str(trace)))
    answer(whole)
    assert not trace.exists()


# --- Variables


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 10**6, marks=pytest.mark.slow),
        "1\n2",
        "\r\n",
        "\x1b[31m1",
        "\udcff\udc80",
        "\0",
        "1" * 5000,
        "٣",
        "ⅷ",
        "-",
        "${HOME}",
        "; rm -rf /",
    ],
    ids=range(12),
)
def test_any_value_of_any_variable(whole: Host, value: str) -> None:
    """Any text in any variable leaves an answer that a terminal can print: long, torn, coloured, or not text at all."""
    visible = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
        "HSA_OVERRIDE_GFX_VERSION", "HSA_OVERRIDE_GFX_VERSION_2")  # fmt: skip
    for variable in (*VARIABLES, *visible):
        if variable in ("NSA_CAPS_ROW", "NSA_CAPS_PLUGINS"):
            continue
        caps = answer(replace(whole, environ={**whole.environ, variable: value}))
        text = decide(caps).explain()
        assert all(char.isprintable() or char == "\n" for char in text)


def test_a_megabyte_in_every_variable_at_once(whole: Host) -> None:
    """Size alone breaks nothing."""
    names = [name for name in VARIABLES if name not in ("NSA_CAPS_ROW", "NSA_CAPS_PLUGINS")]
    answer(replace(whole, environ=dict.fromkeys(names, "1" * 10**6)))


# --- The import path


@pytest.mark.parametrize("entry", ["", ".", "/nowhere", "\0", "/dev/null", "x" * 5000, "relative", "/proc/self/fd"])
def test_any_entry_of_the_import_path(whole: Host, entry: str) -> None:
    """An entry that is no folder, or cannot be one, is passed over."""
    caps = answer(replace(whole, search_path=(entry, *whole.search_path, entry)))
    assert decide(caps).chosen == "aiter-preshuffle"


def test_a_search_path_of_a_thousand_folders(whole: Host) -> None:
    """Length alone breaks nothing."""
    assert answer(replace(whole, search_path=("/nowhere",) * 1000 + whole.search_path)).triton.version == "3.6.0"


@pytest.mark.parametrize("module", [3, object(), "triton", type("Lazy", (), {"__version__": 3, "__file__": 3})()])
def test_any_object_among_the_imported_modules(whole: Host, module: object) -> None:
    """What stands for an imported module may be anything; what is no text tells nothing."""
    loaded = dict.fromkeys(("torch", "triton", "aiter", "deep_gemm"), module)
    assert decide(answer(replace(whole, modules=loaded))).chosen == "aiter-preshuffle"


def test_a_module_that_fails_when_it_is_looked_at(whole: Host) -> None:
    """An object that stands in for a module is told in a note, not looked into, and the package is not taken."""

    class Lazy:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(f"cannot load {name}")

    caps = probe(replace(whole, modules={"triton": Lazy()}))
    assert any("Lazy, which is no module" in note.text for note in caps.notes)
    assert (caps.triton.state, caps.torch.state) == ("broken", "found")
    assert decide(caps).chosen != "aiter-preshuffle"


# --- Third parties' probes


def found(*probes: Any, host: Host | None = None) -> Capabilities:
    """Return what the built-in probes and these find."""
    return probe(host or Host({}, (), {}, "/nowhere"), probes=(*BUILT_IN, *probes))


def raising(_: Host) -> dict[str, Any]:
    """Raise."""
    raise ValueError("a bug\nof two lines")


def leaving(_: Host) -> dict[str, Any]:
    """Leave the process."""
    raise SystemExit(3)


def recursing(host: Host) -> dict[str, Any]:
    """Never end."""
    return recursing(host)


def asserting(_: Host) -> dict[str, Any]:
    """Fail an assertion."""
    raise AssertionError


def cancelled(_: Host) -> dict[str, Any]:
    """Raise what is no Exception."""
    raise CancelledError


def speechless(_: Host) -> dict[str, Any]:
    """Raise an error that cannot be told."""

    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise SpeechlessError


@pytest.mark.parametrize("bad", [raising, leaving, recursing, asserting, cancelled, speechless])
def test_a_probe_that_fails_is_named(bad: Callable[[Host], dict[str, Any]]) -> None:
    """A third party's probe that fails, even by leaving the process, is named in a note and takes nothing with it."""
    caps = found(bad)
    (note,) = (note for note in caps.notes if note.probe == bad.__name__)
    assert note.source == f"probe {bad.__name__}"
    assert note.text.startswith("failed with ")
    assert found().replace(notes=()) == caps.replace(notes=())


def hanging(_: Host) -> dict[str, Any]:
    """Wait for what never comes."""
    Event().wait()
    return {}


def test_a_probe_that_hangs_is_named() -> None:
    """A third party's probe that does not end is waited for a while, named in a note, and left behind."""
    start = time.monotonic()
    caps = probe(Host({}, (), {}, "/nowhere"), probes=(*BUILT_IN, hanging), timeout=0.1)
    assert time.monotonic() - start < 2
    (note,) = (note for note in caps.notes if note.probe == "hanging")
    assert note.source == "probe hanging"
    assert "no answer within 0.1 s" in note.text
    assert found().replace(notes=()) == caps.replace(notes=())


def test_a_hanging_probe_keeps_no_process_from_ending() -> None:
    """The thread that is left behind is a daemon, and nothing is written of it."""
    code = f"""import sys; sys.path.insert(0, {SOURCES!r})
import time
from nsa_caps import Host, probe
print(len(probe(Host({{}}, (), {{}}, "/nowhere"), probes=[lambda host: time.sleep(1000)], timeout=0.1).notes))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


LOOP: dict[str, Any] = {}
LOOP["loop"] = LOOP


@pytest.mark.parametrize(
    "result",
    [
        None,
        5,
        "text",
        [1],
        {"platform": 5},
        {"platform": "amiga"},
        {"devices": ["gfx942"]},
        {"devices": 3},
        {"torch": None},
        {"torch": "2.9"},
        {"triton": Package("triton", "lost")},  # type: ignore[arg-type]  # that is the point
        {"notes": ["text"]},
        {"notes": 5},
        {"extras": 5},
        {"extras": {"x": object()}},
        {"extras": {"x": {1, 2}}},
        {"extras": {"x": float("nan")}},
        {"extras": {1: 2}},
        {"extras": LOOP},
        {"variables": {"x": 1}},
    ],
    ids=range(20),
)
def test_a_probe_that_returns_the_wrong_type(result: object) -> None:
    """What is not of a field's type is refused whole, and the probe is named."""

    def third_party(_: Host) -> Any:
        return result

    caps = found(third_party)
    assert [note.source for note in caps.notes] == [f"probe {third_party.__qualname__}"]
    assert caps.notes[0].text.startswith("failed with ")
    assert caps.replace(notes=()) == found()


@pytest.mark.parametrize("field", ["gpu", "schema_version", "switches", "engine", "Devices"])
def test_a_probe_that_returns_an_unknown_field(field: str) -> None:
    """A field that there is none of, or that no probe may set, is noted and left out; the rest counts."""

    def third_party(_: Host) -> dict[str, Any]:
        return {field: 1, "extras": {"fabric": "x"}}

    caps = found(third_party)
    assert [note.text for note in caps.notes] == [f"returned {field!r}, which is no field that a probe may set"]
    assert dict(caps.extras) == {"fabric": "x"}


def test_a_probe_of_ones_own() -> None:
    """A third party's probe adds notes and extras, and replaces what an earlier one found."""
    note = Note("fabric", "/sys/class/infiniband", "four ports")

    def fabric(_: Host) -> dict[str, Any]:
        return {"extras": {"ports": 4}, "notes": [note], "triton": Package("triton", "found", "3.6.0")}

    caps = found(fabric)
    assert (dict(caps.extras), caps.notes, caps.triton.version) == ({"ports": 4}, (note,), "3.6.0")


def test_only_the_probes_that_are_named_run() -> None:
    """`probes=` stands for the built-in list."""
    assert probe(Host.current(), probes=()) == Capabilities(switches=probe(Host.current(), probes=()).switches)


# --- Many at once


def test_sixty_four_threads_and_eight_forks(tmp_path: Path) -> None:
    """All who ask at once get one answer, on a machine half of which is broken, also in children forked meanwhile.

    The modules are imported before: a child of a fork in the middle of another thread's import waits for a lock of the
    import system that nobody opens again, whatever is imported.
    """
    host = machine(tmp_path / "m", archs=["gfx942"], aiter="04907edc", environ={"SGLANG_USE_AITER": "1"})
    enlarge(base(host) / FILES[3])
    BREAKS["a link to itself"](base(host) / FILES[1])
    code = f"""import sys; sys.path.insert(0, {SOURCES!r})
import os, signal, threading
from nsa_caps import Host, probe, get_indexer_layout, decide
signal.alarm(60)
host = Host({dict(host.environ)!r}, {host.search_path!r}, {{}}, {host.root!r})
decide(probe(host)).caps.to_json()
barrier, found, failed = threading.Barrier(65), [], []
threading.excepthook = failed.append
def ask():
    barrier.wait()
    found.append(probe(host).to_json())
threads = [threading.Thread(target=ask) for _ in range(64)]
for thread in threads: thread.start()
barrier.wait()
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        same = probe(host).to_json() == probe(host).to_json()
        os._exit(0 if same and decide(probe(host)).chosen is not None else 1)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
for thread in threads: thread.join()
print(len(found), len(set(found)), statuses, failed)
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, env=uncounted(), capture_output=True, text=True, check=False, timeout=90)
    assert done.stderr == ""
    assert done.stdout == "64 1 [0, 0, 0, 0, 0, 0, 0, 0] []\n"


# --- The whole


def test_an_empty_machine() -> None:
    """A root, a path and an environment with nothing in them are a machine of which nothing is known but that."""
    caps = answer(Host({}, (), {}, "/nowhere"))
    assert (caps.platform, caps.devices, caps.notes) == ("unknown", (), ())
    assert decide(caps).chosen is None


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Gigantic files everywhere are answered within 200 MB of memory."""
    host = machine(tmp_path / "m", archs=["gfx942"], aiter="04907edc", aiter_version="1")
    for path in [*Path(host.search_path[0]).rglob("*.py"), *Path(host.root).rglob("properties")]:
        enlarge(path)
    code = (
        "import sys, json; from nsa_caps import Host, probe;"
        f"caps = probe(Host({{}}, ({host.search_path[0]!r},), {{}}, {host.root!r}));"
        "print(json.dumps([note.text for note in caps.notes]))"
    )
    environ = {**os.environ, "PYTHONPATH": SOURCES}
    limit = 200 * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    assert "1000000000 bytes, more than the 2097152 that are read" in json.loads(done.stdout)
