"""The parsers, and what must hold of each whatever bytes it is given.

A target writes its input where the parser reads it, below a folder of its own, and asserts. It needs no fuzzer:
`python -m fuzz` feeds it, and `tests/test_fuzz.py` replays the seeds and every input that once failed.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.serial import SnapshotError
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.capabilities.records import PLATFORMS, AotBundle, AotKernel, Capabilities, Device, Note, Package
from nsa_caps.capabilities.switches import SWITCHES, VARIABLES, resolve
from nsa_caps.policy.decision import UnknownRowError, decide
from nsa_caps.probes.aot_bundle import aot_bundle
from nsa_caps.probes.devices import devices
from nsa_caps.probes.host import Host
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.probes.kfd import arch_of_target_version
from nsa_caps.probes.packages import packages
from nsa_caps.probes.platform import platform
from nsa_caps.testing import AOT_FOLDER, GENERATIONS, machine, write_aiter_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """One parser.

    Attributes:
        holds: asserts what must hold of an input, in a folder that belongs to it and keeps its files between calls.
        seeds: inputs to start from: what the parser meets in the field.
        share: its part of all inputs, in thousandths: few where one takes long.
    """

    holds: Callable[[bytes, Path], None]
    seeds: tuple[bytes, ...]
    share: int


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _named(notes: Sequence[Note], path: Path) -> bool:
    return any(note.source.startswith(str(path)) for note in notes)


# --- torch/version.py and triton/__init__.py


def version_file(data: bytes, folder: Path) -> None:
    """Broken exactly where Python could not read it; a version stands in the file, or a note says there is none."""
    site = folder / "site"
    for name in ("torch/__init__.py", "torch/version.py", "triton/__init__.py"):
        _put(site / name, b"" if name == "torch/__init__.py" else data)
    host = Host({}, (str(site),), {}, str(folder / "root"))
    tree, found, build = _tree(data), packages(host), platform(host)
    for name, file in (("torch", "torch/version.py"), ("triton", "triton/__init__.py")):
        package: Package = found[name]
        empty = file.endswith("__init__.py") and not data.decode("utf-8-sig", "replace").strip()
        assert package.state == ("broken" if tree is None or empty else "found")
        assert (package.version is None) == _named(found["notes"], site / file)
        assert package.version is None or (tree is not None and package.version in _texts(tree))
    assert build["platform"] in PLATFORMS
    assert (build["platform"] == "unknown") == _named(build["notes"], site / "torch/version.py")
    # What is written as a literal comes back as it was.
    text = data.decode("utf-8", "replace")
    _put(site / "triton/__init__.py", f"__version__: str = {text!r}\n".encode())
    assert packages(host)["triton"].version == text


def _tree(data: bytes) -> ast.AST | None:
    """Return what Python itself makes of a source file, by another way in than the probe's."""
    try:
        text = data.decode("utf-8-sig")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree: ast.AST = compile(text, "fuzz", "exec", ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


def _texts(tree: ast.AST) -> set[object]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


# --- the names of metadata folders


class _Listing(Host):
    """A host whose one search path entry holds the names that its environment lists."""

    __slots__ = ()

    def list_folder(self, path: str, beginnings: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Return those names, whatever they begin with."""
        del beginnings
        return tuple(self.environ) if path in self.search_path else ()


def metadata(data: bytes, folder: Path) -> None:
    """A version is part of a name that was listed; a name made of a distribution and a version gives both back."""
    names = [name.decode("utf-8", "surrogateescape") for name in data.split(b"/")]
    for name in ("torch", "triton", "aiter/jit/core.py", "aiter/ops/triton", "deep_gemm"):
        _put(folder / name / "__init__.py", b"") if not name.endswith(".py") else _put(folder / name, b"")
    _put(folder / "aiter/__init__.py", b"")
    found = packages(_Listing(dict.fromkeys(names, ""), (str(folder),), {}, str(folder)))
    for package in _packages(found):
        assert package.version is None or any(package.version in name for name in names)
        assert package.distribution is None or package.distribution in _DISTRIBUTIONS
        assert (package.version is None) or package.distribution is not None
    version = re.sub(r"[^a-z0-9.+]", "", data.decode("latin-1"))
    for name in _DISTRIBUTIONS:
        listed = f"{name.replace('-', '_')}-1{version}.dist-info"
        found = packages(_Listing({listed: ""}, (str(folder),), {}, str(folder)))
        told = {package.distribution: package.version for package in _packages(found) if package.distribution}
        assert told == {name: f"1{version}"}


_DISTRIBUTIONS = ("torch", "triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm", "amd-triton",
    "triton-windows", "amd-aiter", "aiter", "sgl-deep-gemm", "deep-gemm")  # fmt: skip


def _packages(found: Mapping[str, Any]) -> Iterator[Package]:
    yield from (found[name] for name in ("torch", "triton", "aiter", "deep_gemm"))


# --- KFD's properties, and the variables that hide GPUs


def kfd(data: bytes, folder: Path) -> None:
    """GPUs, or a note of the file or variable; the visible ones are some of them, each once, counted from 0."""
    raw, _, text = data.partition(b"\n")
    nodes = folder / "sys/class/kfd/kfd/topology/nodes"
    _put(nodes / "1/properties", text)
    _put(nodes / "2/properties", b"unique_id 7\ngfx_target_version 90402\n")
    whole = devices(Host({}, (), {}, str(folder)))
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        seen = devices(Host({variable: raw.decode("utf-8", "surrogateescape")}, (), {}, str(folder)))
        if whole["devices"] is None:
            assert seen["devices"] is None
            assert _named(whole["notes"], nodes)
            continue
        assert [device.index for device in seen["devices"]] == list(range(len(seen["devices"])))
        numbers = [device.physical for device in seen["devices"]]
        assert len(numbers) == len(set(numbers))
        assert all(re.fullmatch(r"gfx[0-9]+[0-9a-f]{2,4}", device.arch) for device in whole["devices"])
        all_of_them = {(device.physical, device.arch, device.source) for device in whole["devices"]}
        assert {(device.physical, device.arch, device.source) for device in seen["devices"]} <= all_of_them
        assert raw.strip() or seen["devices"] == whole["devices"]
    told = devices(Host({"HSA_OVERRIDE_GFX_VERSION": raw.decode("utf-8", "surrogateescape")}, (), {}, str(folder)))
    assert told["devices"] is not None or any(note.source.startswith((str(nodes), "HSA_")) for note in told["notes"])
    assert len({device.arch for device in told["devices"] or ()}) < 2
    major, minor, step = (*data, 9, 4, 2)[:3]
    minor, step = minor % 16, step % 16
    assert arch_of_target_version(major * 10000 + minor * 100 + step) == f"gfx{major}{minor:x}{step:x}"


# --- the switches

# What each consumer does with a text that is set, written apart from the grammars; None: it fails.
_CONSUMERS: Mapping[str, Callable[[str], object]] = {
    "SGLANG_USE_AITER": lambda text: text.lower() in ("true", "1"),
    "VLLM_ROCM_USE_AITER": lambda text: text.lower() in ("true", "1"),
    "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": lambda text: text.lower() in ("true", "1", "yes", "y"),
    "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE": lambda text: text.lower() in ("true", "1", "yes", "y"),
    "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS": lambda text: text == "1",
    "GPU_ARCHS": lambda text: "" if text == "native" else text.rpartition(";")[2] or None,
    "NSA_CAPS_ROW": lambda text: text.strip(),
}


def switches(data: bytes, _: Path) -> None:
    """Every switch has a value of its type from the first variable that is set and read, as its consumer reads it."""
    texts = [text.decode("utf-8", "surrogateescape") for text in data[1:].split(b"\0")]
    variables = dict(zip(VARIABLES, texts, strict=False))
    engine = ENGINES[(data or b"\0")[0] % len(ENGINES)]
    resolved, notes = resolve(variables, engine)
    assert tuple(resolved) == tuple(row.name for row in SWITCHES)
    for row in SWITCHES:
        switch = resolved[row.name]
        if switch.variable is None:
            assert (switch.value, switch.raw, switch.source) == (row.default_under(engine), None, "default")
            continue
        assert switch.variable in {reading.variable for reading in row.readings(engine)}
        assert switch.raw == variables[switch.variable]
        assert switch.value is None or type(switch.value) is type(row.default)
        consumer = _CONSUMERS.get(switch.variable)
        assert consumer is None or switch.value == consumer(switch.raw)
        assert resolve({switch.variable: switch.raw}, engine)[0][row.name] == switch
    assert all(note.source in variables for note in notes)
    _lossless(Capabilities(engine=engine, variables=variables, switches=resolved, notes=notes))


# --- the json of an ahead-of-time kernel

_KERNEL = "paged_mqa_logits_preshuffle_64x256x128_B64PFW2"
_STEM = "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle"


def bundle(data: bytes, folder: Path) -> None:
    """Whole exactly where target.arch is a text; else a note names the file or the kernel's folder."""
    host = _whole_machine(folder)
    place = folder / "m/site" / AOT_FOLDER / _KERNEL
    _put(place / f"{_STEM}.json", data)
    found = aot_bundle(host)
    (kernel,) = found["aot_bundle"].kernels
    arch = _arch(data)
    assert kernel == AotKernel(_KERNEL, arch is not None, arch)
    assert (arch is None) == _named(found["notes"], place)
    text = data.decode("utf-8", "replace")
    _put(place / f"{_STEM}.json", json.dumps({"target": {"arch": text}}).encode())
    assert aot_bundle(host)["aot_bundle"].kernels == (AotKernel(_KERNEL, complete=True, arch=text),)


def _arch(data: bytes) -> str | None:
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    target = document.get("target") if isinstance(document, dict) else None
    arch = target.get("arch") if isinstance(target, dict) else None
    return arch if isinstance(arch, str) else None


# --- aiter's own source

_AITER_FILES = (
    "ops/triton/attention/pa_mqa_logits.py",
    "ops/triton/gluon/__init__.py",
    "ops/triton/gluon/pa_mqa_logits.py",
    "ops/cache.py",
    "ops/attention.py",
    "jit/utils/chip_info.py",
    "utility/dtypes.py",
)


def aiter(data: bytes, folder: Path) -> None:  # noqa: A001 no builtin is meant by it
    """A fact is of its type or unknown, and a machine with it can be decided about."""
    host = _whole_machine(folder)
    file = folder / "m/site/aiter" / _AITER_FILES[(data or b"\0")[0] % len(_AITER_FILES)]
    before = file.read_bytes()
    try:
        file.write_bytes(data[1:])
        found = aiter_source(host)
    finally:
        file.write_bytes(before)
    caps = Capabilities(platform="rocm", **found)
    _lossless(caps)
    decide(caps)


def _aiter_seeds() -> tuple[bytes, ...]:
    """Return every file that the probe reads, of sources from before and after each gate."""
    seeds = []
    for generation in ("fe927e8d", "3b2e6f48", "04907edc"):
        with tempfile.TemporaryDirectory() as folder:
            write_aiter_tree(folder, GENERATIONS[generation])
            files = [Path(folder, "aiter", name) for name in _AITER_FILES]
            seeds += [bytes([index]) + file.read_bytes() for index, file in enumerate(files) if file.exists()]
    return tuple(seeds)


def _whole_machine(folder: Path) -> Host:
    """Return an MI300X whose aiter is read without a note; laid out at the first call."""
    if not (folder / "m").exists():
        kernel = AotKernel(_KERNEL, complete=True, arch="gfx942")
        machine(folder / "m", archs=["gfx942"], aiter="04907edc", aiter_version="0.1.16", bundle=[kernel])
    return Host({}, (str(folder / "m/site"),), {}, str(folder / "m/root"))


# --- a snapshot


def snapshot(data: bytes, _: Path) -> None:
    """Capabilities that lose nothing in JSON and can be decided about and explained, or a SnapshotError.

    An input that begins with a brace is the snapshot itself; the lines of another one each change a whole one, as
    `devices.0.arch=JSON`.
    """
    text = data.decode("utf-8", "replace")
    if not text.startswith("{"):
        document = json.loads(_WHOLE)
        for line in text.splitlines():
            _edit(document, line)
        text = json.dumps(document)
    try:
        caps = Capabilities.from_json(text)
    except SnapshotError:
        return
    _lossless(caps)
    _decided(caps)


def _edit(document: Any, line: str) -> None:
    path, _, text = line.partition("=")
    *parents, last = path.split(".")
    for name in parents:
        document = _item(document, name)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(document, dict):
        document[last] = value
    elif isinstance(document, list):
        document.append(value)


def _item(document: Any, name: str) -> Any:
    if isinstance(document, dict):
        return document.get(name)
    if isinstance(document, list) and document:
        return document[len(name) % len(document)]
    return None


def _lossless(caps: Capabilities) -> None:
    # Python writes NaN and Infinity, which no other reader of JSON takes.
    json.loads(caps.to_json(), parse_constant=_refuse)
    back = Capabilities.from_json(caps.to_json())
    assert back == caps
    assert hash(back) == hash(caps)
    assert back.to_json() == caps.to_json()


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _decided(caps: Capabilities) -> None:
    try:
        decision = decide(caps)
    except UnknownRowError:
        # NSA_CAPS_ROW names no row: the one error that a machine may cause.
        return
    assert decision.chosen is None or decision.forced or decision.verdict(decision.chosen).verdict == "met"
    assert all(char.isprintable() or char == "\n" for char in decision.explain())


_VARIABLES = {"SGLANG_USE_AITER": "1", "NSA_CAPS_DISABLE_PRESHUFFLE": "0", "GPU_ARCHS": "gfx942"}
_WHOLE = Capabilities(
    platform="rocm",
    platform_source="torch/version.py: hip = 7.0",
    devices=(Device(0, "gfx942", "kfd", 0), Device(1, "gfx942", "kfd", 1)),
    rocminfo_arch="gfx942",
    torch=Package("torch", "found", "2.9.1", "torch", "/site/torch", "/site/torch/version.py"),
    triton=Package("triton", "found", "3.4.0", "triton", "/site/triton", "/site/triton/__init__.py"),
    aiter=Package("aiter", "found", "0.1.13", "amd-aiter", "/site/aiter", None),
    aiter_source=GENERATIONS["a6bb4993"],
    aot_bundle=AotBundle("/aot", (AotKernel(_KERNEL, complete=True, arch="gfx942"),)),
    variables=_VARIABLES,
    switches=resolve(_VARIABLES, "sglang")[0],
    notes=(Note("packages", "/site", "text"),),
    extras={"fabric": [1, 1.5, None, True, {"ports": "4"}]},
).to_json()

_VERSION_FILES = (
    b"__version__ = '2.9.1+rocm7.0'\ndebug = False\nhip: Optional[str] = '7.0.51831'\ncuda: Optional[str] = None\n",
    b"__version__ = version = '0.1.13'\n__version_tuple__ = version_tuple = (0, 1, 13)\n",
    b'"""isort:skip_file"""\n__version__ = "3.5.1+rocm7.2.4.gita272dfa8"\nfrom . import language\n',
    b"__version__ = f'{1}'\n",
    b"\xef\xbb\xbf__version__ = '3'\x00",
    b"if True:\n    __version__ = '3.6.0'\nhip = cuda = xpu = None\n",
)
_METADATA = (
    b"triton-3.5.1+rocm7.2.4.gita272dfa8.dist-info/pytorch_triton_rocm-3.4.0.dist-info",
    b"aiter-0.1.5-py3.12.egg-info/amd_aiter-0.1.13.dev1+g1-py3.12.egg-info/aiter.egg-info",
    b"sgl-deep-gemm-0.1.2.dist-info/deep_gemm-2.1.1+local.dist-info/Triton.Windows-3.8.0.post29.dist-info",
)
_KFD = (
    b"0,1\ncpu_cores_count 0\nsimd_count 1216\nunique_id 12345678901234567890\ngfx_target_version 90402\n",
    b"GPU-7,1\ngfx_target_version 0\n",
    b"11.0.0\ngfx_target_version 110501\nunique_id 0\n",
    b"\n",
)
_SWITCHES = (
    b"\x00" + b"\x00".join([b"1"] * len(VARIABLES)),
    b"\x01" + b"\x00".join([b"yes", b"TRUE", b"on", b" ", b"gfx942;gfx950", b"native", b"portable", b"0x1"]),
    b"\x02" + b"\x00".join([b""] * 5 + [b"false", b"-1", b"\xff", b"gfx942;"]),
)
_BUNDLES = (
    b'{"target": {"backend": "hip", "arch": "gfx942", "warp_size": 64}, "name": "k", "shared": 0}',
    b'{"target": ["hip", "gfx942"]}',
    b'[{"target": NaN}, -1e999, "\\ud800"]',
)
_SNAPSHOTS = (
    _WHOLE.encode(),
    b'triton.version="3.6.0"\ndevices.0.arch="sm_90"\nplatform="cuda"\nengine="vllm"',
    b'aiter_source.gluon_archs=["gfx942"]\naiter_source.gate_triton="3.6.0"\naiter_source.gfx1250_waves=4',
    b'switches.row.value="portable"\nswitches.row_force.value=true\naot_bundle.kernels=null\nextras.x=[[1e9]]',
    b'notes={"probe": "p", "source": "s", "text": "t"}\nvariables.GPU_ARCHS=gfx950\ndevices=null\nschema_version=2',
)

TARGETS: Mapping[str, Target] = {
    "version_file": Target(version_file, _VERSION_FILES, 200),
    "metadata": Target(metadata, _METADATA, 100),
    "kfd": Target(kfd, _KFD, 200),
    "switches": Target(switches, _SWITCHES, 150),
    "bundle": Target(bundle, _BUNDLES, 240),
    "snapshot": Target(snapshot, _SNAPSHOTS, 100),
    "aiter": Target(aiter, _aiter_seeds(), 10),
}
