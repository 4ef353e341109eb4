"""The plugins: nothing unasked, nothing before the model is known, and never a right server turned wrong."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import nsa_caps
from nsa_caps.engines import sglang, vllm
from nsa_caps.engines.model import IndexerModel, of_config
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOME = "sglang.srt.layers.attention.dsa.utils"
GATE = "aiter_can_use_preshuffle_paged_mqa"
V32 = {"architectures": ["DeepseekV32ForCausalLM"], "index_topk": 2048, "index_n_heads": 64, "index_head_dim": 128}


@pytest.fixture(autouse=True)
def _nothing_stays_installed() -> Iterator[None]:
    yield
    sglang.uninstall({})


def modules(*, answer: bool) -> dict[str, ModuleType]:
    """Return an SGLang of its gate alone."""
    home = ModuleType(HOME)
    vars(home)[GATE] = lambda: answer
    return {HOME: home}


def token_layout(folder: Path, **engines: str) -> nsa_caps.IndexerLayout:
    """Return pages of one token on a machine whose gluon is active: switched off by the name that SGLang ignores."""
    environ = {"SGLANG_USE_AITER": "1", "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE": "1"}
    host = machine(folder, archs=["gfx942"], aiter="861b4c93", triton="3.7.0", environ=environ, engines=engines)
    layout = sglang.indexer_layout(caps=nsa_caps.probe(host, engine="sglang"))
    assert layout.row == "aiter-token"
    return layout


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (V32, IndexerModel("dsa", 64, 128, 1)),
        ({**V32, "index_n_heads": 32, "index_kpool": 4}, IndexerModel("dsa", 32, 128, 4)),
        (SimpleNamespace(**V32), IndexerModel()),
        ({"architectures": ["DeepseekV4ForCausalLM"]}, IndexerModel("v4")),
        ({"architectures": ["LlamaForCausalLM"]}, None),
    ],
)
def test_a_model_is_what_its_configuration_says(config: Any, model: IndexerModel | None) -> None:
    """Heads, pooling and family are read, as an object or a dict; a model without an indexer has none."""
    assert of_config(config) == model


@pytest.mark.parametrize("model", [None, IndexerModel("v4")])
def test_a_deepseek_v4_is_left_as_it_is(tmp_path: Path, model: IndexerModel | None) -> None:
    """Where the gate would go off while gluon is active, V4 would read its tiles as flat (aiter#5591)."""
    loaded = modules(answer=True)
    own = vars(loaded[HOME])[GATE]
    with pytest.raises(sglang.InstallError, match="aiter#5591"):
        sglang.install(token_layout(tmp_path), model=model, modules=loaded)
    assert vars(loaded[HOME])[GATE] is own


@pytest.mark.parametrize(
    ("release", "refused"), [("0.5.12", False), ("0.5.15", False), ("0.5.16", True), ("0.5.17", True)]
)
@pytest.mark.parametrize("model", [None, IndexerModel("v4")])
def test_a_deepseek_v4_that_does_not_ask_the_gate_bars_nothing(
    tmp_path: Path, model: IndexerModel | None, release: str, *, refused: bool
) -> None:
    """Up to 0.5.15 its modules know nothing of the gate; 0.5.16 was not read."""
    loaded = modules(answer=True)
    layout = token_layout(tmp_path, sglang=release)
    if refused:
        with pytest.raises(sglang.InstallError, match="aiter#5591"):
            sglang.install(layout, model=model, modules=loaded)
    else:
        sglang.install(layout, model=model, modules=loaded)
    assert vars(loaded[HOME])[GATE]() is refused


def test_another_model_takes_the_same_layout(tmp_path: Path) -> None:
    """Said that it is no V4, pages of one token are consistent."""
    loaded = modules(answer=True)
    sglang.install(token_layout(tmp_path), model=IndexerModel(), modules=loaded)
    assert vars(loaded[HOME])[GATE]() is False


def test_v4s_own_modules_keep_sglangs_gate(tmp_path: Path) -> None:
    """They took it by value, and ask for tiles by it whatever V3.2's pages are."""
    loaded = modules(answer=True)
    v4 = loaded["sglang.srt.layers.attention.dsv4.indexer"] = ModuleType("sglang.srt.layers.attention.dsv4.indexer")
    vars(v4)[GATE] = vars(loaded[HOME])[GATE]
    sglang.install(token_layout(tmp_path), model=IndexerModel(), modules=loaded)
    assert vars(v4)[GATE]() is True


def test_an_install_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    """Nothing is replaced by it, and nothing is lost."""
    loaded = modules(answer=True)
    host = machine(tmp_path / "a", platform="cuda", archs=["sm_80"])
    portable = sglang.indexer_layout(caps=nsa_caps.probe(host, engine="sglang"), kernels=True)
    sglang.install(token_layout(tmp_path / "b"), model=IndexerModel(), modules=loaded)
    standing = vars(loaded[HOME])[GATE]
    with pytest.raises(sglang.InstallError, match=r"SGLang has no .*dsa_index_k_cache"):
        sglang.install(portable, kernels=True, modules=loaded)
    assert vars(loaded[HOME])[GATE] is standing
    assert sglang.uninstall(loaded)
    assert vars(loaded[HOME])[GATE]() is True


def test_kernels_are_asked_for_by_name(tmp_path: Path) -> None:
    """A row that needs them is refused without, and the error says how to get it."""
    host = machine(tmp_path, platform="cuda", archs=["sm_80"])
    portable = sglang.indexer_layout(caps=nsa_caps.probe(host, engine="sglang"), kernels=True)
    with pytest.raises(sglang.InstallError, match=r"install\(kernels=True\)"):
        sglang.install(portable, modules=modules(answer=False))


def test_plugins_do_nothing_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed with pip they are found by both engines, and change neither."""
    monkeypatch.delenv("NSA_CAPS_INSTALL", raising=False)
    sglang.plugin()
    vllm.plugin()
    assert sglang.uninstall({}) == ()
    assert vllm.uninstall() == ()


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, str]]:
    """Return what is registered with an SGLang's own registry of hooks."""
    found: list[tuple[str, Any, str]] = []
    registry = ModuleType("sglang.srt.plugins.hook_registry")
    register = staticmethod(lambda *hook: found.append(hook))
    vars(registry).update(
        HookRegistry=type("HookRegistry", (), {"register": register}), HookType=SimpleNamespace(AFTER="after")
    )
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    return found


def sglangs_plugin(monkeypatch: pytest.MonkeyPatch, folder: Path, **described: Any) -> list[dict[str, Any]]:
    """Let SGLang's plugin run on a machine that asks for it, and return what it installs, when it does."""
    host = machine(folder, environ={"NSA_CAPS_INSTALL": "1", **described.pop("environ", {})}, **described)
    caps, installed = nsa_caps.probe(host, engine="sglang"), []
    home = importlib.import_module("nsa_caps.engines.sglang.plugin")
    monkeypatch.setattr(home, "probe", lambda **_: caps)
    monkeypatch.setattr(home, "_seen", set())
    monkeypatch.setattr(home, "indexer_layout", partial(sglang.indexer_layout, caps=caps))
    monkeypatch.setattr(home, "install", lambda layout, **how: installed.append({"row": layout.row, **how}))
    sglang.plugin()
    return installed


def test_sglangs_plugin_installs_once_the_model_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: list[tuple[str, Any, str]]
) -> None:
    """For each model of the family once, with its heads; for a V4 and a model without an indexer never."""
    installed = sglangs_plugin(monkeypatch, tmp_path, platform="cuda", archs=["sm_80"])
    ((target, after, when),) = hooks
    assert (target, when, installed) == ("sglang.srt.configs.model_config.is_deepseek_dsa", "after", [])
    after(False, V32)
    after(True, {"architectures": ["DeepseekV4ForCausalLM"]})
    after(True, {"architectures": ["LlamaForCausalLM"]})
    assert installed == []
    after(True, V32)
    after(True, V32)
    after(True, {**V32, "index_n_heads": 32})
    assert installed == [
        {"row": "portable", "kernels": True, "model": IndexerModel("dsa", heads, 128, 1)} for heads in (64, 32)
    ]


def test_sglangs_plugin_leaves_its_own_kernels_where_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: list[tuple[str, Any, str]]
) -> None:
    """A row that SGLang runs as it is needs the gate's answer and the page size alone."""
    cuda: dict[str, Any] = {"platform": "cuda", "archs": ["sm_90"], "deep_gemm": "2.1.1"}
    installed = sglangs_plugin(monkeypatch, tmp_path, **cuda)
    hooks[0][1](True, V32)
    assert [(each["row"], each["kernels"]) for each in installed] == [("deepgemm", False)]


def test_sglangs_plugin_says_what_it_does_not_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: list[tuple[str, Any, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Ray's actors run no plugins: the line that does it there is given. Other platforms have pages of their own."""
    caplog.set_level("INFO", "nsa_caps.engines.sglang")
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    sglangs_plugin(monkeypatch, tmp_path / "gpu", platform="cuda", archs=["sm_80"])
    assert '"worker_process_setup_hook": "nsa_caps.engines.sglang.plugin"' in caplog.text
    assert len(hooks) == 1
    sglangs_plugin(monkeypatch, tmp_path / "cpu", platform="cpu")
    assert "nothing to do on cpu" in caplog.text
    assert len(hooks) == 1


@pytest.mark.parametrize(
    ("described", "row"),
    [
        ({"platform": "cuda", "archs": ["sm_80"]}, "portable"),
        ({"archs": ["gfx90a"]}, "portable"),
        ({"platform": "cuda", "archs": ["sm_90"], "deep_gemm": "2.1.1"}, None),
        ({"archs": ["gfx1151"]}, "portable"),
    ],
)
def test_vllms_plugin_installs_where_vllm_has_no_such_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, described: dict[str, Any], row: str | None
) -> None:
    """Where it runs its best row as it is, nothing is touched; where it runs a worse one, or none, ours go in."""
    caps = vllm.probe_machine(machine(tmp_path, environ={"NSA_CAPS_INSTALL": "1"}, **described))
    installed: list[str] = []
    home = importlib.import_module("nsa_caps.engines.vllm.plugin")
    monkeypatch.setattr(home, "probe_machine", lambda: caps)
    monkeypatch.setattr(home, "install", lambda layout: installed.append(layout.row))
    vllm.plugin()
    assert installed == ([row] if row else [])


def test_where_there_is_no_vllm(tmp_path: Path) -> None:
    """The error says which vLLM has the indexer."""
    caps = vllm.probe_machine(machine(tmp_path, platform="cuda", archs=["sm_80"]))
    with pytest.raises(vllm.InstallError, match=r"0\.30\.0 and later"):
        vllm.install(vllm.indexer_layout(caps, kernels=True), modules={})


INDEXER = "vllm.model_executor.layers.sparse_attn_indexer"
BACKEND = "vllm.v1.attention.backends.mla.indexer"


def vllm_modules(**more: object) -> dict[str, ModuleType]:
    """Return stand-ins for the two modules of a vLLM that hold the indexer, with more names in the first."""

    class SparseAttnIndexer:
        def forward_cuda(self) -> str:
            return "by CUDA's way"

        def forward_hip(self) -> str:
            return "by HIP's"

    class DeepseekV32IndexerBackend:
        @staticmethod
        def get_supported_kernel_block_sizes() -> list[int]:
            return [1, 64]

    contents: dict[str, dict[str, object]] = {
        INDEXER: {
            "ops": ModuleType("ops"), "SparseAttnIndexer": SparseAttnIndexer, "fp8_fp4_mqa_logits": 1,
            "fp8_fp4_paged_mqa_logits": 1, "has_deep_gemm": lambda: False, **more,
        },
        BACKEND: {
            "DeepseekV32IndexerBackend": DeepseekV32IndexerBackend, "get_paged_mqa_logits_metadata": 1,
            "has_deep_gemm": lambda: True,
        },
    }  # fmt: skip
    loaded = {name: ModuleType(name) for name in contents}
    for name, values in contents.items():
        vars(loaded[name]).update(values)
    return loaded


def of_vllm(folder: Path, arch: str) -> nsa_caps.IndexerLayout:
    """Return what vLLM runs on a GPU with this library's kernels."""
    return vllm.indexer_layout(vllm.probe_machine(machine(folder, platform="cuda", archs=[arch])), kernels=True)


def test_vllm_is_put_on_one_layout_and_put_back(tmp_path: Path) -> None:
    """Its checks stand aside, ROCm goes CUDA's way, blocks are the layout's; undone, every name is what it was."""
    loaded = vllm_modules()
    before = {name: dict(vars(module)) for name, module in loaded.items()}
    layer, backend = before[INDEXER]["SparseAttnIndexer"], before[BACKEND]["DeepseekV32IndexerBackend"]
    vllm.install(of_vllm(tmp_path, "sm_80"), modules=loaded)
    assert vars(loaded[INDEXER])["has_deep_gemm"]() is True
    assert vars(loaded[BACKEND])["has_deep_gemm"]() is False
    assert layer().forward_hip() == "by CUDA's way"
    assert backend.get_supported_kernel_block_sizes() == [64]
    assert vars(loaded[BACKEND])["get_paged_mqa_logits_metadata"].__name__ == "get_paged_mqa_logits_metadata"
    assert vllm.uninstall()
    assert {name: dict(vars(module)) for name, module in loaded.items()} == before
    assert layer().forward_hip() == "by HIP's"
    assert backend.get_supported_kernel_block_sizes() == [1, 64]
    assert vllm.uninstall() == ()


def test_a_vllm_that_lacks_a_name_keeps_the_earlier_installation(tmp_path: Path) -> None:
    """It is named, and what stood stands."""
    loaded, other = vllm_modules(), vllm_modules()
    del vars(other[INDEXER])["ops"]
    vllm.install(of_vllm(tmp_path / "a", "sm_80"), modules=loaded)
    with pytest.raises(vllm.InstallError, match="sparse_attn_indexer has no ops"):
        vllm.install(of_vllm(tmp_path / "b", "sm_89"), modules=other)
    assert vars(loaded[INDEXER])["has_deep_gemm"]() is True
    vllm.uninstall()
    assert vars(loaded[INDEXER])["has_deep_gemm"]() is False


def test_packed_scales_are_not_read_as_fp32(tmp_path: Path) -> None:
    """Since 0.33 vLLM writes four exponent bytes on sm_10x: our kernels would read them as one number."""
    loaded = vllm_modules(mqa_logits_use_mx_scales=lambda: True)
    caps = nsa_caps.probe(machine(tmp_path, platform="cuda", archs=["sm_100"]), engine="vllm")
    asked = nsa_caps.Request(rows=("portable",), scale_format="fp32")
    layout = nsa_caps.select_indexer_layout(caps, asked)
    with pytest.raises(vllm.InstallError, match="packs four UE8M0 bytes where portable has an fp32 scale on sm_100"):
        vllm.install(layout, modules=loaded)
