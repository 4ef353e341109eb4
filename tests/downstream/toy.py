"""A small indexer with random weights, and an oracle of what it must choose, written apart from every kernel.

Both engines' real modules are given these weights; the oracle goes token by token, in float64, over keys that it
quantises itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

HIDDEN, LORA, DIM, ROPE = 64, 64, 128, 64


class Linear(torch.nn.Module):
    """What engines' linear layers return: the product, and no bias."""

    def __init__(self, inputs: int, outputs: int, *_: object, **__: object) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(inputs * 7919 + outputs)
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs, generator=generator).bfloat16() / inputs**0.5)
        self.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return x times the weight."""
        return torch.nn.functional.linear(x, self.weight), None


class Norm(torch.nn.Module):
    """A layer norm without weights of its own."""

    variance_epsilon = 1e-6

    def __init__(self, size: int, *_: object, **__: object) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size), requires_grad=False)
        self.bias = torch.nn.Parameter(torch.zeros(size), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with mean 0 and variance 1."""
        return torch.nn.functional.layer_norm(x.float(), x.shape[-1:]).to(x.dtype)


class Rope(torch.nn.Module):
    """Rotates pairs of dimensions by the position, the first half against the second."""

    def forward(self, positions: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return q and k rotated."""
        return turn(positions, q), turn(positions, k)


def turn(positions: Tensor, x: Tensor) -> Tensor:
    """Rotate x `[tokens, ..., dims]` by its positions."""
    half = x.shape[-1] // 2
    speed = 10000 ** (-torch.arange(half, device=x.device) / half)
    angle = positions.to(torch.float32).view(-1, *[1] * (x.dim() - 1)) * speed
    first, second = x.float()[..., :half], x.float()[..., half:]
    turned = torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)
    return turned.to(x.dtype)


def hadamard(x: Tensor, scale: float = 1.0) -> Tensor:
    """Return x times a Hadamard matrix: what engines' kernel of that name returns."""
    matrix = torch.ones(1, 1, device=x.device)
    while matrix.shape[0] < x.shape[-1]:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return ((x.float() @ matrix) * scale).to(x.dtype)


def quantised(x: Tensor, dtype: torch.dtype, *, powers_of_two: bool) -> tuple[Tensor, Tensor]:
    """Return x rounded to fp8 a row of 128 at a time, in float64, and the scales: the oracle's own."""
    scale = x.double().abs().amax(-1).clamp_min(1e-4) / torch.finfo(dtype).max
    if powers_of_two:
        scale = 2.0 ** scale.log2().ceil()
    return (x.double() / scale.unsqueeze(-1)).float().to(dtype).double(), scale


@dataclass
class Request:
    """One request: its pages, and every hidden state so far."""

    pages: list[int]
    hidden: Tensor = field(default_factory=lambda: torch.zeros(0, HIDDEN, dtype=torch.bfloat16))
    lora: Tensor = field(default_factory=lambda: torch.zeros(0, LORA, dtype=torch.bfloat16))

    def grow(self, tokens: int, device: torch.device) -> None:
        """Append random tokens."""
        for name, width in (("hidden", HIDDEN), ("lora", LORA)):
            new = torch.randn(tokens, width).bfloat16()
            setattr(self, name, torch.cat([getattr(self, name).to(device), new.to(device)]))

    def __len__(self) -> int:
        return self.hidden.shape[0]


@dataclass
class Weights:
    """The layers of the indexer, shared by the real module and the oracle."""

    heads: int
    wq: Any
    wk: Any
    gate: Any

    def scores(self, request: Request, query: int, dtype: torch.dtype, *, powers_of_two: bool, rotate: bool) -> Tensor:
        """Return the scores of one query over the tokens that it sees, itself among them: float64 `[query + 1]`."""
        places = torch.arange(query + 1, device=request.hidden.device)
        keys = Norm(DIM)(self.wk(request.hidden[: query + 1])[0])
        keys = torch.cat([turn(places, keys[:, :ROPE]), keys[:, ROPE:]], -1)
        q = self.wq(request.lora[query : query + 1])[0].view(1, self.heads, DIM)
        q = torch.cat([turn(places[-1:], q[..., :ROPE]), q[..., ROPE:]], -1)
        if rotate:
            keys, q = hadamard(keys, DIM**-0.5), hadamard(q, DIM**-0.5)
        k8, k_scale = quantised(keys, dtype, powers_of_two=powers_of_two)
        q8, q_scale = quantised(q, dtype, powers_of_two=powers_of_two)
        gate = self.gate(request.hidden[query : query + 1])[0].double() * self.heads**-0.5 * DIM**-0.5
        products = torch.relu(torch.einsum("hd,td->ht", q8[0], k8))
        scores: Tensor = (products * (gate[0] * q_scale[0]).unsqueeze(1)).sum(0) * k_scale
        return scores


def check_chosen(chosen: Tensor, scores: Tensor, topk: int) -> None:
    """Hold the tokens that were chosen against the oracle's scores, but for those that differ by rounding alone.

    Args:
        chosen: int, the positions, -1 where there is none.
        scores: float64, of all that the query sees.
        topk: how many.
    """
    found = [int(place) for place in chosen.tolist() if place >= 0]
    wanted = min(topk, scores.shape[0])
    assert len(found) == len(set(found)) == wanted, (found, wanted)
    assert max(found) < scores.shape[0], "a token that the query does not see was chosen"
    worst = scores.topk(wanted).values[-1]
    spread = (scores.max() - scores.min()).clamp_min(1e-9)
    assert scores[found].min() >= worst - 2e-3 * spread, "a token that scores less was chosen"
