"""`compiles.json`, as `measure_compiles` wrote it: which of aiter's real indexer kernels compile."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple


class Key(NamedTuple):
    """One measured call; `kernel` is `preshuffle`, `base` (gluon, page 1) or `plain` (not gluon)."""

    commit: str
    triton: str
    arch: str
    kernel: str
    page_size: int
    heads: int = 64


@functools.cache
def table() -> dict[Key, str]:
    """`ok`, or the compiler's error, of every measured call."""
    records = json.loads(Path(__file__).with_name("compiles.json").read_text())
    return {
        Key(record["commit"], version, record["arch"], record["kernel"], page, heads): record["result"]
        for record in records
        for version in record["triton"]
        for page, heads in record["calls"]
    }
