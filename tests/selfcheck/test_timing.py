"""What calls cost, measured with kernels that do next to nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from nsa_caps.pages import PageFormat
from nsa_caps.selfcheck import timing
from nsa_caps.selfcheck.records import RowKernels
from nsa_caps.selfcheck.timing import Shape, time_calls

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT = PageFormat(page_size=64)
SMALL, LARGE, GATHER = (
    Shape("decode 1 x 128", "logits", 1, 128),
    Shape("decode 4 x 128", "logits", 4, 128),
    Shape("gather of 256", "gather", 2, 128),
)


@pytest.fixture(autouse=True)
def _small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SHAPES", (LARGE, SMALL, GATHER))


def row(logits: Callable[..., Any] | None, gather: Callable[..., Any]) -> RowKernels:
    """Return a row of two kernels."""
    return RowKernels("toy", gather, gather, None, logits, {"Preshuffle": False})


def times(kernels: RowKernels) -> tuple[list[str], dict[str, float]]:
    """Return the shapes that were begun and what was measured."""
    begun: list[str] = []
    return begun, dict(time_calls(kernels, FORMAT, "cpu", 32, begun.append))


def test_every_shape_is_timed_with_what_engines_hand() -> None:
    """The smallest first, told in the table's order; tensors are of the shapes, and options go along."""
    seen: set[tuple[Any, ...]] = set()

    def logits(q: Any, cache: Any, weights: Any, lengths: Any, table: Any, width: int, **options: Any) -> None:
        assert options.pop("out").shape == (q.shape[0], width)
        seen.add((tuple(q.shape), tuple(weights.shape), int(lengths.max()), tuple(table.shape), options["Preshuffle"]))
        assert cache.shape == (table.numel(), FORMAT.page_bytes)

    def gather(_: Any, table: Any, ends: Any, *, total_tokens: int, fmt: PageFormat) -> None:
        seen.add((tuple(table.shape), ends.tolist()[-1], total_tokens, fmt.page_size))

    begun, found = times(row(logits, gather))
    assert begun == ["timing decode 1 x 128", "timing gather of 256", "timing decode 4 x 128"]
    assert list(found) == [LARGE.name, SMALL.name, GATHER.name]
    assert all(0 < microseconds < 1e6 for microseconds in found.values())
    assert seen == {
        ((1, 1, 32, 128), (1, 32), 128, (1, 2), False),
        ((4, 1, 32, 128), (4, 32), 128, (4, 2), False),
        ((2, 2), 256, 256, 64),
    }


def test_a_call_that_takes_long_leaves_the_larger_shapes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would take four times as long, and more than there is time for."""
    monkeypatch.setattr(timing, "_SECONDS", 0.2)
    _, found = times(row(lambda *_, **__: time.sleep(0.06), lambda *_, **__: time.sleep(0.06)))
    assert list(found) == [SMALL.name]
    assert found[SMALL.name] >= 60_000


def test_where_memory_ends_so_do_the_times() -> None:
    """What was measured before is told."""

    def no_room(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    assert list(times(row(lambda *_, **__: None, no_room))[1]) == [SMALL.name]


def test_a_row_without_logits_has_no_times_of_them() -> None:
    """An empty call would pass for a fast one."""
    assert list(times(row(None, lambda *_, **__: None))[1]) == [GATHER.name]
