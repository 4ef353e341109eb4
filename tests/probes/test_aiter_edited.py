"""Edits of a written source: what the logits and the cache kernels are found to be after each, and what is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa_caps import Host
from nsa_caps.probes.aiter.logits import Outcome
from nsa_caps.probes.aiter.run import Event
from nsa_caps.probes.aiter.space import Space
from nsa_caps.probes.installed_aiter import aiter_source
from nsa_caps.testing import GENERATIONS, lay_out_packages, write_aiter_tree

if TYPE_CHECKING:
    from pathlib import Path

    from nsa_caps import AiterSource

LOGITS, CACHE, GATE = "ops/triton/attention/pa_mqa_logits.py", "ops/cache.py", "ops/triton/gluon/__init__.py"
TYPES, CHIP = "utility/dtypes.py", "jit/utils/chip_info.py"
KERNELS, TRITON_KERNELS = "ops/triton/gluon/pa_mqa_logits.py", "ops/triton/_triton_kernels/pa_mqa_logits.py"
RAGGED = "ops/triton/fp8_mqa_logits.py"
ENTRY = "    assert not Preshuffle or"
BUILT = '@compile_ops("module_cache")\ndef indexer_k'


def edited(site: Path, file: str, old: str, new: str) -> AiterSource:
    """Return what is read of the newest generation after an edit."""
    write_aiter_tree(site, GENERATIONS["04907edc"])
    path = site / "aiter" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    source: AiterSource = aiter_source(Host({}, (str(site),), {}, "/nowhere"))["aiter_source"]
    return source


# What holds on every machine that engines ask for.
HOLDS = (
    "heads in (64, 32)",
    "heads == 64 or heads == 32",
    "kv_cache.shape[2] == 1",
    "kv_cache.shape[3] == 132",
    "kv_cache.size(1) == KVBlockSize",
    "kv_cache.stride(0) == KVBlockSize * 132",
    "q_fp8.shape[3] == 128",
    "weights.shape[1] == heads",
    "max_model_len is max_model_len or True",
)


@pytest.mark.parametrize("what", HOLDS)
def test_what_holds_on_every_machine_changes_nothing(tmp_path: Path, what: str) -> None:
    """An assert of the shapes that engines hand, on which all facts stay."""
    source = edited(tmp_path, LOGITS, ENTRY, f"    assert {what}\n{ENTRY}")
    assert source.calls == ("tiles", "token", "flat")
    assert source.unaccounted == ()


# An edit of a file, and the line that is told of it.
TOLD: dict[str, tuple[str, str, str, str]] = {
    "a required argument": (LOGITS, "TotalCuCount=None, WavePerEU=2,", "TotalCuCount=None, WavePerEU=2, *, layout,", "the engine: line 0: TypeError: not accounted for"),
    "no function": (LOGITS, "def deepgemm_fp8_paged_mqa_logits", "deepgemm_fp8_paged_mqa_logits = 3\ndef x", ""),
    "too deep": (LOGITS, ENTRY, f"    x = {'-' * 70}1\n{ENTRY}", f"{LOGITS}: line 0: deeper than any aiter nests: not accounted for"),
    "a gate that is too deep": (GATE, "import os\n", f"import os\nx = {'-' * 70}1\n", "aiter.ops.triton.gluon: line 0: deeper than any aiter nests: not accounted for"),
    "types that are too deep": (TYPES, "import torch\n", f"import torch\nx = {'-' * 70}1\n", "aiter.utility.dtypes: line 0: deeper than any aiter nests: not accounted for"),
    "a cache that is too deep": (CACHE, "from ..jit", f"x = {'-' * 70}1\nfrom ..jit", "aiter.ops.cache: line 0: deeper than any aiter nests: not accounted for"),
    "parts of a tensor": (LOGITS, ENTRY, f"    x, y = q_fp8\n{ENTRY}", f"{LOGITS}: line 49: an assignment to parts that do not fit: not accounted for"),
    "another type": (TYPES, "float8_e4m3fnuz", "float8_e5m2", f"{TYPES}: line 0: torch.float8_e5m2 for gfx942: not accounted for"),
    "a body of its own": (CACHE, "preshuffle=False): ...", "preshuffle=False): return 1", f"{CACHE}: line 2: indexer_k_quant_and_cache has a body of its own: not accounted for"),
    "another decorator": (CACHE, BUILT, f"@other\n{BUILT}", f"{CACHE}: line 2: the decorator other: not accounted for"),
    "a harmless decorator beside it": (CACHE, BUILT, f"import functools\n{BUILT}".replace("\ndef", "\n@functools.lru_cache\ndef"), f"{CACHE}: line 3: the decorators of indexer_k_quant_and_cache: not accounted for"),
    "a class": (CACHE, "def indexer_k_quant_and_cache(k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle=False): ...", "class indexer_k_quant_and_cache: pass", f"{CACHE}: line 2: the decorators of indexer_k_quant_and_cache: not accounted for"),
    "another module": (CACHE, '"module_cache"', '"module_other"', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "a computed module": (CACHE, '"module_cache"', "module_cache", f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "two of them": (CACHE, '"module_cache"', '"module_cache", 1', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "another name": (CACHE, '"module_cache"', '"module_cache", fc_name="x"', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "a computed name": (CACHE, '"module_cache"', '"module_cache", fc_name=x', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "another keyword": (CACHE, '"module_cache"', '"module_cache", gen_func="x"', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "its own name as another keyword": (CACHE, '"module_cache"', '"module_cache", gen_func="indexer_k_quant_and_cache"', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "another keyword behind its name": (CACHE, '"module_cache"', '"module_cache", fc_name="indexer_k_quant_and_cache", gen_func=x', f"{CACHE}: line 2: indexer_k_quant_and_cache is built from another function: not accounted for"),
    "an order": (CACHE, "(k, kv_cache", "(kv_cache, k", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "a default": (CACHE, "preshuffle=False): ...", "preshuffle=True): ...", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "no default": (CACHE, "preshuffle=False): ...", "preshuffle): ...", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "a keyword alone": (CACHE, "preshuffle=False): ...", "preshuffle=False, *, x=1): ...", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "more keywords": (CACHE, "preshuffle=False): ...", "preshuffle=False, **x): ...", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "more arguments": (CACHE, "preshuffle=False): ...", "preshuffle=False, *x): ...", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "by place alone": (CACHE, "(k, kv_cache", "(k, /, kv_cache", f"{CACHE}: line 2: the parameters of indexer_k_quant_and_cache: not accounted for"),
    "no function of that name": (CACHE, "def indexer_k", "def indexer_j", f"{CACHE}: line 0: ImportError: not accounted for"),
    "the other is none": (CACHE, "def cp_gather", "def cp_gathers", f"{CACHE}: line 0: ImportError: not accounted for"),
    "it is another's": (CACHE, BUILT, f"indexer_k_quant_and_cache = 3\n{BUILT}", ""),
    "it is rebound": (CACHE, '@compile_ops("module_cache")\ndef cp_', 'indexer_k_quant_and_cache = 3\n@compile_ops("module_cache")\ndef cp_', f"{CACHE}: line 0: indexer_k_quant_and_cache is no function of the compiled module: not accounted for"),
}  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize("what", TOLD)
def test_what_an_edit_changes_is_told_at_its_line(tmp_path: Path, what: str) -> None:
    """What stands on it is not known, and the first line that is told names the edit."""
    file, old, new, told = TOLD[what]
    source = edited(tmp_path, file, old, new)
    if told:
        assert told in source.unaccounted[:2]
    if file == CACHE and told:
        assert (source.store_preshuffle, source.gather_preshuffle) == (None, None)


def test_every_cache_kernel_that_is_not_understood_is_told(tmp_path: Path) -> None:
    """Not the first alone."""
    source = edited(tmp_path, CACHE, "import compile_ops\n", "import compile_ops\nx = 1\n")
    assert source.unaccounted == ()
    path = tmp_path / "aiter" / CACHE
    path.write_text(path.read_text() + "indexer_k_quant_and_cache = cp_gather_indexer_k_quant_cache = 3\n")
    told = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"].unaccounted
    assert told == tuple(
        f"{CACHE}: line 0: {name} is no function of the compiled module: not accounted for"
        for name in ("indexer_k_quant_and_cache", "cp_gather_indexer_k_quant_cache")
    )


HARMLESS = {
    "its own name": ('"module_cache"', '"module_cache", fc_name="indexer_k_quant_and_cache"'),
    "for those who build it": ('"module_cache"', '"module_cache", develop=True'),
    "both": ('"module_cache"', '"module_cache", develop=x, fc_name="indexer_k_quant_and_cache"'),
    "types": ("preshuffle=False): ...", "preshuffle: bool = False) -> None: ..."),
    "a docstring": ("preshuffle=False): ...", "preshuffle=False): 'Store.'"),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_changes_nothing_of_a_cache_kernel(tmp_path: Path, what: str) -> None:
    """It takes tiles as before."""
    old, new = HARMLESS[what]
    source = edited(tmp_path, CACHE, old, new)
    assert source.store_preshuffle is True
    assert source.unaccounted == ()


def deep(calls: int, branches: int) -> str:
    """Return functions that call one another, each from within branches in branches."""
    text = ""
    for at in range(calls):
        text += f"def f{at}(x):\n"
        text += "".join(f"{'    ' * depth}if x:\n" for depth in range(1, branches))
        text += f"{'    ' * branches}f{at + 1}(x)\n"
    return f"{text}def f{calls}(x): pass\nf0(1)\n"


@pytest.mark.parametrize("file", [LOGITS, GATE, TYPES, CACHE, CHIP, "jit/utils/build_targets.py"])
def test_what_is_too_deep_for_python_is_not_known(tmp_path: Path, file: str) -> None:
    """Calls in branches that nest deeper than this interpreter's own calls may: nothing is known, and it is told."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    path = tmp_path / "aiter" / file
    path.write_text(deep(10, 80) + path.read_text())
    source = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"]
    assert any("recursion" in line for line in source.unaccounted)


def test_what_cannot_be_parsed_tells_nothing_of_what_it_takes(tmp_path: Path) -> None:
    """Of the keywords that engines hand nothing is known then."""
    name = "def indexer_qk_rope_quant_and_cache("
    assert edited(tmp_path, CACHE, name, f"{name}:").takes is None


def test_the_line_of_an_event_is_that_of_its_file() -> None:
    """Counted from 1; beyond the text, and where no line is known, it is empty."""
    found = Outcome(Space({"a": (1,)}), text=lambda name: "one\n  two\nthree" if name == "it.py" else None)
    lines = [found.line(Event("raise", 1, 1, "E", "it.py", at)) for at in range(-1, 5)]
    assert lines == ["", "", "one", "two", "three", ""]
    assert found.line(Event("raise", 1, 1, "E", "other.py", 1)) == ""


LAUNCH = "        kernel[(1,)](q_fp8, kv_cache)\n"
PLAIN = (
    "        _deepgemm_fp8_paged_mqa_logits[(1,)](\n            q_fp8, kv_cache, KVBlockSize=KVBlockSize\n        )\n"
)


def test_two_launches_are_not_one(tmp_path: Path) -> None:
    """Where one is launched after the other nothing is sure; where nothing else is launched it stays so."""
    assert edited(tmp_path, LOGITS, LAUNCH, LAUNCH * 2).calls == ()
    assert edited(tmp_path, LOGITS, PLAIN, PLAIN * 2).calls == ("tiles",)


@pytest.mark.parametrize("is_left_out", [False, True])
def test_a_plain_kernel_that_is_compiled_apart_is_not_known(tmp_path: Path, is_left_out: bool) -> None:
    """History has launched it in place; also of an excerpt without the kernel nothing else is taken."""
    compiled = "        source = ASTSource(fn=_deepgemm_fp8_paged_mqa_logits, signature={}, constexprs={})\n"
    launched = PLAIN.replace("_deepgemm_fp8_paged_mqa_logits", "triton.compile(source)")
    if is_left_out:
        lay_out_packages(tmp_path)
    edited(tmp_path, LOGITS, PLAIN, compiled + launched)
    if is_left_out:
        (tmp_path / "aiter" / TRITON_KERNELS).unlink()
    source: AiterSource = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"]
    assert source.calls == ("tiles",)


def test_a_kernel_that_was_changed_was_never_compiled(tmp_path: Path) -> None:
    """What is found of the others stays."""
    compiled = edited(tmp_path, KERNELS, "import triton", "# Triton's\nimport triton").compiled or ()
    changed = edited(tmp_path, KERNELS, "(q, KV_buffer):\n", "(q, KV_buffer):\n    q.x()\n")
    name = "_gluon_deepgemm_fp8_paged_mqa_logits"
    assert changed.unaccounted == (f"{KERNELS}: the body of {name} was never compiled",)
    assert changed.compiled == tuple(each for each in compiled if not each.startswith("base:"))


def test_of_kernels_that_cannot_be_read_it_is_not_told_that_they_were_changed(tmp_path: Path) -> None:
    """That their file cannot be read is told."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    (tmp_path / "aiter" / KERNELS).write_bytes(b"\xff")
    source: AiterSource = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"]
    assert source.compiled == ("plain:*",)
    assert not any("never compiled" in line for line in source.unaccounted)


@pytest.mark.parametrize("excerpt", [True, False])
def test_the_plain_kernel_may_be_left_out_of_an_excerpt(tmp_path: Path, excerpt: bool) -> None:
    """There it is taken to be as history had it, on any arch; elsewhere nothing is known of it."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    if excerpt:
        lay_out_packages(tmp_path)
    host = Host({}, (str(tmp_path),), {}, "/nowhere")
    whole: AiterSource = aiter_source(host)["aiter_source"]
    assert whole.compiled is not None
    assert "plain:*" in whole.compiled
    (tmp_path / "aiter" / TRITON_KERNELS).unlink()
    source: AiterSource = aiter_source(host)["aiter_source"]
    assert source.compiled is not None
    assert ("plain:*" in source.compiled) is excerpt
    assert {*source.compiled, "plain:*"} == set(whole.compiled)


def test_the_plain_kernel_is_found_without_those_of_gluon(tmp_path: Path) -> None:
    """Of each kernel for itself it is told whether it was compiled."""
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    (tmp_path / "aiter" / KERNELS).unlink()
    source: AiterSource = aiter_source(Host({}, (str(tmp_path),), {}, "/nowhere"))["aiter_source"]
    assert source.compiled == ("plain:*",)


def test_the_last_definition_of_a_function_counts(tmp_path: Path) -> None:
    """As Python binds it: the keywords of one before say nothing."""
    old = "def fp8_mqa_logits(Q, KV, kv_scales, weights, cu_starts, cu_ends, clean_logits=True): ...\n"
    new = old.replace(", clean_logits=True", "")
    takes = edited(tmp_path, RAGGED, old, new + old).takes
    assert takes is not None
    assert [name for name in takes if name.startswith("fp8")] == ["fp8_mqa_logits", "fp8_mqa_logits(clean_logits)"]
    takes = edited(tmp_path, RAGGED, old, old + new).takes
    assert takes is not None
    assert [name for name in takes if name.startswith("fp8")] == ["fp8_mqa_logits"]


def test_a_logits_function_whose_head_cannot_be_parsed_is_not_known(tmp_path: Path) -> None:
    """Whether it takes tiles is not."""
    assert edited(tmp_path, LOGITS, "Preshuffle=False, KV", "Preshuffle=, KV").logits_preshuffle is None
