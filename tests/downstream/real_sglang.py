"""SGLang's real `Indexer`, built and driven through prefill, chunked prefill, decode and MTP on one layout.

What it stands on (linear layers, norms, the pool, the metadata) are stand-ins; the indexer, its store and gather, its
calls and its choice of path are SGLang's own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tests.downstream.gates import COMMON, home_of_gate
from tests.downstream.toy import (
    DIM,
    HIDDEN,
    LORA,
    ROPE,
    Linear,
    Norm,
    Request,
    Rope,
    Weights,
    check_chosen,
    hadamard,
)
from tests.downstream.wheels import Sandbox, Wheel, take

if TYPE_CHECKING:
    from collections.abc import Sequence

INDEXER = "sglang.srt.layers.attention.dsa.dsa_indexer"
BACKEND = "sglang.srt.layers.attention.dsa_backend"
ACCESSORS = (
    "sglang.kernels.ops.kvcache.dsa_index_k_cache",
    "sglang.kernels.ops.attention.dsa.index_buf_accessor",
)
QUANTISERS = ("sglang.kernels.ops.quantization.act_quant_triton", "sglang.kernels.ops.attention.dsa.triton_kernel")
TILELANG = ("sglang.kernels.ops.quantization.act_quant_tilelang", "sglang.kernels.ops.attention.dsa.tilelang_kernel")
FP8 = ("sglang.kernels.ops.quantization.fp8_kernel",)
RUNNER = "sglang.srt.model_executor.runner_backend_utils"
TOPK = 32


def sandbox(wheel: Wheel, folder: Path, *, hip: bool, fnuz: bool, use_aiter: bool = False) -> Sandbox:
    """Return an SGLang whose indexer, accessor, gate and logits backend are real, on the platform given."""
    environ = {"SGLANG_USE_AITER": "1"} if use_aiter else {}
    given = {"os": SimpleNamespace(getenv=environ.get), "logger": SimpleNamespace(warning=lambda *_: None)}
    flags: dict[str, object] = {
        f"is_{name}": lambda: False
        for name in ("xpu", "npu", "musa", "cpu", "hpu", "gfx95_supported", "gfx1250_supported")
    }
    flags |= {"is_hip": lambda: hip, "is_cuda": lambda: not hip, "ceil_align": lambda x, y: -(-x // y) * y}
    flags |= {"add_prefix": lambda name, _prefix: name}
    flags |= take(wheel.source(COMMON), ["_warned_bool_env_var_keys", "get_bool_env_var"], given)
    dtype = torch.float8_e4m3fnuz if fnuz else torch.float8_e4m3fn
    parallel = SimpleNamespace(
        attn_cp_size=1, pp_size=1, enable_dsa_prefill_context_parallel=False, enable_prefill_cp=False
    )
    kernel = SimpleNamespace(dsa_paged_mqa_logits_backend="auto", enable_dsa_fused_indexer=False)
    schedule = SimpleNamespace(enable_dsa_prefill_context_parallel=False)
    context: dict[str, object] = {
        "get_parallel": lambda: parallel,
        "get_exec": lambda: SimpleNamespace(kernel=kernel),
        "get_server_args": lambda: SimpleNamespace(pp_size=1, dsa_paged_mqa_logits_backend="auto"),
        "get_schedule": lambda: schedule,
        "get_device": lambda: SimpleNamespace(device="cpu" if hip else "cuda"),
        "get_platform": lambda: SimpleNamespace(is_sm100=False, is_hip=hip),
    }
    modules: dict[str, dict[str, object]] = {
        "sglang.srt.utils": flags,
        COMMON: flags,
        "sglang.srt.runtime_context": context,
        "sglang.srt.layers.linear": {"ReplicatedLinear": Linear},
        "sglang.srt.layers.layernorm": {"LayerNorm": Norm, "RMSNorm": Norm},
        "sglang.srt.layers.rotary_embedding": {"get_rope_wrapper": lambda *_, **__: Rope()},
        "sglang.kernels.fused_op": {"BaseFusedOp": torch.nn.Module},
        "sglang.srt.layers.utils": {"MultiPlatformOp": torch.nn.Module},
        "sglang.srt.layers.attention.dsa.dsa_npu_indexer": {"DSANPUIndexerMixin": type("Mixin", (), {})},
        "sglang.srt.layers.attention.dsa.dsa_prefill_cuda_graph": {
            "_is_in_piecewise_or_breakable_cuda_graph": lambda: False
        },
        "sglang.srt.state_capturer.indexer_topk": {"maybe_capture_indexer_topk": lambda _layer, chosen: chosen},
        "sglang.srt.layers.cp.utils": {"is_cp_active": lambda _: False, "is_cp_v2_active": lambda _: False},
        "sglang.srt.layers.attention.kv_shard_hooks": {"get_kv_shard_pool": lambda _: None},
        "sglang.srt.model_executor.runner": {"get_is_capture_mode": lambda: False},
        "sglang.srt.utils.custom_op": {"register_custom_op": lambda **_: lambda function: function},
        "sglang.srt.compilation.compilation_config": {"register_split_op": lambda **_: lambda function: function},
        "sglang.kernels.ops.quantization.hadamard": {"hadamard_transform": hadamard},
        "sglang.srt.layers.attention.mqa_logits_utils": {
            "MQA_LOGITS_BYTES_PER_ELEM": 4,
            "mqa_logits_should_chunk": lambda **_: (False, 0),
        },
        "sglang.srt.model_executor.runner_backend_utils.breakable_cuda_graph": {
            "is_in_breakable_cuda_graph": lambda: False
        },
        "sglang.srt.model_executor.runner_backend_utils.tc_piecewise_cuda_graph": {
            "is_in_tc_piecewise_cuda_graph": lambda: False
        },
        "fast_hadamard_transform": {"hadamard_transform": hadamard},
        "einops": {"rearrange": lambda x, _, d: x.view(x.shape[0], -1, d)},
        "deep_gemm": {},
        "sgl_kernel": {},
        **{name: {"act_quant": None} for name in TILELANG},
        **{name: {"is_fp8_fnuz": lambda: fnuz, "fp8_dtype": dtype} for name in FP8},
        BACKEND: {"deep_gemm": None},
    }
    executed = {
        home_of_gate(wheel),
        "sglang.srt.environ",
        INDEXER,
        "sglang.kernels.ops.attention.dsa",
        "sglang.kernels.ops.attention.dsa.paged_mqa_logits",
        "sglang.srt.layers.attention.dsa.paged_mqa_logits_backend",
        *(name for name in (*ACCESSORS, *QUANTISERS) if name in wheel.modules()),
    }
    return Sandbox(wheel, folder, executed, modules)


class Pool:
    """The pool of one layer's index keys, whose accessors are SGLang's."""

    index_kpool, index_head_dim, quant_block_size = 1, DIM, 128

    def __init__(self, accessor: Any, pages: int, page_size: int, device: torch.device) -> None:
        self.page_size = self.index_page_size = page_size
        self.buf = torch.zeros(pages, page_size * 132, dtype=torch.uint8, device=device)
        self._accessor = accessor

    def get_index_k_with_scale_buffer(self, layer_id: int) -> Tensor:
        """Return the pages."""
        del layer_id
        return self.buf

    def get_index_k_scale_buffer(self, _layer: int, lengths: Tensor, table: Tensor, total: int, longest: int) -> Any:
        """Gather."""
        return self._accessor.GetKAndS.execute(
            self, self.buf, page_indices=table, seq_len_tensor=lengths, seq_len_sum=total, max_seq_len=longest
        )

    def set_index_k_scale_buffer(self, *, layer_id: int, loc: Tensor, index_k: Tensor, index_k_scale: Tensor) -> None:
        """Store."""
        del layer_id
        self._accessor.SetKAndS.execute(pool=self, buf=self.buf, loc=loc, index_k=index_k, index_k_scale=index_k_scale)


class Mode:
    """A forward mode: exactly one of its questions is true."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return lambda *_: name == self._name


class Metadata:
    """What SGLang's attention backend tells the indexer of a batch."""

    force_unfused_topk = False
    attn_metadata = SimpleNamespace(topk_indices_offset=None)
    paged_mqa_schedule_metadata = None
    paged_mqa_ctx_lens_2d = None

    def __init__(self, requests: Sequence[Request], new: Sequence[int], device: torch.device, *, mtp: bool) -> None:
        self._requests, self._new, self._device = requests, new, device
        # A row a query where drafts are verified, else a row a request.
        self._rows = [index for index, count in enumerate(new) for _ in range(count if mtp else 1)]

    def _int(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._device)

    @cached_property
    def _table(self) -> Tensor:
        longest = max(len(request.pages) for request in self._requests)
        rows = [request.pages + [0] * (longest - len(request.pages)) for request in self._requests]
        return torch.tensor([rows[index] for index in self._rows], dtype=torch.int32, device=self._device)

    @cached_property
    def _lengths(self) -> Tensor:
        return self._int([len(request) for request in self._requests])

    @cached_property
    def _seen(self) -> Tensor:
        return self._int([query + 1 for _, query in queries(self._requests, self._new)])

    def get_page_table_64(self) -> Tensor:
        """Page numbers."""
        return self._table

    get_logical_page_table = get_page_table_64

    def get_page_table_1(self) -> Tensor:
        """Never asked for on pages of 64."""
        raise AssertionError("pages of one token were asked for")

    def get_seqlens_int32(self) -> Tensor:
        """Tokens a request."""
        return self._lengths

    get_indexer_seq_len = get_seqlens_int32

    def get_indexer_seq_len_cpu(self) -> Tensor:
        """The same on the host."""
        return self.get_seqlens_int32().cpu()

    def get_seqlens_expanded(self) -> Tensor:
        """Tokens that each query sees."""
        return self._seen

    def get_indexer_kvcache_range(self) -> tuple[Tensor, Tensor]:
        """The first key of each query among those gathered, and the one after its last."""
        begins = [sum(len(each) for each in self._requests[:index]) for index in range(len(self._requests))]
        starts = [begins[index] for index, _ in queries(self._requests, self._new)]
        ends = [begins[index] + query + 1 for index, query in queries(self._requests, self._new)]
        return self._int(starts), self._int(ends)

    def get_token_to_batch_idx(self) -> Tensor:
        """The request of each query."""
        return self._int([index for index, _ in queries(self._requests, self._new)])

    def get_dsa_extend_len_cpu(self) -> list[int]:
        """New tokens a request."""
        return list(self._new)

    get_nsa_extend_len_cpu = get_dsa_extend_len_cpu

    def topk_transform(self, logits: Tensor, topk: int, *, ks: Tensor | None = None, **_: object) -> Tensor:
        """Choose the best keys of each query among those that it sees: their positions in its request."""
        lengths = self.get_seqlens_expanded()
        starts = torch.zeros_like(lengths) if ks is None else ks
        place = torch.arange(logits.shape[1], device=logits.device)
        seen = (place >= starts[:, None]) & (place < (starts + lengths)[:, None])
        best = logits[: len(lengths)].masked_fill(~seen, -torch.inf).topk(min(topk, logits.shape[1]))
        return torch.where(best.values == -torch.inf, -1, best.indices - starts[:, None]).int()


def queries(requests: Sequence[Request], new: Sequence[int]) -> list[tuple[int, int]]:
    """Return request and position of each new token."""
    return [
        (index, query)
        for index, (request, count) in enumerate(zip(requests, new, strict=True))
        for query in range(len(request) - count, len(request))
    ]


class OnGpu(Tensor):
    """A tensor on the CPU that says that its device has a number, as the prefill path asserts."""

    @property
    def device(self) -> Any:  # type: ignore[override]  # a stand-in
        """A device with an index."""
        return SimpleNamespace(index=0, type="cpu")

    def __getitem__(self, key: Any) -> Tensor:
        return self.as_subclass(Tensor)[key]


class Driver:
    """The real indexer of one layer, with requests that grow."""

    def __init__(self, box: Sandbox, page_size: int, *, heads: int, device: torch.device, fnuz: bool) -> None:
        accessor = next(box.modules[name] for name in ACCESSORS if name in box.modules)
        self.device, self.page_size = device, page_size
        self.dtype = torch.float8_e4m3fnuz if fnuz else torch.float8_e4m3fn
        self.pool = Pool(accessor, 64, page_size, device)
        self._free = torch.randperm(64).tolist()
        self.requests: list[Request] = []
        self._module = box.modules[INDEXER]
        self.indexer = self._module.Indexer(
            hidden_size=HIDDEN, index_n_heads=heads, index_head_dim=DIM, rope_head_dim=ROPE, index_topk=TOPK,
            q_lora_rank=LORA, max_position_embeddings=4096, rope_theta=10000.0, layer_id=0, scale_fmt="ue8m0",
            is_neox_style=True,
        ).to(device)  # fmt: skip
        self.weights = Weights(heads, self.indexer.wq_b, self.indexer.wk, self.indexer.weights_proj)
        vars(self._module)["get_token_to_kv_pool"] = lambda: self.pool

    def step(self, mode: str, new: Sequence[int]) -> Tensor:
        """Append tokens to each request, run the real forward over them, and return what was chosen."""
        for request, count in zip(self.requests, new, strict=True):
            request.grow(count, self.device)
            while len(request.pages) * self.page_size < len(request):
                request.pages.append(self._free.pop())
        batch = self.batch(mode, new)
        chosen: Tensor = self.indexer.forward_cuda(*batch)
        return chosen

    def batch(self, mode: str, new: Sequence[int]) -> tuple[Any, ...]:
        """Return the arguments of the forward over the last tokens of each request."""
        asked = queries(self.requests, new)
        hidden = torch.stack([self.requests[index].hidden[query] for index, query in asked])
        lora = torch.stack([self.requests[index].lora[query] for index, query in asked])
        positions = torch.tensor([query for _, query in asked], device=self.device)
        slots = [
            self.requests[index].pages[query // self.page_size] * self.page_size + query % self.page_size
            for index, query in asked
        ]
        lengths = torch.tensor([len(request) for request in self.requests])
        metadata = Metadata(self.requests, new, self.device, mtp=mode == "is_target_verify")
        backend = SimpleNamespace(get_indexer_metadata=lambda *_: metadata, token_to_kv_pool=self.pool)
        vars(self._module)["get_attn_backend"] = lambda: backend
        forward_batch = SimpleNamespace(
            forward_mode=Mode(mode), out_cache_loc=torch.tensor(slots, device=self.device), attn_cp_metadata=None,
            seq_lens=lengths.to(self.device), seq_lens_cpu=lengths, extend_seq_lens_cpu=list(new),
            token_to_kv_pool=self.pool, attn_backend=backend,
        )  # fmt: skip
        return hidden, lora, positions, forward_batch, 0

    def check(self, chosen: Tensor, new: Sequence[int]) -> None:
        """Hold what was chosen against the oracle, query by query."""
        for row, (index, query) in zip(chosen, queries(self.requests, new), strict=False):
            scores = self.weights.scores(self.requests[index], query, self.dtype, powers_of_two=True, rotate=True)
            check_chosen(row, scores, TOPK)


def load(box: Sandbox) -> None:
    """Import what is executed and what install looks for, and put this process's environment back."""
    kept = dict(os.environ)
    names = [*box.executed, *(name for name in (*TILELANG, BACKEND) if name in box.wheel.modules())]
    for module in sorted(names):
        box.load(module)
    os.environ.clear()
    os.environ.update(kept)


def drive(driver: Driver, *, on_cpu: bool) -> None:
    """Prefill, chunked prefill, decode over page ends, and two queries a request; each checked by the oracle."""
    module = driver._module  # noqa: SLF001 the driver is this module's
    if on_cpu:
        _say_indexed(module)
    driver.requests[:] = [Request([]) for _ in range(3)]
    for mode, new in (
        ("is_extend_without_speculative", (90, 40, 64)),
        ("is_extend_without_speculative", (20, 3, 33)),
        ("is_decode_or_idle", (1, 1, 1)),
        ("is_decode_or_idle", (1, 1, 1)),
        ("is_target_verify", (2, 2, 2)),
    ):
        driver.check(driver.step(mode, new), new)


def _is_query(each: object) -> bool:
    return isinstance(each, Tensor) and each.dim() == 3 and each.element_size() == 1


def _say_indexed(module: Any) -> None:
    real, full = module.Indexer._get_topk_ragged, torch.full  # noqa: SLF001 SGLang's own

    def ragged(self: Any, *arguments: Any) -> Any:
        wrapped = [each.as_subclass(OnGpu) if _is_query(each) else each for each in arguments]
        torch.full = lambda *given, device=None, **named: full(*given, **named)  # noqa: ARG005 no such device
        try:
            return real(self, *wrapped)
        finally:
            torch.full = full

    module.Indexer._get_topk_ragged = ragged  # noqa: SLF001 likewise


def replay(driver: Driver) -> None:
    """Capture one decode in a CUDA graph and replay it: it must choose what it chose outside."""
    new = [1] * len(driver.requests)
    eager = driver.step("is_decode_or_idle", new)
    batch = driver.batch("is_decode_or_idle", new)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types for it
    with torch.cuda.stream(stream):
        for _ in range(2):
            driver.indexer.forward_cuda(*batch)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = driver.indexer.forward_cuda(*batch)
    captured.fill_(-7)
    graph.replay()
    torch.cuda.synchronize()
    driver.check(captured, new)
    assert torch.equal(captured.sort().values, eager.sort().values)


def main(arguments: Sequence[str]) -> int:
    """Drive the real indexers of SGLang's wheels on this machine's NVIDIA GPU, as if it had no DeepGEMM."""
    import triton  # noqa: F401, PLC0415 as the engine does first: only that tells which it is where others have a finder

    import nsa_caps  # noqa: PLC0415 the command's alone
    from nsa_caps.engines import sglang  # noqa: PLC0415 likewise

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("wheels", nargs="+")
    caps = nsa_caps.probe(engine="sglang")
    caps = caps.replace(deep_gemm=nsa_caps.Package("deep_gemm", "missing"))
    sys.modules["deep_gemm"] = None  # type: ignore[assignment]  # what an import of it must not find
    layout = sglang.indexer_layout(caps=caps, kernels=True)
    print(torch.cuda.get_device_name(), "torch", torch.__version__, str(layout.row), layout.page_size)  # noqa: T201
    torch.compiler.set_stance("force_eager")
    for path in parser.parse_args(arguments).wheels:
        wheel = Wheel(Path(path))
        for heads in (32, 64):
            torch.manual_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                box = sandbox(wheel, Path(folder), hip=False, fnuz=False)
                load(box)
                replaced = sglang.install(layout, kernels=True, modules=box.modules)
                driver = Driver(box, 64, heads=heads, device=torch.device("cuda", 0), fnuz=False)
                drive(driver, on_cpu=False)
                replay(driver)
                sglang.uninstall(box.modules)
            told = "prefill, chunked prefill, decode, MTP and a CUDA graph choose as the oracle"
            print(wheel, f"{heads} heads: {told} ({len(replaced)} names replaced)", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
