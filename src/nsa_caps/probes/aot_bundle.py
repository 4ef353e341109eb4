"""The ahead-of-time gluon kernels in aiter's bundle folder: which are whole, and for which arch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.records import AotBundle, AotKernel, Note
from nsa_caps.probes.host import UnreadableError
from nsa_caps.probes.packages import aiter_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["aot_bundle"]

# AITER_TRITON_CONFIGS_PATH of aiter/ops/triton/utils/core.py, and what pa_mqa_logits.py puts after it.
_FOLDER = "ops/triton/configs/paged_mqa_logits/aot"
# The file stem that AOTMetadataContext opens is the name of the kernel function, which the folder's name tells.
_STEMS = (
    ("paged_mqa_logits_preshuffle_varctx_", "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle_varctx"),
    ("paged_mqa_logits_preshuffle_", "_gluon_deepgemm_fp8_paged_mqa_logits_preshuffle"),
    ("paged_mqa_logits_", "_gluon_deepgemm_fp8_paged_mqa_logits"),
)


def aot_bundle(host: Host) -> Mapping[str, Any]:
    """Find what aiter's AOT loader would find; a folder alone proves nothing, so each kernel's files are looked at."""
    package = aiter_folder(host)
    if package is None:
        return {}
    notes: list[Note] = []
    location = f"{package}/{_FOLDER}"
    try:
        names = host.list_folder(location)
    except UnreadableError as error:
        notes.append(Note("aot_bundle", error.path, error.why))
        return {"aot_bundle": AotBundle(location, None), "notes": tuple(notes)}
    kernels = [_kernel(host, location, name, stem, notes) for name in names if (stem := _stem(name)) is not None]
    return {"aot_bundle": AotBundle(location, tuple(kernels)), "notes": tuple(notes)}


def _stem(name: str) -> str | None:
    return next((stem for start, stem in _STEMS if name.startswith(start)), None)


def _kernel(host: Host, location: str, name: str, stem: str, notes: list[Note]) -> AotKernel:
    import json  # noqa: PLC0415 no release ships a bundle, so that hardly any machine pays

    path = f"{location}/{name}/{stem}"
    try:
        text = host.read_text(path + ".json")
        if text is None or not host.is_file(path + ".hsaco"):
            missing = ".json" if text is None else ".hsaco"
            notes.append(Note("aot_bundle", f"{location}/{name}", f"has no {stem}{missing}"))
            return AotKernel(name, complete=False)
        arch = json.loads(text)["target"]["arch"]
    except UnreadableError as error:
        notes.append(Note("aot_bundle", error.path, error.why))
        return AotKernel(name, complete=False)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        notes.append(Note("aot_bundle", path + ".json", f"has no target.arch: {error!r}"))
        return AotKernel(name, complete=False)
    if not isinstance(arch, str):
        notes.append(Note("aot_bundle", path + ".json", f"target.arch is {arch!r}, needs text"))
        return AotKernel(name, complete=False)
    return AotKernel(name, complete=True, arch=arch)
