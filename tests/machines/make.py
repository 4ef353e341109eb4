"""Make the corpus: a snapshot of every machine of a table, laid out on disk and probed, named by the expected answer.

    python tests/machines/make.py                                     # make the table's snapshots again
    python tests/machines/make.py --real SNAPSHOT deepgemm.64 h200    # add one that `nsa-caps snapshot` wrote

An answer is written here by hand, from the rules of the field that stand beside it, and never taken from the policy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps import ROWS, AotKernel, Capabilities, Decision, Request, decide, probe
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.capabilities.kept import BoundPackage, KeptVerdict
from nsa_caps.layout.guarded_row import guarded_row
from nsa_caps.policy.decision import find_row
from nsa_caps.policy.engine import decide_for_engine
from nsa_caps.policy.kept import device_kinds, format_fields
from nsa_caps.probes.import_system import Finder
from nsa_caps.probes.timeout import TimeLimit
from nsa_caps.selfcheck.check import versions_of
from nsa_caps.selfcheck.kept import keep, package_files
from nsa_caps.testing import AOT_FOLDER, GENERATIONS, FakeNvml, machine

if TYPE_CHECKING:
    from nsa_caps import AiterSource, Host, Reason, Row
from nsa_caps.capabilities.kept import Proven

FOLDER = Path(__file__).parent
# Where a snapshot says that its packages lie, wherever they were.
SITE = "/usr/lib/python3/site-packages"
PROOFS = "/var/lib/nsa_caps/proofs"
# What a kept verdict says, in words.
TOLD: dict[Proven, str] = {
    "proven": "store, gather, logits, ragged logits, top 2048 were right",
    "wrong": "gather: 3 of 8448 bytes differ",
    "cannot-run": "logits: its process killed by SIGSEGV",
    "timed-out": "logits: its process did not end within 300 s",
}
REAL = "real-"

ASKED, VLLM_ASKED = {"SGLANG_USE_AITER": "1"}, {"VLLM_ROCM_USE_AITER": "1"}
AOT = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"
ESCAPE = "AITER_USE_SYSTEM_TRITON"
TOKEN_942 = AotKernel("paged_mqa_logits_64x256x128_B1PFW2", complete=True, arch="gfx942")
TOKEN_950 = AotKernel("paged_mqa_logits_64x256x128_B1PFW2", complete=True, arch="gfx950")
TILED_942 = AotKernel("paged_mqa_logits_preshuffle_64x256x128_B64PFW2", complete=True, arch="gfx942")


_0_1_16, _MAIN = AITER_RELEASES["0.1.16"].source, AITER_RELEASES["main"].source
# Releases and commits that are of no generation of their own, by what they take beside it.
V0_1_16_POST6 = replace(_0_1_16, takes=(*(_0_1_16.takes or ()), "flydsl_fp8_mqa_logits"))
WITH_5066 = replace(_MAIN, takes=(*(_MAIN.takes or ()), "indexer_qk_rope_quant_and_cache(compute_all_q_rope)"))


class Entry(NamedTuple):
    """One machine of the corpus.

    Attributes:
        answer: the row and the page size, such as `aiter-token.1`; `none` where every row is out.
        name: what the machine is, the rest of the file's name.
        why: the rule that the answer follows from.
        described: `machine`'s arguments; `aiter` as (commit, version).
        environ: variables beside them.
        engine: whose switches are read.
        files: what is written below the machine's `site` and `root` after it was laid out; None: taken away; a Path: a
            link to it.
        request: what is asked for beyond the default, as `Request` takes it.
        kept: what came of rows that were run on the machine before, by row.
        kernels: the engine is asked, with this library's kernels in it or as it is; None: the machine is.
        third_party: rows that stand before this library's, as those of a plugin do.
        finders: who else brings packages in that process, beside Python's own import system.
    """

    answer: str
    name: str
    why: str
    described: dict[str, Any]
    environ: dict[str, str] = {}  # noqa: RUF012 a NamedTuple's default, which nobody changes
    engine: str = "sglang"
    files: dict[str, str | Path | None] = {}  # noqa: RUF012 as above
    request: dict[str, Any] = {}  # noqa: RUF012 as above
    kept: dict[str, Proven] = {}  # noqa: RUF012 as above
    kernels: bool | None = None
    third_party: tuple[Row, ...] = ()
    finders: tuple[Finder, ...] = ()

    def decide(self, caps: Capabilities) -> Decision:
        """Return the decision that is asked for, about a machine."""
        request = Request(**self.request)
        if self.kernels is not None:
            return decide_for_engine(caps, request, kernels=self.kernels)
        return decide(caps, request, (*self.third_party, *ROWS))


def mi300x(
    triton: str | None, commit: str | AiterSource | None, version: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return a machine of eight MI300X."""
    return {"archs": ["gfx942"] * 8, "triton": triton, "aiter": commit, "aiter_version": version, **more}


def amd(
    arch: str, triton: str | None, commit: str | AiterSource | None, version: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return a machine of one other AMD GPU."""
    return {"archs": [arch], "triton": triton, "aiter": commit, "aiter_version": version, **more}


def nvidia(arch: str, **more: Any) -> dict[str, Any]:
    """Return a machine of eight NVIDIA GPUs with Triton and DeepGEMM."""
    return {"platform": "cuda", "archs": [arch] * 8, "triton": "3.6.0", "deep_gemm": "2.1.1", **more}


IMPLS = "site/deep_gemm/include/deep_gemm/impls"
WITHOUT_SM120: dict[str, str | Path | None] = {f"{IMPLS}/sm120_fp8_paged_mqa_logits.cuh": None}
WITHOUT_PAGED: dict[str, str | Path | None] = {
    f"{IMPLS}/sm{sm}_fp8_paged_mqa_logits.cuh": None for sm in (90, 100, 120)
}
PTXAS = "root/usr/local/cuda/bin/ptxas"


def tool(release: str) -> str:
    """Return the text of a CUDA tool's file by which it tells its release."""
    return f"Cuda compilation tools, release {release}, V{release}.0"


def orders(*archs: str, **more: Any) -> dict[str, Any]:
    """Return a machine of NVIDIA GPUs of several archs whose UUIDs begin with `GPU-a`, `GPU-b`, ..."""
    uuids = tuple(f"GPU-{letter}000" for letter in "abcd"[: len(archs)])
    return nvidia(archs[0], archs=archs, modules={"pynvml": FakeNvml(archs, uuids)}, **more)


def without_answer(_: Capabilities, __: Request) -> Reason | None:
    """Fail when asked, as a requirement does that was written for another release."""
    raise AttributeError("'Capabilities' object has no attribute 'fabric'")


ACME = replace(ROWS[-1], name="acme", summary="a third party's", requirements=(without_answer,))
NO_NVML = {"pynvml": FakeNvml((), fails="library")}
TOKEN, TILES, FLAT = "aiter-token.1", "aiter-preshuffle.64", "aiter-flat.64"
DEEPGEMM, PORTABLE, REFERENCE = "deepgemm.64", "portable.64", "reference.64"

TABLE: tuple[Entry, ...] = (
    # MI300X by Triton
    Entry(TOKEN, "mi300x-triton-3.4.0-aiter-0.1.13", "gluon needs Triton 3.5; page 1 works without",
        mi300x("3.4.0", "a6bb4993", "0.1.13"), ASKED),
    Entry(TILES, "mi300x-triton-3.5.1-aiter-0.1.13", "gluon compiled in place, aiter#2879 in both cache kernels",
        mi300x("3.5.1+rocm7.2.4.gita272dfa8", "a6bb4993", "0.1.13"), ASKED),
    Entry(TILES, "mi300x-triton-3.5.0rc1-aiter-0.1.13", "914dcee3 compares the base version: a candidate counts",
        mi300x("3.5.0rc1", "a6bb4993", "0.1.13"), ASKED),
    Entry(TILES, "mi300x-triton-3.6.0-aiter-0.1.13", "a1bdcec9 compiles on Triton 3.6 again",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED),
    Entry(TILES, "mi300x-triton-3.8.0-rocm-10.0.0", "current aiter compiles on Triton 3.5.0 to 3.9.0",
        mi300x("3.8.0+git4cff872c.rocm10.0.0", "04907edc"), {**ASKED, ESCAPE: "1"}),
    Entry(TILES, "mi300x-triton-3.9.0-aiter-main", "current aiter compiles on Triton 3.5.0 to 3.9.0",
        mi300x("3.9.0", "04907edc"), ASKED),
    Entry(TOKEN, "mi300x-triton-3.10.0-aiter-fe927e8d", "compared as text 3.10.0 is old, and no gap: page 1",
        mi300x("3.10.0", "fe927e8d"), ASKED),
    Entry(PORTABLE, "mi300x-triton-3.4.0-aiter-fe927e8d", "3.4.x fails an assertion when the module is imported",
        mi300x("3.4.0", "fe927e8d"), ASKED),
    # MI300X by what gates aiter's import
    Entry(PORTABLE, "mi300x-triton-3.4.0-aiter-0.1.15-no-escape", "f061fba9: aiter does not import below Triton 3.6",
        mi300x("3.4.0", "f061fba9", "0.1.15"), ASKED),
    Entry(PORTABLE, "mi300x-triton-3.6.0rc1-aiter-0.1.15", "that gate takes a candidate for older than 3.6.0",
        mi300x("3.6.0rc1", "f061fba9", "0.1.15"), ASKED),
    Entry(TOKEN, "mi300x-triton-3.4.0-aiter-0.1.15-escape", "3b2e6f48: the variable turns the error into a warning",
        mi300x("3.4.0", "3b2e6f48", "0.1.15"), {**ASKED, ESCAPE: "1"}),
    Entry(TILES, "mi300x-triton-3.5.1-aiter-0.1.15-escape", "and on Triton 3.5 gluon then runs",
        mi300x("3.5.1+rocm7.2.4.gita272dfa8", "3b2e6f48", "0.1.15"), {**ASKED, ESCAPE: "1"}),
    Entry(PORTABLE, "mi300x-triton-3.5.1-aiter-0.1.15-escape-true", "int('true') is a ValueError at import",
        mi300x("3.5.1", "3b2e6f48", "0.1.15"), {**ASKED, ESCAPE: "true"}),
    Entry(PORTABLE, "mi300x-triton-3.5.1-aiter-0.1.15-escape-0", "0 is no escape",
        mi300x("3.5.1", "3b2e6f48", "0.1.15"), {**ASKED, ESCAPE: "0"}),
    # Old and strange aiters
    Entry(PORTABLE, "mi300x-triton-3.6.0-aiter-0.1.11", "its kernels name MFMA version 4: gfx942 does not compile",
        mi300x("3.6.0", "a8eb62f5", "0.1.11"), ASKED),
    Entry(TOKEN, "mi355x-triton-3.5.1-aiter-0.1.11", "gfx950 compiles; its cache kernels know no tiles: page 1",
        amd("gfx950", "3.5.1", "a8eb62f5", "0.1.11"), ASKED),
    Entry(PORTABLE, "mi355x-triton-3.6.0-aiter-0.1.11", "before a1bdcec9 page 1 through gluon fails on Triton 3.6",
        amd("gfx950", "3.6.0", "a8eb62f5", "0.1.11"), ASKED),
    Entry(PORTABLE, "mi300x-triton-3.4.0-aiter-d36601a9", "no Preshuffle parameter: engines always pass it",
        mi300x("3.4.0", "d36601a9"), ASKED),
    Entry(PORTABLE, "mi300x-impostor-aiter", "the public index's aiter is an async-iterator library",
        mi300x("3.6.0", "impostor"), ASKED),
    Entry(PORTABLE, "mi300x-no-aiter", "engines die late where a plain kernel would run: vllm#51530",
        mi300x("3.6.0", None), ASKED),
    # The switches, each by its consumer's grammar
    Entry(TOKEN, "mi300x-aiter-not-asked-for", "the fast rows are asked for; page 1 every ROCm image can take",
        mi300x("3.6.0", "a6bb4993", "0.1.13")),
    Entry(TOKEN, "mi300x-aiter-asked-for-with-yes", "get_bool_env_var knows true and 1 only",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {"SGLANG_USE_AITER": "yes"}),
    Entry(TOKEN, "mi300x-preshuffle-disabled", "the off switch of sglang#25205",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "y"}),
    Entry(TOKEN, "mi300x-preshuffle-disabled-by-the-older-name", "honoured, though SGLang ignores it since 0.5.21",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE": "1"}),
    Entry(TILES, "mi300x-vllm", "VLLM_ROCM_USE_AITER asks for it",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {"VLLM_ROCM_USE_AITER": "True"}, "vllm"),
    Entry(TOKEN, "mi300x-vllm-default", "VLLM_ROCM_USE_AITER is off by default, and SGLang's variable is not read",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED, "vllm"),
    # The ahead-of-time bundle
    Entry(TOKEN, "mi300x-aot-triton-3.3.1-aiter-0.1.11", "the one place where a bundle helps: page 1 has its own",
        mi300x("3.3.1", "a8eb62f5", "0.1.11", bundle=[TOKEN_942]), {**ASKED, AOT: "1"}),
    Entry(PORTABLE, "mi300x-aot-triton-3.3.1-aiter-0.1.11-no-bundle", "gluon is active, and nothing to load",
        mi300x("3.3.1", "a8eb62f5", "0.1.11"), {**ASKED, AOT: "1"}),
    Entry(PORTABLE, "mi300x-aot-triton-3.3.1-aiter-0.1.11-bundle-of-tiles", "page 1 does not load the tiles' kernel",
        mi300x("3.3.1", "a8eb62f5", "0.1.11", bundle=[TILED_942]), {**ASKED, AOT: "1"}),
    Entry(PORTABLE, "mi300x-aot-triton-3.3.1-aiter-0.1.11-bundle-of-gfx950", "aiter never checks target.arch; we do",
        mi300x("3.3.1", "a8eb62f5", "0.1.11", bundle=[TOKEN_950]), {**ASKED, AOT: "1"}),
    Entry(PORTABLE, "mi300x-aot-triton-3.4.0-aiter-0.1.13", "10c87ea1: get_cdna_version is a NameError below 3.5",
        mi300x("3.4.0", "a6bb4993", "0.1.13", bundle=[TOKEN_942, TILED_942]), {**ASKED, AOT: "1"}),
    Entry(PORTABLE, "mi300x-aot-triton-3.6.0-aiter-0.1.13-no-bundle", "on Triton 3.5 it only adds a way to fail",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, AOT: "1"}),
    Entry(TILES, "mi300x-aot-true-triton-3.6.0-aiter-0.1.13", "aiter takes exactly 1 for true",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, AOT: "true"}),
    # Which GPU aiter takes the machine's to be
    Entry(PORTABLE, "mi300x-gpu-archs-with-a-comma", "a comma is no list to aiter: a KeyError",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "GPU_ARCHS": "gfx942,gfx950"}),
    Entry(TILES, "mi300x-gpu-archs-list", "the last entry of a list counts",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "GPU_ARCHS": "gfx950;gfx942"}),
    Entry(PORTABLE, "mi300x-gpu-archs-of-another-gpu", "compiled for gfx950, run on gfx942: aiter#3807",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "GPU_ARCHS": "gfx942;gfx950"}),
    Entry(PORTABLE, "mi300x-behind-an-igpu-hidden-from-hip", "rocminfo prints the iGPU first, unknown to aiter",
        mi300x("3.6.0", "a6bb4993", "0.1.13", archs=["gfx1036", "gfx942"]), {**ASKED, "HIP_VISIBLE_DEVICES": "1"}),
    Entry(TILES, "mi300x-behind-an-igpu-hidden-from-rocr", "ROCR's variable hides it from rocminfo too",
        mi300x("3.6.0", "a6bb4993", "0.1.13", archs=["gfx1036", "gfx942"]), {**ASKED, "ROCR_VISIBLE_DEVICES": "1"}),
    Entry("none", "mi300x-beside-mi355x", "two fp8 dialects: the same bytes are off by a factor of two on one of them",
        mi300x("3.6.0", "a6bb4993", "0.1.13", archs=["gfx942", "gfx950"]), ASKED),
    # Other AMD GPUs
    Entry(TILES, "mi355x-triton-3.7.0-aiter-0.1.16", "gfx950 as gfx942",
        amd("gfx950", "3.7.0+amd.rocm7.2.0.git89002410", "861b4c93", "0.1.16"), {**ASKED, ESCAPE: "1"}),
    Entry(TOKEN, "mi355x-triton-3.4.0-aiter-0.1.13", "gluon needs Triton 3.5; the plain kernel compiles from 3.3 on",
        amd("gfx950", "3.4.0", "a6bb4993", "0.1.13"), ASKED),
    Entry(PORTABLE, "mi250x-triton-3.6.0-aiter-main", "gfx90a has no fp8 type in Triton: no kernel of aiter",
        amd("gfx90a", "3.6.0", "04907edc"), ASKED),
    Entry(PORTABLE, "mi250x-triton-3.4.0-aiter-0.1.13", "nor on an older Triton",
        amd("gfx90a", "3.4.0", "a6bb4993", "0.1.13"), ASKED),
    Entry(TILES, "gfx1250-triton-3.7.0-aiter-0.1.16", "861b4c93 has gfx1250 in its list",
        amd("gfx1250", "3.7.0", "861b4c93", "0.1.16"), ASKED),
    Entry(PORTABLE, "gfx1250-triton-3.6.0-aiter-0.1.16", "it compiles from Triton 3.7 on, which aiter does not check",
        amd("gfx1250", "3.6.0", "861b4c93", "0.1.16"), ASKED),
    Entry(FLAT, "strix-halo-triton-3.7.0-aiter-main", "04907edc: not in gluon's list, the plain kernel takes pages",
        amd("gfx1151", "3.7.0", "04907edc"), ASKED),
    Entry(FLAT, "gfx1201-triton-3.6.0-aiter-main", "likewise",
        amd("gfx1201", "3.6.0", "04907edc"), ASKED),
    Entry(PORTABLE, "strix-halo-triton-3.6.0-aiter-0.1.13", "gluon active, arch not in the list: fails in every layout",
        amd("gfx1151", "3.6.0", "a6bb4993", "0.1.13"), ASKED),
    Entry(PORTABLE, "strix-halo-triton-3.4.0-aiter-0.1.13", "dtypes.py maps no gfx1151: the plain kernel gets uint8",
        amd("gfx1151", "3.4.0", "a6bb4993", "0.1.13"), ASKED),
    Entry(PORTABLE, "strix-halo-no-aiter", "vllm#51530", amd("gfx1151", "3.7.0", None)),
    Entry(PORTABLE, "laptop-gfx1103-overridden-to-gfx1100", "HSA_OVERRIDE_GFX_VERSION: ROCm takes it for a gfx1100",
        amd("gfx1103", "3.6.0", None), {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}),
    Entry(REFERENCE, "dcu-gfx936-with-aiter", "Hygon's DCU: linear pages, never aiter",
        amd("gfx936", "3.6.0", "04907edc"), ASKED),
    Entry(REFERENCE, "rocm-build-on-a-node-without-a-gpu", "torch.version.hip is a fact of the build",
        amd("gfx942", "3.6.0", "a6bb4993", "0.1.13", archs=()), ASKED),
    # NVIDIA
    Entry(DEEPGEMM, "h200", "DeepGEMM on sm_90", nvidia("sm_90")),
    Entry(DEEPGEMM, "b200", "DeepGEMM on sm_10x", nvidia("sm_100")),
    Entry(DEEPGEMM, "rtx-pro-6000", "DeepGEMM on sm_12x", nvidia("sm_120")),
    Entry(PORTABLE, "a100-with-deepgemm", "vllm#38476, sglang#32947: sm_80 fails at the first forward pass",
        nvidia("sm_80")),
    Entry(PORTABLE, "l40s-with-deepgemm", "nor sm_89", nvidia("sm_89")),
    Entry(PORTABLE, "h200-deep-gemm-of-a-checkout", "only an import tells where scikit-build-core's finder has it",
        nvidia("sm_90"), finders=(Finder("_editable.ScikitBuildRedirectingFinder", brings=frozenset({"deep_gemm"})),)),
    Entry(PORTABLE, "h200-no-deepgemm", "engines die late without it", nvidia("sm_90", deep_gemm=None)),
    Entry(REFERENCE, "t4", "Triton itself needs sm_80", nvidia("sm_75")),
    Entry(REFERENCE, "h200-no-triton", "DeepGEMM has neither store nor gather: this library's are in Triton",
        nvidia("sm_90", triton=None)),
    Entry(REFERENCE, "h200-driver-without-nvidia-ml-py", "an arch that is not known selects no kernel for it",
        nvidia("sm_90", archs=None)),
    Entry(DEEPGEMM, "h200-beside-t4-hidden", "in PCI order the second GPU is the H200",
        nvidia("sm_90", archs=["sm_75", "sm_90"]), {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}),
    # No GPU of these two
    Entry(REFERENCE, "cpu-only", "plain torch runs anywhere", {"platform": "cpu", "triton": None}),
    Entry(REFERENCE, "xpu", "no kernel of ours: its devices are not read", {"platform": "xpu"}),
    Entry(REFERENCE, "npu", "likewise", {"platform": "npu"}),
    Entry("none", "no-torch", "every row runs in torch", {"platform": "unknown", "torch": None}),
    # DeepGEMM, present and not usable
    Entry(PORTABLE, "rtx-pro-6000-sgl-deep-gemm-0.1.0", "sglang#26087: that wheel has no kernel for sm_120",
        nvidia("sm_120", deep_gemm="0.1.0", torch="2.11.0+cu130"), files=WITHOUT_SM120),
    Entry(DEEPGEMM, "rtx-pro-6000-sgl-deep-gemm-0.1.5", "sgl-deep-gemm has it from 0.1.5 on",
        nvidia("sm_120", deep_gemm="0.1.5.post1", torch="2.11.0+cu130")),
    Entry(PORTABLE, "h20-deep-gemm-of-cuda-13-torch-of-12.9", "sglang#25069: its import finds no libcudart.so.13",
        nvidia("sm_90", deep_gemm="0.1.0", torch="2.11.0+cu129"),
        files={"site/deep_gemm/_C.so": "\x7fELF libcudart.so.13"}),
    Entry(PORTABLE, "h100-without-a-cuda-toolkit", "sglang#13468: its import asserts a CUDA_HOME",
        nvidia("sm_90", deep_gemm="0.1.2", torch="2.9.1+cu130"), {"PATH": "/usr/bin:/bin"}),
    Entry(PORTABLE, "h100-runtime-image-without-nvcc", "sglang#13468: it compiles at the first call",
        nvidia("sm_90"), {"CUDA_HOME": "/usr/local/cuda"}, files={"root/usr/local/cuda/bin/nvcc": None}),
    Entry(PORTABLE, "h100-the-index-s-deep-gemm-1.0.0", "DeepGEMM#232: not DeepSeek's upload",
        nvidia("sm_90", deep_gemm=None), files={"site/deep_gemm/__init__.py": "from .jit_kernels import gemm\n"}),
    Entry(PORTABLE, "h100-deep-gemm-before-2.1", "vllm#26106: installed and outdated, it has no paged logits",
        nvidia("sm_90", deep_gemm="2.0"), files=WITHOUT_PAGED),
    Entry(PORTABLE, "h200-deep-gemm-without-tvm-ffi", "its __init__ imports what pip was told not to bring",
        nvidia("sm_90"), files={"site/deep_gemm/__init__.py": "import tvm_ffi\n"}),
    Entry(PORTABLE, "h200-deep-gemm-without-its-extension", "what it was built for is not known",
        nvidia("sm_90"), files={"site/deep_gemm/_C.so": None}),
    Entry(DEEPGEMM, "b200-deep-gemm-with-merged-headers", "since 0.1.5 the kernel of sm_100 is in sm100_mqa_logits.cuh",
        nvidia("sm_100"), files={
            f"{IMPLS}/sm100_fp8_paged_mqa_logits.cuh": None, f"{IMPLS}/sm100_mqa_logits.cuh": "",
            "site/deep_gemm/include/deep_gemm/scheduler/sm100_paged_mqa_logits.cuh": ""}),
    Entry(DEEPGEMM, "h200-vllm-with-the-copy-in-its-wheel", "vLLM takes vllm/third_party/deep_gemm",
        nvidia("sm_90", deep_gemm=None, torch="2.14.0+cu130"), {"CUDA_HOME": "/usr/local/cuda"}, "vllm", {
            "site/vllm/__init__.py": "", "site/vllm/_version.py": "__version__ = '0.33.0'\n",
            "site/vllm/third_party/deep_gemm/__init__.py": "import torch\n",
            "site/vllm/third_party/deep_gemm/_C.abi3.so": "\x7fELF libcudart.so.13 NVCC version must be at least 12.9",
            "site/vllm/third_party/deep_gemm/include/deep_gemm/impls/sm90_fp8_paged_mqa_logits.cuh": "",
            "root/usr/local/cuda/bin/nvcc": tool("13.0")}),
    # NVIDIA's GPUs by what Triton's own ptxas knows, and by the one that it is told of
    Entry(DEEPGEMM, "b300-triton-3.6.0", "sglang#14075: sm_103 compiles from Triton 3.6.0 on", nvidia("sm_103")),
    Entry(REFERENCE, "b300-triton-3.5.1", "sglang#14075: Value 'sm_103a' is not defined",
        nvidia("sm_103", triton="3.5.1")),
    Entry(DEEPGEMM, "b300-triton-3.5.1-ptxas-of-12.9", "SGLang's docs: TRITON_PTXAS_PATH",
        nvidia("sm_103", triton="3.5.1"), {"TRITON_PTXAS_PATH": "/usr/local/cuda/bin/ptxas"},
        files={PTXAS: tool("12.9")}),
    Entry(REFERENCE, "b300-triton-3.6.0-ptxas-of-12.8", "that ptxas does not know sm_103",
        nvidia("sm_103"), {"TRITON_PTXAS_BLACKWELL_PATH": "/usr/local/cuda/bin/ptxas"}, files={PTXAS: tool("12.8")}),
    Entry(REFERENCE, "b300-triton-3.6.0-ptxas-that-tells-nothing", "a wrapper: whether it knows sm_103 is not known",
        nvidia("sm_103"), {"TRITON_PTXAS_BLACKWELL_PATH": "/usr/local/cuda/bin/ptxas"}, files={PTXAS: "#!/bin/sh\n"}),
    Entry(DEEPGEMM, "b300-triton-3.6.0-ptxas-for-older-gpus", "3.6 takes the other variable for sm_100 and later",
        nvidia("sm_103"), {"TRITON_PTXAS_PATH": "/usr/local/cuda/bin/ptxas"}, files={PTXAS: tool("12.4")}),
    Entry(REFERENCE, "h100-triton-3.4.0-ptxas-of-13.1", "before 3.5 Triton raises on CUDA 13's",
        nvidia("sm_90", triton="3.4.0"), {"TRITON_PTXAS_PATH": "/usr/local/cuda/bin/ptxas"},
        files={PTXAS: tool("13.1")}),
    Entry(PORTABLE, "b300-nvcc-of-12.8", "DeepGEMM compiles with nvcc, and that of 12.8 does not know sm_103",
        nvidia("sm_103"), files={"root/usr/local/cuda-12.9/bin/nvcc": tool("12.8")}),
    Entry(PORTABLE, "gb10-triton-3.6.0", "triton#8539: sm_121 compiles from 3.6.0 on; no DeepGEMM has it",
        nvidia("sm_121")),
    Entry(REFERENCE, "gb10-triton-3.5.0", "triton#8539, gpustack#4372", nvidia("sm_121", triton="3.5.0")),
    Entry(PORTABLE, "thor-triton-3.7.1", "sm_110 compiles from 3.7.1 on", nvidia("sm_110", triton="3.7.1")),
    Entry(REFERENCE, "thor-triton-3.6.0", "and not before", nvidia("sm_110")),
    Entry(PORTABLE, "rubin-triton-3.9.0", "sm_107 compiles from 3.9.0 on", nvidia("sm_107", triton="3.9.0")),
    Entry(REFERENCE, "rubin-triton-3.8.0", "and not before", nvidia("sm_107", triton="3.8.0")),
    Entry(REFERENCE, "a-gpu-that-nobody-knows", "beyond the table is unknown", nvidia("sm_130", triton="3.9.0")),
    Entry(REFERENCE, "amd-gpu-that-nobody-knows", "likewise", amd("gfx1300", "3.9.0", None)),
    Entry(PORTABLE, "a800-32-heads", "vllm#35021: DeepGEMM has no kernel for sm_80",
        nvidia("sm_80", torch="2.7.0+cu126", triton="3.3.1"), request={"heads": 32}),
    # What the process may use, against what the driver's files show
    Entry(REFERENCE, "ray-actor-cuda-blank", "verl#6664: Ray blanks it, and CUDA shows none",
        nvidia("sm_90"), {"CUDA_VISIBLE_DEVICES": ""}),
    Entry(REFERENCE, "ray-actor-rocr-blank", "ray#54928: so does ROCr",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "ROCR_VISIBLE_DEVICES": ""}),
    Entry(TILES, "ray-actor-hip-blank", "verl#6664: HIP takes it for unset, though torch counts none until then",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "HIP_VISIBLE_DEVICES": ""}),
    Entry(REFERENCE, "mi300x-masked-three-times", "SkyRL#2230: HIP counts in what ROCr leaves",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1",
            "CUDA_VISIBLE_DEVICES": "1"}),
    Entry(REFERENCE, "h200-one-gpu-twice", "CUDA shows none where one is named twice",
        nvidia("sm_90"), {"CUDA_VISIBLE_DEVICES": "0,0"}),
    Entry(DEEPGEMM, "h100-mig-by-uuid", "vllm#41848: one instance of an sm_90",
        nvidia("sm_90"), {"CUDA_VISIBLE_DEVICES": "MIG-377e0049-554c-540b-93c6-d0976f8426cb"}),
    Entry(DEEPGEMM, "dgx-station-by-uuid", "vllm#53834, vllm#13815: a UUID is the same in every order",
        orders("sm_120", "sm_103"), {"CUDA_VISIBLE_DEVICES": "GPU-b0"}),
    Entry(REFERENCE, "dgx-station-by-index", "vllm#51677: NVML counts by bus, CUDA the fastest first",
        orders("sm_120", "sm_103"), {"CUDA_VISIBLE_DEVICES": "0"}),
    Entry(REFERENCE, "mi300x-container-without-kfd", "/sys is readable to all; ROCm opens /dev/kfd",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED, files={"root/dev/kfd": None}),
    Entry(TILES, "mi300x-container-with-seven-of-eight", "a GPU without its render file is another container's",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED, files={"root/dev/dri/renderD128": None}),
    # What cannot be read, and what can be stated
    Entry("none", "r9700-on-wsl", "unsloth#9729: behind /dev/dxg, and the fp8 dialect is the GPU's",
        {"platform": "rocm", "archs": (), "triton": "3.5.1"}, files={"root/dev/dxg": ""}),
    Entry(PORTABLE, "r9700-on-wsl-stated", "bitsandbytes#1444: NSA_CAPS_ARCH states what rocminfo prints",
        {"platform": "rocm", "archs": (), "triton": "3.5.1"}, {"NSA_CAPS_ARCH": "gfx1201"}, files={"root/dev/dxg": ""}),
    Entry(REFERENCE, "jetson-orin-nvml-not-supported", "vllm#9728: nobody can be asked, which is not none",
        {"platform": "cuda", "archs": (), "triton": "3.4.0", "modules": NO_NVML},
        files={"root/etc/nv_tegra_release": ""}),
    Entry(PORTABLE, "jetson-orin-stated", "vllm#9735", {"platform": "cuda", "archs": (), "triton": "3.4.0",
        "modules": NO_NVML}, {"NSA_CAPS_ARCH": "sm_87"}, files={"root/etc/nv_tegra_release": ""}),
    Entry(REFERENCE, "gke-library-off-the-path", "kinetic#269: /dev/nvidia0 is there, the library elsewhere",
        {"platform": "cuda", "archs": (), "modules": NO_NVML}, files={"root/dev/nvidia0": ""}),
    # Other vendors, as themselves
    Entry(REFERENCE, "dcu-bw1100-das", "inference-cookbook-das#17: the engine's own path",
        {"platform": "dcu", "archs": ["gfx938"] * 8, "torch": "2.7.1+das.opt1", "triton": "3.3.0"}),
    Entry(REFERENCE, "metax-c500", "xllm#1851: a CUDA build of torch without NVIDIA's driver",
        {"platform": "metax", "torch": "2.6.0+metax3.2.1.3"}, files={"root/dev/mxcd": ""}),
    Entry(REFERENCE, "gaudi", "vllm-gaudi#1664", {"platform": "hpu"}),
    Entry(REFERENCE, "musa", "Moore Threads, by its plugin", {"platform": "musa"}),
    Entry(REFERENCE, "ascend-on-x86", "the index's torch there is CUDA's, with torch_npu beside it",
        {"platform": "cuda"}, files={"site/torch_npu/__init__.py": "", "root/dev/davinci_manager": ""}),
    # What is asked for
    Entry("reference.48", "h200-pages-of-48", "no kernel takes them; plain torch takes any", nvidia("sm_90"),
        request={"page_size": 48}),
    Entry(REFERENCE, "h200-48-heads", "compiled with 32 and 64", nvidia("sm_90"), request={"heads": 48}),
    Entry(REFERENCE, "h200-keys-of-64", "every kernel of the field has 128 dimensions", nvidia("sm_90"),
        request={"head_dim": 64, "quant_block_size": 64}),
    Entry(PORTABLE, "h200-asked-for-portable", "NSA_CAPS_ROW", nvidia("sm_90"), {"NSA_CAPS_ROW": "portable"}),
    Entry(REFERENCE, "h200-rows-of-the-engine", "an engine may be able to run one row only", nvidia("sm_90"),
        request={"rows": ("reference",)}),
    # aiter's rarer ways to fail
    Entry(PORTABLE, "mi300x-aiter-trimmed", "315fb08e: AITER_TRITON_ONLY=1 keeps the cache kernels out",
        mi300x("3.7.0", "861b4c93", "0.1.16"), {**ASKED, ESCAPE: "1", "AITER_TRITON_ONLY": "1"}),
    Entry(PORTABLE, "mi300x-gpu-archs-blank", "a blank is no arch to aiter: a KeyError",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), {**ASKED, "GPU_ARCHS": ""}),
    Entry(PORTABLE, "mi300x-aot-bundle-without-its-code", "aiter's loader opens both files",
        mi300x("3.3.1", "a8eb62f5", "0.1.11", bundle=[replace(TOKEN_942, complete=False)]), {**ASKED, AOT: "1"}),
    Entry(PORTABLE, "mi300x-aot-triton-3.4.0-aiter-0.1.11", "triton#7258: another ABI from 3.4 on",
        mi300x("3.4.0", "a8eb62f5", "0.1.11", bundle=[TOKEN_942]), {**ASKED, AOT: "1"}),
    # Packages that cannot be read
    Entry(REFERENCE, "h200-triton-is-empty", "an import of it gets nothing", nvidia("sm_90"),
        files={"site/triton/__init__.py": ""}),
    Entry(REFERENCE, "h200-triton-of-no-version", "what cannot be compared is not known",
        nvidia("sm_90", triton="unknown", triton_distributions={})),
    # aiter's sources that no release has
    Entry(TOKEN, "mi300x-gluon-cut-out-by-the-image", "SGLang's rocm720 images: sed '459 s/if.*:/if False:/'",
        mi300x("3.6.0", replace(GENERATIONS["a8eb62f5"], wrapper="plain"), "0.1.11"), ASKED),
    Entry(PORTABLE, "mi300x-triton-3.5.1-aiter-d863d2f8", "its launches lack one argument: Triton 3.5 counts them",
        mi300x("3.5.1", replace(GENERATIONS["a6bb4993"], launches_short=("base", "preshuffle"))), ASKED),
    Entry(PORTABLE, "mi300x-aiter-with-a-kernel-of-its-own", "a body that nobody compiled is not known to be right",
        mi300x("3.6.0", replace(GENERATIONS["a6bb4993"], compiled=()), "0.1.13"), ASKED),
    Entry(TILES, "mi300x-aiter-with-a-kernel-of-its-own-proven", "and a proof on the device settles it",
        mi300x("3.6.0", replace(GENERATIONS["a6bb4993"], compiled=()), "0.1.13"), ASKED,
        kept={"aiter-preshuffle": "proven"}),
    Entry(PORTABLE, "mi300x-aot-bundle-behind-a-loop-of-links", "what cannot be read may hold the kernel or not",
        mi300x("3.3.1", "a8eb62f5", "0.1.11"), {**ASKED, AOT: "1"}, files={f"site/{AOT_FOLDER}": Path("aot")}),
    Entry(PORTABLE, "mi300x-sglang-0.5.15-aiter-0.1.13", "sglang#28757: clean_logits, which aiter has since #3226",
        mi300x("3.6.0", "a6bb4993", "0.1.13", engines={"sglang": "0.5.15"}), ASKED),
    Entry(TILES, "mi300x-sglang-0.5.15-aiter-0.1.15", "aiter#3226 takes it",
        mi300x("3.6.0", "3b2e6f48", "0.1.15", engines={"sglang": "0.5.15"}), ASKED),
    # A package, or a GPU, that is there and of no use to this Python, or to this torch
    Entry(PORTABLE, "h200-deep-gemm-of-another-python", "its extension is not one that this Python imports",
        nvidia("sm_90"), files={"site/deep_gemm/_C.so": None,
            "site/deep_gemm/_C.cpython-37m-x86_64-linux-gnu.so": "\x7fELF libcudart.so.12"}),
    Entry(PORTABLE, "h200-deep-gemm-half-unpacked", "its __init__ imports a module of its own that is not there",
        nvidia("sm_90"), files={"site/deep_gemm/__init__.py": "from .utils import *\n"}),
    Entry(PORTABLE, "h200-deep-gemm-whose-import-raises", "a stub that tells where the package went",
        nvidia("sm_90"), files={"site/deep_gemm/__init__.py": "raise ImportError('use another package')\n"}),
    Entry(REFERENCE, "h200-torch-for-rocm", "a torch for another vendor's GPUs sees none of these",
        nvidia("sm_90", platform="rocm", deep_gemm=None)),
    Entry(REFERENCE, "mi300x-torch-for-cuda", "likewise", mi300x("3.6.0", None, platform="cuda"), ASKED),
    Entry(REFERENCE, "h200-torch-for-cpus", "and a torch for CPUs sees no GPU at all",
        nvidia("sm_90", platform="cpu", torch="2.13.0+cpu")),
    Entry(REFERENCE, "jetson-orin-stated-as-an-amd-gpu", "what is stated does not make torch another one",
        {"platform": "cuda", "archs": (), "triton": "3.4.0", "modules": NO_NVML}, {"NSA_CAPS_ARCH": "gfx942"},
        files={"root/etc/nv_tegra_release": ""}),
    # What each release of an engine hands aiter, and the first aiter that takes it
    Entry(PORTABLE, "mi300x-sglang-0.5.12-aiter-0.1.12", "aiter#2879: it hands the store preshuffle, at page 1 too",
        mi300x("3.5.1", "10c87ea1", "0.1.12", engines={"sglang": "0.5.12"}), ASKED),
    Entry(TOKEN, "mi300x-sglang-0.5.12-aiter-0.1.12-not-asked-for", "without aiter's store nothing new is handed",
        mi300x("3.5.1", "10c87ea1", "0.1.12", engines={"sglang": "0.5.12"})),
    Entry(TILES, "mi300x-sglang-0.5.12-aiter-0.1.13", "aiter#2879 takes it, and clean_logits comes with 0.5.15",
        mi300x("3.6.0", "a6bb4993", "0.1.13", engines={"sglang": "0.5.12"}), ASKED),
    Entry(PORTABLE, "mi300x-sglang-0.5.23-aiter-0.1.13-not-asked-for", "clean_logits is handed on every ROCm",
        mi300x("3.6.0", "a6bb4993", "0.1.13", engines={"sglang": "0.5.23"})),
    Entry(PORTABLE, "mi300x-sglang-of-unknown-release-aiter-0.1.13", "what it hands is not known: as the newest read",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED, files={"site/sglang/__init__.py": ""}),
    Entry(PORTABLE, "mi355x-sglang-0.5.21-aiter-0.1.16", "aiter#5066: compute_all_q_rope, which no release takes",
        amd("gfx950", "3.7.0", "861b4c93", "0.1.16", engines={"sglang": "0.5.21"}), ASKED),
    Entry(TILES, "mi355x-sglang-0.5.21-aiter-0.1.16-unfused", "and its variable keeps SGLang from that function",
        amd("gfx950", "3.7.0", "861b4c93", "0.1.16", engines={"sglang": "0.5.21"}),
        {**ASKED, "SGLANG_DISABLE_AITER_FUSED_FP8_DSA_INDEXER": "1"}),
    Entry(TILES, "mi300x-sglang-0.5.21-aiter-0.1.16", "SGLang fuses on gfx950 alone",
        mi300x("3.7.0", "861b4c93", "0.1.16", engines={"sglang": "0.5.21"}), ASKED),
    Entry(PORTABLE, "mi300x-vllm-0.30-aiter-0.1.16", "it imports flydsl_fp8_mqa_logits, of 0.1.18 and 0.1.16.post6",
        mi300x("3.7.0", "861b4c93", "0.1.16", engines={"vllm": "0.30.0"}), VLLM_ASKED, "vllm"),
    Entry(TILES, "mi300x-vllm-0.30-aiter-0.1.18", "which has it, with flydsl",
        mi300x("3.7.0", AITER_RELEASES["0.1.18"].source, "0.1.18", engines={"vllm": "0.30.0"}, flydsl="0.2.4"),
        VLLM_ASKED, "vllm"),
    Entry(PORTABLE, "mi300x-vllm-0.33-aiter-0.1.18-no-flydsl", "without flydsl aiter.ops.flydsl has none of its names",
        mi300x("3.7.0", AITER_RELEASES["0.1.18"].source, "0.1.18", engines={"vllm": "0.33.0"}), VLLM_ASKED, "vllm"),
    Entry(PORTABLE, "mi300x-vllm-0.33-aiter-0.1.18-flydsl-0.2.2", "aiter.ops.flydsl raises below 0.2.4",
        mi300x("3.7.0", AITER_RELEASES["0.1.18"].source, "0.1.18", engines={"vllm": "0.33.0"}, flydsl="0.2.2"),
        VLLM_ASKED, "vllm"),
    Entry(TILES, "mi355x-vllm-0.33-aiter-0.1.18-no-flydsl", "vLLM calls it on gfx942 alone",
        amd("gfx950", "3.7.0", AITER_RELEASES["0.1.18"].source, "0.1.18", engines={"vllm": "0.33.0"}), VLLM_ASKED,
        "vllm"),
    Entry(TILES, "mi300x-vllm-0.33-aiter-0.1.18", "aiter 0.1.18 with the flydsl that it pins has it",
        mi300x("3.7.0", AITER_RELEASES["0.1.18"].source, "0.1.18", engines={"vllm": "0.33.0"}, flydsl="0.2.4"),
        VLLM_ASKED, "vllm"),
    Entry(TILES, "mi300x-vllm-0.33-aiter-0.1.16.post6", "0.1.16.post6 has it too; 0.1.17 has not",
        mi300x("3.7.0", V0_1_16_POST6, "0.1.16.post6", engines={"vllm": "0.33.0"}, flydsl="0.2.4"), VLLM_ASKED,
        "vllm"),
    Entry(PORTABLE, "mi355x-sglang-0.5.23-aiter-0.1.16", "0.5.23 hands it as 0.5.21 does",
        amd("gfx950", "3.7.0", "861b4c93", "0.1.16", engines={"sglang": "0.5.23"}), ASKED),
    Entry(TOKEN, "mi355x-sglang-0.5.23-aiter-0.1.16-not-asked-for", "without aiter SGLang fuses nothing",
        amd("gfx950", "3.7.0", "861b4c93", "0.1.16", engines={"sglang": "0.5.23"})),
    Entry(TILES, "mi355x-sglang-0.5.23-aiter-with-5066", "aiter#5066 takes it",
        amd("gfx950", "3.7.0", WITH_5066, engines={"sglang": "0.5.23"}), ASKED),
    Entry(PORTABLE, "mi300x-aiter-0.1.16-flydsl-0.1.4", "import aiter runs aiter.ops.flydsl, which raises below 0.1.8",
        mi300x("3.7.0", "861b4c93", "0.1.16", flydsl="0.1.4"), ASKED),
    Entry(TILES, "mi300x-aiter-0.1.16-flydsl-0.2.0", "the flydsl that it pins", mi300x("3.7.0", "861b4c93", "0.1.16",
        flydsl="0.2.0"), ASKED),
    Entry(TILES, "mi355x-vllm-0.30-aiter-0.1.12", "vLLM stores and gathers itself, so aiter#2879 is not needed",
        amd("gfx950", "3.5.1", "10c87ea1", "0.1.12", engines={"vllm": "0.30.0"}), VLLM_ASKED, "vllm"),
    Entry(PORTABLE, "mi355x-vllm-0.33-aiter-0.1.13", "clean_logits since 0.33, which aiter has since #3226",
        amd("gfx950", "3.6.0", "a6bb4993", "0.1.13", engines={"vllm": "0.33.0"}), VLLM_ASKED, "vllm"),
    Entry(TILES, "mi355x-vllm-0.33-aiter-0.1.15", "aiter#3226 takes it",
        amd("gfx950", "3.6.0", "3b2e6f48", "0.1.15", engines={"vllm": "0.33.0"}), VLLM_ASKED, "vllm"),
    Entry("none", "mi300x-vllm-0.33-without-aiter-as-it-is", "forward_hip raises on gfx942 without aiter",
        mi300x("3.6.0", None, engines={"vllm": "0.33.0"}), engine="vllm", kernels=False),
    Entry("reference.1", "mi355x-vllm-0.33-without-aiter-as-it-is", "it goes on with plain torch on gfx950 and gfx11",
        amd("gfx950", "3.6.0", None, engines={"vllm": "0.33.0"}), engine="vllm", kernels=False),
    Entry("reference.1", "mi355x-vllm-0.33-asked-for-an-aiter-that-is-not-there", "nor does it raise where it is asked",
        amd("gfx950", "3.6.0", None, engines={"vllm": "0.33.0"}), VLLM_ASKED, "vllm", kernels=False),
    Entry("reference.1", "strix-halo-vllm-0.33-asked-for-aiter", "on gfx11 vLLM calls nothing of aiter's",
        amd("gfx1151", "3.7.0", "861b4c93", "0.1.16", engines={"vllm": "0.33.0"}), VLLM_ASKED, "vllm", kernels=False),
    Entry("none", "mi250x-vllm-0.33-without-aiter", "forward_hip raises on gfx90a",
        amd("gfx90a", "3.6.0", None, engines={"vllm": "0.33.0"}), engine="vllm", kernels=False),
    Entry("none", "r9700-vllm-0.33-without-aiter", "forward_hip raises on gfx1201",
        amd("gfx1201", "3.6.0", None, engines={"vllm": "0.33.0"}), engine="vllm", kernels=False),
    Entry("none", "gfx1250-vllm-0.33-without-aiter", "forward_hip raises on gfx1250",
        amd("gfx1250", "3.7.0", None, engines={"vllm": "0.33.0"}), engine="vllm", kernels=False),
    # What ran on the machine before
    Entry(PORTABLE, "h200-deepgemm-known-wrong", "what was seen to be wrong here is not taken again",
        nvidia("sm_90"), kept={"deepgemm": "wrong"}),
    Entry(TOKEN, "mi300x-tiles-hang", "MI300A hangs: a row that did not end is not tried by the engine",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED, kept={"aiter-preshuffle": "timed-out"}),
    Entry(PORTABLE, "mi300x-no-kernel-of-aiter-runs", "builds carry no code for the GPU",
        mi300x("3.6.0", "a6bb4993", "0.1.13"), ASKED,
        kept={"aiter-preshuffle": "cannot-run", "aiter-token": "cannot-run"}),
    Entry(PORTABLE, "a-gpu-that-nobody-knows-proven", "sm_130 costs one proof, and not the fallback",
        nvidia("sm_130", triton="3.9.0"), kept={"portable": "proven"}),
    # What an engine can run there, and what a third party brings
    Entry("none", "l40s-vllm-0.33-as-it-is", "vllm#38476: vLLM has DeepGEMM alone on CUDA",
        nvidia("sm_89", engines={"vllm": "0.33.0"}), engine="vllm", kernels=False),
    Entry(PORTABLE, "l40s-vllm-0.33-with-these-kernels", "vllm#40928, vllm#41827: with them it runs",
        nvidia("sm_89", engines={"vllm": "0.33.0"}), engine="vllm", kernels=True),
    Entry("none", "mi250x-sglang-as-it-is", "gfx90a has no aiter kernel, and SGLang no other on ROCm",
        amd("gfx90a", "3.6.0", "a6bb4993", "0.1.13"), ASKED, kernels=False),
    Entry(DEEPGEMM, "h200-beside-a-row-that-raises", "a third party's row that fails is out, and ours go on",
        nvidia("sm_90"), third_party=(guarded_row(ACME, "acme: acme:row", TimeLimit()),)),
)  # fmt: skip


ENTRIES = {f"{entry.answer}--{entry.name}.json": entry for entry in TABLE}


def snapshot(entry: Entry) -> Capabilities:
    """Return what is found on an entry's machine, wherever it is laid out."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {**entry.environ, **({"NSA_CAPS_PROOFS": f"{folder}/proofs"} if entry.kept else {})}
        host = machine(Path(folder) / "m", environ=environ, **entry.described)
        for name, text in entry.files.items():
            path = Path(folder) / "m" / name
            if text is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, Path):
                path.symlink_to(text)
            else:
                path.write_text(text, encoding="utf-8")
        host = replace(host, finders=entry.finders)
        for row, verdict in entry.kept.items():
            keep_verdict(host, probe(host, engine=entry.engine), row, verdict)
        caps = probe(host, engine=entry.engine)
        return moved(caps, {host.search_path[0]: SITE, host.root: "", f"{folder}/proofs": PROOFS})


def keep_verdict(host: Host, caps: Capabilities, name: str, verdict: Proven, **more: Any) -> KeptVerdict:
    """Write the file that `nsa-caps prove` would have left for a row on the machine's kind of device, and return it.

    Args:
        host: the machine.
        caps: what was found there.
        name: the row.
        verdict: what came of it.
        more: fields of the verdict that differ.
    """
    row, (kind,) = find_row(name), device_kinds(caps)
    fmt = decide(caps).verdict(name).format
    if fmt is None:
        raise ValueError(f"{name} has no page format on this machine, so it cannot have been run there")
    versions = versions_of(caps, row)
    found = KeptVerdict(
        row=name, verdict=verdict, format=format_fields(fmt), heads=64, device=kind, driver=caps.driver,
        packages=tuple(BoundPackage(each, versions.get(each)) for each in row.bound_packages),
        variables=(), told=TOLD[verdict], made="2026-11-25", limit=300.0,
    )  # fmt: skip
    return keep(host, replace(found, **more), package_files(host, {"torch": ["version.py"]}), {})


def moved(caps: Capabilities, folders: dict[str, str]) -> Capabilities:
    """Return the snapshot of the same machine with its folders elsewhere."""
    text = caps.to_json()
    for old, new in folders.items():
        text = text.replace(old, new)
    return Capabilities.from_json(text)


def write(answer: str, name: str, caps: Capabilities) -> None:
    """Write a snapshot under the answer that is expected of it."""
    (FOLDER / f"{answer}--{name}.json").write_text(caps.to_json() + "\n", encoding="utf-8")


def main() -> None:
    """Make the table's snapshots again, or add a real one."""
    parser = argparse.ArgumentParser(description="Make the corpus of machines.")
    parser.add_argument("--real", nargs=3, metavar=("SNAPSHOT", "ANSWER", "NAME"), help="add a machine that there is")
    real = parser.parse_args().real
    if real:
        caps = Capabilities.from_json(Path(real[0]).read_text(encoding="utf-8"))
        packages = (caps.torch, caps.triton, caps.aiter, caps.deep_gemm)
        write(
            real[1],
            f"{REAL}{real[2]}",
            moved(caps, {os.path.dirname(p.location): SITE for p in packages if p.location}),
        )
        return
    for path in FOLDER.glob("*.json"):
        if f"--{REAL}" not in path.name:
            path.unlink()
    for entry in TABLE:
        write(entry.answer, entry.name, snapshot(entry))


if __name__ == "__main__":
    main()
