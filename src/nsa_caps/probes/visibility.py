"""The visible-device variables, each as its reader takes it: which of a machine's GPUs a text names. Pure.

`CUDA_VISIBLE_DEVICES` as `torch.cuda._parse_visible_devices` reads it (2.13.0), which copies CUDA;
`ROCR_VISIBLE_DEVICES` as ROCr's `amd_filter_device.cpp` does; `HIP_VISIBLE_DEVICES`, or CUDA's where that is empty, as
HIP's `rocdevice.cpp` does. The three agree on plain lists and on little else.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Listed", "cuda_list", "hip_list", "rocr_list", "torch_list"]


class Listed(NamedTuple):
    """What a text shows.

    Attributes:
        chosen: positions in the list of GPUs, in the text's order.
        ended: what ended the list before its end, in words; None: nothing did.
    """

    chosen: tuple[int, ...]
    ended: str | None = None


def torch_list(text: str) -> list[int] | list[str] | None:
    """Return what `torch.cuda._parse_visible_devices` makes of a text; None: it raises."""
    for prefix in ("GPU-", "MIG-"):
        if text.startswith(prefix):
            entries = text.split(",")
            named = entries[: next((at for at, entry in enumerate(entries) if not entry.startswith(prefix)), None)]
            # Entries are compared as they stand, and a repeated one leaves none.
            return [] if len(set(named)) < len(named) else named
    numbers: list[int] = []
    for entry in text.split(","):
        number = _leading_number(entry.strip())
        if number is None:
            return None
        if number in numbers:
            return []
        if number < 0:
            break
        numbers.append(number)
    return numbers


def _leading_number(entry: str) -> int | None:
    """Return the number that an entry begins with, as strtoul does; -1 without one; None: Python's int() refuses."""
    sign = entry[0] if entry.startswith(("+", "-")) else ""
    digits = "".join(takewhile(str.isdigit, entry[len(sign) :]))
    try:
        return int(sign + digits) if sign or digits else -1
    except ValueError:
        return None


def cuda_list(text: str, uuids: Sequence[str | None]) -> Listed | None:
    """Return what CUDA shows of as many GPUs as there are `uuids`; None: torch fails on the text.

    A repeated entry leaves no GPU at all, and so does a blank text. `1gpu` and `1` are the same, `0x1` is 0.
    """
    named = torch_list(text)
    if named is None:
        return None
    if not named:
        return Listed((), f"{text[:40]!r} is no GPU to CUDA: blank, none in front, or one twice")
    chosen: list[int] = []
    entries = text.split(",")
    # mypy joins int and str to object.
    each: list[int | str] = [*named]
    for entry, word in zip(each, entries, strict=False):
        index = _one_beginning(entry, uuids) if isinstance(entry, str) else entry
        if not 0 <= index < len(uuids):
            return Listed(tuple(chosen), f"{word.strip()[:40]!r} names no GPU: the list ends there")
        if index in chosen:
            return Listed((), f"{word.strip()[:40]!r} names a GPU a second time, which leaves none")
        chosen.append(index)
    rest = entries[len(named) :]
    return Listed(tuple(chosen), f"{rest[0].strip()[:40]!r} names no GPU: the list ends there" if rest else None)


def _one_beginning(entry: str, uuids: Sequence[str | None]) -> int:
    found = [index for index, uuid in enumerate(uuids) if uuid is not None and uuid.startswith(entry)]
    return found[0] if len(found) == 1 else -1


def rocr_list(text: str, uuids: Sequence[str | None]) -> Listed:
    """Return what ROCr shows of as many GPUs as there are `uuids` (`GPU-` and 16 hexadecimal digits, or None).

    Empty is none. Numbers are C's (`0x1`, `010` for 8, `+1`). At most as many entries as there are GPUs are looked at,
    and the list ends at the first that names no further GPU.
    """
    if not text:
        return Listed((), "it is set and empty, which leaves no GPU")
    entries = text.removesuffix(",").split(",")
    chosen: list[int] = []
    for entry in entries[: len(uuids)]:
        token = entry.strip().upper()
        if not token:
            return Listed((), "it has an empty entry, on which ROCm fails")
        index = _rocr_uuid(token, uuids) if token.startswith("G") else _c_number(token)
        if index is None or not 0 <= index < len(uuids) or index in chosen:
            return Listed(tuple(chosen), f"{entry.strip()[:40]!r} names no further GPU: the list ends there")
        chosen.append(index)
    return Listed(tuple(chosen))


def _rocr_uuid(token: str, uuids: Sequence[str | None]) -> int | None:
    if not 5 <= len(token) <= 20:
        return None
    index = _one_beginning(token, [None if uuid is None else uuid.upper() for uuid in uuids])
    return index if index >= 0 else None


def _c_number(token: str) -> int | None:
    """Return what strtol of base 0 reads in an upper-case token, as a 32-bit number; None: not all of it is one."""
    sign = token[0] if token.startswith(("+", "-")) else ""
    digits = token[len(sign) :]
    base = 16 if digits.startswith("0X") else 8 if digits.startswith("0") else 10
    digits = digits.removeprefix("0X") if base == 16 else digits
    allowed = "0123456789ABCDEF"[:base]
    if not digits or any(digit not in allowed for digit in digits):
        return None
    # Beyond 64 digits strtol's own bounds count, of any base.
    number = int(sign + digits.lstrip("0")[:64].rjust(1, "0"), base)
    number = max(-(2**63), min(number, 2**63 - 1))
    return (number + 2**31) % 2**32 - 2**31


def hip_list(text: str, uuids: Sequence[str | None]) -> Listed:
    """Return what HIP shows of as many GPUs as there are `uuids`, by a text that is not empty.

    An index counts only as HIP itself would write it: ` 1`, `+1` and `0x1` end the list. A repeated one is passed over.
    """
    chosen: list[int] = []
    for entry in text.removesuffix(",").split(","):
        index = _hip_index(entry, uuids)
        if index is None:
            return Listed(tuple(chosen), f"{entry[:40]!r} names no GPU to HIP: the list ends there")
        if index not in chosen:
            chosen.append(index)
    return Listed(tuple(chosen))


def _hip_index(entry: str, uuids: Sequence[str | None]) -> int | None:
    if "GPU-" in entry:
        return next((index for index, uuid in enumerate(uuids) if uuid is not None and entry in uuid), None)
    plain = entry.isascii() and entry.isdigit() and entry == (entry.lstrip("0") or "0") and len(entry) < 10
    return int(entry) if plain and int(entry) < len(uuids) else None
