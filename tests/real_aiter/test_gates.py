"""The oracle itself, held to facts of aiter's history: `pytest --aiter-checkout DIR`, a git folder of aiter."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import TYPE_CHECKING

import pytest

from .compiles import Key, table
from .gates import Bundle, Call, RealMachine, cache_kernels_take_preshuffle, outcome

if TYPE_CHECKING:
    from pathlib import Path

TILES, TOKEN, FLAT = Call(preshuffle=True, page_size=64), Call(preshuffle=False, page_size=1), Call(False, 64)
TILES_AOT = Bundle(
    "paged_mqa_logits_preshuffle_64x256x128_B64PFW2", "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle", "gfx942"
)
TOKEN_AOT = Bundle("paged_mqa_logits_64x256x128_B1PFW2", "_gluon_deepgemm_fp8_paged_mqa_logits", "gfx942")


def machine(triton: str | None, arch: str = "gfx942", *bundles: Bundle, first: str = "", **env: str) -> RealMachine:
    """An MI300X unless said otherwise, with these variables set."""
    return RealMachine(triton, arch, frozenset(env.items()), frozenset(bundles), first)


def short(git: Path, commit: str, where: RealMachine, call: Call) -> str:
    """How it runs, that it runs wrong, or the error and when it comes."""
    found = outcome(git, commit, where, call)
    return {"runs": found.how, "wrong": f"wrong {found.how}"}.get(found.kind, f"{found.error} at {found.stage}")


@pytest.mark.parametrize(
    ("commit", "triton", "tiles", "token", "flat"),
    [
        ("d36601a9", "3.5.1", "TypeError at call", "TypeError at call", "TypeError at call"),
        ("fe927e8d", "3.5.1", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("fe927e8d", "3.4.0", *["AssertionError at import"] * 3),
        ("fe927e8d", "3.10.0", "AssertionError at call", "plain", "wrong plain"),
        ("914dcee3", "3.4.0", "AssertionError at call", "plain", "AssertionError at call"),
        ("914dcee3", "3.5.0rc1", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("914dcee3", "3.5.0+gite392a058", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("914dcee3", "3.10.0", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("914dcee3", "unknown", *["InvalidVersion at import"] * 3),
        ("a6bb4993", "3.4.0", "AssertionError at call", "plain", "AssertionError at call"),
        ("a6bb4993", "3.5.1", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("f061fba9", "3.5.1", *["RuntimeError at import"] * 3),
        ("3b2e6f48", "3.4.0", *["RuntimeError at import"] * 3),
        ("3b2e6f48", "3.6.0rc1", *["RuntimeError at import"] * 3),
        ("3b2e6f48", "3.6.0.dev1", *["RuntimeError at import"] * 3),
        ("3b2e6f48", "3.6.0+rocm7.2.0", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("04907edc", None, *["ModuleNotFoundError at import"] * 3),
    ],
)
def test_triton_versions(
    aiter_checkout: Path, commit: str, triton: str | None, tiles: str, token: str, flat: str
) -> None:
    """Each generation compares Triton's version in its own way, on an MI300X without any switch."""
    assert short(aiter_checkout, commit, machine(triton), TILES) == tiles
    assert short(aiter_checkout, commit, machine(triton), TOKEN) == token
    assert short(aiter_checkout, commit, machine(triton), FLAT) == flat


@pytest.mark.parametrize(
    ("commit", "value", "expected"),
    [
        ("f061fba9", "1", "RuntimeError at import"),
        ("3b2e6f48", "1", "gluon-jit"),
        ("3b2e6f48", " -1 ", "gluon-jit"),
        ("3b2e6f48", "0", "RuntimeError at import"),
        ("3b2e6f48", "true", "ValueError at import"),
        ("04907edc", "", "ValueError at import"),
    ],
)
def test_the_escape_is_a_nonzero_integer(aiter_checkout: Path, commit: str, value: str, expected: str) -> None:
    """AITER_USE_SYSTEM_TRITON turns the minimum into a warning since 3b2e6f48, and is read as an integer."""
    old = machine("3.5.1", AITER_USE_SYSTEM_TRITON=value)
    new = machine("3.6.0", AITER_USE_SYSTEM_TRITON=value)
    assert short(aiter_checkout, commit, old, TOKEN) == expected
    assert short(aiter_checkout, commit, new, TOKEN) == "gluon-jit"


@pytest.mark.parametrize(
    ("commit", "triton", "expected"),
    [
        ("914dcee3", "3.2.0", "TypeError at call"),
        ("914dcee3", "3.3.1", "gluon-aot"),
        ("914dcee3", "3.4.0", "AssertionError at call"),
        ("a8eb62f5", "3.3.1", "gluon-aot"),
        ("a8eb62f5", "3.6.0", "gluon-aot"),
        ("10c87ea1", "3.3.1", "NameError at call"),
        ("a6bb4993", "3.4.0", "NameError at call"),
        ("04907edc", "3.9.0", "gluon-aot"),
    ],
)
def test_a_complete_bundle(aiter_checkout: Path, commit: str, triton: str, expected: str) -> None:
    """Below Triton 3.5 a bundle helps on 3.3 alone, and only before 10c87ea1."""
    where = machine(triton, "gfx942", TILES_AOT, TOKEN_AOT, AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1")
    assert short(aiter_checkout, commit, where, TILES) == expected
    assert short(aiter_checkout, commit, where, TOKEN) == expected


def test_aot_needs_the_very_bundle_that_is_asked_for(aiter_checkout: Path) -> None:
    """Once the variable is exactly 1, another page size, another number of heads or another GPU finds no kernel."""
    where = machine("3.6.0", "gfx942", TILES_AOT, AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1")
    assert short(aiter_checkout, "a6bb4993", where, TILES) == "gluon-aot"
    for call in (TOKEN, TILES._replace(page_size=128), TILES._replace(heads=32)):
        assert short(aiter_checkout, "a6bb4993", where, call) == "FileNotFoundError at call"
    foreign = TILES_AOT._replace(arch="gfx950")
    where = machine("3.6.0", "gfx942", foreign, AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1")
    assert short(aiter_checkout, "a6bb4993", where, TILES) == "RuntimeError at call"
    where = machine("3.6.0", "gfx942", AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="true")
    assert short(aiter_checkout, "a6bb4993", where, TILES) == "gluon-jit"


@pytest.mark.parametrize(
    ("commit", "arch", "tiles", "token", "flat"),
    [
        ("914dcee3", "gfx1151", *["RuntimeError at import"] * 3),
        ("3b2e6f48", "gfx1250", *["AssertionError at call"] * 3),
        ("861b4c93", "gfx1036", *["KeyError at import"] * 3),
        ("861b4c93", "gfx1250", "gluon-jit", "gluon-jit", "AssertionError at call"),
        ("861b4c93", "gfx1151", *["AssertionError at call"] * 3),
        ("04907edc", "gfx950", "gluon-jit", "gluon-jit", "wrong gluon-jit"),
        ("04907edc", "gfx1151", "AssertionError at call", "plain", "plain"),
        ("04907edc", "gfx90a", "AssertionError at call", "CompilationError at call", "CompilationError at call"),
    ],
)
def test_archs(aiter_checkout: Path, commit: str, arch: str, tiles: str, token: str, flat: str) -> None:
    """An arch must be in aiter's map, and since 04907edc one outside the gluon list takes the plain kernel."""
    assert short(aiter_checkout, commit, machine("3.7.0", arch), TILES) == tiles
    assert short(aiter_checkout, commit, machine("3.7.0", arch), TOKEN) == token
    assert short(aiter_checkout, commit, machine("3.7.0", arch), FLAT) == flat


@pytest.mark.parametrize(
    ("archs", "expected"),
    [
        ("native", "gluon-jit"),
        ("gfx950;gfx942", "gluon-jit"),
        ("gfx942;gfx950", "RuntimeError at call"),
        ("gfx942; gfx950", "KeyError at import"),
        ("GFX942", "KeyError at import"),
        ("", "KeyError at import"),
    ],
)
def test_gpu_archs(aiter_checkout: Path, archs: str, expected: str) -> None:
    """The last entry of GPU_ARCHS is what aiter compiles for, whatever GPU runs (aiter#3807)."""
    assert short(aiter_checkout, "04907edc", machine("3.7.0", GPU_ARCHS=archs), TILES) == expected


def test_an_integrated_gpu_first(aiter_checkout: Path) -> None:
    """The first GPU that rocminfo prints counts, which need not be the one that runs."""
    assert short(aiter_checkout, "04907edc", machine("3.7.0", first="gfx1036"), TILES) == "KeyError at import"
    assert short(aiter_checkout, "04907edc", machine("3.7.0", first="gfx950"), TILES) == "RuntimeError at call"


@pytest.mark.parametrize("page_size", [8, 16, 32, 48, 64, 80, 96, 128, 256, 512, 640])
def test_page_sizes_of_the_tiles(aiter_checkout: Path, page_size: int) -> None:
    """Tiles need a multiple of 16 that divides 256, or since 9715eeccee is divided by it, but not on gfx1250."""
    call = Call(preshuffle=True, page_size=page_size)
    divides, divided = page_size % 16 == 0 and 256 % page_size == 0, page_size % 256 == 0
    for commit, arch, runs in (
        ("914dcee3", "gfx942", divides),
        ("9715eeccee", "gfx942", divides or divided),
        ("04907edc", "gfx942", divides or divided),
        ("04907edc", "gfx1250", divides),
    ):
        found = outcome(aiter_checkout, commit, machine("3.7.0", arch), call)
        assert found.kind == ("runs" if runs else "raises"), (commit, arch, found)


@pytest.mark.parametrize(
    ("commit", "folder"),
    [
        ("861b4c93", "paged_mqa_logits_preshuffle_64x256x128_B64PFW2"),
        ("04907edc", "paged_mqa_logits_preshuffle_64x256x128_B64PFW4"),
    ],
)
def test_the_bundle_of_a_gfx1250(aiter_checkout: Path, commit: str, folder: str) -> None:
    """On gfx1250 the folder's waves went from 2 to 4 after 861b4c93."""
    where = machine("3.7.0", "gfx1250", AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS="1")
    found = outcome(aiter_checkout, commit, where, TILES)
    assert found.error == "FileNotFoundError"
    assert f"/{folder}/" in found.message


@pytest.mark.parametrize(("commit", "takes"), [("a1bdcec9", False), ("a6bb4993", True), ("04907edc", True)])
def test_preshuffle_of_the_cache_kernels(aiter_checkout: Path, commit: str, *, takes: bool) -> None:
    """Both cache kernels take `preshuffle` since a6bb4993 (aiter#2879)."""
    assert cache_kernels_take_preshuffle(aiter_checkout, commit) is takes


def test_a_commit_that_git_lacks_is_loud(aiter_checkout: Path) -> None:
    """An unknown commit is an error, never an aiter without files."""
    with pytest.raises(subprocess.CalledProcessError):
        cache_kernels_take_preshuffle(aiter_checkout, "0000000000")
    with pytest.raises(subprocess.CalledProcessError):
        outcome(aiter_checkout, "0000000000", machine("3.6.0"), TILES)


@pytest.mark.parametrize("commit", ["914dcee3", "a8eb62f5", "10c87ea1", "a6bb4993", "3b2e6f48", "861b4c93", "04907edc"])
def test_every_error_is_one_of_aiters(aiter_checkout: Path, commit: str) -> None:
    """A gap in the stand-ins would show as an error that neither aiter nor Triton raises."""
    errors = set()
    for triton, arch, aot, system in product(
        ("3.2.0", "3.3.1", "3.4.0", "3.5.0", "3.6.0"),
        ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1200", "gfx1250"),
        ("0", "1"),
        ("0", "1"),
    ):
        where = machine(triton, arch, AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS=aot, AITER_USE_SYSTEM_TRITON=system)
        errors |= {outcome(aiter_checkout, commit, where, call).error for call in (TILES, TOKEN, FLAT)}
    known = "AssertionError CompilationError FileNotFoundError NameError RuntimeError TypeError"
    assert errors <= {"", *known.split()}


def test_nothing_of_aiter_reaches_this_python(aiter_checkout: Path) -> None:
    """The sandbox leaves no module behind."""
    before = set(sys.modules)
    outcome(aiter_checkout, "04907edc", machine("3.8.0"), TILES)
    assert not [name for name in set(sys.modules) - before if name.split(".")[0] in {"aiter", "torch", "triton"}]


def test_what_compiles() -> None:
    """The measured table says what the gates cannot: which passed calls the compiler refuses."""
    compiled = table()
    assert compiled[Key("04907edc", "3.5.0", "gfx942", "preshuffle", 64)] == "ok"
    assert compiled[Key("04907edc", "3.9.0", "gfx950", "base", 1)] == "ok"
    assert compiled[Key("a8eb62f5", "3.5.1", "gfx942", "preshuffle", 64)] != "ok"
    assert compiled[Key("10c87ea1", "3.6.0", "gfx942", "preshuffle", 64)] == "ok"
    assert compiled[Key("10c87ea1", "3.6.0", "gfx942", "base", 1)] != "ok"
    assert compiled[Key("861b4c93", "3.6.0", "gfx1250", "preshuffle", 64)] != "ok"
    assert compiled[Key("861b4c93", "3.7.0", "gfx1250", "preshuffle", 64)] == "ok"
