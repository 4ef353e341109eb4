"""What the engines write into a page of index keys, the scale's form and whether keys are rotated: the page format.

Both change every byte and no size. They depend on the engine, its release, the GPU and partly on the model: what the
table does not say is taken as of the nearest release that was read, and named as assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from packaging.version import Version

from nsa_caps.capabilities.records import dialect
from nsa_caps.pages import PageFormat, PageFormatError
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.requirements.gpu import fp8_dialect
from nsa_caps.policy.versions import base_version

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.pages import ScaleFormat
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.rows import Row

__all__ = ["ENGINE_FORMATS", "EngineFormat", "assumed_fields", "engine_format", "page_format"]


class EngineFormat(NamedTuple):
    """What some releases of an engine write on some GPUs.

    Attributes:
        engine: the engine.
        since: the first release.
        before: the first release that is not read, or differs.
        platform: where.
        archs: what the archs begin with; empty: every one.
        scale_format: the form of the scales; None: it depends on more than is known here.
        rotated: whether keys are rotated (Hadamard) before they are quantised; None: it depends on the model, or on a
            kernel that may or may not be there.
        source: where that was read.
    """

    engine: str
    since: str
    before: str
    platform: str
    archs: str
    scale_format: ScaleFormat | None
    rotated: bool | None
    source: str


_FUSED = "fused_store_index_cache.cuh (fp32)"
_HIP = "indexer_k_quant_and_cache(scale_fmt='ue8m0') and act_quant(round_scale)"
_VLLM = "indexer_k_quant_and_cache(scale_fmt='ue8m0') of models/deepseek_v32; no rotation there"

ENGINE_FORMATS: tuple[EngineFormat, ...] = (
    EngineFormat("sglang", "0.5.12", "0.5.15", "cuda", "", "fp32", True, f"{_FUSED}; rotate_activation, always"),
    # use_dsa_indexer_fusion leaves the rotation out, for models with an interleaved rope (GLM-5) and not V3.2.
    EngineFormat("sglang", "0.5.15", "0.5.24", "cuda", "", "fp32", None, f"{_FUSED}; use_dsa_indexer_fusion"),
    # aiter's fused writer, where the installed aiter has it, leaves the rotation out on gfx950.
    EngineFormat("sglang", "0.5.18", "0.5.24", "rocm", "gfx950", "ue8m0", None, f"{_HIP}; use_aiter_fused_fp8_writer"),
    EngineFormat("sglang", "0.5.12", "0.5.24", "rocm", "", "ue8m0", True, f"{_HIP}; rotate_activation"),
    EngineFormat("vllm", "0.33.0", "0.34", "cuda", "sm_10", "ue8m0_packed", False, "mqa_logits_use_mx_scales()"),
    EngineFormat("vllm", "0.30.0", "0.31", "cuda", "", "ue8m0", False, _VLLM),
    EngineFormat("vllm", "0.33.0", "0.34", "cuda", "", "ue8m0", False, _VLLM),
    EngineFormat("vllm", "0.30.0", "0.31", "rocm", "", "ue8m0", False, _VLLM),
    EngineFormat("vllm", "0.33.0", "0.34", "rocm", "", "ue8m0", False, _VLLM),
)
"""Read in the wheels of SGLang 0.5.12 to 0.5.15, 0.5.17, 0.5.21 and 0.5.23, and of vLLM 0.30.0 and 0.33.0."""


def engine_format(caps: Capabilities) -> tuple[EngineFormat | None, bool]:
    """Return what the engine writes on this machine, and whether its release is one that was read.

    An engine that is not in the table, such as one's own, has none.
    """
    release = base_version(caps.engine_release)
    fitting = [entry for entry in ENGINE_FORMATS if entry.engine == caps.engine and _is_there(entry, caps)]
    for entry in fitting:
        if release is not None and Version(entry.since) <= release < Version(entry.before):
            return entry, True
    # The newest that was read, and of those the one for just these GPUs.
    return max(fitting, key=lambda entry: (entry.before, entry.archs), default=None), False


def _is_there(entry: EngineFormat, caps: Capabilities) -> bool:
    fits = bool(caps.archs) and all(arch.startswith(entry.archs) for arch in caps.archs or ())
    return entry.platform == caps.platform and (not entry.archs or fits)


def assumed_fields(caps: Capabilities, request: Request) -> tuple[str, ...]:
    """Return the fields of the page format that nobody told and no source shows: two sides may differ in them."""
    entry, read = engine_format(caps)
    own = caps.engine == "generic"
    scale_known = own or (read and entry is not None and entry.scale_format is not None)
    # Pooled keys go through kernels of their own, which were not read.
    rotation_known = read and entry is not None and entry.rotated is not None and request.index_kpool == 1
    known = {
        "scale_format": request.scale_format is not None or scale_known,
        "rotated": request.rotated is not None or rotation_known,
    }
    return tuple(name for name, told in known.items() if not told)


def page_format(caps: Capabilities, request: Request, row: Row) -> tuple[PageFormat | None, Reason | None]:
    """Return the bytes of one page under a row; or why there is none: two dialects, or a page that cannot exist."""
    fp8 = dialect(caps)
    if fp8 is None:
        return None, fp8_dialect(caps, request)
    entry, _ = engine_format(caps)
    scale_format = request.scale_format or (entry.scale_format if entry is not None else None) or "fp32"
    rotated = request.rotated if request.rotated is not None else bool(entry is not None and entry.rotated)
    try:
        pages = PageFormat(
            page_size=row.page_size if request.page_size is None else request.page_size,
            order=row.order,
            head_dim=request.head_dim,
            quant_block_size=request.quant_block_size,
            dialect=fp8,
            scale_format=scale_format,
            rotated=rotated,
        )
    except PageFormatError as error:
        return None, Reason(
            "page.size", "unmet", observed=str(error), required="a page format that can exist", source="the request"
        )
    return pages, None
