"""The assemblers that Triton is told to take for NVIDIA GPUs: which file, and of which CUDA; nothing is run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.cuda import Ptxas
from nsa_caps.capabilities.records import Note
from nsa_caps.probes.host import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nsa_caps.probes.host import Host

__all__ = ["ptxas", "release_of_tool"]

# triton/knobs.py; in 3.3 triton/backends/nvidia/compiler.py, whose second variable has a dash.
_VARIABLES = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH", "TRITON_PTXAS-BLACKWELL_PATH")
# What the tools of CUDA print for --version, where it stands in the file.
_PRINTED = b"Cuda compilation tools, release "


def ptxas(host: Host) -> Mapping[str, Any]:
    """Find the assemblers that variables name."""
    notes: list[Note] = []
    return {"ptxas": tuple(_named(host, notes)), "notes": tuple(notes)}


def _named(host: Host, notes: list[Note]) -> Iterator[Ptxas]:
    for variable in _VARIABLES:
        path = host.environ.get(variable)
        if not path:
            continue
        place = host.system_path(*path.split("/"))
        try:
            yield Ptxas(variable=variable, path=path, present=host.is_file(place), release=release_of_tool(host, place))
        except UnreadableError as error:
            notes.append(Note("ptxas", error.path, error.why))
            yield Ptxas(variable=variable, path=path, present=True)


def release_of_tool(host: Host, path: str) -> str | None:
    """Return the release of CUDA that a tool such as `ptxas` or `nvcc` is of, by its file; None: it does not tell.

    Raises:
        UnreadableError: the file is there and could not be read.
    """
    (text,) = host.texts_after(path, _PRINTED)
    match = re.match(r"\d{1,4}\.\d{1,4}", text or "")
    return match[0] if match else None
