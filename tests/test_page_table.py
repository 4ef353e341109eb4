"""Page tables: derived from token slots, and taken from an engine's metadata."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nsa_caps.page_table import PageTableError, from_metadata, from_token_table


def token_table(pages: list[list[int]], page_size: int) -> torch.Tensor:
    """The token slots of requests whose pages are given: what engines keep a request."""
    return torch.tensor(
        [[page * page_size + slot for page in row for slot in range(page_size)] for row in pages], dtype=torch.int32
    )


@given(
    pages=st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(st.integers(0, 30_000), min_size=width, max_size=width), min_size=1, max_size=4)
    ),
    page_size=st.sampled_from([1, 2, 16, 64]),
    index_kpool=st.sampled_from([1, 2, 4]),
)
def test_pages_come_back_out_of_their_token_slots(pages: list[list[int]], page_size: int, index_kpool: int) -> None:
    """The oracle is the table that the slots were made from; a pooled page holds kpool times the tokens."""
    found = from_token_table(token_table(pages, page_size * index_kpool), page_size, index_kpool)
    assert found.dtype == torch.int32
    assert found.tolist() == pages


def test_a_partly_filled_last_page_is_kept() -> None:
    """70 columns of slots are two pages of 64."""
    slots = torch.arange(64, 134, dtype=torch.int64)[None]
    assert from_token_table(slots, 64).tolist() == [[1, 2]]


def test_padding_stays_negative() -> None:
    """A slot of -1 becomes page -1 under floor division, not page 0, which is a real page."""
    assert from_token_table(torch.full((1, 128), -1, dtype=torch.int32), 64).tolist() == [[-1, -1]]


def test_token_tables_are_handed_through() -> None:
    """At one token a page there is nothing to derive and nothing is copied."""
    table = torch.arange(4, dtype=torch.int32)[None]
    assert from_token_table(table, 1) is table


@pytest.mark.parametrize(("page_size", "index_kpool"), [(1, 1), (64, 1), (64, 4)])
def test_deriving_reads_no_value_on_the_host(page_size: int, index_kpool: int) -> None:
    """On the meta device, which has shapes and no values, any host synchronisation fails."""
    table = torch.empty((3, 512), dtype=torch.int64, device="meta")
    found = from_token_table(table, page_size, index_kpool)
    assert (tuple(found.shape), found.dtype) == ((3, 512 // page_size // index_kpool), torch.int32)


@pytest.mark.parametrize(
    ("table", "page_size", "index_kpool", "argument"),
    [
        (torch.zeros((2, 64)), 64, 1, "token_table"),
        (torch.zeros(64, dtype=torch.int32), 64, 1, "token_table"),
        (torch.zeros((1, 2, 64), dtype=torch.int32), 64, 1, "token_table"),
        ([[0, 1]], 64, 1, "token_table"),
        (torch.zeros((2, 64), dtype=torch.int32), 0, 1, "page_size"),
        (torch.zeros((2, 64), dtype=torch.int32), 64, 1.5, "index_kpool"),
    ],
)
def test_bad_arguments_are_named(table: object, page_size: object, index_kpool: object, argument: str) -> None:
    """The error begins with the argument's name and carries it."""
    with pytest.raises(PageTableError, match=f"^{argument}: got ") as caught:
        from_token_table(table, page_size, index_kpool)  # type: ignore[arg-type]
    assert caught.value.argument == argument


def metadata(**tables: torch.Tensor | None) -> SimpleNamespace:
    """Metadata with one getter a table, each handing out the table of its name."""
    return SimpleNamespace(**{f"get_{name}": lambda table=table: table for name, table in tables.items()})


TOKENS = torch.arange(512, dtype=torch.int32)[None]
PAGES = torch.tensor([[4, 5, 6, 7, 12, 13, 14, 15]], dtype=torch.int32)


@pytest.mark.parametrize(
    ("page_size", "index_kpool", "expected"),
    [(1, 1, TOKENS), (64, 1, PAGES), (16, 1, PAGES), (64, 4, torch.tensor([[1, 3]]))],
)
def test_the_getter_follows_the_page_size(page_size: int, index_kpool: int, expected: torch.Tensor) -> None:
    """SGLang's `get_page_table_64` gives pages of whatever size is physical; pooling is added here."""
    engine = metadata(page_table_1=TOKENS, page_table_64=PAGES)
    found = from_metadata(engine, page_size, index_kpool)
    assert found.tolist() == expected.tolist()


def test_missing_getters_are_named() -> None:
    """The error says which method is missing from what."""
    with pytest.raises(PageTableError, match=r"^get_page_table_64: SimpleNamespace has no such method"):
        from_metadata(metadata(page_table_1=TOKENS), 64)


def test_a_getter_without_a_table_is_named() -> None:
    """SGLang drops the token table for some decode graphs (`dsa_drop_wide_page_table`): None is told, not divided."""
    with pytest.raises(PageTableError, match=r"^SimpleNamespace.get_page_table_1\(\): got NoneType"):
        from_metadata(metadata(page_table_1=None), 1)


def test_what_no_page_number_holds_names_no_other_page() -> None:
    """A slot beyond 32 bits stays a page that no cache has: cut off, it would be page 0."""
    slots = torch.tensor([[2**40, 2**32, 128, -1]])
    assert from_token_table(slots, 1).tolist() == [[2**31 - 1, 2**31 - 1, 128, -1]]
    assert from_token_table(slots, 2).tolist() == [[2**31 - 1, 64]]


@pytest.mark.parametrize(("page_size", "index_kpool"), [(2**63, 1), (2**16, 2**16), (1, 2**31)])
def test_pages_beyond_all_tokens_are_refused(page_size: int, index_kpool: int) -> None:
    """More tokens a page than 32 bits count are no page, also where torch could not even hold the number."""
    with pytest.raises(PageTableError, match="page_size"):
        from_token_table(torch.zeros(1, 4, dtype=torch.int64), page_size, index_kpool)


def test_the_largest_page_counts_all_tokens_that_32_bits_do() -> None:
    """2**31 - 1 tokens are a page, and every slot that there can be is in it."""
    slots = torch.tensor([[2**31 - 2, 0]])
    assert from_token_table(slots, 2**31 - 1).tolist() == [[0]]


def test_a_getter_that_fails_is_named() -> None:
    """What the engine's getter raises is told as what came instead of a table."""

    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(PageTableError, match=r"get_page_table_1: .*KeyError: 'x'"):
        from_metadata(SimpleNamespace(get_page_table_1=fails), 1)


def test_slots_far_below_zero_are_padding_too() -> None:
    """Whatever is negative in 64 bits is page -1 in 32, never a page of the cache."""
    slots = torch.tensor([[-(2**40), -65, -1]], dtype=torch.int64)
    assert from_token_table(slots, 1).tolist() == [[-1, -1, -1]]


def test_without_a_pool_an_engines_table_is_taken_as_it_is() -> None:
    """One token an index state is what is meant where nothing is said."""
    table = torch.tensor([[5, 6, 7]], dtype=torch.int32)
    assert from_metadata(SimpleNamespace(get_page_table_64=lambda: table), 64) is table
