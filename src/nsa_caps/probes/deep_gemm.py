"""What an installed DeepGEMM was built for, and the CUDA toolkit that it will find: read as files, never imported."""

from __future__ import annotations

import ast
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles
from nsa_caps.capabilities.records import Note, Package
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.packages import deep_gemm_folder
from nsa_caps.probes.platform import platform
from nsa_caps.probes.ptxas import release_of_tool
from nsa_caps.probes.python_source import SourceError, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsa_caps.probes.host import Host

__all__ = ["bundled_deep_gemm", "deep_gemm"]

_HEADERS = "include/deep_gemm"
# sgl-deep-gemm 0.0.1 to 0.1.2, and sm_90 and sm_120 to this day, name the kernel's own header so.
_KERNEL = re.compile(r"(sm\d+)_fp8_paged_mqa_logits\.cuh")
# Since 0.1.5 sm_100's paged kernel is in the header of the other one, and its scheduler has a header of its own.
_MERGED_KERNEL, _MERGED_SCHEDULER = re.compile(r"(sm\d+)_mqa_logits\.cuh"), "{}_paged_mqa_logits.cuh"
_CUDART = b"libcudart.so."
# sgl-deep-gemm's words and vLLM's.
_NVCC = (b"NVCC version should be >= ", b"NVCC version must be at least ")
_RELEASE = re.compile(r"\d{1,4}\.\d{1,4}")
# {"cuda": {"name": "CUDA SDK", "version": "12.8.1"}, ...}
_VERSION_JSON = re.compile(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"(\d{1,4}\.\d{1,4})')


def deep_gemm(host: Host) -> Mapping[str, Any]:
    """Find what the installed DeepGEMM was built for, and on CUDA builds of torch the toolkit."""
    notes: list[Note] = []
    folder = deep_gemm_folder(host)
    found: dict[str, Any] = {"deep_gemm_files": None if folder is None else _files(host, folder, notes)}
    if folder is not None or platform(host)["platform"] == "cuda":
        found["cuda_toolkit"] = _toolkit(host, notes)
    return {**found, "notes": tuple(notes)}


def bundled_deep_gemm(host: Host) -> Mapping[str, Any]:
    """Find the DeepGEMM inside vLLM's own wheel, which vLLM takes where no other is installed."""
    try:
        folder, other = host.find_package("vllm"), host.find_package("deep_gemm")
    except UnreadableError as error:
        return {"notes": (Note("deep_gemm", error.path, error.why),)}
    place = f"{folder}/third_party/deep_gemm"
    if folder is None or other is not None or not host.is_file(f"{place}/__init__.py"):
        return {}
    notes: list[Note] = []
    package = Package("deep_gemm", "found", None, "vllm", place, place)
    files = _files(host, place, notes)
    return {
        "deep_gemm": package,
        "deep_gemm_files": files,
        "cuda_toolkit": _toolkit(host, notes),
        "notes": tuple(notes),
    }


def _files(host: Host, folder: str, notes: list[Note]) -> DeepGemmFiles:
    cuda = nvcc = None
    kernels = lacks = None
    try:
        kernels = _kernels(host, folder)
        extension = _extension(host, folder, notes)
        if extension is not None:
            libraries, *asked = host.texts_after(f"{folder}/{extension}", _CUDART, *_NVCC)
            cuda = _number(libraries)
            nvcc = next(filter(None, map(_release, asked)), None)
        lacks = tuple(_lacks(host, folder))
    except UnreadableError as error:
        notes.append(Note("deep_gemm", error.path, error.why))
    except SourceError as error:
        notes.append(Note("deep_gemm", f"{folder}/__init__.py", str(error)))
    return DeepGemmFiles(location=folder, kernels=kernels, cuda=cuda, lacks=lacks, nvcc=nvcc)


def _kernels(host: Host, folder: str) -> tuple[str, ...]:
    headers = host.list_folder(f"{folder}/{_HEADERS}/impls")
    schedulers = host.list_folder(f"{folder}/{_HEADERS}/scheduler")
    found = [match[1] for match in map(_KERNEL.fullmatch, headers) if match]
    merged = [match[1] for match in map(_MERGED_KERNEL.fullmatch, headers) if match]
    found += [family for family in merged if _MERGED_SCHEDULER.format(family) in schedulers]
    return tuple(sorted(set(found), key=lambda family: int(family[2:])))


def _extension(host: Host, folder: str, notes: list[Note]) -> str | None:
    """Return the compiled module that an import would load: vLLM's older wheels have one for each Python."""
    names = [name for name in host.list_folder(folder) if re.fullmatch(r"_C\w*\.[\w.-]*so", name)]
    fitting = [name for name in names if name[name.index(".") :] in _suffixes()]
    if names and not fitting:
        notes.append(Note("deep_gemm", f"{folder}/{names[0]}", "is of another Python than this one"))
    return fitting[0] if fitting else None


def _suffixes() -> list[str]:
    from importlib.machinery import EXTENSION_SUFFIXES  # noqa: PLC0415 few start-ups meet a DeepGEMM

    return EXTENSION_SUFFIXES


def _lacks(host: Host, folder: str) -> Iterator[str]:
    """Yield what a package imports unconditionally and that is not there: packages, and modules of its own.

    Raises:
        SourceError: it raises where it is imported, or is no Python.
    """
    module = parse(host.read_text(f"{folder}/__init__.py") or "")
    names: dict[str, None] = {}
    own: dict[str, None] = {}
    for statement in module.body:
        if isinstance(statement, ast.Raise):
            raise SourceError(f"line {statement.lineno}: its import raises")
        if isinstance(statement, ast.Import):
            names.update((alias.name.partition(".")[0], None) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            (own if statement.level else names)[statement.module.partition(".")[0]] = None
    for name in names:
        if name not in sys.stdlib_module_names and host.find_package(name) is None:
            yield name
    for name in own:
        places = (f"{folder}/{name}{suffix}" for suffix in (".py", *_suffixes()))
        if not host.is_folder(f"{folder}/{name}") and not any(map(host.is_file, places)):
            yield f"deep_gemm.{name}"


def _number(text: str | None) -> int | None:
    match = re.match(r"\d{1,4}", text or "")
    return int(match[0]) if match else None


def _release(text: str | None) -> str | None:
    match = _RELEASE.match(text or "")
    return match[0] if match else None


def _toolkit(host: Host, notes: list[Note]) -> CudaToolkit:
    """Return the toolkit, looked for as DeepGEMM's `_find_cuda_home` does (the same in every release read)."""
    home, source = _home(host)
    if home is None:
        return CudaToolkit(home=None, source=source)
    place = host.system_path(*home.split("/"))
    nvcc = f"{place}/bin/nvcc"
    try:
        told = _VERSION_JSON.search(host.read_text(f"{place}/version.json") or "")
        release = told[1] if told else release_of_tool(host, nvcc)
    except UnreadableError as error:
        notes.append(Note("deep_gemm", error.path, error.why))
        release = None
    return CudaToolkit(home=home, source=source, nvcc=host.is_file(nvcc), release=release)


def _home(host: Host) -> tuple[str | None, str]:
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if host.environ.get(variable):
            return host.environ[variable], variable
    for folder in host.environ.get("PATH", "").split(os.pathsep):
        if os.path.isabs(folder) and host.is_file(host.system_path(*folder.split("/"), "nvcc")):
            return folder.rstrip("/").rpartition("/")[0] or "/", "nvcc on PATH"
    if host.exists(host.system_path("usr", "local", "cuda")):
        return "/usr/local/cuda", "/usr/local/cuda"
    return None, "no CUDA_HOME, CUDA_PATH, nvcc on PATH, /usr/local/cuda"
