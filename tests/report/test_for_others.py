"""Reports for an issue, for Kubernetes and for Prometheus, and what is left out of one for everybody."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Note, decide, probe
from nsa_caps.capabilities.system import System, system_of, with_system
from nsa_caps.cli.main import main
from nsa_caps.probes.system import with_files
from nsa_caps.report.markdown import markdown
from nsa_caps.report.metrics import nfd_labels, prometheus
from nsa_caps.report.redacted import redacted
from nsa_caps.report.words import WORDS
from nsa_caps.testing import machine
from nsa_caps.testing.named_machines import named_capabilities

if TYPE_CHECKING:
    from pathlib import Path


def test_a_report_for_an_issue_holds_all_that_one_asks_for(tmp_path: Path) -> None:
    """System, Python, driver, GPUs, packages, reasons, the report, and the snapshot that `--from` reads."""
    host = machine(tmp_path / "m", archs=["gfx942"], triton="3.4.0", aiter="a6bb4993", aiter_version="0.1.13",
        environ={"SGLANG_USE_AITER": "1"})  # fmt: skip
    system = System(python="/opt/venv/bin/python", python_version="3.12.3", os="Ubuntu 24.04", kernel="6.8",
        driver="amdgpu 6.12", runtime="ROCm 7.0.2", gpus=("AMD Instinct MI300X, 192 GiB",) * 8)  # fmt: skip
    caps = with_system(probe(host), system)
    text = markdown(decide(caps))
    told = ("Ubuntu 24.04, kernel 6.8", "3.12.3 /opt/venv/bin/python", "8 x AMD Instinct MI300X, 192 GiB",
        "amdgpu 6.12", "ROCm 7.0.2", "| triton | 3.4.0 |", "triton.too-old", "Why not a better one:")  # fmt: skip
    assert all(each in text for each in told)
    folded = re.search(r"<details>.*?```json\n(.*)\n```\n\n</details>", text, re.DOTALL)
    assert folded is not None
    assert Capabilities.from_json(folded[1]) == caps


def test_what_a_stranger_wrote_is_no_markup() -> None:
    """A pipe ends no cell, a tag is none, and backquotes do not end the block that they stand in."""
    caps = named_capabilities("h200")
    caps = with_system(caps, System(os="a|b <script> `x` [l](u)", kernel="````\nx"))
    caps = caps.replace(notes=(Note("p", "s", "```` <img>"),))
    text = markdown(decide(caps))
    assert "a\\|b \\<script\\> \\`x\\`" in text
    (fence,) = set(re.findall(r"^(`+)text$", text, re.MULTILINE))
    assert len(fence) == 5


def test_labels_of_a_node() -> None:
    """Each label is one that Kubernetes takes; the fingerprint is the layout's."""
    decision = decide(named_capabilities("mi300x_rocm720"))
    pages = decision.verdict("aiter-preshuffle").format
    assert pages is not None
    assert nfd_labels(decision).splitlines() == [
        "nsa-caps.row=aiter-preshuffle", "nsa-caps.page-size=64", f"nsa-caps.fingerprint={pages.fingerprint}",
        "nsa-caps.platform=rocm", "nsa-caps.engine=sglang", "nsa-caps.best=true",
    ]  # fmt: skip
    assert nfd_labels(decide(Capabilities())).splitlines()[0] == "nsa-caps.row=none"


def test_metrics_say_what_bars_the_better_row() -> None:
    """A fallback is a 1 that an alert can stand on, with the codes beside it."""
    lines = prometheus(decide(named_capabilities("mi300x_rocm700"))).splitlines()
    assert "nsa_caps_fallback 1" in lines
    assert 'nsa_caps_reason{row="aiter-preshuffle",code="triton.too-old"} 1' in lines
    assert any(line.startswith('nsa_caps_layout_info{row="aiter-token",page_size="1",') for line in lines)
    pattern = r'(# (HELP|TYPE) nsa_caps_\w+ .+|nsa_caps_\w+(\{(\w+="[^"\n]*",?)+\})? \d)'
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert "nsa_caps_fallback 0" in prometheus(decide(named_capabilities("h200"))).splitlines()


def test_private_names_are_left_out() -> None:
    """Home folders of anyone, the host's name and GPUs' serial numbers are replaced, and the answer stays."""
    caps = named_capabilities("h200")
    text = caps.to_json().replace("/usr/lib/python3", "/home/jane.doe/venv/lib")
    caps = Capabilities.from_json(text).replace(
        notes=(Note("devices", "GPU-1c8e5b3a-7d1f-4b2e-9c3d-aa11bb22cc33", "on node-17.example, not node-170"),)
    )
    shown = Capabilities.from_dict(redacted(caps.to_dict(), {"node-17.example": "host", "node-17": "host"}))
    assert "jane" not in shown.to_json()
    assert "/home/user/venv/lib" in shown.to_json()
    (note,) = shown.notes
    assert (note.source, note.text) == ("GPU-redacted", "on host, not node-170")
    assert decide(shown).chosen == decide(caps).chosen


def test_a_user_s_folder_is_left_out_anywhere() -> None:
    """Shared disks name users too; a longer name that ends alike is another."""
    lines = ((("at ", ""), ("/scratch/jane/venv, /jane-2, /home/sue/x", "source")),)
    assert redacted(lines, {"/jane": "/user"}) == (
        (("at ", ""), ("/scratch/user/venv, /jane-2, /home/user/x", "source")),
    )


def test_files_and_what_is_kept_are_redacted_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compare` names its files, in its page too, and `prove --list` its folder."""
    home = tmp_path / "jane.doe"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("h200", "mi355x"):
        text = named_capabilities(name).to_json().replace("/usr/lib/python3", f"{home}/venv")
        (home / f"{name}.json").write_text(text)
    page = tmp_path / "page.html"
    assert main(["compare", "--redact", "--html", str(page), str(home)]) == 1
    assert main(["compare", "--redact", "--json", str(home)]) == 1
    assert main(["prove", "--redact", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "~/h200.json" in printed
    assert "jane.doe" not in printed + page.read_text()


def test_the_command_redacts_this_machine_s_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither this host's name nor this user's home is in a redacted snapshot."""
    main(["snapshot", "--redact"])
    text = capsys.readouterr().out
    home = os.path.expanduser("~")
    assert len(home) < 4 or f'"{home}/' not in text
    assert not re.search(rf"(?<![\w.-]){re.escape(os.uname().nodename)}(?![\w-])", text)


def test_the_system_is_read_from_files(tmp_path: Path) -> None:
    """Distribution, kernel, drivers, run-times and GPUs, below the root that is asked about; what is absent is None."""
    files = {
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\n',
        "proc/sys/kernel/osrelease": "6.8.0-60-generic\n",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26\n",
        "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H200\nIRQ: 17\n",
        "sys/module/amdgpu/version": "6.12.12\n",
        "opt/rocm/.info/version": "7.0.2-56\n",
        "usr/local/cuda/version.json": '{"cuda" : {"name": "CUDA SDK", "version" : "12.8.1"}}',
        "sys/class/drm/card1/device/product_name": "AMD Instinct MI300X\n",
        "sys/class/drm/card1/device/mem_info_vram_total": f"{192 << 30}\n",
        "sys/class/drm/card1-HDMI-A-1/device/mem_info_vram_total": "1\n",
    }
    host = machine(tmp_path / "m", archs=["gfx942"])
    for name, text in files.items():
        path = tmp_path / "m/root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert with_files(System(), host) == System(
        os="Ubuntu 24.04.3 LTS", kernel="6.8.0-60-generic", driver="NVIDIA 570.124.06, amdgpu 6.12.12",
        runtime="ROCm 7.0.2-56, CUDA 12.8.1", gpus=("AMD Instinct MI300X, 192 GiB", "NVIDIA H200"),
    )  # fmt: skip
    assert with_files(System(), machine(tmp_path / "bare")) == System()


@pytest.mark.parametrize("extra", [[], {"python": 3}, {"colour": "red"}, None])
def test_a_system_that_cannot_be_read_is_an_empty_one(extra: object) -> None:
    """A snapshot's extras are anybody's."""
    assert system_of(Capabilities(extras={"system": extra})) == System()


@pytest.mark.parametrize("name", ["report", "capabilities", "handshake"])
def test_schemas_are_printed(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """`nsa-caps schema` prints what --json follows; the report's without a name."""
    assert main(["schema", name]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["$schema"]
    assert main(["schema"]) == 0
    assert (capsys.readouterr().out == printed) == (name == "report")


def test_formats_by_option(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each format comes from its option, into stdout or the file that is named; `--quiet` leaves the first line."""
    host = machine(tmp_path / "m", platform="cpu", triton=None)
    for option, start in (("--markdown", "### nsa-caps "), ("--format=nfd", "nsa-caps.row="), ("--format=json", "{\n")):
        assert main(["report", option], host=host) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(start)
        assert main(["report", option, "--output", str(tmp_path / "out")], host=host) == 0
        assert capsys.readouterr().out == ""
        assert (tmp_path / "out").read_text() == printed
    assert main(["-q"], host=host) == 0
    assert capsys.readouterr().out.replace("\n", " ").strip().endswith("on an H200")


def test_the_words_of_a_report_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Every mark and label that a report may begin a line with is in the list."""
    assert main(["help", "words"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{word}" in f"\n{told}" for word in WORDS)
    assert {"row", "?", "-", "warning:", "note:", "missing", "switch", "packages", "python"} <= WORDS.keys()


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`nsa-caps help why` is `nsa-caps why --help`."""
    assert main(["help", "why"]) == 0
    told = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["why", "--help"])
    assert capsys.readouterr().out == told


def test_completion_of_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """The script knows every command."""
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    assert "what-if" in capsys.readouterr().out
