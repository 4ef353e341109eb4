"""What an NVIDIA GPU's kernels rest on: DeepGEMM's files, the CUDA toolkit, the `ptxas` that Triton is told of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CudaToolkit", "DeepGemmFiles", "Ptxas"]


@dataclass(frozen=True, kw_only=True)
class DeepGemmFiles:
    """What the installed DeepGEMM's files show. None: not read.

    Attributes:
        location: the package's folder.
        kernels: the GPU families with a paged fp8 logits kernel among its headers, such as `sm90`; DeepGEMM compiles
            the headers in place, at the first call.
        cuda: the major version of CUDA whose libraries its extension asks for.
        lacks: packages that its `__init__.py` imports and that are not installed.
        nvcc: the oldest nvcc that it compiles with, by its own word.
    """

    location: str
    kernels: tuple[str, ...] | None = None
    cuda: int | None = None
    lacks: tuple[str, ...] | None = None
    nvcc: str | None = None


@dataclass(frozen=True, kw_only=True)
class CudaToolkit:
    """The CUDA toolkit that DeepGEMM's import finds: `CUDA_HOME`, `CUDA_PATH`, nvcc on `PATH`, or `/usr/local/cuda`.

    Attributes:
        home: its folder; None: there is none, and the import is an AssertionError.
        source: by what it was found, or what was looked at in vain.
        nvcc: `bin/nvcc` is there, which compiles DeepGEMM's kernels.
        release: its version, such as `12.9`; None: not read.
    """

    home: str | None
    source: str
    nvcc: bool = False
    release: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ptxas:
    """An assembler that a variable tells Triton to take in the place of its own.

    Attributes:
        variable: the variable; which GPUs it is for, each Triton decides for itself.
        path: the file that it names.
        present: the file is there; Triton takes its own where it is not.
        release: the release of CUDA that it is of, such as `12.9`; None: not read.
    """

    variable: str
    path: str
    present: bool = False
    release: str | None = None
