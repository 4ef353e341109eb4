"""Every layout that the rows can hand out, on any machine: what an engine's wiring is run over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.cuda import CudaToolkit, DeepGemmFiles
from nsa_caps.capabilities.records import Capabilities, Device, Note, Package
from nsa_caps.capabilities.switches import resolve
from nsa_caps.layout.layout import NoUsableLayoutError, select_indexer_layout
from nsa_caps.policy.request import Request
from nsa_caps.policy.rows import ROWS
from nsa_caps.testing.aiter_tree import GENERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["PAGE_SIZES", "every_layout", "layout_id"]

PAGE_SIZES: tuple[int | None, ...] = (None, 1, 16, 64, 128, 256)
"""Page sizes that `every_layout` asks for; None is the row's own."""

_STAND_INS = {"nsa_caps.kernels.aiter": "nsa_caps.testing.fake_aiter_kernels"}
_ROWS = tuple(
    replace(
        row,
        summary=f"{row.summary}; here on checked plain torch, for tests",
        kernels=_STAND_INS.get(row.kernels, "nsa_caps.testing.fake_kernels"),
        logits_kernels=_STAND_INS.get(row.logits_kernels, "nsa_caps.testing.fake_kernels"),
    )
    for row in ROWS
)


def every_layout(
    rows: Sequence[str] | None = None,
    page_sizes: Sequence[int | None] = PAGE_SIZES,
    request: Request | None = None,
) -> tuple[IndexerLayout, ...]:
    """Return each distinct layout once, best row first, with kernels that run on any device that torch has.

    The page format, the page-table getter, the flags and the options are the row's own, decided on a machine that takes
    it; of each row both fp8 dialects are there where it has both. In the place of its kernels are those of `stand_in`,
    in plain torch, as most need a GPU: they read and write the same bytes and refuse what would be out of bounds. A
    note in `layout.decision.caps` and the row's summary say so. Such a layout cannot be pickled.

    Args:
        rows: names of the rows that the engine can run; None: all.
        page_sizes: page sizes to ask for; those that a row does not take are left out.
        request: the model; its `page_size` and `rows` are not used. None: `Request()`.

    Raises:
        UnknownRowError: a row is named that there is none of.
        ValueError: no row takes any of these page sizes.
    """
    names = tuple(row.name for row in ROWS) if rows is None else tuple(rows)
    found: dict[tuple[str, str], IndexerLayout] = {}
    for name in names:
        for caps in _machines():
            for size in page_sizes:
                asked = replace(request or Request(), rows=(name,), page_size=size)
                layout = _layout(caps, asked)
                if layout is not None:
                    found.setdefault((name, layout.fingerprint), layout)
    if not found:
        raise ValueError(f"no row of {', '.join(names)} takes a page size of {page_sizes}")
    return tuple(found.values())


def layout_id(layout: IndexerLayout) -> str:
    """Return a name for a test's parameter: `aiter-preshuffle-64-e4m3fnuz`."""
    return f"{layout.row}-{layout.page_size}-{layout.format.dialect}"


def _layout(caps: Capabilities, request: Request) -> IndexerLayout | None:
    (name,) = request.rows or ()
    text = (
        "checked kernels of plain torch stand in for this row's own; the bytes, the flags and the options are its own"
    )
    noted = caps.replace(notes=(*caps.notes, Note("nsa_caps.testing", name, text)))
    try:
        return select_indexer_layout(noted, request, _ROWS)
    except NoUsableLayoutError:
        return None


def _machines() -> Iterator[Capabilities]:
    """Yield machines of which each row is met by one, in both dialects where it has both."""
    for arch in ("gfx942", "gfx950"):
        yield _amd(arch, "3.7.0", "04907edc")
        # Too old for gluon: pages of one token.
        yield _amd(arch, "3.4.0", "a6bb4993")
    yield _amd("gfx1151", "3.7.0", "04907edc")
    yield _machine(
        platform="cuda",
        devices=(Device(0, "sm_90", "nsa_caps.testing"),),
        triton=Package("triton", "found", "3.7.0"),
        build="12.9",
        deep_gemm=Package("deep_gemm", "found"),
        deep_gemm_files=DeepGemmFiles(location="nsa_caps.testing", kernels=("sm90",), cuda=12, lacks=()),
        cuda_toolkit=CudaToolkit(home="/usr/local/cuda", source="nsa_caps.testing", nvcc=True, release="12.9"),
    )
    yield _machine(platform="cpu", devices=())


def _amd(arch: str, triton: str, generation: str) -> Capabilities:
    return _machine(
        platform="rocm",
        devices=(Device(0, arch, "nsa_caps.testing"),),
        rocminfo_arch=arch,
        triton=Package("triton", "found", triton),
        aiter=Package("aiter", "found"),
        aiter_source=GENERATIONS[generation],
        flydsl=Package("flydsl", "missing"),
    )


def _machine(**facts: Any) -> Capabilities:
    variables = {"NSA_CAPS_USE_AITER": "1"}
    switches, _ = resolve(variables, "generic")
    torch = Package("torch", "found", "2.9.1")
    facts |= {"engine": "generic", "platform_source": "nsa_caps.testing", "torch": torch}
    return Capabilities(variables=variables, switches=switches, **facts)
