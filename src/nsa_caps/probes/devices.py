"""The GPUs that this process may use: from KFD's topology on AMD, from NVML on NVIDIA. No device is opened.

Those of other vendors are not read, and so not known.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.capabilities.records import Device, Note
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.platform import platform
from nsa_caps.probes.timeout import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsa_caps.probes.host import Host

__all__ = ["arch_of_target_version", "devices"]

# The driver's traces, without which there is nothing to ask; dxg is WSL's.
_NVIDIA_SIGNS = (("proc", "driver", "nvidia"), ("dev", "nvidiactl"), ("dev", "dxg"))
_KFD_NODES = ("sys", "class", "kfd", "kfd", "topology", "nodes")
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"


class _Gpu(NamedTuple):
    arch: str
    uuid: str | None
    source: str
    physical: int = 0


def devices(host: Host) -> Mapping[str, Any]:
    """Find the visible GPUs, and the arch that rocminfo would print first."""
    notes: list[Note] = []
    build = platform(host)["platform"]
    if build in ("xpu", "npu", "musa"):
        text = f"torch is built for {build}, whose devices are not read: only AMD's and NVIDIA's are"
        return {"devices": None, "notes": (Note("devices", f"{build} devices", text),)}
    amd = _kfd_gpus(host, notes)
    # Beside an NVIDIA card KFD may show the CPU's own graphics: torch's build tells which of the two is meant.
    if amd and not (_has_nvidia_driver(host) and build == "cuda"):
        # ROCR hides GPUs from everything above it, rocminfo too; HIP's variables only from HIP.
        seen_by_rocr = _visible(amd, host, ("ROCR_VISIBLE_DEVICES",), notes)
        # HIP reads CUDA's variable only where its own is not set.
        seen = _visible(seen_by_rocr, host, ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"), notes)
        first = seen_by_rocr[0].arch if seen_by_rocr else None
        return {"devices": _numbered(seen), "rocminfo_arch": first, "notes": tuple(notes)}
    nvidia = _nvml_gpus(host, notes)
    if nvidia:
        if any(entry.strip().startswith("MIG-") for entry in host.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")):
            return {"devices": _mig_instance(nvidia, host, notes), "notes": tuple(notes)}
        # NVML counts by PCI bus, CUDA by default fastest first: indices then name different GPUs.
        other_order = len({gpu.arch for gpu in nvidia}) > 1 and host.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
        if other_order and host.environ.get("CUDA_VISIBLE_DEVICES", "").strip():
            text = "GPUs of several archs in CUDA's own order: CUDA_DEVICE_ORDER=PCI_BUS_ID would tell which are meant"
            notes.append(Note("devices", "CUDA_VISIBLE_DEVICES", text))
            return {"devices": None, "notes": tuple(notes)}
        return {"devices": _numbered(_visible(nvidia, host, ("CUDA_VISIBLE_DEVICES",), notes)), "notes": tuple(notes)}
    nothing_anywhere = amd == [] and nvidia == []
    return {"devices": () if nothing_anywhere else None, "notes": tuple(notes)}


def arch_of_target_version(version: int) -> str:
    """Return the arch of KFD's `gfx_target_version`: 90402 is gfx942, 110501 gfx1151, 90010 gfx90a."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _kfd_gpus(host: Host, notes: list[Note]) -> list[_Gpu] | None:
    """Return the GPUs of KFD's topology in node order; empty: the driver is not loaded; None: it could not be read."""
    folder = host.system_path(*_KFD_NODES)
    try:
        nodes = host.list_folder(folder)
        numbers = sorted(int(node) for node in nodes if node.isdecimal())
        found: list[_Gpu] = []
        hidden = 0
        for position, number in enumerate(numbers):
            path = f"{folder}/{number}/properties"
            properties = _kfd_properties(host, path, notes)
            if properties is None:
                hidden += 1
            elif (gpu := _kfd_gpu(host, path, properties, position - hidden, len(found), notes)) is not None:
                found.append(gpu)
    except UnreadableError as error:
        notes.append(Note("devices", error.path, error.why))
        return None
    return found


def _kfd_properties(host: Host, path: str, notes: list[Note]) -> dict[str, str] | None:
    """Return the lines of one topology node by name, or None for a GPU that is kept from this container.

    Raises:
        UnreadableError: the file could not be read.
    """
    try:
        text = host.read_text(path) or ""
    except UnreadableError as error:
        # The kernel's answer where the device cgroup keeps the GPU from this container; ROCr passes over it too.
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EPERM:
            raise
        notes.append(Note("devices", path, f"{error.why}: a GPU that this container may not use"))
        return None
    return dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line.strip())


def _kfd_gpu(
    host: Host, path: str, properties: Mapping[str, str], node: int, physical: int, notes: list[Note]
) -> _Gpu | None:
    """Return the GPU of one topology node, or None for a CPU's.

    Args:
        host: the machine.
        path: the node's file.
        properties: what it says.
        node: the node's number as ROCm's runtime counts, which passes over nodes kept from this container.
        physical: how many GPUs come before it.
        notes: where to leave a note.

    Raises:
        UnreadableError: the node has no `gfx_target_version`, or it is no number, or the override is none.
    """
    target = properties.get("gfx_target_version", "").strip()
    # int() refuses thousands of digits.
    if not target.isdecimal() or len(target) > 9:
        raise UnreadableError(path, f"gfx_target_version is {target[:20]!r}, needs a number")
    version = int(target)
    if version == 0:
        return None
    unique = properties.get("unique_id", "0").strip()
    uuid = f"GPU-{int(unique):016x}" if unique.isdecimal() and len(unique) <= 20 and int(unique) else None
    arch, source = arch_of_target_version(version), f"{path}: gfx_target_version {version}"
    variable = f"{_OVERRIDE}_{node}" if f"{_OVERRIDE}_{node}" in host.environ else _OVERRIDE
    override = host.environ.get(variable)
    if override is not None:
        told = _overridden(variable, override)
        if told != arch:
            text = f"{override} makes ROCm take the {arch} of node {node} for a {told}; kernels are built for that"
            notes.append(Note("devices", variable, text))
            arch, source = told, f"{source}, taken for {told} by {variable}={override}"
    return _Gpu(arch, uuid, source, physical)


def _overridden(variable: str, override: str) -> str:
    """Return the arch that ROCm's thunk (`topology.c` of libhsakmt) reads in an override: `11.0.0` is gfx1100.

    Raises:
        UnreadableError: it is not three numbers; the thunk then fails, and with it every use of ROCm. Blank is none.
    """
    parts = override.split(".")
    plain = len(parts) == 3 and all(part.isascii() and part.isdecimal() and len(part) < 4 for part in parts)
    numbers = [int(part) for part in parts] if plain else []
    if not plain or numbers[0] > 63 or max(numbers[1:]) > 255:
        why = f"is {override[:20]!r}, needs MAJOR.MINOR.STEPPING such as 11.0.0, or to be unset: ROCm refuses it"
        raise UnreadableError(variable, why)
    return "gfx{}{:x}{:x}".format(*numbers)


def _has_nvidia_driver(host: Host) -> bool:
    return any(host.exists(host.system_path(*sign)) for sign in _NVIDIA_SIGNS)


def _nvml_gpus(host: Host, notes: list[Note]) -> list[_Gpu] | None:
    """Return NVIDIA's GPUs through nvidia-ml-py; empty: no driver here; None: there is nothing to ask, or it failed."""
    loaded = host.modules.get("pynvml")
    if loaded is None and not _has_nvidia_driver(host):
        return []
    if loaded is not None or (host.is_this_machine and host.find_package("pynvml") is not None):
        # A GPU that fell off the bus hangs the driver, and whoever asks it.
        answer, problem = TimeLimit().call(lambda: _ask_nvml(_pynvml() if loaded is None else loaded))
        gpus, failure = answer or (None, problem)
        if failure is not None:
            notes.append(Note("devices", "NVML", failure))
        return gpus
    text = "an NVIDIA driver is loaded; its GPUs are told by nvidia-ml-py, which is not installed"
    notes.append(Note("devices", "pynvml", text))
    return None


def _pynvml() -> Any:
    import pynvml  # noqa: PLC0415 18 ms, for machines with an NVIDIA driver only

    return pynvml


def _ask_nvml(nvml: Any) -> tuple[list[_Gpu] | None, str | None]:
    """Return NVIDIA's GPUs, or None and what NVML says is wrong."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        absent = getattr(nvml, "NVMLError_LibraryNotFound", None), getattr(nvml, "NVMLError_DriverNotLoaded", None)
        is_absent = isinstance(error, tuple(kind for kind in absent if kind is not None))
        return ([], None) if is_absent else (None, str(error))
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [_nvidia_gpu(nvml, index, handle) for index, handle in enumerate(handles)], None
    except nvml.NVMLError as error:
        return None, str(error)
    finally:
        # A library left initialised would go into every forked child.
        nvml.nvmlShutdown()


def _nvidia_gpu(nvml: Any, index: int, handle: Any) -> _Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    name = nvml.nvmlDeviceGetName(handle)
    return _Gpu(f"sm_{major}{minor}", _text(uuid), f"NVML: device {index}, {_text(name)}", index)


def _text(value: str | bytes) -> str:
    # nvidia-ml-py before 12 answers with bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _mig_instance(gpus: Sequence[_Gpu], host: Host, notes: list[Note]) -> tuple[Device, ...] | None:
    """Return the one instance of a divided GPU that CUDA shows; NVML tells its arch where all GPUs have the same."""
    raw = host.environ["CUDA_VISIBLE_DEVICES"]
    archs = {gpu.arch for gpu in gpus}
    if len(archs) > 1:
        text = f"{raw!r} names an instance (MIG) of one of the GPUs, which are of several archs: {', '.join(archs)}"
        notes.append(Note("devices", "CUDA_VISIBLE_DEVICES", text))
        return None
    text = f"{raw!r} names an instance (MIG), of which CUDA shows one; whether it is there was not asked"
    notes.append(Note("devices", "CUDA_VISIBLE_DEVICES", text))
    return (Device(0, gpus[0].arch, f"{gpus[0].source}, by an instance (MIG)"),)


def _visible(gpus: Sequence[_Gpu], host: Host, variables: tuple[str, ...], notes: list[Note]) -> Sequence[_Gpu]:
    """Return the GPUs that the first of `variables` that is set lets through, in its order.

    As the drivers have it, the list ends at its first entry that names no GPU.
    """
    for variable in variables:
        raw = host.environ.get(variable)
        if raw is None:
            continue
        if not raw.strip():
            notes.append(Note("devices", variable, "is blank and counts as unset; CUDA takes a blank for 'no GPU'"))
            continue
        chosen: list[_Gpu] = []
        for entry in raw.split(","):
            gpu = _named(gpus, entry.strip())
            if gpu is None or gpu in chosen:
                notes.append(
                    Note("devices", variable, f"{entry.strip()!r} in {raw!r} names no further GPU: the list ends there")
                )
                break
            chosen.append(gpu)
        return chosen
    return gpus


def _named(gpus: Sequence[_Gpu], entry: str) -> _Gpu | None:
    # int() refuses thousands of digits.
    if entry.isdecimal() and len(entry) < 10:
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    # CUDA and ROCR take any unambiguous beginning of a UUID.
    matches = [gpu for gpu in gpus if entry and gpu.uuid is not None and gpu.uuid.lower().startswith(entry.lower())]
    return matches[0] if len(matches) == 1 else None


def _numbered(gpus: Sequence[_Gpu]) -> tuple[Device, ...]:
    return tuple(Device(index, gpu.arch, gpu.source, gpu.physical) for index, gpu in enumerate(gpus))
