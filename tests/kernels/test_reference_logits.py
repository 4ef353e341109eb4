"""The reference's logits against their definition in float64, byte by byte and token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nsa_caps.kernels.arguments import KernelArgumentError
from nsa_caps.kernels.reference_logits import logits
from nsa_caps.pages import Order, PageFormat
from tests.kernels.logits_cases import assert_scores, make_case

PAGES: list[tuple[int, Order]] = [(1, "flat"), (16, "flat"), (16, "tiles"), (64, "flat"), (64, "tiles"), (128, "tiles")]
FORMATS = [
    fmt
    for page_size, order in PAGES
    for fmt in (
        PageFormat(page_size=page_size, order=order),
        PageFormat(page_size=page_size, order=order, dialect="e4m3fnuz", scale_format="ue8m0_packed", row_stride=144),
    )
]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.page_size}-{fmt.order}-{fmt.dialect}")
def test_scores_follow_the_definition(fmt: PageFormat, device: str) -> None:
    """Ragged contexts, empty ones and single tokens among them, wherever their pages lie."""
    case = make_case(fmt, [70, 0, 1, 150, 128], 150, next_n=2, device=device)
    assert_scores(case, logits(*case.arguments, fmt=fmt, out=case.poisoned()))


@pytest.mark.parametrize("next_n", [1, 2, 3])
def test_each_query_sees_the_tokens_up_to_its_own(next_n: int, device: str) -> None:
    """The length counts the last query's token; a context shorter than the queries leaves the first ones nothing."""
    fmt = PageFormat(page_size=16)
    case = make_case(fmt, [40, 2, 1], 64, next_n=next_n, device=device)
    found = logits(*case.arguments, fmt=fmt, out=case.poisoned())
    visible = (found > -torch.inf).sum(dim=1).view(3, next_n).tolist()
    assert visible == [[max(length - next_n + 1 + query, 0) for query in range(next_n)] for length in (40, 2, 1)]
    assert_scores(case, found)


def test_a_context_beyond_the_width_is_cut_off(device: str) -> None:
    """Scores end at `max_model_len`, in the middle of a page as well."""
    fmt = PageFormat(page_size=16)
    case = make_case(fmt, [90, 37], 37, device=device)
    assert_scores(case, logits(*case.arguments, fmt=fmt, out=case.poisoned()))


def test_a_width_beyond_the_page_table_is_filled(device: str) -> None:
    """No column of the table, no token: `-inf`."""
    fmt = PageFormat(page_size=16)
    case = make_case(fmt, [32, 5], 32, device=device)
    found = logits(*case.arguments[:5], 50, fmt=fmt)
    assert_scores(case, found[:, :32])
    assert (found[:, 32:] == -torch.inf).all()


def test_an_output_of_spaced_rows_is_written(device: str) -> None:
    """Engines hand over a part of a wider buffer; what lies beside it stays."""
    fmt = PageFormat(page_size=16)
    case = make_case(fmt, [20, 31], 32, device=device)
    buffer = torch.full((2, 40), 7.0, device=device)
    assert logits(*case.arguments, fmt=fmt, out=buffer[:, :32]).data_ptr() == buffer.data_ptr()
    assert_scores(case, buffer[:, :32])
    assert (buffer[:, 32:] == 7.0).all()


BAD: list[tuple[str, int, Any]] = [
    ("q", 0, lambda q: q.float()),
    ("q", 0, lambda q: q[..., :64]),
    ("q", 0, lambda q: q.transpose(1, 2)),
    ("q", 0, lambda q: q[:, :0]),
    ("cache", 1, lambda cache: cache[:, 1:]),
    ("weights", 2, lambda weights: weights[:1]),
    ("weights", 2, lambda weights: weights.half()),
    ("context_lens", 3, lambda lengths: lengths.long()),
    ("page_table", 4, lambda table: table.t().contiguous().t()),
    ("max_model_len", 5, float),
    ("max_model_len", 5, lambda width: -width),
]


@pytest.mark.parametrize(("name", "index", "change"), BAD)
def test_an_argument_that_does_not_fit_is_named(name: str, index: int, change: Any) -> None:
    """Before anything is computed, with what came and what is needed."""
    fmt = PageFormat(page_size=16)
    arguments: list[Any] = list(make_case(fmt, [20, 31], 32, next_n=2).arguments)
    arguments[index] = change(arguments[index])
    with pytest.raises(KernelArgumentError) as caught:
        logits(*arguments, fmt=fmt)
    assert caught.value.argument == name
    assert caught.value.observed in str(caught.value)


def test_an_output_of_another_shape_is_refused() -> None:
    """It would be left unwritten in part."""
    fmt = PageFormat(page_size=16)
    case = make_case(fmt, [20], 32)
    with pytest.raises(KernelArgumentError, match=r"out: got .*\[1, 31\].*need .*\[1, 32\]"):
        logits(*case.arguments, fmt=fmt, out=torch.empty(1, 31))


def test_several_scales_a_token_are_refused() -> None:
    """A score is scaled once."""
    fmt = PageFormat(page_size=16, quant_block_size=64)
    case = make_case(PageFormat(page_size=16), [20], 32)
    cache = torch.zeros(4, fmt.page_bytes, dtype=torch.uint8)
    with pytest.raises(KernelArgumentError, match="2 scales a token"):
        logits(case.arguments[0], cache, *case.arguments[2:], fmt=fmt)
