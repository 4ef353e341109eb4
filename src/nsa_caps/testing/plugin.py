"""A pytest plugin for an engine's own tests: `pytest_plugins = ["nsa_caps.testing.plugin"]`. Needs the extra `testing`.

Fixtures: `fake_machine` lays out machines, `indexer_layout` runs a test over every layout, `nsa_matrix` over faked
machines and versions. The markers `nsa_layouts` and `nsa_matrix` say which.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps.testing.layouts import every_layout, layout_id
from nsa_caps.testing.machines import machine
from nsa_caps.testing.named_machines import MACHINES, named_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nsa_caps.layout.layout import IndexerLayout
    from nsa_caps.probes.host import Host

__all__ = ["MATRIX", "fake_machine", "indexer_layout", "nsa_matrix"]

MATRIX: Mapping[str, tuple[Any, ...]] = {
    "name": tuple(MACHINES),
    "triton": ("3.3.1", "3.4.0", "3.5.1", "3.6.0", "3.7.0"),
}
"""What `nsa_matrix` runs over where no marker says otherwise: every named machine with each of these Tritons."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for line in (
        "nsa_layouts(rows, page_sizes, request): which layouts `indexer_layout` takes, by `every_layout`",
        "nsa_matrix(**axes): what `nsa_matrix` runs over: a list of values by argument of `machine`, or by `name`",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise the tests that ask for `indexer_layout` or `nsa_matrix`."""
    if "indexer_layout" in metafunc.fixturenames:
        marked = _marked(metafunc, "nsa_layouts", {})
        try:
            layouts = every_layout(**marked)
        except (TypeError, ValueError) as error:
            raise pytest.fail.Exception(f"{metafunc.definition.nodeid}: nsa_layouts: {error}", pytrace=False) from None
        metafunc.parametrize("indexer_layout", layouts, ids=layout_id, indirect=True)
    if "nsa_matrix" in metafunc.fixturenames:
        axes = _marked(metafunc, "nsa_matrix", MATRIX)
        cases = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        ids = ["-".join(str(value) for value in case.values()) for case in cases]
        metafunc.parametrize("nsa_matrix", cases, ids=ids, indirect=True)


def _marked(metafunc: pytest.Metafunc, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
    marker = metafunc.definition.get_closest_marker(name)
    return default if marker is None else marker.kwargs


@pytest.fixture
def fake_machine(tmp_path: Path) -> Callable[..., Host]:
    """Lay out a machine below `tmp_path`: `fake_machine("mi355x", triton="3.6.0")`, or `machine`'s arguments alone."""
    count = 0

    def lay_out(name: str | None = None, **arguments: Any) -> Host:
        nonlocal count
        count += 1
        folder = tmp_path / f"machine-{count}"
        return machine(folder, **arguments) if name is None else named_machine(folder, name, **arguments)

    return lay_out


@pytest.fixture
def indexer_layout(request: pytest.FixtureRequest) -> IndexerLayout:
    """Return one layout of every one that the rows can hand out; its kernels run on any device that torch has."""
    layout: IndexerLayout = request.param
    return layout


@pytest.fixture
def nsa_matrix(request: pytest.FixtureRequest, fake_machine: Callable[..., Host]) -> Host:
    """Return one machine of a matrix over faked machines and versions."""
    return fake_machine(**request.param)
