"""What engines hand aiter, against the table that was read in their wheels, and the flydsl that some of it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nsa_caps import Capabilities, Device, Package, Request
from nsa_caps.capabilities.records import Switch
from nsa_caps.capabilities.switches import resolve
from nsa_caps.policy.requirements.flydsl import flydsl_fits, flydsl_there
from nsa_caps.policy.requirements.handed import other_release, takes_what_is_handed
from nsa_caps.testing import GENERATIONS

if TYPE_CHECKING:
    from nsa_caps.capabilities.records import AiterSource

STORE, CLEAN = "indexer_k_quant_and_cache(preshuffle)", "fp8_mqa_logits(clean_logits)"
FUSED, ROPE = "indexer_qk_rope_quant_and_cache", "indexer_qk_rope_quant_and_cache(compute_all_q_rope)"
FLYDSL = "flydsl_fp8_mqa_logits"
OFF = "SGLANG_DISABLE_AITER_FUSED_FP8_DSA_INDEXER"


def source(*takes: str, store: bool | None = True, known: bool = True) -> AiterSource:
    """Return an aiter whose functions take these."""
    return replace(GENERATIONS["04907edc"], takes=takes if known else None, store_preshuffle=store)


def machine(
    engine: str, release: str | None, shown: AiterSource | None, *archs: str, asked: bool = True, **environ: str
) -> Capabilities:
    """Return an AMD machine with an engine of a release."""
    variables = {"NSA_CAPS_USE_AITER": "1" if asked else "0", **environ}
    return Capabilities(
        engine=engine,
        platform="rocm",
        engines=(Package(engine, "found", release),),
        aiter=Package("aiter", "found"),
        aiter_source=shown,
        devices=tuple(Device(index, arch, "kfd") for index, arch in enumerate(archs or ("gfx942",))),
        switches=resolve(variables, engine)[0],
    )


def lacks(caps: Capabilities) -> str | None:
    """Return what the engine hands aiter and aiter does not take."""
    found = takes_what_is_handed(caps, Request())
    return None if found is None else found.observed.partition(" hands it ")[2]


@pytest.mark.parametrize(
    ("engine", "release", "arch", "asked", "lacking"),
    [
        # sglang#23562: at page 1 too, and only where aiter is on.
        ("sglang", "0.5.11", "gfx942", True, []),
        ("sglang", "0.5.12", "gfx942", True, [STORE]),
        ("sglang", "0.5.12", "gfx942", False, []),
        # sglang#28757: ragged prefill, on every ROCm, whatever the switch says.
        ("sglang", "0.5.14", "gfx942", False, []),
        ("sglang", "0.5.15", "gfx942", True, [STORE, CLEAN]),
        ("sglang", "0.5.15", "gfx942", False, [CLEAN]),
        ("sglang", "0.5.15rc1", "gfx942", False, [CLEAN]),
        # Probed by its name only, so that an aiter without it is never handed it.
        ("sglang", "0.5.23", "gfx950", True, [STORE, CLEAN]),
        ("vllm", "0.29.0", "gfx942", True, []),
        ("vllm", "0.30.0", "gfx942", True, [FLYDSL]),
        ("vllm", "0.30.0", "gfx942", False, []),
        ("vllm", "0.30.0", "gfx950", True, []),
        ("vllm", "0.33.0", "gfx942", True, [FLYDSL]),
        ("vllm", "0.33.0", "gfx950", True, [CLEAN]),
        ("vllm", "0.33.0", "gfx950", False, []),
        ("vllm", "0.33.0", "gfx1201", True, [CLEAN]),
        ("vllm", "0.33.0", "gfx1250", True, [CLEAN]),
        # vLLM calls nothing of aiter's there, whatever its switch says.
        ("vllm", "0.33.0", "gfx90a", True, []),
        ("vllm", "0.33.0", "gfx1151", True, []),
        ("atom", None, "gfx942", True, []),
        ("generic", "1.0", "gfx942", True, []),
    ],
)
def test_what_each_release_hands(engine: str, release: str | None, arch: str, asked: bool, lacking: list[str]) -> None:
    """An aiter that takes nothing lacks the first, and one that takes that the next, until it takes all of them."""
    taken: list[str] = []
    for name in lacking:
        shown = source(*(each for each in taken if each != STORE), store=STORE in taken)
        assert lacks(machine(engine, release, shown, arch, asked=asked)) == name
        taken.append(name)
    shown = source(*(each for each in taken if each != STORE), store=STORE in taken)
    flydsl = Package("flydsl", "found", "99")
    caps = machine(engine, release, replace(shown, flydsl_needs=">=0.1.8"), arch, asked=asked).replace(flydsl=flydsl)
    assert lacks(caps) is None


@pytest.mark.parametrize(
    ("release", "arch", "asked", "off", "handed"),
    [
        ("0.5.21", "gfx950", True, "", True), ("0.5.23", "gfx950", True, "0", True),
        ("0.5.21", "gfx950", True, "1", False), ("0.5.21", "gfx950", False, "", False),
        ("0.5.21", "gfx942", True, "", False), ("0.5.20", "gfx950", True, "", False),
    ],
)  # fmt: skip
def test_the_fused_writer_of_gfx950(release: str, arch: str, asked: bool, off: str, handed: bool) -> None:
    """SGLang looks for its name alone and hands it a keyword that came with aiter#5066; a variable turns it off."""
    caps = machine("sglang", release, source(CLEAN, FUSED), arch, asked=asked, **{OFF: off})
    found = takes_what_is_handed(caps, Request())
    assert (found is not None) == handed
    if found is not None:
        assert (found.code, found.verdict, found.source) == ("engine.keyword", "unmet", "aiter#5066")
        assert found.observed == f"SGLang {release} hands it {ROPE}"
        assert found.required == f"an aiter that takes {ROPE}, or {OFF}=1"
        # No release that was read takes it.
        assert [change.text for change in found.changes] == [f"export {OFF}=1"]
    newer = machine("sglang", release, source(CLEAN, FUSED, ROPE), arch, asked=asked, **{OFF: off})
    assert lacks(newer) is None


@pytest.mark.parametrize(
    ("archs", "lacking"),
    [(("gfx950", "gfx942"), FLYDSL), (("gfx942", "gfx950"), FLYDSL), (("gfx950",), CLEAN), (("gfx942",), FLYDSL)],
)
def test_one_gpu_of_an_arch_is_enough_to_be_handed_it(archs: tuple[str, ...], lacking: str) -> None:
    """What is handed on some archs is handed where any GPU is of them."""
    assert lacks(machine("vllm", "0.33.0", source(), *archs)) == lacking
    assert lacks(machine("vllm", "0.33.0", source(FLYDSL), "gfx942", "gfx950")) == CLEAN


@pytest.mark.parametrize(
    ("release", "known", "verdict", "told"),
    [
        ("0.5.15", True, "unmet", f"SGLang 0.5.15 hands it {CLEAN}"),
        ("0.5.15", False, "unknown", f"SGLang 0.5.15 hands it {CLEAN}"),
        (None, True, "unknown", f"SGLang's release is not known; SGLang 0.5.23 hands it {CLEAN}"),
        (None, False, "unknown", f"SGLang's release is not known; SGLang 0.5.23 hands it {CLEAN}"),
        ("main", True, "unknown", f"SGLang's release is not known; SGLang 0.5.23 hands it {CLEAN}"),
    ],
)
def test_what_is_not_known_refuses_nothing(release: str | None, known: bool, verdict: str, told: str) -> None:
    """A release that is not known is judged as the newest, and may do otherwise; so may an aiter that is not read."""
    found = takes_what_is_handed(machine("sglang", release, source(known=known)), Request())
    assert found is not None
    assert (found.verdict, found.observed) == (verdict, told)
    assert [change.value for change in found.changes] == ["0.1.15"]
    assert found.required == f"an aiter that takes {CLEAN}"


def test_an_engine_that_is_not_there_hands_nothing() -> None:
    """Nor does one without aiter, nor another that is installed beside it."""
    caps = machine("sglang", "0.5.23", source())
    assert takes_what_is_handed(caps.replace(engines=()), Request()) is None
    assert takes_what_is_handed(caps.replace(engines=(Package("vllm", "found", "0.33.0"),)), Request()) is None
    assert takes_what_is_handed(caps.replace(aiter_source=None), Request()) is None
    beside = caps.replace(engines=(Package("vllm", "found", "0.30.0"), *caps.engines))
    assert lacks(beside) == CLEAN


@pytest.mark.parametrize(
    ("release", "installed", "takes", "told"),
    [
        ("0.5.23", True, (), None),
        ("0.5.12", True, (), None),
        (None, True, (), "SGLang's release is not known: it was judged as 0.5.23"),
        (None, False, (CLEAN,), None),
        (None, False, (), (f"SGLang is not installed here: 0.5.23 hands aiter {CLEAN}, which this aiter lacks"
            " (aiter 0.1.15 has it)")),
        ("0.5.24", True, (CLEAN,), "SGLang 0.5.24 is newer than any that was read: it was judged as 0.5.23"),
        ("0.6.0", True, (), (f"SGLang 0.6.0 is newer than any that was read: 0.5.23 hands aiter {CLEAN}, which this"
            " aiter lacks (aiter 0.1.15 has it)")),
    ],
)  # fmt: skip
def test_a_release_that_was_not_read_is_told(
    release: str | None, installed: bool, takes: tuple[str, ...], told: str | None
) -> None:
    """What it was judged as, and what that one hands aiter in vain; one that was read needs no word."""
    caps = machine("sglang", release, source(*takes))
    assert other_release(caps if installed else caps.replace(engines=())) == told


def test_the_aiter_that_has_all_of_it_is_the_newest_of_those_needed() -> None:
    """Of 0.1.13 and 0.1.15 the later has both; what no release takes has none to name."""
    caps = machine("sglang", None, source(store=False)).replace(engines=())
    assert other_release(caps) == (
        f"SGLang is not installed here: 0.5.23 hands aiter {STORE} and {CLEAN}, which this aiter lacks"
        " (aiter 0.1.15 has it)"
    )
    fused = machine("sglang", None, source(CLEAN, FUSED), "gfx950").replace(engines=())
    assert other_release(fused) == f"SGLang is not installed here: 0.5.23 hands aiter {ROPE}, which this aiter lacks"


def test_nothing_is_told_without_aiter_or_of_an_engine_that_hands_it_nothing() -> None:
    """There is nothing that it could be handed in vain."""
    assert other_release(machine("sglang", None, None)) is None
    assert other_release(machine("atom", None, source())) is None


# --- flydsl


def with_flydsl(state: str, version: str | None, needs: str | None, *archs: str, imports: bool = True) -> Capabilities:
    """Return a machine whose aiter asks for flydsl."""
    shown = replace(source(FLYDSL), imports_flydsl=imports, flydsl_needs=needs)
    flydsl = Package("flydsl", state, version)  # type: ignore[arg-type]
    return machine("vllm", "0.33.0", shown, *archs).replace(flydsl=flydsl)


@pytest.mark.parametrize(
    ("needs", "version", "verdict"),
    [
        (">=0.1.8", "0.1.8", None), (">=0.1.8", "0.1.7", "unmet"), (">=0.1.8", "0.2.0+rocm", None),
        (">=0.1.8", "0.1.8rc1", "unmet"), ("==0.2.4", "0.2.4", None), ("==0.2.4", "0.2.5", "unmet"),
        ("==0.2.4", "0.2.4+git", None), ("===0.2.4", "0.2.4", None), ("===0.2.4", "0.2.4+git", "unmet"),
        (">=0.1.8", None, "unknown"), ("===0.2.4", None, "unknown"), (">=0.1.8", "main", "unknown"),
        (None, "0.2.4", "unknown"), ("none", "0.0.1", None), ("none", None, None),
    ],
)  # fmt: skip
def test_the_flydsl_that_an_aiter_takes(needs: str | None, version: str | None, verdict: str | None) -> None:
    """By aiter's own comparison: of versions without the local part, or of texts (`===`)."""
    for found in (
        flydsl_fits(with_flydsl("found", version, needs), Request()),
        flydsl_there(with_flydsl("found", version, needs), replace(source(), flydsl_needs=needs), "it"),
    ):
        assert (None if found is None else found.verdict) == verdict
        if found is not None:
            assert (found.code, found.source) == ("aiter.flydsl", "aiter/ops/flydsl/__init__.py")
            assert found.observed == f"flydsl {version or 'of unknown version'}"
            accounted = "a source of which every statement is accounted for"
            assert found.required == (accounted if needs is None else f"flydsl{needs}")


@pytest.mark.parametrize(
    ("needs", "installs"),
    [
        (">=0.1.3", "0.1.4"), (">=0.1.5.dev515", "0.1.7"), (">=0.1.8", "0.2.2"), (">=0.2.4", "0.2.4"),
        ("==0.3.1", "0.3.1"), ("===0.3.2", "0.3.2"), (">=7", None), (None, None),
    ],
)  # fmt: skip
def test_the_flydsl_that_is_installed_is_the_one_that_aiter_pins(needs: str | None, installs: str | None) -> None:
    """Of a minimum that no release had nothing is pinned; and nothing is told where no source was understood."""
    found = flydsl_there(with_flydsl("missing", None, needs), replace(source(), flydsl_needs=needs), "flydsl, for it")
    assert found is not None
    assert (found.code, found.required) == ("package.missing", "flydsl, for it")
    wanted = [] if installs is None else [f"flydsl=={installs}"]
    assert [change.value for change in found.changes] == wanted


@pytest.mark.parametrize(
    ("archs", "verdict"),
    [
        (("gfx942",), "unmet"), (("gfx950", "gfx1250"), "unmet"), (("gfx1151", "gfx1201"), "unmet"),
        (("gfx90a",), "unknown"), (("gfx942", "gfx90a"), "unknown"),
    ],
)  # fmt: skip
def test_where_flydsl_has_no_arch_aiter_may_do_without(archs: tuple[str, ...], verdict: str) -> None:
    """Since 044f906a aiter does there as if it were not installed."""
    found = flydsl_fits(with_flydsl("found", "0.1.0", ">=0.1.8", *archs), Request())
    assert found is not None
    assert found.verdict == verdict
    unread = with_flydsl("found", "0.1.0", ">=0.1.8").replace(devices=None)
    again = flydsl_fits(unread, Request())
    assert again is not None
    assert again.verdict == "unknown"


def test_flydsl_is_optional_where_import_aiter_asks_for_it() -> None:
    """A missing one is passed over, where it is known how aiter asks; where nothing asks, nothing is needed."""
    assert flydsl_fits(with_flydsl("missing", None, ">=0.1.8"), Request()) is None
    assert flydsl_fits(with_flydsl("found", "0.0.1", ">=0.1.8", imports=False), Request()) is None
    assert flydsl_fits(machine("vllm", "0.33.0", None), Request()) is None
    for state, needs in (("missing", None), ("broken", ">=0.1.8"), ("unknown", ">=0.1.8")):
        found = flydsl_fits(with_flydsl(state, None, needs), Request())
        assert found is not None
        assert (found.verdict, found.observed) == ("unknown", state)


@pytest.mark.parametrize("known", [True, False])
def test_vllm_on_gfx942_imports_a_kernel_of_flydsl(known: bool) -> None:
    """Of a release that is not known it may not; elsewhere none is imported."""
    release = "0.33.0" if known else None
    caps = with_flydsl("missing", None, ">=0.1.8").replace(engines=(Package("vllm", "found", release),))
    found = takes_what_is_handed(caps, Request())
    assert found is not None
    assert (found.code, found.verdict) == ("package.missing", "unmet" if known else "unknown")
    assert found.required == f"flydsl, for the {FLYDSL} that vLLM 0.33.0 imports"
    off = caps.replace(switches={**caps.switches, "use_aiter": Switch("use_aiter", False, None, None, "default")})
    assert takes_what_is_handed(off, Request()) is None
