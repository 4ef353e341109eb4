"""The rows: every complete way to run the indexer, best first, and what each needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsa_caps.policy.aiter_gates import kernel_variant
from nsa_caps.policy.caveats import always, narrow_offsets
from nsa_caps.policy.requirements import aiter, deep_gemm, gluon, gpu  # noqa: A004 no builtin is meant by it
from nsa_caps.policy.requirements import common as need
from nsa_caps.policy.requirements.flydsl import flydsl_fits
from nsa_caps.policy.requirements.handed import other_release, takes_what_is_handed
from nsa_caps.policy.requirements.plain import plain_compiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nsa_caps.pages import Order
    from nsa_caps.policy.caveats import Caveat, Warn
    from nsa_caps.policy.requirements.common import Requirement

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """One complete way to run the indexer: a page format, its store, gather and logits kernels, and what it needs.

    Attributes:
        name: the row's name.
        summary: what it is, in one line.
        page_size: index slots a page where the request names none.
        order: how the keys of a page lie.
        kernels: the module that holds its store and gather.
        logits_kernels: the module that holds its logits.
        logits_options: the keyword arguments that its logits kernel takes, by page size.
        requirements: what must hold; all of it is checked, not up to the first that fails.
        caveats: what to know where it is chosen, such as what it costs against the best row; they decide nothing.
        packages: what its kernels come from beside torch and Triton, fields of `Capabilities`: a verdict of the
            self-check holds for these versions only.
        warnings: where its kernels give wrong results without a sign; they decide nothing.
        variant: which of several kernels its package runs on a machine, in a word; None: there is one.
    """

    name: str
    summary: str
    page_size: int
    order: Order
    kernels: str
    logits_kernels: str
    logits_options: Callable[[int], Mapping[str, Any]]
    requirements: tuple[Requirement, ...]
    caveats: tuple[Caveat, ...] = ()
    packages: tuple[str, ...] = ()

    warnings: tuple[Warn, ...] = ()
    variant: Caveat | None = None

    @property
    def bound_packages(self) -> tuple[str, ...]:
        """The packages whose code runs when this row does, by import name: a verdict on it is bound to them."""
        modules = (module.partition(".")[0] for module in (self.kernels, self.logits_kernels))
        return tuple(dict.fromkeys(("nsa_caps", "torch", "triton", *self.packages, *modules)))


def _no_options(_: int) -> Mapping[str, Any]:
    return {}


_AITER = (
    need.platform_is("rocm"),
    gpu.gpu_visible,
    need.gpus_fit_torch,
    gpu.fp8_dialect,
    need.vector_shape,
    need.head_counts(32, 64),
    need.package_found("torch", "torch"),
    need.package_found("aiter", "amd-aiter"),
    need.triton_known(),
    aiter.imports,
    aiter.imports_whole,
    aiter.logits_take_preshuffle,
    aiter.arch_known,
    aiter.arch_same,
    aiter.arch_has_fp8,
    flydsl_fits,
    takes_what_is_handed,
)

ROWS: tuple[Row, ...] = (
    Row(
        name="aiter-preshuffle",
        summary="aiter's gluon kernel on pages of 16x16 tiles: the fast way on AMD",
        page_size=64,
        order="tiles",
        kernels="nsa_caps.kernels.aiter",
        logits_kernels="nsa_caps.kernels.aiter",
        packages=("aiter",),
        logits_options=lambda page_size: {"Preshuffle": True, "KVBlockSize": page_size},
        requirements=(
            *_AITER,
            aiter.source_shows("tiles", "chunk_rule"),
            need.switch_on("use_aiter", "switch.aiter-off"),
            need.switch_off("disable_preshuffle", "switch.preshuffle-off"),
            aiter.cache_takes_preshuffle,
            gluon.gluon_needed,
            gluon.gluon_runs("preshuffle", 64),
            aiter.tile_pages(64),
        ),
        caveats=(other_release,),
        warnings=(narrow_offsets("preshuffle"),),
    ),
    Row(
        name="aiter-flat",
        summary="aiter's plain Triton kernel on flat pages",
        page_size=64,
        order="flat",
        kernels="nsa_caps.kernels.aiter",
        logits_kernels="nsa_caps.kernels.aiter",
        packages=("aiter",),
        logits_options=lambda page_size: {"Preshuffle": False, "KVBlockSize": page_size},
        requirements=(
            *_AITER,
            aiter.source_shows("flat", "plain_pages", "chunk_rule"),
            need.switch_on("use_aiter", "switch.aiter-off"),
            aiter.plain_takes_pages,
            gluon.gluon_inactive,
            plain_compiles,
            need.page_sizes("a page size above 1 that divides 256 or is a multiple of it",
                lambda size: size > 1 and (256 % size == 0 or size % 256 == 0), 64),
        ),
        caveats=(other_release,),
        warnings=(narrow_offsets("base"),),
    ),
    Row(
        name="aiter-token",
        summary="aiter on pages of one token: the page table is 64 times as large, and the indexer slower",
        page_size=1,
        order="flat",
        kernels="nsa_caps.kernels.aiter",
        logits_kernels="nsa_caps.kernels.aiter",
        packages=("aiter",),
        logits_options=lambda _: {"Preshuffle": False, "KVBlockSize": 1},
        requirements=(
            *_AITER,
            aiter.source_shows("token"),
            gluon.gluon_runs("base"),
            plain_compiles,
            need.page_sizes("1", lambda size: size == 1, 1),
        ),
        caveats=(always("took 28.5 us where aiter-preshuffle takes 7.84 us, on MI355X (vllm#51216)"), other_release),
        warnings=(narrow_offsets("base"),),
        variant=kernel_variant,
    ),
    Row(
        name="deepgemm",
        summary="DeepGEMM's CUDA kernel on flat pages",
        page_size=64,
        order="flat",
        kernels="nsa_caps.kernels.deep_gemm",
        logits_kernels="nsa_caps.kernels.deep_gemm",
        packages=("deep_gemm",),
        logits_options=_no_options,
        requirements=(
            need.platform_is("cuda"),
            gpu.gpu_visible,
            need.gpus_fit_torch,
            need.package_found("torch", "torch"),
            deep_gemm.installed,
            deep_gemm.arch_has_kernel,
            deep_gemm.imports,
            deep_gemm.cuda_same,
            deep_gemm.toolkit_found,
            deep_gemm.nvcc_compiles,
            # DeepGEMM has neither store nor gather: they are the portable row's.
            gpu.triton_compiles,
            gpu.ptxas_knows,
            need.vector_shape,
            deep_gemm.heads_taken,
            need.page_sizes("64", lambda size: size == 64, 64),
        ),
    ),
    Row(
        name="portable",
        summary="this library's Triton kernels: any GPU that Triton compiles for",
        page_size=64,
        order="flat",
        kernels="nsa_caps.kernels.portable.store_gather",
        logits_kernels="nsa_caps.kernels.portable.logits",
        logits_options=_no_options,
        requirements=(
            need.platform_is("cuda", "rocm"),
            gpu.gpu_visible,
            need.gpus_fit_torch,
            gpu.fp8_dialect,
            gpu.triton_archs,
            need.package_found("torch", "torch"),
            gpu.triton_compiles,
            gpu.ptxas_knows,
            need.vector_shape,
            need.head_counts(32, 64),
            need.page_sizes("1, 16, 32, 64, 128 or 256", lambda size: size in (1, 16, 32, 64, 128, 256), 64),
        ),
        caveats=(
            always(
                "takes deepgemm's time on an H200; without fp8 products (sm_80, gfx90a, gfx11xx) 1.3 to 2.3 times"
                " that; not measured on AMD"
            ),
        ),
    ),
    Row(
        name="reference",
        summary="plain torch: correct on any device, and slow: 48 to 68 times deepgemm's time, on an H200",
        page_size=64,
        order="flat",
        kernels="nsa_caps.kernels.reference",
        logits_kernels="nsa_caps.kernels.reference_logits",
        logits_options=_no_options,
        requirements=(
            need.package_found("torch", "torch"),
            gpu.fp8_dialect,
            need.key_blocks,
        ),
    ),
)  # fmt: skip
