"""What more than one test module asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Set before torch is imported, here and in children: with as many workers as cores, torch's own threads wait for each
# other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Deterministic, so that a failure on one machine is one on all. `.ci/run` asks for the wide one.
settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("wide", max_examples=200, deadline=None, derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    """Take the quick profile where no other is asked for."""
    settings.load_profile(config.getoption("--hypothesis-profile") or "quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--aiter-checkout` and `--wheels`."""
    parser.addoption(
        "--aiter-checkout",
        metavar="DIR",
        help="a git folder of github.com/ROCm/aiter with its history; runs the tests that read aiter's real sources",
    )
    parser.addoption(
        "--wheels",
        metavar="DIR",
        help="a folder with wheels of SGLang and vLLM; runs the tests that hold this library against their own gates",
    )
    parser.addoption("--pyright", action="store_true", help="run the tests that need pyright")


@pytest.fixture(scope="session")
def aiter_checkout(request: pytest.FixtureRequest) -> Path:
    """Return the git folder that `--aiter-checkout` names; skip where it names none."""
    folder = request.config.getoption("--aiter-checkout")
    if folder is None:
        pytest.skip("needs --aiter-checkout DIR: git clone --bare https://github.com/ROCm/aiter DIR")
    return Path(folder)
