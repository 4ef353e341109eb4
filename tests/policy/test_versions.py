"""Version texts, as their consumers compare them."""

from __future__ import annotations

import pytest

from nsa_caps.policy.versions import base_version, parse_version, without_local


@pytest.mark.parametrize("text", [None, "", "unknown", "3.6.0.rocm", "3.6.0+git~1", "٣.6", "3." + "9" * 5000])
def test_a_text_that_is_no_version(text: str | None) -> None:
    """What packaging refuses, or int(), is None; aiter's own comparison raises there."""
    assert parse_version(text) is None
    assert base_version(text) is None


@pytest.mark.parametrize("text", ["3.5.0", "3.5.0rc1", "3.5.0.dev1", "3.5.0+gite392a058", "3.5.0.post2", "v3.5.0"])
def test_the_base_version(text: str) -> None:
    """Every build of a version has its base: `Version(Version(v).base_version)` (914dcee3)."""
    assert base_version(text) == parse_version("3.5.0")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("3.6.0+rocm7.2.0", "3.6.0"),
        ("3.6.0rc1", "3.6.0rc1"),
        ("3.6.0.dev1+git1", "3.6.0.dev1"),
        ("3.6.0+git~1", "3.6.0"),
    ],
)
def test_a_version_without_its_local_part(text: str, same: str) -> None:
    """Only what stands behind the plus is dropped: `Version(v.split("+")[0])` (f061fba9)."""
    assert without_local(text) == parse_version(same)


@pytest.mark.parametrize("text", [None, "", "unknown", "+3.6.0"])
def test_nothing_is_left_without_the_local_part(text: str | None) -> None:
    """A text that is none before the plus is None."""
    assert without_local(text) is None
