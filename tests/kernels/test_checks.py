"""What kernels refuse, before any launch: each message names the argument, what came and what is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from nsa_caps.kernels import reference, reference_logits
from nsa_caps.kernels.arguments import KernelArgumentError, page_view
from nsa_caps.kernels.portable import logits as portable_logits
from nsa_caps.kernels.portable import store_gather as portable
from nsa_caps.pages import PageFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

FMT = PageFormat(page_size=64)
# The portable kernels run on the GPU where there is one, and refuse the CPU's tensors then.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def _on_the_device() -> Iterator[None]:
    with torch.device(DEVICE):
        yield


def gather_call(**changes: Any) -> dict[str, Any]:
    """A gather's arguments, all right but for the changes."""
    right = {
        "cache": torch.zeros((5, 8448), dtype=torch.uint8),
        "page_table": torch.zeros((2, 3), dtype=torch.int32),
        "cu_seq_lens": torch.tensor([0, 4, 9], dtype=torch.int32),
        "total_tokens": 9,
        "fmt": FMT,
    }
    return right | changes


def store_call(**changes: Any) -> dict[str, Any]:
    """A store's arguments, all right but for the changes."""
    right = {
        "cache": torch.zeros((5, 8448), dtype=torch.uint8),
        "slots": torch.arange(9),
        "keys": torch.zeros((9, 128), dtype=torch.uint8),
        "scales": torch.ones(9),
        "fmt": FMT,
    }
    return right | changes


def quantise_call(**changes: Any) -> dict[str, Any]:
    """The arguments of a quantising store, all right but for the changes."""
    right = {
        "cache": torch.zeros((5, 8448), dtype=torch.uint8),
        "slots": torch.arange(9),
        "keys": torch.zeros((9, 128), dtype=torch.bfloat16),
        "fmt": FMT,
    }
    return right | changes


with torch.device(DEVICE):
    OUT = (torch.zeros((9, 128), dtype=torch.uint8), torch.zeros(9))
    CACHES = [
        (torch.zeros((5, 8447), dtype=torch.uint8), "uint8 [5, 8447]"),
        (torch.zeros((5, 64, 144), dtype=torch.uint8), "uint8 [5, 64, 144]"),
        (torch.zeros((320, 1, 132), dtype=torch.uint8), "uint8 [320, 1, 132]"),
        (torch.zeros((5, 8448), dtype=torch.bfloat16), "bfloat16 [5, 8448]"),
        (torch.zeros((5, 8448), dtype=torch.uint8).view(torch.float8_e4m3fnuz), "float8_e4m3fnuz [5, 8448]"),
        (torch.zeros((8448, 5), dtype=torch.uint8).t(), "strides [1, 5]"),
        (torch.zeros((5, 64, 144), dtype=torch.uint8)[:, :, :132], "strides [9216, 144, 1]"),
        (torch.zeros((5, 8450), dtype=torch.uint8)[:, :8448], "strides [8450, 1]"),
        (torch.zeros(5 * 8448 + 1, dtype=torch.uint8)[1:].view(5, 8448), "storage offset 1"),
        ([0] * 8448, "list"),
    ]
    GATHERS = [
        ({"page_table": torch.zeros((2, 3), dtype=torch.int64)}, "page_table", "int64 [2, 3]"),
        ({"page_table": torch.zeros(6, dtype=torch.int32)}, "page_table", "int32 [6]"),
        ({"page_table": torch.zeros((3, 2), dtype=torch.int32).t()}, "page_table", "strides [1, 2]"),
        ({"page_table": torch.zeros((2, 3), dtype=torch.int32, device="meta")}, "page_table", "on meta"),
        ({"cu_seq_lens": torch.zeros(2, dtype=torch.int32)}, "cu_seq_lens", "int32 [2]"),
        ({"cu_seq_lens": torch.zeros(3)}, "cu_seq_lens", "float32 [3]"),
        ({"cu_seq_lens": torch.zeros(6, dtype=torch.int32)[::2]}, "cu_seq_lens", "strides [2]"),
        ({"total_tokens": -1}, "total_tokens", "-1"),
        ({"total_tokens": 2**31 - 1}, "total_tokens", "2147483647"),
        ({"total_tokens": torch.tensor(9)}, "total_tokens", "tensor(9"),
        ({"cache": torch.zeros((0, 8448), dtype=torch.uint8)}, "total_tokens", "9 with 0 pages"),
        ({"page_table": torch.zeros((2, 0), dtype=torch.int32)}, "total_tokens", "shape [2, 0]"),
        ({"out": (OUT[0],)}, "out", "1 tensors"),
        ({"out": (OUT[0][:8], OUT[1])}, "out", "8 rows of keys and 9 scales"),
        ({"out": (OUT[0].view(torch.float8_e4m3fnuz), OUT[1])}, "out[0] (keys)", "float8_e4m3fnuz [9, 128]"),
        ({"out": (OUT[0][:, :64], OUT[1])}, "out[0] (keys)", "uint8 [9, 64]"),
        ({"out": (OUT[0], OUT[1][:, None])}, "out[1] (scales)", "float32 [9, 1]"),
        ({"fmt": PageFormat(page_size=64, quant_block_size=64, row_stride=136)}, "cache", "uint8 [5, 8448]"),
    ]
    STORES = [
        ({"slots": torch.arange(9, dtype=torch.int32)}, "slots", "int32 [9]"),
        ({"slots": torch.arange(8)}, "slots", "8 slots, 9 keys and 9 scales"),
        ({"keys": torch.zeros((9, 128), dtype=torch.bfloat16)}, "keys", "bfloat16 [9, 128]"),
        ({"keys": torch.zeros((9, 256), dtype=torch.uint8)[:, :128]}, "keys", "strides [256, 1]"),
        ({"scales": torch.ones(9, dtype=torch.float64)}, "scales", "float64 [9]"),
    ]
    OUTSIDE = [
        ({"page_table": torch.tensor([[0, 0], [5, 9]], dtype=torch.int32)}, "page_table", "page 5 at [1, 0]"),
        ({"page_table": torch.tensor([[-1, 0], [0, 0]], dtype=torch.int32)}, "page_table", "page -1 at [0, 0]"),
        ({"cu_seq_lens": torch.tensor([1, 4, 9], dtype=torch.int32)}, "cu_seq_lens", "1 as its first entry"),
        ({"cu_seq_lens": torch.tensor([0, 9, 4], dtype=torch.int32)}, "cu_seq_lens", "a length of -5 for request 1"),
        ({"cu_seq_lens": torch.tensor([0, 0, 193], dtype=torch.int32)}, "cu_seq_lens", "a length of 193 for request 1"),
    ]
    QUANTISES = [
        ({"slots": torch.arange(9)[:, None]}, "slots", "int64 [9, 1]"),
        ({"keys": torch.zeros((9, 128), dtype=torch.uint8)}, "keys", "uint8 [9, 128]"),
        ({"keys": torch.zeros((8, 128), dtype=torch.bfloat16)}, "keys", "bfloat16 [8, 128]"),
        ({"keys": torch.zeros((128, 9), dtype=torch.bfloat16).t()}, "keys", "strides [1, 9]"),
    ]


def assert_refused(call: Any, arguments: dict[str, Any], argument: str, observed: str) -> None:
    """The error carries the argument, what came and what is needed, and says all three."""
    with pytest.raises(KernelArgumentError) as caught:
        call(**arguments)
    error = caught.value
    assert error.argument == argument
    assert observed in error.observed
    assert str(error) == f"{argument}: got {error.observed}; need {error.needed}"


@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(("cache", "observed"), CACHES, ids=[text for _, text in CACHES])
def test_caches_that_do_not_fit_are_refused(kernels: ModuleType, cache: object, observed: str) -> None:
    """By every kernel that takes one, whatever its shape, dtype, strides or alignment."""
    assert_refused(kernels.gather, gather_call(cache=cache), "cache", observed)
    assert_refused(kernels.store, store_call(cache=cache), "cache", observed)
    assert_refused(kernels.quantise_and_store, quantise_call(cache=cache), "cache", observed)


@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(("changes", "argument", "observed"), GATHERS)
def test_bad_gathers_are_refused(kernels: ModuleType, changes: dict[str, Any], argument: str, observed: str) -> None:
    """One wrong argument at a time."""
    assert_refused(kernels.gather, gather_call(**changes), argument, observed)


@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(("changes", "argument", "observed"), STORES)
def test_bad_stores_are_refused(kernels: ModuleType, changes: dict[str, Any], argument: str, observed: str) -> None:
    """One wrong argument at a time."""
    assert_refused(kernels.store, store_call(**changes), argument, observed)


@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(("changes", "argument", "observed"), QUANTISES)
def test_bad_quantising_stores_are_refused(
    kernels: ModuleType, changes: dict[str, Any], argument: str, observed: str
) -> None:
    """One wrong argument at a time."""
    assert_refused(kernels.quantise_and_store, quantise_call(**changes), argument, observed)


@pytest.mark.parametrize("kernels", [reference, portable])
def test_formats_of_several_scales_a_token_are_refused(kernels: ModuleType) -> None:
    """The signature has one scale a token; a format with more is described, not run."""
    fmt = PageFormat(page_size=64, quant_block_size=64)
    cache = torch.zeros((5, fmt.page_bytes), dtype=torch.uint8)
    assert_refused(kernels.gather, gather_call(cache=cache, fmt=fmt), "fmt", "2 scales a token")
    assert_refused(kernels.store, store_call(cache=cache, fmt=fmt), "fmt", "2 scales a token")


def test_head_dims_that_triton_cannot_hold_are_refused() -> None:
    """Triton's vectors have a power of two of elements; the reference takes any."""
    fmt = PageFormat(page_size=64, head_dim=96, quant_block_size=96)
    cache = torch.zeros((5, fmt.page_bytes), dtype=torch.uint8)
    assert_refused(portable.gather, gather_call(cache=cache, fmt=fmt), "fmt", "a head dim of 96")
    assert reference.gather(**gather_call(cache=cache, fmt=fmt))[0].shape == (9, 96)


@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(("changes", "argument", "observed"), OUTSIDE)
def test_checked_gathers_refuse_what_lies_outside(
    kernels: ModuleType, changes: dict[str, Any], argument: str, observed: str
) -> None:
    """Pages beyond the cache and lengths beyond the table, which unchecked kernels would follow."""
    assert_refused(kernels.gather, gather_call(**changes) | {"checked": True}, argument, observed)


@pytest.mark.parametrize("kernels", [reference, portable])
def test_checked_gathers_take_unused_entries_of_any_value(kernels: ModuleType) -> None:
    """Page table entries beyond a request's length are padding: engines leave anything there."""
    table = torch.tensor([[4, -1, 7], [0, 99, -5]], dtype=torch.int32)
    lengths = torch.tensor([0, 64, 69], dtype=torch.int32)
    kernels.gather(**gather_call(page_table=table, cu_seq_lens=lengths), checked=True)


@pytest.mark.parametrize("kernels", [reference, portable])
def test_checked_stores_refuse_slots_beyond_the_cache(kernels: ModuleType) -> None:
    """5 pages of 64 have 320 slots; negative ones are skipped and no error."""
    slots = torch.tensor([-1, 319, 320])
    arguments = store_call(slots=slots, keys=torch.zeros((3, 128), dtype=torch.uint8), scales=torch.ones(3))
    assert_refused(kernels.store, arguments | {"checked": True}, "slots", "slot 320 for token 2")
    quantised = quantise_call(slots=slots, keys=torch.zeros((3, 128), dtype=torch.bfloat16))
    assert_refused(kernels.quantise_and_store, quantised | {"checked": True}, "slots", "slot 320 for token 2")
    arguments["slots"][2] = 0
    kernels.store(**arguments, checked=True)


@pytest.mark.parametrize("shape", [(5, 8448), (5, 64, 132), (5, 64, 1, 132)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float8_e4m3fn])
def test_every_shape_of_the_field_is_viewed_in_place(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The view is of the engine's own memory, page by page."""
    memory = torch.arange(5 * 8448).to(torch.uint8)
    pages = page_view(memory.view(shape).view(dtype), FMT)
    assert pages.dtype == torch.uint8
    assert pages.shape == (5, 8448)
    assert pages.data_ptr() == memory.data_ptr()
    assert torch.equal(pages.flatten(), memory)


@pytest.mark.parametrize("shape", [(7, 132), (7, 1, 132), (7, 1, 1, 132)])
def test_pages_of_one_token_are_viewed_in_every_shape(shape: tuple[int, ...]) -> None:
    """The row is the page."""
    assert page_view(torch.zeros(shape, dtype=torch.uint8), PageFormat(page_size=1)).shape == (7, 132)


def test_pages_cut_out_of_larger_ones_keep_their_distance() -> None:
    """A cache shared with other layers has its pages apart; each is contiguous, which is all that is needed."""
    shared = torch.zeros((5, 3, 64, 132), dtype=torch.uint8)
    pages = page_view(shared[:, 1], FMT)
    assert pages.shape == (5, 8448)
    assert pages.stride() == (3 * 8448, 1)


def test_padded_rows_are_viewed_as_pages_of_144_bytes_a_token() -> None:
    """ROCm/ATOM's cache, whose rows are rounded up to 16 bytes."""
    fmt = PageFormat(page_size=16, row_stride=144)
    assert page_view(torch.zeros((3, 16, 144), dtype=torch.uint8), fmt).shape == (3, 16 * 144)


@pytest.mark.parametrize("kernels", [reference, portable])
def test_nothing_to_do_is_no_error(kernels: ModuleType) -> None:
    """No tokens, no requests, no pages."""
    nothing = torch.zeros((0, 8448), dtype=torch.uint8)
    bounds = torch.zeros(1, dtype=torch.int32)
    table = torch.zeros((0, 3), dtype=torch.int32)
    keys, scales = kernels.gather(nothing, table, bounds, total_tokens=0, fmt=FMT, checked=True)
    assert (tuple(keys.shape), tuple(scales.shape)) == ((0, 128), (0,))
    none = torch.zeros(0, dtype=torch.int64)
    kernels.store(nothing, none, torch.zeros((0, 128), dtype=torch.uint8), torch.zeros(0), fmt=FMT, checked=True)
    kernels.quantise_and_store(nothing, none, torch.zeros((0, 128), dtype=torch.bfloat16), fmt=FMT, checked=True)


# --- What is defined for all rows alike


def logits_call(**changes: Any) -> tuple[Any, ...]:
    """The arguments of logits, all right but for the changes."""
    right = {
        "q": torch.zeros((2, 1, 32, 128)).to(torch.float8_e4m3fn),
        "cache": torch.zeros((5, 8448), dtype=torch.uint8),
        "weights": torch.zeros((2, 32)),
        "context_lens": torch.tensor([4, 70], dtype=torch.int32),
        "page_table": torch.tensor([[0, -1], [1, 2]], dtype=torch.int32),
        "max_model_len": 128,
    }
    return tuple((right | changes).values())


@pytest.mark.parametrize(
    ("name", "value", "observed"),
    [
        ("q", None, "NoneType"),
        ("weights", [1.0], "list"),
        ("context_lens", None, "NoneType"),
        ("page_table", "table", "str"),
        ("max_model_len", 2**33, "8589934592"),
        ("max_model_len", True, "True"),
    ],
)
@pytest.mark.parametrize("kernels", [reference_logits, portable_logits], ids=["reference", "portable"])
def test_what_is_no_argument_of_logits_is_named(kernels: ModuleType, name: str, value: object, observed: str) -> None:
    """Whatever comes in place of a tensor or a number is told by its argument's own name."""
    with pytest.raises(KernelArgumentError, match=f"{name}: got .*{observed}") as raised:
        kernels.logits(*logits_call(**{name: value}), fmt=FMT)
    assert raised.value.argument == name


@pytest.mark.parametrize("kernels", [reference_logits, portable_logits], ids=["reference", "portable"])
@pytest.mark.parametrize("step", [0, 100])
def test_rows_of_logits_that_overlap_are_refused(kernels: ModuleType, step: int) -> None:
    """Of rows that share memory whichever is written last would stand in both."""
    out = torch.as_strided(torch.zeros(400), (2, 128), (step, 1))
    with pytest.raises(KernelArgumentError, match=f"out: got rows {step} apart"):
        kernels.logits(*logits_call(), fmt=FMT, out=out)


@pytest.mark.parametrize("kernels", [reference, portable])
def test_pages_that_overlap_are_not_written(kernels: ModuleType) -> None:
    """A cache whose pages share memory can be read, not stored into."""
    cache = torch.zeros((1, 8448), dtype=torch.uint8).expand(5, 8448)
    kernels.gather(**gather_call(cache=cache))
    with pytest.raises(KernelArgumentError, match="cache: got pages 0 bytes apart"):
        kernels.store(**store_call(cache=cache))
    with pytest.raises(KernelArgumentError, match="cache: got pages 0 bytes apart"):
        kernels.quantise_and_store(**quantise_call(cache=cache))


@pytest.mark.skipif(DEVICE != "cpu", reason="on a GPU it would have to be waited for")
def test_on_a_cpu_what_lies_beyond_the_cache_is_refused_unasked() -> None:
    """A page or slot that does not exist is foreign memory: where nothing has to be waited for, it is told.

    By both kernels alike, and by the names of the arguments that are wrong.
    """
    for kernels in (reference, portable):
        for page in (-1, 5):
            table = torch.full((2, 3), page, dtype=torch.int32)
            with pytest.raises(KernelArgumentError, match=f"page_table: got page {page}"):
                kernels.gather(**gather_call(page_table=table))
        with pytest.raises(KernelArgumentError, match="cu_seq_lens: got 3 as its first entry"):
            kernels.gather(**gather_call(cu_seq_lens=torch.tensor([3, 4, 9], dtype=torch.int32)))
        with pytest.raises(KernelArgumentError, match="slots: got slot 320"):
            kernels.store(**store_call(slots=torch.arange(9) + 312))
    for logits in (reference_logits.logits, portable_logits.logits):
        with pytest.raises(KernelArgumentError, match="page_table: got page -1"):
            logits(*logits_call(context_lens=torch.tensor([65, 0], dtype=torch.int32)), fmt=FMT)
        assert logits(*logits_call(), fmt=FMT)[0, :4].isfinite().all()


@pytest.mark.parametrize("kernels", [reference_logits, portable_logits], ids=["reference", "portable"])
def test_an_idle_rank_and_a_cache_without_pages(kernels: ModuleType) -> None:
    """No requests give no rows; before there are pages, or columns of a table, every row is -inf."""
    none = {"q": 0, "weights": 0, "context_lens": 0, "page_table": 0}
    empty = dict(zip(none, (value[:0] for value in (logits_call()[index] for index in (0, 2, 3, 4))), strict=True))
    assert kernels.logits(*logits_call(**empty), fmt=FMT).shape == (0, 128)
    for changes in (
        {"cache": torch.zeros((0, 8448), dtype=torch.uint8)},
        {"page_table": torch.zeros((2, 0), dtype=torch.int32)},
    ):
        assert (kernels.logits(*logits_call(**changes), fmt=FMT) == -torch.inf).all()


def test_the_reference_compiles_to_one_graph() -> None:
    """`torch.compile` takes gather, store and logits whole: no part of them falls back to Python."""
    logits = torch.compile(reference_logits.logits, backend="eager", fullgraph=True)
    assert torch.equal(logits(*logits_call(), fmt=FMT), reference_logits.logits(*logits_call(), fmt=FMT))
    gather = torch.compile(reference.gather, backend="eager", fullgraph=True)
    assert torch.equal(gather(**gather_call())[1], reference.gather(**gather_call())[1])


def test_tensors_of_inference_mode_are_taken() -> None:
    """A cache made under `torch.inference_mode` can be stored into outside of it, or is refused by name."""
    with torch.inference_mode():
        cache = torch.zeros((5, 8448), dtype=torch.uint8)
    for kernels in (reference, portable):
        kernels.store(**store_call(cache=cache))


def as_sparse(cache: torch.Tensor) -> torch.Tensor:
    """Return a tensor in coordinates."""
    return cache.to_sparse()


def as_nested(cache: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose rows may be of unlike lengths."""
    return torch.nested.nested_tensor([cache[0], cache[1]])


def as_meta(cache: torch.Tensor) -> torch.Tensor:
    """Return a tensor that has a shape and no numbers."""
    return cache.to("meta")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("argument", ["cache", "page_table", "cu_seq_lens"])
@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(
    ("change", "words"), [(as_sparse, "a sparse tensor"), (as_nested, "a nested tensor"), (as_meta, "on meta")]
)
def test_what_has_no_numbers_to_read_is_refused(
    kernels: ModuleType, argument: str, change: Callable[[torch.Tensor], torch.Tensor], words: str
) -> None:
    """Sparse, nested and meta tensors are refused by name, in every row alike."""
    right = gather_call()
    with pytest.raises(KernelArgumentError, match=f"^{argument}: got .*{words}"):
        kernels.gather(**right | {argument: change(right[argument])})


@pytest.mark.parametrize("kernels", [reference, portable])
@pytest.mark.parametrize(("out", "words"), [(5, "int"), ([1, 2, 3], "3 tensors"), ((1, 2), "int")])
def test_outputs_of_another_kind_are_refused(kernels: ModuleType, out: object, words: str) -> None:
    """What is no pair of tensors is named, whatever it is."""
    with pytest.raises(KernelArgumentError, match=rf"^out\S*( \(keys\))?: got {words}"):
        kernels.gather(**gather_call(out=out))
