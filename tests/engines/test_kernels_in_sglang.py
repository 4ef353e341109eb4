"""Which of SGLang's names this library's kernels take the place of, by stand-ins for the modules of its releases."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch

import nsa_caps
from nsa_caps.engines.replacing import ABSENT, InstallError, Replacement, replace_all, undo_all
from nsa_caps.engines.sglang.kernels import ACCESSORS, indexer_kernels
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INDEXER = "sglang.srt.layers.attention.dsa.dsa_indexer"
BACKEND = "sglang.srt.layers.attention.dsa_backend"
UTILS = "sglang.srt.layers.attention.dsa.utils"
TRITON = "sglang.kernels.ops.quantization.act_quant_triton"
TILELANG = "sglang.kernels.ops.attention.dsa.tilelang_kernel"
RAGGED = "aiter.ops.triton.fp8_mqa_logits"
RESOLVERS = (
    "resolve_num_sms",
    "resolve_paged_mqa_logits_metadata_fn",
    "resolve_fp8_paged_mqa_logits_fn",
    "resolve_fp8_mqa_logits_fn",
)


def layout_of(folder: Path, arch: str) -> nsa_caps.IndexerLayout:
    """Return the portable row's layout on one GPU."""
    platform: Any = "cuda" if arch.startswith("sm_") else "rocm"
    caps = nsa_caps.probe(machine(folder, platform=platform, archs=[arch]))
    return nsa_caps.select_indexer_layout(caps, nsa_caps.Request(rows=("portable",)))


def modules(**contents: Mapping[str, object]) -> dict[str, ModuleType]:
    """Return modules of an SGLang: those that are on every platform, and others, by their full names."""
    named: dict[str, Mapping[str, object]] = {
        ACCESSORS[2]: {"GetKAndS": object, "SetKAndS": object},
        TRITON: {"act_quant": "SGLang's"},
        TILELANG: {"act_quant": "SGLang's"},
        **contents,
    }
    made = {}
    for name, values in named.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(values)
    return made


def placed(found: list[Replacement]) -> dict[tuple[str, str], object]:
    """Return what takes the place of each name."""
    return {
        ("sys.modules" if each.owner is sys.modules else each.owner.__name__, each.name): each.after for each in found
    }


def test_on_cuda_up_to_0_5_21_deep_gemm_is_stood_in_for(tmp_path: Path) -> None:
    """In the indexer and in the backend; what is not replaced of it is each one's own."""
    own = ModuleType("deep_gemm")
    vars(own)["fp8_gemm_nt"] = "the real one"
    contents: dict[str, dict[str, object]] = {
        INDEXER: {"deep_gemm": own, "can_use_dsa_fused_store": "SGLang's"}, BACKEND: {"deep_gemm": None}, UTILS: {},
    }  # fmt: skip
    found = placed(indexer_kernels(layout_of(tmp_path, "sm_80"), modules(**contents)))
    assert found.keys() == {
        (TRITON, "act_quant"), (INDEXER, "can_use_dsa_fused_store"), (INDEXER, "deep_gemm"), (BACKEND, "deep_gemm"),
    }  # fmt: skip
    ours: Any = found[INDEXER, "deep_gemm"]
    assert ours.fp8_gemm_nt == "the real one"
    assert callable(ours.fp8_paged_mqa_logits)
    fused: Any = found[INDEXER, "can_use_dsa_fused_store"]
    assert fused(torch.bfloat16, page_size=64) is False


@pytest.mark.parametrize("backend", [True, False])
def test_on_cuda_since_0_5_23_what_resolves_them(tmp_path: Path, backend: bool) -> None:
    """In each module that took the resolvers by value, and in no other."""
    resolvers: dict[str, object] = dict.fromkeys(RESOLVERS, "SGLang's")
    holders: dict[str, dict[str, object]] = {
        UTILS: resolvers, INDEXER: {"can_use_dsa_fused_store": "SGLang's", RESOLVERS[2]: "SGLang's"},
    }  # fmt: skip
    if backend:
        holders[BACKEND] = {RESOLVERS[0]: "SGLang's", RESOLVERS[1]: "SGLang's"}
    found = placed(indexer_kernels(layout_of(tmp_path, "sm_89"), modules(**holders)))
    expected = {(UTILS, name) for name in RESOLVERS} | {(INDEXER, RESOLVERS[2])}
    expected |= {(BACKEND, RESOLVERS[0]), (BACKEND, RESOLVERS[1])} if backend else set()
    assert {key for key in found if key[1] in RESOLVERS} == expected
    metadata: Any = found[UTILS, RESOLVERS[1]]
    assert metadata()(torch.tensor([5]), 64, 7).shape == (8, 2)
    paged: Any = found[UTILS, RESOLVERS[2]]
    ragged: Any = found[UTILS, RESOLVERS[3]]
    assert (paged().__name__, ragged().__name__) == ("fp8_paged_mqa_logits", "fp8_mqa_logits")


@pytest.mark.parametrize("used", [True, False])
def test_on_rocm_aiters_functions(tmp_path: Path, used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paged call always, aiter's writer where SGLang uses aiter, gfx950's fused ones never, the ragged one too."""
    indexer: dict[str, object] = {
        "aiter_paged_mqa_logits": "SGLang's", "_use_aiter": used, "indexer_k_quant_and_cache": "aiter's",
        "aiter_fused_fp8_writer_available": "SGLang's",
    }  # fmt: skip
    ragged = ModuleType(RAGGED)
    if used:
        vars(ragged)["fp8_mqa_logits"] = "aiter's"
        for name in ("aiter", "aiter.ops", "aiter.ops.triton"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, RAGGED, ragged)
    found = placed(indexer_kernels(layout_of(tmp_path, "gfx942"), modules(**{INDEXER: indexer})))
    written = {(INDEXER, "indexer_k_quant_and_cache")} if used else set()
    home = (RAGGED, "fp8_mqa_logits") if used else ("sys.modules", RAGGED)
    assert found.keys() == written | {
        (TRITON, "act_quant"), (TILELANG, "act_quant"), (INDEXER, "aiter_paged_mqa_logits"),
        (INDEXER, "aiter_fused_fp8_writer_available"), home,
    }  # fmt: skip
    fused: Any = found[INDEXER, "aiter_fused_fp8_writer_available"]
    assert fused() is False


def test_the_quantiser_is_plain_torch(tmp_path: Path) -> None:
    """Triton casts to no fp8 below sm_89: the stand-in gives the layout's dialect, and scales as asked for."""
    loaded = modules(**{INDEXER: {"deep_gemm": 1, "can_use_dsa_fused_store": 1}, BACKEND: {"deep_gemm": 1}, UTILS: {}})
    act_quant: Any = placed(indexer_kernels(layout_of(tmp_path, "sm_80"), loaded))[TRITON, "act_quant"]
    keys, scales = act_quant(torch.randn(3, 256), scale_fmt="ue8m0")
    assert (keys.dtype, scales.shape) == (torch.float8_e4m3fn, (3, 2))
    assert torch.equal(torch.log2(scales), torch.log2(scales).round())


@pytest.mark.parametrize(
    ("arch", "gone", "told"),
    [
        ("sm_80", ACCESSORS[2], "SGLang has no .*dsa_index_k_cache"),
        ("sm_80", TRITON, "SGLang has no .*act_quant_triton"),
        ("sm_80", INDEXER, "SGLang has no .*dsa_indexer"),
        ("sm_80", BACKEND, "SGLang has no .*dsa_backend"),
        ("gfx942", TILELANG, "SGLang has no .*tilelang"),
    ],
)
def test_a_module_that_is_not_there_is_named(tmp_path: Path, arch: str, gone: str, told: str) -> None:
    """Before anything is replaced: another release of SGLang may have none of them."""
    contents: dict[str, dict[str, object]] = {
        INDEXER: {"deep_gemm": 1, "can_use_dsa_fused_store": 1}, BACKEND: {"deep_gemm": 1}, UTILS: {},
    }  # fmt: skip
    loaded = {name: module for name, module in modules(**contents).items() if name != gone}
    with pytest.raises(InstallError, match=told):
        indexer_kernels(layout_of(tmp_path, arch), loaded)


def test_a_name_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With its module."""
    with pytest.raises(InstallError, match=r"dsa_indexer has no can_use_dsa_fused_store"):
        indexer_kernels(layout_of(tmp_path, "sm_80"), modules(**{INDEXER: {}, UTILS: {}}))


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Write an SGLang of these modules, and make it this process's."""
    for name, text in files.items():
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in [path.parent, *path.parent.parents]:
            if parent == folder:
                break
            (parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sglang", "deep_gemm", "aiter")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def _forgotten() -> Iterator[None]:
    """Take the modules of a written SGLang out of this process again."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sglang", "deep_gemm", "aiter")]:
        del sys.modules[name]


@pytest.mark.usefixtures("_forgotten")
def test_a_backend_that_needs_deepgemm_is_imported_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 0.5.21 it does not import without DeepGEMM: a stand-in is there meanwhile, and is gone afterwards."""
    package(tmp_path / "site", monkeypatch, {
        ACCESSORS[2]: "class GetKAndS: ...\nclass SetKAndS: ...\n",
        TRITON: "import tilelang_that_is_not_there\n",
        INDEXER: "deep_gemm = None\ndef can_use_dsa_fused_store(): ...\n",
        UTILS: "", BACKEND: "import deep_gemm\n",
    })  # fmt: skip
    found = indexer_kernels(layout_of(tmp_path / "m", "sm_80"), None)
    assert "deep_gemm" not in sys.modules
    # A module of SGLang's that lacks a package of its own is stood in for, as nothing else would give its name.
    assert ("sys.modules", TRITON) in placed(found)
    assert (BACKEND, "deep_gemm") in placed(found)
    replaced = replace_all(found)
    assert callable(vars(sys.modules[TRITON])["act_quant"])
    undo_all(replaced)
    assert TRITON not in sys.modules


@pytest.mark.usefixtures("_forgotten")
def test_a_backend_that_lacks_another_package_tells_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no matter of DeepGEMM, and the import's own error is the one to read."""
    package(tmp_path / "site", monkeypatch, {
        ACCESSORS[2]: "class GetKAndS: ...\nclass SetKAndS: ...\n", TRITON: "def act_quant(): ...\n",
        INDEXER: "deep_gemm = None\ndef can_use_dsa_fused_store(): ...\n",
        UTILS: "", BACKEND: "import a_package_that_is_not_there\n",
    })  # fmt: skip
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        indexer_kernels(layout_of(tmp_path / "m", "sm_80"), None)
    assert sys.modules.get("deep_gemm", ABSENT) is ABSENT


@pytest.mark.usefixtures("_forgotten")
def test_on_rocm_a_rotation_that_is_not_installed_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fast_hadamard_transform` is a package that few images have."""
    package(tmp_path / "site", monkeypatch, {
        ACCESSORS[2]: "class GetKAndS: ...\nclass SetKAndS: ...\n", TRITON: "def act_quant(): ...\n",
        TILELANG: "def act_quant(): ...\n",
        INDEXER: "def aiter_paged_mqa_logits(): ...\n_use_aiter = False\ndef rotate_activation(x): ...\n",
    })  # fmt: skip
    found = placed(indexer_kernels(layout_of(tmp_path / "m", "gfx942"), None))
    rotate: Any = found[INDEXER, "rotate_activation"]
    assert torch.allclose(rotate(rotate(torch.eye(4))), torch.eye(4))
