"""The release script: what it refuses, without building anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nsa_caps
from tests.tool import tool

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def release() -> Any:
    """Return `tools/release.py`."""
    return tool("release")


def test_the_version_stands_in_one_place(release: Any) -> None:
    """The script reads what the package says of itself, and `pyproject.toml` takes it from there too."""
    assert release.version(ROOT) == nsa_caps.__version__
    project = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in project
    assert nsa_caps.__version__ not in [
        line.split('"')[1] for line in project.splitlines() if line.startswith("version")
    ]


CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-23

### Added

- A thing.

## [1.1.0] - 2026-10-01

- Old.
"""


def test_the_section_of_a_version_is_found(release: Any, tmp_path: Path) -> None:
    """From its heading to the next version's."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    assert release.changelog_section(tmp_path, "1.2.0") == "### Added\n\n- A thing."
    assert release.changelog_section(tmp_path, "1.1.0") == "- Old."


@pytest.mark.parametrize(
    "text",
    [
        "# Changelog\n",
        "## [Unreleased]\n\n- A thing.\n",
        "## [1.2.0]\n\n- No date.\n",
        "## [1.2.0] - 2026-11-23\n\n## [1.1.0] - 2026-10-01\n\n- Old.\n",
        "## [1x2x0] - 2026-11-23\n\n- Dots are dots.\n",
    ],
)
def test_a_version_that_the_changelog_does_not_tell_of_is_refused(release: Any, tmp_path: Path, text: str) -> None:
    """No heading, no date or nothing under it: the message says what to write."""
    (tmp_path / "CHANGELOG.md").write_text(text)
    with pytest.raises(release.ReleaseError, match=r"rename \[Unreleased\] to \[1\.2\.0\] - YYYY-MM-DD"):
        release.changelog_section(tmp_path, "1.2.0")


def test_a_project_without_addresses_is_refused(release: Any, tmp_path: Path) -> None:
    """The index shows where the repository is; it has no public address yet, and none is made up."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "nsa_caps"\n\n[project.urls]\n\n[tool.ruff]\n')
    with pytest.raises(release.ReleaseError, match=r"no \[project\.urls\]"):
        release.check_addresses(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://example.org"\n')
    release.check_addresses(tmp_path)


def test_what_an_archive_lacks_is_named(release: Any) -> None:
    """By whole names, in the folder of the version (sdist), a metadata folder, or neither (wheel)."""
    names = ["nsa_caps-1.0/docs/index.md", "nsa_caps-1.0/NOLICENSE", "nsa_caps/py.typed"]
    assert release.missing(names, ("nsa_caps/py.typed", "LICENSE", "docs/index.md")) == ["LICENSE"]
