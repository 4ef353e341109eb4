"""The decision in words: what a person reads first, and that nothing of it misleads."""

from __future__ import annotations

import itertools
import shlex
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Decision, Device, Note, Package, Request, UnknownRowError, decide, probe
from nsa_caps.base.lines import indented, plain, printable
from nsa_caps.capabilities.switches import resolve
from nsa_caps.policy.explain import explain, note_lines, report_lines, what_if_lines, why_lines
from nsa_caps.testing import GENERATIONS, machine

if TYPE_CHECKING:
    from pathlib import Path


def caps(
    arch: str = "gfx942", triton: str = "3.6.0", generation: str = "a6bb4993", engine: str = "sglang", **environ: str
) -> Capabilities:
    """Return a ROCm machine as the probes would find it; without variables it asks for aiter."""
    variables = environ or {"SGLANG_USE_AITER": "1"}
    switches, notes = resolve(variables, engine)
    site = "/opt/venv/lib/python3.12/site-packages"
    return Capabilities(
        engine=engine,
        platform="rocm",
        platform_source=f"{site}/torch/version.py: hip = 7.0.51831",
        devices=tuple(Device(index, arch, f"/sys/class/kfd/{index}/properties") for index in range(8)),
        rocminfo_arch=arch,
        torch=Package("torch", "found", "2.9.1", "torch", f"{site}/torch", f"{site}/torch/version.py"),
        triton=Package("triton", "found", triton, "triton", f"{site}/triton", f"{site}/triton/__init__.py"),
        aiter=Package("aiter", "found", "0.1.13", "amd-aiter", "/src/aiter/aiter", "/src/aiter/aiter/_version.py"),
        flydsl=Package("flydsl", "missing"),
        aiter_source=GENERATIONS[generation],
        variables=variables,
        switches=switches,
        notes=notes,
    )


def report(decision: Decision) -> list[str]:
    """Return the report's lines."""
    return plain(report_lines(decision)).splitlines()


def section(lines: list[str], title: str) -> list[str]:
    """Return the lines below a title, up to the next blank line."""
    start = next(index for index, line in enumerate(lines) if line.startswith(title))
    return list(itertools.takewhile(bool, lines[start + 1 :]))


def test_the_verdict_comes_first(tmp_path: Path) -> None:
    """A laid-out MI300X with Triton 3.4.0 gets aiter-token, page 1, and is told what Triton would give."""
    host = machine(tmp_path, archs=["gfx942"], triton="3.4.0", aiter="a6bb4993", environ={"SGLANG_USE_AITER": "1"})
    lines = report(decide(probe(host)))
    assert lines[0].startswith("aiter-token, page size 1: ")
    assert section(lines, "Why not a better one:")[:2] == [
        "  aiter-preshuffle",
        "    - Triton is too old: Triton 3.4.0; needs Triton >= 3.5.0 [triton.too-old]",
    ]
    assert section(lines, "Smallest fix, for aiter-preshuffle with page size 64:") == [
        '  pip install "triton>=3.5.0,<3.10"'
    ]


def test_the_best_row_needs_no_excuse() -> None:
    """Where the best row is chosen nothing is said against any row, and no fix is offered."""
    text = "\n".join(report(decide(caps(triton="3.6.0"))))
    assert text.startswith("aiter-preshuffle, page size 64: ")
    assert "Why not" not in text
    assert "fix" not in text
    assert text.endswith("\n\nThis is the best row on rocm.")


def test_both_ways_out_of_a_barred_import() -> None:
    """That nothing of aiter can be imported is said once, with the rows that it bars and both ways out."""
    lines = report(decide(caps(generation="3b2e6f48", triton="3.5.1")))
    why = section(lines, "Why not a better one:")
    assert why[0] == "  aiter-preshuffle, aiter-token"
    assert "\n".join(why).count("[aiter.import-barred]") == 1
    assert '      fix: pip install "triton>=3.6.0,<3.10"' in why
    assert "       or: export AITER_USE_SYSTEM_TRITON=1" in why


def test_rows_of_other_platforms_are_left_out() -> None:
    """Another vendor's rows are not better ones: nothing is said of them."""
    lines = report(decide(caps(generation="3b2e6f48", triton="3.5.1")))
    assert not any("deepgemm:" in line or "cuda" in line or "sm_90" in line or "deep-gemm" in line for line in lines)


def test_rows_that_the_engine_does_not_run_are_one_line() -> None:
    """A row that the engine cannot run is told by that alone, and no fix is offered."""
    text = explain(decide(caps(), Request(rows=("portable",))))
    assert "aiter-preshuffle, aiter-flat, aiter-token: not among the rows that the engine runs" in " ".join(
        text.split()
    )
    assert "Smallest" not in text
    assert "Nothing" not in text


def test_every_fact_has_its_source() -> None:
    """Devices, packages and switches stand with where they were read; a folder that packages share stands once."""
    lines = report(decide(caps(AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1", SGLANG_USE_AITER="true")))
    begin = lines.index("") + 1
    facts = {
        line.split()[0]: line.split(maxsplit=1)[1] for line in lines[begin : lines.index("", begin)] if line[0] != " "
    }
    assert facts["platform"].split() == ["rocm", "torch/version.py:", "hip", "=", "7.0.51831"]
    assert facts["devices"].split() == ["8", "x", "gfx942", "/sys/class/kfd/0/properties"]
    assert facts["torch"].split() == ["2.9.1", "torch/version.py"]
    assert facts["triton"].split() == ["3.6.0", "triton/__init__.py"]
    assert facts["aiter"].split() == ["0.1.13", "/src/aiter/aiter/_version.py"]
    assert facts["missing"] == "deep_gemm"
    assert facts["packages"] == "below /opt/venv/lib/python3.12/site-packages"
    text = " ".join(" ".join(lines).split())
    assert "switch aiter_aot on AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS=1 (aiter AOT variable) switch use_aiter on" in text
    assert "switch use_aiter on SGLANG_USE_AITER=true (SGLang get_bool_env_var) engine" in text


def test_several_archs_are_kept_apart() -> None:
    """Each arch among the visible GPUs is a line of its own, with how many there are."""
    mixed = caps().replace(devices=(Device(0, "gfx942", "a"), Device(1, "gfx950", "b"), Device(2, "gfx942", "c")))
    lines = [line.split() for line in report(decide(mixed)) if line.startswith("devices")]
    assert lines == [["devices", "2", "x", "gfx942", "a"], ["devices", "1", "x", "gfx950", "b"]]


@pytest.mark.parametrize(("devices", "word"), [(None, "not known"), ((), "none")])
def test_no_gpu_is_not_an_unknown_gpu(devices: tuple[Device, ...] | None, word: str) -> None:
    """That there is no GPU, and that it is not known, are told in different words."""
    assert f"devices    {word}" in report(decide(caps().replace(devices=devices)))


def test_states_other_than_found_are_named() -> None:
    """An impostor is called one, and a version that nobody tells is not made up."""
    impostor = Package("aiter", "impostor", "0.13.20191203", "aiter", "/site/aiter", "/site/aiter")
    lines = report(decide(caps().replace(aiter=impostor, aiter_source=None)))
    assert any("0.13.20191203, impostor" in line for line in lines)
    nameless = caps().replace(triton=Package("triton", "found", None, None, "/t", None))
    assert any(line.startswith("triton     of unknown version") for line in report(decide(nameless)))


def test_what_is_unknown_is_marked() -> None:
    """A reason that is not known to hold bears another mark than one that is."""
    lines = report(decide(caps().replace(devices=None)))
    assert any(line.startswith("    ? which GPUs this process may use is not known: ") for line in lines)
    assert not any(line.startswith("    - which GPUs") for line in lines)


def test_the_request_is_shown_where_it_is_not_the_default() -> None:
    """What was asked beyond the default stands among the facts, and a kpool tells the model's page."""
    lines = report(decide(caps(), Request(heads=32, index_kpool=2)))
    assert lines[0].startswith("aiter-preshuffle, page size 64 (model page 128): ")
    assert "request    heads 32, index_kpool 2" in lines
    assert not any(line.startswith("request") for line in report(decide(caps())))


def test_a_fix_that_changes_the_page_size_tells_the_new_one() -> None:
    """A page size that is refused is to be left to the row, and the fix names the row's own."""
    lines = report(decide(caps(), Request(page_size=48)))
    assert section(lines, "Smallest fix, for aiter-preshuffle with page size 64:") == [
        "  leave the page size to the row"
    ]


def test_where_nothing_helps_it_says_so() -> None:
    """Where no change brings a better row, that is said with the reason, and no fix is offered."""
    text = " ".join(explain(decide(caps(arch="gfx90a", generation="04907edc"))).split())
    end = "Nothing that you can install or set brings a better row: this row's kernels do not run on this GPU (gfx90a)."
    assert text.endswith(end)
    assert "fix:" not in text


def test_what_every_row_lacks_is_told_first_and_alone() -> None:
    """Without torch the report is that, once, with the way to the next answer; not each row's own reasons."""
    lines = report(decide(Capabilities()))
    assert lines[0] == "No row may be used: a package is not installed: no package torch."
    why = section(lines, "Why none:")
    assert why[0] == "  every row"
    assert why[-1].endswith("nsa-caps why ROW")
    assert "aiter" not in "\n".join(why)


def test_where_something_is_not_known_it_says_how_to_know(tmp_path: Path) -> None:
    """A change whose outcome cannot be foreseen is advised, once, in the report and against each row that wants it."""
    decision = decide(probe(machine(tmp_path, platform="cuda", archs=None)))
    for lines in (report(decision), plain(why_lines(decision, "portable")).splitlines()):
        ending = lines[lines.index("Try this, which may change the answer:") :]
        assert ending[1:] == [*dict.fromkeys(ending[1:])]
        assert {"  pip install nvidia-ml-py", "  nsa-caps prove"} < set(ending)


def test_a_forced_row_shows_what_stands_against_it() -> None:
    """A row taken by force is called refused, with its reasons."""
    forced = caps(triton="3.4.0", SGLANG_USE_AITER="1", NSA_CAPS_ROW="aiter-preshuffle", NSA_CAPS_ROW_FORCE="1")
    lines = report(decide(forced))
    assert lines[0].startswith("aiter-preshuffle, page size 64 (refused, and forced by NSA_CAPS_ROW_FORCE):")
    assert "best row" not in "\n".join(lines)
    assert any("[triton.too-old]" in line for line in section(lines, "Forced against:"))


MACHINES = tuple(itertools.product(("gfx90a", "gfx942", "gfx1151", "gfx1250"), ("3.3.1", "3.4.0", "3.8.0", "unknown")))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_it_fits_one_screen(generation: str) -> None:
    """The report takes at most 46 lines of 80 columns; with a wrong switch on top, at most 52."""
    for arch, triton in MACHINES:
        lines = report(decide(caps(arch, triton, generation)))
        assert len(lines) <= 46
        assert max(map(len, lines)) <= 80
        worse = caps(arch, triton, generation, "vllm", AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1")
        assert len(report(decide(worse))) <= 52


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_command_stays_on_its_line(generation: str) -> None:
    """What one is told to type stands whole on one line, and a shell can read it."""
    for arch, triton in MACHINES:
        decision = decide(caps(arch, triton, generation, AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1"))
        lines = report(decision)
        reached = [verdict for verdict in decision.better_rows() if decision.fix(verdict.row)]
        changes = {change for verdict in reached for reason in verdict.reasons for change in reason.changes}
        for change in changes:
            if change.kind in ("set", "unset", "triton"):
                assert any(line.endswith(": " + change.text) for line in lines)
                assert shlex.split(change.text)


def test_every_reason_that_matters_is_there() -> None:
    """No reason against a row that a fix brings is left out, and of any other none that nothing can change."""
    for generation, arch, triton in itertools.product(GENERATIONS, ("gfx942", "gfx90a"), ("3.3.1", "3.4.0", "3.8.0")):
        decision = decide(caps(arch, triton, generation))
        text = " ".join(" ".join(report(decision)).split())
        for verdict in decision.better_rows():
            reached = decision.fix(verdict.row) is not None
            for reason in verdict.reasons if verdict.row != "deepgemm" else ():
                if not reached and reason.changes:
                    continue
                sentence = f"{reason.summary}: {reason.observed}; needs {reason.required} [{reason.code}]"
                assert sentence in text, (verdict.row, sentence)


def test_why_of_the_chosen_row() -> None:
    """Of the chosen row nothing is said but that it is, and its page size."""
    assert plain(why_lines(decide(caps()), "aiter-preshuffle")) == "aiter-preshuffle is chosen, page size 64"


def test_why_tells_all_of_a_refused_row() -> None:
    """Each reason comes with what was found, what is needed, where that was read, and every fix."""
    decision = decide(caps(generation="3b2e6f48", triton="3.5.1"))
    text = plain(why_lines(decision, "aiter-preshuffle"))
    assert text.startswith("aiter-preshuffle is refused, page size 64; chosen is portable, page size 64\n")
    assert text.count("  found:  ") == text.count("  needs:  ") == len(decision.verdict("aiter-preshuffle").reasons)
    assert "  source: aiter/ops/triton/gluon/__init__.py" in text
    assert '  fix:    pip install "triton>=3.6.0,<3.10"\n      or: export AITER_USE_SYSTEM_TRITON=1\n' in text


def test_why_of_a_row_that_nothing_brings_offers_no_fix() -> None:
    """All reasons are told and no fix: each would lead nowhere; the end says what nothing can change."""
    text = plain(why_lines(decide(caps(generation="3b2e6f48", triton="3.5.1")), "aiter-flat"))
    assert text.count("  found:  ") == 3
    assert "fix:" not in text
    assert "Nothing that you can install or set brings aiter-flat" in text


def test_why_of_a_row_that_would_do() -> None:
    """A row that is met but not the best is told to be so, and the fix forces it."""
    lines = plain(why_lines(decide(caps()), "portable")).splitlines()
    assert lines[0] == "portable may be used, page size 64; chosen is aiter-preshuffle, page size 64"
    assert lines[-2:] == ["Smallest fix, for portable with page size 64:", "  export NSA_CAPS_ROW=portable"]


def test_why_of_a_row_that_is_not_known() -> None:
    """A row that rests on something unknown is not called refused; one that nothing brings gets no fix."""
    unproven = decide(caps(arch="gfx1111", generation="04907edc"))
    assert plain(why_lines(unproven, "portable")).startswith("portable is not known to run, page size 64; chosen is ")
    text = " ".join(plain(why_lines(unproven, "deepgemm")).split())
    assert text.endswith(
        "Nothing that you can install or set brings deepgemm: this row is for another platform (rocm)."
    )


def test_why_of_no_row() -> None:
    """A name that is no row's is an error that lists the names."""
    with pytest.raises(UnknownRowError, match="there are aiter-preshuffle, "):
        plain(why_lines(decide(caps()), "aiter-tiles"))


def test_what_if_tells_both_sides() -> None:
    """Changes stand above the report, with what is chosen without them."""
    before = caps(triton="3.4.0")
    changes = [reason.changes[0] for reason in decide(before).verdict("aiter-preshuffle").reasons]
    after, request = changes[0].apply(before, Request())
    lines = plain(what_if_lines(decide(after, request), changes, decide(before))).splitlines()
    assert lines[:4] == [
        "as it is:  aiter-token, page size 1",
        "what if:   triton 3.5.0",
        "",
        lines[3],
    ]
    assert lines[3].startswith("aiter-preshuffle, page size 64: ")


def test_notes_close_the_explanation_and_not_the_report() -> None:
    """Notes stand at the end of what the library explains; the command sends them elsewhere."""
    noted = caps().replace(notes=(Note("packages", "/site/triton", "several distributions bring triton"),))
    text = "note: /site/triton: several distributions bring triton"
    assert plain(note_lines(noted.notes)) == text
    assert explain(decide(noted)).splitlines()[-2:] == ["", text]
    assert text not in report(decide(noted))
    assert decide(noted).explain() == explain(decide(noted))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é", "plain é"), ("\x1b[31mred", "\\x1b[31mred"), ("a\nb", "a\\nb"), ("\udcff", "\\udcff")],
)
def test_nothing_steers_the_terminal(text: str, shown: str) -> None:
    """Control characters and what no encoding takes are spelled out; other text stays."""
    assert printable(text) == shown


def test_hostile_variables_are_harmless() -> None:
    """A variable's text reaches the report spelled out, wherever it is quoted."""
    text = explain(decide(caps(SGLANG_USE_AITER="\x1b]0;owned\x07", GPU_ARCHS="gfx\x9b31m")))
    assert text.replace("\n", "").isprintable()


def test_long_words_are_not_broken() -> None:
    """Prose is broken at blanks; a path or a command without any stays whole, however long."""
    path = "/" + "x" * 150
    assert plain(indented("  - ", f"see {path} there")) == f"  - see\n    {path}\n    there"
