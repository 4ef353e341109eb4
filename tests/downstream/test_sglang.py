"""SGLang's real modules, run on a CPU: `install` takes them over, and their gather and store agree with ours.

Needs `--wheels`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import EntryPoint
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from packaging.version import Version

import nsa_caps
from nsa_caps.engines import sglang
from nsa_caps.engines.model import IndexerModel
from nsa_caps.engines.sglang.gate import V4
from nsa_caps.kernels import reference
from nsa_caps.pages import PageFormat
from nsa_caps.testing import machine
from tests.downstream.gates import COMMON, GATE, home_of_gate
from tests.downstream.wheels import Sandbox, take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from tests.downstream.wheels import Wheel

# Projects that SGLang's modules import and that need not be here.
ABSENT = ("aiter", "deep_gemm", "einops", "sgl_kernel", "tilelang", "transformers")
# By release: 0.5.23, 0.5.17 and 0.5.21, 0.5.15, 0.5.12.
ACCESSORS = (
    "sglang.kernels.ops.kvcache.dsa_index_k_cache",
    "sglang.kernels.ops.attention.dsa.index_buf_accessor",
    "sglang.srt.layers.attention.dsa.index_buf_accessor",
    "sglang.srt.layers.attention.nsa.index_buf_accessor",
)
FP8_KERNEL = ("sglang.kernels.ops.quantization.fp8_kernel", "sglang.srt.layers.quantization.fp8_kernel")


def sandbox(wheel: Wheel, folder: Path, *, hip: bool, tiles: bool, fnuz: bool = False) -> Sandbox:
    """Return an SGLang whose gate, and all modules that have it by value, are real; its platform is as given."""
    environ = {"SGLANG_USE_AITER": "1"} if tiles else {}
    system = SimpleNamespace(getenv=environ.get)
    given = {"os": system, "logger": SimpleNamespace(warning=lambda *_: None)}
    names = ["_warned_bool_env_var_keys", "get_bool_env_var"]
    flags: dict[str, object] = {f"is_{name}": lambda: False for name in ("cuda", "xpu", "npu", "musa", "cpu", "hpu")}
    flags |= {"is_hip": lambda: hip, **take(wheel.source(COMMON), names, given)}
    modules: dict[str, dict[str, object]] = {name: {} for name in ABSENT}
    modules |= {"sglang.srt.utils": flags, COMMON: flags}
    modules |= {name: {"is_fp8_fnuz": lambda: fnuz} for name in FP8_KERNEL}
    executed = {home_of_gate(wheel), "sglang.srt.environ", *wheel.importers(GATE)}
    return Sandbox(wheel, folder, executed, modules)


def load(box: Sandbox) -> dict[str, ModuleType]:
    """Import every module that has the gate, and return all modules."""
    kept = dict(os.environ)
    for module in sorted(box.executed):
        box.load(module)
    os.environ.clear()
    os.environ.update(kept)
    return box.modules


@pytest.fixture(autouse=True)
def _nothing_stays_installed() -> Iterator[None]:
    yield
    sglang.uninstall({})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::SyntaxWarning")
def test_every_real_module_follows_and_is_put_back(sglangs: list[Wheel], tmp_path: Path) -> None:
    """An SGLang that says tiles where they are switched off here is corrected everywhere but in V4's own modules."""
    environ = {"SGLANG_USE_AITER": "1", "NSA_CAPS_DISABLE_PRESHUFFLE": "1"}
    host = machine(
        tmp_path / "m",
        archs=["gfx942"],
        aiter="3b2e6f48",
        triton="3.6.0",
        environ=environ,
        engines={"sglang": "0.5.17"},
    )
    layout = sglang.indexer_layout(caps=nsa_caps.probe(host))
    assert layout.row == "aiter-token"
    for wheel in sglangs:
        modules = load(sandbox(wheel, tmp_path / wheel.version, hip=True, tiles=True))
        home, importers = home_of_gate(wheel), wheel.importers(GATE) - set(V4)
        keepers = {name for name in importers if "_use_aiter_preshuffle" in vars(modules[name])}
        assert len(importers) >= 3
        assert keepers
        before = {name: dict(vars(modules[name])) for name in (home, *wheel.importers(GATE))}
        assert all(vars(modules[name])["_use_aiter_preshuffle"] is True for name in keepers)

        replaced = sglang.install(layout, kernels=True, model=IndexerModel(), modules=modules)
        assert all(vars(modules[name])[GATE]() is False for name in (home, *importers))
        assert all(vars(modules[name])["_use_aiter_preshuffle"] is False for name in keepers)
        assert {each.owner.__name__ for each in replaced if each.name == GATE} == {home, *importers}
        assert all(vars(modules[name])[GATE] is before[name][GATE] for name in V4 if name in before)
        assert sum(each.name == "execute" for each in replaced) == 2

        sglang.uninstall(modules)
        assert {name: dict(vars(modules[name])) for name in before} == before


def test_deepseek_v4_asks_the_gate_after_0_5_15(sglangs: list[Wheel]) -> None:
    """Up to then none of its modules has it, and an install of the other answer leaves it as it is."""
    for wheel in sglangs:
        assert bool(wheel.importers(GATE) & set(V4)) is (Version(wheel.version) > Version("0.5.15")), f"{wheel}"


def test_a_plugin_is_run_in_time_and_its_failure_is_logged(
    sglangs: list[Wheel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SGLang's own loader calls `install` as the docs' entry point names it, before it resolves its arguments."""
    point = EntryPoint("nsa_caps", "nsa_caps.engines.sglang:install", "sglang.srt.plugins")
    if nsa_caps.probe().devices:
        pytest.skip("this machine has a GPU: install would go on to look for SGLang")
    for wheel in sglangs:
        launch = wheel.source("sglang.launch_server")
        assert launch.rindex("load_plugins()") < launch.rindex("prepare_server_args(sys.argv")
        executed = {"sglang.srt.plugins", "sglang.srt.plugins.hook_registry"}
        environ = {"envs": SimpleNamespace(**dict.fromkeys(("SGLANG_PLUGINS", "SGLANG_PLATFORM"), _Unset()))}
        plugins = Sandbox(wheel, tmp_path / wheel.version, executed, {"sglang.srt.environ": environ}).load(
            "sglang.srt.plugins"
        )
        vars(plugins)["entry_points"] = lambda group: [point] if group == point.group else []
        caplog.clear()
        vars(plugins)["load_plugins"]()
        (failure,) = (record.exc_info for record in caplog.records if record.exc_info)
        assert failure[0] is nsa_caps.NoUsableLayoutError, f"{wheel}"


class _Unset:
    """A variable of SGLang's registry that is not set."""

    def get(self) -> None:
        """Return its default."""


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("page_size", [64, 1])
def test_the_real_gather_and_ours_agree(
    sglangs: list[Wheel], tmp_path: Path, page_size: int, index_dtype: torch.dtype
) -> None:
    """SGLang's Triton gather reads the same keys and scales out of the same random pages, of 64 tokens and of one."""
    fmt = PageFormat(page_size=page_size)
    lengths = [3, 2 * page_size + 5, 130]
    counts = [-(-length // page_size) for length in lengths]
    table = torch.zeros((3, max(counts)), dtype=index_dtype)
    order = torch.randperm(sum(counts)).to(index_dtype)
    for request, (begin, size) in enumerate(zip(accumulate([0, *counts]), counts, strict=False)):
        table[request, :size] = order[begin : begin + size]
    buf = torch.randint(0, 256, (sum(counts), fmt.page_bytes), dtype=torch.uint8)
    asked: dict[str, Any] = {
        "page_indices": table,
        "seq_len_tensor": torch.tensor(lengths, dtype=index_dtype),
        "seq_len_sum": sum(lengths),
        "max_seq_len": max(lengths),
    }
    for wheel in sglangs:
        accessor = accessor_of(sandbox(wheel, tmp_path / wheel.version, hip=page_size == 1, tiles=False))
        pool = pool_of(page_size)
        theirs = accessor.GetKAndS.execute(pool, buf, **asked)
        for name, layout in layouts(tmp_path, fmt).items():
            ours = sglang.gather(pool, buf, **asked, layout=layout)
            assert all(map(torch.equal, ours, theirs)), f"{wheel}, {name}"


@pytest.mark.parametrize("fnuz", [False, True], ids=["e4m3fn", "e4m3fnuz"])
@pytest.mark.parametrize("tiles", [True, False], ids=["tiles", "flat"])
def test_the_real_store_and_ours_agree(sglangs: list[Wheel], tmp_path: Path, *, tiles: bool, fnuz: bool) -> None:
    """SGLang's Triton store writes the same bytes; but up to 0.5.15 it writes flat keys into tiled pages too."""
    page_size = 64 if tiles else 1
    fmt = PageFormat(page_size=page_size, order="tiles" if tiles else "flat", dialect="e4m3fnuz" if fnuz else "e4m3fn")
    keys, scales = reference.quantise(torch.randn(100, 128), fmt)
    loc = torch.randperm(4 * 64)[:100]
    blank = torch.randint(0, 256, (256 // page_size, fmt.page_bytes), dtype=torch.uint8)
    for wheel in sglangs:
        accessor = accessor_of(sandbox(wheel, tmp_path / wheel.version, hip=True, tiles=tiles, fnuz=fnuz))
        assert vars(accessor)["_use_aiter_preshuffle"] is tiles
        theirs = blank.clone()
        accessor.SetKAndS.execute(pool_of(page_size), buf=theirs, loc=loc, index_k=keys, index_k_scale=scales)
        expected = replace(fmt, order="flat") if wheel.version in ("0.5.12", "0.5.15") else fmt
        for name, layout in layouts(tmp_path, expected).items():
            ours = blank.clone()
            sglang.store(pool_of(page_size), ours, loc, keys, scales, layout=layout)
            assert torch.equal(ours, theirs), f"{wheel}, {name}"


def accessor_of(box: Sandbox) -> Any:
    """Return the module of `GetKAndS` and `SetKAndS`."""
    kept = dict(os.environ)
    (name,) = (name for name in ACCESSORS if name in box.executed)
    module = box.load(name)
    os.environ.clear()
    os.environ.update(kept)
    return module


def pool_of(page_size: int) -> SimpleNamespace:
    """Return as much of a pool as SGLang's accessors look at."""
    return SimpleNamespace(
        page_size=page_size, index_page_size=page_size, index_kpool=1, index_head_dim=128, quant_block_size=128
    )


def layouts(folder: Path, fmt: PageFormat) -> dict[str, nsa_caps.IndexerLayout]:
    """Return the rows that run here on pages of a format: plain torch, and our Triton kernels in its interpreter."""
    caps = nsa_caps.probe(machine(folder / str(len(list(folder.iterdir()))), platform="cpu"))
    plain = replace(nsa_caps.select_indexer_layout(caps), format=fmt)
    return {row: replace(plain, row=row) for row in ("reference", "portable")}
