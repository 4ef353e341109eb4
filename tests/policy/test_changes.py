"""Changes: what a fix is made of, as one can type it, and what it does to a machine."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from nsa_caps import (
    ROWS,
    Capabilities,
    Change,
    Device,
    Note,
    Package,
    Reason,
    Request,
    UnknownEngineError,
    decide,
)
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.capabilities.switches import resolve, with_variables
from nsa_caps.policy.changes import torch_for

REQUEST = Request(page_size=48)
CAPS = Capabilities(
    platform="rocm",
    platform_source="/site/torch/version.py",
    devices=(Device(0, "gfx942", "a", 2), Device(1, "gfx950", "b", 5), Device(2, "gfx942", "c", 6)),
    rocminfo_arch="gfx942",
    triton=Package("triton", "broken", "3.4.0", "triton", "/site/triton", "/site/triton/__init__.py"),
    variables={"SGLANG_USE_AITER": "yes"},
    switches=resolve({"SGLANG_USE_AITER": "yes"}, "sglang")[0],
    notes=(Note("switches", "SGLANG_USE_AITER", "old"), Note("devices", "x", "stays")),
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change("set", "SGLANG_USE_AITER", "1"), "export SGLANG_USE_AITER=1"),
        (Change("unset", "GPU_ARCHS"), "unset GPU_ARCHS"),
        (Change("triton", "triton", "3.6.0"), 'pip install "triton>=3.6.0,<3.10"'),
        (Change.triton("3.6.0", "triton==3.6.0"), 'pip install "triton==3.6.0"'),
        (
            Change.triton("3.6.0", "triton==3.5.1"),
            "install a torch that brings Triton >= 3.6.0: the one here asks for triton==3.5.1",
        ),
        (Change("unmask", "HIP_VISIBLE_DEVICES"), "unset HIP_VISIBLE_DEVICES"),
        (Change("deep_gemm", "deep_gemm", "sgl-deep-gemm>=0.1.5"), 'pip install "sgl-deep-gemm>=0.1.5"'),
        (
            Change("toolkit", "toolkit", "12.3"),
            "install the CUDA toolkit, nvcc >= 12.3, and export CUDA_HOME to its folder",
        ),
        (Change("aiter", "aiter", "0.1.13"), "install AMD's aiter >= 0.1.13, as ROCm images bring it"),
        (Change("package", "deep_gemm", "sgl-deep-gemm"), "pip install sgl-deep-gemm"),
        (Change("arch", "arch", "gfx950"), "run on gfx950"),
        (Change("keep", "CUDA_VISIBLE_DEVICES", "0,2"), "export CUDA_VISIBLE_DEVICES=0,2"),
        (Change("page-size", "page_size"), "leave the page size to the row"),
        (Change("page-size", "page_size", "64"), "ask for page size 64"),
        (Change("advice", "pip install nvidia-ml-py"), "pip install nvidia-ml-py"),
    ],
)
def test_a_change_can_be_typed(change: Change, text: str) -> None:
    """Each kind of change has words that one can type, or do."""
    assert change.text == text


@pytest.mark.parametrize(
    "change",
    [
        Change("triton", "triton", '3.5"; curl example.org | sh; "'),
        Change("set", "X=1; curl example.org | sh; Y", "1"),
        Change("unset", "X; curl example.org"),
    ],
)
def test_what_a_stranger_wrote_is_no_command(change: Change) -> None:
    """A version that is none, or a variable's name that is none, is not repeated where a person pastes from."""
    assert "curl" not in change.text


@pytest.mark.parametrize(
    "change",
    [
        Change("set", "SGLANG_USE_AITER", "1; echo run"),
        Change("set", "SGLANG_USE_AITER", "'; echo run; '"),
        Change("package", "deep_gemm", "x; echo run"),
        Change("keep", "ROCR_VISIBLE_DEVICES", "$(echo run)"),
    ],
)
def test_a_value_is_one_word_to_a_shell(change: Change) -> None:
    """Whatever a value holds, a shell takes it for one word and runs nothing of it."""
    word = shlex.split(change.text)[-1]
    assert word.partition("=")[2] == change.value or word == change.value


def test_keeping_amds_gpus_takes_hips_variables_away() -> None:
    """ROCR renumbers, so that indices of the variables above it would name other GPUs."""
    change = Change("keep", "ROCR_VISIBLE_DEVICES", "2")
    assert change.text == "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; export ROCR_VISIBLE_DEVICES=2"


def test_setting_a_variable_reads_every_switch_again() -> None:
    """The variable, its switch and its notes change together; other probes' notes stay."""
    after, request = Change("set", "SGLANG_USE_AITER", "1").apply(CAPS, REQUEST)
    assert after.variables["SGLANG_USE_AITER"] == "1"
    assert after.switches["use_aiter"].value is True
    assert after.notes == (Note("devices", "x", "stays"),)
    assert request is REQUEST


def test_unsetting_a_variable() -> None:
    """What is not set is the default."""
    after, _ = Change("unset", "SGLANG_USE_AITER").apply(CAPS, REQUEST)
    assert dict(after.variables) == {}
    assert after.switches["use_aiter"].variable is None


def test_setting_a_variable_that_no_switch_reads() -> None:
    """A variable that is no switch's is not carried along."""
    after, _ = Change("set", "HOME", "/root").apply(CAPS, REQUEST)
    assert dict(after.variables) == {"SGLANG_USE_AITER": "yes"}


def test_installing_a_triton() -> None:
    """The package is then found, of that version, where it was."""
    after, _ = Change("triton", "triton", "3.6.0").apply(CAPS, REQUEST)
    assert after.triton == Package("triton", "found", "3.6.0", "triton", "/site/triton", "what-if")


@pytest.mark.parametrize("name", AITER_RELEASES)
def test_installing_an_aiter(name: str) -> None:
    """With a release comes what its source shows, and no bundle: none ships one."""
    after, _ = Change("aiter", "aiter", name).apply(CAPS, REQUEST)
    assert (after.aiter.state, after.aiter.version) == ("found", AITER_RELEASES[name].version)
    assert after.aiter_source == AITER_RELEASES[name].source
    assert after.aot_bundle.kernels == ()


def test_installing_another_package() -> None:
    """A package is found by its import name, of a version that is not foreseen."""
    after, _ = Change("package", "deep_gemm", "sgl-deep-gemm").apply(CAPS, REQUEST)
    assert (after.deep_gemm.state, after.deep_gemm.version) == ("found", None)


@pytest.mark.parametrize(
    ("arch", "platform", "source", "rocminfo"),
    [
        ("gfx950", "rocm", "/site/torch/version.py", "gfx950"),
        ("sm_90", "cuda", "what-if: a torch built for cuda", None),
    ],
)
def test_another_gpu(arch: str, platform: str, source: str, rocminfo: str | None) -> None:
    """One GPU of an arch; its torch stays what it is, unless another one is supposed."""
    after, _ = Change("arch", "arch", arch).apply(CAPS, REQUEST)
    assert [device.arch for device in after.devices or ()] == [arch]
    assert (after.platform, after.platform_source) == (CAPS.platform, CAPS.platform_source)
    assert after.rocminfo_arch == rocminfo
    supposed, _ = torch_for(arch).apply(after, REQUEST)
    assert (supposed.platform, supposed.platform_source) == (platform, source)


@pytest.mark.parametrize(
    ("numbers", "archs", "first"), [("5", ["gfx950"], "gfx950"), ("2,6", ["gfx942"] * 2, "gfx942")]
)
def test_keeping_some_gpus(numbers: str, archs: list[str], first: str) -> None:
    """The GPUs are named by the driver's own numbers, and the first of them is what rocminfo prints first."""
    after, _ = Change("keep", "ROCR_VISIBLE_DEVICES", numbers).apply(CAPS, REQUEST)
    assert ([device.arch for device in after.devices or ()], after.rocminfo_arch) == (archs, first)


def test_keeping_no_gpu() -> None:
    """A number that no GPU has leaves none."""
    after, _ = Change("keep", "ROCR_VISIBLE_DEVICES", "9").apply(CAPS, REQUEST)
    assert (after.devices, after.rocminfo_arch) == ((), None)


@pytest.mark.parametrize(("value", "size"), [(None, None), ("64", 64)])
def test_another_page_size(value: str | None, size: int | None) -> None:
    """The request changes, the machine does not."""
    after, request = Change("page-size", "page_size", value).apply(CAPS, REQUEST)
    assert (after, request) == (CAPS, Request(page_size=size))


def test_advice_changes_nothing() -> None:
    """What cannot be foreseen is not pretended."""
    assert Change("advice", "ask the vendor").apply(CAPS, REQUEST) == (CAPS, REQUEST)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Change("set", "A", "1"), Change("unset", "A"), True),
        (Change("set", "A", "1"), Change("set", "B", "1"), False),
        (Change("triton", "triton", "3.5.0"), Change("triton", "triton", "3.6.0"), True),
        (Change("triton", "triton", "3.5.0"), Change("aiter", "aiter", "main"), False),
        (Change("keep", "ROCR_VISIBLE_DEVICES", "0"), Change("arch", "arch", "gfx950"), True),
        (Change("package", "torch", "torch"), Change("package", "deep_gemm", "x"), False),
        (Change("page-size", "page_size"), Change("page-size", "page_size", "64"), True),
    ],
)
def test_two_changes_of_one_thing(one: Change, other: Change, same: bool) -> None:
    """Changes of the same thing share a slot, in which the later one counts."""
    assert (one.slot == other.slot) is same


def test_variables_under_another_engine() -> None:
    """The same variables mean something else to another engine."""
    after = with_variables(CAPS, {"VLLM_ROCM_USE_AITER": "1"}, "vllm")
    assert (after.engine, after.switches["use_aiter"].value) == ("vllm", True)
    with pytest.raises(UnknownEngineError):
        with_variables(CAPS, {}, "trtllm")


def test_a_change_behind_an_advice_is_tried() -> None:
    """Of a reason's changes those that no program can make are passed over, not those after them."""

    def requirement(caps: Capabilities, _: Request) -> Reason | None:
        if caps.triton.version == "3.6.0":
            return None
        changes = (Change("advice", "ask somebody"), Change.triton("3.6.0"))
        return Reason("x.old", "unmet", observed="an old one", required="a new one", changes=changes)

    row = replace(ROWS[-1], name="mine", requirements=(requirement,))
    caps = Capabilities(platform="cpu", triton=Package("triton", "found", "3.4.0"))
    fix = decide(caps, rows=(row,)).smallest_fix("mine")
    assert fix is not None
    assert [change.value for reason in fix for change in reason.changes] == ["3.6.0"]
