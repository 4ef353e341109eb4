"""SGLang's shim: its gate, its page size, its gather and store, and taking over a loaded SGLang.

The modules here are stand-ins with SGLang's public names and signatures; `tests/downstream` runs the real ones.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

import nsa_caps
from nsa_caps.engines import sglang
from nsa_caps.kernels import reference
from nsa_caps.testing import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DSA = "sglang.srt.layers.attention.dsa.utils"
NSA = "sglang.srt.layers.attention.nsa.utils"
GATE = "aiter_can_use_preshuffle_paged_mqa"
ON = {"SGLANG_USE_AITER": "1"}


def mi300x(folder: Path, **changes: Any) -> nsa_caps.Capabilities:
    """Return an MI300X with SGLang 0.5.12 and an aiter that takes all it hands, asked for, unless said otherwise."""
    described: dict[str, Any] = {
        "archs": ["gfx942"], "aiter": "a6bb4993", "triton": "3.6.0", "environ": ON, "engines": {"sglang": "0.5.12"}
    }  # fmt: skip
    return nsa_caps.probe(machine(folder, **{**described, **changes}))


def h100(folder: Path) -> nsa_caps.Capabilities:
    """Return an H100 with DeepGEMM."""
    return nsa_caps.probe(machine(folder, platform="cuda", archs=["sm_90"], deep_gemm="2.1.1"))


# --- The gate and the page size


@pytest.mark.parametrize(
    ("changes", "tiles", "page_size"),
    [
        ({}, True, 64),
        ({"triton": "3.4.0"}, False, 1),
        ({"environ": {**ON, "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "1"}}, False, 1),
        ({"environ": {}}, False, 1),
        ({"aiter": "04907edc"}, True, 64),
    ],
)
def test_the_gate_and_the_page_size_agree(tmp_path: Path, changes: dict[str, Any], tiles: bool, page_size: int) -> None:
    """Tiles go with pages of 64, everything else that SGLang runs on ROCm with pages of one token."""
    caps = mi300x(tmp_path, **changes)
    assert sglang.aiter_can_use_preshuffle_paged_mqa(caps) is tiles
    assert sglang.page_size(caps=caps) == page_size


def test_cuda_has_pages_of_64_and_no_tiles(tmp_path: Path) -> None:
    """The gate is about aiter alone; DeepGEMM's pages are flat."""
    caps = h100(tmp_path)
    assert sglang.aiter_can_use_preshuffle_paged_mqa(caps) is False
    assert sglang.page_size(caps=caps) == 64


def test_a_row_that_sglang_cannot_run_is_not_chosen(tmp_path: Path) -> None:
    """On sm_89 `portable` is met, but SGLang has no way to it: the gate says no, and the page size says why."""
    caps = nsa_caps.probe(machine(tmp_path, platform="cuda", archs=["sm_89"], deep_gemm="2.1.1"))
    assert nsa_caps.decide(caps).chosen == "portable"
    assert sglang.aiter_can_use_preshuffle_paged_mqa(caps) is False
    with pytest.raises(nsa_caps.NoUsableLayoutError) as caught:
        sglang.page_size(caps=caps)
    assert {reason.code for reason in caught.value.decision.verdict("deepgemm").reasons} == {"device.arch"}


def test_flat_pages_of_aiter_have_no_way_in(tmp_path: Path) -> None:
    """Where aiter would take flat pages of 64, SGLang's pool still asserts pages of 1."""
    caps = mi300x(tmp_path, archs=["gfx1201"], aiter="04907edc", triton="3.6.0")
    assert nsa_caps.decide(caps).chosen == "aiter-flat"
    assert sglang.indexer_layout(caps=caps).row == "aiter-token"


@pytest.mark.parametrize("asked", [16, 32, 64, 128, 256])
def test_a_page_size_of_the_user_is_honoured(tmp_path: Path, asked: int) -> None:
    """SGLang's pool takes any multiple of 16 where there are tiles."""
    assert sglang.page_size(asked, caps=mi300x(tmp_path)) == asked


def test_a_page_size_that_nothing_takes_is_refused(tmp_path: Path) -> None:
    """48 fails at the first decode: it is refused before a cache is allocated, never rounded."""
    with pytest.raises(nsa_caps.NoUsableLayoutError) as caught:
        sglang.page_size(48, caps=mi300x(tmp_path))
    assert [reason.code for reason in caught.value.decision.verdict("aiter-preshuffle").reasons] == ["page.size"]


def test_pooled_keys_make_the_page_longer(tmp_path: Path) -> None:
    """With four tokens an index key a page of 64 keys holds 256 tokens; SGLang's pools of them take no other."""
    caps = mi300x(tmp_path, aiter="861b4c93", triton="3.7.0", engines={"sglang": "0.5.22"})
    assert sglang.page_size(index_kpool=4, caps=caps) == 256
    assert sglang.indexer_layout(256, 4, caps=caps).page_size == 64
    assert sglang.page_size(256, 4, caps=caps) == 256
    with pytest.raises(nsa_caps.RequestError, match="needs a multiple of index_kpool = 4"):
        sglang.page_size(66, 4, caps=caps)
    for size in (64, 128, 512):
        with pytest.raises(nsa_caps.RequestError, match="needs 256: 64 index keys a page"):
            sglang.page_size(size, 4, caps=caps)
    with pytest.raises(nsa_caps.RequestError, match="index_kpool is 0"):
        sglang.page_size(64, 0, caps=caps)


def test_pooled_keys_of_0_5_21_have_pages_of_64_tokens(tmp_path: Path) -> None:
    """Its `dsa_backend` asserts them, and its arguments ask for them; that changed with 0.5.22."""
    caps = mi300x(tmp_path, aiter="861b4c93", triton="3.7.0", engines={"sglang": "0.5.21"})
    assert sglang.page_size(index_kpool=4, caps=caps) == 64
    assert sglang.page_size(64, 4, caps=caps) == 64
    assert sglang.page_size(caps=caps) == 64
    for size in (1, 128, 256):
        with pytest.raises(
            nsa_caps.RequestError, match=f"page_size is {size}, needs 64: with pooled keys SGLang before"
        ):
            sglang.page_size(size, 4, caps=caps)


def test_pooled_keys_do_not_fall_back_to_pages_of_one_token(tmp_path: Path) -> None:
    """SGLang's pooled indexer has no path there and raises at the first decode; here it is said at start-up."""
    caps = mi300x(tmp_path, triton="3.4.0")
    assert sglang.page_size(caps=caps) == 1
    with pytest.raises(nsa_caps.NoUsableLayoutError):
        sglang.page_size(index_kpool=4, caps=caps)


def test_this_machine_is_asked_where_none_is_given() -> None:
    """The gate has SGLang's own signature: no argument, a bool."""
    assert sglang.aiter_can_use_preshuffle_paged_mqa() in (False, True)


# --- Gather and store


def reference_layout(folder: Path, **fields: Any) -> nsa_caps.IndexerLayout:
    """Return the plain torch row on pages of any format: what runs here without a GPU."""
    layout = nsa_caps.select_indexer_layout(nsa_caps.probe(machine(folder, platform="cpu")))
    assert layout.row == "reference"
    return replace(layout, format=nsa_caps.PageFormat(**fields))


@pytest.mark.parametrize("scale_shape", [(-1,), (-1, 1)], ids=["flat scales", "column of scales"])
@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize(("page_size", "order"), [(64, "flat"), (64, "tiles"), (1, "flat"), (16, "tiles")])
def test_what_is_stored_is_gathered(
    tmp_path: Path, page_size: int, order: str, index_dtype: torch.dtype, scale_shape: tuple[int, ...]
) -> None:
    """In SGLang's shapes: uint8 keys and, for every token, the four bytes of its scale, request after request."""
    layout = reference_layout(tmp_path, page_size=page_size, order=order)
    pool = SimpleNamespace(page_size=page_size, index_page_size=page_size, index_kpool=1)
    lengths = [page_size + 3, 1, 2 * page_size]
    counts = [-(-length // page_size) for length in lengths]
    order_of_pages = torch.randperm(sum(counts)).tolist()
    table = torch.zeros((3, max(counts)), dtype=index_dtype)
    loc: list[int] = []
    for request, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        pages = [order_of_pages.pop() for _ in range(count)]
        table[request, :count] = torch.tensor(pages)
        loc += [pages[token // page_size] * page_size + token % page_size for token in range(length)]
    total = sum(lengths)
    keys, scales = reference.quantise(torch.randn(total, 128), layout.format)
    buf = torch.randint(0, 256, (sum(counts), layout.format.page_bytes), dtype=torch.uint8)

    sglang.store(pool, buf, torch.tensor(loc, dtype=index_dtype), keys, scales.view(scale_shape), layout=layout)
    found = sglang.gather(
        pool, buf, table, torch.tensor(lengths, dtype=index_dtype), total, max(lengths), layout=layout
    )

    assert [(each.dtype, tuple(each.shape)) for each in found] == [
        (torch.uint8, (total, 128)),
        (torch.uint8, (total, 4)),
    ]
    assert torch.equal(found[0], keys.view(torch.uint8))
    assert torch.equal(found[1].view(torch.float32).view(-1), scales)


@pytest.mark.parametrize(
    "pool", [SimpleNamespace(page_size=48), SimpleNamespace(page_size=384, index_page_size=48, index_kpool=4)]
)
def test_a_pool_that_no_layout_fits_is_refused(pool: SimpleNamespace) -> None:
    """Without a layout at hand the pool's page of index keys decides (0.5.23; shorter still where ranks share it)."""
    tensor = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(nsa_caps.NoUsableLayoutError) as caught:
        sglang.gather(pool, tensor, tensor, tensor, 1, 1)
    assert caught.value.decision.request.page_size == 48


# --- Taking over a loaded SGLang


class LazyModule(ModuleType):
    """A module as importers of today make them: any name may be asked for, and asking would import."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{self.__name__}.{name} was asked for, which imports")


def sglang_modules(home: str, *, answer: bool) -> dict[str, ModuleType]:
    """Return modules as a loaded SGLang has them: the gate at home, by value elsewhere, and its answer kept."""

    def gate() -> bool:
        return answer

    class GetKAndS:
        @classmethod
        def execute(cls) -> str:
            return "SGLang's gather"

    class SetKAndS:
        @classmethod
        def execute(cls) -> str:
            return "SGLang's store"

    accessor = "sglang.kernels.ops.kvcache.dsa_index_k_cache"
    GetKAndS.__module__ = SetKAndS.__module__ = accessor
    contents: dict[str, dict[str, Any]] = {
        home: {GATE: gate},
        "sglang.srt.mem_cache.memory_pool": {GATE: gate},
        "sglang.srt.layers.attention.dsa.dsa_indexer": {
            GATE: gate,
            "_use_aiter_preshuffle": answer,
            "_use_aiter": True,
        },
        accessor: {GATE: gate, "_use_aiter_preshuffle": answer, "GetKAndS": GetKAndS, "SetKAndS": SetKAndS},
        "sglang.srt.mem_cache.index_key_cache": {"GetKAndS": GetKAndS},
        "sglang.other": {GATE: lambda: "another function of that name"},
        "sglang_of_others": {GATE: gate, "_use_aiter_preshuffle": answer},
        "not_sglang": {GATE: gate, "_use_aiter_preshuffle": answer},
    }
    modules: dict[str, ModuleType] = {}
    for name, values in contents.items():
        modules[name] = LazyModule(name)
        vars(modules[name]).update(values)
    return modules


def snapshot(modules: dict[str, ModuleType]) -> dict[tuple[str, str], object]:
    """Return every name of every module, and of the classes in them."""
    names = {(module.__name__, name): value for module in modules.values() for name, value in vars(module).items()}
    executes = {
        (name, f"{owner}.execute"): vars(value)["execute"]
        for (name, owner), value in names.items()
        if isinstance(value, type)
    }
    return {**names, **executes}


@pytest.fixture(autouse=True)
def _nothing_stays_installed() -> Iterator[None]:
    yield
    sglang.uninstall({})


@pytest.mark.parametrize("home", [DSA, NSA])
def test_installing_replaces_every_copy_of_the_gate(tmp_path: Path, home: str) -> None:
    """SGLang says tiles where they are switched off here: it is corrected in its modules, and in no others."""
    layout = sglang.indexer_layout(caps=mi300x(tmp_path, environ={**ON, "NSA_CAPS_DISABLE_PRESHUFFLE": "1"}))
    assert (layout.row, layout.preshuffle) == ("aiter-token", False)
    modules = sglang_modules(home, answer=True)
    before = snapshot(modules)
    replaced = sglang.install(layout, model=sglang.IndexerModel(), modules=modules)
    changed = {key for key, value in snapshot(modules).items() if value is not before[key]}
    indexer, accessor = "sglang.srt.layers.attention.dsa.dsa_indexer", "sglang.kernels.ops.kvcache.dsa_index_k_cache"
    assert changed == {
        (home, GATE),
        ("sglang.srt.mem_cache.memory_pool", GATE),
        (indexer, GATE),
        (indexer, "_use_aiter_preshuffle"),
        (accessor, GATE),
        (accessor, "_use_aiter_preshuffle"),
    }
    assert {(each.owner.__name__, each.name) for each in replaced} == changed
    assert vars(modules[home])[GATE]() is False
    assert vars(modules[indexer])["_use_aiter_preshuffle"] is False
    assert f"{indexer}._use_aiter_preshuffle: True -> False" in map(str, replaced)
    assert f"{home}.{GATE}" in map(str, replaced)


@pytest.mark.parametrize("kernels", [False, True])
def test_uninstalling_puts_all_back(tmp_path: Path, kernels: bool) -> None:
    """Every name of every module is what it was, and a second time there is nothing to undo."""
    modules = sglang_modules(DSA, answer=True)
    before = snapshot(modules)
    replaced = sglang.install(sglang.indexer_layout(caps=h100(tmp_path)), kernels=kernels, modules=modules)
    undone = sglang.uninstall(modules)
    assert snapshot(modules) == before
    assert {(each.owner, each.name) for each in undone} == {(each.owner, each.name) for each in replaced}
    assert sglang.uninstall(modules) == ()


def test_modules_loaded_since_are_put_back_too(tmp_path: Path) -> None:
    """A module that took our gate by value, and kept its answer, follows SGLang's own again."""
    modules = sglang_modules(DSA, answer=True)
    original = vars(modules[DSA])[GATE]
    sglang.install(sglang.indexer_layout(caps=h100(tmp_path)), modules=modules)
    late = ModuleType("sglang.late")
    vars(late).update({GATE: vars(modules[DSA])[GATE], "_use_aiter_preshuffle": False})
    # What must not be imported stands in `sys.modules` as None.
    sglang.uninstall({**modules, "sglang.late": late, "sglang.barred": None})  # type: ignore[dict-item]
    assert (vars(late)[GATE], vars(late)["_use_aiter_preshuffle"]) == (original, True)


def test_a_second_installation_takes_the_place_of_the_first(tmp_path: Path) -> None:
    """SGLang's own gate is never lost behind ours."""
    modules = sglang_modules(DSA, answer=True)
    before = snapshot(modules)
    sglang.install(sglang.indexer_layout(caps=h100(tmp_path / "a")), modules=modules)
    sglang.install(sglang.indexer_layout(caps=mi300x(tmp_path / "b")), modules=modules)
    assert vars(modules[DSA])[GATE]() is True
    sglang.uninstall(modules)
    assert snapshot(modules) == before


ACCESSOR_OF_TILES = """
_use_aiter_preshuffle = aiter_can_use_preshuffle_paged_mqa()
if _use_aiter_preshuffle:
    from aiter.ops.cache import cp_gather_indexer_k_quant_cache
def gather():
    return cp_gather_indexer_k_quant_cache() if _use_aiter_preshuffle else "SGLang's own"
"""


def test_a_module_that_was_imported_without_tiles_finds_their_gather_later(tmp_path: Path) -> None:
    """Whoever kept "no tiles" imported nothing for them: later tiles are refused without aiter, or import it then."""
    modules = sglang_modules(DSA, answer=True)
    sglang.install(sglang.indexer_layout(caps=mi300x(tmp_path / "a", triton="3.4.0")), modules=modules)
    late = modules["sglang.late"] = ModuleType("sglang.late")
    vars(late)[GATE] = vars(modules[DSA])[GATE]
    exec(ACCESSOR_OF_TILES, vars(late))  # noqa: S102 a module of SGLang's, in small
    assert late.gather() == "SGLang's own"
    with pytest.raises(sglang.InstallError, match=r"gathers tiles by aiter\.ops\.cache"):
        sglang.install(sglang.indexer_layout(caps=mi300x(tmp_path / "b")), modules=modules)
    assert late.gather() == "SGLang's own"
    sglang.uninstall(modules)
    with pytest.raises(sglang.InstallError, match="aiter"):
        late.gather()


def test_gather_and_store_are_replaced_where_asked_for(tmp_path: Path) -> None:
    """Both go through the one layout then, whoever holds the classes; an argument that does not fit is refused."""
    modules = sglang_modules(DSA, answer=False)
    accessor = modules["sglang.kernels.ops.kvcache.dsa_index_k_cache"]
    own = vars(accessor)["GetKAndS"]
    assert own.execute() == "SGLang's gather"
    replaced = sglang.install(sglang.indexer_layout(caps=h100(tmp_path)), kernels=True, modules=modules)
    assert [str(each) for each in replaced if each.name == "execute"] == [
        f"{accessor.__name__}.{own.__qualname__}.execute",
        f"{accessor.__name__}.{vars(accessor)['SetKAndS'].__qualname__}.execute",
    ]
    assert own.execute.func is sglang.gather
    assert own.execute.keywords["layout"].row == "deepgemm"
    assert vars(accessor)["SetKAndS"].execute.func is sglang.store


def test_tiles_that_sglangs_own_switches_bar_are_not_installed(tmp_path: Path) -> None:
    """SGLang's store follows `SGLANG_USE_AITER` itself: tiles asked for by our variable alone would be read as flat."""
    layout = sglang.indexer_layout(caps=mi300x(tmp_path, environ={"NSA_CAPS_USE_AITER": "1"}))
    modules = sglang_modules(DSA, answer=False)
    before = snapshot(modules)
    with pytest.raises(sglang.InstallError, match="set SGLANG_USE_AITER=1"):
        sglang.install(layout, modules=modules)
    assert snapshot(modules) == before


def test_a_layout_that_sglang_cannot_run_is_not_installed(tmp_path: Path) -> None:
    """The error names the rows that it can."""
    layout = nsa_caps.select_indexer_layout(nsa_caps.probe(machine(tmp_path, platform="cpu")))
    with pytest.raises(sglang.InstallError, match="runs aiter-preshuffle, aiter-token, deepgemm"):
        sglang.install(layout, modules=sglang_modules(DSA, answer=False))


def test_a_machine_that_sglang_can_run_nothing_on_is_not_installed(tmp_path: Path) -> None:
    """The reasons come before anything of SGLang's is looked at."""
    caps = nsa_caps.probe(machine(tmp_path, platform="cuda", archs=["sm_80"], deep_gemm="2.1.1"))
    with pytest.raises(nsa_caps.NoUsableLayoutError):
        sglang.install(sglang.indexer_layout(caps=caps))


def test_where_there_is_no_sglang(tmp_path: Path) -> None:
    """The error says which SGLang has the gate; nothing is left installed."""
    with pytest.raises(sglang.InstallError, match=r"in 0\.5\.12 and later"):
        sglang.install(sglang.indexer_layout(caps=h100(tmp_path)), modules={"sglang.srt": ModuleType("sglang.srt")})
    assert sglang.uninstall({}) == ()


@pytest.mark.skipif("sglang" in sys.modules, reason="SGLang is loaded here")
def test_sglang_is_imported_where_no_modules_are_given(tmp_path: Path) -> None:
    """The module with the gate is imported if it can be, in a process of its own below."""
    with pytest.raises(sglang.InstallError, match="no SGLang with"):
        sglang.install(sglang.indexer_layout(caps=h100(tmp_path)))


@pytest.mark.parametrize("home", [DSA, NSA])
def test_a_home_on_the_import_path_is_found(
    tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Of either name, and one that fails to import another module says which."""
    folder = tmp_path / "site"
    place = folder.joinpath(*home.split("."))
    place.parent.mkdir(parents=True)
    for parent in place.parents:
        if parent != folder and folder in parent.parents:
            (parent / "__init__.py").write_text("")
    place.with_suffix(".py").write_text(f"def {GATE}():\n    return True\n")
    monkeypatch.syspath_prepend(str(folder))

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "sglang"]:
            del sys.modules[name]

    request.addfinalizer(forget)
    layout = sglang.indexer_layout(caps=h100(tmp_path / "machine"))
    assert [(each.owner.__name__, each.name) for each in sglang.install(layout)] == [(home, GATE)]
    assert sys.modules[home].aiter_can_use_preshuffle_paged_mqa() is False
    sglang.uninstall()
    assert sys.modules[home].aiter_can_use_preshuffle_paged_mqa() is True

    forget()
    place.with_suffix(".py").write_text("import a_module_that_is_missing\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing"):
        sglang.install(layout)


@pytest.mark.parametrize("installed", [False, True])
def test_a_module_that_refuses_leaves_none_replaced(tmp_path: Path, installed: bool) -> None:
    """All names are replaced or none: those before it are put back, and so is what was installed earlier."""

    class Frozen(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError("frozen")

    modules = sglang_modules(DSA, answer=True)
    frozen = Frozen("sglang.frozen")
    vars(frozen)[GATE] = vars(modules[DSA])[GATE]
    layout, original = sglang.indexer_layout(caps=h100(tmp_path)), snapshot(modules)
    if installed:
        sglang.install(layout, modules=modules)
    before = snapshot(modules)
    with pytest.raises(sglang.InstallError, match=r"sglang\.frozen does not let its .* frozen\); nothing was replaced"):
        sglang.install(layout, modules={**modules, "sglang.frozen": frozen})
    assert snapshot(modules) == before
    sglang.uninstall(modules)
    assert snapshot(modules) == original


def test_a_module_that_hides_its_names_is_looked_at_all_the_same(tmp_path: Path) -> None:
    """A lazy module's own `__dict__` and attributes are not asked: none of its code runs."""

    class Lazy(ModuleType):
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            raise RuntimeError("no dict")

        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    modules = {**sglang_modules(DSA, answer=True), "sglang.lazy": Lazy("sglang.lazy")}
    assert sglang.install(sglang.indexer_layout(caps=h100(tmp_path)), modules=modules)
    sglang.uninstall(modules)
