"""The README and the docs: their examples run and print what they say, their pictures and lists are the code's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

import nsa_caps

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
WITH_SLOW_EXAMPLES = [page for page in PAGES if "<!-- example: slow -->" in page.read_text(encoding="utf-8")]
WITH_EXAMPLES = [page for page in PAGES if "<!-- example" in page.read_text(encoding="utf-8")]


def script(name: str) -> ModuleType:
    """Return a script of the docs, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def examples() -> Any:
    """Return the script that runs examples."""
    return script("examples")


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.name)
def test_examples_print_what_the_page_says(examples: Any, page: Path) -> None:
    """A page's examples run as they stand, and the page shows what they print."""
    assert examples.rewritten(page) == page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("```python\n1 / 0\n```", None),
        ("```python\nprint(1)\n```\n\n```text\n2\n```", "```python\nprint(1)\n```\n\n```text\n1\n```"),
        ("```python\nprint(1)\n```\n\n```text\n…\n1\n```", "```python\nprint(1)\n```\n\n```text\n…\n1\n```"),
        ("```python\nprint(1)\n```\n\n```text\n2\n…\n```", "```python\nprint(1)\n```\n\n```text\n1\n```"),
    ],
)
def test_an_example_that_is_wrong_is_found(examples: Any, tmp_path: Path, page: str, found: str | None) -> None:
    """What raises fails; what prints something else is rewritten; a line of dots stands for any lines."""
    place = tmp_path / "page.md"
    place.write_text(f"<!-- example -->\n{page}\n", encoding="utf-8")
    if found is None:
        with pytest.raises(ZeroDivisionError):
            examples.rewritten(place)
    else:
        assert examples.rewritten(place) == f"<!-- example -->\n{found}\n"


def test_sessions_keep_their_variables(examples: Any, tmp_path: Path) -> None:
    """`export` and `unset` count for the commands behind them, and what is no `nsa-caps` is left alone."""
    place = tmp_path / "page.md"
    session = (
        "<!-- example -->\n```console\n"
        "$ pip install something\n"
        "$ export NSA_CAPS_ENGINE=vllm\n$ nsa-caps --quiet snapshot > a.json\n"
        "$ unset NSA_CAPS_ENGINE\n$ nsa-caps --from a.json --quiet report --format nfd\n"
    )
    place.write_text(f"{session}```\n", encoding="utf-8")
    assert "engine=vllm" in examples.rewritten(place)


def test_slow_examples_wait_to_be_asked(examples: Any, tmp_path: Path) -> None:
    """What takes long is run with `slow` alone."""
    place = tmp_path / "page.md"
    place.write_text("<!-- example: slow -->\n```python\nprint(1)\n```\n\n```text\n2\n```\n", encoding="utf-8")
    assert "\n2\n" in examples.rewritten(place)
    assert "\n1\n" in examples.rewritten(place, slow=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_SLOW_EXAMPLES, ids=lambda page: page.name)
def test_slow_examples_print_what_the_page_says(examples: Any, page: Path) -> None:
    """The examples that start other processes print what their page says, too."""
    assert examples.rewritten(page, slow=True) == page.read_text(encoding="utf-8")


def test_pictures_are_those_of_the_code() -> None:
    """Each picture is drawn again from what it shows, byte for byte, and is told in words for those who see none."""
    for name, drawn in script("pictures").PICTURES.items():
        text = (DOCS / name).read_text(encoding="utf-8")
        assert drawn() == text, f"{name}: run python docs/pictures.py"
        words = {child.tag.rpartition("}")[2]: child.text or "" for child in ET.fromstring(text)}  # noqa: S314 our own
        assert len(words["title"]) > 20
        assert len(words["desc"]) > 100
        assert "prefers-color-scheme:dark" in text


def test_pictures_are_shown_with_words() -> None:
    """Every picture of the docs is on a page, with an alternative text."""
    found = [each for page in PAGES for each in re.findall(r"!\[([^\]]*)\]\(([^)]+\.svg)\)", page.read_text("utf-8"))]
    shown = {target: words for words, target in found}
    assert {Path(target).name for target in shown} == {path.name for path in DOCS.glob("*.svg")}
    assert all(len(words) > 20 for words in shown.values())


def test_the_list_of_modules_is_what_the_package_holds() -> None:
    """docs/how_it_is_built.md names every module and folder of the package, and none that there is not."""
    folder = Path(nsa_caps.__file__).parent
    held = {f"{path.name}/" for path in folder.iterdir() if path.is_dir() and not path.name.startswith("_")}
    held |= {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    told = re.findall(r"^\| (`.+`) \|", (DOCS / "how_it_is_built.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for cell in told for name in re.findall(r"`([^`]+)`", cell)} == held


def test_files_that_the_docs_name_are_there() -> None:
    """A path of this repository in backticks is that of a file or a folder, so that a reader finds it."""
    pattern = r"`((?:tests|src|docs|benchmarks|tools|examples|fuzz)/[\w/.-]*)`"
    named = {(page.name, path) for page in PAGES for path in re.findall(pattern, page.read_text(encoding="utf-8"))}
    assert len(named) > 30
    assert sorted(each for each in named if not (ROOT / each[1]).exists()) == []


def test_the_guide_to_fallbacks_knows_its_codes() -> None:
    """Every code that docs/fix_a_fallback.md has a section on is one, and a report of that section shows it."""
    text = (DOCS / "fix_a_fallback.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 10
    assert [code for code, section in sections if f"[{code}]" not in section] == []


def section_rows(name: str, page: str = "performance_appendix.md") -> list[list[str]]:
    """Return the cells of the tables that a benchmark wrote into a section of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    section = text.partition(f"<!-- begin {name} -->")[2].partition(f"<!-- end {name} -->")[0]
    lines = [line for line in section.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_what_rows_are_said_to_cost_is_what_was_measured() -> None:
    """The figures in the row table are the least and the most of the section that `benchmarks/gpu_costs.py` wrote."""
    ratios = [
        [float(match[1]) for cell in row if (match := re.search(r"\((.*)\)", cell))] for row in section_rows("costs")
    ]
    portable, without_fp8, _, torch = zip(*ratios, strict=True)
    assert max(portable) <= 1
    told = {
        row.name: (row.summary, *(str(caveat(nsa_caps.Capabilities())) for caveat in row.caveats))
        for row in nsa_caps.ROWS
    }
    assert f"{min(without_fp8):.1f} to {max(without_fp8):.1f} times" in told["portable"][1]
    assert f"{min(torch):.0f} to {max(torch):.0f} times" in told["reference"][0]


def part_of_another(cells: Iterable[str]) -> list[float]:
    """The ratios in brackets at the ends of cells; `-` has none."""
    return [float(match[1]) for cell in cells if (match := re.search(r"([\d.]+)\)$", cell))]


def span(cells: Iterable[str]) -> str:
    """The least and the most of the ratios in brackets."""
    found = part_of_another(cells)
    return f"{min(found):.2f} to {max(found):.2f}"


def test_no_shape_is_slower_than_deep_gemm() -> None:
    """What the page says of its own tables: decode, even and uneven, and prefill, with `-inf` and without."""
    check_scores(section_rows("logits"), section_rows("ragged"))


def check_scores(logits: list[list[str]], prefill: list[list[str]]) -> None:
    """Hold the tables of one run against the goals."""
    assert (len(logits), len(prefill)) == (22, 12)
    assert max(part_of_another(cell for row in logits for cell in row[5:8])) <= 1
    assert max(part_of_another(row[column] for row in prefill for column in (3, 5))) <= 1
    assert max(part_of_another(row[6] for row in prefill)) <= 2.2


@pytest.mark.parametrize("triton", ["3.7", "3.8", "3.9"])
def test_no_shape_is_slower_with_another_triton(triton: str) -> None:
    """The same of each other release, of whose tables the page has the least and the most."""
    page = "performance_by_triton.md"
    logits, prefill = section_rows(f"logits {triton}", page), section_rows(f"ragged {triton}", page)
    check_scores(logits, prefill)
    decode = f"{span(cell for row in logits for cell in row[5:7])}, {span(row[7] for row in logits)}"
    of_prompt = f"{span(row[3] for row in prefill)}, {span(row[5] for row in prefill)}"
    section = (
        (DOCS / page).read_text(encoding="utf-8").partition(f"<!-- end ragged {triton} -->")[2].partition("\n## ")[0]
    )
    beyond = max(float(cell) for cell in re.findall(r"^\| `.* \| (-?[\d.]+) \|$", section, re.MULTILINE))
    told = f"| {triton} | {decode} | {of_prompt} | {span(row[6] for row in prefill)} | {beyond} |"
    assert told in (DOCS / "performance.md").read_text(encoding="utf-8")


def test_the_page_repeats_what_was_measured() -> None:
    """Its tables are the least and the most of the appendix's, and no other figures."""
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    logits, prefill = section_rows("logits"), section_rows("ragged")

    for name, rows, column in (
        ("decode, flat", logits[:16], 5),
        ("decode, tiles", logits[:16], 6),
        ("decode, flat, with `-inf`", logits[:16], 7),
        ("prefill", prefill, 3),
        ("prefill, with `-inf`", prefill, 5),
        ("prefill, without fp8 products", prefill, 6),
    ):
        of_heads = [span(row[column] for row in rows if row[1] == heads) for heads in ("64", "32")]
        assert re.search(rf"\| {re.escape(name)} \| [\d.]+ \| {of_heads[0]} \| {of_heads[1]} \|", page)
    moved = {(row[0], row[1]): row[3:6] for row in section_rows("gather")}
    for kind in ("64 flat", "64 tiles", "1 flat"):
        cells = [*moved["16 x 131,072", kind], *moved["64 x 131,072", kind]]
        assert f"| {kind} | {' | '.join(f'{ratio:.3f}' for ratio in part_of_another(cells))} |" in page


def test_the_start_up_is_held_against_its_budgets_as_measured() -> None:
    """The table of budgets repeats what `benchmarks/probing.py` wrote, and no other figures."""
    appendix = (DOCS / "performance_appendix.md").read_text(encoding="utf-8").partition("<!-- begin probing -->")[2]
    section = appendix.partition("<!-- end probing -->")[0]
    started = dict(re.findall(r"^\| `(.+?)`.*? \| ([\d.]+) \|", section, re.MULTILINE))
    commands = ("nsa-caps --json", "python -c pass", 'python -c "import torch, triton"')
    ours, floor, incumbent = (float(started[command]) for command in commands)
    few, many = ([float(cell) for cell in row[1:]] for row in section_rows("probing") if row[0] in ("300", "1000"))
    text = (DOCS / "performance.md").read_text(encoding="utf-8").partition("Against the budgets:")[2]
    for figure in (f"{few[0]:.2f}", f"{few[1]:.1f}", f"{many[0]:.2f}", f"{many[1]:.1f}"):
        assert f"| {figure} |" in text
    readings = [row.split(" | ") for row in re.findall(r"^\| ((?:v0|04907edc).*) \|$", section, re.MULTILINE)]
    columns = list(zip(*readings, strict=True))[1:]
    known, beside, *deciding, whole = ([float(cell) for cell in cells] for cells in columns)
    changed = [figure for column in deciding for figure in column]
    assert f"| {min(known):.1f} to {max(known):.1f} |" in text
    assert f"| {min(beside):.1f} to {max(beside):.1f} |" in text
    for figures in (changed, whole):
        assert f"| {min(figures):.0f} to {max(figures):.0f}: " in text
    assert f"above `python -c pass` | {ours - floor:.0f}: " in text
    assert f"than `import torch, triton` | {incumbent / ours:.1f}: " in text
    assert f"{many[1] / few[1]:.2f} times as long with aiter's source" in text
    assert f"{many[0] / few[0]:.1f} times without one" in text
