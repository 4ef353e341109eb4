"""Every fact that the policy may ask for, each with where it came from.

A `Capabilities` is made by `nsa_caps.probe`, by hand in a test, or from JSON; it is frozen and comparable, and loses
nothing on the way to JSON and back. `None` always means *not known*, never *no*.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 records.py resolves the annotations at run time
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from nsa_caps.archs import dialect_of
from nsa_caps.base.serial import SnapshotError, expect_json, field_names, from_plain, to_plain
from nsa_caps.capabilities.aiter_source import AiterSource
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles, Ptxas  # noqa: TC001 resolved at run time
from nsa_caps.capabilities.devices import Device, Hidden
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.capabilities.kept import KeptVerdict  # noqa: TC001 as above
from nsa_caps.errors import printable

if TYPE_CHECKING:
    from nsa_caps.archs import Dialect

__all__ = [
    "PLATFORMS",
    "SCHEMA_VERSION",
    "AiterSource",
    "AotBundle",
    "AotKernel",
    "Capabilities",
    "Device",
    "Note",
    "Package",
    "PackageState",
    "Platform",
    "SnapshotError",
    "Switch",
]

# 2: what DeepGEMM, ptxas and the toolkit are, the engines, the driver, kept verdicts, and the closed world of aiter's
# source. A document of version 1 lacks them, and what it lacks is not known.
SCHEMA_VERSION = 2
_OLDEST_READ = 1

Platform: TypeAlias = Literal["rocm", "cuda", "xpu", "npu", "musa", "hpu", "metax", "dcu", "cpu", "unknown"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)
PackageState: TypeAlias = Literal["found", "missing", "broken", "impostor", "unknown"]


@dataclass(frozen=True)
class Note:
    """Something that a reader of the report should know and that decides nothing.

    Attributes:
        probe: the probe that noticed it.
        source: the file, variable or package that it is about.
        text: what was noticed.
    """

    probe: str
    source: str
    text: str


@dataclass(frozen=True)
class Package:
    """What is known of one Python package without importing it.

    Attributes:
        name: the import name.
        state: `found`; `missing`; `broken` (there, but its own files cannot be read); `impostor` (another project of
            the same name: the public index's `aiter` is an async-iterator library); `unknown` (an import may bring it
            from a place that cannot be told, or it could not be looked for).
        version: as its own files say, else its metadata, else None.
        distribution: the name of the distribution that installed it, where one is known.
        location: its folder or file.
        source: where the version was read.
    """

    name: str
    state: PackageState
    version: str | None = None
    distribution: str | None = None
    location: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Switch:
    """One environment switch, read by its consumer's own grammar.

    Attributes:
        name: what it decides, such as `use_aiter`.
        value: a truth value, or text for switches that carry text. None: set to something that its consumer cannot
            read and fails on.
        variable: the variable that decided; None where none is set and the value is the default.
        raw: that variable's text.
        source: whose grammar read it, such as `SGLang get_bool_env_var`.
    """

    name: str
    value: bool | str | None
    variable: str | None
    raw: str | None
    source: str


@dataclass(frozen=True)
class AotKernel:
    """One ahead-of-time gluon kernel in aiter's bundle folder.

    Attributes:
        name: the folder's name, such as `paged_mqa_logits_preshuffle_64x256x128_B64PFW2`.
        complete: both the `.json` and the `.hsaco` that the loader opens are there and the json can be read.
        arch: `target.arch` of the json; aiter never checks it.
    """

    name: str
    complete: bool
    arch: str | None = None


@dataclass(frozen=True)
class AotBundle:
    """The ahead-of-time kernels that aiter would load from `location`; no release ships any.

    Attributes:
        location: the folder that aiter's loader looks in; None without aiter.
        kernels: what is there; None: the folder could not be read.
    """

    location: str | None = None
    kernels: tuple[AotKernel, ...] | None = ()


# What can only be compared, not hashed.
_MAPPINGS = ("variables", "switches", "extras")


def _no_packages(name: str) -> Package:
    return Package(name, "missing")


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The facts about one machine.

    Attributes:
        engine: whose switches were read: a name of `nsa_caps.switches.ENGINES`.
        platform: what the installed torch was built for; a fact of the build, true also on a node without a GPU.
        platform_source: where that was read.
        build: the release of CUDA or ROCm that torch was built for, such as `12.8`; None: neither, or not known.
        devices: the GPUs that this process may use; empty: there are none; None: not known.
        hidden: the GPUs that it would have, where it has none and something keeps them from it.
        devices_unread: why the GPUs are not known; None: they are, or a note says why.
        rocminfo_arch: the arch that aiter takes for the machine's: that of the first GPU that rocminfo prints.
        torch: the package torch.
        triton: the package triton.
        aiter: the package aiter.
        deep_gemm: the package deep_gemm.
        flydsl: the package flydsl, from which aiter builds some of its kernels.
        torch_triton: the Triton that torch's metadata ask for, such as `triton==3.6.0`; None: none, or not read.
        deep_gemm_files: what the installed DeepGEMM was built for; None without one.
        cuda_toolkit: the CUDA toolkit that DeepGEMM would find; None: not looked for.
        ptxas: the assemblers that variables tell Triton to take.
        aiter_source: what the installed aiter's source shows; None without AMD's aiter.
        aot_bundle: its ahead-of-time kernels.
        variables: the text of every variable that a switch may read and that is set.
        switches: the switches, by name.
        notes: what a reader should know and that decides nothing.
        extras: what third-party probes found: JSON values by name.
        engines: the engines that are installed, by the table of engines.
        driver: the GPU driver that is loaded, such as `nvidia 550.54.15`; None: not known, or none.
        kept: verdicts on rows that were run here before, as `nsa-caps prove` keeps them.
    """

    engine: str = "sglang"
    platform: Platform = "unknown"
    platform_source: str | None = None
    build: str | None = None
    devices: tuple[Device, ...] | None = None
    hidden: Hidden | None = None
    devices_unread: Literal["no-nvidia-ml-py", "nvml", "cuda-order", "hip-and-torch", "wsl", "vendor"] | None = None
    rocminfo_arch: str | None = None
    torch: Package = field(default_factory=lambda: _no_packages("torch"))
    triton: Package = field(default_factory=lambda: _no_packages("triton"))
    aiter: Package = field(default_factory=lambda: _no_packages("aiter"))
    deep_gemm: Package = field(default_factory=lambda: _no_packages("deep_gemm"))
    flydsl: Package = field(default_factory=lambda: Package("flydsl", "unknown"))
    torch_triton: str | None = None
    deep_gemm_files: DeepGemmFiles | None = None
    cuda_toolkit: CudaToolkit | None = None
    ptxas: tuple[Ptxas, ...] = ()
    aiter_source: AiterSource | None = None
    aot_bundle: AotBundle = AotBundle()
    variables: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, Switch] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    engines: tuple[Package, ...] = ()
    driver: str | None = None
    kept: tuple[KeptVerdict, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Freeze the mappings."""
        for name in _MAPPINGS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __hash__(self) -> int:
        """Agree with equality: of equal mappings neither the order nor the JSON text need be the same."""
        names = (name for name in field_names(self) if name not in _MAPPINGS)
        return hash(tuple(getattr(self, name) for name in names))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle through the JSON form, as engines send capabilities to their workers."""
        return (Capabilities.from_dict, (self.to_dict(),))

    @property
    def archs(self) -> tuple[str, ...] | None:
        """The distinct archs of the visible devices, in order of first use; None where they are not known."""
        return None if self.devices is None else tuple(dict.fromkeys(device.arch for device in self.devices))

    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages that rows stand on, in the order in which they are reported."""
        return (self.torch, self.triton, self.aiter, self.deep_gemm)

    @property
    def engine_release(self) -> str | None:
        """The release of the engine that is asked for; None: it is not installed, or does not tell."""
        return next((package.version for package in self.engines if package.name == self.engine), None)

    def is_on(self, switch: str) -> bool:
        """Return whether a switch holds true; False where it is off, unreadable or not read at all."""
        found = self.switches.get(switch)
        return found is not None and found.value is True

    def replace(self, **changes: Any) -> Capabilities:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON values, by `schemas/capabilities.json`.

        Raises:
            SnapshotError: an extra is no JSON value, as a tuple is none: it would be read back as another.
        """
        expect_json(dict.fromkeys(self.extras), "snapshot.extras")
        for name, extra in self.extras.items():
            expect_json(extra, f"snapshot.extras.{printable(name):.60}")
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Capabilities:
        """Return what `to_dict` was called on; a document of an older schema is brought to this one.

        What an older document does not tell is not known. Without a schema version it is taken for one of this release.

        Raises:
            SnapshotError: the document has a newer release's schema version, a field of the wrong name or type, or an
                engine that has no switches here.
        """
        caps = from_plain(cls, document, version=SCHEMA_VERSION, oldest=_OLDEST_READ)
        if caps.engine not in ENGINES:
            raise SnapshotError(f"snapshot.engine: holds {caps.engine!r}, needs one of {', '.join(ENGINES)}")
        return caps

    def to_json(self) -> str:
        """Return this as JSON text, keys sorted, one field a line."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Capabilities:
        """Return what `to_json` was called on.

        Raises:
            SnapshotError: the text is no JSON, or no snapshot.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SnapshotError(f"a snapshot is a JSON document; this is none: {error}") from error
        return cls.from_dict(document)


def dialect(caps: Capabilities) -> Dialect | None:
    """Return the fp8 dialect of the visible GPUs; None where they have two, or where they are not known."""
    if caps.platform not in ("rocm", "unknown"):
        return "e4m3fn"
    if caps.devices is None:
        return None
    dialects = {dialect_of(arch) for arch in caps.archs or ()}
    return dialects.pop() if len(dialects) == 1 else None if dialects else "e4m3fn"
