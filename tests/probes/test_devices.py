"""Which GPUs a process may use: KFD's topology, NVML through a stand-in, and the visible-device variables."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host, Note, decide, probe
from nsa_caps.probes.devices import devices
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.kfd import arch_of_target_version
from nsa_caps.testing import FakeNvml, lay_out_gpus, machine

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Platform

NODES = "sys/class/kfd/kfd/topology/nodes"


def asked(host: Host, **environ: str) -> tuple[tuple[str, ...] | None, str | None, tuple[Note, ...]]:
    """Return the archs by index, what rocminfo would print first, and the notes."""
    found = devices(replace(host, environ=environ))
    seen = found["devices"]
    if seen is not None:
        assert [device.index for device in seen] == list(range(len(seen)))
    return None if seen is None else tuple(gpu.arch for gpu in seen), found.get("rocminfo_arch"), found["notes"]


@pytest.fixture
def mixed(tmp_path: Path) -> Host:
    """Return an AMD host of four GPUs of three archs, whose unique ids are 1 to 4."""
    return machine(tmp_path / "amd", archs=("gfx942", "gfx950", "gfx1100", "gfx942"))


def nvidia(*archs: str, uuids: tuple[str, ...] = (), fails: str | None = None) -> Host:
    """Return a host whose NVML tells of these GPUs."""
    return Host({}, (), {"pynvml": FakeNvml(archs, uuids, fails)}, "/nowhere")


@pytest.mark.parametrize(
    ("version", "arch"),
    [
        (90008, "gfx908"),
        (90010, "gfx90a"),
        (90012, "gfx90c"),
        (90402, "gfx942"),
        (90500, "gfx950"),
        (100306, "gfx1036"),
        (110000, "gfx1100"),
        (110501, "gfx1151"),
        (120001, "gfx1201"),
        (120500, "gfx1250"),
    ],
)
def test_the_name_of_a_target_version(version: int, arch: str) -> None:
    """KFD's number is the arch's name: the last two digits of each kind in hexadecimal."""
    assert arch_of_target_version(version) == arch


def test_every_gpu_in_node_order(mixed: Host) -> None:
    """GPUs are numbered in the order of KFD's nodes; CPU nodes are passed over; each arch says where it was read."""
    assert asked(mixed)[:2] == (("gfx942", "gfx950", "gfx1100", "gfx942"), "gfx942")
    source = devices(mixed)["devices"][1].source
    assert source == f"{mixed.root}/{NODES}/3/properties: gfx_target_version 90500"


def test_ten_nodes_and_more_count_by_number(tmp_path: Path) -> None:
    """Node 10 comes after node 9: names of nodes are numbers, not text."""
    host = machine(tmp_path / "many", archs=("gfx942",) * 8 + ("gfx950",))
    assert (asked(host)[0] or ())[-1] == "gfx950"


@pytest.mark.parametrize(
    ("environ", "archs", "first"),
    [
        ({"ROCR_VISIBLE_DEVICES": "1"}, ("gfx950",), "gfx950"),
        ({"ROCR_VISIBLE_DEVICES": "2,0"}, ("gfx1100", "gfx942"), "gfx1100"),
        ({"ROCR_VISIBLE_DEVICES": "GPU-0000000000000003"}, ("gfx1100",), "gfx1100"),
        ({"ROCR_VISIBLE_DEVICES": "gpu-0000000000000002, 0"}, ("gfx950", "gfx942"), "gfx950"),
        ({"HIP_VISIBLE_DEVICES": "1"}, ("gfx950",), "gfx942"),
        ({"CUDA_VISIBLE_DEVICES": "2"}, ("gfx1100",), "gfx942"),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "2"}, ("gfx950",), "gfx942"),
        ({"ROCR_VISIBLE_DEVICES": "1,2,3", "HIP_VISIBLE_DEVICES": "1"}, ("gfx1100",), "gfx950"),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, ("gfx950",), "gfx950"),
    ],
)
def test_the_visible_device_variables(mixed: Host, environ: dict[str, str], archs: tuple[str, ...], first: str) -> None:
    """ROCR's variable hides and renumbers first, also from rocminfo; then HIP's, or CUDA's where HIP's is not set."""
    assert asked(mixed, **environ) == (archs, first, ())


@pytest.mark.parametrize(
    ("value", "archs"),
    [
        ("1,7,0", ("gfx950",)),
        ("-1", ()),
        ("1,-1,0", ("gfx950",)),
        ("none", ()),
        ("GPU-00000000000000ff", ()),
        ("1;0", ()),
        ("0, 1", ("gfx942",)),
    ],
)
def test_hips_variable_is_read_by_hip_and_by_torch(mixed: Host, value: str, archs: tuple[str, ...]) -> None:
    """A list ends at an entry that HIP would write otherwise, and what torch counts as none is none; with a note."""
    seen, _, notes = asked(mixed, HIP_VISIBLE_DEVICES=value)
    assert seen == archs
    assert {note.source for note in notes} == {"HIP_VISIBLE_DEVICES"}


def test_hiding_every_gpu_leaves_none(mixed: Host) -> None:
    """Where ROCR's variable lets nothing through there is no GPU, and rocminfo prints none."""
    assert asked(mixed, ROCR_VISIBLE_DEVICES="9")[:2] == ((), None)


@pytest.mark.parametrize(
    ("variable", "blank"),
    [
        ("ROCR_VISIBLE_DEVICES", ""),
        ("ROCR_VISIBLE_DEVICES", "  "),
        ("HIP_VISIBLE_DEVICES", "  "),
        ("CUDA_VISIBLE_DEVICES", "  "),
    ],
)
def test_a_blank_variable_leaves_no_gpu(mixed: Host, variable: str, blank: str) -> None:
    """verl#6664: Ray blanks the variable of an actor without GPUs. It sees none, and what hides them is told."""
    found = devices(replace(mixed, environ={variable: blank}))
    assert found["devices"] == ()
    assert found["hidden"].variables == (variable,)
    assert [gpu.arch for gpu in found["hidden"].devices] == ["gfx942", "gfx950", "gfx1100", "gfx942"]
    assert {note.source for note in found["notes"]} == {variable}


def test_the_variables_that_hide_are_the_fewest(mixed: Host) -> None:
    """SkyRL#2230: of three variables that all say 1, HIP's two hide what ROCr's leaves."""
    masks = dict.fromkeys(("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"), "1")
    hidden = devices(replace(mixed, environ=masks))["hidden"]
    assert hidden.variables == ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
    assert [gpu.arch for gpu in hidden.devices] == ["gfx950"]
    hidden = devices(replace(mixed, environ={**masks, "ROCR_VISIBLE_DEVICES": "9"}))["hidden"]
    assert hidden.variables == tuple(masks)


@pytest.mark.parametrize(
    ("environ", "source", "words"),
    [
        # HIP passes over a repeat.
        ({"HIP_VISIBLE_DEVICES": "0,0,1"}, "HIP_VISIBLE_DEVICES", "'0,0,1' is no GPU to torch"),
        (
            {"ROCR_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "0,1,2"},
            "HIP_VISIBLE_DEVICES",
            "has more entries than ROCR_VISIBLE_DEVICES: torch raises RuntimeError",
        ),
    ],
)
def test_where_hip_and_torch_disagree_the_gpus_are_not_known(
    mixed: Host, environ: dict[str, str], source: str, words: str
) -> None:
    """Torch counts none, or raises, until HIP is used, and HIP's from then on: neither is the answer."""
    found = devices(replace(mixed, environ=environ))
    assert (found["devices"], found["devices_unread"]) == (None, "hip-and-torch")
    assert [note.text for note in found["notes"] if note.source == source and words in note.text]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "1"}, ("gfx950",)),
        ({"HIP_VISIBLE_DEVICES": ""}, ("gfx942", "gfx950", "gfx1100", "gfx942")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
    ],
)
def test_a_blank_variable_is_unset_where_it_is_hips_and_no_gpu_where_it_is_cudas(
    mixed: Host, environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    """HIP takes its own for unset; CUDA's is blanked to hide all (Ray, verl#6664). A note tells how torch counts."""
    seen, _, notes = asked(mixed, **environ)
    assert seen == expected
    assert any("'' is no GPU to torch" in note.text for note in notes)


def test_what_rocr_leaves_is_no_matter_of_torch(mixed: Host) -> None:
    """Where ROCr's variable is set torch reads CUDA's no more, and an empty one of CUDA's is unset to HIP."""
    seen, _, notes = asked(mixed, ROCR_VISIBLE_DEVICES="1", CUDA_VISIBLE_DEVICES="")
    assert (seen, notes) == (("gfx950",), ())


def test_no_driver_is_no_gpu() -> None:
    """Without KFD's topology and without any trace of NVIDIA's driver there is no GPU: that is known."""
    assert asked(Host({}, (), {}, "/nowhere")) == ((), None, ())


@pytest.mark.parametrize(
    "text", ["", "gfx_target_version\n", "gfx_target_version x\n", "gfx_target_version -5\n", "simd_count 4\n"]
)
def test_a_node_without_its_arch_makes_all_unknown(mixed: Host, text: str) -> None:
    """A node whose arch cannot be read may be any GPU, so the list is not known, and the note names the file."""
    path = Path(mixed.root) / NODES / "3/properties"
    path.write_text(text)
    seen, first, notes = asked(mixed)
    assert (seen, first) == (None, None)
    assert any(str(path) in note.source + note.text for note in notes)


def test_a_vanished_node_makes_all_unknown(mixed: Host) -> None:
    """A node that is listed and gone when it is read is unknown too."""
    (Path(mixed.root) / NODES / "3/properties").unlink()
    assert asked(mixed)[0] is None


def test_a_node_that_is_no_number_is_passed_over(mixed: Host) -> None:
    """KFD's nodes are numbers; another name beside them is none."""
    (Path(mixed.root) / NODES / "power").mkdir()
    assert len(asked(mixed)[0] or ()) == 4


class Container(Host):
    """A host that answers for one GPU as the kernel does where the device cgroup keeps it from a container."""

    __slots__ = ()
    errno = errno.EPERM

    def read_text(self, path: str) -> str | None:
        """Fail for node 2, the first GPU's."""
        if path.endswith("/nodes/2/properties"):
            cause = OSError(self.errno, os.strerror(self.errno))
            raise UnreadableError(path, str(cause.strerror)) from cause
        return super().read_text(path)


def in_container(host: Host, kind: type[Container] = Container) -> Host:
    """Return the same machine as a container sees it that may not use the first GPU."""
    return kind(host.environ, host.search_path, host.modules, host.root)


def test_a_gpu_kept_from_the_container_is_passed_over(mixed: Host) -> None:
    """EPERM, the kernel's answer for a GPU outside the device cgroup, hides that GPU alone; the note names the file."""
    found = devices(in_container(mixed))
    assert [gpu.arch for gpu in found["devices"]] == ["gfx950", "gfx1100", "gfx942"]
    assert found["rocminfo_arch"] == "gfx950"
    assert [note.source for note in found["notes"]] == [f"{mixed.root}/{NODES}/2/properties"]


def test_a_file_that_may_not_be_read_makes_all_unknown(mixed: Host) -> None:
    """EACCES is a matter of the file's mode and tells nothing of the GPU."""

    class Locked(Container):
        __slots__ = ()
        errno = errno.EACCES

    assert devices(in_container(mixed, Locked))["devices"] is None


def test_nvml_tells_the_compute_capability() -> None:
    """`sm_90` is compute capability 9.0, and the source names NVML, the device and its name."""
    found = devices(nvidia("sm_90", "sm_100"))["devices"]
    assert [gpu.arch for gpu in found] == ["sm_90", "sm_100"]
    assert found[1].source == "NVML: device 1, fake sm_100"


def test_old_nvml_answers_with_bytes() -> None:
    """nvidia-ml-py before 12 gives names and UUIDs as bytes."""

    class Old(FakeNvml):
        def nvmlDeviceGetUUID(self, handle: int) -> bytes:  # type: ignore[override]  # noqa: N802 as the real one
            return super().nvmlDeviceGetUUID(handle).encode()

        def nvmlDeviceGetName(self, handle: int) -> bytes:  # type: ignore[override]  # noqa: N802 as the real one
            return super().nvmlDeviceGetName(handle).encode()

    host = Host({}, (), {"pynvml": Old(("sm_80", "sm_80"))}, "/nowhere")
    assert asked(host, CUDA_VISIBLE_DEVICES="GPU-00000001")[0] == ("sm_80",)
    assert devices(host)["devices"][0].source == "NVML: device 0, fake sm_80"


@pytest.mark.parametrize(
    ("value", "archs"),
    [
        ("1", ("sm_90",)),
        ("GPU-bbbb", ("sm_90",)),
        ("GPU-BBBB-1,0", ()),
        ("GPU-bbbb-1,GPU-aaaa", ("sm_90", "sm_90")),
        ("0,0", ()),
        ("GPU-", ()),
        ("0,1,2", ("sm_90", "sm_90")),
    ],
)
def test_cuda_visible_devices(value: str, archs: tuple[str, ...]) -> None:
    """CUDA's variable takes indices and any unambiguous beginning of a UUID, as it stands; one twice leaves none."""
    host = nvidia("sm_90", "sm_90", uuids=("GPU-aaaa-1", "GPU-bbbb-1"))
    assert asked(host, CUDA_VISIBLE_DEVICES=value)[0] == archs


def test_cuda_ignores_the_variables_of_amd() -> None:
    """ROCR's and HIP's variables hide no NVIDIA GPU."""
    assert asked(nvidia("sm_90"), ROCR_VISIBLE_DEVICES="7", HIP_VISIBLE_DEVICES="7")[0] == ("sm_90",)


def test_indices_among_several_archs_need_cudas_order() -> None:
    """NVML counts by PCI bus and CUDA fastest first, so an index tells no arch unless CUDA_DEVICE_ORDER says so."""
    host = nvidia("sm_75", "sm_90")
    found = devices(replace(host, environ={"CUDA_VISIBLE_DEVICES": "0"}))
    assert (found["devices"], found["devices_unread"]) == (None, "cuda-order")
    assert asked(host, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID") == (("sm_75",), None, ())
    assert asked(host, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="FASTEST_FIRST")[0] is None
    assert asked(host, CUDA_VISIBLE_DEVICES="1,0")[0] == ("sm_90", "sm_75")
    seen, _, (note,) = asked(host)
    assert seen == ("sm_75", "sm_90")
    assert note.source == "CUDA_DEVICE_ORDER"
    assert asked(nvidia("sm_90", "sm_90"), CUDA_VISIBLE_DEVICES="0")[0] == ("sm_90",)


@pytest.mark.parametrize("value", ["GPU-bbbb-1", "GPU-b"])
def test_a_uuid_needs_no_order(value: str) -> None:
    """vllm#53834: the same GPU in whichever order they are counted."""
    host = nvidia("sm_120", "sm_103", uuids=("GPU-aaaa-1", "GPU-bbbb-1"))
    assert asked(host, CUDA_VISIBLE_DEVICES=value)[0] == ("sm_103",)


def test_no_nvidia_library_and_no_driver_is_no_gpu() -> None:
    """nvidia-ml-py without the driver's library, on a machine without a trace of a driver: there is no NVIDIA GPU."""
    assert asked(nvidia("sm_90", fails="library")) == ((), None, ())


@pytest.mark.parametrize("sign", ["proc/driver/nvidia/version", "dev/nvidia0", "dev/nvhost-gpu"])
def test_no_library_beside_a_driver_is_unknown(tmp_path: Path, sign: str) -> None:
    """vllm#9728, kinetic#269: on a Jetson, or with the library off the path, nobody can be asked: that is not none."""
    (tmp_path / sign).parent.mkdir(parents=True)
    (tmp_path / sign).touch()
    found = devices(replace(nvidia("sm_90", fails="library"), root=str(tmp_path)))
    assert (found["devices"], found["devices_unread"]) == (None, "nvml")
    assert "NVML Shared Library Not Found" in found["notes"][0].text


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetCudaComputeCapability"])
def test_a_failing_nvml_is_unknown(function: str) -> None:
    """A library that fails tells nothing, and its words are noted."""
    found = devices(nvidia("sm_90", fails=function))
    assert (found["devices"], found["devices_unread"]) == (None, "nvml")
    assert f"{function} failed" in found["notes"][0].text


def test_a_library_of_another_vendor_is_unknown() -> None:
    """What has NVML's name and not its functions is noted, not fatal."""
    found = devices(Host({}, (), {"pynvml": object()}, "/nowhere"))
    assert (found["devices"], found["devices_unread"]) == (None, "nvml")
    assert "nvmlInit" in found["notes"][0].text


def test_nvml_is_shut_down_again() -> None:
    """What was initialised is shut down, also after a failure: it would go into every forked child."""
    calls: list[str] = []

    class Counting(FakeNvml):
        def nvmlInit(self) -> None:  # noqa: N802 as the real one
            super().nvmlInit()
            calls.append("init")

        def nvmlShutdown(self) -> None:  # noqa: N802 as the real one
            calls.append("shutdown")

    for fails in (None, "nvmlDeviceGetCount", "nvmlInit"):
        devices(Host({}, (), {"pynvml": Counting(("sm_90",), (), fails)}, "/nowhere"))
    assert calls == ["init", "shutdown"] * 2


@pytest.mark.parametrize("sign", ["proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg"])
def test_a_driver_without_nvml_is_unknown(tmp_path: Path, sign: str) -> None:
    """Where a driver is loaded and nvidia-ml-py is not there, the GPUs are not known, and the note says what to do."""
    (tmp_path / sign).parent.mkdir(parents=True)
    (tmp_path / sign).touch()
    seen, _, (note,) = asked(Host({}, (), {}, str(tmp_path)))
    assert seen is None
    assert "nvidia-ml-py" in note.text


def test_the_cpus_own_graphics_do_not_hide_the_nvidia_card(tmp_path: Path) -> None:
    """A CUDA machine whose AMD processor has graphics of its own is asked about its NVIDIA GPUs."""
    host = machine(tmp_path / "desktop", platform="cuda", archs=("sm_89",))
    lay_out_gpus(host.root, ("gfx1036",))
    assert asked(host)[:2] == (("sm_89",), None)


def test_a_rocm_build_is_asked_about_its_amd_card(tmp_path: Path) -> None:
    """A ROCm build beside an NVIDIA card uses the AMD one."""
    host = machine(tmp_path / "both", platform="rocm", archs=("gfx1100",))
    lay_out_gpus(host.root, None, nvidia=True)
    assert asked(host)[:2] == (("gfx1100",), "gfx1100")


@pytest.mark.parametrize("kind", ["xpu", "npu", "musa"])
def test_devices_of_other_vendors_are_not_known(tmp_path: Path, kind: Platform) -> None:
    """What is not read is not said to be absent, whatever AMD's or NVIDIA's drivers tell beside it; a note says so."""
    host = machine(tmp_path / "other", platform=kind)
    lay_out_gpus(host.root, ("gfx1036",))
    seen, first, (note,) = asked(host)
    assert (seen, first) == (None, None)
    assert f"built for {kind}" in note.text
    assert decide(probe(host)).chosen == "reference"


@pytest.mark.parametrize("entry", ["MIG-5f4c1d1a-8f6e-5a7b-9a3e-0c1d2e3f4a5b", "MIG-GPU-aaaa-1/1/0", "MIG-1,MIG-2"])
def test_an_instance_of_a_divided_gpu(entry: str) -> None:
    """A MIG instance is one device of its GPU's arch, which is known where all GPUs have the same."""
    seen, _, (note,) = asked(nvidia("sm_90", "sm_90"), CUDA_VISIBLE_DEVICES=entry)
    assert seen == ("sm_90",)
    assert note.source == "CUDA_VISIBLE_DEVICES"
    assert repr(entry) in note.text
    seen, _, notes = asked(nvidia("sm_80", "sm_90"), CUDA_VISIBLE_DEVICES=entry)
    assert seen is None
    assert "several archs" in notes[-1].text
    assert asked(nvidia("sm_90"), CUDA_VISIBLE_DEVICES="MIG-1,MIG-1")[0] == ()


def test_an_override_changes_what_rocm_takes_a_gpu_for(tmp_path: Path) -> None:
    """HSA_OVERRIDE_GFX_VERSION names the arch that kernels are built for; a note and the source say so."""
    host = machine(tmp_path / "laptop", archs=("gfx1103",))
    found = devices(replace(host, environ={"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}))
    (gpu,) = found["devices"]
    assert (gpu.arch, found["rocminfo_arch"]) == ("gfx1100", "gfx1100")
    assert gpu.source.endswith("gfx_target_version 110003, taken for gfx1100 by HSA_OVERRIDE_GFX_VERSION=11.0.0")
    assert [note.source for note in found["notes"]] == ["HSA_OVERRIDE_GFX_VERSION"]
    assert asked(host, HSA_OVERRIDE_GFX_VERSION="9.0.10")[0] == ("gfx90a",)
    assert asked(host, HSA_OVERRIDE_GFX_VERSION="11.0.3") == (("gfx1103",), "gfx1103", ())


def test_an_override_of_one_node_comes_before_that_of_all(mixed: Host) -> None:
    """The number behind the variable's name counts KFD's nodes, CPUs among them, as ROCm's runtime does."""
    environ = {"HSA_OVERRIDE_GFX_VERSION_3": "9.4.2", "HSA_OVERRIDE_GFX_VERSION_0": "9.0.0"}
    assert asked(mixed, **environ)[0] == ("gfx942", "gfx942", "gfx1100", "gfx942")
    environ["HSA_OVERRIDE_GFX_VERSION"] = "11.0.1"
    assert asked(mixed, **environ)[0] == ("gfx1101", "gfx942", "gfx1101", "gfx1101")


def test_nodes_kept_from_a_container_are_not_counted(mixed: Host) -> None:
    """ROCm's runtime passes over them, so that the numbers of those behind them move up."""
    seen = devices(replace(in_container(mixed), environ={"HSA_OVERRIDE_GFX_VERSION_2": "9.4.2"}))["devices"]
    assert [gpu.arch for gpu in seen] == ["gfx942", "gfx1100", "gfx942"]
    assert "nodes/3/properties" in seen[0].source


@pytest.mark.parametrize("value", ["", "11", "11.0", "11.0.0.0", "gfx1100", "11.0.x", "64.0.0", "11.256.0", "9.4.٢"])
def test_an_override_that_rocm_refuses(mixed: Host, value: str) -> None:
    """What is not three numbers in range, blank among it, makes ROCm fail: which GPUs are usable is not known."""
    seen, first, (note,) = asked(mixed, HSA_OVERRIDE_GFX_VERSION=value)
    assert (seen, first) == (None, None)
    assert note.source == "HSA_OVERRIDE_GFX_VERSION"
    assert "11.0.0" in note.text


@pytest.mark.parametrize(
    "text", [f"gfx_target_version {'9' * 5000}", f"unique_id {'9' * 5000}\ngfx_target_version 90402"]
)
def test_numbers_of_thousands_of_digits(mixed: Host, text: str) -> None:
    """They are no numbers of KFD's: an arch of them is not known, a unique id of them is none."""
    (Path(mixed.root) / NODES / "3/properties").write_text(text)
    assert asked(mixed)[0] == (None if "\n" not in text else ("gfx942", "gfx942", "gfx1100", "gfx942"))


# --- What the process may open


def test_a_container_without_the_devices_has_no_gpu(mixed: Host) -> None:
    """/sys is readable to all; without /dev/kfd ROCm finds nothing, and what stands in the way is told."""
    (Path(mixed.root) / "dev/kfd").unlink()
    found = devices(mixed)
    assert found["devices"] == ()
    hidden = found["hidden"]
    assert (hidden.path, hidden.present, hidden.gid) == (f"{mixed.root}/dev/kfd", False, None)
    assert [gpu.arch for gpu in hidden.devices] == ["gfx942", "gfx950", "gfx1100", "gfx942"]


def test_a_gpu_without_its_render_file_is_passed_over(mixed: Host) -> None:
    """A container that was given three of four render files has three GPUs, which count anew."""
    (Path(mixed.root) / "dev/dri/renderD129").unlink()
    found = devices(mixed)
    assert [(gpu.arch, gpu.physical) for gpu in found["devices"]] == [("gfx942", 0), ("gfx1100", 1), ("gfx942", 2)]
    assert [note.source for note in found["notes"]] == [f"{mixed.root}/dev/dri/renderD129"]


@pytest.mark.parametrize(("barred", "group"), [("dev/kfd", "render"), ("dev/dri/renderD130", None)])
def test_a_file_that_may_not_be_opened_names_its_group(mixed: Host, barred: str, group: str | None) -> None:
    """One file that is there and not permitted ends ROCm's start: the group is told by name where it has one."""

    class Barred(Host):
        """A host whose process is not in the group of one file."""

        __slots__ = ()

        def may_open(self, path: str) -> bool:
            return not path.endswith(barred) and super().may_open(path)

    gid = os.stat(f"{mixed.root}/{barred}").st_gid
    (Path(mixed.root) / "etc").mkdir()
    (Path(mixed.root) / "etc/group").write_text(f"{group}:x:{gid}:\n" if group else "other:x:99999:\n")
    found = devices(Barred(mixed.environ, mixed.search_path, mixed.modules, mixed.root))
    hidden = found["hidden"]
    assert (found["devices"], hidden.path, hidden.present) == ((), f"{mixed.root}/{barred}", True)
    assert (hidden.group, hidden.gid) == (group, gid)


def test_access_is_asked_for_reading_and_writing() -> None:
    """A process that is not root may not open what only others may write; nothing is opened to find out."""
    code = (
        "import os, sys, nsa_caps; os.geteuid() == 0 and os.setuid(65534);"
        "print([nsa_caps.Host({}, (), {}).may_open(path) for path in sys.argv[1:]])"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        paths = [Path(folder) / name for name in ("open", "locked", "absent")]
        for path, mode in zip(paths, (0o666, 0o444), strict=False):
            path.touch()
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True
        )
    assert done.stdout == "[True, False, False]\n"


# --- What can be stated where nothing can be read


def test_wsl_says_what_it_is(tmp_path: Path) -> None:
    """unsloth#9729: behind /dev/dxg ROCm's GPU stands in no file; it is not known, and no word is NVIDIA's."""
    host = machine(tmp_path / "wsl", archs=(), torch="2.9.1+rocm7.2.1")
    (Path(host.root) / "dev").mkdir()
    (Path(host.root) / "dev/dxg").touch()
    found = devices(host)
    assert (found["devices"], found["devices_unread"]) == (None, "wsl")
    assert [note.source for note in found["notes"]] == ["/dev/dxg"]
    assert "WSL" in found["notes"][0].text


@pytest.mark.parametrize("text", ["gfx1201", " gfx1201 ", "gfx1201,gfx1201", "gfx942;gfx950"])
def test_a_gpu_is_stated_where_it_cannot_be_read(tmp_path: Path, text: str) -> None:
    """`NSA_CAPS_ARCH` names the GPUs; they are marked as stated."""
    host = machine(tmp_path / "wsl", archs=None, environ={"NSA_CAPS_ARCH": text})
    found = devices(replace(host, root=str(tmp_path / "wsl/root")))
    archs = [name.strip() for name in text.replace(";", ",").split(",")]
    assert [(gpu.arch, gpu.stated) for gpu in found["devices"]] == [(arch, True) for arch in archs]
    assert found["rocminfo_arch"] == archs[0]


@pytest.mark.parametrize("text", ["RX 9070", "gfx", "sm90", ",", "gfx1201,x"])
def test_what_states_no_arch_is_ignored(tmp_path: Path, text: str) -> None:
    """A text that names no arch leaves the GPUs unknown, with a note."""
    host = machine(tmp_path / "wsl", platform="cuda", archs=None, environ={"NSA_CAPS_ARCH": text})
    found = devices(host)
    assert found["devices"] is None
    assert found["notes"][-1].source == "NSA_CAPS_ARCH"


def test_what_is_read_comes_before_what_is_stated(mixed: Host) -> None:
    """A statement changes nothing where the driver tells."""
    seen, _, (note,) = asked(mixed, NSA_CAPS_ARCH="gfx90a")
    assert (seen or ())[:1] == ("gfx942",)
    assert note.source == "NSA_CAPS_ARCH"
