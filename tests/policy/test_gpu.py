"""What rows need of the GPUs: that this process may open them, and that its Triton and its assembler know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Device, Package, Request
from nsa_caps.capabilities.cuda import Ptxas
from nsa_caps.capabilities.devices import Hidden
from nsa_caps.policy.requirements import gpu

if TYPE_CHECKING:
    from nsa_caps import Reason

KFD = "/dev/kfd"
ROCR = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; export ROCR_VISIBLE_DEVICES"
HERE = Device(0, "gfx942", "kfd")


def machine(*archs: str, triton: str | None = "3.9.0", ptxas: tuple[Ptxas, ...] = ()) -> Capabilities:
    """Return a machine of these GPUs, each read in a place of its own."""
    return Capabilities(
        platform="cuda" if archs[0].startswith("sm_") else "rocm",
        devices=tuple(Device(index, arch, f"place {index}") for index, arch in enumerate(archs)),
        triton=Package("triton", "found", triton, location="/site/triton", source="/site/triton/__init__.py"),
        ptxas=ptxas,
    )


def visible(hidden: Hidden | None) -> Reason:
    """Return the reason against a machine without a GPU."""
    found = gpu.gpu_visible(Capabilities(platform="rocm", devices=(), hidden=hidden), Request())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("group", "gid", "observed", "fix"),
    [
        ("render", 109, "its group is render (109)",
            "sudo usermod -aG render $USER and log in again, or docker run --group-add 109"),
        (None, 109, "its group is number 109, which has no name here", "docker run --group-add 109"),
        (None, None, "its group is not known", 'docker run --group-add "$(stat -c %g /dev/kfd)"'),
        # A name that a shell would take for more than one is not handed on.
        ("a; rm -rf /", 109, "its group is number 109, which has no name here", "docker run --group-add 109"),
    ],
)  # fmt: skip
def test_a_file_that_this_process_may_not_open(group: str | None, gid: int | None, observed: str, fix: str) -> None:
    """The group that may is named, and how to join it; in a container it has a number alone."""
    found = visible(Hidden(devices=(HERE,), path=KFD, present=True, group=group, gid=gid))
    assert (found.code, found.verdict, found.source) == ("device.no-access", "unmet", KFD)
    assert found.observed == f"{KFD} is not this process's to open; {observed}"
    assert found.fix == fix


def test_a_container_without_the_file() -> None:
    """A container is given its devices; no group would help."""
    found = visible(Hidden(devices=(HERE,), path=KFD, present=False, group="render", gid=109))
    assert (found.code, found.observed) == ("device.no-access", f"no {KFD} here")
    assert found.fix == "give the container its devices: docker run --device /dev/kfd --device /dev/dri"


def test_variables_that_leave_no_gpu() -> None:
    """Those that keep them are named, and unset together."""
    found = visible(Hidden(devices=(HERE, HERE), variables=("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")))
    assert (found.code, found.verdict) == ("device.none", "unmet")
    assert found.observed == "ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES leave none of 2"
    assert found.source == "ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES"
    assert found.fix == "unset ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES"


def test_no_gpu_at_all() -> None:
    """Nothing hides any: there is none, and no change brings one."""
    found = visible(None)
    assert (found.code, found.verdict, found.observed, found.changes) == ("device.none", "unmet", "none", ())


@pytest.mark.parametrize(
    ("archs", "code", "verdict", "observed", "source", "fix"),
    [
        (("sm_75",), "device.arch", "unmet", "sm_75", "place 0", None),
        (("sm_60",), "device.arch", "unmet", "sm_60", "place 0", None),
        (("sm_90", "sm_70"), "device.arch", "unmet", "sm_70", "place 1", "export CUDA_VISIBLE_DEVICES=0"),
        (("sm_82",), "device.arch-unproven", "unknown", "sm_82", "place 0", None),
        (("sm_88",), "device.arch-unproven", "unknown", "sm_88", "place 0", None),
        (("gfx942", "gfx908"), "device.arch-unproven", "unknown", "gfx908", "place 1", f"{ROCR}=0"),
    ],
)
def test_gpus_that_triton_s_kernels_were_not_compiled_for(
    archs: tuple[str, ...], code: str, verdict: str, observed: str, source: str, fix: str | None
) -> None:
    """Triton takes sm_80 and later; a GPU of a later kind that was never compiled for may do, or may not."""
    found = gpu.triton_archs(machine(*archs), Request())
    assert found is not None
    assert (found.code, found.verdict, found.observed, found.source) == (code, verdict, observed, source)
    assert found.fix == fix
    if code == "device.arch-unproven":
        vendor, other = ("sm_", "gfx") if observed.startswith("sm_") else ("gfx", "sm_")
        assert found.required.startswith(f"one of {vendor}")
        assert other not in found.required
        assert observed not in found.required


OLD, NEW, ODD = "TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH", "TRITON_PTXAS-BLACKWELL_PATH"


@pytest.mark.parametrize(
    ("triton", "arch", "taken"),
    [
        ("3.3.1", "sm_80", OLD), ("3.3.1", "sm_90", OLD), ("3.3.1", "sm_100", ODD), ("3.3.1", "sm_120", ODD),
        ("3.4.0", "sm_90", OLD), ("3.4.0", "sm_100", OLD), ("3.5.0", "sm_100", OLD), ("3.5.1", "sm_120", OLD),
        ("3.6.0", "sm_89", OLD), ("3.6.0", "sm_90", OLD), ("3.6.0", "sm_100", NEW), ("3.6.0", "sm_103", NEW),
        ("3.8.0", "sm_90", OLD), ("3.8.0", "sm_120", NEW),
        ("3.9.0", "sm_80", OLD), ("3.9.0", "sm_89", OLD), ("3.9.0", "sm_90", NEW), ("3.9.0", "sm_100", NEW),
    ],
)  # fmt: skip
def test_the_variable_that_each_triton_reads(triton: str, arch: str, taken: str) -> None:
    """One variable until 3.5; from 3.6 on another for sm_100 and later, from 3.9 on for sm_90 too (`get_ptxas`)."""
    for variable in (OLD, NEW, ODD):
        tool = Ptxas(variable=variable, path="/usr/local/cuda/bin/ptxas", present=True, release="10.2")
        found = gpu.ptxas_knows(machine(arch, triton=triton, ptxas=(tool,)), Request())
        assert (found is not None) == (variable == taken), variable
        absent = Ptxas(variable=variable, path=tool.path, present=False, release="10.2")
        assert gpu.ptxas_knows(machine(arch, triton=triton, ptxas=(absent,)), Request()) is None


@pytest.mark.parametrize("archs", [("sm_80", "sm_90"), ("sm_90", "sm_80")])
def test_the_assembler_must_know_every_gpu(archs: tuple[str, ...]) -> None:
    """That of CUDA 11.8 knows sm_80 and not sm_90, whichever comes first."""
    tool = Ptxas(variable=OLD, path="/cuda/bin/ptxas", present=True, release="11.8")
    found = gpu.ptxas_knows(machine(*archs, triton="3.6.0", ptxas=(tool,)), Request())
    assert found is not None
    assert (found.code, found.verdict) == ("triton.ptxas", "unmet")
    assert (found.observed, found.required) == (
        f"{OLD}=/cuda/bin/ptxas, of CUDA 11.8",
        "a ptxas of CUDA >= 12.0 for sm_90",
    )
    assert (found.source, found.fix) == (f"{OLD}=/cuda/bin/ptxas", f"unset {OLD}, which leaves Triton's own")


def test_the_oldest_assembler_that_knows_a_gpu_is_taken() -> None:
    """CUDA 12.0 is the first that knows sm_90, and an AMD GPU needs none."""
    tool = Ptxas(variable=OLD, path="/cuda/bin/ptxas", present=True, release="12.0")
    assert gpu.ptxas_knows(machine("sm_90", triton="3.6.0", ptxas=(tool,)), Request()) is None
    assert gpu.ptxas_knows(machine("gfx942", triton="3.6.0", ptxas=(tool,)), Request()) is None


@pytest.mark.parametrize(
    ("triton", "release", "told"),
    [("3.4.0", "13.0", True), ("3.4.9", "13.1", True), ("3.5.0", "13.0", False), ("3.4.0", "12.9", False)],
)
def test_cuda_13_is_too_new_for_triton_before_3_5(triton: str, release: str, told: bool) -> None:
    """Its `ptx_get_version` raises on what it does not know."""
    tool = Ptxas(variable=OLD, path="/cuda/bin/ptxas", present=True, release=release)
    found = gpu.ptxas_knows(machine("sm_90", triton=triton, ptxas=(tool,)), Request())
    assert (found is not None) == told
    if found is not None:
        assert found.observed == f"{OLD}=/cuda/bin/ptxas, of CUDA {release}, and Triton {triton}"
        assert (found.code, found.required) == ("triton.ptxas", "Triton >= 3.5.0 with CUDA 13's")


@pytest.mark.parametrize(("triton", "advised"), [("3.3.1", False), ("3.4.0", True), ("3.5.1", True)])
def test_a_newer_assembler_is_advised_where_it_would_do(triton: str, advised: bool) -> None:
    """From Triton 3.4 on a B300 compiles with a ptxas of CUDA 12.9; below, a newer Triton alone helps."""
    found = gpu.triton_compiles(machine("sm_103", triton=triton), Request())
    assert found is not None
    assert (found.code, found.required) == ("triton.too-old", "Triton >= 3.6.0")
    texts = [change.text for change in found.changes]
    advice = f"export {OLD}=/usr/local/cuda/bin/ptxas, where that is of CUDA >= 12.9"
    assert (advice in texts) == advised
    assert len(texts) == 1 + advised


def test_a_told_assembler_lowers_the_floor() -> None:
    """With one of its own a B300 compiles from 3.4 on; a variable that this Triton does not read lowers nothing."""
    told = Ptxas(variable=OLD, path="/cuda/bin/ptxas", present=True, release="12.9")
    assert gpu.triton_compiles(machine("sm_103", triton="3.5.1", ptxas=(told,)), Request()) is None
    other = Ptxas(variable=NEW, path="/cuda/bin/ptxas", present=True, release="12.9")
    assert gpu.triton_compiles(machine("sm_103", triton="3.5.1", ptxas=(other,)), Request()) is not None


def test_two_dialects_on_one_machine() -> None:
    """The same bits are worth twice as much in the other one; the GPUs of one arch are kept, any of them."""
    found = gpu.fp8_dialect(machine("gfx942", "gfx950", "gfx942"), Request())
    assert found is not None
    assert (found.code, found.observed) == ("device.dialects", "gfx942, gfx950")
    assert [change.text for change in found.changes] == [
        f"{ROCR}=0,2",
        f"{ROCR}=1",
    ]
    assert gpu.fp8_dialect(machine("gfx950", "sm_90"), Request()) is None


def test_where_an_arch_was_read() -> None:
    """Of several GPUs of one arch it is the first."""
    caps = machine("sm_80", "sm_90", "sm_90")
    assert (gpu.where(caps, "sm_90"), gpu.where(caps, "sm_100")) == ("place 1", None)
