"""What `agree` sends between ranks: a roll call over the store, and collectives on whichever backend the group has."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from nsa_caps.agreement.errors import AgreementError, MissingRanksError
from nsa_caps.agreement.mismatch import rank_names
from nsa_caps.base.serial import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

__all__ = ["Wire"]

# One of each process group that was agreed on.
_TURNS: dict[str, Lock] = {}
# Seconds that the first rank waits for the others to read what was settled.
_FAREWELL = 5.0
# A digest, and the length of what it is of.
_DIGEST, _LENGTH = 32, 8


class Wire:
    """The ranks of one process group, for one call of `agree`."""

    def __init__(self, group: ProcessGroup | None, timeout: float) -> None:
        """Take the group; None: the default one.

        Args:
            group: the process group.
            timeout: seconds that each step waits for the other ranks.

        Raises:
            AgreementError: torch.distributed is not initialised, what was given is no group of this job, or this rank
                is not of it.
        """
        if not dist.is_initialized():
            raise AgreementError("torch.distributed is not initialised: call init_process_group before agree")
        self._group: Any = dist.group.WORLD if group is None else group
        self._timeout, self._call = timeout, 0
        try:
            self._rank, self._size = dist.get_rank(self._group), dist.get_world_size(self._group)
            if self._rank >= 0:
                self._ranks = dist.get_process_group_ranks(self._group)
                self._store = _store(self._group)
                backends = dist.get_backend_config(self._group)
        # Whatever torch does with a group that was destroyed, or with something that is none.
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise AgreementError(f"group is {shortened(group)}, which is no process group of this job") from error
        if self._rank < 0:
            raise AgreementError(f"rank {dist.get_rank()} is not of this group, and only its ranks call agree")
        devices = [part.partition(":")[0] for part in backends.split(",")]
        self._device = torch.device("cpu" if "cpu" in devices else devices[0])

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep this process's other threads from agreeing on the same group meanwhile: what they send would mix.

        Raises:
            AgreementError: another thread is at it for longer than the timeout.
        """
        lock = _TURNS.setdefault(str(self._group.group_name), Lock())
        if not lock.acquire(timeout=self._timeout):
            raise AgreementError(f"another thread of this rank agrees on this group, for {self._timeout:g} s already")
        try:
            yield
        finally:
            lock.release()

    def roll_call(self) -> None:
        """Wait until all ranks have come, by the store that the group was made with.

        No backend can do this: nccl blocks in making its communicator while a rank is missing, whatever timeout it is
        given, and `monitored_barrier` is gloo's alone. Each rank counts itself, and the first to time out decides
        for all, so that either every rank goes on or every rank is told the same.

        Raises:
            MissingRanksError: ranks are missing, or the store cannot be reached.
        """
        if self._store is None:
            return
        with _store_errors():
            self._call = self._store.add(f"rank {self._rank}", 1)
            missing, timeout = self._verdict("came", self._call, self._timeout)
        if missing:
            text = f"{rank_names(missing)} of {self._size} did not come to agree on the indexer's layout"
            raise MissingRanksError(f"{text} within {timeout:g} s of the first rank that came", missing)

    def end(self, failure: str | None) -> None:
        """Return where every rank has come to its end, and raise the same on all where one has not.

        After a collective some ranks may have their answer and others an error: a rank that died had sent to some. So
        nobody goes away with an answer before all have one.

        Args:
            failure: what the backend said; None: this rank has its answer.

        Raises:
            MissingRanksError: a rank was lost on the way, the backend failed, or the store cannot be reached.
        """
        if self._store is None:
            if failure is not None:
                raise MissingRanksError(f"the backend failed while ranks agreed: {failure}", None)
            return
        with _store_errors():
            if failure is not None:
                self._store.add(f"call {self._call}, failures", 1)
            self._store.add(f"ended {self._rank}", 1)
            missing, timeout = self._verdict("ended", self._call, self._timeout)
            failures = self._store.add(f"call {self._call}, failures", 0)
            self._leave(self._size - len(missing))
        if missing:
            text = f"{rank_names(missing)} of {self._size} came to agree on the indexer's layout, and then was lost"
            raise MissingRanksError(f"{text}: no answer within {timeout:g} s", missing)
        if failures:
            text = f"the backend failed on {failures} of {self._size} ranks while they agreed on the indexer's layout"
            raise MissingRanksError(text, ())

    def _leave(self, count: int) -> None:
        """Go, the first rank last: as a rule it keeps the store, and goes with it where it ends after an error."""
        store: Any = self._store
        key = f"call {self._call}, left"
        if store.add(f"{key} by", 1) == count:
            store.set(key, "all")
        if self._rank == 0:
            # Whoever does not come for what was settled is not waited for longer.
            with suppress(RuntimeError):
                store.wait([key], timedelta(seconds=min(self._timeout, _FAREWELL)))

    def _verdict(self, step: str, call: int, timeout: float) -> tuple[tuple[int, ...], float]:
        """Return the global ranks that did not come to a step, and the timeout of the rank that decided so."""
        store: Any = self._store
        key = f"call {call}, {step}"
        if store.add(f"{key} by", 1) == self._size:
            self._settle(store, key, [], timeout)
        try:
            store.wait([key], timedelta(seconds=timeout))
        except dist.DistNetworkError:
            raise
        # FileStore's timeout is a plain RuntimeError, of which the others' DistStoreError is one.
        except RuntimeError:
            mark = "rank" if step == "came" else "ended"
            missing = [rank for rank in range(self._size) if store.add(f"{mark} {rank}", 0) < call]
            self._settle(store, key, missing, timeout)
        verdict: dict[str, Any] = json.loads(store.get(key))
        return tuple(self._ranks[rank] for rank in verdict["missing"]), verdict["timeout"]

    @staticmethod
    def _settle(store: Store, key: str, missing: list[int], timeout: float) -> None:
        """Write the verdict, unless another rank has."""
        store.compare_set(key, "", json.dumps({"missing": missing, "timeout": timeout}))

    def all_same(self, digest: bytes | None) -> bool:
        """Return whether all ranks have the same 16 bytes, in one all-reduce of 32; None is the same as nothing.

        The largest byte of all ranks is the smallest one, too, exactly where they agree: the complement's largest tells
        the smallest. What a rank sends and receives does not grow with the number of ranks.
        """
        sent = b"\xff" * 32 if digest is None else digest + bytes(255 - byte for byte in digest)
        largest = self._tensor(sent)
        self._wait(dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self._group, async_op=True))
        found = _bytes(largest)
        return all(high + low == 255 for high, low in zip(found[:16], found[16:], strict=True))

    def exchange(self, document: dict[str, Any]) -> list[tuple[dict[str, Any], tuple[int, ...]]]:
        """Return every distinct document and the global ranks that sent it, by lowest rank; each is sent once."""
        text = json.dumps(document, sort_keys=True).encode()
        label = self._tensor(hashlib.sha256(text).digest() + len(text).to_bytes(_LENGTH, "little"))
        gathered = [torch.empty_like(label) for _ in range(self._size)]
        self._wait(dist.all_gather(gathered, label, group=self._group, async_op=True))
        senders: dict[bytes, list[int]] = {}
        for rank, each in enumerate(gathered):
            senders.setdefault(_bytes(each), []).append(self._ranks[rank])
        found = []
        for its_label, ranks in senders.items():
            length = int.from_bytes(its_label[_DIGEST:], "little")
            body = self._tensor(text if its_label == _bytes(label) else bytes(length))
            self._wait(dist.broadcast(body, src=ranks[0], group=self._group, async_op=True))
            found.append((json.loads(_bytes(body)), tuple(ranks)))
        return found

    def _wait(self, work: Any) -> None:
        """Wait for a collective no longer than for a rank: the group's own timeout is as a rule half an hour."""
        # A group of one has nothing to wait for.
        if work is not None:
            work.wait(timedelta(seconds=self._timeout))

    def _tensor(self, content: bytes) -> Tensor:
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self._device)


@contextmanager
def _store_errors() -> Iterator[None]:
    """Tell a store that is gone as what it is.

    Raises:
        MissingRanksError: it cannot be reached.
    """
    try:
        yield
    except dist.DistNetworkError as error:
        text = f"the store of the process group, which one rank (as a rule rank 0) or torchrun keeps, is gone: {error}"
        raise MissingRanksError(text, None) from error


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.cpu().tolist())


def _store(group: Any) -> Store | None:
    """Return the group's store, set apart for this; None where its backend, such as mpi, has none."""
    # torch has no public way to it.
    store: Any = dist.distributed_c10d._get_process_group_store(group)  # noqa: SLF001 as said
    return None if store is None else dist.PrefixStore("nsa_caps agree", store)  # type: ignore[attr-defined]  # it is public, and not in __all__
