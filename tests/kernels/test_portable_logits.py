"""The Triton logits against their definition, in the interpreter or on the GPU, and compiled for every target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from nsa_caps.archs import ARCHS
from nsa_caps.kernels import reference_logits
from nsa_caps.kernels.arguments import KernelArgumentError
from nsa_caps.kernels.portable.logits import logits
from nsa_caps.kernels.portable.tuning import Tuning, has_fp8_dot
from nsa_caps.pages import Order, PageFormat
from tests.kernels.logits_cases import Case, assert_scores, make_case
from tests.kernels.targets import MARKED_TARGETS

if TYPE_CHECKING:
    from nsa_caps.archs import Dialect

PAGES: list[tuple[int, Order]] = [
    *((size, "flat") for size in (1, 16, 48, 64, 128)),
    *((size, "tiles") for size in (16, 48, 64, 128)),
]
FORMATS = [
    fmt
    for page_size, order in PAGES
    for fmt in (
        PageFormat(page_size=page_size, order=order),
        PageFormat(page_size=page_size, order=order, dialect="e4m3fnuz", scale_format="ue8m0_packed", row_stride=144),
    )
]
# Tokens beyond a context are garbage, which the kernel multiplies and throws away; numpy, in the interpreter, objects.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
# fp8 matrix units keep some 13 bits of a sum; the interpreter and fp16 products keep fp32.
ON_GPU = 2e-3


def scores(case: Case, tuning: Tuning | None = None) -> torch.Tensor:
    """The portable kernel's, into a poisoned output."""
    return logits(*case.arguments, fmt=case.fmt, out=case.poisoned(), tuning=tuning)


def check(case: Case, tuning: Tuning | None = None) -> None:
    """The portable kernel's scores, within what the device's products keep."""
    found = scores(case, tuning)
    assert_scores(case, found, ON_GPU if found.is_cuda else 1e-5)


@pytest.mark.parametrize("next_n", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.page_size}-{fmt.order}-{fmt.dialect}")
def test_every_format_is_read_as_defined(fmt: PageFormat, next_n: int, device: str) -> None:
    """Ragged contexts, one query and several, and pages that the last token does not fill."""
    check(make_case(fmt, [70, 0, 1, 150, 128], 150, next_n=next_n, device=device))


def test_a_packed_exponent_of_0_is_a_subnormal_scale(device: str) -> None:
    """2**-127, which shifting the exponent into place would make 0."""
    fmt = PageFormat(page_size=16, scale_format="ue8m0_packed")
    case = make_case(fmt, [16], 16, device=device)
    case.arguments[1][:, fmt.scale_offset(0) :] = 0
    expected = reference_logits.logits(*case.arguments, fmt=fmt)
    found = scores(case)
    assert (expected != 0).any()
    assert bool(((found - expected).abs() <= ON_GPU * expected.abs().max()).all())


@pytest.mark.parametrize("fp8_dot", [True, False], ids=["fp8", "fp16"])
@pytest.mark.parametrize("fmt", FORMATS[6:8], ids=lambda fmt: fmt.dialect)
def test_keys_converted_to_fp16_score_the_same(fmt: PageFormat, device: str, fp8_dot: bool) -> None:
    """What GPUs without an fp8 matrix product do: fp16 holds every fp8 number of either dialect."""
    case = make_case(fmt, [70, 33], 80, device=device)
    assert_scores(case, scores(case, Tuning(programs=8, fp8_dot=fp8_dot)))


@pytest.mark.parametrize("fmt", FORMATS[6:8], ids=lambda fmt: fmt.dialect)
def test_a_key_with_a_nan_has_no_score(fmt: PageFormat, device: str) -> None:
    """The codes of NaN stay NaN where keys are converted to fp16, as in the reference; other keys score as they do."""
    case = make_case(fmt, [70], 80, device=device)
    cache, table = case.arguments[1], case.arguments[4]
    page = int(table[0, 0])
    cache[page, : fmt.head_dim if fmt.order == "flat" else 16] = 0x80 if fmt.dialect == "e4m3fnuz" else 0xFF
    found = scores(case, Tuning(programs=8, fp8_dot=False))
    expected = reference_logits.logits(*case.arguments, fmt=fmt)
    assert torch.equal(found.isnan(), expected.isnan())
    assert int(found.isnan().sum()) == 1


@pytest.mark.parametrize("dialect", ["e4m3fn", "e4m3fnuz"])
def test_every_code_but_nan_converts_exactly(dialect: Dialect, device: str) -> None:
    """Each code alone in a key, the query being 1: the score is its value, or 0 if that is negative."""
    fmt = PageFormat(page_size=16, dialect=dialect)
    case = make_case(fmt, [256], 256, heads=1, device=device)
    q, cache, weights, lengths, table, width = case.arguments
    codes = torch.arange(256, dtype=torch.uint8)
    nan = codes.view(torch.float8_e4m3fn if dialect == "e4m3fn" else torch.float8_e4m3fnuz).float().isnan()
    codes[nan] = 0
    pages = table[0].cpu().long()
    for token in range(256):
        place = [fmt.key_offset(token % 16, dim) for dim in range(128)]
        cache[pages[token // 16], place] = torch.tensor([int(codes[token])] + [0] * 127, dtype=torch.uint8).to(device)
    q.fill_(1.0)
    weights.fill_(1.0)
    expected = reference_logits.logits(q, cache, weights, lengths, table, width, fmt=fmt)
    tuning = Tuning(programs=4, fp8_dot=False)
    found = logits(q, cache, weights, lengths, table, width, fmt=fmt, tuning=tuning)
    assert len(set(expected[0].tolist())) > 100
    assert torch.equal(found, expected)


@pytest.mark.parametrize("heads", [1, 24, 32, 64])
@pytest.mark.parametrize("next_n", [1, 2, 3, 5])
def test_heads_and_queries_of_any_number(heads: int, next_n: int, device: str) -> None:
    """Five queries of 64 heads take a second pass over the pages."""
    check(make_case(PageFormat(page_size=64), [100, 3], 128, heads=heads, next_n=next_n, device=device))


@pytest.mark.parametrize("programs", [1, 5, 64, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 7))])
@pytest.mark.parametrize("lengths", [[640] * 3, [640, 600, 630], [5, 640, 64, 1], [640], [0, 0]])
def test_every_division_of_the_work_scores_every_token(lengths: list[int], programs: int, device: str) -> None:
    """Even lengths are divided alike, uneven ones by cost; more programs than steps leave some idle."""
    case = make_case(PageFormat(page_size=64), lengths, 640, heads=1, device=device)
    check(case, Tuning(programs=programs, fp8_dot=False, least=1))


def test_a_width_beyond_the_page_table_is_filled(device: str) -> None:
    """Far beyond it, and in rows that lie apart."""
    case = make_case(PageFormat(page_size=16), [32, 5], 32, device=device)
    buffer = torch.full((2, 5007), torch.nan, device=device)
    logits(*case.arguments[:5], 5003, fmt=case.fmt, out=buffer[:, :5003])
    assert_scores(case, buffer[:, :32], ON_GPU)
    assert (buffer[:, 32:5003] == -torch.inf).all()
    assert buffer[:, 5003:].isnan().all()


def test_pages_that_lie_apart_are_found(device: str) -> None:
    """A layer's slice of a cache of several layers."""
    case = make_case(PageFormat(page_size=64), [100, 3], 128, device=device)
    q, cache, weights, lengths, table, width = case.arguments
    layers = torch.zeros(cache.shape[0], 2, cache.shape[1], dtype=torch.uint8, device=device)
    layers[:, 1] = cache
    found = logits(q, layers[:, 1], weights, lengths, table, width, fmt=case.fmt)
    assert_scores(case, found, ON_GPU)


@pytest.mark.parametrize("next_n", [1, 2])
@pytest.mark.parametrize(
    "fmt", [PageFormat(page_size=64), PageFormat(page_size=64, order="tiles")], ids=lambda f: f.order
)
def test_the_top_tokens_are_the_reference_s(fmt: PageFormat, next_n: int, device: str) -> None:
    """The top 256 of 600 tokens, whose scores are whole numbers, exact in every kernel: equal up to ties."""
    case = make_case(fmt, [600, 411], 600, heads=64, next_n=next_n, device=device)
    q, cache, weights, lengths, table, width = case.arguments
    whole = torch.randint(-3, 4, q.shape, device=device).to(q.dtype)
    rounded = weights.round()
    arguments = (whole, cache, rounded, lengths, table, width)
    key_bytes = fmt.page_size * fmt.head_dim
    codes = torch.randint(-3, 4, (cache.shape[0], key_bytes), device=device).to(q.dtype).view(torch.uint8)
    cache[:, :key_bytes] = codes
    expected = reference_logits.logits(*arguments, fmt=fmt)
    found = logits(*arguments, fmt=fmt)
    assert torch.equal(found.topk(256).values, expected.topk(256).values)


def test_an_empty_batch_or_cache_or_width_launches_nothing(device: str) -> None:
    """There may be no page to point at."""
    fmt = PageFormat(page_size=64)
    q, cache, weights, lengths, table, _ = make_case(fmt, [10], 64, device=device).arguments
    assert logits(q[:0], cache, weights[:0], lengths[:0], table[:0], 64, fmt=fmt).shape == (0, 64)
    assert logits(q, cache, weights, lengths, table, 0, fmt=fmt).shape == (1, 0)
    assert (logits(q, cache[:0], weights, lengths, table, 64, fmt=fmt) == -torch.inf).all()


def test_a_head_dim_that_triton_has_no_product_for_is_refused(device: str) -> None:
    """Vectors are powers of two, and products take 16 at least."""
    fmt = PageFormat(page_size=16, head_dim=96, quant_block_size=96)
    case = make_case(fmt, [10], 16, device=device)
    with pytest.raises(KernelArgumentError, match="head dim of 96"):
        logits(*case.arguments, fmt=fmt)


@pytest.mark.parametrize("target", MARKED_TARGETS)
def test_every_variant_compiles(target: str) -> None:
    """For GPUs that are not here; and the table of fp8 products says what this Triton makes of them."""
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).parents[2] / "benchmarks" / "logits_targets.py"
    done = subprocess.run(
        [sys.executable, str(script), target], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    plain = [line for line in lines if not line["variant"].startswith("fp8")]
    assert len(plain) >= 9
    assert [line for line in plain if line["error"]] == []
    multiplied = {line["variant"].removeprefix("fp8 ") for line in lines if line["fp8"]}
    assert multiplied == ({ARCHS[target].dialect} if ARCHS[target].fp8_product else set())


def test_fp8_products_begin_with_a_triton_version() -> None:
    """A pre-release counts as its release, and an unknown GPU has none."""
    assert has_fp8_dot("sm_90", "e4m3fn", "3.8.0+git12")
    assert not has_fp8_dot("sm_90", "e4m3fn", "2.9.1")
    assert not has_fp8_dot("sm_90", "e4m3fnuz", "3.8.0")
    assert not has_fp8_dot("gfx906", "e4m3fn", "3.8.0")


def test_without_a_gpu_or_the_interpreter_the_way_out_is_told() -> None:
    """In a process of its own, since Triton reads the variable once."""
    code = (
        "import torch\n"
        "from nsa_caps.kernels.portable.logits import logits\n"
        "from nsa_caps.pages import PageFormat\n"
        "q = torch.zeros(1, 1, 16, 128).to(torch.float8_e4m3fn)\n"
        "table = torch.zeros(1, 1, dtype=torch.int32)\n"
        "cache = torch.zeros(1, 64 * 132, dtype=torch.uint8)\n"
        "logits(q, cache, torch.zeros(1, 16), table[0], table, 64, fmt=PageFormat(page_size=64))\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert "KernelArgumentError: cache: got a tensor on the CPU; need one on a GPU" in done.stderr
