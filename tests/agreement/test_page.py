"""The page of a fleet: every group, party, cause and fix, safe to open, and a search that works in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from nsa_caps import Request
from nsa_caps.agreement.fleet import compare
from nsa_caps.agreement.page import fleet_page
from nsa_caps.cli.main import main
from nsa_caps.policy.changes import Change
from nsa_caps.testing.named_machines import named_capabilities

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def machines() -> list[tuple[str, Any]]:
    """Return 40 machines of one layout, two with an old Triton and two that do not ask for aiter, and a broken file."""
    good = named_capabilities("mi300x_rocm720")
    old = named_capabilities("mi300x_rocm700")
    unasked, _ = Change("unset", "SGLANG_USE_AITER").apply(good, Request())
    fleet = [(f"node{number:02}.json", good.to_dict()) for number in range(40)]
    fleet += [(f"old{number}.json", old.to_dict()) for number in range(2)]
    return [*fleet, *((f"unasked{number}.json", unasked.to_dict()) for number in range(2))]


class Page(HTMLParser):
    """The words of a page and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 the parser's
        """Keep what begins."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Keep what is said."""
        self.words += data


def test_every_party_has_its_own_cause_and_fix(machines: list[tuple[str, Any]]) -> None:
    """Two parties of one group that differ for two reasons are told both, with both fixes."""
    page = Page(fleet_page(compare(machines, Request())))
    assert "44 machines in 2 groups" in page.words
    assert page.tags.count("section") == 2
    assert "triton.too-old" in page.words or "Triton is too old" in page.words
    assert "pip install" in page.words
    assert "export SGLANG_USE_AITER=1" in page.words
    assert all(name in page.words for name, _ in machines)


def test_a_stranger_s_text_is_no_markup(machines: list[tuple[str, Any]]) -> None:
    """A file's name with a tag in it is shown, and runs nothing."""
    name = "</script><img src=x onerror=alert(1)>\x1b.json"
    page = Page(fleet_page(compare([*machines, (name, machines[-1][1])], Request())))
    assert "img" not in page.tags
    assert page.tags.count("script") == 1
    assert "onerror=alert(1)" in page.words


def test_the_page_loads_and_sends_nothing(machines: list[tuple[str, Any]]) -> None:
    """One script, allowed by its hash; no address of anything elsewhere."""
    text = fleet_page(compare(machines, Request()))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|src=|href=|url\(", text)


def test_the_command_writes_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--html` writes the page beside the answer; named machines are compared as files are."""
    path = tmp_path / "fleet.html"
    named = ("--machine", "mi300x_rocm700", "--machine", "h200", "--machine", "h200")
    assert main(["compare", *named, "--html", str(path)]) == 1
    assert capsys.readouterr().out.startswith("3 machines in 2 groups:")
    assert "3 machines in 2 groups" in path.read_text()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("wanted", "shown", "hidden"), [("too old", "old0", "node00"), ("NODE01", "node01", "old0")])
def test_the_search_works_in_a_browser(
    tmp_path: Path, machines: list[tuple[str, Any]], wanted: str, shown: str, hidden: str
) -> None:
    """What does not hold the words is hidden, with the groups that nothing is left of; upper case is as good."""
    path = tmp_path / "fleet.html"
    path.write_text(fleet_page(compare(machines, Request())), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}", f"file://{path}#{quote(wanted)}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    pattern = r'<(section|div) [^>]*hidden="".*?(?=<section|<div class="party"|</main>)'
    visible = re.sub(pattern, "", done.stdout, flags=re.DOTALL)
    body = visible.partition("<main>")[2].partition("</main>")[0]
    assert f"{shown}.json" in body
    assert f"{hidden}.json" not in body
    assert re.search(r"\d machines? shown", visible)
