"""vLLM's shim: the kernel block sizes of a machine, the layout of each, and the preferred one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import nsa_caps
from nsa_caps.engines import vllm
from nsa_caps.testing import machine
from tests.hand import lay_out_nvcc

if TYPE_CHECKING:
    from pathlib import Path

ON = {"VLLM_ROCM_USE_AITER": "1"}
TILED = [64, 128, 256, 512, 32, 16]


def caps(folder: Path, **described: Any) -> nsa_caps.Capabilities:
    """Return a machine as vLLM's shim sees it; its vLLM is one that asks less of aiter than those of today."""
    return vllm.probe_machine(machine(folder, **{"engines": {"vllm": "0.29.0"}, **described}))


@pytest.mark.parametrize(
    ("described", "sizes"),
    [
        ({"archs": ["gfx942"], "aiter": "a6bb4993", "environ": ON}, [*TILED, 1]),
        ({"archs": ["gfx950"], "aiter": "04907edc", "environ": ON}, [*TILED, 1]),
        # Cache kernels of before aiter#2879 do not matter to vLLM, whose store and gather are its own.
        ({"archs": ["gfx942"], "aiter": "a1bdcec9", "environ": ON}, [*TILED, 1]),
        # Triton below 3.5: flat, so one token a block.
        ({"archs": ["gfx942"], "aiter": "a6bb4993", "triton": "3.4.0", "environ": ON}, [1]),
        # vLLM scores with plain torch there, and nowhere else on ROCm.
        ({"archs": ["gfx950"]}, [1]),
        ({"archs": ["gfx1151"], "aiter": "a6bb4993"}, [1]),
        ({"platform": "cuda", "archs": ["sm_90"], "deep_gemm": "2.1.1"}, [64]),
    ],
)
def test_the_block_sizes_of_a_machine(tmp_path: Path, described: dict[str, Any], sizes: list[int]) -> None:
    """Tiles in any block of 16 and more that aiter's kernel takes, the best first; else blocks of one token."""
    assert vllm.get_supported_kernel_block_sizes(caps(tmp_path, **described)) == sizes


@pytest.mark.parametrize("engines", [{"vllm": "0.30.0"}, {}])
def test_an_aiter_that_lacks_what_vllm_hands_it_has_no_block_size(tmp_path: Path, engines: dict[str, str]) -> None:
    """VLLM 0.30 calls `flydsl_fp8_mqa_logits` on gfx942; one that is not found counts as the newest that was read."""
    found = caps(tmp_path, archs=["gfx942"], aiter="a6bb4993", environ=ON, engines=engines)
    assert vllm.layouts(found) == {}


def test_every_block_size_has_its_layout(tmp_path: Path) -> None:
    """Blocks of one token are flat, all others tiled, as vLLM's store writes them."""
    layouts = vllm.layouts(caps(tmp_path, archs=["gfx942"], aiter="a6bb4993", environ=ON))
    assert {size: (layout.row, layout.page_size, layout.preshuffle) for size, layout in layouts.items()} == {
        **{size: ("aiter-preshuffle", size, True) for size in TILED},
        1: ("aiter-token", 1, False),
    }


@pytest.mark.parametrize(("manager", "kernel"), [(None, 64), (64, 64), (16, 16), (48, 16), (256, 64), (96, 32), (8, 1)])
def test_the_preferred_size_divides_the_managers(tmp_path: Path, manager: int | None, kernel: int) -> None:
    """The default of 16 then gets tiles of 16, not blocks of one token (vllm#41833)."""
    machine_caps = caps(tmp_path, archs=["gfx942"], aiter="a6bb4993", environ=ON)
    assert vllm.preferred_kernel_block_size(manager, machine_caps) == kernel


def test_a_manager_that_nothing_divides_is_told_what_to_give(tmp_path: Path) -> None:
    """On CUDA vLLM's default of 16 fits no kernel (vllm#48286)."""
    with pytest.raises(nsa_caps.RequestError, match="give --block-size 64"):
        vllm.preferred_kernel_block_size(16, caps(tmp_path, platform="cuda", archs=["sm_90"], deep_gemm="2.1.1"))


@pytest.mark.parametrize(
    "described",
    [
        {"archs": ["gfx942"]},
        {"archs": ["gfx942"], "aiter": "a6bb4993"},
        {"archs": ["gfx90a"]},
        {"archs": ["gfx1201"]},
        # aiter's tiles would run, but vLLM has another kernel for this GPU.
        {"archs": ["gfx1250"], "aiter": "861b4c93", "triton": "3.7.0", "environ": ON},
    ],
)
def test_where_forward_hip_raises(tmp_path: Path, described: dict[str, Any]) -> None:
    """VLLM goes on without aiter on gfx950 and gfx11 alone; elsewhere our kernels are the way."""
    machine_caps = caps(tmp_path, **described)
    with pytest.raises(nsa_caps.NoUsableLayoutError):
        vllm.get_supported_kernel_block_sizes(machine_caps)
    assert vllm.layouts(machine_caps, kernels=True)[64].row == "portable" or described["archs"] == ["gfx1250"]


def test_where_vllm_can_run_nothing(tmp_path: Path) -> None:
    """sm_80 fails at the first forward pass in vLLM (vllm#38476), and here before a cache is allocated."""
    machine_caps = caps(tmp_path, platform="cuda", archs=["sm_80"], deep_gemm="2.1.1")
    assert nsa_caps.decide(machine_caps).chosen == "portable"
    with pytest.raises(nsa_caps.NoUsableLayoutError) as caught:
        vllm.get_supported_kernel_block_sizes(machine_caps)
    assert [reason.code for reason in caught.value.decision.verdict("deepgemm").reasons] == ["device.arch"]


def test_vllms_own_deep_gemm_counts(tmp_path: Path) -> None:
    """The wheel of vLLM brings one, which it takes where no other is installed; other engines do not see it."""
    host = machine(tmp_path, platform="cuda", archs=["sm_90"])
    lay_out_nvcc(tmp_path / "root")
    folder = tmp_path / "site/vllm/third_party/deep_gemm"
    headers = folder / "include/deep_gemm/impls"
    headers.mkdir(parents=True)
    (headers / "sm90_fp8_paged_mqa_logits.cuh").write_text("")
    (folder / "_C.so").write_bytes(b"\x7fELF libcudart.so.12\0")
    (tmp_path / "site/vllm/__init__.py").write_text("")
    assert vllm.layouts(vllm.probe_machine(host)) == {}
    (folder / "__init__.py").write_text("")
    found = vllm.probe_machine(host)
    assert (found.deep_gemm.distribution, found.deep_gemm.location) == ("vllm", str(folder))
    assert vllm.get_supported_kernel_block_sizes(found) == [64]
    assert nsa_caps.probe(host, engine="sglang").deep_gemm.state == "missing"

    other = tmp_path / "site/deep_gemm"
    other.mkdir()
    (other / "__init__.py").write_text("__version__ = '2.1.1'\n")
    assert vllm.probe_machine(host).deep_gemm.location == str(other)


def test_this_machine_is_asked_where_none_is_given() -> None:
    """Without a GPU there is nothing that vLLM could run."""
    assert vllm.layouts() == vllm.layouts(vllm.probe_machine())
