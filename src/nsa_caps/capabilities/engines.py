"""The engines: one record each, of what its sources show. Pure data, read by probes, policy and the shims alike.

Read in the sources of the releases that each record names; where a release was also run, the downstream tests say so.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENGINES", "ENGINE_TABLE", "Engine", "EngineName", "EngineRow", "Handed", "Reading"]


# For type checkers and completion; a test holds it against the table.
EngineName: TypeAlias = Literal["sglang", "vllm", "generic", "atom"]


class Reading(NamedTuple):
    """One variable that a switch may come from.

    Attributes:
        variable: its name.
        grammar: the grammar of the consumer that decides.
        also: grammars of other consumers of the same variable, whose reading may differ.
        keep_blank: a blank value is the consumer's to read; elsewhere blank counts as unset.
        remark: a note to leave whenever this variable decides.
    """

    variable: str
    grammar: str
    also: tuple[str, ...] = ()
    keep_blank: bool = False
    remark: str | None = None


class EngineRow(NamedTuple):
    """One row that an engine can run, and where.

    Attributes:
        row: the row's name.
        platforms: where.
        kernels: only with this library's kernels installed in the place of the engine's own.
        page_sizes: index slots a page, best first; empty: every size that the row takes.
        pooled_sizes: the same where tokens share an index key; empty: such models cannot run it.
        archs: beginnings of the archs that the engine runs it on; empty: every arch that the row takes.
        switch: a switch and what it must hold for the engine to take this way; None: it takes it unasked.
        without: a package without which the engine takes this way whatever the switch holds.
        since: the first release known to have this way; None: every release read.
    """

    row: str
    platforms: tuple[str, ...]
    kernels: bool = False
    page_sizes: tuple[int, ...] = ()
    pooled_sizes: tuple[int, ...] = ()
    archs: tuple[str, ...] = ()
    switch: tuple[str, bool] | None = None
    without: str | None = None
    since: str | None = None


class Handed(NamedTuple):
    """A function of aiter that an engine calls, or a keyword that it hands it, in the form of `AiterSource.takes`.

    Attributes:
        takes: `fp8_mqa_logits(clean_logits)`, or a function's name alone.
        since: the engine's first release that does so.
        aiter: the release, a key of `AITER_RELEASES`, that takes it; None: none that was read.
        source: where that is read.
        archs: only there; empty: on every arch.
        switch: only where this switch is on.
        probed: only where aiter has this function: the engine looks for its name, and for nothing else.
        off_switch: not where this switch is on.
        off: the variable that turns that switch on.
        flydsl: aiter has it only where the package flydsl is installed, and new enough for this aiter.
    """

    takes: str
    since: str
    aiter: str | None
    source: str
    archs: tuple[str, ...] = ()
    switch: str | None = None
    probed: str | None = None
    off_switch: str | None = None
    off: str | None = None
    flydsl: bool = False


class Engine(NamedTuple):
    """What is known of one engine.

    Attributes:
        name: what `engine=` takes.
        title: what it calls itself.
        package: its import name; None: it is no package.
        version_files: files below the package whose `__version__` or `version` counts, in order.
        distributions: the distributions that bring it.
        hallmarks: files or folders that only the package meant has; empty: nobody else has the name.
        releases: the releases, or commits, whose sources were read, oldest first.
        kernel_releases: those in which this library's kernels were run in the place of its own.
        variables: its own variables by switch, the strongest first.
        defaults: switches whose default is not the table's.
        rows: the rows that it can run, best first, as it is and with our kernels; None: it is yours, and runs all.
        hands: what it calls of aiter, and with which keywords.
        own_cache: its store and gather are its own, and never aiter's.
        row_stride: bytes that a token takes of its page.
        hook: how it finds plugins: the group of entry points that it runs at its start; None: it runs none.
    """

    name: str
    title: str
    package: str | None = None
    version_files: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    hallmarks: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    kernel_releases: tuple[str, ...] = ()
    variables: Mapping[str, tuple[Reading, ...]] = MappingProxyType({})
    defaults: Mapping[str, bool] = MappingProxyType({})
    rows: tuple[EngineRow, ...] | None = None
    hands: tuple[Handed, ...] = ()
    own_cache: bool = False
    row_stride: int = 132
    hook: str | None = None


_GPUS = ("cuda", "rocm")
# Only there does vLLM call aiter's kernel that reads tiles; of its first stage, which gfx12 gets, nothing is known.
_VLLM_AITER_ARCHS = ("gfx942", "gfx950")
# Where vLLM, asked for aiter, scores prompts by aiter's Triton kernel. On gfx942 that is flydsl's. On gfx90a and gfx11
# it calls nothing of aiter's whatever it is asked for: `is_aiter_found_and_supported` wants CDNA 3, or RDNA 4.
_VLLM_TRITON_ARCHS = ("gfx950", "gfx1200", "gfx1201", "gfx1250")

_SGLANG = Engine(
    name="sglang",
    title="SGLang",
    package="sglang",
    version_files=("_version.py", "version.py"),
    distributions=("sglang", "amd-sglang"),
    releases=("0.5.12", "0.5.15", "0.5.17", "0.5.21", "0.5.23"),
    kernel_releases=("0.5.17", "0.5.21", "0.5.23"),
    variables=MappingProxyType(
        {
            # 15 sites of SGLang read the same variable as EnvBool.
            "use_aiter": (Reading("SGLANG_USE_AITER", "SGLang get_bool_env_var", also=("SGLang EnvBool",)),),
            "disable_preshuffle": (
                Reading("SGLANG_DSA_HIP_DISABLE_PRESHUFFLE", "SGLang EnvBool"),
                Reading(
                    "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE",
                    "SGLang EnvBool",
                    remark="honoured here, but SGLang ignores this older name since 0.5.21:"
                    " set SGLANG_DSA_HIP_DISABLE_PRESHUFFLE",
                ),
            ),
            "no_fused_indexer": (Reading("SGLANG_DISABLE_AITER_FUSED_FP8_DSA_INDEXER", "SGLang EnvBool"),),
            "torch_logits": (Reading("SGLANG_FP8_PAGED_MQA_LOGITS_TORCH", "SGLang EnvBool"),),
        }
    ),
    # On ROCm its indexer calls aiter whatever the switches say, and its pool asserts pages of one token wherever they
    # are not tiled; elsewhere it asserts flat pages of 64. Pooled keys (GLM-5.3) have pages of 64 alone.
    rows=(
        EngineRow("aiter-preshuffle", ("rocm",), pooled_sizes=(64,)),
        EngineRow("aiter-flat", ("rocm",), kernels=True, page_sizes=(64,)),
        EngineRow("aiter-token", ("rocm",), page_sizes=(1,)),
        EngineRow("deepgemm", ("cuda",), page_sizes=(64,), pooled_sizes=(64,)),
        EngineRow("portable", _GPUS, kernels=True, page_sizes=(64,)),
        EngineRow("reference", ("cuda",), page_sizes=(64,), switch=("torch_logits", True), since="0.5.23"),
    ),
    hands=(
        Handed("indexer_k_quant_and_cache(preshuffle)", "0.5.12", "0.1.13", "sglang#23562", switch="use_aiter"),
        Handed("fp8_mqa_logits(clean_logits)", "0.5.15", "0.1.15", "sglang#28757"),
        Handed(
            "indexer_qk_rope_quant_and_cache(compute_all_q_rope)",
            "0.5.21",
            None,
            "aiter#5066",
            archs=("gfx950",),
            switch="use_aiter",
            probed="indexer_qk_rope_quant_and_cache",
            off_switch="no_fused_indexer",
            off="SGLANG_DISABLE_AITER_FUSED_FP8_DSA_INDEXER",
        ),
    ),
    hook="sglang.srt.plugins",
)

_VLLM = Engine(
    name="vllm",
    title="vLLM",
    package="vllm",
    version_files=("_version.py", "version.py"),
    distributions=("vllm",),
    releases=("0.30.0", "0.33.0"),
    kernel_releases=("0.30.0", "0.33.0"),
    variables=MappingProxyType({"use_aiter": (Reading("VLLM_ROCM_USE_AITER", "vLLM envs"),)}),
    # On ROCm its store writes tiles into every block above 1, and `forward_hip` raises where there is neither aiter nor
    # a native way (gfx950, gfx11). Without aiter it scores with plain torch, which reads flat keys: blocks of 1 alone.
    rows=(
        EngineRow("aiter-preshuffle", ("rocm",), page_sizes=(64, 128, 256, 512, 32, 16), archs=_VLLM_AITER_ARCHS),
        EngineRow("aiter-flat", ("rocm",), kernels=True, page_sizes=(64, 128, 256, 32, 16)),
        EngineRow("aiter-token", ("rocm",), page_sizes=(1,), archs=_VLLM_AITER_ARCHS, switch=("use_aiter", True)),
        EngineRow("deepgemm", ("cuda",), page_sizes=(64,)),
        EngineRow("portable", ("cuda",), kernels=True, page_sizes=(64,)),
        EngineRow("portable", ("rocm",), kernels=True, page_sizes=(64, 128, 256, 32, 16)),
        EngineRow(
            "reference",
            ("rocm",),
            page_sizes=(1,),
            archs=("gfx950",),
            switch=("use_aiter", False),
            without="aiter",
        ),
        EngineRow("reference", ("rocm",), page_sizes=(1,), archs=("gfx11",)),
    ),
    own_cache=True,
    hands=(
        Handed(
            "flydsl_fp8_mqa_logits",
            "0.30.0",
            "0.1.18",
            "vLLM 0.30.0",
            archs=("gfx942",),
            switch="use_aiter",
            flydsl=True,
        ),
        Handed(
            "fp8_mqa_logits(clean_logits)",
            "0.33.0",
            "0.1.15",
            "vLLM 0.33.0",
            archs=_VLLM_TRITON_ARCHS,
            switch="use_aiter",
        ),
    ),
    hook="vllm.general_plugins",
)

_ATOM = Engine(
    name="atom",
    title="ATOM",
    package="atom",
    version_files=("_version.py", "version.py"),
    # ROCm's is in no index that was looked at; others of this name are unrelated.
    hallmarks=("model_ops",),
    releases=("ffdf3bb5",),
    # It calls aiter with tiles whatever its variables say.
    defaults=MappingProxyType({"use_aiter": True}),
    rows=(EngineRow("aiter-preshuffle", ("rocm",)),),
    # 128 + 4, rounded up to 16: `aligned_index_dim` in its `aiter_mla.py`.
    row_stride=144,
)

# An engine of one's own: it has no variables but this library's, and runs what it likes.
_GENERIC = Engine(name="generic", title="an engine of your own")

ENGINE_TABLE: Mapping[str, Engine] = MappingProxyType(
    {engine.name: engine for engine in (_SGLANG, _VLLM, _GENERIC, _ATOM)}
)
ENGINES: tuple[str, ...] = tuple(ENGINE_TABLE)
