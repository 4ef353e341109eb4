"""Where an engine's own gate and this library differ: a matrix of machines, the classes, and the count of each.

The classes are the reasons' codes. `docs/differences.md` tells each in words; `table.py` writes the counts.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import nsa_caps
from nsa_caps.capabilities.records import AotKernel
from nsa_caps.capabilities.switches import with_variables
from nsa_caps.engines import sglang, vllm
from nsa_caps.testing import GENERATIONS, lay_out_gpus, lay_out_packages
from tests.downstream.gates import sglang_tiles, vllm_supports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nsa_caps.capabilities.records import Capabilities, Platform
    from tests.downstream.wheels import Wheel


class Class(NamedTuple):
    """Why the engine goes on where this library does not, or the other way round.

    Attributes:
        why: what the engine's gate does not look at.
        seen: the public issues that show it; empty where none was found.
    """

    why: str
    seen: tuple[str, ...] = ()


CLASSES: Mapping[str, Class] = {
    "aiter.import-barred": Class(
        "aiter's own minimum of Triton, below which nothing of it can be imported", ("sglang#37451", "sglang#36555")
    ),
    "aiter.import-trimmed": Class("the variables that keep the kernels out of what `import aiter` brings"),
    "triton.too-old": Class(
        "that aiter takes only `1` for its ahead-of-time variable: `true` turns SGLang's gate on and aiter's not",
        ("sglang#25205",),
    ),
    "aiter.no-preshuffle-cache": Class("whether aiter's store and gather know tiles", ("aiter#2879",)),
    "aiter.no-preshuffle-logits": Class("whether aiter's logits kernel takes pages at all", ("aiter#1174",)),
    "aiter.arch-not-gluon": Class(
        "the GPU: aiter's gluon kernels take two or three archs", ("aiter#4255", "aiter#1936")
    ),
    "aiter.unknown-arch": Class("whether aiter has heard of the GPU: a KeyError at its import", ("aiter#1552",)),
    "aiter.does-not-compile": Class(
        "that a kernel may pass every gate and not compile", ("sglang#26533", "aiter#2575")
    ),
    "aiter.no-fp8-type": Class("whether aiter has an fp8 type for the GPU", ("vllm#51530",)),
    "device.arch": Class("the GPU: the engine looks at the platform only", ("sglang#35429", "vllm#38476")),
    "device.arch-unproven": Class("that nobody compiled the kernel for this GPU: what is unknown is not chosen"),
    "device.none": Class("whether a GPU is visible: the platform is a fact of torch's build"),
    "device.unknown": Class("which GPU is visible"),
    "aot.name-error": Class("that ahead-of-time kernels below Triton 3.5 are a NameError since aiter 10c87ea1"),
    "aot.triton": Class("which Triton the ahead-of-time kernels fit", ("triton#7258",)),
    "aot.kernel-missing": Class("whether the ahead-of-time kernels are there; no release has any", ("sglang#25205",)),
    "aot.wrong-arch": Class("which GPU the ahead-of-time kernels are for; aiter's loader does not look either"),
    "package.missing": Class("whether aiter or DeepGEMM is installed", ("vllm-windows#59",)),
    "deepgemm.toolkit": Class("whether there is a CUDA toolkit, without which DeepGEMM does not import"),
    "package.impostor": Class("whether the package named aiter is AMD's"),
    "switch.preshuffle-off": Class(
        "the other name of the switch, or another grammar: 0.5.12 knows the old name and takes `1` and `true`, 0.5.23"
        " knows the new one and takes `yes` too; here both names count"
    ),
    "switch.aiter-off": Class(
        "our `NSA_CAPS_USE_AITER=0`; for vLLM its own switch: without aiter its torch fallback reads tiles as flat",
        ("vllm#52109",),
    ),
    "engine.keyword": Class(
        "whether aiter takes every keyword that the engine hands it: one more is a TypeError",
        ("sglang#28757", "aiter#3226", "aiter#5066"),
    ),
    "page.size": Class("the block size: multiples of 16 such as 48 that aiter's kernel refuses at the first decode"),
    "row.not-in-request": Class("that on this GPU vLLM runs another kernel, which reads no tiles"),
    "platform.mismatch": Class("that there is no row for this platform here: leave the engine's own answer"),
    "wider": Class("our `NSA_CAPS_USE_AITER=1`, which SGLang does not read; `install` refuses it"),
}


class Cell(NamedTuple):
    """One question: what the engine would run, and what is said here.

    Attributes:
        caps: the machine.
        theirs: the row that the engine would run, and its page size; None: it refuses.
        ours: whether that row is chosen here, or, where the engine refuses, whether any is not.
        codes: the reasons against the engine's row, or `wider`.
    """

    caps: Capabilities
    theirs: str | None
    agree: bool
    codes: frozenset[str]


@dataclass
class Count:
    """What comparing one wheel gave."""

    cells: int = 0
    agree: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    unexplained: list[Cell] = field(default_factory=list)

    def add(self, cell: Cell) -> None:
        """Count one cell; it may be of several classes."""
        self.cells += 1
        self.agree += cell.agree
        if not cell.agree:
            self.classes.update(cell.codes)
            self.alone.update(cell.codes if len(cell.codes) == 1 else ())
            if not cell.codes or not cell.codes <= CLASSES.keys():
                self.unexplained.append(cell)


AITERS = (None, "impostor", *GENERATIONS)
TRITONS = ("3.3.1", "3.4.0", "3.5.0rc1", "3.5.1", "3.6.0.dev1", "3.6.0", "3.7.0")
# The last two: a node without a GPU, and a driver that does not tell.
AMD: tuple[str | None, ...] = ("gfx942", "gfx950", "gfx1250", "gfx1201", "gfx1151", "gfx90a", "", None)
NVIDIA: tuple[str | None, ...] = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120", "", None)
AOT = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"
ROCM_VARIABLES = tuple(
    {**use, **other}
    for use in (
        {},
        {"SGLANG_USE_AITER": "1", "VLLM_ROCM_USE_AITER": "1"},
        {"SGLANG_USE_AITER": "yes"},
        {"NSA_CAPS_USE_AITER": "1"},
        {"SGLANG_USE_AITER": "True", "NSA_CAPS_USE_AITER": "0"},
    )
    for other in (
        {},
        {"SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "1"},
        {"SGLANG_NSA_HIP_DISABLE_PRESHUFFLE": "1"},
        {"SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "yes"},
        {"SGLANG_NSA_HIP_DISABLE_PRESHUFFLE": "yes"},
        {AOT: "1"},
        {AOT: "true"},
        {"AITER_USE_SYSTEM_TRITON": "1"},
        {"AITER_TRITON_ONLY": "1"},
    )
)
OTHERS = {"sglang": "VLLM", "vllm": "SGLANG"}
KERNELS = tuple(f"paged_mqa_logits_{kind}" for kind in ("preshuffle_64x256x128_B64PFW2", "64x256x128_B1PFW2"))


def settings(engine: str) -> list[dict[str, str]]:
    """Return the settings of the variables that an engine may read, each once."""
    found: list[dict[str, str]] = []
    for variables in ROCM_VARIABLES:
        read = {name: text for name, text in variables.items() if name.split("_")[0] != OTHERS[engine]}
        if read not in found:
            found.append(read)
    return found


def machines(folder: Path, engine: Literal["sglang", "vllm"], release: str) -> Iterator[Capabilities]:
    """Lay machines out below a folder and yield what is read of each, under every setting of the variables.

    Args:
        folder: where.
        engine: what is installed on them.
        release: its release.
    """
    bundle = [AotKernel(name, complete=True, arch="gfx942") for name in KERNELS]
    stacks: list[tuple[Platform, str, str | None, list[AotKernel], str | None]] = [
        ("rocm", triton, amd, kernels, None)
        for triton, amd in itertools.product(TRITONS, AITERS)
        for kernels in ([], bundle)
        if not kernels or (amd in ("a8eb62f5", "04907edc") and triton in ("3.3.1", "3.6.0"))
    ]
    stacks += [("cuda", "3.6.0", None, [], deep_gemm) for deep_gemm in (None, "2.1.1")]
    stacks += [("cpu", "3.6.0", None, [], None)]
    for number, (platform, triton, amd, kernels, deep_gemm) in enumerate(stacks):
        site = lay_out_packages(
            folder / f"site{number}",
            platform=platform,
            torch="2.9.1",
            triton=triton,
            aiter=amd,
            bundle=kernels,
            deep_gemm=deep_gemm,
            engines={engine: release},
        )
        for arch in {"rocm": AMD, "cuda": NVIDIA}.get(platform, ("",)):
            root = folder / f"root-{platform}-{arch}"
            archs = None if arch is None else (arch,) if arch else ()
            modules = lay_out_gpus(root, archs, nvidia=platform == "cuda")
            host = nsa_caps.Host(environ={}, search_path=(site,), modules=modules, root=str(root))
            caps = vllm.probe_machine(host) if engine == "vllm" else nsa_caps.probe(host, engine=engine)
            for variables in settings(engine) if platform == "rocm" else ({},):
                yield with_variables(caps, variables, engine)


def sglang_cell(caps: Capabilities, tiles: Callable[[Platform, str | None, Mapping[str, str]], bool]) -> Cell:
    """Return what SGLang's gate makes it run on a machine, and what its shim says of that."""
    said = tiles(caps.platform, caps.triton.version, caps.variables)
    theirs = "aiter-preshuffle" if said else "aiter-token" if caps.platform == "rocm" else "deepgemm"
    decision = nsa_caps.decide(caps, nsa_caps.Request(rows=sglang.ROWS))
    verdict = decision.verdict(theirs)
    codes = frozenset(reason.code for reason in verdict.reasons)
    agree = decision.chosen == theirs
    if not agree and not codes:
        codes = frozenset({"wider"})
    return Cell(caps, theirs, agree, codes)


# What vLLM may be asked for on the command line; 48 and its like are multiples of 16 too.
BLOCK_SIZES = (1, 16, 32, 48, 64, 80, 96, 128, 256, 512, 640)


def vllm_cells(caps: Capabilities, supports: Callable[[Platform, int], bool]) -> Iterator[Cell]:
    """Return what vLLM says of every block size on a machine, and what its shim says."""
    layouts = vllm.layouts(caps)
    runs = vllm.rows(caps)
    for size in BLOCK_SIZES:
        said = supports(caps.platform, size)
        theirs = ("aiter-token" if size == 1 else "aiter-preshuffle") if caps.platform == "rocm" else "deepgemm"
        # Without aiter, blocks of one token go to its plain torch.
        rows = (theirs, "reference") if theirs == "aiter-token" else (theirs,)
        decision = nsa_caps.decide(
            caps, nsa_caps.Request(page_size=size, rows=tuple(row for row in rows if row in runs) or ("aiter-token",))
        )
        codes = frozenset(reason.code for row in rows for reason in decision.verdict(row).reasons)
        yield Cell(caps, f"{theirs} at {size}" if said else None, said is (size in layouts), codes)


def count(wheel: Wheel, folder: Path) -> Count:
    """Compare one wheel over all machines, which are laid out below a folder of its own."""
    found = Count()
    if wheel.project == "sglang":
        tiles = sglang_tiles(wheel, folder)
        for caps in machines(folder, "sglang", wheel.version):
            found.add(sglang_cell(caps, tiles))
    else:
        supports = vllm_supports(wheel)
        for caps in machines(folder, "vllm", wheel.version):
            for cell in vllm_cells(caps, supports):
                found.add(cell)
    return found
