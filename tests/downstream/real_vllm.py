"""vLLM's real `SparseAttnIndexer`, driven through prefill, decode and MTP on one layout.

Its forward context, its top-k kernels and its platform are stand-ins; the layer, its custom op and what that calls of
store, gather and scores are vLLM's own, or ours where `install` put them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tests.downstream.toy import (
    DIM,
    HIDDEN,
    LORA,
    ROPE,
    Linear,
    Norm,
    Request,
    Weights,
    check_chosen,
    quantised,
    turn,
)
from tests.downstream.wheels import Sandbox, Wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INDEXER = "vllm.model_executor.layers.sparse_attn_indexer"
BACKEND = "vllm.v1.attention.backends.mla.indexer"
PREFIX, TOPK, LONGEST = "model.layers.0.indexer", 32, 256


class Metadata(SimpleNamespace):
    """What vLLM's builder tells the indexer of a batch."""


class _Ops:
    """vLLM's compiled ops, of which only the top-k is called once ours are installed."""

    def top_k_per_row_prefill(self, logits: Tensor, starts: Tensor, ends: Tensor, out: Tensor, *_: object) -> None:
        """Choose among the columns of each row from its start to its end, counted from the start."""
        _choose(logits, starts, ends, out)


def _choose(logits: Tensor, starts: Tensor, ends: Tensor, out: Tensor) -> None:
    place = torch.arange(logits.shape[1], device=logits.device)
    seen = (place >= starts[:, None]) & (place < ends[:, None])
    best = logits.masked_fill(~seen, -torch.inf).topk(min(out.shape[1], logits.shape[1]))
    found = torch.where(best.values == -torch.inf, -1, best.indices - starts[:, None])
    out.fill_(-1)
    out[:, : found.shape[1]] = found.to(out.dtype)


def _choose_decoded(logits: Tensor, lengths: Tensor, next_n: int, out: Tensor, _topk: int, _longest: int) -> None:
    ends = lengths.reshape(-1)
    if ends.numel() != logits.shape[0]:
        ends = (ends[:, None] + torch.arange(1 - next_n, 1, device=ends.device)).reshape(-1)
    _choose(logits, torch.zeros_like(ends), ends, out)


class _Torch:
    """torch, with vLLM's custom op called where it is defined, unregistered."""

    def __init__(self, module: Any) -> None:
        self.ops = SimpleNamespace(vllm=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class _Layer(torch.nn.Module):
    """What vLLM's custom layers derive from."""

    @staticmethod
    def register(_name: str) -> Any:
        """Return a decorator that does nothing."""
        return lambda owner: owner


def sandbox(wheel: Wheel, folder: Path, *, hip: bool, fnuz: bool) -> Sandbox:
    """Return a vLLM whose sparse indexer is real, on the platform given."""
    import triton  # noqa: PLC0415 its kernels are decorated when the module is executed
    import triton.language as tl  # noqa: PLC0415 likewise

    dtype = torch.float8_e4m3fnuz if fnuz else torch.float8_e4m3fn
    platform = SimpleNamespace(
        fp8_dtype=lambda: dtype, is_cuda=lambda: not hip, is_rocm=lambda: hip, is_xpu=lambda: False,
        is_cpu=lambda: False, dispatch_key="CUDA", is_device_capability_family=lambda _: False,
    )  # fmt: skip
    parallel = SimpleNamespace(
        decode_context_parallel_size=1, prefill_context_parallel_size=1, cp_kv_cache_interleave_size=1,
        pcp_shard_decode_requests=False,
    )  # fmt: skip
    config = SimpleNamespace(
        parallel_config=parallel,
        kernel_config=SimpleNamespace(sparse_indexer_topk_backend="auto", enable_jit_warmup=False),
    )

    def spaces(*specs: Any) -> list[Tensor]:
        return [torch.zeros(shape, dtype=kind, device="cpu" if hip else "cuda") for shape, kind in specs]

    def barred(*_: object, **__: object) -> Any:
        raise RuntimeError("DeepGEMM backend is not available or outdated")

    backend = type("DeepseekV32IndexerBackend", (), {"get_supported_kernel_block_sizes": staticmethod(lambda: [64])})
    modules: dict[str, dict[str, object]] = {
        "vllm": {"_custom_ops": _Ops()},
        "vllm.platforms": {"current_platform": platform},
        "vllm.triton_utils": {"tl": tl, "triton": triton},
        "vllm.model_executor.custom_op": {"CustomOp": _Layer},
        "vllm.config": {
            "get_current_vllm_config": lambda: config,
            "CUDAGraphMode": SimpleNamespace(FULL="full"),
        },
        "vllm.utils.deep_gemm": {
            "fp8_fp4_mqa_logits": barred,
            "fp8_fp4_paged_mqa_logits": barred,
            "has_deep_gemm": lambda: False,
            "mqa_logits_use_mx_scales": lambda: False,
            "mqa_logits_mx_inputs": lambda _q, scale, weights: (scale, weights),
        },
        "vllm.utils.torch_utils": {
            "_encode_layer_name": lambda name: name,
            "_resolve_layer_name": lambda name: name,
            "direct_register_custom_op": lambda **_: None,
        },
        "vllm.compilation.breakable_cudagraph": {"eager_break_during_capture": lambda function: function},
        "vllm.model_executor.layers.indexer_topk": {
            "get_indexer_topk": lambda _backend: _choose_decoded,
            "RADIX_TOPK_WORKSPACE_SIZE": 1,
        },
        "vllm.v1.attention.ops.pcp": {"maybe_gather_indexer_k": lambda k, slots, *_, **__: (k, slots)},
        "vllm.v1.worker.workspace": {"current_workspace_manager": lambda: SimpleNamespace(get_simultaneous=spaces)},
        BACKEND: {
            "DeepseekV32IndexerMetadata": Metadata,
            "DeepseekV32IndexerBackend": backend,
            "get_paged_mqa_logits_metadata": barred,
            "has_deep_gemm": lambda: False,
        },
    }
    return Sandbox(wheel, folder, {INDEXER}, modules)


class Driver:
    """The real layer, with requests that grow."""

    def __init__(
        self, box: Sandbox, page_size: int, *, heads: int, device: torch.device, fnuz: bool, hip: bool
    ) -> None:
        self.device, self.page_size, self.heads, self._hip = device, page_size, heads, hip
        self.dtype = torch.float8_e4m3fnuz if fnuz else torch.float8_e4m3fn
        self.cache = torch.zeros(64, page_size, DIM + 4, dtype=torch.uint8, device=device)
        self.requests = [Request([]) for _ in range(3)]
        self._free = torch.randperm(64).tolist()
        self.weights = Weights(heads, *(
            layer.to(device) for layer in (Linear(LORA, heads * DIM), Linear(HIDDEN, DIM), Linear(HIDDEN, heads))
        ))  # fmt: skip
        self._module: Any = box.load(INDEXER)
        vars(self._module)["torch"] = _Torch(self._module)
        self.chosen = torch.full((512, TOPK), -1, dtype=torch.int32, device=device)
        self.layer = self._module.SparseAttnIndexer(
            SimpleNamespace(prefix=PREFIX, kv_cache=self.cache), 128, "ue8m0", TOPK, DIM, LONGEST, 1024, self.chosen
        )

    def step(self, new: Sequence[int], *, decode: bool) -> None:
        """Append tokens to each request, run the real forward, and hold what was chosen against the oracle."""
        forward, asked = self.prepare(new, decode=decode)
        forward()
        self.check(asked)

    def prepare(self, new: Sequence[int], *, decode: bool) -> tuple[Callable[[], object], list[tuple[int, int]]]:
        """Append tokens to each request, and return the real forward over them, and request and position of each."""
        for request, count in zip(self.requests, new, strict=True):
            request.grow(count, self.device)
            while len(request.pages) * self.page_size < len(request):
                request.pages.append(self._free.pop())
        asked = [
            (index, query)
            for index, (request, count) in enumerate(zip(self.requests, new, strict=True))
            for query in range(len(request) - count, len(request))
        ]
        hidden = torch.stack([self.requests[index].hidden[query] for index, query in asked])
        lora = torch.stack([self.requests[index].lora[query] for index, query in asked])
        places = torch.tensor([query for _, query in asked], device=self.device)
        keys = Norm(DIM)(self.weights.wk(hidden)[0])
        keys = torch.cat([turn(places, keys[:, :ROPE]), keys[:, ROPE:]], -1)
        q = self.weights.wq(lora)[0].view(-1, self.heads, DIM)
        q = torch.cat([turn(places, q[..., :ROPE]), q[..., ROPE:]], -1)
        q8, q_scale = quantised(q, self.dtype, powers_of_two=True)
        gate = self.weights.gate(hidden)[0].double() * self.heads**-0.5 * DIM**-0.5 * q_scale
        told = self._metadata(asked, new, decode=decode)
        context = SimpleNamespace(attn_metadata={PREFIX: told}, cudagraph_runtime_mode="none")
        vars(self._module)["get_forward_context"] = lambda: context
        forward = self.layer.forward_hip if self._hip else self.layer.forward_cuda
        return partial(forward, hidden, q8.to(self.dtype), keys, gate.float()), asked

    def check(self, asked: Sequence[tuple[int, int]]) -> None:
        """Hold what was chosen against the oracle, query by query."""
        for row, (index, query) in zip(self.chosen, asked, strict=False):
            scores = self.weights.scores(self.requests[index], query, self.dtype, powers_of_two=True, rotate=False)
            check_chosen(row, scores, TOPK)

    def _metadata(self, asked: Sequence[tuple[int, int]], new: Sequence[int], *, decode: bool) -> Metadata:
        def ints(values: Any) -> Tensor:
            return torch.tensor(values, dtype=torch.int32, device=self.device)

        size = self.page_size
        lengths = [len(request) for request in self.requests]
        begins = [sum(lengths[:index]) for index in range(len(lengths) + 1)]
        widest = max(len(request.pages) for request in self.requests)
        table = ints([request.pages + [0] * (widest - len(request.pages)) for request in self.requests])
        slots = [self.requests[index].pages[query // size] * size + query % size for index, query in asked]
        chunk = SimpleNamespace(
            cu_seqlen_ks=ints([begins[index] for index, _ in asked]),
            cu_seqlen_ke=ints([begins[index] + query + 1 for index, query in asked]),
            local_cu_seq_lens=ints(begins), max_local_total_seq_lens=begins[-1], local_total_seq_lens=begins[-1],
            skip_kv_gather=False, block_table=table, token_start=0, token_end=len(asked), pcp_deinterleave_idx=None,
            max_seqlen_k=max(lengths),
        )  # fmt: skip
        decoded = SimpleNamespace(
            decode_lens=ints(list(new)), requires_padding=False, block_table=table, schedule_metadata=None,
            seq_lens=ints([query + 1 for _, query in asked]).view(len(new) if decode else 1, -1),
            indices=None, global_seq_lens=None,
        )  # fmt: skip
        return Metadata(
            slot_mapping=torch.tensor(slots, device=self.device), max_seq_len=max(lengths),
            num_decodes=len(new) if decode else 0, num_prefills=0 if decode else len(new),
            num_decode_tokens=len(asked) if decode else 0,
            prefill=None if decode else SimpleNamespace(chunks=[chunk]), decode=decoded if decode else None,
        )  # fmt: skip


def drive(driver: Driver) -> None:
    """Prefill, chunked prefill, decode over page ends, and two queries a request; each checked by the oracle."""
    driver.step((90, 40, 64), decode=False)
    driver.step((20, 3, 33), decode=False)
    driver.step((1, 1, 1), decode=True)
    driver.step((1, 1, 1), decode=True)
    driver.step((2, 2, 2), decode=True)


def replay(driver: Driver) -> None:
    """Capture one decode in a CUDA graph and replay it: it must choose what it chose outside."""
    forward, asked = driver.prepare((1, 1, 1), decode=True)
    forward()
    driver.check(asked)
    eager = driver.chosen[: len(asked)].clone()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types for it
    with torch.cuda.stream(stream):
        for _ in range(2):
            forward()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()
    driver.chosen.fill_(-7)
    graph.replay()
    torch.cuda.synchronize()
    driver.check(asked)
    assert torch.equal(driver.chosen[: len(asked)].sort().values, eager.sort().values)


def main(arguments: Sequence[str]) -> int:
    """Drive the real sparse indexers of vLLM's wheels on this machine's NVIDIA GPU, as if it had no DeepGEMM."""
    import triton  # noqa: F401, PLC0415 as the engine does first: only that tells which it is where others have a finder

    import nsa_caps  # noqa: PLC0415 the command's alone
    from nsa_caps.engines import vllm  # noqa: PLC0415 likewise

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("wheels", nargs="+")
    caps = vllm.probe_machine().replace(deep_gemm=nsa_caps.Package("deep_gemm", "missing"))
    layout = vllm.indexer_layout(caps, kernels=True)
    print(torch.cuda.get_device_name(), "torch", torch.__version__, str(layout.row), layout.page_size)  # noqa: T201
    for path in parser.parse_args(arguments).wheels:
        wheel = Wheel(Path(path))
        for heads in (32, 64):
            torch.manual_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                box = sandbox(wheel, Path(folder), hip=False, fnuz=False)
                box.load(INDEXER)
                box.load(BACKEND)
                replaced = vllm.install(layout, modules=box.modules)
                driver = Driver(box, 64, heads=heads, device=torch.device("cuda", 0), fnuz=False, hip=False)
                drive(driver)
                replay(driver)
                vllm.uninstall()
            told = "prefill, chunked prefill, decode, MTP and a CUDA graph choose as the oracle"
            print(wheel, f"{heads} heads: {told} ({len(replaced)} names replaced)", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
