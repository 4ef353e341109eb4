"""The decision over Triton versions x archs: the same as on machines that have them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Host, Package, Request, decide, probe
from nsa_caps.base.lines import plain
from nsa_caps.cli.main import main
from nsa_caps.report.matrix import SHOWN_ARCHS, TRITON_VERSIONS, Matrix, matrix
from nsa_caps.report.matrix_lines import matrix_lines
from nsa_caps.testing import machine
from nsa_caps.testing.named_machines import named_capabilities

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_caps.capabilities.records import Platform


def laid_out(
    folder: Path, arch: str, triton: str = "3.6.0", platform: Platform = "rocm", generation: str | None = "861b4c93"
) -> Host:
    """Return a machine that asks for aiter, or has DeepGEMM."""
    if platform == "cuda":
        return machine(folder, platform=platform, archs=[arch], triton=triton, deep_gemm="2.1.0")
    environ = {"SGLANG_USE_AITER": "1"}
    return machine(folder, platform=platform, archs=[arch], triton=triton, aiter=generation, environ=environ)


def cells(found: Matrix) -> dict[tuple[str, str], tuple[str | None, int | None, tuple[str, ...]]]:
    """Return what is chosen and what is against the best row, by version and arch."""
    return {(cell.triton, cell.arch): (cell.chosen, cell.page_size, cell.codes) for cell in found.cells}


@pytest.mark.parametrize(
    ("platform", "best", "generation"),
    [
        ("rocm", "aiter-preshuffle", "861b4c93"),
        ("rocm", "aiter-preshuffle", "04907edc"),
        ("rocm", "aiter-preshuffle", "a6bb4993"),
        ("rocm", "aiter-preshuffle", None),
        ("cuda", "deepgemm", None),
    ],
)
def test_a_cell_is_what_a_machine_of_its_kind_is_told(
    tmp_path: Path, platform: Platform, best: str, generation: str | None
) -> None:
    """Each cell holds what is decided on a machine laid out with that Triton and that GPU."""
    archs = SHOWN_ARCHS[platform]
    found = matrix(probe(laid_out(tmp_path / "start", archs[1], "3.6.0", platform, generation)))
    assert (found.best_row, found.triton_versions, found.archs) == (best, TRITON_VERSIONS, archs)
    expected = {}
    for version in TRITON_VERSIONS:
        for arch in archs:
            host = laid_out(tmp_path / f"{version}-{arch}", arch, version, platform, generation)
            decision = decide(probe(host))
            codes = tuple(dict.fromkeys(reason.code for reason in decision.verdict(best).reasons))
            size = decision.verdict(decision.chosen).page_size if decision.chosen else None
            expected[version, arch] = (decision.chosen, size, codes)
    assert cells(found) == expected
    assert len({chosen for chosen, _, _ in expected.values()}) > 1 or generation is None


def test_the_installed_triton_and_the_visible_gpus_are_among_them(tmp_path: Path) -> None:
    """What this machine has is in the table and marked, in its place by version."""
    found = matrix(probe(laid_out(tmp_path, "gfx1100", "3.5.1+rocm7.2.4.gita272dfa8")))
    assert found.triton_versions[2:5] == ("3.5.1", "3.5.1+rocm7.2.4.gita272dfa8", "3.6.0")
    assert found.archs == (*SHOWN_ARCHS["rocm"], "gfx1100")
    assert found.starred("gfx1100") == "gfx1100*"
    assert found.starred("gfx942") == "gfx942"
    text = plain(matrix_lines(found, 200), 200).splitlines()
    assert text[2].split() == ["Triton", *SHOWN_ARCHS["rocm"], "gfx1100*"]
    assert [line.split()[0] for line in text[3:10]] == [found.starred(version) for version in found.triton_versions]


@pytest.mark.parametrize(("version", "last"), [("3.10.0", "3.10.0"), ("unknown", "unknown"), (None, "3.8.0")])
def test_versions_stand_in_order(version: str | None, last: str) -> None:
    """3.10.0 comes after 3.8.0, a text that is no version last, and none where there is no Triton."""
    caps = Capabilities(platform="rocm", triton=Package("triton", "found" if version else "missing", version))
    assert matrix(caps).triton_versions[-1] == last
    assert len(matrix(caps).triton_versions) == len(TRITON_VERSIONS) + bool(version)


def test_the_request_holds_for_every_cell(tmp_path: Path) -> None:
    """A page size, or the rows that an engine runs, limit the whole table."""
    caps = probe(laid_out(tmp_path, "gfx942"))
    assert {cell.page_size for cell in matrix(caps, Request(page_size=256)).cells} == {256}
    limited = matrix(caps, Request(rows=("portable", "reference")))
    assert limited.best_row == "portable"
    # Our own kernels compile for gfx1250 from Triton 3.6.0 on.
    assert {cell.chosen for cell in limited.cells if cell.arch != "gfx1250"} == {"portable"}
    assert limited.codes() == ("triton.too-old",)


def test_the_machine_itself_is_not_changed(tmp_path: Path) -> None:
    """Deciding over other machines leaves the one at hand as it was."""
    caps = probe(laid_out(tmp_path, "gfx942"))
    before = caps.to_json()
    assert matrix(caps).caps == caps
    assert caps.to_json() == before


def test_the_text_explains_every_letter(tmp_path: Path) -> None:
    """Every row and every letter of the table is explained below it, and nothing else is."""
    found = matrix(probe(laid_out(tmp_path, "gfx942")))
    table, rows, against = plain(matrix_lines(found, 200), 200).split("\n\n")[1:]
    letters = {letter for line in table.splitlines()[1:] for word in line.split()[2::2] for letter in word}
    assert [line.split()[0] for line in rows.splitlines()] == [row.name for row, _ in found.chosen_rows()]
    assert against.startswith("Against aiter-preshuffle:\n")
    for code, letter in zip(found.codes(), "abcdefgh", strict=False):
        assert re.search(rf"^  {letter}  [^\[]+\[{re.escape(code)}\]$", against, re.MULTILINE)
        assert letter in letters or "aiter-preshuffle" in letters


def test_a_table_too_wide_is_a_list_that_says_the_same() -> None:
    """At 80 columns each arch has a line for each run of versions with one answer, and none is lost."""
    found = matrix(named_capabilities("mi300x_rocm700"))
    text = plain(matrix_lines(found, 80))
    assert max(map(len, text.splitlines())) <= 80
    lines = text.split("\n\n")[1].splitlines()
    assert lines[0].split() == ["arch", "Triton", "row"]
    start = next(index for index, line in enumerate(lines) if line.startswith("gfx942*"))
    assert [line.split() for line in lines[start : start + 2]] == [
        ["gfx942*", "3.3.1", "to", "3.4.0*", "aiter-token", "b"],
        ["3.5.1", "to", "3.8.0", "aiter-preshuffle"],
    ]
    told = {line.split()[0].rstrip("*") for line in lines[1:] if not line.startswith(" ")}
    assert told == set(found.archs)


def test_a_machine_of_no_gpu_vendor_is_shown_all_archs(tmp_path: Path) -> None:
    """Where torch is built for no GPU, no arch is left out, and each comes with the torch that it needs."""
    found = matrix(probe(machine(tmp_path, platform="cpu")))
    assert found.archs == (*SHOWN_ARCHS["rocm"], *SHOWN_ARCHS["cuda"])
    assert {cell.chosen for cell in found.cells} == {"portable", "reference"}


def test_no_row_at_all_is_told(tmp_path: Path) -> None:
    """Cells without a row say so."""
    caps = probe(machine(tmp_path, archs=["gfx942"]))
    assert "no row" in plain(matrix_lines(matrix(caps, Request(rows=("deepgemm",)))))


def test_the_command_prints_the_table_and_draws_the_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`matrix` prints table or document, draws where asked to, and answers no question that could be no."""
    host = laid_out(tmp_path / "machine", "gfx942")
    found = matrix(probe(host))
    picture = tmp_path / "matrix.svg"
    assert main(["matrix", "--svg", str(picture)], host=host) == 0
    assert capsys.readouterr().out == plain(matrix_lines(found)) + "\n"
    assert picture.read_text(encoding="utf-8").startswith("<svg ")
    assert main(["matrix", "--json"], host=host) == 0
    document = json.loads(capsys.readouterr().out)
    shown = {
        (cell["triton"], cell["arch"]): (
            cell["chosen"], cell["page_size"], tuple(dict.fromkeys(reason["code"] for reason in cell["reasons"])),
        )
        for cell in document["cells"]
    }  # fmt: skip
    assert shown == cells(found)
    assert document["best_row"] == "aiter-preshuffle"
