"""Hypothesis strategies: what an engine may meet, from machines to page tables. Needs the extra `testing`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles
from nsa_caps.capabilities.engines import ENGINES
from nsa_caps.capabilities.records import (
    PLATFORMS,
    AiterSource,
    AotBundle,
    AotKernel,
    Capabilities,
    Device,
    Note,
    Package,
    Platform,
    Switch,
)
from nsa_caps.capabilities.switches import VARIABLES, resolve
from nsa_caps.pages import FP8_MAX, TILE, PageFormat
from nsa_caps.policy.request import Request
from nsa_caps.policy.rows import ROWS
from nsa_caps.testing.aiter_tree import GENERATIONS
from nsa_caps.testing.machines import machine
from nsa_caps.testing.paged_batch import PagedBatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypothesis.strategies import DrawFn, SearchStrategy

    from nsa_caps.pages import Order
    from nsa_caps.probes.host import Host

__all__ = ["any_capabilities", "capabilities", "environments", "hosts", "page_formats", "page_tables", "requests"]

# The first of each is the simplest, which Hypothesis draws most and shrinks to: a machine on which everything runs.
AMD_ARCHS = ("gfx942", "gfx950", "gfx1250", "gfx1151", "gfx90a", "gfx1036", "gfx1100", "gfx1200", "gfx936")
NVIDIA_ARCHS = ("sm_90", "sm_100", "sm_120", "sm_89", "sm_80", "sm_75")
TRITONS = ("3.7.0", "3.6.0", "3.5.1", "3.4.0", "3.3.1", "3.6.0.dev1", "3.5.0rc1", "3.10.0", "3.2.0", "unknown", "")
AITERS = tuple(GENERATIONS)[::-1]
WORDS = ("1", "0", "true", "yes", "off", "2", "", " ")
# Variables that do not hold a yes or no, and what somebody may write there. A name that is no row's is an error of its
# own, and third parties' code is nothing to draw.
_OTHER = {
    "NSA_CAPS_ROW": tuple(row.name for row in ROWS),
    "NSA_CAPS_ENGINE": ENGINES,
    "GPU_ARCHS": ("native", "gfx942", "gfx950", "gfx942;gfx950", "gfx942,gfx950", "GFX942", "", " "),
}
_YES_OR_NO = tuple(name for name in VARIABLES if name not in _OTHER)
_DRAWN = tuple(name for name in VARIABLES if name != "NSA_CAPS_PLUGINS")


def environments() -> SearchStrategy[dict[str, str]]:
    """Environments in which a few of the variables that a switch may come from are set, to what somebody may write."""
    settings = [st.tuples(st.just(name), st.sampled_from(_OTHER.get(name, WORDS))) for name in _DRAWN]
    asked = [st.just((name, "1")) for name in ("SGLANG_USE_AITER", "NSA_CAPS_USE_AITER")]
    return st.lists(st.one_of(*settings, *asked), max_size=3).map(dict)


def requests() -> SearchStrategy[Request]:
    """Requests of real models, and of none."""
    names = st.lists(st.sampled_from([row.name for row in ROWS]), min_size=1, unique=True).map(tuple)
    return st.builds(
        Request,
        heads=st.sampled_from((64, 64, 64, 32, 32, 16)),
        head_dim=_mostly(128, 64),
        quant_block_size=_mostly(128, 64),
        index_kpool=_mostly(1, 4),
        page_size=_mostly(None, 1, 16, 48, 64, 128, 256, 512),
        rows=st.one_of(st.none(), st.none(), st.none(), names),
    )


def _mostly(usual: Any, *others: Any) -> SearchStrategy[Any]:
    """The usual value nine times out of ten: where everything is unusual no row is ever met."""
    return st.sampled_from((*[usual] * 9 * len(others), *others))


def _deep_gemms() -> SearchStrategy[DeepGemmFiles]:
    families = st.lists(st.sampled_from(("sm90", "sm100", "sm120")), unique=True).map(tuple)
    return st.builds(
        DeepGemmFiles,
        location=st.just("/site/deep_gemm"),
        kernels=st.none() | families,
        cuda=st.sampled_from((12, 13, None)),
        lacks=st.sampled_from(((), ("apache-tvm-ffi",), None)),
        nvcc=st.sampled_from(("12.3", None)),
    )


def _toolkits() -> SearchStrategy[CudaToolkit]:
    return st.builds(
        CudaToolkit,
        home=st.sampled_from(("/usr/local/cuda", None)),
        source=st.just("drawn"),
        nvcc=st.booleans(),
        release=st.sampled_from(("11.8", "12.9", "13.0", None)),
    )


@st.composite
def capabilities(draw: DrawFn) -> Capabilities:
    """Machines whose parts go together, as probed: the GPUs are the platform's, the switches the variables'."""
    platform: Platform = draw(st.sampled_from(("rocm", "rocm", "rocm", "rocm", "cuda", *PLATFORMS)))
    archs = draw(_archs(platform))
    engine = draw(st.sampled_from(ENGINES))
    variables = draw(environments())
    triton = draw(st.sampled_from((*TRITONS, None)))
    generation = draw(st.sampled_from((*AITERS, *AITERS[:5], "missing", "impostor", "broken")))
    source = GENERATIONS.get(generation)
    switches, notes = resolve(variables, engine)
    files = draw(st.none() | _deep_gemms())
    return Capabilities(
        engine=engine,
        platform=platform,
        devices=None if archs is None else tuple(Device(index, arch, "drawn") for index, arch in enumerate(archs)),
        rocminfo_arch=archs[0] if archs and platform == "rocm" else None,
        torch=Package("torch", "missing") if platform == "unknown" else Package("torch", "found", "2.9.1"),
        triton=Package("triton", "missing") if triton is None else Package("triton", "found", triton),
        aiter=Package("aiter", "found" if source else generation),  # type: ignore[arg-type]  # the other names are states
        build=draw(st.sampled_from(("12.8", "13.0", None))) if platform == "cuda" else None,
        deep_gemm=Package("deep_gemm", "missing" if files is None else "found"),
        deep_gemm_files=files,
        flydsl=draw(st.sampled_from((Package("flydsl", "missing"), Package("flydsl", "found", "0.2.4")))),
        cuda_toolkit=draw(st.none() | _toolkits()),
        aiter_source=source,
        aot_bundle=AotBundle("/aot", draw(_kernels())) if source else AotBundle(),
        variables=variables,
        switches=switches,
        notes=notes,
    )


def any_capabilities() -> SearchStrategy[Capabilities]:
    """Capabilities whose parts need not go together, with any text: what a snapshot or a third party may hold."""
    text = st.text(max_size=20)
    maybe = st.none() | text
    packages = st.builds(Package, text, _states(), maybe, maybe, maybe, maybe)
    json = st.recursive(
        st.none() | st.booleans() | st.integers() | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=5,
    )
    archs = st.sampled_from((*AMD_ARCHS, *NVIDIA_ARCHS)) | st.text(min_size=1, max_size=9)
    switches = st.builds(Switch, text, st.none() | st.booleans() | text, maybe, maybe, text)
    names = st.sampled_from(
        ("use_aiter", "disable_preshuffle", "aiter_aot", "aiter_system_triton", "gpu_archs", "row_force")
    )
    return st.builds(
        Capabilities,
        engine=st.sampled_from(ENGINES),
        platform=st.sampled_from(PLATFORMS),
        platform_source=maybe,
        devices=st.none() | st.lists(st.builds(Device, st.integers(0, 7), archs, text), max_size=3).map(tuple),
        rocminfo_arch=st.none() | archs,
        torch=packages,
        triton=packages,
        aiter=packages,
        deep_gemm=packages,
        flydsl=packages,
        build=maybe,
        torch_triton=maybe,
        deep_gemm_files=st.none() | _deep_gemms(),
        cuda_toolkit=st.none() | _toolkits(),
        aiter_source=st.none() | _sources(),
        aot_bundle=st.builds(AotBundle, maybe, st.none() | _kernels()),
        variables=st.dictionaries(st.sampled_from(_YES_OR_NO), text, max_size=4),
        switches=st.dictionaries(names, switches, max_size=4),
        notes=st.lists(st.builds(Note, text, text, text), max_size=3).map(tuple),
        extras=st.dictionaries(text, json, max_size=3),
    )


@st.composite
def hosts(draw: DrawFn, folder: Path) -> Host:
    """Hosts laid out below `folder`, each in a folder of its own."""
    platform: Platform = draw(st.sampled_from(("rocm", "rocm", "rocm", *PLATFORMS)))
    generation = draw(st.sampled_from((*AITERS, "impostor", None)))
    described: Mapping[str, Any] = {
        "platform": platform,
        "archs": draw(_archs(platform)),
        "triton": draw(st.sampled_from((*TRITONS, None))),
        "aiter": generation,
        "bundle": draw(_kernels()) if generation in GENERATIONS else (),
        "deep_gemm": draw(st.sampled_from(("2.1.1", None))),
        "environ": draw(environments()),
    }
    return machine(Path(tempfile.mkdtemp(dir=folder)) / "machine", **described)


@st.composite
def page_formats(draw: DrawFn) -> PageFormat:
    """Page formats, one scale a token: flat and tiled, both dialects, every scale format, padded and rotated or not."""
    order: Order = draw(st.sampled_from(("flat", "tiles")))
    head_dim = draw(_mostly(128, 64, 192))
    return PageFormat(
        page_size=draw(st.integers(1, 16)) * TILE if order == "tiles" else draw(st.integers(1, 256)),
        order=order,
        head_dim=head_dim,
        quant_block_size=head_dim,
        dialect=draw(st.sampled_from(sorted(FP8_MAX))),
        scale_format=draw(st.sampled_from(("fp32", "ue8m0", "ue8m0_packed"))),
        row_stride=draw(st.sampled_from((0, head_dim + 16))),
        rotated=draw(st.booleans()),
    )


@st.composite
def page_tables(draw: DrawFn, page_size: int = 64, max_requests: int = 8, max_pages: int = 4) -> PagedBatch:
    """Batches of requests in pages that lie in any order, with their page tables; some requests may be empty.

    Args:
        draw: given by Hypothesis.
        page_size: tokens a page.
        max_requests: the largest batch.
        max_pages: the most pages that one request holds.
    """
    lengths = draw(st.lists(st.integers(0, max_pages * page_size), min_size=1, max_size=max_requests))
    needed = [-(-length // page_size) for length in lengths]
    num_pages = sum(needed) + draw(st.integers(0, 4))
    order = iter(draw(st.permutations(range(num_pages))))
    pages = tuple(tuple(next(order) for _ in range(count)) for count in needed)
    return PagedBatch(page_size, tuple(lengths), pages, num_pages)


def _archs(platform: Platform) -> SearchStrategy[tuple[str, ...] | None]:
    """GPUs that a build for this platform may meet; None: they are not known."""
    known = {"rocm": AMD_ARCHS, "cuda": NVIDIA_ARCHS}.get(platform)
    if known is None:
        return st.just(())
    alike = st.builds(lambda arch, count: (arch,) * count, st.sampled_from(known), st.integers(1, 8))
    mixed = st.lists(st.sampled_from(known), max_size=3).map(tuple)
    return st.sampled_from((*[alike] * 8, mixed, st.none())).flatmap(lambda kind: kind)


def _kernels() -> SearchStrategy[tuple[AotKernel, ...]]:
    names = st.builds(
        "paged_mqa_logits{}_{}x256x128_B{}PFW{}".format,
        st.sampled_from(("", "_preshuffle")),
        st.sampled_from((64, 32)),
        st.sampled_from((1, 64)),
        st.sampled_from((1, 2, 4)),
    )
    kernels = st.builds(AotKernel, names, st.booleans(), st.sampled_from(AMD_ARCHS))
    return st.lists(kernels, max_size=3, unique_by=lambda kernel: kernel.name).map(tuple)


def _states() -> SearchStrategy[Any]:
    return st.sampled_from(("found", "missing", "broken", "impostor"))


@st.composite
def _sources(draw: DrawFn) -> AiterSource:
    """What a source shows, with some facts of another generation and some not known."""
    first, other = draw(st.sampled_from(list(GENERATIONS.values()))), draw(st.sampled_from(list(GENERATIONS.values())))
    facts: dict[str, Any] = {}
    for name in AiterSource.__dataclass_fields__:
        facts[name] = draw(st.sampled_from((getattr(first, name), getattr(other, name), None)))
    # What was not understood is a list, and empty where all was.
    unaccounted = facts["unaccounted"] or ()
    return AiterSource(**{**facts, "location": "/site/aiter", "unaccounted": unaccounted})
