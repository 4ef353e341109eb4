"""The floors of Triton in the table of architectures, against what compiled with real wheels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from nsa_caps.archs import ARCHS

RECORDS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("floors.json").read_text(encoding="utf-8"))
# Below sm_80 Triton supports no GPU, whatever its compiler makes of it; sm_101 became sm_110 with CUDA 13.
NOT_PROMISED = {"sm_75", "sm_101"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['arch']}-{record['triton']}")
def test_the_floor_is_what_compiled(record: dict[str, Any]) -> None:
    """Every kernel compiles from the floor on, and below it not every one does."""
    known, triton = ARCHS.get(record["arch"]), Version(record["triton"])
    if record["arch"] in NOT_PROMISED:
        assert known is None or known.triton is None
        return
    assert known is not None
    assert known.triton is not None
    assert (record["failed"] == 0) == (triton >= Version(known.triton))
    assert record["failed"] == 0 or record["error"]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record['arch']}-{record['triton']}")
def test_fp8_products_are_asked_for_where_they_became_fp8_instructions(record: dict[str, Any]) -> None:
    """In the dialect of the GPU's own keys; one that the compiler widens is no reason to ask."""
    known = ARCHS.get(record["arch"])
    if known is None or known.triton is None:
        return
    asked = known.fp8_product is not None and Version(record["triton"]) >= Version(known.fp8_product)
    assert (known.dialect in record["fp8"]) == asked


def test_every_gpu_of_the_table_was_measured() -> None:
    """A floor without a measurement would be a guess."""
    assert {arch.name for arch in ARCHS.values() if arch.triton} <= {record["arch"] for record in RECORDS}
