"""The engines' real indexers, driven on a CPU whose SGLang says HIP, with this library's kernels in them.

Needs `--wheels`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

import nsa_caps
from nsa_caps.engines import sglang, vllm
from nsa_caps.engines.model import IndexerModel
from nsa_caps.testing import machine
from tests.downstream import real_sglang, real_vllm
from tests.downstream.gates import GATE, home_of_gate
from tests.real_aiter.stand_ins import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nsa_caps import IndexerLayout
    from tests.downstream.wheels import Wheel

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _nothing_stays_installed() -> Iterator[None]:
    torch.manual_seed(0)
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")
    sglang.uninstall({})
    vllm.uninstall()


def layout_on(folder: Path, arch: str, **described: Any) -> tuple[IndexerLayout, IndexerLayout]:
    """Return SGLang's layout for a GPU with our kernels, its kernels plain torch's, as there is no such GPU here."""
    caps = nsa_caps.probe(machine(folder, archs=[arch], triton="3.7.0", **described), engine="sglang")
    layout = sglang.indexer_layout(caps=caps, kernels=True)
    return layout, replace(layout, row="reference", logits_options={})


@pytest.mark.parametrize("version", ["0.5.17", "0.5.21", "0.5.23"])
@pytest.mark.parametrize(("arch", "heads"), [("gfx942", 64), ("gfx90a", 32), ("gfx1151", 64)])
def test_sglangs_indexer_chooses_what_the_oracle_does(
    sglangs: list[Wheel], tmp_path: Path, version: str, arch: str, heads: int
) -> None:
    """Prefill, chunked prefill, decode and MTP on flat pages of 64 without aiter, where SGLang alone has no way."""
    wheel = next((each for each in sglangs if each.version == version), None)
    if wheel is None:
        pytest.skip(f"no wheel of SGLang {version} is there")
    layout, runs = layout_on(tmp_path / "machine", arch)
    assert (layout.row, layout.page_size) == ("portable", 64)
    fnuz = arch == "gfx942"
    box = real_sglang.sandbox(wheel, tmp_path / "wheel", hip=True, fnuz=fnuz)
    real_sglang.load(box)
    replaced = sglang.install(layout, kernels=True, modules=box.modules)
    for each in replaced:
        _run_by(each, runs)
    driver = real_sglang.Driver(box, 64, heads=heads, device=torch.device("cpu"), fnuz=fnuz)
    real_sglang.drive(driver, on_cpu=True)


AITER = ("aiter", "aiter.ops", "aiter.ops.cache", "aiter.ops.triton", "aiter.ops.triton.fp8_mqa_logits")


@pytest.mark.parametrize("version", ["0.5.17", "0.5.21", "0.5.23"])
def test_sglangs_indexer_runs_aiter_flat(
    sglangs: list[Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """On gfx1151, asked for aiter, whose own gate says tiles: flat pages of 64, and its aiter branches call ours."""
    wheel = next((each for each in sglangs if each.version == version), None)
    if wheel is None:
        pytest.skip(f"no wheel of SGLang {version} is there")
    for name in AITER:
        monkeypatch.setitem(sys.modules, name, StandIn(name))
    monkeypatch.setenv("SGLANG_USE_AITER", "1")
    environ = {"SGLANG_USE_AITER": "1"}
    layout, runs = layout_on(tmp_path / "machine", "gfx1151", aiter="04907edc", environ=environ)
    assert (layout.row, layout.page_size) == ("aiter-flat", 64)
    box = real_sglang.sandbox(wheel, tmp_path / "wheel", hip=True, fnuz=False, use_aiter=True)
    real_sglang.load(box)
    assert vars(box.modules[real_sglang.INDEXER])["_use_aiter"]
    replaced = sglang.install(layout, kernels=True, modules=box.modules)
    assert {"indexer_k_quant_and_cache", "aiter_paged_mqa_logits"} <= {each.name for each in replaced}
    for each in replaced:
        _run_by(each, runs)
    driver = real_sglang.Driver(box, 64, heads=32, device=torch.device("cpu"), fnuz=False)
    real_sglang.drive(driver, on_cpu=True)


@pytest.mark.parametrize("version", ["0.5.17", "0.5.21", "0.5.23"])
def test_a_deepseek_v4_is_refused(sglangs: list[Wheel], tmp_path: Path, version: str) -> None:
    """Where our answer would turn the real gate off while gluon reads tiles; nothing is replaced then."""
    wheel = next((each for each in sglangs if each.version == version), None)
    if wheel is None:
        pytest.skip(f"no wheel of SGLang {version} is there")
    environ = {"SGLANG_USE_AITER": "1", "NSA_CAPS_DISABLE_PRESHUFFLE": "1"}
    host = machine(tmp_path / "machine", archs=["gfx942"], aiter="3b2e6f48", triton="3.6.0", environ=environ)
    layout = sglang.indexer_layout(caps=nsa_caps.probe(host, engine="sglang"))
    box = real_sglang.sandbox(wheel, tmp_path / "wheel", hip=True, fnuz=True)
    real_sglang.load(box)
    gate = home_of_gate(wheel)
    vars(box.modules[gate])[GATE] = says_tiles = lambda: True
    with pytest.raises(sglang.InstallError, match="DeepSeek-V4"):
        sglang.install(layout, model=IndexerModel("v4"), modules=box.modules)
    assert vars(box.modules[gate])[GATE] is says_tiles


def _run_by(replacement: Any, runs: Any) -> None:
    """Let a replaced call run on another layout's kernels of the same bytes."""
    after = getattr(replacement.after, "__func__", replacement.after)
    if "layout" in getattr(after, "keywords", {}):
        after.keywords["layout"] = runs
    # A bound method of `AiterCalls` or `DeepGemmCalls`, or one of these itself.
    owner = getattr(replacement.after, "__self__", replacement.after)
    if hasattr(owner, "_layout"):
        owner._layout = runs  # noqa: SLF001 the test's own way in
    if type(after).__name__ == "ModuleType" or hasattr(after, "fp8_mqa_logits"):
        after.fp8_mqa_logits.__self__._layout = runs  # noqa: SLF001 likewise


@pytest.mark.parametrize("version", ["0.30.0", "0.33.0"])
@pytest.mark.parametrize("arch", ["gfx942", "gfx90a", "gfx1151"])
def test_vllms_indexer_chooses_what_the_oracle_does(
    vllms: list[Wheel], tmp_path: Path, version: str, arch: str
) -> None:
    """Prefill, chunked prefill, decode and MTP where `forward_hip` alone raises: no aiter, no native way."""
    wheel = next((each for each in vllms if each.version == version), None)
    if wheel is None:
        pytest.skip(f"no wheel of vLLM {version} is there")
    caps = vllm.probe_machine(machine(tmp_path / "machine", archs=[arch], triton="3.7.0"))
    layout = vllm.indexer_layout(caps, kernels=True)
    assert (layout.row, layout.page_size) == ("portable", 64)
    runs = replace(layout, row="reference", logits_options={})
    fnuz = arch == "gfx942"
    box = real_vllm.sandbox(wheel, tmp_path / "wheel", hip=True, fnuz=fnuz)
    for name in (real_vllm.INDEXER, real_vllm.BACKEND):
        box.load(name)
    before = dict(vars(box.modules[real_vllm.INDEXER]))
    vllm.install(runs, modules=box.modules)
    real_vllm.drive(real_vllm.Driver(box, 64, heads=32, device=torch.device("cpu"), fnuz=fnuz, hip=True))
    vllm.uninstall()
    # What the driver put there, not `install`.
    vars(box.modules[real_vllm.INDEXER]).update({name: before[name] for name in ("torch", "get_forward_context")})
    after = {name: value for name, value in vars(box.modules[real_vllm.INDEXER]).items() if name in before}
    assert after == before
