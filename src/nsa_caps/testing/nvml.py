"""A stand-in for the module `pynvml`, to be put into `Host.modules`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nsa_caps.errors import NsaCapsError

__all__ = ["FakeNvml", "FakeNvmlError"]


class FakeNvmlError(NsaCapsError):
    """What the fake raises where the real module raises its `NVMLError`."""


class _LibraryNotFoundError(FakeNvmlError):
    pass


@dataclass(frozen=True, slots=True)
class FakeNvml:
    """NVIDIA's management library with made-up GPUs; it counts what is left initialised.

    Attributes:
        archs: `sm_90` and the like, in PCI order.
        uuids: one for each GPU; empty: `GPU-0000...`, counted up.
        fails: the function that raises `NVMLError`; `library` where there is no driver to ask; None: none does.
    """

    archs: tuple[str, ...]
    uuids: tuple[str, ...] = ()
    fails: str | None = None

    NVMLError = FakeNvmlError
    NVMLError_LibraryNotFound = _LibraryNotFoundError

    def __post_init__(self) -> None:
        """Refuse archs that no NVIDIA GPU has.

        Raises:
            ValueError: an arch is not of the form `sm_90`.
        """
        for arch in self.archs:
            _capability(arch)

    def _call(self, name: str) -> None:
        if self.fails == name:
            raise FakeNvmlError(f"{name} failed")

    def nvmlInit(self) -> None:  # noqa: N802 the real module's name
        """Raise where there is no driver, or where it was asked for."""
        if self.fails == "library":
            raise _LibraryNotFoundError("NVML Shared Library Not Found")
        self._call("nvmlInit")

    def nvmlShutdown(self) -> None:  # noqa: N802 the real module's name
        """Do nothing."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 the real module's name
        """Return the number of GPUs."""
        self._call("nvmlDeviceGetCount")
        return len(self.archs)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 the real module's name
        """Return the index: the fake's handles are indices."""
        self._call("nvmlDeviceGetHandleByIndex")
        return index

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802 the real module's name
        """Return `(9, 0)` for `sm_90`."""
        self._call("nvmlDeviceGetCudaComputeCapability")
        return _capability(self.archs[handle])

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802 the real module's name
        """Return the UUID, `GPU-...`."""
        self._call("nvmlDeviceGetUUID")
        return self.uuids[handle] if self.uuids else f"GPU-{handle:08x}-0000-0000-0000-000000000000"

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802 the real module's name
        """Return a name that tells that it is none."""
        self._call("nvmlDeviceGetName")
        return f"fake {self.archs[handle]}"


def _capability(arch: str) -> tuple[int, int]:
    match = re.fullmatch(r"sm_(\d+)(\d)", arch)
    if match is None:
        raise ValueError(f"arch {arch!r} is none of NVIDIA's, needs the form 'sm_90'")
    return int(match[1]), int(match[2])
