"""The tables of known releases and parts: written by the reader as it stands.

Apart from the tests of the reader, since any change of its code fails here, whatever it does.
"""

from __future__ import annotations

import sys

import pytest

from nsa_caps.probes.aiter.releases import part_table
from tests.tool import tool


def test_the_tables_are_of_the_reader_as_it_stands() -> None:
    """One that asks for more than it did would take a change of that for none: `python tools/aiter_releases.py`."""
    written_by = part_table()["pythons"][0]
    if list(sys.version_info[:2]) != written_by:
        pytest.skip(f"Python {written_by[0]}.{written_by[1]} wrote the tables, and parses into a tree of its own")
    assert part_table()["reader"] == [tool("aiter_releases").reader_digest()]
