"""`nsa-caps compare`: who shares a layout in a fleet, and what sets the others apart."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from nsa_caps import Capabilities, Request, probe, select_indexer_layout
from nsa_caps.agreement.fleet import compare, documents
from nsa_caps.capabilities.system import System, with_system
from nsa_caps.cli.main import main
from nsa_caps.testing import machine

from .jobs import environ

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AITER = {"SGLANG_USE_AITER": "1"}
SPECS: dict[str, dict[str, Any]] = {
    "new": {"archs": ["gfx942"] * 8, "aiter": "a6bb4993", "environ": AITER},
    "newer": {"archs": ["gfx942"] * 8, "aiter": "a6bb4993", "environ": AITER, "triton": "3.8.0"},
    "old": {"archs": ["gfx942"] * 8, "aiter": "a6bb4993", "environ": AITER, "triton": "3.4.0"},
    "mi350": {"archs": ["gfx950"] * 8, "aiter": "a6bb4993", "environ": AITER},
    "hopper": {"platform": "cuda", "archs": ["sm_90"], "deep_gemm": "2.1.0"},
    "ampere": {"platform": "cuda", "archs": ["sm_80"]},
    "bare": {"platform": "unknown", "torch": None, "triton": None},
}


@pytest.fixture(scope="module")
def caps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Capabilities]:
    """Return one machine of each kind."""
    return {name: probe(machine(tmp_path_factory.mktemp(name), **spec)) for name, spec in SPECS.items()}


@pytest.fixture
def files(tmp_path: Path, caps: dict[str, Capabilities]) -> dict[str, str]:
    """Return the path of each machine's snapshot."""
    paths = {}
    for name, each in caps.items():
        path = tmp_path / f"{name}.json"
        path.write_text(each.to_json())
        paths[name] = str(path)
    return paths


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """Return what the command prints with `--json`."""
    main(["compare", "--json", *argv])
    return json.loads(capsys.readouterr().out)


def usage_error(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Return the message of wrong usage, after checking that it is one."""
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *argv])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()[-1]


def test_machines_of_one_layout_are_a_yes(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    """Other versions with equal pages are one group and code 0."""
    assert main(["compare", files["new"], files["newer"], files["new"]]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("3 machines share one layout:\n  - 3 x aiter-preshuffle, pages of 64, tiles, ")
    assert (printed.err, "against" in printed.out) == ("", False)
    assert main(["compare", files["new"]]) == 0
    assert capsys.readouterr().out.startswith("1 machine has one layout:\n")


def test_rows_that_bring_equal_pages_are_one_group(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    """DeepGEMM and our kernels read the same pages: a fleet may mix them, and both are named."""
    assert main(["compare", files["hopper"], files["ampere"], files["hopper"]]) == 0
    assert "deepgemm or portable, pages of 64, flat, e4m3fn [" in capsys.readouterr().out


def test_groups_come_with_what_sets_them_apart(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    """The largest group leads; each other one differs from it in fields, by evidence, with a fix; the answer is no."""
    assert main(["compare", *(files[name] for name in ("old", "new", "mi350", "newer", "bare", "old", "new"))]) == 1
    head, old, mi350, bare = capsys.readouterr().out.split("\n\n")
    assert head.splitlines()[0] == "7 machines in 4 groups:"
    assert " ".join(head.split()).count(" - ") == 4
    old, mi350, bare = (" ".join(text.split()) for text in (old, mi350, bare))
    assert f"{files['old']} and 1 more, against {files['new']} and 2 more:" in old
    assert "page_size 1, not 64" in old
    assert "Triton 3.4.0; needs Triton >= 3.5.0" in old
    assert "/site/triton/__init__.py), not 3.6.0" in old
    assert 'fix: pip install "triton>=3.5.0,<3.10"' in old
    assert "dialect e4m3fn, not e4m3fnuz" in mi350
    assert "fix:" not in mi350
    assert "no layout: each row is refused" in bare
    assert "torch missing" in bare


def test_the_document_says_the_same_as_data(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    """Groups by fingerprint, parties by facts, and the differences field by field."""
    found = document(capsys, files["old"], files["new"], files["newer"], files["new"])
    new, old = found["groups"]
    assert (found["answer"], found["count"]) == (False, 4)
    assert [(each["count"], each["names"]) for each in new["parties"]] == [
        (2, [files["new"]] * 2), (1, [files["newer"]]),
    ]  # fmt: skip
    assert new["fingerprint"] != old["fingerprint"]
    assert (old["format"]["page_size"], old["format"]["order"], old["rows"]) == (1, "flat", ["aiter-token"])
    apart = old["parties"][0]["apart"]
    assert [field.partition(":")[0] for field in apart["fields"]] == [
        "row aiter-token, not aiter-preshuffle", "page_size 1, not 64", "order flat, not tiles",
    ]  # fmt: skip
    (fact,) = apart["facts"]
    assert (fact["name"], fact["value"], fact["instead_of"]) == ("triton", "3.4.0", "3.6.0")
    assert fact["source"].endswith("/site/triton/__init__.py")
    assert apart["fix"] == ['pip install "triton>=3.5.0,<3.10"']
    (within,) = new["parties"][1]["apart"]["facts"]
    assert (within["value"], new["parties"][1]["apart"]["fields"]) == ("3.8.0", [])


@pytest.mark.parametrize("names", [("new",), ("new", "old", "mi350", "bare"), ("bare", "bare"), ("hopper", "ampere")])
def test_the_document_follows_the_schema(
    capsys: pytest.CaptureFixture[str], files: dict[str, str], names: tuple[str, ...]
) -> None:
    """What `--json` prints is valid, and the schema refuses what is not."""
    schemas = [
        json.loads((resources.files("nsa_caps") / "schemas" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("report", "capabilities")
    ]
    registry: Registry[Any] = Registry().with_resources((each["$id"], Resource.from_contents(each)) for each in schemas)
    validator = Draft202012Validator(schemas[0], registry=registry)
    found = document(capsys, *(files[name] for name in names))
    validator.validate(found)
    changes: list[dict[str, Any]] = [{"count": "1"}, {"groups": [{}]}, {"colour": "red"}, {"command": "matrix"}]
    for change in changes:
        assert not validator.is_valid({**found, **change})


def test_machines_without_a_layout_share_none(capsys: pytest.CaptureFixture[str], files: dict[str, str]) -> None:
    """Two machines that no row may be used on are one group, and no yes."""
    assert main(["compare", files["bare"], files["bare"]]) == 1
    assert "2 machines in 1 group:\n  - 2 x no layout: each row is refused" in capsys.readouterr().out


def test_handshakes_are_compared_with_snapshots(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, str], caps: dict[str, Capabilities]
) -> None:
    """A handshake counts by its format; against a snapshot the facts that both have are told."""
    for name in ("new", "mi350"):
        handshake = select_indexer_layout(caps[name]).handshake()
        (tmp_path / f"{name}-handshake.json").write_text(json.dumps(handshake))
    same, other = (str(tmp_path / f"{name}-handshake.json") for name in ("new", "mi350"))
    assert main(["compare", files["new"], same]) == 0
    capsys.readouterr()
    assert main(["compare", files["new"], files["newer"], other]) == 1
    assert "dialect e4m3fn, not e4m3fnuz" in capsys.readouterr().out


@pytest.mark.parametrize("separator", ["\n", "", "\n\n", "  \r\n"])
@pytest.mark.parametrize("indent", [None, 2])
def test_standard_input_takes_documents_however_they_are_laid_out(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caps: dict[str, Capabilities],
    indent: int | None,
    separator: str,
) -> None:
    """One a line, as `nsa-caps snapshot` prints them, or nothing in between: each is named by its number."""
    texts = [json.dumps(caps[name].to_dict(), indent=indent) for name in ("new", "old", "new")]
    monkeypatch.setattr(sys, "stdin", io.StringIO(separator.join(texts) + separator))
    found = document(capsys, "-")
    assert [party["names"] for group in found["groups"] for party in group["parties"]] == [
        ["stdin:1", "stdin:3"], ["stdin:2"],
    ]  # fmt: skip


def test_a_file_of_many_names_them_by_number(capsys: pytest.CaptureFixture[str], tmp_path: Path, caps: Any) -> None:
    """Documents in one file are told apart."""
    path = tmp_path / "fleet.jsonl"
    path.write_text("\n".join(json.dumps(caps[name].to_dict()) for name in ("new", "new")))
    (group,) = document(capsys, str(path))["groups"]
    assert group["parties"][0]["names"] == [f"{path}:1", f"{path}:2"]


def test_the_request_and_the_engine_hold_for_all_snapshots(
    capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    """`--page-size` and `--engine` are asked of every machine, as of a single one."""
    assert main(["compare", files["new"], files["old"], "--page-size", "1"]) == 0
    assert "aiter-token, pages of 1" in capsys.readouterr().out
    (group,) = document(capsys, files["new"], "--engine", "vllm")["groups"]
    assert group["rows"] == ["aiter-token"]
    (group,) = document(capsys, files["new"], "--index-kpool", "2")["groups"]
    assert group["index_kpool"] == 2


def test_where_something_was_read_makes_no_other_kind(caps: dict[str, Capabilities]) -> None:
    """Machines that differ in paths and notes alone are of one kind; another arch or switch makes another."""
    here = caps["new"].to_dict()
    there = json.loads(json.dumps(here).replace("/site/", "/elsewhere/"))
    there["notes"] = [{"probe": "p", "source": "s", "text": "t"}]
    assert here != there
    other = json.loads(json.dumps(here))
    other["variables"]["SGLANG_USE_AITER"] = "true"
    other["switches"]["use_aiter"]["raw"] = "true"
    fleet = compare([("a", here), ("b", there), ("c", other)], Request())
    assert [party.names for group in fleet.groups for party in group.parties] == [("a", "b"), ("c",)]


def test_what_third_parties_found_makes_another_kind(caps: dict[str, Capabilities]) -> None:
    """A third party's probe may call anything `source`: its findings count whole, as its rows may ask for them."""
    machines = [(name, caps["new"].replace(extras={"party": {"source": name}}).to_dict()) for name in ("a", "b", "b")]
    fleet = compare(machines, Request())
    assert [party.names for group in fleet.groups for party in group.parties] == [("b", "b"), ("a",)]


def test_names_are_kept_up_to_a_thousand(caps: dict[str, Capabilities]) -> None:
    """Of each kind all machines are counted, and the first thousand named."""
    one = caps["new"].to_dict()
    (group,) = compare(((str(number), one) for number in range(1500)), Request()).groups
    assert (group.count, len(group.parties[0].names)) == (1500, 1000)


def test_a_machine_whose_row_is_misspelled_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, str]
) -> None:
    """A switch that names no row leaves that machine without a layout, and says so."""
    host = machine(tmp_path / "m", archs=["gfx942"], environ={"NSA_CAPS_ROW": "aiter-preshufle"})
    path = tmp_path / "misspelled.json"
    path.write_text(probe(host).to_json())
    assert main(["compare", files["new"], str(path)]) == 1
    assert "there is no row 'aiter-preshufle'" in capsys.readouterr().out


NO_MACHINE = {
    "": "is empty",
    "[]": "holds [], needs a snapshot or a handshake",
    "3": "holds 3, needs",
    "{": "is no JSON, or ends within a document",
    '{"a": 1} ': "snapshot: unknown field 'a'",
    '{"torch": 1}': "snapshot.torch: holds 1",
    '{"schema_version": 3}': "snapshot: schema_version is 3, this release reads 1 to 2",
    '{"schema_version": 2, "fingerprint": "", "format": 1}': "this handshake.format: holds 1",
    "[" * 100_000: "is no JSON",
    '{"fields": ' + "[" * 900 + "]" * 900 + "}": "is nested deeper than",
    '{"devices": [{"index": ' + "9" * 4000 + "}]}": "snapshot.devices[0].index: holds a number of more than 63 bits",
    '{"variables": {"\\u001b[31m": 5}}': "snapshot.variables.\\x1b[31m: holds 5",
    "\udc80": "codec can't decode",
}


@pytest.mark.parametrize(("text", "words"), NO_MACHINE.items(), ids=[text[:20] for text in NO_MACHINE])
def test_what_is_no_machine_is_named_and_the_rest_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, str], text: str, words: str
) -> None:
    """A document that is no machine is named with what is wrong; the machines are compared, and the answer is no."""
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    argv = ["compare", files["new"], str(path), files["newer"]]
    assert main(argv) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("2 machines share one layout:")
    assert f"No machine, 1 of 3 given: - {path}: " in " ".join(printed.split()).replace(f"{path}:1:", f"{path}:")
    assert words in " ".join(printed.split())
    found = document(capsys, *argv[1:])
    assert ([failure["name"] for failure in found["failures"]], found["answer"]) == ([str(path)], False)
    assert main(["compare", str(path)]) == 1


def test_a_broken_document_among_ten_thousand(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, caps: dict[str, Capabilities]
) -> None:
    """In a file of a machine a line, a line that is none is named by its number, and the others count."""
    line = json.dumps(caps["new"].to_dict())
    path = tmp_path / "fleet.jsonl"
    path.write_text("\n".join([line] * 3 + ['{"torch": '] + [line] * 3 + ["ssh: connect: no route"] + [line] * 2))
    found = document(capsys, str(path))
    assert (found["count"], [failure["name"] for failure in found["failures"]]) == (8, [f"{path}:4", f"{path}:8"])


def test_a_folder_is_its_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, str]) -> None:
    """A folder stands for its `.json` and `.jsonl` files; one without any is no machine."""
    (tmp_path / "none").mkdir()
    (tmp_path / "README.txt").write_text("no machine")
    found = document(capsys, str(tmp_path), str(tmp_path / "none"))
    assert (found["count"], [each["name"] for each in found["failures"]]) == (len(files), [str(tmp_path / "none")])


@pytest.mark.parametrize("command", [["compare"], ["report", "--from"]])
def test_a_pipe_without_a_writer_and_a_device_are_no_documents(tmp_path: Path, command: list[str]) -> None:
    """Neither is waited for, nor read to an end that it has not."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/zero"):
        done = subprocess.run(
            [sys.executable, "-m", "nsa_caps", *command, path],
            env=environ(), capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        assert done.returncode == (1 if command == ["compare"] else 2)
        assert path in done.stdout + done.stderr


def test_a_pipe_is_read_from_its_writer(tmp_path: Path, files: dict[str, str]) -> None:
    """A shell's `<(...)` is a pipe that somebody writes, if slowly."""
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m nsa_caps compare <(sleep 0.3; cat {files['new']}) {files['new']}"],
        env=environ(), capture_output=True, text=True, check=False, timeout=20, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.startswith("2 machines share one layout:"), done.stderr


def test_a_document_without_end_is_not_read_to_its_end() -> None:
    """What does not become a document within 4 MiB is given up, as memory is to stay flat."""
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        yield '{"a": "'
        while True:
            read += 1 << 16
            yield "x" * (1 << 16)

    (problem,) = islice(documents(endless()), 1)
    assert "longer than 4,194,304 characters" in str(problem)
    assert read < 5 << 20


def test_a_name_cannot_steer_a_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, str]
) -> None:
    """File names, and what documents hold, are printed spelled out, also in errors."""
    path = tmp_path / "bad\x1b]0;owned\x07\n.json"
    path.write_text("{")
    assert main(["compare", files["new"], str(path)]) == 1
    printed = capsys.readouterr().out
    assert "bad\\x1b]0;owned\\x07\\n.json" in printed
    assert all(char.isprintable() or char == "\n" for char in printed)


def test_wrong_usage_names_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, files: dict[str, str]
) -> None:
    """No machine at all, and options of other commands."""
    assert "needs its machines" in usage_error(capsys)
    assert "not by --from" in usage_error(capsys, "--from", files["new"])
    page = str(tmp_path / "none" / "fleet.html")
    assert f"--html {page}: " in usage_error(capsys, files["new"], "--html", page)


def test_memory_does_not_grow_with_the_machines(tmp_path: Path, caps: dict[str, Capabilities]) -> None:
    """Ten times the machines take the same memory within a tenth: of names the first thousand of a kind are kept."""
    lines = [json.dumps(caps[name].to_dict()) for name in ("new", "old", "mi350")]
    peaks = []
    for count in (1000, 10_000):
        path = tmp_path / f"{count}.jsonl"
        path.write_text("\n".join(lines[number % 3] for number in range(count)))
        code = (
            "import re, sys; from nsa_caps.cli import main; code = main(['compare', sys.argv[1]]);"
            # The peak of getrusage is that of the parent's, where it was higher at the fork.
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr);"
            "sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], env=environ(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert done.stdout.startswith(f"{count:,} machines in 3 groups:")
        peaks.append(int(done.stderr))
    assert peaks[1] < 1.1 * peaks[0]


def test_the_system_around_a_machine_makes_no_other_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two machines that differ in their kernel and Python alone are one party."""
    caps = probe(machine(tmp_path / "m", platform="cpu", triton=None))
    for name, kernel in (("a", "6.1"), ("b", "6.8")):
        told = with_system(caps, System(kernel=kernel, python=f"/{name}/bin/python"))
        (tmp_path / f"{name}.json").write_text(told.to_json())
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert len(group["parties"]) == 1
