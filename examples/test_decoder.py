"""The decoder over every layout, on a laptop: the same tokens, prefilled or decoded, whatever the pages."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from decoder import VOCABULARY, Decoder, Requests
from nsa_caps.testing import every_layout

if TYPE_CHECKING:
    from nsa_caps import IndexerLayout

# Longer than what is chosen, as long, and shorter.
PROMPTS = [[(7 * i + request) % VOCABULARY for i in range(length)] for request, length in enumerate((90, 16, 3))]
COUNT = 6


def decoder(layout: IndexerLayout) -> Decoder:
    """Return the decoder with room for the prompts and what follows them."""
    return Decoder(layout, num_pages=160 // layout.page_size + len(PROMPTS))


def reference(dialect: str) -> IndexerLayout:
    """Return the reference row's layout on a machine of the dialect."""
    return next(layout for layout in every_layout(("reference",)) if layout.format.dialect == dialect)


@cache
def expected(dialect: str) -> list[list[int]]:
    """Return what the reference row generates; the two dialects round keys differently."""
    return decoder(reference(dialect)).generate(PROMPTS, COUNT)


def test_every_row_generates_the_same_tokens(indexer_layout: IndexerLayout) -> None:
    """In pages of any size and order."""
    assert decoder(indexer_layout).generate(PROMPTS, COUNT) == expected(indexer_layout.format.dialect)


@pytest.mark.parametrize("dialect", ["e4m3fn", "e4m3fnuz"])
def test_decoding_is_prefilling_all_at_once(dialect: str) -> None:
    """The last token follows the whole text, read in one pass, as it followed token by token."""
    model, found = decoder(reference(dialect)), expected(dialect)
    texts = [prompt + tokens[:-1] for prompt, tokens in zip(PROMPTS, found, strict=True)]
    assert model.step(texts, Requests(model.layout, model.num_pages, "cpu")) == [tokens[-1] for tokens in found]
