"""What the engines write into a page of index keys, by engine, release and GPU; and what of it is assumed."""

from __future__ import annotations

import pytest

from nsa_caps import ROWS, Capabilities, Device, Package, Request
from nsa_caps.policy.formats import assumed_fields, engine_format, page_format

FLAT = next(row for row in ROWS if row.name == "portable")
TILED = next(row for row in ROWS if row.name == "aiter-preshuffle")


def machine(engine: str, release: str | None, *archs: str, platform: str | None = None) -> Capabilities:
    """Return a machine with an engine of a release."""
    here = "cuda" if archs and archs[0].startswith("sm_") else "rocm"
    return Capabilities(
        engine=engine,
        platform=platform or here,  # type: ignore[arg-type]
        engines=() if release == "absent" else (Package(engine, "found", release),),
        devices=tuple(Device(index, arch, "here") for index, arch in enumerate(archs)),
    )


# Read in the wheels: the form of the scales, and whether keys are rotated (None: it depends on the model or a kernel).
READ = [
    ("sglang", "0.5.12", "sm_90", "fp32", True),
    ("sglang", "0.5.14", "sm_90", "fp32", True),
    ("sglang", "0.5.15", "sm_90", "fp32", None),
    ("sglang", "0.5.23", "sm_100", "fp32", None),
    ("sglang", "0.5.12", "gfx942", "ue8m0", True),
    ("sglang", "0.5.23", "gfx942", "ue8m0", True),
    ("sglang", "0.5.17", "gfx950", "ue8m0", True),
    ("sglang", "0.5.18", "gfx950", "ue8m0", None),
    ("sglang", "0.5.23", "gfx950", "ue8m0", None),
    ("vllm", "0.30.0", "sm_90", "ue8m0", False),
    ("vllm", "0.30.1", "sm_100", "ue8m0", False),
    ("vllm", "0.33.0", "sm_90", "ue8m0", False),
    ("vllm", "0.33.2", "sm_100", "ue8m0_packed", False),
    ("vllm", "0.33.0", "sm_120", "ue8m0", False),
    ("vllm", "0.30.0", "gfx942", "ue8m0", False),
    ("vllm", "0.33.0", "gfx950", "ue8m0", False),
]


@pytest.mark.parametrize(("engine", "release", "arch", "scales", "rotated"), READ)
def test_what_a_release_that_was_read_writes(
    engine: str, release: str, arch: str, scales: str, rotated: bool | None
) -> None:
    """It is in the page format, and nothing of it is assumed but a rotation that depends on more."""
    caps = machine(engine, release, arch)
    entry, read = engine_format(caps)
    assert entry is not None
    assert (entry.scale_format, entry.rotated, read) == (scales, rotated, True)
    pages, problem = page_format(caps, Request(), FLAT)
    assert pages is not None
    assert problem is None
    assert (pages.scale_format, pages.rotated) == (scales, rotated is True)
    assert assumed_fields(caps, Request()) == (("rotated",) if rotated is None else ())


@pytest.mark.parametrize(
    ("engine", "release", "arch", "scales", "rotated"),
    [
        # Before, between and after what was read, of no known release, and not installed: as the newest.
        ("sglang", "0.5.11", "sm_90", "fp32", None),
        ("sglang", "0.5.24", "sm_90", "fp32", None),
        ("sglang", None, "gfx942", "ue8m0", True),
        ("sglang", "absent", "gfx950", "ue8m0", None),
        ("vllm", "0.29.0", "gfx942", "ue8m0", False),
        ("vllm", "0.31.0", "sm_90", "ue8m0", False),
        ("vllm", "0.34.0", "sm_100", "ue8m0_packed", False),
        ("vllm", "main", "sm_100", "ue8m0_packed", False),
    ],
)
def test_another_release_is_assumed_to_write_as_the_newest_that_was_read(
    engine: str, release: str | None, arch: str, scales: str, rotated: bool | None
) -> None:
    """Both fields are named as assumed: two sides may differ in them."""
    caps = machine(engine, release, arch)
    entry, read = engine_format(caps)
    assert entry is not None
    assert (entry.scale_format, entry.rotated, read) == (scales, rotated, False)
    pages, _ = page_format(caps, Request(), FLAT)
    assert pages is not None
    assert (pages.scale_format, pages.rotated) == (scales, rotated is True)
    assert assumed_fields(caps, Request()) == ("scale_format", "rotated")


@pytest.mark.parametrize("archs", [("sm_100", "sm_90"), ("sm_90", "sm_100")])
def test_an_entry_for_some_gpus_needs_all_of_them(archs: tuple[str, ...]) -> None:
    """Beside an sm_90 vLLM's sm_100 is not read as the packed form, in either order."""
    entry, read = engine_format(machine("vllm", "0.33.0", *archs))
    assert entry is not None
    assert (entry.scale_format, read) == ("ue8m0", True)
    unread, _ = engine_format(machine("vllm", "0.33.0", platform="cuda"))
    assert unread is not None
    assert unread.scale_format == "ue8m0"
    other, _ = engine_format(machine("vllm", "0.33.0", platform="cuda").replace(devices=None))
    assert other is not None
    assert other.scale_format == "ue8m0"


def test_an_engine_of_your_own_writes_fp32_and_rotates_as_you_say() -> None:
    """No source shows whether it rotates; the form of the scales is this library's own."""
    caps = machine("generic", None, "sm_90")
    assert engine_format(caps) == (None, False)
    pages, _ = page_format(caps, Request(), FLAT)
    assert pages is not None
    assert (pages.scale_format, pages.rotated) == ("fp32", False)
    assert assumed_fields(caps, Request()) == ("rotated",)
    assert assumed_fields(caps, Request(rotated=False)) == ()
    # ATOM's was not read either.
    assert assumed_fields(machine("atom", "1.0", "gfx942"), Request()) == ("scale_format", "rotated")


def test_what_is_told_is_not_assumed() -> None:
    """What the request says stands, whatever the engine writes by itself."""
    caps = machine("sglang", None, "gfx942")
    asked = Request(scale_format="fp32", rotated=False)
    pages, _ = page_format(caps, asked, FLAT)
    assert pages is not None
    assert (pages.scale_format, pages.rotated) == ("fp32", False)
    assert assumed_fields(caps, asked) == ()
    assert assumed_fields(caps, Request(scale_format="fp32")) == ("rotated",)
    assert assumed_fields(caps, Request(rotated=True)) == ("scale_format",)
    turned, _ = page_format(machine("vllm", "0.33.0", "sm_90"), Request(rotated=True), FLAT)
    assert turned is not None
    assert turned.rotated


@pytest.mark.parametrize("index_kpool", [2, 4])
def test_the_rotation_of_pooled_keys_was_not_read(index_kpool: int) -> None:
    """They go through kernels of their own."""
    caps = machine("vllm", "0.33.0", "sm_90")
    assert assumed_fields(caps, Request(index_kpool=index_kpool)) == ("rotated",)
    assert assumed_fields(caps, Request(index_kpool=1)) == ()


def test_a_page_has_the_row_s_order_and_size_and_the_gpu_s_dialect() -> None:
    """The size that is asked for comes before the row's own."""
    pages, _ = page_format(machine("sglang", "0.5.23", "gfx942"), Request(), TILED)
    assert pages is not None
    assert (pages.page_size, pages.order, pages.dialect) == (64, "tiles", "e4m3fnuz")
    assert (pages.head_dim, pages.quant_block_size) == (128, 128)
    asked, _ = page_format(
        machine("sglang", "0.5.23", "gfx950"), Request(page_size=32, head_dim=64, quant_block_size=32), FLAT
    )
    assert asked is not None
    assert (asked.page_size, asked.order, asked.dialect) == (32, "flat", "e4m3fn")
    assert (asked.head_dim, asked.quant_block_size) == (64, 32)


def test_why_there_is_no_page() -> None:
    """Two dialects have none, and a page of tiles that is no multiple of 16."""
    pages, problem = page_format(machine("sglang", "0.5.23", "gfx942", "gfx950"), Request(), FLAT)
    assert pages is None
    assert problem is not None
    assert problem.code == "device.dialects"
    pages, problem = page_format(machine("sglang", "0.5.23", "gfx942"), Request(page_size=24), TILED)
    assert pages is None
    assert problem is not None
    assert (problem.code, problem.verdict, problem.source) == ("page.size", "unmet", "the request")
    assert problem.observed.startswith("page_size=24: ")
