"""Every seed of the fuzzer, and every input that it ever found fault with, holds; `python -m fuzz` looks for more."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS
from nsa_caps import Capabilities, SnapshotError

FINDINGS = Path(__file__).with_name("fuzz_regressions")


@pytest.mark.parametrize("parser", TARGETS)
def test_what_a_parser_meets_in_the_field(tmp_path: Path, parser: str) -> None:
    """A parser's properties hold of everything that fuzzing starts from."""
    for seed in TARGETS[parser].seeds:
        TARGETS[parser].holds(seed, tmp_path)


@pytest.mark.parametrize("finding", sorted(FINDINGS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_failed(tmp_path: Path, finding: Path) -> None:
    """An input that broke a parser's properties breaks them no more."""
    TARGETS[finding.parent.name].holds(finding.read_bytes(), tmp_path)


@pytest.mark.parametrize("place", ['"devices": [%s]', '"extras": {"x": %s}', '"torch": %s'])
def test_a_snapshot_nested_to_any_depth_is_refused(place: str) -> None:
    """Where Python reads JSON just yet, its writer and `repr` give up: a SnapshotError all the same."""
    for depth in range(40, 1100):
        with pytest.raises(SnapshotError):
            Capabilities.from_json("{" + place % ("[" * depth + "]" * depth) + "}")


@pytest.mark.parametrize("parser", TARGETS)
@pytest.mark.parametrize("data", [b"", b"\x00", b"\n", b"\xff" * 100, b"{" * 5000, b"=" * 5000, bytes(range(256)) * 8])
def test_what_no_parser_can_read(tmp_path: Path, parser: str, data: bytes) -> None:
    """Nothing at all, control characters, no UTF-8, nesting: the same properties."""
    TARGETS[parser].holds(data, tmp_path)
