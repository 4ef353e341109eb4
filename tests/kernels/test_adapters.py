"""The adapters against stand-ins for aiter and DeepGEMM, each in a process of its own that finds them on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nsa_caps
from nsa_caps import selfcheck
from nsa_caps.kernels.portable import store_gather as portable
from nsa_caps.pages import PageFormat
from tests.kernels import fake_packages
from tests.kernels.fake_packages import NEW_LOGITS, OLD_LOGITS, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[Path, str], str]

_SOURCE = Path(nsa_caps.__file__).parents[1]

# Checks a row end to end. Everything that a kernel is given is asked for by the stand-in, and every byte that comes
# back is compared.
_CHECK = """
from nsa_caps.kernels import {module} as kernels
from nsa_caps.pages import PageFormat
from nsa_caps.selfcheck.check import RowKernels, self_check
row = RowKernels("row", kernels.store, kernels.gather, kernels.quantise_and_store, kernels.logits, {options})
print(self_check(row, PageFormat({fmt}), "cpu").explain())
"""

# A cache of three pages of 64, six contexts' worth of arguments, and what the portable kernels make of them.
_SETUP = """
import pytest, torch
from nsa_caps.kernels import reference, reference_logits
from nsa_caps.kernels.arguments import KernelArgumentError
from nsa_caps.pages import PageFormat
torch.manual_seed(0)
fmt = PageFormat(page_size=64)
cache = torch.zeros((5, fmt.page_bytes), dtype=torch.uint8)
values = torch.randn(300, 128, dtype=torch.bfloat16)
reference.quantise_and_store(cache, torch.arange(300), values, fmt=fmt)
table = torch.tensor([[3, 0, 9], [1, 4, 2]], dtype=torch.int32)
cu_seq_lens = torch.tensor([0, 100, 230], dtype=torch.int32)
lens = torch.tensor([100, 130], dtype=torch.int32)
q = torch.randn(2, 2, 32, 128).to(torch.float8_e4m3fn)
weights = torch.randn(4, 32)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run code where packages of a folder can be imported, and return what it printed; it must warn of nothing."""

    def run(packages: Path, code: str) -> str:
        # The portable store is part of both rows.
        environ = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
        environ["PYTHONPATH"] = os.pathsep.join((str(packages), str(_SOURCE)))
        script = tmp_path / "script.py"
        script.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", script], capture_output=True, text=True, env=environ, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def failures(run: Run, module: str, *sites: Path) -> list[str]:
    """Import an adapter from each of the folders, which must fail, and return the last line of what is told of each."""
    code = f"""
import importlib, sys, traceback
for site in {[str(site) for site in sites]}:
    for name in [name for name in sys.modules if name.startswith(("aiter", "deep_gemm", "nsa_caps.kernels.{module}"))]:
        del sys.modules[name]
    sys.path[0] = site
    importlib.invalidate_caches()
    try:
        importlib.import_module("nsa_caps.kernels.{module}")
    except Exception:
        print(traceback.format_exc().strip().splitlines()[-1])
"""
    return run(sites[0], code).splitlines()


def test_the_portable_row_proves_itself(device: str) -> None:
    """On the GPU if there is one; else in the interpreter."""
    row = selfcheck.RowKernels("portable", portable.store, portable.gather, portable.quantise_and_store)
    found = selfcheck.self_check(row, PageFormat(page_size=64, order="tiles"), device)
    assert found.verdict == "proven", found.explain()


@pytest.mark.parametrize(
    ("fmt", "preshuffle", "logits"),
    [
        ("page_size=64, order='tiles', dialect='e4m3fnuz'", True, NEW_LOGITS),
        pytest.param("page_size=1, dialect='e4m3fnuz'", False, OLD_LOGITS, marks=pytest.mark.slow),
        pytest.param("page_size=128, order='tiles', scale_format='ue8m0'", True, NEW_LOGITS, marks=pytest.mark.slow),
        pytest.param("page_size=64", False, OLD_LOGITS, marks=pytest.mark.slow),
        pytest.param("page_size=1, row_stride=144", True, NEW_LOGITS, marks=pytest.mark.slow),
    ],
)
def test_aiter_proves_itself(run: Run, tmp_path: Path, fmt: str, preshuffle: bool, logits: str) -> None:
    """In each format of its rows, with cache kernels that take `preshuffle` and with those that do not."""
    packages = fake_packages.aiter(tmp_path / "site", preshuffle=preshuffle, logits=logits)
    found = run(packages, _CHECK.format(module="aiter", fmt=fmt, options={}))
    assert found.startswith("row: proven\n  store, quantise_and_store, gather, logits")


def test_tiles_need_cache_kernels_that_know_them(run: Run, tmp_path: Path) -> None:
    """Older cache kernels are never handed tiles as if they were flat."""
    packages = fake_packages.aiter(tmp_path / "site", preshuffle=False)
    found = run(packages, _CHECK.format(module="aiter", fmt="page_size=64, order='tiles'", options={}))
    assert "row: cannot-run" in found
    assert "unexpected keyword argument 'preshuffle'" in found


def test_aiters_options_are_passed_on(run: Run, tmp_path: Path) -> None:
    """Those of a layout may be named, others reach the kernel, and one that contradicts the format is refused."""
    code = """
from nsa_caps.kernels import aiter
expected = reference_logits.logits(q, cache, weights, lens, table, 150, fmt=fmt)
found = aiter.logits(q, cache, weights, lens, table, 150, fmt=fmt, Preshuffle=False, KVBlockSize=64, ChunkK=128)
torch.testing.assert_close(found, expected)
for wrong in ({"Preshuffle": True}, {"KVBlockSize": 1}):
    name, value = *wrong, *wrong.values()
    with pytest.raises(KernelArgumentError, match=f"^{name}: got {value}; need (False|64), as the format"):
        aiter.logits(q, cache, weights, lens, table, 150, fmt=fmt, **wrong)
with pytest.raises(AssertionError):
    aiter.logits(q, cache, weights, lens, table, 150, fmt=fmt, ChunkK=48)
"""
    run(fake_packages.aiter(tmp_path / "site"), _SETUP + code)


def test_aiter_gets_rows_that_follow_each_other(run: Run, tmp_path: Path) -> None:
    """Its kernels know no step from row to row: tables and keys whose rows lie apart give what whole ones give."""
    code = """
from nsa_caps.kernels import aiter
wide = torch.full((2, 8), 77, dtype=torch.int32)
wide[:, :3] = table
apart = wide[:, :3]
for order in (table, apart):
    keys, scales = aiter.gather(cache, order, cu_seq_lens, total_tokens=230, fmt=fmt)
    expected = reference.gather(cache, table, cu_seq_lens, total_tokens=230, fmt=fmt)
    assert torch.equal(keys.view(torch.uint8), expected[0].view(torch.uint8)) and torch.equal(scales, expected[1])
    found = aiter.logits(q, cache, weights, lens, order, 150, fmt=fmt)
    torch.testing.assert_close(found, reference_logits.logits(q, cache, weights, lens, table, 150, fmt=fmt))
written = torch.zeros_like(cache)
aiter.quantise_and_store(written, torch.arange(300), torch.cat((values, values), dim=1)[:, :128], fmt=fmt)
assert torch.equal(written, cache)
"""
    run(fake_packages.aiter(tmp_path / "site"), _SETUP + code)


def test_aiter_reads_pages_that_lie_apart_and_refuses_to_write_them(run: Run, tmp_path: Path) -> None:
    """Its gather is told where pages begin; its store takes them to follow each other."""
    code = """
from nsa_caps.kernels import aiter
wide = torch.zeros((5, fmt.page_bytes + 64), dtype=torch.uint8)
apart = wide[:, : fmt.page_bytes]
apart[:] = cache
keys, _ = aiter.gather(apart, table, cu_seq_lens, total_tokens=230, fmt=fmt)
expected, _ = reference.gather(cache, table, cu_seq_lens, total_tokens=230, fmt=fmt)
assert torch.equal(keys.view(torch.uint8), expected.view(torch.uint8))
with pytest.raises(KernelArgumentError, match="cache: got pages 8512 bytes apart; need pages next to each other"):
    aiter.quantise_and_store(apart, torch.arange(300), values, fmt=fmt)
"""
    run(fake_packages.aiter(tmp_path / "site"), _SETUP + code)


def test_aiter_is_asked_for_nothing_where_there_is_nothing(run: Run, tmp_path: Path) -> None:
    """Its launches of no block fail, so that none is made."""
    code = """
from nsa_caps.kernels import aiter
none = torch.empty(0, dtype=torch.int64)
aiter.quantise_and_store(cache, none, values[:0], fmt=fmt)
keys, scales = aiter.gather(cache, table, cu_seq_lens, total_tokens=0, fmt=fmt)
assert keys.shape == (0, 128) and scales.shape == (0,)
assert aiter.logits(q, cache, weights, lens, table, 0, fmt=fmt).shape == (4, 0)
assert aiter.logits(q[:0], cache, weights[:0], lens[:0], table[:0], 150, fmt=fmt).shape == (0, 150)
"""
    run(fake_packages.aiter(tmp_path / "site"), _SETUP + code)


def test_aiter_refuses_what_it_would_misread(run: Run, tmp_path: Path) -> None:
    """Formats that it has no kernel for, and in checked mode what lies beyond the tokens, the pages or the cache."""
    code = """
from dataclasses import replace
from nsa_caps.kernels import aiter
calls = (
    lambda fmt, **more: aiter.gather(cache, table, cu_seq_lens, total_tokens=230, fmt=fmt, **more),
    lambda fmt: aiter.quantise_and_store(cache, torch.arange(300), values, fmt=fmt),
    lambda fmt: aiter.logits(q, cache, weights, lens, table, 150, fmt=fmt),
)
for wrong in (replace(fmt, scale_format="ue8m0_packed"), PageFormat(page_size=64, head_dim=64, quant_block_size=64)):
    for call in calls:
        with pytest.raises(KernelArgumentError, match="^fmt: "):
            call(wrong)
calls[0](fmt, checked=True)
with pytest.raises(KernelArgumentError, match="total_tokens: got 231; need at most cu_seq_lens.-1. = 230"):
    aiter.gather(cache, table, cu_seq_lens, total_tokens=231, fmt=fmt, checked=True)
with pytest.raises(KernelArgumentError, match="page_table: got page 9"):
    longer = torch.tensor([0, 190, 320], dtype=torch.int32)
    aiter.gather(cache, table, longer, total_tokens=230, fmt=fmt, checked=True)
with pytest.raises(KernelArgumentError, match="slots: got slot 320"):
    aiter.quantise_and_store(cache, torch.arange(21, 321), values, fmt=fmt, checked=True)
"""
    run(fake_packages.aiter(tmp_path / "site"), _SETUP + code)


@pytest.mark.parametrize(
    ("plain", "with_scale"),
    [(False, True), *(pytest.param(True, scale, marks=pytest.mark.slow) for scale in (True, False))],
)
def test_deep_gemm_proves_itself(run: Run, tmp_path: Path, plain: bool, with_scale: bool) -> None:
    """With the symbols of older releases, of newer ones, and of those that have both."""
    packages = fake_packages.deep_gemm(tmp_path / "site", plain=plain, with_scale=with_scale)
    found = run(packages, _CHECK.format(module="deep_gemm", fmt="page_size=64", options={}))
    assert found.startswith("row: proven\n  store, quantise_and_store, gather, logits")


def test_deep_gemm_takes_a_schedule_that_was_made_before(run: Run, tmp_path: Path) -> None:
    """It is the same for all layers of a step; and scores outside the context may be left as they are."""
    code = """
from nsa_caps.kernels import deep_gemm
plan = deep_gemm.schedule(lens, 2, fmt)
assert plan.shape == (8, 2)
expected = reference_logits.logits(q, cache, weights, lens, table, 150, fmt=fmt)
found = deep_gemm.logits(q, cache, weights, lens, table, 150, fmt=fmt, schedule_meta=plan)
torch.testing.assert_close(found, expected)
with pytest.raises(AssertionError):
    deep_gemm.logits(q, cache, weights, lens, table, 150, fmt=fmt, schedule_meta=plan + 1)
raw = deep_gemm.logits(q, cache, weights, lens, table, 150, fmt=fmt, clean=False)
kept = torch.full_like(expected, 7.0)
deep_gemm.logits(q, cache, weights, lens, table, 150, fmt=fmt, clean=False, out=kept)
assert torch.equal(kept == 7.0, expected.isinf())
assert torch.equal(raw.isnan(), expected.isinf())
"""
    run(fake_packages.deep_gemm(tmp_path / "site"), _SETUP + code)


def test_deep_gemm_refuses_pages_that_it_would_misread(run: Run, tmp_path: Path) -> None:
    """It asks nothing about order, dialect or the form of scales itself."""
    code = """
from nsa_caps.kernels import deep_gemm
for name, value in (("order", "tiles"), ("dialect", "e4m3fnuz"), ("scale_format", "ue8m0_packed"), ("row_stride", 144)):
    with pytest.raises(KernelArgumentError, match=f"^fmt: got {name} "):
        deep_gemm.logits(q, cache, weights, lens, table, 150, fmt=PageFormat(page_size=64, **{name: value}))
"""
    run(fake_packages.deep_gemm(tmp_path / "site"), _SETUP + code)


def test_a_failed_import_surfaces_with_its_cause(run: Run, tmp_path: Path) -> None:
    """Whatever the package raises, and not a search for it elsewhere."""
    gate = {"aiter/ops/cache.py": "", "aiter/__init__.py": "raise RuntimeError('needs Triton >= 3.6.0')"}
    needs = lay_out(fake_packages.aiter(tmp_path / "needs", logits=OLD_LOGITS), {NEW_LOGITS: "import flydsl"})
    nowhere = {"aiter/ops/cache.py": _cache_names(), "aiter/ops/triton/none.py": ""}
    without = {"aiter/ops/cache.py": "", NEW_LOGITS: ""}
    told = failures(
        run, "aiter", lay_out(tmp_path / "gate", gate), needs,
        lay_out(tmp_path / "nowhere", nowhere), lay_out(tmp_path / "without", without),
    )  # fmt: skip
    assert told[:3] == [
        "RuntimeError: needs Triton >= 3.6.0",
        "ModuleNotFoundError: No module named 'flydsl'",
        "ModuleNotFoundError: No module named 'aiter.ops.triton.pa_mqa_logits'",
    ]
    assert "has no attribute 'cp_gather_indexer_k_quant_cache'" in told[3]

    bare = fake_packages.deep_gemm(tmp_path / "bare", plain=False, with_scale=False)
    absent, incomplete = failures(run, "deep_gemm", tmp_path, bare)
    assert absent == "ModuleNotFoundError: No module named 'deep_gemm'"
    assert "has neither fp8_paged_mqa_logits nor fp8_fp4_paged_mqa_logits" in incomplete


def _cache_names() -> str:
    return "cp_gather_indexer_k_quant_cache = indexer_k_quant_and_cache = None"
