"""NVIDIA's GPUs, told by the management library (NVML) through nvidia-ml-py, which makes no context; never for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nsa_caps.capabilities.records import Note
from nsa_caps.probes.gpu import Gpu
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.signs import has_driver
from nsa_caps.probes.timeout import TimeLimit

if TYPE_CHECKING:
    from nsa_caps.probes.host import Host

__all__ = ["nvml_gpus"]

# Seconds that NVML is waited for: with a driver in trouble it hangs, and it answers in 20 ms otherwise.
_TIMEOUT = 5.0


def nvml_gpus(host: Host, notes: list[Note]) -> list[Gpu] | Literal["no-nvidia-ml-py", "nvml"]:
    """Return NVIDIA's GPUs in NVML's order, by PCI bus; empty: no driver here; a word: why nobody could be asked."""
    loaded = host.modules.get("pynvml")
    driver = has_driver(host, "nvidia")
    if loaded is None and not driver:
        return []
    if loaded is None and not (host.is_this_machine and _is_installed(host)):
        text = "an NVIDIA driver is loaded; install nvidia-ml-py to list its GPUs"
        notes.append(Note("devices", "pynvml", text))
        return "no-nvidia-ml-py"
    # A GPU that fell off the bus hangs the driver, and whoever asks it.
    found, failure = TimeLimit(_TIMEOUT).call(lambda: _ask(loaded))
    if found is not None and found.gpus is not None:
        return found.gpus
    absent = found.absent if found is not None else None
    if absent is not None and not driver:
        return []
    text = f"{absent}, though there are traces of an NVIDIA driver" if absent is not None else str(failure)
    notes.append(Note("devices", "NVML", f"{text}: its GPUs are not known"))
    return "nvml"


def _is_installed(host: Host) -> bool:
    try:
        return host.find_package("pynvml") is not None
    except UnreadableError:
        # It may come from somewhere, and is imported to be asked.
        return True


class _Answer(NamedTuple):
    """What NVML tells: its GPUs, or that it has no library or no driver to ask, in its own words."""

    gpus: list[Gpu] | None
    absent: str | None = None


def _ask(loaded: Any) -> _Answer:
    """Return what NVML tells; another vendor's library of that name, or one that is broken, may raise anything."""
    nvml = loaded
    if nvml is None:
        import pynvml  # noqa: PLC0415 18 ms, for machines with an NVIDIA driver only

        nvml = pynvml
    try:
        nvml.nvmlInit()
    except Exception as error:
        kinds = (getattr(nvml, f"NVMLError_{name}", None) for name in ("LibraryNotFound", "DriverNotLoaded"))
        if isinstance(error, tuple(kind for kind in kinds if isinstance(kind, type))):
            return _Answer(None, str(error))
        raise
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return _Answer([_gpu(nvml, index, handle) for index, handle in enumerate(handles)])
    finally:
        # A library left initialised would go into every forked child.
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    name = _text(nvml.nvmlDeviceGetName(handle))
    return Gpu(f"sm_{major}{minor}", _text(uuid), f"NVML: device {index}, {name}", index, model=name)


def _text(value: str | bytes) -> str:
    # nvidia-ml-py before 12 answers with bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
