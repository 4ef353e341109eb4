"""The command: exit codes, streams, formats and usage; what it says is tested where it is written."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packaging
import pytest

from nsa_caps import Capabilities, Host, decide, probe
from nsa_caps.capabilities.switches import VARIABLES
from nsa_caps.cli.main import main
from nsa_caps.testing import lay_out_packages, machine
from tests.hand import lay_out_nvcc
from tests.processes import uncounted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SOURCES = str(Path(__file__).parents[2] / "src")
COMMANDS = (
    ("report",),
    ("why", "aiter-flat"),
    ("what-if", "--triton", "3.8.0"),
    ("require", "aiter-preshuffle"),
    ("matrix",),
    ("snapshot",),
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return an MI300X whose Triton is too old for gluon."""
    environ = {"SGLANG_USE_AITER": "1"}
    return machine(tmp_path / "machine", archs=["gfx942"], triton="3.4.0", aiter="a6bb4993", environ=environ)


@pytest.fixture
def snapshot(tmp_path: Path, host: Host) -> str:
    """Return the path of that machine's snapshot."""
    path = tmp_path / "snapshot.json"
    path.write_text(probe(host).to_json(), encoding="utf-8")
    return str(path)


def document(capsys: pytest.CaptureFixture[str], *argv: str, host: Host | None = None) -> Any:
    """Return what the command prints with `--json`."""
    main([*argv, "--json"], host=host)
    return json.loads(capsys.readouterr().out)


def usage_error(capsys: pytest.CaptureFixture[str], *argv: str, host: Host | None = None) -> str:
    """Return the message of wrong usage, after checking that it is one: code 2 and nothing on stdout."""
    with pytest.raises(SystemExit) as stopped:
        main(argv, host=host)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()[-1]


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without this one's switches."""
    environ = {key: text for key, text in os.environ.items() if key not in VARIABLES} | options.pop("environ", {})
    command = [sys.executable, *options.pop("python", ()), "-m", "nsa_caps", *argv]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, **options)


def test_report_is_the_default(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """Without a command the report is printed, and a row that is chosen is a yes."""
    assert main([], host=host) == 0
    without = capsys.readouterr()
    assert main(["report"], host=host) == 0
    assert capsys.readouterr() == without
    assert without.out.startswith("aiter-token, page size 1: ")
    assert without.err == ""


def test_no_row_is_a_no(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A machine without torch is told that no row may be used, on stdout as ever, with code 1."""
    bare = machine(tmp_path, platform="unknown", torch=None, triton=None)
    assert main([], host=bare) == 1
    assert capsys.readouterr().out.startswith("No row may be used")
    assert document(capsys, host=bare)["layout"] is None


@pytest.mark.parametrize("command", ["why", "require"])
def test_the_chosen_row_is_a_yes_and_any_other_a_no(
    capsys: pytest.CaptureFixture[str], host: Host, command: str
) -> None:
    """`why` and `require` exit with 0 for the chosen row alone, and say why not for the others."""
    assert main([command, "aiter-token"], host=host) == 0
    assert capsys.readouterr().out == "aiter-token is chosen, page size 1\n"
    for row in ("aiter-preshuffle", "portable", "deepgemm"):
        assert main([command, row], host=host) == 1
        assert capsys.readouterr().out.startswith(row)
    assert document(capsys, command, "aiter-token", host=host)["answer"] is True
    answer = document(capsys, command, "aiter-preshuffle", host=host)
    assert (answer["command"], answer["answer"], answer["chosen"]) == (command, False, "aiter-token")
    assert [step["fix"] for step in answer["smallest_fix"]["steps"]] == ['pip install "triton>=3.5.0,<3.10"']


def test_require_takes_the_page_size_that_the_engine_will_ask_for(host: Host) -> None:
    """A page size belongs to the request: the row must be chosen under it."""
    assert main(["require", "aiter-token", "--page-size", "1"], host=host) == 0
    assert main(["require", "aiter-token", "--page-size", "64"], host=host) == 1
    assert main(["require", "portable", "--page-size", "64"], host=host) == 0


def test_an_image_is_asked_about_gpus_that_its_builder_lacks(tmp_path: Path) -> None:
    """Where an image is built there is no GPU: `require` and `why` take the changes that `what-if` takes."""
    environ = {"SGLANG_USE_AITER": "1"}
    builder = machine(tmp_path, archs=(), triton="3.6.0", aiter="a6bb4993", environ=environ)
    for command in ("require", "why"):
        assert main([command, "aiter-preshuffle"], host=builder) == 1
        assert main([command, "aiter-preshuffle", "--arch", "gfx942"], host=builder) == 0
        assert main([command, "aiter-preshuffle", "--arch", "gfx90a"], host=builder) == 1
        assert main([command, "aiter-preshuffle", "--arch", "gfx942", "--triton", "3.4.0"], host=builder) == 1


def test_an_answer_says_what_was_supposed(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """Whoever reads the answer of `require` in a log or as JSON sees that it is not of the machine as it is."""
    assert main(["require", "aiter-preshuffle", "--triton", "3.6.0", "--arch", "gfx950"], host=host) == 0
    said = "what if:   triton 3.6.0, arch gfx950\n\naiter-preshuffle is chosen, page size 64\n"
    assert capsys.readouterr().out == said
    answer = document(capsys, "require", "aiter-preshuffle", "--triton", "3.6.0", host=host)
    assert [change["text"] for change in answer["changes"]] == ['pip install "triton>=3.6.0,<3.10"']
    assert document(capsys, "require", "aiter-preshuffle", host=host)["changes"] == []


def test_a_forced_row_is_no_yes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A row that runs by force alone does not satisfy `require`, and warns nobody on stdout."""
    environ = {"SGLANG_USE_AITER": "1", "NSA_CAPS_ROW": "aiter-preshuffle", "NSA_CAPS_ROW_FORCE": "1"}
    forced = machine(tmp_path, archs=["gfx942"], triton="3.4.0", aiter="a6bb4993", environ=environ)
    assert main(["require", "aiter-preshuffle"], host=forced) == 1
    assert "forced all the same" in capsys.readouterr().out
    shown = document(capsys, host=forced)
    assert (shown["decision"]["forced"], shown["layout"]["row"]) == (True, "aiter-preshuffle")
    answer = document(capsys, "require", "aiter-preshuffle", host=forced)
    assert (answer["answer"], answer["forced"]) == (False, True)


@pytest.mark.parametrize(
    ("changes", "row", "page_size"),
    [
        (("--triton", "3.6.0"), "aiter-preshuffle", 64),
        (("--triton", "3.6.0", "--unset", "SGLANG_USE_AITER"), "aiter-token", 1),
        (("--triton", "3.6.0", "--set", "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE=1"), "aiter-token", 1),
        (("--triton", "3.6.0", "--set", "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS=1"), "portable", 64),
        (("--triton", "3.6.0", "--set", "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS=true"), "aiter-preshuffle", 64),
        (("--triton", "3.6.0", "--arch", "gfx90a"), "portable", 64),
        (("--arch", "sm_80"), "portable", 64),
        (("--aiter", "0.1.16", "--triton", "3.5.1"), "portable", 64),
        (("--aiter", "0.1.16", "--triton", "3.5.1", "--set", "AITER_USE_SYSTEM_TRITON=1"), "aiter-preshuffle", 64),
        (("--aiter", "main", "--triton", "3.6.0", "--arch", "gfx1151"), "aiter-flat", 64),
        (("--aiter", "3b2e6f48", "--triton", "3.5.1"), "portable", 64),
        (("--aiter", "0.1.15", "--triton", "3.6.0"), "aiter-preshuffle", 64),
    ],
)
def test_what_if(
    capsys: pytest.CaptureFixture[str], host: Host, changes: tuple[str, ...], row: str, page_size: int
) -> None:
    """Changes are made in order, and what is chosen with and without them is told."""
    shown = document(capsys, "what-if", *changes, host=host)
    assert (shown["decision"]["chosen"], shown["decision"]["page_size"]) == (row, page_size)
    assert shown["before"] == {"chosen": "aiter-token", "page_size": 1}
    # A GPU of another vendor comes with a torch for it.
    assert len([change for change in shown["changes"] if change["kind"] != "torch"]) == len(changes) // 2
    assert main(["what-if", *changes], host=host) == 0
    assert f"\n\n{row}, page size {page_size}: " in capsys.readouterr().out


def test_what_if_notes_are_those_of_the_changed_machine(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """A value that two consumers read differently is noted when it is tried out, not only when it is set."""
    main(["what-if", "--set", "SGLANG_USE_AITER=yes"], host=host)
    printed = capsys.readouterr()
    assert "note: SGLANG_USE_AITER: 'yes' is " in printed.err
    assert "note:" not in printed.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("what-if",), "what-if needs a change"),
        (("what-if", "--set", "TRITON_CACHE_DIR=/x"), "those that one does are NSA_CAPS_USE_AITER, "),
        (("what-if", "--unset", "HOME"), "those that one does are NSA_CAPS_USE_AITER, "),
        (("what-if", "--set", "SGLANG_USE_AITER"), "write SGLANG_USE_AITER=VALUE, or --unset SGLANG_USE_AITER"),
        (("what-if", "--arch", "mi300x"), "one looks like gfx942 or sm_90"),
        (("what-if", "--arch", "MI300X"), "MI300X is gfx942"),
        (("what-if", "--arch", "h100"), "H100 is sm_90"),
        (("what-if", "--arch", "SM90"), "Did you mean sm_90?"),
        (("what-if", "--arch", "sm_999"), "'sm_999' is no arch"),
        (("what-if", "--arch", "gfx9999"), "'gfx9999' is no arch"),
        (("what-if", "--arch", "gfx942", "--arch", "gfx950"), "--arch is given twice; one of gfx942 and gfx950 can be"),
        (("what-if", "--set", "GPU_ARCHS=a", "--unset", "GPU_ARCHS"), "GPU_ARCHS is given twice"),
        (("what-if", "--triton", "banana"), "'banana' is no version"),
        (("what-if", "triton=3.8.0"), "Did you mean --triton 3.8.0?"),
        (("what-if", "--trtion", "3.8.0"), "Did you mean --triton?"),
        (("what-if", "--set", "SGLANG_USE_AITR=1"), "Did you mean SGLANG_USE_AITER?"),
        (("what-if", "--set", "NSA_CAPS_PLUGINS=1"), "NSA_CAPS_PLUGINS is read before anything is supposed"),
        (("what-if", "--package", "triton=3.6.0"), "for triton there is --triton"),
        (("what-if", "--package", "deepgemm"), "Did you mean deep_gemm?"),
        (("what-if", "--package", "deep_gemm=new"), "'new' is no version"),
        (("what-if", "--package", "cuda=new"), "'new' is no version"),
        (("what-if", "--aiter", "0.1.10"), "known are d36601a9, "),
        (("why", "Portable"), "Did you mean portable?"),
        (("why", "portabl"), "Did you mean portable?"),
        (("requre", "portable"), "Did you mean require?"),
        (("report", "--engine", "sglan"), "Did you mean sglang?"),
        (("--output", "/nonexistent/folder/report.txt"), "--output /nonexistent/folder/report.txt: "),
        (("why",), "ROW"),
        (("why", "fastest"), "there are aiter-preshuffle, "),
        (("require", "fastest"), "there are aiter-preshuffle, "),
        (("report", "--engine", "trtllm"), "sglang"),
        (("--page-size", "0"), "page_size is 0, needs a whole number from 1 to 2147483647"),
        (("--page-size", "9" * 4000), "page_size is a number of 13288 bits, needs a whole number"),
        (("\x1b[31m",), "'\\x1b[31m'"),
        (("report", "\x1b[31m"), "unrecognized arguments: \\x1b[31m"),
        (("compare",), "compare needs its machines"),
        (("--heads", "many"), "--heads"),
        (("--from", "/nonexistent/machine.json"), "--from /nonexistent/machine.json: "),
        (("matrix", "--svg", "/nonexistent/folder/matrix.svg"), "--svg /nonexistent/folder/matrix.svg: "),
        (("contrast",), "contrast"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], host: Host, argv: tuple[str, ...], message: str) -> None:
    """What cannot be asked is code 2 with what could be, and no data."""
    assert message in usage_error(capsys, *argv, host=host)


def test_an_error_is_two_lines_of_the_command_that_it_is_about(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """The usage of that command in one line, and the message."""
    for argv in (("why", "Portable"), ("why",), ("why", "portable", "--no")):
        with pytest.raises(SystemExit):
            main(argv, host=host)
        usage, message = capsys.readouterr().err.splitlines()
        assert usage == "usage: nsa-caps why [OPTION ...] ROW"
        assert message.startswith("nsa-caps why: error: ")


def test_an_empty_object_is_no_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What names nothing of a machine is none, and the message names the file."""
    path = tmp_path / "empty.json"
    path.write_text("{}")
    assert f"--from {path}: names no platform" in usage_error(capsys, "--from", str(path))


def test_closed_stdout_is_told() -> None:
    """Without a stdout nothing can be answered: an error in words, not a traceback."""
    command = f"exec {sys.executable} -m nsa_caps --machine h200 >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "nsa-caps: error: stdout is closed\n")


def test_a_package_is_supposed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A laptop is asked what DeepGEMM would bring on an H200."""
    laptop = machine(tmp_path, platform="cuda", archs=["sm_90"], torch="2.11.0+cu130", triton="3.6.0")
    lay_out_nvcc(tmp_path / "root")
    shown = document(capsys, "what-if", "--package", "deep-gemm=0.1.5", host=laptop)
    assert (shown["before"]["chosen"], shown["decision"]["chosen"]) == ("portable", "deepgemm")
    assert shown["capabilities"]["deep_gemm"]["version"] == "0.1.5"
    assert shown["changes"][0]["text"] == "pip install sgl-deep-gemm==0.1.5"


def test_a_laptop_is_asked_about_an_h200(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """GPU, torch, DeepGEMM and the toolkit can be supposed; the torch fits that DeepGEMM, or is the one named."""
    bare = machine(tmp_path, platform="cpu", triton="3.6.0")
    changes = ("what-if", "--arch", "sm_90", "--package", "deep_gemm", "--package", "cuda")
    assert document(capsys, *changes, host=bare)["decision"]["chosen"] == "deepgemm"
    assert main(changes, host=bare) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "what if: arch sm_90, sgl-deep-gemm, the CUDA toolkit, a torch built for cuda deepgemm, page size 64" in told
    named = document(capsys, *changes, "--package", "torch=2.11.0+cu128", host=bare)
    assert (named["decision"]["chosen"], named["capabilities"]["build"]) == ("portable", "12.8")


def test_a_package_that_does_not_fit_is_no_help(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The index's DeepGEMM is for CUDA 13: beside a torch for CUDA 12 it stays at the portable row."""
    laptop = machine(tmp_path, platform="cuda", archs=["sm_90"], torch="2.11.0+cu128", triton="3.6.0")
    lay_out_nvcc(tmp_path / "root")
    shown = document(capsys, "what-if", "--package", "deep-gemm=0.1.5", host=laptop)
    assert shown["decision"]["chosen"] == "portable"


def test_the_matrix_of_another_aiter(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """`matrix` takes the changes of software that `what-if` takes, and says so."""
    other = document(capsys, "matrix", "--aiter", "main", host=host)
    assert other["aiter"]["version"] == "04907edc"
    assert main(["matrix", "--unset", "SGLANG_USE_AITER"], host=host) == 0
    assert capsys.readouterr().out.startswith("what if:   SGLANG_USE_AITER unset\n\nIndexer row by Triton version")


def test_a_forced_row_that_there_is_none_of_names_the_variable(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A typing error in NSA_CAPS_ROW is told as one in that variable."""
    mistyped = machine(tmp_path, environ={"NSA_CAPS_ROW": "portible"})
    assert "NSA_CAPS_ROW: there is no row 'portible'" in usage_error(capsys, host=mistyped)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is none"),
        ("[]", "snapshot: holds [], needs an object"),
        ('{"schema_version": 99}', "schema_version is 99"),
        ('{"platform": "amd"}', "snapshot.platform: holds 'amd', needs one of 'rocm'"),
        ('{"colour": 1}', "unknown field 'colour'"),
    ],
)
def test_no_snapshot(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str) -> None:
    """A file that is no snapshot is wrong usage, and the message says what is wrong with it."""
    path = tmp_path / "snapshot.json"
    path.write_text(text, encoding="utf-8")
    assert message in usage_error(capsys, "--from", str(path))


def test_a_snapshot_that_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file that is not UTF-8 is wrong usage."""
    path = tmp_path / "snapshot.json"
    path.write_bytes(b"\xff\xfe{}")
    assert f"--from {path}: " in usage_error(capsys, "--from", str(path))


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_a_snapshot_answers_as_its_machine_does(
    capsys: pytest.CaptureFixture[str], host: Host, snapshot: str, argv: tuple[str, ...]
) -> None:
    """Every command says of a snapshot exactly what it says of the machine, in text and in JSON."""
    for form in ((), ("--json",)):
        codes = main([*argv, *form], host=host), main([*argv, *form, "--from", snapshot])
        printed = capsys.readouterr().out
        half = len(printed) // 2
        assert codes[0] == codes[1]
        assert printed[:half] == printed[half:]


def test_a_snapshot_from_stdin(capsys: pytest.CaptureFixture[str], host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `snapshot` prints is what `--from -` reads, and nothing is lost between."""
    assert main(["snapshot"], host=host) == 0
    text = capsys.readouterr().out
    assert Capabilities.from_json(text) == probe(host)
    # The stream is the process's: there is no argument to hand another one in.
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert main(["--from", "-"]) == 0
    assert capsys.readouterr().out.startswith("aiter-token, page size 1: ")


def test_a_snapshot_can_be_read_for_another_engine(capsys: pytest.CaptureFixture[str], snapshot: str) -> None:
    """`--engine` reads a snapshot's variables again; without it the snapshot's own engine stands."""
    assert document(capsys, "--from", snapshot)["capabilities"]["engine"] == "sglang"
    other = document(capsys, "--from", snapshot, "--engine", "vllm")["capabilities"]
    assert other["engine"] == "vllm"
    assert other["switches"]["use_aiter"]["value"] is False
    assert other["variables"] == {"SGLANG_USE_AITER": "1"}


def test_options_may_stand_before_the_command(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """An option that all commands have means the same before and behind the command's name."""
    for argv in (["--json", "--heads", "32", "why", "portable"], ["why", "portable", "--json", "--heads", "32"]):
        main(argv, host=host)
        shown = json.loads(capsys.readouterr().out)
        assert (shown["command"], shown["request"]["heads"]) == ("why", 32)


def test_request_options_reach_the_decision(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """Heads, page size and kpool are the request's, and what is not given stays the default."""
    shown = document(capsys, "--heads", "32", "--page-size", "1", "--index-kpool", "4", host=host)
    assert shown["decision"]["request"] == {
        "heads": 32, "head_dim": 128, "quant_block_size": 128, "index_kpool": 4, "page_size": 1, "rows": None,
        "scale_format": None, "rotated": None,
    }  # fmt: skip
    assert shown["layout"]["model_page_size"] == 4


def test_notes_go_to_stderr_in_text_and_into_the_document_in_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Stdout holds data alone: notes are on stderr, or in the document."""
    noted = machine(tmp_path, environ={"SGLANG_USE_AITER": "yes"})
    main([], host=noted)
    printed = capsys.readouterr()
    assert "note: SGLANG_USE_AITER: " in printed.err
    assert "note:" not in printed.out
    main(["--json"], host=noted)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert any(note["source"] == "SGLANG_USE_AITER" for note in json.loads(printed.out)["capabilities"]["notes"])


class Unreadable(dict[str, str]):
    """An environment that breaks whoever looks."""

    def __contains__(self, key: object) -> bool:
        """Break."""
        raise RuntimeError("out of order")

    get = __getitem__ = __contains__  # type: ignore[assignment]


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_a_probe_that_fails_is_code_3_and_the_rest_is_still_reported(
    capsys: pytest.CaptureFixture[str], host: Host, argv: tuple[str, ...]
) -> None:
    """Where a probe of this library breaks, what is known is printed, and no verdict exits with 0 or 1."""
    broken = Host(Unreadable(), host.search_path, host.modules, host.root)
    assert main(argv, host=broken) == 3
    printed = capsys.readouterr()
    assert "nsa-caps: error: probe switches failed with RuntimeError: out of order\n" in printed.err
    assert "note: probe" not in printed.err
    assert printed.out


class Broken(io.StringIO):
    """A stream whose failing is nobody's plan."""

    def write(self, text: str, /) -> int:
        """Break."""
        raise RuntimeError(f"cannot take {len(text)} letters")


def test_the_command_itself_failing_is_no_no(capsys: pytest.CaptureFixture[str], host: Host) -> None:
    """An error that nobody foresaw, whose traceback would exit with 1, exits with 3."""
    with contextlib.redirect_stdout(Broken()):
        assert main([], host=host) == 3
    assert "Traceback" in capsys.readouterr().err


def test_python_m_and_without_assertions(snapshot: str) -> None:
    """`python -m nsa_caps` works, also under -O, and says the same."""
    plain, optimised = run("--from", snapshot), run("--from", snapshot, python=("-O",))
    assert (plain.returncode, plain.stderr) == (0, "")
    assert plain.stdout.startswith("aiter-token, page size 1: ")
    assert (optimised.returncode, optimised.stdout, optimised.stderr) == (0, plain.stdout, "")


def test_the_quick_path_imports_little() -> None:
    """A report as JSON loads neither what decides nothing nor what only other commands need."""
    heavy = (
        *("torch", "triton", "aiter", "numpy", "rich", "importlib_metadata"),
        *("nsa_caps.report.matrix", "nsa_caps.report.matrix_svg", "nsa_caps.agreement", "nsa_caps.testing"),
    )
    code = f"import sys; from nsa_caps.cli import main; main(); sys.exit(str(set({heavy}) & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", code, "--json"], env=uncounted(), capture_output=True, text=True, check=False
    )
    assert ended.stderr == "set()\n"
    assert json.loads(ended.stdout)["command"] == "report"


def test_help_names_every_command_and_exit_code() -> None:
    """The help lists the commands and what the exit codes mean."""
    shown = run("--help").stdout
    assert all(f"    {command[0]} " in shown for command in COMMANDS)
    assert "0 yes, 1 no, 2 wrong usage, 3" in shown


def test_ctrl_c_ends_the_command_without_a_traceback() -> None:
    """By 130, as a shell says of it; whoever calls `main` as a function is interrupted."""
    body = """
import io, os, signal, sys
from nsa_caps.cli.main import main
class Interrupted(io.StringIO):
    def read(self, size=-1):
        os.kill(os.getpid(), signal.SIGINT)
        return ""
sys.stdin = Interrupted()
"""
    for call, code in (("sys.exit(main())", 130), ("main(sys.argv[1:])", -2)):
        done = subprocess.run(
            [sys.executable, "-c", body + call, "compare", "-"],
            env=uncounted(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, code == -2), done.stderr


def test_a_closed_pipe_is_no_error(snapshot: str) -> None:
    """A reader that goes away leaves the verdict's code and no traceback."""
    command = [sys.executable, "-m", "nsa_caps", "require", "aiter-preshuffle", "--from", snapshot]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_told(snapshot: str) -> None:
    """Data that could not be written is an error in words, not a verdict."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "nsa_caps", "--from", snapshot]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (3, "nsa-caps: error: [Errno 28] No space left on device\n")


def test_an_encoding_that_lacks_a_letter(tmp_path: Path, host: Host) -> None:
    """A path that stdout's encoding cannot hold is spelled out."""
    path = tmp_path / "snapshot.json"
    path.write_text(probe(host).replace(platform_source="/opt/müsli: hip = 7").to_json(), encoding="utf-8")
    ended = run("--from", str(path), environ={"PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "/opt/m\\xfcsli: hip = 7" in ended.stdout


def on_a_terminal(
    snapshot: str, environ: Mapping[str, str], *python: str, columns: int = 80, options: Sequence[str] = ()
) -> str:
    """Return what the command prints on a terminal of so many columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    unset = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TERM", "COLUMNS")
    settings = {key: text for key, text in os.environ.items() if key not in unset}
    settings |= {"TERM": "xterm-256color", **environ}
    command = [sys.executable, *(python or ("-m", "nsa_caps")), "--from", snapshot, *options]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=settings) as process:
        os.close(follower)
        printed = b"".join(read_all(leader))
        assert process.wait() == 0
    os.close(leader)
    return printed.decode().replace("\r\n", "\n")


def read_all(terminal: int) -> Iterator[bytes]:
    """Read to the end, which Linux tells by an error."""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            return
        if not data:
            return
        yield data


def test_colour_only_where_it_is_wanted(snapshot: str) -> None:
    """A terminal gets colour, but not with NO_COLOR, a dumb terminal or without rich; an empty NO_COLOR is none."""
    plain = run("--from", snapshot).stdout
    assert "\x1b" not in plain
    coloured = on_a_terminal(snapshot, {"NO_COLOR": ""})
    assert coloured.startswith("\x1b[1;33maiter-token, page size 1\x1b[0m: "), "a fallback is yellow"
    assert "\x1b[33m  warning: \x1b[0m" in coloured
    assert on_a_terminal(snapshot, {"NO_COLOR": "1"}) == plain
    assert on_a_terminal(snapshot, {"TERM": "dumb"}) == plain
    without_rich = "import sys; sys.modules['rich.console'] = None; from nsa_caps.cli import main; sys.exit(main())"
    assert on_a_terminal(snapshot, {}, "-c", without_rich) == plain


def test_colour_by_option(snapshot: str) -> None:
    """`--color` comes before every variable, FORCE_COLOR colours a pipe, and NO_COLOR comes before that."""
    assert "\x1b[1;33m" in run("--from", snapshot, "--color", "always", environ={"NO_COLOR": "1"}).stdout
    assert "\x1b" not in run("--from", snapshot, "--color", "never", environ={"FORCE_COLOR": "1"}).stdout
    assert "\x1b[1;33m" in run("--from", snapshot, environ={"FORCE_COLOR": "1"}).stdout
    assert "\x1b[1;33m" in run("--from", snapshot, environ={"CLICOLOR_FORCE": "1"}).stdout
    assert "\x1b" not in run("--from", snapshot, environ={"FORCE_COLOR": "1", "NO_COLOR": "1"}).stdout
    assert "\x1b" not in on_a_terminal(snapshot, {}, options=("--color", "never"))


def test_the_best_row_is_green(tmp_path: Path) -> None:
    """Green is for the best row of the platform alone."""
    path = tmp_path / "best.json"
    path.write_text(probe(machine(tmp_path / "m", platform="cpu", triton=None)).to_json(), encoding="utf-8")
    assert run("--from", str(path), "--color", "always").stdout.startswith("\x1b[1;32mreference, page size 64")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_text_is_as_wide_as_the_terminal(snapshot: str, columns: int) -> None:
    """No line is longer than the terminal unless it has one word alone that is, and rich breaks them as we do."""
    coloured = on_a_terminal(snapshot, {}, columns=columns)
    bare = on_a_terminal(snapshot, {"NO_COLOR": "1"}, columns=columns)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == bare
    long = [line for line in bare.splitlines() if len(line) > columns]
    assert all(len(line.split()) == 1 for line in long)
    assert max(map(len, bare.splitlines())) > columns - 20


def test_what_has_no_blank_stays_whole(snapshot: str) -> None:
    """A path can be copied from a terminal too narrow for it: it is neither cut nor broken."""
    source = json.loads(run("--from", snapshot, "--json").stdout)["capabilities"]["devices"][0]["source"]
    (path,) = (word for word in source.split() if word.startswith("/"))
    assert path in on_a_terminal(snapshot, {}, columns=40)


def test_a_named_machine_is_asked_by_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`--machine` answers for a machine that nobody has at hand, and says that it is one; dashes are as good."""
    assert main(["--machine", "MI300X-rocm700"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("aiter-token, page size 1: ")
    assert "machine    mi300x_rocm700, laid out from its description" in told
    assert tempfile.gettempdir() not in told
    assert main(["require", "aiter-preshuffle", "--machine", "mi300x_rocm720"]) == 0
    assert main(["why", "deepgemm", "--machine", "h200"]) == 0
    assert main(["what-if", "--triton", "3.6.0", "--machine", "mi300x_rocm700"]) == 0
    assert main(["matrix", "--machine", "mi355x"]) == 0
    capsys.readouterr()
    snapshot = document(capsys, "snapshot", "--machine", "h200")
    assert decide(Capabilities.from_dict(snapshot)).chosen == "deepgemm"


def test_the_tour_shows_what_it_is_for_on_any_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also without torch: this machine's answer, and beside it those of machines that people know; never a no."""
    bare = machine(tmp_path, platform="unknown", torch=None, triton=None)
    assert main(["tour"], host=bare) == 0
    text = capsys.readouterr().out
    assert "No row may be used" in text
    told = document(capsys, "tour", host=bare)
    answers = {each["name"]: (each["chosen"], each["page_size"]) for each in told["machines"]}
    assert answers["mi300x_rocm700"] == ("aiter-token", 1)
    assert answers["mi300x_rocm720"] == answers["mi355x"] == ("aiter-preshuffle", 64)
    assert answers["mi250x"] == ("portable", 64)
    assert answers["cpu_only"] == ("reference", 64)
    assert all(name in text for name in answers)
    reasons = {each["name"]: each["reason"] and each["reason"]["code"] for each in told["machines"]}
    assert (reasons["mi300x_rocm700"], reasons["mi300x_rocm720"]) == ("triton.too-old", None)
    assert max(map(len, text.splitlines())) <= 80


def test_the_python_that_was_asked_is_told(tmp_path: Path) -> None:
    """The report names this Python and where it looks packages up, in text and in a snapshot."""
    told = run("report", cwd=tmp_path).stdout
    assert f"python     {sys.executable} " in told
    assert "\npackages   " in told
    system = json.loads(run("snapshot", cwd=tmp_path).stdout)["extras"]["system"]
    assert system["python"] == sys.executable
    assert all(folder.endswith("-packages") for folder in system["folders"])


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """Return an environment whose Python has a torch of its own, a ROCm build."""
    folder = tmp_path / "other"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3.*/site-packages")
    lay_out_packages(site, platform="rocm", torch="2.9.1", triton="3.6.0")
    return folder


def test_another_python_is_asked(tmp_path: Path, other_python: Path) -> None:
    """`--python` takes a path or an environment's folder, and tells of that Python's packages."""
    for given in (other_python, other_python / "bin/python"):
        told = run("--python", str(given), cwd=tmp_path).stdout
        assert "platform   rocm" in told
        assert f"python     {other_python}/bin/python" in told


@pytest.mark.parametrize("given", ["no/such/python", sys.prefix + "/no", "/bin/false"])
def test_a_python_that_there_is_none_of(capsys: pytest.CaptureFixture[str], given: str) -> None:
    """What does not answer as a Python does is wrong usage, and the message names it."""
    assert f"--python {given}: " in usage_error(capsys, "--python", given)


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX", "PATH"])
def test_where_torch_is_elsewhere_it_is_pointed_at(tmp_path: Path, other_python: Path, variable: str) -> None:
    """An active environment whose Python has a torch is named where the one that was asked has none."""
    venv.create(tmp_path / "bare", symlinks=True)
    value = str(other_python / "bin") + os.pathsep + os.environ["PATH"] if variable == "PATH" else str(other_python)
    site = os.path.dirname(os.path.dirname(packaging.__file__))
    for name in ("packaging",):
        (only,) = (tmp_path / "bare").glob("lib/python3.*/site-packages")
        (only / name).symlink_to(os.path.join(site, name))
    done = subprocess.run(
        [str(tmp_path / "bare/bin/python"), "-m", "nsa_caps"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, variable: value},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"nsa-caps --python {other_python}/bin/python" in " ".join(done.stderr.split())


def test_one_machine_at_a_time(capsys: pytest.CaptureFixture[str], snapshot: str) -> None:
    """Two ways to name the machine contradict each other."""
    assert "one machine at a time" in usage_error(capsys, "--machine", "h200", "--from", snapshot)
    assert "one machine at a time" in usage_error(capsys, "--machine", "h200", "--machine", "a100")
    assert "Did you mean h200?" in usage_error(capsys, "--machine", "h201")
    assert "Did you mean mi300x_rocm700?" in usage_error(capsys, "--machine", "mi300")
    assert "is no program that can be run" in usage_error(capsys, "--python", snapshot)


def test_an_arch_comes_with_the_torch_that_it_needs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Asked about a GPU on a machine without torch, the answer is that of a machine with a torch for that GPU."""
    bare = machine(tmp_path, platform="unknown", torch=None, triton="3.6.0")
    assert main(("what-if", "--arch", "gfx1151"), host=bare) == 0
    assert "\nportable, page size 64" in capsys.readouterr().out
