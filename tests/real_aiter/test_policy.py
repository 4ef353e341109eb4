"""The decision against aiter's own code: its gates executed, and its kernels compiled, from real commits.

The oracle is `gates.py` (aiter's code runs up to the launch) and `compiles.json` (Triton's compiler, by
`measure_compiles.py`). No row may be chosen that aiter would refuse, misread or fail to compile, and none refused that
it would run.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import pytest

from nsa_caps import AotKernel, Capabilities, Request, decide
from nsa_caps.capabilities.aiter_history import AITER_RELEASES

from .checkout import Checkout
from .compiles import Key, table
from .gates import Bundle, Call, RealMachine, cache_kernels_take_preshuffle, outcome
from .judged import on_machine, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMITS = (
    "fe927e8d", "914dcee3", "9715eeccee", "a8eb62f5", "10c87ea1", "a1bdcec9", "a6bb4993", "3b2e6f48", "861b4c93",
    "04907edc",
)  # fmt: skip
# Each with the wheel that it was compiled with; 3.10.0 is newer than any, and goes by the newest.
TRITONS = {
    "3.3.1": "3.3.1", "3.4.0": "3.4.0", "3.5.0rc1": "3.5.0", "3.5.0+gite392a058": "3.5.0", "3.5.1": "3.5.1",
    "3.6.0.dev1": "3.6.0", "3.6.0": "3.6.0", "3.7.0+amd.rocm7.2.0.git89002410": "3.7.0", "3.9.0": "3.9.0",
    "3.10.0": "3.9.0",
}  # fmt: skip
ARCHS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1200", "gfx1250")
AOT = (None, "0", "1", "true")
SYSTEM_TRITON = (None, "0", "1", "true")
# In the bundle: nothing, the kernels for this GPU, or those for another one.
BUNDLES = ("none", "own", "other")
PAGES = {"aiter-preshuffle": (16, 32, 48, 64, 80, 128, 256, 512), "aiter-flat": (64,), "aiter-token": (1,)}


@pytest.mark.parametrize("commit", COMMITS)
def test_every_row_of_aiter_is_met_exactly_where_aiter_runs_it(
    aiter_checkout: Path, tmp_path: Path, commit: str
) -> None:
    """A row of aiter is met exactly where its own gates pass, its kernel reads what was written, and it compiles."""
    base = read(tmp_path, Checkout(aiter_checkout, commit))
    takes_preshuffle = cache_kernels_take_preshuffle(aiter_checkout, commit)
    wrong: list[str] = []
    count = 0
    for caps, real in machines(base):
        for row, pages in PAGES.items():
            for page_size in pages:
                count += 1
                call = Call(preshuffle=row == "aiter-preshuffle", page_size=page_size)
                runs = would_run(aiter_checkout, commit, real, call)
                expected = runs and (row != "aiter-preshuffle" or takes_preshuffle)
                verdict = decide(caps, Request(page_size=page_size)).verdict(row)
                if runs is not None and (verdict.verdict == "met") != expected:
                    reasons = [reason.code for reason in verdict.reasons]
                    wrong.append(f"{row} {page_size} on {real}: {verdict.verdict} {reasons}, aiter runs it: {expected}")
    assert count > 10_000
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:10])


def machines(base: Capabilities) -> Iterator[tuple[Capabilities, RealMachine]]:
    """Return every machine of the product, as capabilities and as the oracle takes it."""
    for triton, arch, aot, system_triton, bundle in product(TRITONS, ARCHS, AOT, SYSTEM_TRITON, BUNDLES):
        if bundle != "none" and aot is None:
            continue
        variables = {"AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS": aot, "AITER_USE_SYSTEM_TRITON": system_triton}
        environ = {name: value for name, value in variables.items() if value is not None}
        kernels = tuple(bundled(base, arch, bundle))
        found = tuple(AotKernel(kernel.folder, True, kernel.arch) for kernel in kernels)
        caps = on_machine(base, triton, arch, environ, found)
        yield caps, RealMachine(triton, arch, frozenset(environ.items()), frozenset(kernels))


def bundled(base: Capabilities, arch: str, bundle: str) -> Iterator[Bundle]:
    """Return the kernels of a bundle for this GPU, or for another one."""
    if bundle == "none":
        return
    target = arch if bundle == "own" else "gfx942" if arch == "gfx950" else "gfx950"
    stem = "_gluon_deepgemm_fp8_paged_mqa_logits"
    # The names as aiter's loader computes them; W is 2, on gfx1250 the wrapper's own.
    source = base.aiter_source
    waves = source.gfx1250_waves if arch == "gfx1250" and source is not None else 2
    for page_size in (16, 32, 64, 128, 256, 512):
        yield Bundle(f"paged_mqa_logits_preshuffle_64x256x128_B{page_size}PFW{waves}", f"{stem}_preshuffle", target)
    yield Bundle(f"paged_mqa_logits_64x256x128_B1PFW{1 if arch == 'gfx1250' else 2}", stem, target)


def would_run(git: Path, commit: str, real: RealMachine, call: Call) -> bool | None:
    """Return whether aiter runs this call; None where its gates pass and whether it compiles was not measured."""
    found = outcome(git, commit, real, call)
    if found.kind != "runs":
        return False
    new = found.how == "gluon-jit" or not real.triton or not real.triton.startswith(("3.3", "3.4"))
    if found.how == "gluon-aot" and any(bundle.arch != real.arch for bundle in real.bundles):
        # aiter never looks at the json's arch; the GPU refuses the code object.
        return False
    if found.how == "gluon-aot" and not new:
        return True
    result = table().get(Key(commit, TRITONS[str(real.triton)], real.arch, found.kernel, call.page_size))
    return None if result is None else result == "ok"


@pytest.mark.parametrize("name", AITER_RELEASES)
def test_the_releases_that_fixes_name_show_what_the_table_says(aiter_checkout: Path, tmp_path: Path, name: str) -> None:
    """What `aiter_releases.py` says of a release is what the probe reads from its commit."""
    release = AITER_RELEASES[name]
    source = read(tmp_path, Checkout(aiter_checkout, release.commit)).aiter_source
    assert source is not None
    assert replace(source, location="", as_in=None) == release.source
