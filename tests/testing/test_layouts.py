"""What an engine's own tests take from `nsa_caps.testing`: named machines, every layout, batches, the pytest plugin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given

from nsa_caps import ROWS, PageFormat, Request, UnknownRowError, decide, probe
from nsa_caps.kernels import reference
from nsa_caps.kernels.arguments import KernelArgumentError
from nsa_caps.page_table import from_metadata, from_token_table
from nsa_caps.policy.decision import find_row
from nsa_caps.testing import (
    MACHINES,
    BatchError,
    MachineError,
    PagedBatch,
    every_layout,
    fake_aiter_kernels,
    fake_kernels,
    layout_id,
    machine,
    named_machine,
)
from nsa_caps.testing.named_machines import AMISS, named_capabilities
from nsa_caps.testing.strategies import page_formats, page_tables

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

# By the rules of the field, not by the policy: a row and a page size each.
ANSWERS = {
    "mi300x_rocm700": ("aiter-token", 1),
    "mi300x_rocm720": ("aiter-preshuffle", 64),
    "mi300x_rocm1000": ("aiter-preshuffle", 64),
    "mi355x": ("aiter-preshuffle", 64),
    "mi250x": ("portable", 64),
    "strix_halo": ("portable", 64),
    "h200": ("deepgemm", 64),
    "a100": ("portable", 64),
    "rtx_pro_6000": ("deepgemm", 64),
    "dcu": ("reference", 64),
    "cpu_only": ("reference", 64),
}


@pytest.mark.parametrize("name", MACHINES)
def test_what_each_named_machine_takes(tmp_path: Path, name: str) -> None:
    """Each named machine takes what is known to run there, and no probe has anything to remark."""
    caps = probe(named_machine(tmp_path / "m", name))
    decision = decide(caps)
    assert (decision.chosen, decision.verdict(str(decision.chosen)).page_size) == ANSWERS[name]
    assert caps.notes == ()


@pytest.mark.parametrize(
    ("name", "chosen", "code", "row"),
    [
        ("h200_no_deep_gemm", "portable", "package.missing", "deepgemm"),
        ("h200_no_nvml", "reference", "device.unknown", "deepgemm"),
        ("mi300x_wrong_aiter", "portable", "package.impostor", "aiter-preshuffle"),
        ("mi300x_igpu", None, "device.dialects", "portable"),
    ],
)
def test_machines_with_something_amiss(name: str, chosen: str | None, code: str, row: str) -> None:
    """Each shows what it is named after."""
    assert name in AMISS
    decision = decide(named_capabilities(name))
    assert decision.chosen == chosen
    assert code in [reason.code for reason in decision.verdict(row).reasons]


def test_a_named_machine_with_a_change(tmp_path: Path) -> None:
    """Arguments stand for the machine's own; variables are added to its own."""
    host = named_machine(tmp_path / "m", "mi300x_rocm700", triton="3.6.0", environ={"GPU_ARCHS": "gfx942"})
    assert dict(host.environ) == {"SGLANG_USE_AITER": "1", "GPU_ARCHS": "gfx942"}
    assert decide(probe(host)).chosen == "aiter-preshuffle"


def test_a_machine_that_there_is_none_of(tmp_path: Path) -> None:
    """A name that is not in the table is refused with those that are."""
    with pytest.raises(MachineError, match="no machine is named 'mi999'; there are mi300x_rocm700, "):
        named_machine(tmp_path / "m", "mi999")


# --- Every layout


def test_every_row_is_there_in_every_dialect_that_it_has() -> None:
    """Each row is there; in both dialects, but DeepGEMM's and the plain kernel's, which run on no gfx94x."""
    found = {(layout.row, layout.format.dialect) for layout in every_layout()}
    assert {row for row, _ in found} == {row.name for row in ROWS}
    for row in ("aiter-preshuffle", "aiter-token", "portable", "reference"):
        assert {(row, "e4m3fn"), (row, "e4m3fnuz")} <= found
    assert not {("deepgemm", "e4m3fnuz"), ("aiter-flat", "e4m3fnuz")} & found


def test_every_layout_is_there_once() -> None:
    """No two layouts of one row mean the same bytes, and their names tell them apart."""
    layouts = every_layout()
    assert len({layout_id(layout) for layout in layouts}) == len(layouts)
    assert {layout.page_size for layout in layouts} == {1, 16, 64, 128, 256}


def test_flags_and_options_are_the_rows_own() -> None:
    """What an engine would pass on to aiter is what the real row says."""
    for layout in every_layout():
        assert layout.preshuffle == (find_row(layout.row).order == "tiles")
        passed_on = {"Preshuffle": layout.preshuffle, "KVBlockSize": layout.page_size}
        assert dict(layout.logits_options) == (passed_on if layout.row.startswith("aiter") else {})


def test_a_stand_in_says_so() -> None:
    """The report of a layout whose kernels are not its row's own says it twice."""
    for layout in every_layout(page_sizes=[None]):
        text = " ".join(layout.explain().split())
        assert "on checked plain torch, for tests" in text
        assert "stand in for this row's own" in text


def test_layouts_of_an_engine_that_can_do_less() -> None:
    """Rows, page sizes and the model can be named; what there is none of is refused."""
    names = [layout_id(layout) for layout in every_layout(["aiter-token", "aiter-preshuffle"], page_sizes=[1, 64])]
    assert names == [
        "aiter-token-1-e4m3fnuz", "aiter-token-1-e4m3fn", "aiter-preshuffle-64-e4m3fnuz", "aiter-preshuffle-64-e4m3fn",
    ]  # fmt: skip
    (layout,) = every_layout(["deepgemm"], request=Request(heads=32, index_kpool=4))
    assert (layout.decision.request.heads, layout.model_page_size) == (32, 256)
    with pytest.raises(UnknownRowError, match="fast"):
        every_layout(["fast"])
    with pytest.raises(ValueError, match="no row of deepgemm takes a page size of \\[1\\]"):
        every_layout(["deepgemm"], page_sizes=[1])


# --- The kernels that stand in


FLAT = PageFormat(page_size=16)


def case(fmt: PageFormat) -> dict[str, Any]:
    """Return a batch of 20 and 3 tokens that is stored, and the arguments of its gather."""
    batch = PagedBatch.shuffled(fmt.page_size, [20, 3])
    keys = torch.arange(23 * 128, dtype=torch.float32).view(23, 128) % 7
    cache = torch.zeros(batch.num_pages, fmt.page_bytes, dtype=torch.uint8)
    fake_kernels.store(cache, batch.slots(), *reference.quantise(keys, fmt), fmt=fmt)
    table = from_metadata(batch, fmt.page_size)
    return {"cache": cache, "page_table": table, "cu_seq_lens": batch.cu_seq_lens(), "total_tokens": 23, "fmt": fmt}


def scored(fmt: PageFormat, **changes: Any) -> dict[str, Any]:
    """Return the arguments of the same batch's logits."""
    stored = case(fmt)
    arguments = {
        "q": torch.zeros(2, 1, 32, 128).to(torch.float8_e4m3fn),
        "cache": stored["cache"],
        "weights": torch.zeros(2, 32),
        "context_lens": torch.tensor([20, 3], dtype=torch.int32),
        "page_table": stored["page_table"],
        "max_model_len": 20,
        "fmt": fmt,
    }
    return {**arguments, **changes}


def test_what_is_beyond_a_tensor_is_refused() -> None:
    """Slots, pages and lengths beyond what there is are errors here, where a GPU would read or write something."""
    right = case(FLAT)
    fake_kernels.gather(**right)
    fake_kernels.logits(**scored(FLAT))
    table = right["page_table"].clone()
    table[0, 0] = 10**6
    for wrong, argument in (({"page_table": table}, "page_table"), ({"page_table": table[:, 1:]}, "cu_seq_lens")):
        with pytest.raises(KernelArgumentError, match=argument):
            fake_kernels.gather(**{**right, **wrong})
    for changes, argument in (
        ({"page_table": table}, "page_table"),
        ({"max_model_len": 19}, "context_lens"),
        ({"context_lens": torch.tensor([40, 3], dtype=torch.int32), "max_model_len": 40}, "context_lens"),
    ):
        with pytest.raises(KernelArgumentError, match=argument):
            fake_kernels.logits(**scored(FLAT, **changes))
    keys = torch.zeros(1, 128)
    slots = torch.tensor([10**6])
    with pytest.raises(KernelArgumentError, match="slots"):
        fake_kernels.quantise_and_store(right["cache"], slots, keys, fmt=FLAT, checked=False)
    with pytest.raises(KernelArgumentError, match="slots"):
        fake_kernels.store(right["cache"], slots, *reference.quantise(keys, FLAT), fmt=FLAT, checked=False)


def test_what_aiters_kernels_would_get_wrong_is_refused() -> None:
    """More rows than there are, pages that lie apart, and options that are not the format's are errors under aiter."""
    right = case(FLAT)
    keys, scales = fake_aiter_kernels.gather(**right)
    assert torch.equal(keys.float() * scales[:, None], fake_kernels.gather(**right)[0].float() * scales[:, None])
    fake_kernels.gather(**{**right, "total_tokens": 24})
    with pytest.raises(KernelArgumentError, match="at most cu_seq_lens"):
        fake_aiter_kernels.gather(**{**right, "total_tokens": 24})
    slots, rows = torch.tensor([0]), torch.zeros(1, 128)
    apart = torch.zeros(4, FLAT.page_bytes * 2, dtype=torch.uint8)[:, : FLAT.page_bytes]
    fake_kernels.quantise_and_store(apart, slots, rows, fmt=FLAT)
    fake_aiter_kernels.quantise_and_store(apart.contiguous(), slots, rows, fmt=FLAT)
    with pytest.raises(KernelArgumentError, match="pages that lie apart"):
        fake_aiter_kernels.quantise_and_store(apart, slots, rows, fmt=FLAT)
    fake_aiter_kernels.logits(**scored(FLAT), Preshuffle=False, KVBlockSize=16)
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"Preshuffle": True, "KVBlockSize": 16},
        {"Preshuffle": False, "KVBlockSize": 64},
    )
    for options in wrong:
        with pytest.raises(KernelArgumentError, match="options"):
            fake_aiter_kernels.logits(**scored(FLAT), **options)


# --- Batches


@given(batch=page_tables(page_size=16))
def test_the_tables_of_a_batch_agree(batch: PagedBatch) -> None:
    """Pages times their size are the slots, tokens of a page follow each other, and no slot is held twice."""
    tokens, pages, slots = batch.get_page_table_1(), batch.get_page_table_64(), batch.slots().tolist()
    assert len(set(slots)) == len(slots) == sum(batch.context_lens)
    assert all(0 <= slot < batch.num_pages * 16 for slot in slots)
    cut = from_token_table(tokens, 16)
    for request, length in enumerate(batch.context_lens):
        held = -(-length // 16)
        assert cut[request, :held].tolist() == pages[request, :held].tolist() == list(batch.pages[request])
        # What stands behind is no page of any cache.
        assert (pages[request, held:] > batch.num_pages).all()
    assert batch.cu_seq_lens().diff().tolist() == batch.lengths().tolist() == list(batch.context_lens)


@given(fmt=page_formats())
def test_page_formats_are_formats(fmt: PageFormat) -> None:
    """What is drawn survives its JSON form, and has one scale a token."""
    assert PageFormat.from_dict(fmt.to_dict()) == fmt
    assert fmt.scales_per_token == 1


def test_a_shuffled_batch_is_the_same_again() -> None:
    """The seed decides; pages lie in no order, in a cache that has more of them."""
    one, same, other = (PagedBatch.shuffled(64, [700, 0, 300], seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert list(one.pages[0]) != sorted(one.pages[0])
    assert one.num_pages > 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pages": ((0, 1), ())}, r"pages has \[2, 0\] pages a request, needs \[2, 1\]"),
        ({"pages": ((0, 1), (1,))}, "each at most once"),
        ({"pages": ((0, 9), (1,))}, "needs pages of 0 to 3"),
    ],
)
def test_a_batch_that_no_engine_makes(changes: dict[str, Any], message: str) -> None:
    """Pages that do not go with the lengths or the cache are refused."""
    with pytest.raises(BatchError, match=message):
        replace(PagedBatch(64, (65, 3), ((0, 1), (2,)), 4), **changes)


# --- The plugin


def test_the_plugin_in_an_engines_own_suite(pytester: pytest.Pytester) -> None:
    """The fixtures lay out machines and run a test over layouts and versions; markers say which."""
    pytester.makeconftest('pytest_plugins = ["nsa_caps.testing.plugin"]')
    pytester.makepyfile("""
        import pytest
        from nsa_caps import probe
        from nsa_caps.testing import MACHINES

        def test_machines(fake_machine):
            one, two = fake_machine("mi355x", triton="3.6.0"), fake_machine(platform="cpu")
            assert (probe(one).triton.version, probe(two).platform) == ("3.6.0", "cpu")

        def test_all(indexer_layout): ...

        @pytest.mark.nsa_layouts(rows=["deepgemm"])
        def test_one(indexer_layout):
            assert indexer_layout.row == "deepgemm"

        @pytest.fixture
        def engine(indexer_layout):
            return indexer_layout.page_size

        @pytest.mark.nsa_layouts(rows=["aiter-token"])
        def test_through_a_fixture(engine):
            assert engine == 1

        def test_matrix(nsa_matrix):
            assert probe(nsa_matrix).triton.version is not None

        @pytest.mark.nsa_matrix(archs=[["gfx942"], ["gfx950"]], triton=["3.4.0"], aiter=["a6bb4993", "04907edc"])
        def test_own_matrix(nsa_matrix):
            assert probe(nsa_matrix).archs in (("gfx942",), ("gfx950",))
    """)
    found = pytester.runpytest_inprocess("-v", "--strict-markers", "-p", "no:cacheprovider")
    found.assert_outcomes(passed=1 + len(every_layout()) + 1 + 2 + 5 * len(MACHINES) + 4)
    found.stdout.fnmatch_lines(["*test_one?deepgemm-64-e4m3fn?*", "*test_matrix?mi300x_rocm700-3.4.0?*"])


def test_the_machine_factory_needs_no_plugin(tmp_path: Path) -> None:
    """The plugin's fixtures are thin: the same is had without pytest."""
    assert probe(machine(tmp_path / "m", platform="cpu")).platform == "cpu"


def test_a_marker_with_a_typing_error_is_one_line(pytester: pytest.Pytester) -> None:
    """A wrong argument, or a row that there is none of, is a usage error that names the test and the marker."""
    pytester.makeconftest('pytest_plugins = ["nsa_caps.testing.plugin"]')
    for arguments, said in (
        ("row=['portable']", "unexpected keyword argument 'row'"),
        ("rows=['portible']", "Did you mean"),
    ):
        pytester.makepyfile(
            f"import pytest\n@pytest.mark.nsa_layouts({arguments})\ndef test_it(indexer_layout): pass\n"
        )
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
        assert result.ret != 0
        text = result.stdout.str() + result.stderr.str()
        assert "nsa_layouts: " in text
        assert "Traceback" not in text
        assert "plugin.py" not in text
        assert said in text
        assert "Traceback" not in text
