"""The traces that GPU drivers leave below /dev, /proc and /etc: who could be asked. Nothing is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsa_caps.probes.host import Host

__all__ = ["has_driver", "is_wsl"]

_SIGNS: dict[str, tuple[tuple[str, ...], ...]] = {
    # A desktop's or server's, WSL's, and Jetson's, which has no /proc/driver/nvidia (vllm#9728).
    "nvidia": (
        *(("proc", "driver", "nvidia"), ("dev", "nvidiactl"), ("dev", "nvidia0"), ("dev", "dxg")),
        *(("dev", "nvhost-gpu"), ("dev", "nvgpu"), ("etc", "nv_tegra_release")),
    ),
    "metax": (("dev", "mxcd"),),
    "npu": (("dev", "davinci_manager"),),
    "musa": (("dev", "mtgpu.0"),),
}


def has_driver(host: Host, vendor: str) -> bool:
    """Return whether there is a trace of a vendor's driver: `nvidia`, `metax`, `npu` (Ascend) or `musa`."""
    return any(host.exists(host.system_path(*sign)) for sign in _SIGNS[vendor])


def is_wsl(host: Host) -> bool:
    """Return whether GPUs, AMD's or NVIDIA's, are behind Windows' `/dev/dxg`: nothing of them stands below /sys."""
    return host.exists(host.system_path("dev", "dxg"))
