"""What is read of a source has limits, each exact: at it a thing is known, one beyond it is not."""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host
from nsa_caps.probes.aiter.calling import call_function
from nsa_caps.probes.aiter.chain import chain
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.logits import LOGITS, outcome_of
from nsa_caps.probes.aiter.machines import archs_of, page_sizes, triton_versions, variables
from nsa_caps.probes.aiter.modules import Modules
from nsa_caps.probes.aiter.normal import digest, text_digest
from nsa_caps.probes.aiter.run import Event, Run, TooMuchError
from nsa_caps.probes.aiter.segments import segments
from nsa_caps.probes.aiter.space import Choice, Opaque, Space, choice, is_known, lifted, text_of
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.probes.python_source import SourceError
from nsa_caps.testing import GENERATIONS, write_aiter_tree
from tests.probes.small_modules import MACHINES, OneFile, compared

if TYPE_CHECKING:
    from pathlib import Path


def test_a_source_takes_sixty_thousand_steps() -> None:
    """One more is more than any aiter takes."""
    run = Run(Space({"a": (1,)}), None, call_function)
    for _ in range(60_000):
        run.step()
    with pytest.raises(TooMuchError, match="more steps"):
        run.step()


def test_an_expression_nests_sixty_deep() -> None:
    """One deeper is given up; a constant at the end counts for none."""
    assert compared(f"a = {'-' * 60}1") == (len(MACHINES), len(MACHINES), [])
    with pytest.raises(TooMuchError, match="deeper"):
        compared(f"a = {'-' * 61}1")


def test_what_is_evaluated_one_after_the_other_does_not_nest() -> None:
    """After a hundred statements an expression nests as deep as before, and no deeper."""
    many = "a = 1\n" * 100
    assert compared(f"{many}a = {'-' * 60}1") == (len(MACHINES), len(MACHINES), [])
    with pytest.raises(TooMuchError, match="deeper"):
        compared(f"{many}a = {'-' * 61}1")


def calls(count: int) -> str:
    """Return functions that call one another, so many in a row."""
    inner = "".join(f"def f{at}(): return f{at + 1}()\n" for at in range(1, count))
    return f"{inner}def f{count}(): return 1\na = f1()\nb = f1()\n"


def test_twelve_calls_nest() -> None:
    """One more is given up; those that are done count no more."""
    assert compared(calls(12)) == (len(MACHINES), 2 * len(MACHINES), [])
    done = "def g(): pass\n" + "g()\n" * 20
    for before in ("", done):
        with pytest.raises(TooMuchError, match="nested calls"):
            compared(before + calls(13))


@pytest.mark.parametrize("made", ["'x' * {}", "{} * 'x'", "len((0,) * {})", "len([0] * {})", "len({} * (0,))"])
def test_a_text_or_a_tuple_of_five_thousand_is_made(made: str) -> None:
    """A longer one is not known, and nothing that is computed with it."""
    assert compared(f"a = {made.format(5000)}") == (len(MACHINES), len(MACHINES), [])
    assert compared(f"a = {made.format(5001)}")[1] == 0


@pytest.mark.parametrize("make", ["x".__mul__, (0,).__mul__, [0].__mul__])
def test_a_longer_text_is_not_computed_with(make: object) -> None:
    """Five thousand characters or items are, one more are not."""
    assert callable(make)
    assert lifted(len, [make(5000)], 1, "t") == 5000
    assert isinstance(lifted(len, [make(5001)], 1, "t"), Opaque)


def test_a_number_of_a_thousand_bits_is_known() -> None:
    """A larger one is not."""
    assert lifted(operator.lshift, [1, 999], 1, "t") == 1 << 999
    assert isinstance(lifted(operator.lshift, [1, 1000], 1, "t"), Opaque)


def test_what_differs_in_two_thousand_ways_is_computed() -> None:
    """In more it is not known."""
    for rows, columns, known in ((50, 40, True), (69, 29, False)):
        space = Space({"a": range(0, rows * 1000, 1000), "b": range(columns)})
        found = lifted(operator.add, [space.choice("a"), space.choice("b")], space.all, "t")
        assert is_known(found) is known


def test_how_a_value_was_made_is_told_in_six_hundred_characters() -> None:
    """A longer text is cut, and tells how long it was, so that two of them are not alike."""
    for make in (Opaque, lambda text: Choice(((1, 1), (2, 2)), text)):
        assert make("x" * 600).text == "x" * 600
        assert make("x" * 601).text == "x" * 600 + "…601"
    assert text_of("x" * 700) == "'" + "x" * 599


def test_a_digest_is_twelve_digits_of_a_sha256() -> None:
    """Of the lines of a text without the spaces at their ends and without empty ones."""
    assert text_digest("a \n\n  b\n") == hashlib.sha256(b"a\n  b").hexdigest()[:12]
    assert digest([]) == hashlib.sha256(b"").hexdigest()[:12]


def test_a_thousand_statements_in_a_row_are_read() -> None:
    """Of more, or of more than 400,000 characters, nothing is known."""
    assert len(segments("x = 1\n" * 1001)[0].body) == 1001
    with pytest.raises(SourceError, match="more statements"):
        _ = segments("x = 1\n" * 1002)[0].body
    long = f"x = '{'a' * 399_994}'"
    assert len(segments(long)[0].body) == 1
    with pytest.raises(SourceError, match="more statements"):
        _ = segments(f"{long} ")[0].body


# --- the modules that an import runs


def linked(site: Path, **files: str) -> tuple[list[tuple[str, int, str]], set[str]]:
    """Return the refusals and the modules of an import of `aiter`, of whose modules these are the texts."""
    package = site / "aiter"
    package.mkdir(exist_ok=True)
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    found = chain(PackageFiles(Host({}, (str(site),), {}, str(site)), str(package)), "aiter")
    return found.refusals, set(found.modules)


def test_six_hundred_modules_are_followed(tmp_path: Path) -> None:
    """Those beyond are not looked at; no aiter imports as many."""
    texts = {f"m{at}": f"from . import m{at + 1}\n" for at in range(640)}
    _, modules = linked(tmp_path, __init__="from . import m0\n", **texts)
    assert len(modules) == 600


def test_a_line_has_ten_thousand_characters(tmp_path: Path) -> None:
    """A file with a longer one is not read, and told."""
    assert linked(tmp_path, __init__="from . import a\n", a=f"x = 1\n#{'-' * 9_999}\ny = 1\n")[0] == []
    line = f"#{'-' * 9_999}"
    for text in (line, f"{line}\n", f"\n{line}", f"x = 1\n{line}\n", f"{line}\n{line}\n{line}", f"{line}\n" * 3):
        assert linked(tmp_path, __init__="from . import a\n", a=text)[0] == []
    line = f"#{'-' * 10_000}"
    for text in (line, f"{line}\n", f"\n{line}", f"x = 1\n{line}\ny = 1\n", f"x = 1\n{line}", f"#\n{line[1:]}\n{line}"):
        refusals, _ = linked(tmp_path, __init__="from . import a\n", a=text)
        assert refusals == [("a.py", 0, "a line of more than 10000 characters")]


def test_two_hundred_statements_of_a_file_are_judged(tmp_path: Path) -> None:
    """With the two hundredth the file is given up, at its line."""
    refusing = "".join(f"if x:\n    raise OSError{at}\n" for at in range(300))
    refusals, _ = linked(tmp_path, __init__="from . import a\n", a=refusing)
    assert [line for _, line, _ in refusals] == list(range(1, 401, 2))
    assert refusals[-1] == ("a.py", 399, "more than 200 statements that may refuse")
    assert "more than" not in refusals[-2][2]


# --- the machines


def test_the_tritons_around_each_that_a_text_names_are_looked_at() -> None:
    """Itself, what comes before its release, what is built from it, and what comes after it: of eight at most."""
    plain = triton_versions("")
    assert {"3.3.1", "3.4.0", "3.5.0", "3.10.0"} <= set(plain)
    around = ("3.7.5", "3.7.5rc1", "3.7.5+git1", "3.7.5.1")
    assert triton_versions("Version('3.7.5')") == (*plain, *around)
    assert triton_versions('v < "3.7.5"') == (*plain, *around)
    assert triton_versions("(3, 11)")[len(plain)] == "3.11"
    assert triton_versions("[3,11,2]")[len(plain)] == "3.11.2"
    assert triton_versions("'3.4.0' '3.7.5' '3.7.5'") == (*plain, *around)
    for odd in ("'3.8.0rc2'", "'3.8.0.post1'", "'3.8.0a1'", "'3.8.0b1'", "'3.8.0.dev1'"):
        assert triton_versions(odd)[len(plain)] == odd.strip("'")
    many = " ".join(f"'3.20.{at}'" for at in range(10))
    assert triton_versions(many)[len(plain) :: 4] == tuple(f"3.20.{at}" for at in range(8))


def test_the_archs_that_a_text_names_come_first() -> None:
    """Then those that it does not name, one of which no GPU has: 26 at most."""
    plain = archs_of("")
    assert plain[-1] == "gfx9999"
    assert {"gfx942", "gfx950", "gfx1250", "gfx90a"} < set(plain)
    assert archs_of("gfx1200 gfx942 gfx1200")[:2] == ("gfx1200", "gfx942")
    assert set(archs_of("gfx1200")) == {*plain, "gfx1200"}
    assert len(archs_of(" ".join(f"gfx5{at:02}" for at in range(40)))) == 26


def test_a_triton_without_amds_backend_is_no_version_to_look_at() -> None:
    """`[1, 1, 1]` is a list of numbers, as `cluster_dims` has it."""
    assert triton_versions("[1, 1, 1] '1.0'") == triton_versions("")
    assert triton_versions("(2, 1)")[len(triton_versions(""))] == "2.1"


@pytest.mark.parametrize(
    "text", ["a # 48 tokens", "# 48\n", "    (48,): kv_cache_attr,", "'3.48.0'", "48.5", "x48", "4.48"]
)
def test_a_number_that_is_compared_with_no_page_is_no_page_size(text: str) -> None:
    """Of a comment, of the key of a line of `attrs`, of a version, of a name."""
    assert page_sizes(text.replace("48", "40")) == page_sizes("")


@pytest.mark.parametrize("text", ["if page in (40,):", "page % 40", "'#40'", "40 # 41", "a = '# 7'; b = 40"])
def test_a_number_that_may_be_compared_with_a_page_is_looked_at(text: str) -> None:
    """Also in a tuple of one, beside a comment, and behind the sign of a comment in a text."""
    assert 40 in page_sizes(text)


def test_the_page_sizes_that_a_text_names_are_looked_at_too() -> None:
    """Numbers of 2 to 4096 that are none of the usual ones, in their order: 24 at most."""
    plain = page_sizes("")
    assert plain == (1, 2, 8, 16, 24, 32, 48, 64, 80, 96, 128, 256, 512, 640)
    assert page_sizes("0 1 64 4096 4097 3 x7 7") == (*plain, 3, 7, 4096)
    assert page_sizes(" ".join(map(str, range(1000, 1040)))) == (*plain, *range(1000, 1010))


def test_the_variables_that_a_text_reads_in_their_order() -> None:
    """In each of the three ways in which Python reads one."""
    text = """os.environ.get("B") os.getenv('A', 1) environ["C"] getenv( "D") os.environ.get('B') env("E") x.get("F")"""
    assert variables(text) == ["B", "A", "C", "D"]


# --- sets of machines


def test_a_dimension_parts_the_machines() -> None:
    """Each machine has one value of each dimension, and all together are the product."""
    space = Space({"a": (1, 2, 3), "b": "xy", "c": (True, False, None, 0)})
    assert space.all == (1 << 24) - 1
    for at in range(24):
        values = {"a": (1, 2, 3)[at % 3], "b": "xy"[at // 3 % 2], "c": (True, False, None, 0)[at // 6]}
        for name, value in values.items():
            assert space.where(name, lambda each, value=value: each is value) >> at & 1  # type: ignore[misc]
    for name, dimension in space.dimensions.items():
        masks = [space.where(name, lambda each, value=value: each is value) for value in dimension]  # type: ignore[misc]
        assert sum(masks) == space.all


def test_a_choice_of_equal_values_is_that_value() -> None:
    """Parts without machines count for nothing, and values of another type are others."""
    assert choice([(1, 5), (2, 5), (0, 6)], "t") == 5
    found = choice([(1, 1), (2, True), (4, 1)], "t")
    assert [(mask, type(value)) for mask, value in found.parts] == [(5, int), (2, bool)]


class _OneModule(OneFile):
    """A package with the module of the logits alone."""

    def module(self, dotted: str) -> str | None:
        """Return the file of that module, and folders for its parents."""
        return "it.py" if dotted == LOGITS[0] else "" if LOGITS[0].startswith(f"{dotted}.") else None


def test_the_logits_are_evaluated_over_fourteen_archs_and_two_variables() -> None:
    """The first that their module names."""
    archs = " ".join(f"gfx5{at:02}" for at in range(20))
    text = f"import os\n# {archs}\nfor x in (): pass\n" + "".join(f"os.getenv('V{at}')\n" for at in range(4))
    files = _OneModule(text)
    outcome = outcome_of(Modules(files), files)
    assert outcome is not None
    assert outcome.space.dimensions["arch"] == archs_of(text)[:14]
    assert [name for name in outcome.space.dimensions if name.startswith("env:")] == ["env:V0", "env:V1"]


def test_a_logits_module_that_nests_too_deep_is_unsure_everywhere() -> None:
    """Also where control was gone already: nothing that was found before is said."""
    files = _OneModule(f"import triton\nassert triton.__version__ != '3.8.0'\nx = {'-' * 70}1\n")
    outcome = outcome_of(Modules(files), files)
    assert outcome is not None
    assert outcome.events[-1] == Event("unaccounted", outcome.space.all, 0, "deeper than any aiter nests", "it.py", 0)
    assert outcome.unsure == outcome.space.all


def test_twelve_lines_are_told(tmp_path: Path) -> None:
    """Of a source with more that is not accounted for the first twelve."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    package = tmp_path / "aiter"
    for at in range(14):
        (package / f"m{at}.py").write_text("raise OSError\n")
    init = package / "__init__.py"
    init.write_text(init.read_text() + "".join(f"from . import m{at}\n" for at in range(14)))
    source = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"]
    assert len(source.unaccounted) == 12
