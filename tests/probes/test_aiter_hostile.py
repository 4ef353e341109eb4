"""Sources of any size and depth are read in bounded time and memory, or given up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.testing import GENERATIONS, write_aiter_tree

if TYPE_CHECKING:
    from pathlib import Path

LOGITS, TYPES, CHAIN = "ops/triton/attention/pa_mqa_logits.py", "utility/dtypes.py", "ops/attention.py"
# Of the processor's time: what takes longer is not bounded.
SECONDS = 8.0
SOURCES: dict[str, tuple[str, str]] = {
    "brackets in brackets": (LOGITS, f"x = {'(' * 5000}{')' * 5000}\n"),
    "a sum of twenty thousand": (LOGITS, f"x = {'+'.join(['1'] * 20_000)}\n"),
    "a literal of 10 MB": (LOGITS, f"x = '{'a' * 10_000_000}'\n"),
    "a literal of nearly 2 MB": (LOGITS, f"x = '{'a' * 1_900_000}'\n"),
    "a hundred thousand statements": (LOGITS, "x = 1\n" * 100_000),
    "a hundred thousand calls": (TYPES, "x = int(1)\n" * 100_000),
    "a hundred thousand calls of one function": (CHAIN, "def f(): raise OSError\n" + "f()\n" * 100_000),
    "sixty thousand brackets that do not end": ("jit/core.py", "from x import (\n" * 60_000),
    "thirty thousand classes": (CHAIN, "class A:\n def f(): raise\n" * 30_000),
    "a hundred thousand second statements": ("jit/core.py", "x = 1; assert x\n" * 100_000),
    "a hundred thousand refusals": (CHAIN, "if x:\n raise\n" * 100_000),
    "a million ifs": (LOGITS, "if x:\n y\n" * 1_000_000),
    "forty thousand functions that name the next": (
        LOGITS,
        "".join(f"def f{at}(): return f{at + 1}\n" for at in range(40_000)),
    ),
    "a number that is squared sixty times": (TYPES, "x = 9\n" + "x = x * x\n" * 60),
    "a text that is doubled sixty times": (TYPES, "x = 'a'\n" + "x = x + x\n" * 60),
    "a list ten thousand million times": (TYPES, "x = [0] * 10000000000\n"),
    "a number of a thousand million digits": (TYPES, "x = '%0999999999d' % 1\n"),
    "a text that grows by each replacement": (TYPES, "x = 'aaaa'\n" + "x = x.replace('a', 'aaaaaaaaaa')\n" * 20),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_hostile_source_is_read_in_bounded_time(tmp_path: Path, name: str) -> None:
    """In front of what aiter has, it is read or given up."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    file, text = SOURCES[name]
    path = tmp_path / "aiter" / file
    path.write_text(text + path.read_text())
    start = time.process_time()
    source = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"]
    assert time.process_time() - start < SECONDS
    # Where it is given up nothing else is made of it.
    expected = vars(GENERATIONS["04907edc"])
    told = {name: value for name, value in vars(source).items() if name not in ("location", "unaccounted", "compiled")}
    assert not {name: value for name, value in told.items() if value not in (expected[name], None, ())}
