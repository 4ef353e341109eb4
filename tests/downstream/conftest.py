"""The wheels that `--wheels` names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.downstream.wheels import find_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.downstream.wheels import Wheel

# Read when a kernel is decorated, so it is set before any module of kernels is imported.
if not torch.cuda.is_available() and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def wheels(request: pytest.FixtureRequest) -> Iterator[list[Wheel]]:
    """Return the engines' wheels; skip where no folder is named."""
    folder = request.config.getoption("--wheels")
    if folder is None:
        pytest.skip(
            "needs --wheels DIR: pip download --no-deps -d DIR, for sglang==0.5.12, sglang==0.5.23, vllm==0.33.0"
        )
    found = find_wheels(Path(folder))
    yield found
    for wheel in found:
        wheel.close()


def versions_of(wheels: list[Wheel], project: str) -> list[Wheel]:
    """Return one engine's wheels, of which there must be some."""
    found = [wheel for wheel in wheels if wheel.project == project]
    assert found, f"no wheel of {project} is in the folder that --wheels names"
    return found


@pytest.fixture(scope="session")
def sglangs(wheels: list[Wheel]) -> list[Wheel]:
    """Return SGLang's wheels."""
    return versions_of(wheels, "sglang")


@pytest.fixture(scope="session")
def vllms(wheels: list[Wheel]) -> list[Wheel]:
    """Return vLLM's wheels."""
    return versions_of(wheels, "vllm")
