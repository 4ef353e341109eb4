"""The GPUs that this process may use: AMD's from KFD's topology, NVIDIA's from NVML, as the runtimes show them to it.

No device is opened. GPUs of other vendors are not read, and so not known; what cannot be read can be stated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.archs import ARCHS, is_arch
from nsa_caps.capabilities.devices import Device, Hidden
from nsa_caps.capabilities.records import Note
from nsa_caps.probes.kfd import barred_file, kfd_gpus, with_render_file
from nsa_caps.probes.nvml import nvml_gpus
from nsa_caps.probes.platform import platform
from nsa_caps.probes.signs import has_driver, is_wsl
from nsa_caps.probes.visibility import cuda_list, hip_list, rocr_list, torch_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nsa_caps.probes.gpu import Gpu
    from nsa_caps.probes.host import Host
    from nsa_caps.probes.visibility import Listed

__all__ = ["devices"]

_ROCR, _HIP, _CUDA = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"
_STATED = "NSA_CAPS_ARCH"


def devices(host: Host) -> Mapping[str, Any]:
    """Find the visible GPUs, those that something hides, and the arch that rocminfo would print first."""
    notes: list[Note] = []
    found = _read(host, notes)
    text = host.environ.get(_STATED, "").strip()
    if text and found["devices"] is None:
        found |= _stated(text, notes)
    elif text:
        notes.append(Note("devices", _STATED, f"is set to {text!r} and not needed: the GPUs could be read"))
    return {**found, "notes": tuple(notes)}


def _read(host: Host, notes: list[Note]) -> dict[str, Any]:
    build = platform(host)["platform"]
    if build in ("xpu", "npu", "musa", "hpu", "metax"):
        text = f"torch is built for {build}, whose devices are not read: only AMD's and NVIDIA's are"
        notes.append(Note("devices", f"{build} devices", text))
        return {"devices": None, "devices_unread": "vendor"}
    amd = kfd_gpus(host, notes)
    # Beside an NVIDIA card KFD may show the CPU's own graphics: torch's build tells which of the two is meant.
    if amd and not (build == "cuda" and has_driver(host, "nvidia")):
        return _amd(host, amd, notes)
    if not amd and build in ("rocm", "dcu") and is_wsl(host):
        text = "this is WSL: ROCm finds its GPUs behind this device, and no file tells which"
        notes.append(Note("devices", "/dev/dxg", text))
        return {"devices": None, "devices_unread": "wsl"}
    nvidia = nvml_gpus(host, notes)
    if isinstance(nvidia, str):
        return {"devices": None, "devices_unread": nvidia}
    if nvidia:
        return _nvidia(host, nvidia, notes)
    return {"devices": () if amd == [] else None}


def _stated(text: str, notes: list[Note]) -> dict[str, Any]:
    names = text.replace(";", ",").split(",")
    archs = [name.strip() for name in names if name.strip()]
    wrong = [arch for arch in archs if not is_arch(arch)]
    if wrong or not archs:
        notes.append(Note("devices", _STATED, f"{text[:40]!r} names no arch such as gfx1201 or sm_90: ignored"))
        return {}
    seen = tuple(Device(index, arch, f"stated by {_STATED}", stated=True) for index, arch in enumerate(archs))
    notes.append(Note("devices", _STATED, f"states what could not be read: {', '.join(archs)}"))
    first = archs[0] if archs[0].startswith("gfx") else None
    return {"devices": seen, "devices_unread": None, "rocminfo_arch": first}


# --- AMD


def _amd(host: Host, listed: list[Gpu], notes: list[Note]) -> dict[str, Any]:
    gpus = with_render_file(host, listed, notes)
    barred = barred_file(host, gpus)
    if barred is not None or not gpus:
        path = barred or host.system_path("dev", "dri")
        present = host.exists(path)
        group, gid = host.group_of(path) if present else (None, None)
        hidden = Hidden(devices=_numbered(listed), path=path, present=present, group=group, gid=gid)
        return {"devices": (), "hidden": hidden}
    by_rocr, seen = _amd_visible(gpus, host.environ, notes)
    found: dict[str, Any] = {"rocminfo_arch": by_rocr[0].arch if by_rocr else None}
    counted = _counted_by_torch(seen, host.environ, notes) if seen else seen
    if counted is None:
        found |= {"devices": None, "devices_unread": "hip-and-torch"}
    else:
        found["devices"] = _numbered(counted)
    if counted is not None and not counted:
        found["hidden"] = _hidden_by_variables(gpus, host.environ)
    if all(gpu.arch in ARCHS and ARCHS[gpu.arch].vendor == "hygon" for gpu in listed):
        found |= {"platform": "dcu", "platform_source": f"{listed[0].source}: Hygon's"}
    return found


def _amd_visible(
    gpus: Sequence[Gpu], environ: Mapping[str, str], notes: list[Note]
) -> tuple[Sequence[Gpu], Sequence[Gpu]]:
    """Return what ROCr shows, also to rocminfo, and what HIP shows of that to torch."""
    by_rocr = gpus
    if _ROCR in environ:
        by_rocr = _picked(gpus, rocr_list(environ[_ROCR], _uuids(gpus)), _ROCR, notes)
    # HIP reads CUDA's variable only where its own has no text.
    variable = _HIP if environ.get(_HIP) else _CUDA
    seen = by_rocr
    if environ.get(variable):
        seen = _picked(by_rocr, hip_list(environ[variable], _uuids(by_rocr)), variable, notes)
    return by_rocr, seen


def _counted_by_torch(seen: Sequence[Gpu], environ: Mapping[str, str], notes: list[Note]) -> Sequence[Gpu] | None:
    """Return which of the GPUs that HIP shows an engine finds; None: that is not known.

    `torch.cuda.device_count()` reads the same variables, by a grammar of its own, until HIP is initialised, and HIP's
    count from then on: whether an engine finds a GPU depends on when it asks. Who blanks HIP's variable has unset it as
    far as kernels go; who blanks CUDA's means none (Ray, verl#6664).
    """
    if _ROCR in environ and environ.get(_HIP, "").count(",") > environ[_ROCR].count(","):
        notes.append(Note("devices", _HIP, f"has more entries than {_ROCR}: torch raises RuntimeError"))
        return None
    variable = _HIP if _HIP in environ else _CUDA if _ROCR not in environ else None
    text = environ.get(variable) if variable else None
    if variable is None or text is None or torch_list(text):
        return seen
    notes.append(Note("devices", variable, f"{text!r} is no GPU to torch until HIP is used, and HIP shows some"))
    if text:
        return None
    return seen if variable == _HIP else ()


def _hidden_by_variables(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> Hidden:
    """Return the fewest variables without which there would be a GPU, HIP's first, as they count in ROCr's rest."""
    for names in ((_HIP, _CUDA), (_ROCR, _HIP, _CUDA)):
        rest = {name: text for name, text in environ.items() if name not in names}
        _, seen = _amd_visible(gpus, rest, [])
        if seen:
            break
    return Hidden(devices=_numbered(seen), variables=tuple(name for name in names if name in environ))


# --- NVIDIA


def _nvidia(host: Host, gpus: list[Gpu], notes: list[Note]) -> dict[str, Any]:
    text = host.environ.get(_CUDA)
    # NVML counts by PCI bus, CUDA by default fastest first: indices then name different GPUs.
    orders = len({gpu.arch for gpu in gpus}) > 1 and host.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
    if orders:
        text_of_order = "the GPUs are of several archs, and CUDA counts the fastest first, not by PCI bus as NVML does"
        notes.append(Note("devices", "CUDA_DEVICE_ORDER", f"{text_of_order}: PCI_BUS_ID would make them agree"))
    if text is None:
        return {"devices": _numbered(gpus)}
    if text.startswith("MIG-"):
        return {"devices": _mig_instance(gpus, text, notes)}
    listed = cuda_list(text, _uuids(gpus))
    if listed is None:
        notes.append(Note("devices", _CUDA, f"{text[:40]!r} is nothing that torch can read: it raises ValueError"))
        return {"devices": None}
    seen = _picked(gpus, listed, _CUDA, notes)
    if orders and not text.startswith("GPU-") and 0 < len(seen) < len(gpus):
        return {"devices": None, "devices_unread": "cuda-order"}
    if not seen:
        return {"devices": (), "hidden": Hidden(devices=_numbered(gpus), variables=(_CUDA,))}
    return {"devices": _numbered(seen)}


def _mig_instance(gpus: Sequence[Gpu], text: str, notes: list[Note]) -> tuple[Device, ...] | None:
    """Return the one instance of a divided GPU that CUDA shows; NVML tells its arch where all GPUs have the same."""
    if not torch_list(text):
        notes.append(Note("devices", _CUDA, f"{text!r} names one instance twice, which leaves none"))
        return ()
    archs = {gpu.arch for gpu in gpus}
    if len(archs) > 1:
        words = f"{text!r} names an instance (MIG) of one of the GPUs, which are of several archs: {', '.join(archs)}"
        notes.append(Note("devices", _CUDA, words))
        return None
    words = f"{text!r} names an instance (MIG), of which CUDA shows one; whether it is there was not asked"
    notes.append(Note("devices", _CUDA, words))
    return (Device(0, gpus[0].arch, f"{gpus[0].source}, by an instance (MIG)"),)


# --- Both


def _picked(gpus: Sequence[Gpu], listed: Listed, variable: str, notes: list[Note]) -> list[Gpu]:
    if listed.ended is not None:
        notes.append(Note("devices", variable, listed.ended))
    return [gpus[index] for index in listed.chosen]


def _uuids(gpus: Sequence[Gpu]) -> list[str | None]:
    return [gpu.uuid for gpu in gpus]


def _numbered(gpus: Sequence[Gpu]) -> tuple[Device, ...]:
    return tuple(Device(index, gpu.arch, gpu.source, gpu.physical, model=gpu.model) for index, gpu in enumerate(gpus))
