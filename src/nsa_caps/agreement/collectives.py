"""What `agree` sends between ranks: a roll call over the store, and collectives on whichever backend the group has."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from nsa_caps.agreement.errors import AgreementError, MissingRanksError
from nsa_caps.agreement.mismatch import rank_names

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

__all__ = ["Wire"]

# A digest, and the length of what it is of.
_DIGEST, _LENGTH = 32, 8


class Wire:
    """The ranks of one process group."""

    def __init__(self, group: ProcessGroup | None) -> None:
        """Take the group; None: the default one.

        Raises:
            AgreementError: torch.distributed is not initialised, or this rank is not of the group.
        """
        if not dist.is_initialized():
            raise AgreementError("torch.distributed is not initialised: call init_process_group before agree")
        self._group: Any = dist.group.WORLD if group is None else group
        self._rank, self._size = dist.get_rank(self._group), dist.get_world_size(self._group)
        if self._rank < 0:
            raise AgreementError(f"rank {dist.get_rank()} is not of this group, and only its ranks call agree")
        self._ranks = dist.get_process_group_ranks(self._group)
        devices = [part.partition(":")[0] for part in dist.get_backend_config(self._group).split(",")]
        self._device = torch.device("cpu" if "cpu" in devices else devices[0])

    def roll_call(self, timeout: float) -> None:
        """Wait until all ranks have come, by the store that the group was made with.

        No backend can do this: nccl blocks in making its communicator while a rank is missing, whatever timeout it is
        given, and `monitored_barrier` is gloo's alone. Each rank counts itself, and the first to time out decides
        for all, so that either every rank goes on or every rank is told the same.

        Raises:
            MissingRanksError: ranks are missing, or the store cannot be reached.
        """
        store = _store(self._group)
        if store is None:
            return
        try:
            verdict = self._verdict(store, timeout)
        except dist.DistNetworkError as error:
            text = (
                f"the store of the process group, which one rank (as a rule rank 0) or torchrun keeps, is gone: {error}"
            )
            raise MissingRanksError(text, None) from error
        if verdict["missing"]:
            missing = tuple(self._ranks[rank] for rank in verdict["missing"])
            text = f"{rank_names(missing)} of {self._size} did not come to agree on the indexer's layout"
            raise MissingRanksError(f"{text} within {verdict['timeout']:g} s of the first rank that came", missing)

    def _verdict(self, store: Store, timeout: float) -> dict[str, Any]:
        call = store.add(f"rank {self._rank}", 1)
        key = f"call {call}, verdict"
        if store.add(f"call {call}, ranks", 1) == self._size:
            self._settle(store, key, [], timeout)
        try:
            store.wait([key], timedelta(seconds=timeout))
        except dist.DistNetworkError:
            raise
        # FileStore's timeout is a plain RuntimeError, of which the others' DistStoreError is one.
        except RuntimeError:
            missing = [rank for rank in range(self._size) if store.add(f"rank {rank}", 0) < call]
            self._settle(store, key, missing, timeout)
        verdict: dict[str, Any] = json.loads(store.get(key))
        return verdict

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
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self._group)
        found = _bytes(largest)
        return all(high + low == 255 for high, low in zip(found[:16], found[16:], strict=True))

    def exchange(self, document: dict[str, Any]) -> list[tuple[dict[str, Any], tuple[int, ...]]]:
        """Return every distinct document and the global ranks that sent it, by lowest rank; each is sent once."""
        text = json.dumps(document, sort_keys=True).encode()
        label = self._tensor(hashlib.sha256(text).digest() + len(text).to_bytes(_LENGTH, "little"))
        gathered = [torch.empty_like(label) for _ in range(self._size)]
        dist.all_gather(gathered, label, group=self._group)
        senders: dict[bytes, list[int]] = {}
        for rank, each in enumerate(gathered):
            senders.setdefault(_bytes(each), []).append(self._ranks[rank])
        found = []
        for its_label, ranks in senders.items():
            length = int.from_bytes(its_label[_DIGEST:], "little")
            body = self._tensor(text if its_label == _bytes(label) else bytes(length))
            dist.broadcast(body, src=ranks[0], group=self._group)
            found.append((json.loads(_bytes(body)), tuple(ranks)))
        return found

    def _tensor(self, content: bytes) -> Tensor:
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self._device)


def _bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.cpu().tolist())


def _store(group: ProcessGroup) -> Store | None:
    """Return the group's store, set apart for this; None where its backend, such as mpi, has none."""
    # torch has no public way to it.
    store: Any = dist.distributed_c10d._get_process_group_store(group)  # noqa: SLF001 as said
    return None if store is None else dist.PrefixStore("nsa_caps agree", store)  # type: ignore[attr-defined]  # it is public, and not in __all__
