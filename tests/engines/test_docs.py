"""The pages on SGLang and vLLM: their examples run, and what they promise is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nsa_caps
from nsa_caps.engines import sglang, vllm

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[str]:
    """Return a page's Python."""
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_sglangs_example_asks_this_machine_first() -> None:
    """It stops with the reasons before it looks for SGLang, on a machine that SGLang can run nothing on."""
    (example,) = examples("integrate_sglang.md")
    if nsa_caps.probe().devices:
        pytest.skip("this machine has a GPU: the example would go on to look for SGLang")
    with pytest.raises(nsa_caps.NoUsableLayoutError):
        exec(compile(example, "integrate_sglang.md", "exec"), {})  # noqa: S102 the page's own example


def test_sglangs_plugin_is_there() -> None:
    """What the page's entry point names can be called as SGLang calls it: without arguments."""
    found = re.search(r'nsa_caps = "([\w.]+):(\w+)"', (DOCS / "integrate_sglang.md").read_text(encoding="utf-8"))
    assert found is not None
    assert getattr(importlib.import_module(found[1]), found[2]) is sglang.plugin


@pytest.mark.parametrize(("platform", "sizes"), [("rocm", [64, 1]), ("cuda", [64, 1]), ("xpu", [64]), ("cpu", [64])])
def test_vllms_example_leaves_other_platforms_alone(
    platform: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ROCm and CUDA it returns what the shim says, elsewhere what vLLM says itself."""
    (example,) = examples("integrate_vllm.md")
    current = SimpleNamespace(is_rocm=lambda: platform == "rocm", is_cuda=lambda: platform == "cuda")
    namespace: dict[str, Any] = {"AttentionBackend": object, "current_platform": current}
    # The example imports the shim itself, and this machine has no answer of its own.
    monkeypatch.setattr(vllm, "get_supported_kernel_block_sizes", lambda: [64, 1])
    exec(compile(example, "integrate_vllm.md", "exec"), namespace)  # noqa: S102 the page's own example
    assert namespace["DeepseekV32IndexerBackend"].get_supported_kernel_block_sizes(kv_cache_spec=None) == sizes


def test_the_pages_name_the_rows_that_the_shims_have() -> None:
    """A row that an engine learns to run is told of."""
    for page, rows in (("integrate_sglang.md", sglang.ROWS), ("integrate_vllm.md", tuple(vllm.BLOCK_SIZES))):
        section = (DOCS / page).read_text(encoding="utf-8").split("can run\n", 1)[1]
        assert [row for row in rows if f"`{row}`" not in section] == []
