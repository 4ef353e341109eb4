"""A small sparse-attention decoder of random weights: its indexer knows nothing of pages but one layout.

    python examples/decoder.py

Each layer's indexer scores every cached token, as DeepSeek-V3.2's does, and attention reads the `TOP` best of them.
Prompts are prefilled in one pass, then every request gets a token a step. It runs on any machine, and generates the
same tokens under every row.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from nsa_caps import IndexerLayout

VOCABULARY, WIDTH, LAYERS, HEADS, HEAD_DIM = 128, 64, 2, 4, 16
INDEX_HEADS, INDEX_DIM, TOP = 32, 128, 16
FP8 = {"e4m3fn": torch.float8_e4m3fn, "e4m3fnuz": torch.float8_e4m3fnuz}


class Requests:
    """Requests that grow, and the pages that each was handed; the getters are those of SGLang's metadata."""

    def __init__(self, layout: IndexerLayout, num_pages: int, device: str) -> None:
        self.page_size = layout.page_size
        self.device = device
        self.free = random.Random(0).sample(range(num_pages), num_pages)  # noqa: S311 no secret
        self.slots: list[list[int]] = []

    def extend(self, counts: Sequence[int]) -> Tensor:
        """Make room for `counts` more tokens a request; return their slots, int64 `[tokens]`, request by request."""
        self.slots.extend([] for _ in counts[len(self.slots) :])
        new: list[int] = []
        for held, count in zip(self.slots, counts, strict=True):
            for _ in range(count):
                within = len(held) % self.page_size
                held.append(held[-1] + 1 if within else self.free.pop() * self.page_size)
            new += held[len(held) - count :]
        return torch.tensor(new, device=self.device)

    def lengths(self) -> Tensor:
        """Return each request's length, int32 `[batch]`."""
        return torch.tensor([len(held) for held in self.slots], dtype=torch.int32, device=self.device)

    def get_page_table_1(self) -> Tensor:
        """Return the slot of every token, int32 `[batch, longest]`; 0 behind a request's last."""
        longest = max(map(len, self.slots))
        table = [held + [0] * (longest - len(held)) for held in self.slots]
        return torch.tensor(table, dtype=torch.int32, device=self.device)

    def get_page_table_64(self) -> Tensor:
        """Return the pages of every request, int32 `[batch, pages]`, in the layout's page size."""
        return (self.get_page_table_1()[:, :: self.page_size] // self.page_size).contiguous()


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate `[tokens, ..., dim]` by the tokens' positions (RoPE)."""
    half = x.shape[-1] // 2
    angle = positions[:, None] * 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    angle = angle.view(len(x), *[1] * (x.dim() - 2), half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), dim=-1)


class Indexer(nn.Module):
    """Scores cached tokens by fp8 keys in pages of the layout, and chooses the best."""

    def __init__(self, layout: IndexerLayout, num_pages: int, device: str) -> None:
        super().__init__()
        self.layout = layout
        self.query = nn.Linear(WIDTH, INDEX_HEADS * INDEX_DIM, bias=False)
        self.key = nn.Linear(WIDTH, INDEX_DIM, bias=False)
        self.weight = nn.Linear(WIDTH, INDEX_HEADS, bias=False)
        self.cache = torch.zeros(num_pages, layout.format.page_bytes, dtype=torch.uint8, device=device)

    def forward(self, x: Tensor, positions: Tensor, slots: Tensor, requests: Requests) -> tuple[Tensor, Tensor]:
        """Store the tokens' keys, and return the slots of the tokens that each may attend to, and which of them count.

        Args:
            x: float32 `[tokens, WIDTH]`: every token of the requests, or the last of each.
            positions: int64 `[tokens]`.
            slots: int64 `[tokens]`.
            requests: the requests, these tokens among them.

        Returns:
            int64 and bool `[tokens, TOP]`.
        """
        layout = self.layout
        layout.quantise_and_store(self.cache, slots, rotate(self.key(x), positions).bfloat16())
        q = rotate(self.query(x).view(len(x), INDEX_HEADS, INDEX_DIM), positions)
        # The scale of a head's fp8 query goes into the head's weight.
        scale = q.abs().amax(dim=-1).clamp(min=1e-4) / layout.format.fp8_max
        q = (q / scale[..., None]).to(FP8[layout.format.dialect])
        weights = self.weight(x) * scale * (INDEX_HEADS * INDEX_DIM) ** -0.5
        lengths, table = requests.lengths(), layout.page_table(requests)
        if len(x) == len(lengths):
            scores = layout.logits(q[:, None], self.cache, weights, lengths, table, int(lengths.max()))
            seen = requests.get_page_table_1().long()
        else:
            ends = nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
            keys, scales = layout.gather(self.cache, table, ends, total_tokens=len(x))
            starts = ends[:-1].repeat_interleave(lengths)
            scores = layout.ragged_logits(q, keys, scales, weights, starts, starts + positions.int() + 1)
            seen = slots.expand(len(x), -1)
        best = scores.topk(min(TOP, scores.shape[1]), dim=1)
        return seen.gather(1, best.indices), best.values > -torch.inf


class Layer(nn.Module):
    """Attention over the tokens that the indexer chose, and a perceptron."""

    def __init__(self, layout: IndexerLayout, num_pages: int, device: str) -> None:
        super().__init__()
        self.indexer = Indexer(layout, num_pages, device)
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * HEAD_DIM, bias=False)
        self.out = nn.Linear(HEADS * HEAD_DIM, WIDTH, bias=False)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.cache = torch.zeros(2, num_pages * layout.page_size, HEADS, HEAD_DIM, device=device)

    def forward(self, x: Tensor, positions: Tensor, slots: Tensor, requests: Requests) -> Tensor:
        """Return the tokens' next states, float32 `[tokens, WIDTH]`."""
        h = nn.functional.layer_norm(x, (WIDTH,))
        chosen, counts = self.indexer(h, positions, slots, requests)
        q, k, v = self.qkv(h).view(len(x), 3, HEADS, HEAD_DIM).unbind(1)
        self.cache[:, slots] = torch.stack((rotate(k, positions), v))
        keys, values = self.cache[:, chosen]
        scores = torch.einsum("thd,tkhd->thk", rotate(q, positions), keys) * HEAD_DIM**-0.5
        shares = scores.masked_fill(~counts[:, None], -torch.inf).softmax(dim=-1)
        x = x + self.out(torch.einsum("thk,tkhd->thd", shares, values).flatten(1))
        added: Tensor = self.mlp(nn.functional.layer_norm(x, (WIDTH,)))
        return x + added


class Decoder(nn.Module):
    """Layers between an embedding and a vocabulary; the same weights whatever the layout."""

    def __init__(self, layout: IndexerLayout, num_pages: int, device: str = "cpu") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layout, self.num_pages, self.device = layout, num_pages, device
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer(layout, num_pages, device) for _ in range(LAYERS))
        self.vocabulary = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.to(device)

    @torch.inference_mode()
    def step(self, tokens: Sequence[Sequence[int]], requests: Requests) -> list[int]:
        """Append tokens to each request, all of it or one a request, and return the token that follows each."""
        before = [len(held) for held in requests.slots] or [0] * len(tokens)
        counts = [len(each) for each in tokens]
        slots = requests.extend(counts)
        positions = torch.cat([torch.arange(a, a + n) for a, n in zip(before, counts, strict=True)]).to(self.device)
        x = self.embedding(torch.tensor([token for each in tokens for token in each], device=self.device))
        for layer in self.layers:
            x = layer(x, positions, slots, requests)
        last = torch.tensor(counts).cumsum(0) - 1
        found: list[int] = self.vocabulary(x[last.to(self.device)]).argmax(dim=-1).tolist()
        return found

    def generate(self, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """Return the `count` tokens that follow each prompt, the likeliest each time."""
        requests = Requests(self.layout, self.num_pages, self.device)
        steps = [self.step(prompts, requests)]
        while len(steps) < count:
            steps.append(self.step([[token] for token in steps[-1]], requests))
        return [list(each) for each in zip(*steps, strict=True)]


if __name__ == "__main__":
    from nsa_caps import Request, get_indexer_layout

    layout = get_indexer_layout(request=Request(heads=INDEX_HEADS))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prompts = [[(7 * i + request) % VOCABULARY for i in range(length)] for request, length in enumerate((90, 17, 40))]
    print(layout)  # noqa: T201 what it is for
    for tokens in Decoder(layout, 256 // layout.page_size + 6, device).generate(prompts, 8):
        print(tokens)  # noqa: T201 as above
