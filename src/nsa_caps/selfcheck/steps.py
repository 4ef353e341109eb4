"""The steps of the self-check: what a row is asked, and where its answer first differs from the reference's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from nsa_caps.kernels import reference
from nsa_caps.kernels.arguments import fp8_dtype
from nsa_caps.selfcheck.cache import exact_tokens, float_keys, known_tokens, make_batch
from nsa_caps.selfcheck.diagnosis import UNEXPLAINED, Explanation, differing, explain_reader, explain_writer
from nsa_caps.selfcheck.records import Mismatch
from nsa_caps.selfcheck.scores import CONTEXTS, Prompt, Question

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from nsa_caps.pages import PageFormat
    from nsa_caps.selfcheck.cache import Batch, Tokens
    from nsa_caps.selfcheck.records import RowKernels

__all__ = ["NoRoomError", "RowFailedError", "Trial", "open_device"]

# Beyond the 2,048 tokens below which a top-k shows nothing, with empty requests and pages that are not full.
_LENGTHS = (0, 1, 2500, 0, 77)
# Slots that mean nowhere.
_NOWHERE = (-1, -2, -64, -(2**40))
# Rows of gather's outputs beyond the last token, to see that they are left alone.
_MORE_ROWS = 3
# A compiler may have made a scale's division a product with the reciprocal.
_SCALE_ULPS = 1
# Memory that the check needs beside the cache, rounded up.
_WORKSPACE = 2**29


class NoRoomError(Exception):
    """The device has not the memory for the check; the message says how much it needs."""


class RowFailedError(Exception):
    """A row's kernel raised; the message says in which step.

    Attributes:
        cause: what it raised.
    """

    def __init__(self, step: str, cause: Exception) -> None:
        super().__init__(step)
        self.cause = cause


def open_device(name: str) -> tuple[torch.device, str]:
    """Return a device, and what it calls itself.

    Raises:
        RowFailedError: there is no such device here.
    """
    try:
        device = torch.empty(0, device=name).device
        return device, torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    # RuntimeError for an unknown or absent device, AssertionError from a torch that is built without it.
    except Exception as error:
        raise RowFailedError(f"opening the device {name}", error) from error


@dataclass(slots=True)
class _Bench:
    """What the steps of a trial share.

    Attributes:
        batch: where tokens lie.
        cache: the cache, uint8 `[pages, page_bytes]`.
        own_store: the row's own store is right, as far as it was seen.
    """

    batch: Batch
    cache: Tensor
    own_store: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One row on one device, in a small cache or in one that reaches beyond 4 GiB.

    Attributes:
        kernels: the row's.
        fmt: the format that they are asked for.
        device: where.
        generator: of everything random, on the CPU, so that all devices are asked the same.
        heads: query heads of the logits.
        beyond: use the large cache.
        rounds: how often each step is done, each time with other bytes.
    """

    kernels: RowKernels
    fmt: PageFormat
    device: torch.device
    generator: torch.Generator
    heads: int
    beyond: bool
    rounds: int

    def run(self, begin: Callable[[str], object]) -> Iterator[tuple[str, Mismatch | None]]:
        """Do one step after the other; each comes with what went wrong in it.

        Args:
            begin: told the name of each step before it is done.

        Raises:
            NoRoomError: the cache does not fit into the device's memory.
            RowFailedError: a kernel of the row raised.
        """
        batch = self._batch((*_LENGTHS, self.fmt.page_size + 7))
        self._check_room(batch)
        bench = _Bench(batch, batch.cache(batch.blank))
        for kernel, step in _STEPS:
            if getattr(self.kernels, kernel) is not None:
                name = self._name(kernel)
                begin(name)
                yield name, self._first_mismatch(name, step, bench)

    def _first_mismatch(self, name: str, step: _Step, bench: _Bench) -> Mismatch | None:
        # The same shapes with other bytes: output of the call before, or of chance, is not right again.
        return next((found for _ in range(self.rounds) if (found := step(self, name, bench)) is not None), None)

    def _store(self, step: str, bench: _Bench) -> Mismatch | None:
        batch = bench.batch
        tokens = known_tokens(batch.tokens, self.fmt, self.device, self.generator)
        order, slots = self._shuffled(batch)
        keys = tokens[0].view(fp8_dtype(self.fmt))[order]
        bench.cache[batch.seen] = batch.blank
        self._call(step, "store", bench.cache, slots, keys, tokens[1][order])
        mismatch = self._written(step, batch, bench.cache, lambda _: tokens, 0)
        bench.own_store = bench.own_store and mismatch is None
        return mismatch

    def _quantise_and_store(self, step: str, bench: _Bench) -> Mismatch | None:
        batch = bench.batch
        order, slots = self._shuffled(batch)
        values = float_keys(batch.tokens, self.fmt, self.device, self.generator)
        bench.cache[batch.seen] = batch.blank
        self._call(step, "quantise_and_store", bench.cache, slots, values[order])
        return self._written(step, batch, bench.cache, lambda fmt: _quantised(values, fmt), _SCALE_ULPS)

    def _name(self, step: str) -> str:
        return f"{step} beyond 2 GiB" if self.beyond else step

    def _batch(self, lengths: tuple[int, ...]) -> Batch:
        return make_batch(lengths, self.fmt, self.device, self.generator, beyond=self.beyond)

    def _check_room(self, batch: Batch) -> None:
        if self.device.type != "cuda":
            return
        needed = batch.pages * self.fmt.page_bytes + _WORKSPACE
        free, _ = torch.cuda.mem_get_info(self.device)
        if free < needed:
            raise NoRoomError(f"{self._name('store')}: needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free")

    def _shuffled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return which token to write when, and where to; some of them nowhere."""
        order = torch.cat((torch.arange(batch.tokens), torch.arange(len(_NOWHERE))))
        slots = torch.cat((batch.slots, torch.tensor(_NOWHERE, device=self.device)))
        shuffle = torch.randperm(len(order), generator=self.generator)
        return order[shuffle].to(self.device), slots[shuffle.to(self.device)]

    def _call(self, step: str, name: str, *arguments: Any, **options: Any) -> Any:
        try:
            found = getattr(self.kernels, name)(*arguments, fmt=self.fmt, **options)
            if self.device.type != "cpu":
                # What a launch did wrong is raised by the next wait.
                torch.get_device_module(self.device).synchronize(self.device)
        # Whatever a kernel, its compiler or its driver raises.
        except Exception as error:
            raise RowFailedError(step, error) from error
        return found

    def _written(
        self, step: str, batch: Batch, cache: Tensor, tokens: Callable[[PageFormat], Tokens], ulps: int
    ) -> Mismatch | None:
        right, seen = batch.write(tokens(self.fmt), self.fmt), cache[batch.seen]
        expected, found = batch.read(right, self.fmt), batch.read(seen, self.fmt)
        if _any(differing(expected, found, ulps)):
            why = explain_writer(batch, cache, tokens, expected, found, ulps)
            return _mismatch(step, batch, expected, found, ulps, why)
        stray = (batch.write(expected, self.fmt, onto=seen) != right).nonzero()
        if not len(stray):
            return None
        row, byte = stray[0].tolist()
        text = f"{UNEXPLAINED.text}; {len(stray):,} bytes of no token changed"
        part, page = f"byte {byte}", int(batch.seen[row])
        return _stray(step, batch, part, f"{int(right[row, byte]):02x}", f"{int(seen[row, byte]):02x}", text, page)

    def _gather(self, step: str, bench: _Bench) -> Mismatch | None:
        batch, cache, count = bench.batch, bench.cache, bench.batch.tokens
        tokens = known_tokens(count, self.fmt, self.device, self.generator)
        # What the row's own store wrote, if it is right.
        cache[batch.seen] = batch.write(tokens, self.fmt)
        keys = torch.full((count + _MORE_ROWS, self.fmt.head_dim), 0xA5, dtype=torch.uint8, device=self.device)
        scales = torch.full((count + _MORE_ROWS,), -123.0, device=self.device)
        poison = (keys[count:].clone(), scales[count:].clone())
        gathered = self._call(
            step,
            "gather",
            cache,
            batch.page_table,
            batch.cu_seq_lens,
            total_tokens=count,
            out=(keys.view(fp8_dtype(self.fmt)), scales),
        )
        found = (gathered[0].view(torch.uint8)[:count], gathered[1][:count])
        if _any(differing(tokens, found, 0)):
            return _mismatch(step, batch, tokens, found, 0, explain_reader(batch, cache, tokens, found))
        if not _any(differing(poison, (keys[count:], scales[count:]), 0)):
            return None
        text = f"{UNEXPLAINED.text}; rows beyond the last token were written"
        return _stray(step, batch, f"row {count}", "what was there", "something else", text)

    def _logits(self, step: str, bench: _Bench) -> Mismatch | None:
        """Score contexts end to end: their tokens go through the row's own store, unless that is wrong."""
        # Two caches beyond 4 GiB need not fit.
        bench.cache = bench.cache.new_empty(0)
        own_store = bench.own_store
        batch = self._batch(CONTEXTS)
        # What lies beside the tokens can be scored too, so that it can be told when it is.
        slots = batch.blank.shape[0] * self.fmt.page_size
        batch = batch.filled(exact_tokens(slots, self.fmt, self.device, self.generator))
        keys, scales = exact_tokens(batch.tokens, self.fmt, self.device, self.generator)
        right = batch.write((keys, scales), self.fmt)
        cache = batch.cache(batch.blank if own_store else right)
        if own_store:
            self._call(step, "store", cache, batch.slots, keys.view(fp8_dtype(self.fmt)), scales)
        for next_n, clean in ((1, True), (2, False)):
            question = Question.ask(batch, right, self.heads, next_n, self.generator)
            expected = question.expected()
            # Engines use the row's own output and one of theirs.
            out = None if clean else torch.full_like(expected, torch.nan)
            arguments = question.arguments(cache)
            found = self._call(step, "logits", *arguments, out=out, clean=clean, **self.kernels.logits_options)
            mismatch = question.mismatch(step, expected, found, clean=clean)
            if mismatch is not None:
                return mismatch
        return None

    def _ragged_logits(self, step: str, bench: _Bench) -> Mismatch | None:
        """Gather contexts end to end, and score them as a prompt's last tokens do."""
        bench.cache = bench.cache.new_empty(0)
        batch = self._batch(CONTEXTS)
        slots = batch.blank.shape[0] * self.fmt.page_size
        batch = batch.filled(exact_tokens(slots, self.fmt, self.device, self.generator))
        tokens = exact_tokens(batch.tokens, self.fmt, self.device, self.generator)
        cache = batch.cache(batch.write(tokens, self.fmt))
        keys, scales = self._call(step, "gather", cache, batch.page_table, batch.cu_seq_lens, total_tokens=batch.tokens)
        prompt = Prompt.ask(batch, self.heads, self.generator)
        expected = prompt.expected(*tokens)
        for clean in (True, False):
            # Engines use the row's own output and one of theirs.
            out = None if clean else torch.full_like(expected, torch.nan)
            found = self._call(step, "ragged_logits", *prompt.arguments(keys, scales), clean=clean, out=out)
            mismatch = prompt.mismatch(step, expected, found, clean=clean)
            if mismatch is not None:
                return mismatch
        return None


def _quantised(values: Tensor, fmt: PageFormat) -> Tokens:
    keys, scales = reference.quantise(values, fmt)
    return keys.view(torch.uint8), scales


def _any(parts: tuple[Tensor, Tensor]) -> bool:
    return any(bool(part.any()) for part in parts)


def _mismatch(step: str, batch: Batch, expected: Tokens, found: Tokens, ulps: int, why: Explanation) -> Mismatch:
    keys, scales = differing(expected, found, ulps)
    wrong = keys.any(dim=1) | scales
    token = int(wrong.nonzero()[0])
    if keys[token].any():
        byte = int(keys[token].nonzero()[0])
        part = f"key, from byte {byte}"
        values = [bytes(side[0][token, byte : byte + 8].tolist()).hex(" ") for side in (expected, found)]
    else:
        part = "scale"
        values = [float(side[1][token]).hex() for side in (expected, found)]
    request = int(torch.searchsorted(batch.cu_seq_lens, token, right=True)) - 1
    page, slot = divmod(int(batch.slots[token]), batch.fmt.page_size)
    return Mismatch(
        step=step,
        cause=why.cause,
        explanation=why.text,
        wrong=int(wrong.sum()),
        tokens=batch.tokens,
        part=part,
        expected=values[0],
        found=values[1],
        request=request,
        position=token - int(batch.cu_seq_lens[request]),
        page=page,
        slot=slot,
    )


def _stray(
    step: str, batch: Batch, part: str, expected: str, found: str, text: str, page: int | None = None
) -> Mismatch:
    return Mismatch(
        step=step,
        cause="unexplained",
        explanation=text,
        wrong=0,
        tokens=batch.tokens,
        part=part,
        expected=expected,
        found=found,
        page=page,
    )


_Step: TypeAlias = "Callable[[Trial, str, _Bench], Mismatch | None]"

# Fields of `RowKernels` in the order in which they are checked: what a later one reads, an earlier one wrote.
_STEPS: tuple[tuple[str, _Step], ...] = (
    ("store", Trial._store),  # noqa: SLF001 the table of its own steps
    ("quantise_and_store", Trial._quantise_and_store),  # noqa: SLF001 as above
    ("gather", Trial._gather),  # noqa: SLF001 as above
    ("logits", Trial._logits),  # noqa: SLF001 as above
    ("ragged_logits", Trial._ragged_logits),  # noqa: SLF001 as above
)
