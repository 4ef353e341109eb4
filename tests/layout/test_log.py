"""What an engine's log gets: one line of a layout, at the level that it deserves, once a process."""

from __future__ import annotations

import inspect
import pydoc
from typing import TYPE_CHECKING, get_args

import pytest

import nsa_caps
from nsa_caps import select_indexer_layout
from nsa_caps.capabilities.engines import ENGINES, EngineName
from nsa_caps.layout.log import log_layout
from nsa_caps.testing.named_machines import named_capabilities

if TYPE_CHECKING:
    from nsa_caps import IndexerLayout, Request


def layout(name: str, request: Request | None = None) -> IndexerLayout:
    """Return the layout of a named machine."""
    return select_indexer_layout(named_capabilities(name), request)


def test_the_best_row_is_one_short_line() -> None:
    """A layout prints as its row, page size and fingerprint."""
    best = layout("h200")
    assert str(best) == f"deepgemm page=64 format={best.fingerprint}"


def test_a_fallback_says_what_bars_each_better_row() -> None:
    """Each better row of this platform stands with the codes against it, and no other platform's."""
    fallback = layout("mi300x_rocm700")
    better = "aiter-preshuffle[triton.too-old], aiter-flat[aiter.plain-one-token]"
    assert str(fallback) == f"aiter-token page=1 format={fallback.fingerprint}; not {better}"


def test_pages_of_a_kpool_tell_the_model_s_page() -> None:
    """The engine allocates pages of the model's size."""
    assert "page=64 model_page=128 format=" in str(layout("h200", nsa_caps.Request(index_kpool=2)))


def test_its_repr_fits_a_line_of_a_log() -> None:
    """The decision, thousands of characters, is not part of it."""
    assert len(repr(layout("mi300x_rocm700"))) < 400


def test_the_best_row_is_logged_as_information(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is wrong with it."""
    best = layout("h200")
    with caplog.at_level("INFO", "nsa_caps"):
        log_layout(best)
    assert caplog.record_tuples == [("nsa_caps", 20, str(best))]


def test_a_fallback_is_logged_as_a_warning_with_its_fix(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever greps the log for warnings finds what the deployment loses, and what mends it."""
    fallback = layout("mi300x_rocm700")
    log_layout(fallback)
    first, second = caplog.messages
    steps = fallback.decision.smallest_fix("aiter-preshuffle")
    assert steps is not None
    assert first == f"{fallback}; fix: {steps[0].fix}"
    assert "aiter#4774" in second, "wrong results are a warning of their own"
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_fallback_that_nothing_mends_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """No fix is made up."""
    log_layout(layout("mi250x"))
    assert caplog.messages[0].endswith("; fix: none: the report says why")


def test_it_is_logged_once_a_process(caplog: pytest.LogCaptureFixture) -> None:
    """The second call returns the same layout and logs nothing."""
    nsa_caps.get_indexer_layout.cache_clear()
    with caplog.at_level("INFO", "nsa_caps"):
        first = nsa_caps.get_indexer_layout(engine="generic")
        count = len(caplog.records)
        assert nsa_caps.get_indexer_layout(engine="generic") is first
    assert count >= 1
    assert len(caplog.records) == count
    nsa_caps.get_indexer_layout.cache_clear()


def test_help_and_an_ide_find_a_function() -> None:
    """Its signature, its arguments' types and its docstring are its own."""
    function = nsa_caps.get_indexer_layout
    assert inspect.isfunction(function)
    assert inspect.signature(function).parameters["engine"].annotation == "EngineName | None"
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert "function get_indexer_layout in module nsa_caps.layout.cached" in text
    assert "NoUsableLayoutError: every row is out" in text
    with pytest.raises(TypeError, match="get_indexer_layout"):
        function("sglang")


def test_completion_shows_every_public_name_and_no_other() -> None:
    """`dir(nsa_caps)` has what is imported at first use, and no module of the inside."""
    shown = {name for name in dir(nsa_caps) if not name.startswith("__")}
    assert shown == {name for name in nsa_caps.__all__ if not name.startswith("__")}
    assert all(hasattr(nsa_caps, name) for name in nsa_caps.__all__)


def test_a_type_checker_knows_every_engine() -> None:
    """The names that `engine=` completes are those of the table."""
    assert get_args(EngineName) == ENGINES
