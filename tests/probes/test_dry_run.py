"""A dry run over a small aiter on disk: what it settles, what it cannot, and what stops it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import probe
from nsa_caps.probes.dry_run.kept import FILE_VERSION, Ran
from nsa_caps.probes.dry_run.probe import after_dry_run
from nsa_caps.probes.dry_run.settle import settled

from .dry_run_tree import AITER, LOGITS, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps import AiterSource, Host

GATE = "ops/triton/gluon/__init__.py"


def changed(folder: Path, name: str, old: str, new: str) -> Host:
    """Return a machine with one file of aiter changed."""
    assert old in AITER[name]
    return lay_out(folder, {name: AITER[name].replace(old, new, 1)})


def run(host: Host, **options: Any) -> tuple[AiterSource, Mapping[str, Any], list[str]]:
    """Return the source after a dry run, what is told of it, and its notes."""
    read = probe(host).aiter_source
    assert read is not None
    found = after_dry_run(host, read, **options)
    return (
        found.get("aiter_source", read),
        found["extras"]["dry_run"],
        [note.text for note in found.get("notes", ())],
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Return a machine of which the reading leaves the logits module unknown."""
    return lay_out(tmp_path_factory.mktemp("dry-run"))


def test_what_the_reading_leaves_unknown_is_settled(host: Host) -> None:
    """Arch list, fp8, kernel, page rules and calls are what the executed code shows, and told as executed."""
    read = probe(host).aiter_source
    assert read is not None
    assert (read.gluon_archs, read.fp8_archs, read.wrapper, read.calls) == (None, None, None, ())
    source, told, notes = run(host)
    assert source.gluon_archs == source.fp8_archs == ("gfx942", "gfx950")
    assert (source.gluon_triton, source.triton_comparison, source.arch_gate) == ("3.5.0", "base_version", "select")
    assert (source.wrapper, source.chunk_rule) == ("switch", "either")
    assert source.calls is not None
    assert {"tiles", "token"} <= set(source.calls)
    assert {"gluon_archs", "fp8_archs", "what it does with tiles"} <= set(told["settled"])
    assert (told["differs"], notes) == ([], [])


def test_a_body_that_was_never_compiled_stays_unproven(host: Host) -> None:
    """Whether a kernel compiles is the compiler's to say: no fact of it comes from a dry run."""
    read, (source, told, _) = probe(host).aiter_source, run(host)
    assert read is not None
    assert (source.compiled, source.mfma, source.mfma_3d, source.wide_offsets) == ((), None, None, None)
    assert source.unaccounted == read.unaccounted
    assert not {"compiled", "mfma"} & set(told["settled"])


def test_it_is_kept_and_void_when_a_file_changes(tmp_path: Path) -> None:
    """The second run of the same sources executes nothing; one byte more in a file that it read, and it does."""
    host = lay_out(tmp_path)
    assert [run(host)[1]["state"] for _ in range(2)] == ["executed", "kept"]
    path = Path(host.search_path[0]) / "aiter" / LOGITS
    path.write_text(path.read_text().replace('("gfx942", "gfx950")', '("gfx950",)'))
    source, told, _ = run(host)
    assert (told["state"], source.gluon_archs) == ("executed", ("gfx950",))


def test_another_interpreter_in_the_place_of_one_is_asked_anew(tmp_path: Path) -> None:
    """An upgrade that leaves a Python's path as it was makes void what that Python came to."""
    host = lay_out(tmp_path)
    python = tmp_path / "python"
    states = []
    for text in (f'exec {sys.executable} "$@"', None, f'# another release\nexec {sys.executable} "$@"'):
        if text is not None:
            python.write_text(f"#!/bin/sh\n{text}\n")
            python.chmod(0o700)
        states.append(run(host, python=str(python))[1]["state"])
    assert states == ["executed", "kept", "executed"]


@pytest.mark.parametrize("hostile", ["other writers", "a link", "no JSON", "another field"])
def test_what_is_kept_is_read_strictly(tmp_path: Path, hostile: str) -> None:
    """A file that others may have written, a link, or what is no verdict is passed over with a note, and run anew."""
    host = lay_out(tmp_path)
    run(host)
    (path,) = (tmp_path / "proofs" / "dry-runs").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    if hostile == "other writers":
        path.chmod(0o666)
    elif hostile == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif hostile == "no JSON":
        path.write_text("{")
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), "proven": True}))
    _, told, notes = run(host)
    assert told["state"] == "executed"
    assert any("is not taken" in note for note in notes)


def test_the_escape_is_found_by_executing(tmp_path: Path) -> None:
    """A minimum and a variable that lets by, written so that no reading follows it."""
    text = """
import os, triton
minimum = ".".join(map(str, (3, 5, 0)))
from packaging.version import Version
old = sorted([Version(triton.__version__.split("+")[0]), Version(minimum)])[0] < Version(minimum)
if {True: lambda: int(os.environ.get("AITER_ANY_TRITON", "0")) == 0}.get(old, lambda: False)():
    raise RuntimeError("old")
"""
    source, told, _ = run(lay_out(tmp_path, {GATE: text}))
    assert (source.gate_triton, source.gate_escape) == ("3.5.0", "AITER_ANY_TRITON")
    assert told["differs"] == []


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("if torch.cuda.is_available(): assert not Preshuffle", "truth of torch.cuda.is_available()"),
        ("assert batch_size < 64", "__lt__ of q.size0"),
        ("assert q_fp8.dtype == torch.float8_e4m3fn", "fp8 == float8_e4m3fn"),
        ("assert weights is not torch.nothing", "is torch.nothing"),
        ("assert weights.dtype.is_floating_point", "is_floating_point"),
        ("assert {torch.nothing: 1}", "a look-up of torch.nothing"),
        ("import triton.nowhere", "whether there is triton.nowhere"),
        ("import importlib; importlib.import_module('aiter.' + 'nowhere')", "whether there is aiter.nowhere"),
        ("assert hasattr(torch.Tensor, 'nothing')", "whether it has nothing"),
        ("assert open('/etc/aiter').read()", "a file"),
        ("import socket; assert socket.create_connection(('localhost', 1))", "truth of socket.create_connection()"),
    ],
)
def test_what_a_stand_in_would_decide_is_not_said(tmp_path: Path, new: str, why: str) -> None:
    """A question to torch, a size that no page decides, a file, the network: no answer of a stand-in counts."""
    source, told, _ = run(changed(tmp_path, LOGITS, "    if Preshuffle:\n", f"    {new}\n    if Preshuffle:\n"))
    assert source.calls == ()
    assert any(why in each for each in told["unsaid"]), told["unsaid"]


def test_what_an_engine_hands_may_be_asked(tmp_path: Path) -> None:
    """Dtypes and sizes of the arguments are those of a real call."""
    asked = "assert weights.dtype == torch.float32 and kv_cache.dtype == torch.uint8 and q_fp8.shape[3] == 128"
    source, _, _ = run(changed(tmp_path, LOGITS, "    if Preshuffle:\n", f"    {asked}\n    if Preshuffle:\n"))
    assert source.calls == ("tiles", "token", "flat")


def test_another_argument_than_the_kernel_takes_is_not_passed_over(tmp_path: Path) -> None:
    """Keys and scales in each other's place are launched by every Triton, and are no launch that fits."""
    source, told, _ = run(
        changed(tmp_path, LOGITS, "keys, keys.stride(0),\n        scales,", "scales, 4,\n        keys,")
    )
    assert source.calls == ()
    assert any("KV_buffer" in each for each in told["unsaid"])


def test_a_cache_kernel_is_taken_as_it_is_declared(tmp_path: Path) -> None:
    """A keyword that stands in no literal list is found; one that tiles by default is no declaration that is known."""
    text = AITER["ops/cache.py"]
    late = text.replace("preshuffle=False): ...", "preshuffle=bool(0)): ...", 1)
    source, told, _ = run(lay_out(tmp_path / "late", {"ops/cache.py": late}))
    assert source.store_preshuffle is True
    assert "store_preshuffle" in told["settled"]
    by_default = text.replace("preshuffle=False): ...", "preshuffle=bool(1)): ...", 1)
    source, told, _ = run(lay_out(tmp_path / "default", {"ops/cache.py": by_default}))
    assert source.store_preshuffle is None
    assert any("declared in another way" in each for each in told["unsaid"])


@pytest.mark.parametrize(
    ("act", "event"),
    [
        ("system.open({place!r}, system.O_CREAT | system.O_WRONLY)", "open"),
        ("system.mkdir({place!r})", "os.mkdir"),
        ("system.fork()", "os.fork"),
        ("system.system('touch {place}')", "os.system"),
        ("__import__('_socket').socket()", "socket.__new__"),
    ],
)
def test_what_reaches_past_the_stand_ins_is_refused(tmp_path: Path, act: str, event: str) -> None:
    """The real modules can be reached: nothing is opened, made, started or connected by them, and it is told."""
    place = tmp_path / "place"
    reach = "import re\nsystem = re.enum.sys.modules['os']\n__import__ = re.enum.sys.modules['builtins'].__import__\n"
    body = f"import torch\n{reach}{act.format(place=str(place))}\n"
    source, told, _ = run(changed(tmp_path, LOGITS, "import torch\n", body))
    assert source.calls == ()
    assert any(event in each for each in told["unsaid"]), told["unsaid"]
    assert not place.exists()


def test_the_environment_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the user's is not there to be read, and no GPU is visible."""
    monkeypatch.setenv("NSA_CAPS_SECRET", "secret")
    look = (
        "import re\nseen = re.enum.sys.modules['os'].environ\n"
        "assert 'NSA_CAPS_SECRET' not in seen and seen['HIP_VISIBLE_DEVICES'] == seen['CUDA_VISIBLE_DEVICES'] == ''\n"
    )
    source, _, _ = run(changed(tmp_path, LOGITS, "import torch\n", f"import torch\n{look}"))
    assert source.calls == ("tiles", "token", "flat")


def test_a_child_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """The answer is that without a dry run, and a note says why."""
    host = changed(tmp_path, LOGITS, "import torch\n", "import torch\nwhile True: pass\n")
    source, told, notes = run(host, limit=1.5)
    assert source == probe(host).aiter_source
    assert told["state"] == "failed"
    assert [note for note in notes if "did not end within 1.5 s" in note]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("x = [0]\nwhile True: x = x + x", "exit code|killed"),
        ("import re\nre.enum.sys.modules['os']._exit(3)", "exit code 3"),
    ],
    ids=["memory", "exit"],
)
def test_a_child_that_dies_is_a_note(tmp_path: Path, body: str, why: str) -> None:
    """Out of memory, or ended by the code itself: nothing is settled, nothing raised, and no answer invented."""
    host = changed(tmp_path, LOGITS, "import torch\n", f"import torch\n{body}\n")
    source, told, notes = run(host, limit=30.0)
    assert source == probe(host).aiter_source
    assert told["state"] == "failed"
    assert any(each in note for note in notes for each in why.split("|")), notes


def test_a_python_that_cannot_be_started_is_a_note(host: Host, tmp_path: Path) -> None:
    """So is one that is none."""
    _, told, notes = run(replace(host, environ={}), python=str(tmp_path / "no-python"))
    assert told["state"] == "failed"
    assert any("could not be started" in note for note in notes)


def test_what_aiter_prints_is_no_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes nowhere, whichever way it is printed, and the answer is the same."""
    loud = 'print("{}")\nimport warnings, logging\nwarnings.warn("loud")\nlogging.getLogger("x").error("loud")\n'
    loud += "import re\nre.enum.sys.stdout.write('{')\nre.enum.sys.stdout.flush()\n"
    loud += "re.enum.sys.modules['os'].write(1, b'{')\n"
    source, told, _ = run(changed(tmp_path, LOGITS, "import torch\n", f"import torch\n{loud}"))
    assert told["state"] == "executed"
    assert source.gluon_archs == ("gfx942", "gfx950")
    assert capfd.readouterr() == ("", "")


def test_reading_and_running_that_differ_are_unknown(host: Host) -> None:
    """Neither wins: the fact is unknown and both are named; what was read as no is never made a yes."""
    read = probe(host).aiter_source
    assert read is not None
    read = replace(read, gluon_archs=("gfx950",), calls=("token", "tiles"), gate_triton=None, logits_preshuffle=False)
    shows = replace(read, gluon_archs=("gfx942",), calls=("token",), gate_triton="3.6.0", logits_preshuffle=True)
    ran = Ran(schema_version=FILE_VERSION, digest="", shows=shows, refutes=("tiles",), unsaid=())
    after = settled(read, ran)
    assert (after.source.gluon_archs, after.source.calls, after.source.gate_triton) == (None, ("token",), "3.6.0")
    assert after.source.logits_preshuffle is False
    assert after.settled == ("gate_triton",)
    assert after.differs[0] == "gluon_archs: read as gfx950, executed as gfx942"
    assert after.differs[1].startswith("tiles: ")


def test_what_is_the_same_differs_in_nothing(host: Host) -> None:
    """A version in other words, a list in another order, and archs on which nothing was executed."""
    read = probe(host).aiter_source
    assert read is not None
    read = replace(read, gluon_triton="3.9", trimmed_by=("A", "B"), gluon_archs=("gfx942", "gfx1250"))
    shows = replace(read, gluon_triton="3.9.0", trimmed_by=("B", "A"), gluon_archs=("gfx942",), known_archs=("gfx942",))
    ran = Ran(schema_version=FILE_VERSION, digest="", shows=shows, refutes=(), unsaid=())
    after = settled(replace(read, known_archs=("gfx942",)), ran)
    assert (after.differs, after.source.gluon_archs) == ((), ("gfx942", "gfx1250"))


def test_an_arch_that_aiter_does_not_know_shows_no_difference(tmp_path: Path) -> None:
    """Without gfx1250 in GFX_MAP its waves are as they were read; so is what other archs get, where there is none."""
    few = "GFX_MAP = {0: 'native', 5: 'gfx942', 8: 'gfx950'}\n"
    host = lay_out(tmp_path, {"jit/utils/build_targets.py": few})
    read = probe(host).aiter_source
    assert read is not None
    found = after_dry_run(host, replace(read, gfx1250_waves=4, arch_gate="select"))
    assert found["extras"]["dry_run"]["differs"] == []
    assert (found["aiter_source"].gfx1250_waves, found["aiter_source"].arch_gate) == (4, "select")


def test_nothing_is_run_unless_asked(tmp_path: Path) -> None:
    """`probe` executes nothing; with `dry_run=True` it does, and says so."""
    host = lay_out(tmp_path)
    assert "dry_run" not in probe(host).extras
    assert not (tmp_path / "proofs").exists()
    assert probe(host, dry_run=True).extras["dry_run"]["state"] == "executed"
