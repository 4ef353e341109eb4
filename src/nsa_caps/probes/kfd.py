"""AMD's GPUs, from KFD's topology under /sys, which every process may read; no device is opened."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.gpu import Gpu
from nsa_caps.probes.host import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["arch_of_target_version", "barred_file", "kfd_gpus", "with_render_file"]

_KFD_NODES = ("sys", "class", "kfd", "kfd", "topology", "nodes")
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"
# The numbers of the files /dev/dri/renderD*: `DRM_FIRST_RENDER_NODE` and the last of libhsakmt's fmm.c.
_RENDER = range(128, 256)


def arch_of_target_version(version: int) -> str:
    """Return the arch of KFD's `gfx_target_version`: 90402 is gfx942, 110501 gfx1151, 90010 gfx90a."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def kfd_gpus(host: Host, notes: list[Note]) -> list[Gpu] | None:
    """Return the GPUs of KFD's topology in node order; empty: the driver is not loaded; None: it could not be read."""
    folder = host.system_path(*_KFD_NODES)
    try:
        nodes = host.list_folder(folder)
        numbers = sorted(int(node) for node in nodes if node.isdecimal())
        found: list[Gpu] = []
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
) -> Gpu | None:
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
    render = properties.get("drm_render_minor", "").strip()
    minor = int(render) if render.isdecimal() and len(render) < 9 and int(render) in _RENDER else None
    return Gpu(arch, uuid, source, physical, minor, _model(properties))


def _model(properties: Mapping[str, str]) -> str | None:
    """Return what tells an MI300A from an MI300X, and one of its partitions from the whole; None: it is not told."""
    names = ("vendor_id", "device_id", "simd_count", "num_xcc", "fw_version")
    told = [f"{name} {properties[name].strip()}" for name in names if name in properties]
    return f"AMD {', '.join(told)}" if "device_id" in properties else None


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


def with_render_file(host: Host, gpus: list[Gpu], notes: list[Note]) -> list[Gpu]:
    """Return the GPUs whose `/dev/dri/renderD*` is here: ROCm passes over the others, which are another container's."""
    found: list[Gpu] = []
    for gpu in gpus:
        if gpu.render is None or host.exists(_render_file(host, gpu.render)):
            found.append(gpu._replace(physical=len(found)))
        else:
            text = f"is not here: the {gpu.arch} behind it is not this container's"
            notes.append(Note("devices", _render_file(host, gpu.render), text))
    return found


def barred_file(host: Host, gpus: list[Gpu]) -> str | None:
    """Return the first device file that ROCm opens for these GPUs and this process may not; None: it may open all.

    One that is there and not permitted (EACCES) ends ROCm's start altogether: `topology.c` of libhsakmt.
    """
    files = [host.system_path("dev", "kfd")]
    files += [_render_file(host, gpu.render) for gpu in gpus if gpu.render is not None]
    return next((path for path in files if not host.may_open(path)), None)


def _render_file(host: Host, minor: int) -> str:
    return host.system_path("dev", "dri", f"renderD{minor}")
