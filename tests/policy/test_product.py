"""Every row of thousands of machines, against `oracle.py`: laid out on disk and probed, and by hand for the rest."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import Capabilities, Host, Request, decide, probe
from nsa_caps.testing import lay_out_gpus, lay_out_packages
from tests.hand import BUNDLES, bundle_of, capabilities, lay_out_nvcc
from tests.oracle import GENERATIONS, ROWS, Machine, expected_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

TRITONS = (
    "3.1.0",
    "3.2.0",
    "3.3.1",
    "3.4.0",
    "3.5.0rc1",
    "3.5.0+gite392a058",
    "3.5.1",
    "3.6.0.dev1",
    "3.6.0rc1",
    "3.6.0",
    "3.7.0+amd.rocm7.2.0.git89002410",
    "3.10.0",
    "unknown",
    "",
    None,
)
ARCHS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1151", "gfx1200", "gfx1250", "gfx936", "gfx1036")
AITERS = (*GENERATIONS, "impostor", None)
ASKED = {"SGLANG_USE_AITER": "1"}
AOT = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"
ESCAPE = "AITER_USE_SYSTEM_TRITON"


@dataclass
class Ground:
    """Folders that machines share: one for each torch, Triton, aiter with its bundle, DeepGEMM, and set of GPUs."""

    folder: Path
    sites: dict[str, str] = field(default_factory=dict)
    gpus: dict[tuple[tuple[str, ...] | None, bool], tuple[str, Mapping[str, object]]] = field(default_factory=dict)

    def _site(self, **packages: Any) -> str:
        key = repr(packages)
        if key not in self.sites:
            self.sites[key] = lay_out_packages(self.folder / f"site{len(self.sites)}", **packages)
        return self.sites[key]

    def _path(self, machine: Machine) -> Iterator[str]:
        if machine.torch:
            yield self._site(platform=machine.platform, torch="2.9.1")
        if machine.triton is not None:
            yield self._site(triton=machine.triton)
        if machine.aiter is not None:
            bundle = bundle_of(machine.bundle, (machine.archs or ("gfx942",))[0], machine.aiter)
            yield self._site(aiter=machine.aiter, bundle=bundle)
        if machine.deep_gemm:
            yield self._site(deep_gemm="2.1.1")

    def host(self, machine: Machine) -> Host:
        """Return the host of a machine, laying out what is not there yet."""
        key = machine.archs, machine.platform == "cuda"
        if key not in self.gpus:
            folder = self.folder / f"root{len(self.gpus)}"
            self.gpus[key] = str(folder), lay_out_gpus(folder, key[0], nvidia=key[1])
            if key[1]:
                lay_out_nvcc(folder)
        root, modules = self.gpus[key]
        return Host(machine.environ, tuple(self._path(machine)), modules, root)


# No length of any list below, so that in the end each value of it is met.
@pytest.fixture(params=[pytest.param(17, id="each_17th"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def each(request: pytest.FixtureRequest) -> int:
    """Return how many machines there are for one that is looked at."""
    asked: int = request.param
    return asked


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Return a place where machines are laid out."""
    return Ground(tmp_path_factory.mktemp("machines"))


def met_rows(caps: Capabilities, request: Request) -> tuple[str, ...]:
    """Return the rows that are met, having checked that the first of them is the one chosen."""
    decision = decide(caps, request)
    met = tuple(verdict.row for verdict in decision.verdicts if verdict.verdict == "met")
    assert decision.chosen == (met[0] if met else None)
    assert tuple(verdict.row for verdict in decision.verdicts) == ROWS
    return met


def check(
    machines: Iterable[Machine], rows_of: Callable[[Machine], tuple[str, ...]], at_least: int, each: int = 1
) -> None:
    """Compare each so-manieth machine with the oracle; a failure names the first machines that differ."""
    wrong, count = [], 0
    for machine in itertools.islice(machines, 0, None, each):
        count += 1
        found, expected = rows_of(machine), expected_rows(machine)
        if found != expected:
            wrong.append(f"{machine}\n    is told {found}, expected {expected}")
    assert not wrong, f"{len(wrong)} of {count} differ:\n" + "\n".join(wrong[:8])
    assert count >= at_least // each


def probed(ground: Ground, heads: int = 64) -> Callable[[Machine], tuple[str, ...]]:
    """Return what is told of a machine that is laid out on disk and probed."""
    return lambda machine: met_rows(
        probe(ground.host(machine), engine=machine.engine), Request(heads=heads, page_size=machine.page_size)
    )


def rocm(**fields: Any) -> Machine:
    """Return an AMD machine whose engine asks for aiter, changed as told."""
    return replace(Machine(platform="rocm", archs=("gfx942",), environ=ASKED), **fields)


def test_every_generation_of_aiter_on_every_triton_and_gpu(ground: Ground, each: int) -> None:
    """Every aiter generation x Triton x GPU, aiter asked for, gets the rows that the oracle names."""
    machines = (
        rocm(aiter=generation, triton=triton, archs=(arch,))
        for generation in AITERS
        for triton in TRITONS
        for arch in ARCHS
    )
    check(machines, probed(ground), 1700, each)


def test_every_generation_with_the_variables_that_trim_it(ground: Ground, each: int) -> None:
    """Where aiter reads AITER_TRITON_ONLY or AITER_AOT_IMPORT, exactly `1` bars its rows; elsewhere nothing does."""
    machines = (
        rocm(aiter=generation, triton=triton, environ={**ASKED, name: value})
        for generation in AITERS
        for triton in ("3.4.0", "3.6.0")
        for name in ("AITER_TRITON_ONLY", "AITER_AOT_IMPORT")
        for value in ("1", "true", "0", "")
    )
    check(machines, probed(ground), 150, each)


def test_every_bundle_in_every_state(ground: Ground, each: int) -> None:
    """With the AOT variable set, every aiter generation x Triton x bundle state x GPU that has gluon kernels."""
    machines = (
        rocm(aiter=generation, triton=triton, archs=(arch,), bundle=bundle, environ={**ASKED, AOT: "1"})
        for generation in GENERATIONS
        for triton in TRITONS
        for arch in ("gfx942", "gfx950", "gfx1250")
        for bundle in BUNDLES
    )
    check(machines, probed(ground), 3000, each)


def test_a_bundle_serves_the_number_of_heads_that_it_was_made_for(ground: Ground) -> None:
    """A model of 32 heads loads the kernels of 32 heads; those of 64 do not help it."""
    machines = [
        rocm(aiter=generation, triton=triton, bundle=bundle, environ={**ASKED, AOT: "1"})
        for generation in ("914dcee3", "a6bb4993", "04907edc")
        for triton in ("3.3.1", "3.6.0")
        for bundle in ("complete", "other-heads")
    ]
    check(machines, probed(ground, heads=32), 12)


def spellings(name: str, *, more: Iterable[str] = ()) -> Iterator[dict[str, str]]:
    """Return environments that hold a variable in each spelling that somebody may write."""
    words = (
        "1",
        "0",
        "true",
        "True",
        "TRUE",
        "false",
        "yes",
        "Y",
        "n",
        "on",
        "off",
        "2",
        "01",
        " 1",
        "1 ",
        "",
        " ",
        "t",
    )
    return ({name: word} for word in (*words, *more))


def test_every_spelling_of_every_switch(ground: Ground, each: int) -> None:
    """Each switch in each spelling, under each engine, on Tritons on both sides of every gate."""
    own = [{"NSA_CAPS_USE_AITER": word} for word in ("1", "0")]
    other = [{"NSA_CAPS_DISABLE_PRESHUFFLE": word} for word in ("1", "0")]
    environs = [
        *own,
        *spellings("SGLANG_USE_AITER"),
        *spellings("VLLM_ROCM_USE_AITER"),
        *({**ASKED, "VLLM_ROCM_USE_AITER": "1", **more} for more in other),
        *({**ASKED, **more} for more in spellings("SGLANG_DSA_HIP_DISABLE_PRESHUFFLE")),
        *({**ASKED, **more} for more in spellings("SGLANG_NSA_HIP_DISABLE_PRESHUFFLE")),
        *({**ASKED, **more} for more in spellings(AOT)),
        *({**ASKED, **more} for more in spellings(ESCAPE, more=("-1", "+1", "1_0", "00", "1.0"))),
        *(
            {**ASKED, "SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": new, "SGLANG_NSA_HIP_DISABLE_PRESHUFFLE": old}
            for new in ("1", "0", "")
            for old in ("1", "0", "")
        ),
        *({**a, **b} for a in own for b in ({"SGLANG_USE_AITER": "1"}, {"SGLANG_USE_AITER": "0"})),
    ]
    machines = (
        rocm(aiter=generation, triton=triton, environ=environ, engine=engine)
        for environ in environs
        for generation, triton in (
            ("a6bb4993", "3.6.0"),
            ("3b2e6f48", "3.5.1"),
            ("04907edc", "3.4.0"),
            ("04907edc", "3.7.0"),
        )
        for engine in ("sglang", "vllm", "generic")
    )
    check(machines, probed(ground), 1500, each)


def test_every_way_to_name_the_archs(ground: Ground, each: int) -> None:
    """GPU_ARCHS in each form, on each GPU: the last entry counts, and anything but the running GPU's is refused."""
    values: tuple[str, ...] = ("native", "gfx942", "gfx950", "gfx942;gfx950", "gfx950;gfx942", "gfx942;")
    values += ("gfx942,gfx950", " gfx942", "GFX942", "gfx942; gfx950", "", " ", ";", "gfx999", "gfx1151")
    values += ("native;gfx942",)
    machines = (
        rocm(aiter=generation, triton=triton, archs=(arch,), environ={**ASKED, "GPU_ARCHS": value})
        for value in values
        for arch in ("gfx942", "gfx950", "gfx1151")
        for generation in ("a6bb4993", "04907edc")
        for triton in ("3.4.0", "3.6.0")
    )
    check(machines, probed(ground), 192, each)


def test_every_platform(ground: Ground, each: int) -> None:
    """Every build of torch, with and without GPUs, Triton, DeepGEMM and an aiter that only AMD can use."""
    amd: list[tuple[str, ...] | None] = [None, (), ("gfx942",), ("gfx942", "gfx942"), ("gfx942", "gfx950")]
    amd += [("gfx950", "gfx1250"), ("gfx1036", "gfx942")]
    nvidia: list[tuple[str, ...] | None] = [None, (), ("sm_90", "sm_90"), ("sm_90", "sm_80"), ("sm_75", "sm_90")]
    nvidia += [(f"sm_{number}",) for number in (75, 80, 86, 89, 90, 100, 103, 110, 120, 121)]
    places = [("rocm", archs) for archs in amd] + [("cuda", archs) for archs in nvidia]
    places += [(platform, ()) for platform in ("xpu", "npu", "musa", "cpu", "unknown")]
    machines = (
        Machine(
            platform=platform if torch else "unknown", archs=archs, triton=triton, aiter=generation, torch=torch,
            deep_gemm=deep_gemm, engine=engine, environ={"SGLANG_USE_AITER": "1", "VLLM_ROCM_USE_AITER": "1"},
        )
        for platform, archs in places
        for triton in ("3.2.0", "3.4.0", "3.6.0", "", None)
        for generation in ("a6bb4993", "04907edc", None)
        for deep_gemm in (False, True)
        for torch in (True, False)
        for engine in ("sglang", "vllm")
    )  # fmt: skip
    check(machines, probed(ground), 3000, each)


def test_every_page_size(ground: Ground, each: int) -> None:
    """A page size that is asked for is honoured or refused by every row, by that row's own rule."""
    sizes = (1, 2, 8, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 320, 512, 640, 768, 1024)
    machines = itertools.chain(
        (
            rocm(aiter=generation, triton=triton, archs=(arch,), page_size=size, environ=environ)
            for size in sizes
            for arch in ("gfx942", "gfx1250", "gfx1151")
            for generation in ("a6bb4993", "861b4c93", "04907edc")
            for triton in ("3.4.0", "3.7.0")
            for environ in (ASKED, {}, {**ASKED, ESCAPE: "1"})
        ),
        (
            Machine(platform="cuda", archs=(arch,), triton="3.6.0", deep_gemm=True, page_size=size)
            for size in sizes
            for arch in ("sm_80", "sm_90")
        ),
    )
    check(machines, probed(ground), 1000, each)


@pytest.mark.slow
def test_the_widest_product() -> None:
    """Every aiter x Triton x GPU x the switches that meet each other x bundle state, by hand: 100,000 machines."""
    switches = [
        {**asked, **escape, **disabled}
        for asked in (ASKED, {})
        for escape in ({ESCAPE: "1"}, {})
        for disabled in ({"SGLANG_DSA_HIP_DISABLE_PRESHUFFLE": "1"}, {})
    ]
    bundles = [("absent", {}), ("complete", {AOT: "true"})]
    bundles += [(state, {AOT: "1"}) for state in BUNDLES]
    machines = (
        rocm(aiter=generation, triton=triton, archs=(arch,), bundle=bundle, environ={**environ, **aot})
        for generation in AITERS
        for triton in TRITONS
        for arch in ARCHS
        for environ in switches
        for bundle, aot in bundles
    )
    check(machines, lambda machine: met_rows(capabilities(machine), Request()), 100_000)
