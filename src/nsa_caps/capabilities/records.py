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
from nsa_caps.base.serial import SnapshotError, field_names, from_plain, to_plain
from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles, Ptxas  # noqa: TC001 resolved at run time
from nsa_caps.capabilities.devices import Device, Hidden
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.capabilities.kept import KeptVerdict  # noqa: TC001 as above

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

SCHEMA_VERSION = 1

Platform: TypeAlias = Literal["rocm", "cuda", "xpu", "npu", "musa", "hpu", "metax", "dcu", "cpu", "unknown"]
PLATFORMS: tuple[Platform, ...] = get_args(Platform)
PackageState: TypeAlias = Literal["found", "missing", "broken", "impostor"]


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
            the same name: the public index's `aiter` is an async-iterator library).
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


@dataclass(frozen=True, kw_only=True)
class AiterSource:
    """What the installed aiter's source shows of its gates. None: that piece was not found in a known shape.

    Attributes:
        location: the package's folder.
        logits_module: file of `deepgemm_fp8_paged_mqa_logits`, below `location`.
        logits_preshuffle: it takes `Preshuffle` and `KVBlockSize` (since fe927e8d).
        store_preshuffle: `indexer_k_quant_and_cache` takes `preshuffle` (aiter#2879).
        gather_preshuffle: `cp_gather_indexer_k_quant_cache` takes it.
        triton_comparison: how the gate compares Triton's version: as `text` (fe927e8d) or by `base_version` (914dcee3).
        gluon_triton: gluon is compiled in place from this Triton on.
        triton_gap: Triton at or above this, yet below `gluon_triton`, fails an assertion at import; `none` without one.
        aot_stops_jit: the AOT variable set to 1 turns compiling in place off also on a new Triton (914dcee3).
        aot_needs_gluon_triton: `get_cdna_version` is called always but imported only from `gluon_triton` on: below it
            the AOT path is a NameError (10c87ea1).
        arch_gate: an arch outside `gluon_archs` is an AssertionError (`assert`), or gets the plain kernel (`select`,
            04907edc).
        gluon_archs: archs that the gluon kernels accept.
        known_archs: archs in aiter's `GFX_MAP`; another one is a KeyError.
        plain_pages: page sizes that the plain Triton kernel takes: `one`, or `any` (flat; 04907edc).
        chunk_rule: how the page size must fit ChunkK = 256: it must divide it (`divides`), or divide or be a multiple
            of it (`either`, 9715eecc).
        gate_triton: `aiter/ops/triton/gluon/__init__.py` raises below this Triton (f061fba9); `none` without one.
        gate_escape: the variable that turns that error into a warning (3b2e6f48); `none` without one.
        package_imports_gluon: `import aiter` itself runs that gate.
        trimmed_by: the variables that, set to `1`, keep `import aiter` from binding what the kernels' modules take from
            it, so that those do not import (`AITER_AOT_IMPORT` since cc31a1a7, `AITER_TRITON_ONLY` since 315fb08e).
        mfma: the gluon kernels' MFMA version: `target` follows the GPU (10c87ea1); `3` or `4` is written in.
        mfma_3d: the gluon kernels, `preshuffle` and `base`, that know the three-number MFMA shape that Triton >= 3.6
            demands.
        wide_offsets: the gluon kernels whose key offsets are 64-bit: the others read pages beyond 2 GiB of cache as
            zero (aiter#4774).
        fp8_archs: archs that `utility/dtypes.py` has an fp8 type for; elsewhere keys are viewed as uint8, and the plain
            kernel's dot does not compile.
        wrapper: which kernel the logits function calls: `switch`, as the module's switch has it, or `plain` always (the
            images of SGLang v0.5.9 rewrite the branch to `if False:`).
        calls: the calls of which these facts foretell everything that the source does, on every machine: `tiles`,
            `token` and `flat`. Of another one, a statement of the source is one that no fact stands for.
        launches_short: the kernels that are launched with fewer arguments than they take (d863d2f8).
        compiled: the kernels whose bodies were seen to compile, each with an arch: `preshuffle:gfx942`; `plain:*`.
        imports: every module that `import aiter` runs is there, and none of them refuses in a way of its own.
        takes: the functions that engines call, and their keywords, as far as this aiter has them: `fp8_mqa_logits`,
            `fp8_mqa_logits(clean_logits)`.
        known_as: the release whose source this is, word for word.
        places: where facts stand: `gluon_archs=ops/triton/attention/pa_mqa_logits.py:274`.
        unaccounted: what was not understood, each with its file and line.
        gfx1250_waves: the W in the name of gfx1250's ahead-of-time preshuffle kernel: 2 (861b4c93), then 4 (3ccc08d2).
    """

    location: str
    logits_module: str | None = None
    logits_preshuffle: bool | None = None
    store_preshuffle: bool | None = None
    gather_preshuffle: bool | None = None
    triton_comparison: Literal["text", "base_version"] | None = None
    gluon_triton: str | None = None
    triton_gap: str | None = None
    aot_stops_jit: bool | None = None
    aot_needs_gluon_triton: bool | None = None
    arch_gate: Literal["assert", "select"] | None = None
    gluon_archs: tuple[str, ...] | None = None
    known_archs: tuple[str, ...] | None = None
    plain_pages: Literal["one", "any"] | None = None
    chunk_rule: Literal["divides", "either"] | None = None
    gate_triton: str | None = None
    gate_escape: str | None = None
    package_imports_gluon: bool | None = None
    trimmed_by: tuple[str, ...] | None = None
    mfma: Literal["target", "3", "4"] | None = None
    mfma_3d: tuple[str, ...] | None = None
    wide_offsets: tuple[str, ...] | None = None
    fp8_archs: tuple[str, ...] | None = None
    gfx1250_waves: int | None = None
    wrapper: Literal["switch", "plain"] | None = None
    calls: tuple[str, ...] | None = None
    launches_short: tuple[str, ...] | None = None
    compiled: tuple[str, ...] | None = None
    imports: bool | None = None
    takes: tuple[str, ...] | None = None
    known_as: str | None = None
    places: tuple[str, ...] = ()
    unaccounted: tuple[str, ...] = ()


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
    devices_unread: Literal["no-nvidia-ml-py", "nvml", "cuda-order", "wsl", "vendor"] | None = None
    rocminfo_arch: str | None = None
    torch: Package = field(default_factory=lambda: _no_packages("torch"))
    triton: Package = field(default_factory=lambda: _no_packages("triton"))
    aiter: Package = field(default_factory=lambda: _no_packages("aiter"))
    deep_gemm: Package = field(default_factory=lambda: _no_packages("deep_gemm"))
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
        """Return this as plain JSON values, by `schemas/capabilities.json`."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Capabilities:
        """Return what `to_dict` was called on.

        Raises:
            SnapshotError: the document has another schema version, a field of the wrong name or type, or an engine
                that has no switches here.
        """
        caps = from_plain(cls, document, version=SCHEMA_VERSION)
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
