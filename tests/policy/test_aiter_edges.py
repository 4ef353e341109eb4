"""What the requirements of aiter's rows say at their edges: verdict, what was found, what is needed, what to type.

The facts are the field's, written here apart from the library's own tables: what engines hand aiter and which release
takes it (sglang#23562, sglang#28757, aiter#3226, aiter#5066), and aiter's own sources, by commit. What each
function answers by itself is in `test_gates.py` and `test_handed.py`; here it is asked for as users see it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.version import Version

from nsa_caps import AotBundle, AotKernel, Capabilities, Device, Package, Request, decide
from nsa_caps.capabilities.aiter_history import AITER_RELEASES
from nsa_caps.capabilities.engines import ENGINE_TABLE
from nsa_caps.policy.requirements.handed import other_release
from tests.hand import capabilities
from tests.oracle import Machine
from tests.policy.edges import MAIN, UNDERSTOOD, amd, said, told, with_source

# --- What engines hand aiter


def engine_machine(engine: str, release: str | None, *archs: str, **facts: Any) -> Capabilities:
    """Return a machine of AMD's with an engine, aiter asked for, of whose aiter some facts are changed."""
    caps = with_source(amd(*archs), **facts)
    switches = capabilities(Machine(platform="rocm", environ=caps.variables, engine=engine)).switches
    return caps.replace(engine=engine, switches=switches, engines=(Package(engine, "found", release),))


RAGGED, CLEAN = "fp8_mqa_logits", "fp8_mqa_logits(clean_logits)"
ROPE, ALL_ROPE = "indexer_qk_rope_quant_and_cache", "indexer_qk_rope_quant_and_cache(compute_all_q_rope)"
STORE, FLYDSL = "indexer_k_quant_and_cache(preshuffle)", "flydsl_fp8_mqa_logits"
NO_FUSED = "SGLANG_DISABLE_AITER_FUSED_FP8_DSA_INDEXER"


@pytest.mark.parametrize(
    ("engine", "release", "archs", "takes", "keyword", "fix"),
    [
        ("sglang", "0.5.14", ("gfx942",), (RAGGED,), None, None),
        ("sglang", "0.5.15", ("gfx942",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("sglang", "0.5.15rc1", ("gfx942",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("sglang", "0.5.24", ("gfx942",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("sglang", "0.5.15", ("gfx942",), (RAGGED, CLEAN), None, None),
        ("sglang", "0.5.20", ("gfx950",), (CLEAN, ROPE), None, None),
        ("sglang", "0.5.21", ("gfx950",), (CLEAN, ROPE), ALL_ROPE, None),
        ("sglang", "0.5.21", ("gfx950",), (CLEAN, ROPE, ALL_ROPE), None, None),
        ("sglang", "0.5.21", ("gfx950",), (CLEAN,), None, None),
        ("sglang", "0.5.21", ("gfx942",), (CLEAN, ROPE), None, None),
        ("vllm", "0.29.0", ("gfx942",), (RAGGED,), None, None),
        ("vllm", "0.30.0", ("gfx942",), (RAGGED,), FLYDSL, ">= 0.1.18"),
        ("vllm", "0.30.0", ("gfx950",), (RAGGED,), None, None),
        ("vllm", "0.32.0", ("gfx950",), (RAGGED,), None, None),
        ("vllm", "0.33.0", ("gfx950",), (RAGGED,), CLEAN, ">= 0.1.15"),
        ("vllm", "0.33.0", ("gfx942",), (FLYDSL,), None, None),
        ("vllm", "0.33.0", ("gfx942", "gfx950"), (FLYDSL,), CLEAN, ">= 0.1.15"),
        ("generic", "1.0", ("gfx942",), (), None, None),
    ],
)
def test_a_keyword_that_this_aiter_does_not_take(
    engine: str, release: str, archs: tuple[str, ...], takes: tuple[str, ...], keyword: str | None, fix: str | None
) -> None:
    """From the engine's first release that hands it, on the archs where it does; the first aiter with it is the fix."""
    caps = engine_machine(engine, release, *archs, takes=takes)
    if keyword is None:
        assert told(caps, "aiter-token", "engine.keyword") is None
        return
    title = {"sglang": "SGLang", "vllm": "vLLM"}[engine]
    verdict, observed, required, _, change = said(caps, "aiter-token", "engine.keyword")
    assert (verdict, observed) == ("unmet", f"{title} {release} hands it {keyword}")
    if keyword == ALL_ROPE:
        assert (required, change) == (f"an aiter that takes {keyword}, or {NO_FUSED}=1", f"export {NO_FUSED}=1")
    else:
        image = f"install AMD's aiter {fix}, as ROCm images bring it"
        assert (required, change) == (f"an aiter that takes {keyword}", image)


def test_a_store_that_knows_no_preshuffle_is_a_keyword_too() -> None:
    """SGLang hands `preshuffle` at page 1 too since 0.5.12, with aiter on; vLLM has a store of its own."""
    for release, refused in (("0.5.11", False), ("0.5.12", True)):
        found = told(engine_machine("sglang", release, store_preshuffle=False), "aiter-token", "engine.keyword")
        assert (found is not None) == refused
    found = told(engine_machine("sglang", "0.5.12", store_preshuffle=False), "aiter-token", "engine.keyword")
    assert found is not None
    assert (found.observed, found.source) == (f"SGLang 0.5.12 hands it {STORE}", "sglang#23562")
    assert found.fix == "install AMD's aiter >= 0.1.13, as ROCm images bring it"
    known = engine_machine("sglang", "0.5.12", store_preshuffle=True)
    assert told(known, "aiter-token", "engine.keyword") is None
    off = engine_machine("sglang", "0.5.12", store_preshuffle=False).replace(
        switches=amd(SGLANG_USE_AITER="0").switches
    )
    assert told(off, "aiter-token", "engine.keyword") is None
    vllm = engine_machine("vllm", "0.33.0", "gfx950", store_preshuffle=False)
    assert told(vllm, "aiter-token", "engine.keyword") is None


def test_a_release_or_an_aiter_that_is_not_known_makes_it_unknown() -> None:
    """An engine of no known release is taken for the newest read, which this one may be or not."""
    found = told(engine_machine("sglang", None, takes=(RAGGED,)), "aiter-token", "engine.keyword")
    assert found is not None
    observed = f"SGLang's release is not known; SGLang 0.5.23 hands it {CLEAN}"
    assert (found.verdict, found.observed) == ("unknown", observed)
    found = told(engine_machine("vllm", None, "gfx950", takes=(RAGGED,)), "aiter-token", "engine.keyword")
    assert found is not None
    assert found.observed == f"vLLM's release is not known; vLLM 0.33.0 hands it {CLEAN}"
    unread = told(engine_machine("sglang", "0.5.23", takes=None), "aiter-token", "engine.keyword")
    assert unread is not None
    assert (unread.verdict, unread.observed) == ("unknown", f"SGLang 0.5.23 hands it {CLEAN}")


def test_every_engine_that_hands_aiter_anything_tells_releases_that_can_be_compared() -> None:
    """What is handed since when, and which aiter takes it, are versions and names of the table of releases."""
    for engine in ENGINE_TABLE.values():
        if engine.hands:
            assert [Version(release) for release in engine.releases] == sorted(map(Version, engine.releases))
        for handed in engine.hands:
            assert Version(handed.since) <= Version(engine.releases[-1])
            assert handed.aiter is None or handed.aiter in AITER_RELEASES


NEWER, SINCE_15 = "is newer than any that was read", "(aiter 0.1.15 has it)"


@pytest.mark.parametrize(
    ("caps", "text"),
    [
        (engine_machine("sglang", "0.5.23"), None),
        (engine_machine("sglang", "0.5.22"), None),
        (engine_machine("sglang", "0.5.12"), None),
        (engine_machine("sglang", "0.5.23", takes=(RAGGED,)), None),
        (engine_machine("sglang", "0.5.24"), f"SGLang 0.5.24 {NEWER}: it was judged as 0.5.23"),
        (engine_machine("vllm", "0.34.0"), f"vLLM 0.34.0 {NEWER}: it was judged as 0.33.0"),
        (engine_machine("sglang", None), "SGLang's release is not known: it was judged as 0.5.23"),
        (engine_machine("sglang", "main"), "SGLang's release is not known: it was judged as 0.5.23"),
        (engine_machine("sglang", "0.5.23").replace(engines=()), None),
        (engine_machine("sglang", None).replace(engines=(Package("vllm", "found", None),)), None),
        (
            engine_machine("sglang", None, takes=(RAGGED,)).replace(engines=()),
            f"SGLang is not installed here: 0.5.23 hands aiter {CLEAN}, which this aiter lacks {SINCE_15}",
        ),
        (
            engine_machine("sglang", None, takes=(RAGGED,), store_preshuffle=False).replace(engines=()),
            f"SGLang is not installed here: 0.5.23 hands aiter {STORE} and {CLEAN}, which this aiter lacks {SINCE_15}",
        ),
        (
            engine_machine("sglang", None, "gfx950", takes=(CLEAN, ROPE)).replace(engines=()),
            f"SGLang is not installed here: 0.5.23 hands aiter {ALL_ROPE}, which this aiter lacks",
        ),
        (
            engine_machine("sglang", "0.6.0", takes=(RAGGED,)),
            f"SGLang 0.6.0 {NEWER}: 0.5.23 hands aiter {CLEAN}, which this aiter lacks {SINCE_15}",
        ),
        (
            engine_machine("vllm", None, takes=(RAGGED,)).replace(engines=()),
            f"vLLM is not installed here: 0.33.0 hands aiter {FLYDSL}, which this aiter lacks (aiter 0.1.18 has it)",
        ),
        (engine_machine("generic", "1.0"), None),
        (engine_machine("sglang", "0.6.0").replace(aiter_source=None), None),
    ],
)
def test_what_to_mind_of_an_engine_that_was_not_read(caps: Capabilities, text: str | None) -> None:
    """Where none is installed, what this aiter lacks for the newest read; a release newer than that is always told."""
    assert other_release(caps) == text


# --- flydsl


def with_flydsl(needs: str | None, package: Package, *archs: str) -> Capabilities:
    """Return a machine whose `import aiter` runs the check of flydsl."""
    return with_source(amd(*archs), imports_flydsl=True, flydsl_needs=needs).replace(flydsl=package)


@pytest.mark.parametrize(
    ("needs", "version", "verdict", "fix"),
    [
        (">=0.2.4", "0.2.4", None, None),
        (">=0.2.4", "0.2.4+rocm7.0", None, None),
        (">=0.2.4", "0.3.0", None, None),
        (">=0.2.4", "0.2.3", "unmet", "flydsl==0.2.4"),
        (">=0.2.4", "0.2.4.dev1", "unmet", "flydsl==0.2.4"),
        (">=0.2.4", None, "unknown", "flydsl==0.2.4"),
        (">=0.2.4", "main", "unknown", "flydsl==0.2.4"),
        (">=main", "0.2.4", "unknown", None),
        (">=0.1.8", "0.1.7", "unmet", "flydsl==0.2.2"),
        (">=0.1.5.dev515", "0.1.4", "unmet", "flydsl==0.1.7"),
        (">=0.1.3", "0.1.2", "unmet", "flydsl==0.1.4"),
        (">=9", "0.2.4", "unmet", None),
        ("===0.1.1.dev409", "0.1.1.dev409", None, None),
        ("===0.1.1.dev409", "0.1.1.dev409+x", "unmet", "flydsl==0.1.1.dev409"),
        ("===0.1.1.dev409", "0.2.0", "unmet", "flydsl==0.1.1.dev409"),
        ("===0.1.1.dev409", None, "unknown", "flydsl==0.1.1.dev409"),
        ("==0.1.1", "0.1.1+x", None, None),
        ("==0.1.1", "0.1.2", "unmet", "flydsl==0.1.1"),
        ("==0.1.1", "0.1.0", "unmet", "flydsl==0.1.1"),
        ("none", "0.0.1", None, None),
        ("none", None, None, None),
        (None, "0.2.4", "unknown", None),
    ],
)
def test_the_flydsl_that_an_aiter_takes(
    needs: str | None, version: str | None, verdict: str | None, fix: str | None
) -> None:
    """By the comparison that stands in its source; the fix is what its own `setup.py` pins beside it."""
    caps = with_flydsl(needs, Package("flydsl", "found", version))
    if verdict is None:
        assert told(caps, "aiter-token", "aiter.flydsl") is None
        return
    required = UNDERSTOOD if needs is None else f"flydsl{needs}"
    pip = None if fix is None else f"pip install {fix}"
    answer = (verdict, f"flydsl {version or 'of unknown version'}", required, "aiter/ops/flydsl/__init__.py", pip)
    assert said(caps, "aiter-token", "aiter.flydsl") == answer


def test_the_check_of_flydsl_is_reached_on_some_archs_alone() -> None:
    """Elsewhere aiter since 044f906a does as if flydsl were not there, so that it is not known to fail."""
    old = Package("flydsl", "found", "0.1.0")
    for archs, verdict in (
        (("gfx942",), "unmet"),
        (("gfx950", "gfx942"), "unmet"),
        (("gfx1201",), "unmet"),
        (("gfx1100",), "unknown"),
        (("gfx942", "gfx1100"), "unknown"),
    ):
        assert said(with_flydsl(">=0.2.4", old, *archs), "aiter-token", "aiter.flydsl")[0] == verdict
    unknown = with_flydsl(">=0.2.4", old).replace(devices=None)
    assert said(unknown, "aiter-token", "aiter.flydsl")[0] == "unknown"


def test_flydsl_is_optional_to_the_import_of_aiter() -> None:
    """Where it is missing aiter asks nothing of it, unless what it asks is not known; a broken one may do or not."""
    missing, broken = Package("flydsl", "missing"), Package("flydsl", "broken", "0.2.4")
    assert told(with_flydsl(">=0.2.4", missing), "aiter-token", "aiter.flydsl") is None
    assert said(with_flydsl(None, missing), "aiter-token", "aiter.flydsl")[:3] == ("unknown", "missing", UNDERSTOOD)
    assert said(with_flydsl(">=0.2.4", broken), "aiter-token", "aiter.flydsl")[:2] == ("unknown", "broken")
    unread = with_flydsl(">=0.2.4", Package("flydsl", "found", "0.1.0"))
    assert told(with_source(unread, imports_flydsl=False), "aiter-token", "aiter.flydsl") is None
    assert told(unread.replace(aiter_source=None), "aiter-token", "aiter.flydsl") is None


@pytest.mark.parametrize(("release", "verdict"), [("0.30.0", "unmet"), ("0.33.0", "unmet"), (None, "unknown")])
def test_vllm_on_gfx942_needs_flydsl(release: str | None, verdict: str) -> None:
    """It imports aiter's kernel of flydsl, which is there only where flydsl is, and new enough."""
    caps = engine_machine("vllm", release, "gfx942")
    required = f"flydsl, for the {FLYDSL} that vLLM {release or '0.33.0'} imports"
    answer = (verdict, "no package flydsl", required, None, "pip install flydsl==0.2.4")
    assert said(caps, "aiter-token", "package.missing") == answer
    old = caps.replace(flydsl=Package("flydsl", "found", "0.2.3"))
    assert said(old, "aiter-token", "aiter.flydsl")[:3] == (verdict, "flydsl 0.2.3", "flydsl>=0.2.4")
    new = caps.replace(flydsl=Package("flydsl", "found", "0.2.4"))
    assert not {"package.missing", "aiter.flydsl"} & {each.code for each in decide(new).verdict("aiter-token").reasons}
    for other in (engine_machine("vllm", "0.33.0", "gfx950"), engine_machine("sglang", "0.5.23", "gfx942")):
        assert told(other, "aiter-token", "package.missing") is None


# --- aiter: its source, its import, its arch


UNREAD = "aiter.source-unknown"


def test_every_fact_that_is_not_known_is_named() -> None:
    """With what the source does with the row's call, and where the source departs from the history that is known."""
    caps = with_source(amd(), location="/aiter", mfma=None, calls=("tiles", "flat"))
    assert said(caps, "aiter-token", UNREAD) == ("unknown", "mfma, what it does with token", UNDERSTOOD, "/aiter", MAIN)
    assert said(caps, "aiter-flat", UNREAD)[:2] == ("unknown", "mfma")
    changed = with_source(caps, unaccounted=("a.py:1", "b.py:2", "c.py:3"))
    observed = "mfma, what it does with token (changed since 04907edc: a.py:1; b.py:2)"
    assert said(changed, "aiter-token", UNREAD)[1] == observed
    assert said(with_source(caps, calls=None), "aiter-token", UNREAD)[1] == "mfma, what it does with token"


def test_what_a_row_adds_to_the_facts() -> None:
    """Tiles rest on how a page must fit a chunk, flat pages also on what the plain kernel takes, a token on neither."""
    caps = with_source(amd(), chunk_rule=None, plain_pages=None)
    assert said(caps, "aiter-preshuffle", UNREAD)[1] == "chunk_rule"
    assert said(caps, "aiter-flat", UNREAD)[1] == "plain_pages, chunk_rule"
    assert told(caps, "aiter-token", UNREAD) is None


def test_a_function_that_never_calls_gluon_rests_on_no_switch() -> None:
    """SGLang's v0.5.9 images write `if False:` in its place; what else the switch reads is then nobody's."""
    unread = {"triton_comparison": None, "aot_stops_jit": None, "gfx1250_waves": None}
    assert told(with_source(amd(), wrapper="plain", **unread), "aiter-token", UNREAD) is None
    names = "triton_comparison, aot_stops_jit, gfx1250_waves"
    assert said(with_source(amd(), **unread), "aiter-token", UNREAD)[1] == names
    cut = said(with_source(amd(), wrapper="plain"), "aiter-preshuffle", "aiter.gluon-cut")
    source = "aiter/ops/triton/attention/pa_mqa_logits.py"
    observed = "its logits function calls the plain kernel alone"
    assert cut == ("unmet", observed, "an aiter as it was released", source, MAIN)


def test_of_an_aiter_without_the_logits_kernel_nothing_else_is_asked() -> None:
    """d36601a9's takes neither keyword, and one without the module has none."""
    for generation, facts, observed, source in (
        ("d36601a9", {}, "it takes neither", "ops/triton/pa_mqa_logits.py"),
        ("d36601a9", {"logits_module": None, "location": "/aiter"}, "it has none", "/aiter"),
    ):
        caps = with_source(amd(generation=generation), **facts)
        required, fix = (
            "an aiter whose logits kernel takes both",
            "install AMD's aiter >= 0.1.13, as ROCm images bring it",
        )
        answer = ("unmet", observed, required, source, fix)
        assert said(caps, "aiter-token", "aiter.no-preshuffle-logits") == answer
        assert told(caps, "aiter-token", UNREAD) is None
        assert told(caps, "aiter-preshuffle", "aiter.no-preshuffle-cache") is None
    assert told(amd(), "aiter-token", "aiter.no-preshuffle-logits") is None


def test_of_an_aiter_that_is_not_found_no_source_is_asked_for() -> None:
    """That the package is missing is the reason."""
    caps = amd().replace(aiter=Package("aiter", "missing"), aiter_source=None)
    assert told(caps, "aiter-token", UNREAD) is None
    found = caps.replace(aiter=Package("aiter", "found", location="/site/aiter"))
    verdict, observed, _, source, fix = said(found, "aiter-token", UNREAD)
    assert (verdict, source, fix) == ("unknown", "/site/aiter", MAIN)
    assert observed.startswith("logits_preshuffle, known_archs, ")
    assert observed.endswith(", gfx1250_waves, what it does with token")


BARRED = "aiter.import-barred"


def test_the_gap_that_fails_an_assertion() -> None:
    """fe927e8d asserts on Triton 3.4.x, and has no way around it but another Triton."""
    fix = 'pip install "triton>=3.5.0,<3.10"'
    source = "aiter/ops/triton/attention/pa_mqa_logits.py (fe927e8d)"
    answer = ("unmet", "Triton 3.4.0", "Triton < 3.4.0 or >= 3.5.0", source, fix)
    assert said(amd(triton="3.4.0", generation="fe927e8d"), "aiter-token", BARRED) == answer
    assert told(amd(triton="3.3.1", generation="fe927e8d"), "aiter-token", BARRED) is None


GATE = "aiter/ops/triton/gluon/__init__.py"
NEW_TRITON = 'pip install "triton>=3.6.0,<3.10"'


@pytest.mark.parametrize(
    ("facts", "environ", "verdict", "observed", "required", "fix"),
    [
        ({}, {}, "unmet", "", ", or AITER_USE_SYSTEM_TRITON=1", " or export AITER_USE_SYSTEM_TRITON=1"),
        (
            {},
            {"AITER_USE_SYSTEM_TRITON": "0"},
            "unmet",
            "",
            ", or AITER_USE_SYSTEM_TRITON=1",
            " or export AITER_USE_SYSTEM_TRITON=1",
        ),
        ({}, {"AITER_USE_SYSTEM_TRITON": "1"}, None, "", "", ""),
        (
            {},
            {"AITER_USE_SYSTEM_TRITON": "yes"},
            "unmet",
            ", and AITER_USE_SYSTEM_TRITON='yes', which aiter's int() cannot read",
            ", or AITER_USE_SYSTEM_TRITON=1",
            " or export AITER_USE_SYSTEM_TRITON=1",
        ),
        ({"gate_escape": "none"}, {}, "unmet", "", "", ""),
        ({"gate_escape": "none"}, {"AITER_USE_SYSTEM_TRITON": "1"}, "unmet", "", "", ""),
        ({"gate_escape": "ANOTHER"}, {}, "unknown", "", "", ""),
        ({"gate_escape": "ANOTHER"}, {"AITER_USE_SYSTEM_TRITON": "1"}, "unknown", "", "", ""),
        ({"gate_escape": None}, {}, None, "", "", ""),
        (
            {"package_imports_gluon": False},
            {},
            "unmet",
            "",
            ", or AITER_USE_SYSTEM_TRITON=1",
            " or export AITER_USE_SYSTEM_TRITON=1",
        ),
        ({"package_imports_gluon": None, "gluon_triton": "3.6.0"}, {}, "unknown", "", "", ""),
        ({"package_imports_gluon": False, "gluon_triton": "3.6.0"}, {}, None, "", "", ""),
        ({"package_imports_gluon": False, "gluon_triton": None}, {}, "unknown", "", "", ""),
        (
            {"package_imports_gluon": True, "gluon_triton": None},
            {},
            "unmet",
            "",
            ", or AITER_USE_SYSTEM_TRITON=1",
            " or export AITER_USE_SYSTEM_TRITON=1",
        ),
    ],
)
def test_the_gate_of_aiters_import(
    facts: dict[str, Any], environ: dict[str, str], verdict: str | None, observed: str, required: str, fix: str
) -> None:
    """It is told where the import comes to it; a variable that lets pass is told where its reading is known."""
    caps = with_source(amd(triton="3.5.1", generation="3b2e6f48", **environ), **facts)
    if verdict is None:
        assert told(caps, "aiter-token", BARRED) is None
        return
    answer = (verdict, f"Triton 3.5.1{observed}", f"Triton >= 3.6.0{required}", GATE, f"{NEW_TRITON}{fix}")
    assert said(caps, "aiter-token", BARRED) == answer


def test_a_gate_whose_switch_was_never_read_is_not_known() -> None:
    """As in a snapshot made by hand: what the variable holds nobody told."""
    caps = amd(triton="3.5.1", generation="3b2e6f48").replace(switches={})
    assert said(caps, "aiter-token", BARRED)[0] == "unknown"


def test_variables_that_trim_the_import() -> None:
    """The first that this aiter reads is named, and nothing where its source does not tell."""
    both = amd(AITER_TRITON_ONLY="1", AITER_AOT_IMPORT="1")
    answer = ("unmet", "AITER_TRITON_ONLY=1", "AITER_TRITON_ONLY unset", "aiter/__init__.py", "unset AITER_TRITON_ONLY")
    assert said(both, "aiter-token", "aiter.import-trimmed") == answer
    second = with_source(both, trimmed_by=("AITER_AOT_IMPORT",))
    assert said(second, "aiter-token", "aiter.import-trimmed")[1] == "AITER_AOT_IMPORT=1"
    for caps in (with_source(both, trimmed_by=None), both.replace(aiter_source=None), both.replace(switches={})):
        assert told(caps, "aiter-token", "aiter.import-trimmed") is None


@pytest.mark.parametrize(
    ("store", "gather", "code", "observed"),
    [
        (True, True, None, None),
        (False, True, "aiter.no-preshuffle-cache", "store without it"),
        (True, False, "aiter.no-preshuffle-cache", "gather without it"),
        (False, False, "aiter.no-preshuffle-cache", "store and gather without it"),
        (False, None, "aiter.no-preshuffle-cache", "store without it"),
        (None, True, UNREAD, "whether the store takes preshuffle"),
        (True, None, UNREAD, "whether the gather takes preshuffle"),
        (None, None, UNREAD, "whether the store and gather takes preshuffle"),
    ],
)
def test_the_cache_kernels_that_write_tiles(
    store: bool | None, gather: bool | None, code: str | None, observed: str | None
) -> None:
    """aiter#2879 gave both the keyword, in 0.1.13; vLLM has kernels of its own."""
    caps = with_source(amd(), store_preshuffle=store, gather_preshuffle=gather)
    found = [each for each in decide(caps).verdict("aiter-preshuffle").reasons if each.source == "aiter/ops/cache.py"]
    assert [(each.code, each.observed) for each in found] == ([] if code is None else [(code, observed)])
    if code == "aiter.no-preshuffle-cache":
        assert said(caps, "aiter-preshuffle", code)[2] == "aiter#2879 (0.1.13)"
        assert found[0].fix == "install AMD's aiter >= 0.1.13, as ROCm images bring it"
    elif code is not None:
        assert (found[0].verdict, found[0].required, found[0].fix) == ("unknown", UNDERSTOOD, MAIN)
    own = [each.source for each in decide(caps.replace(engine="vllm")).verdict("aiter-preshuffle").reasons]
    assert "aiter/ops/cache.py" not in own


@pytest.mark.parametrize(
    ("text", "rocminfo", "code", "observed", "fix"),
    [
        (None, "gfx942", None, None, None),
        (None, "gfx1036", "aiter.unknown-arch", "'gfx1036'", MAIN),
        (None, None, "device.unknown", "no first GPU", None),
        ("gfx942", "gfx1036", None, None, None),
        ("gfx9999", "gfx942", "aiter.unknown-arch", "'gfx9999'", "unset GPU_ARCHS"),
        ("", "gfx942", "switch.unreadable", "GPU_ARCHS=''", "unset GPU_ARCHS"),
        ("native", None, "device.unknown", "no first GPU", "unset GPU_ARCHS"),
    ],
)
def test_the_arch_that_aiter_takes_must_be_in_its_map(
    text: str | None, rocminfo: str | None, code: str | None, observed: str | None, fix: str | None
) -> None:
    """`GFX_MAP` has a KeyError for others, a blank `GPU_ARCHS` among them."""
    environ = {} if text is None else {"GPU_ARCHS": text}
    caps = amd(**environ).replace(rocminfo_arch=rocminfo)
    codes = ("aiter.unknown-arch", "device.unknown", "switch.unreadable")
    found = [each for each in decide(caps).verdict("aiter-token").reasons if each.code in codes]
    assert [(each.code, each.observed, each.fix) for each in found] == ([] if code is None else [(code, observed, fix)])
    assert decide(caps.replace(devices=(), aiter_source=None)).chosen == "reference"


def test_what_a_map_requires_is_named() -> None:
    """Every arch of it; a map that was not read refuses none."""
    caps = with_source(amd(), known_archs=("gfx90a", "gfx950"))
    found = told(caps, "aiter-token", "aiter.unknown-arch")
    assert found is not None
    assert (found.verdict, found.required, found.source) == ("unmet", "one of gfx90a, gfx950", "aiter GFX_MAP")
    assert told(with_source(amd(), known_archs=None), "aiter-token", "aiter.unknown-arch") is None


def test_aiter_compiles_for_one_arch() -> None:
    """aiter#3807: other GPUs beside it are told, each once, and which to keep; a variable that named it is unset."""
    caps = amd("gfx950", "gfx1151", "gfx1151")
    verdict, observed, required, source, fix = said(caps, "aiter-token", "aiter.arch-differs")
    assert (verdict, observed, required) == ("unmet", "aiter takes gfx950, gfx1151 runs", "one arch")
    assert source == "the first GPU that rocminfo prints"
    above = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; export ROCR_VISIBLE_DEVICES"
    assert fix == f"{above}=0 or {above}=1,2"
    named = amd("gfx950", GPU_ARCHS="gfx1151")
    observed = "aiter takes gfx1151, gfx950 runs"
    assert said(named, "aiter-token", "aiter.arch-differs") == (
        "unmet",
        observed,
        "one arch",
        "GPU_ARCHS",
        "unset GPU_ARCHS",
    )
    assert told(amd("gfx950", GPU_ARCHS="gfx950"), "aiter-token", "aiter.arch-differs") is None
    assert told(amd().replace(rocminfo_arch=None), "aiter-token", "aiter.arch-differs") is None


@pytest.mark.parametrize(
    ("arch", "required"),
    [
        ("gfx90a", "a GPU that Triton has an fp8 type for"),
        ("gfx908", "a GPU that Triton has an fp8 type for"),
        ("gfx936", "an AMD GPU; Hygon's DCU is none"),
    ],
)
def test_a_gpu_without_an_fp8_type(arch: str, required: str) -> None:
    """Wherever it stands among others, which are kept where they are of one arch."""
    devices = (Device(0, "gfx950", "first"), Device(1, arch, "second"), Device(2, "gfx950", "third"))
    caps = amd("gfx950").replace(devices=devices)
    fix = "unset HIP_VISIBLE_DEVICES CUDA_VISIBLE_DEVICES; export ROCR_VISIBLE_DEVICES=0,2"
    assert said(caps, "aiter-token", "device.arch") == ("unmet", arch, required, "second", fix)
    unheard = amd("gfx950").replace(devices=(Device(0, "gfx1300", "first"),))
    assert told(unheard, "aiter-token", "device.arch") is None


# --- aiter: pages


@pytest.mark.parametrize(
    ("size", "required"),
    [
        (8, "a multiple of 16, the rows of a tile"),
        (24, "a multiple of 16, the rows of a tile"),
        (48, "a page size that divides ChunkK = 256 or is a multiple of it"),
        (384, "a page size that divides ChunkK = 256 or is a multiple of it"),
        (256, None),
        (512, None),
        (16, None),
        (None, None),
    ],
)
def test_the_pages_of_tiles(size: int | None, required: str | None) -> None:
    """Rows of 16, and chunks of 256: whole pages a chunk, or, since 9715eecc, whole chunks a page but on gfx1250."""
    found = told(amd(), "aiter-preshuffle", "page.size", Request(page_size=size))
    assert (found and found.required) == required
    for caps in (amd("gfx1250"), with_source(amd(), chunk_rule="divides")):
        narrow = told(caps, "aiter-preshuffle", "page.size", Request(page_size=size))
        if size in (48, 384, 512):
            assert narrow is not None
            assert narrow.required == "a page size that divides ChunkK = 256"
            assert (narrow.observed, narrow.source, narrow.fix) == (
                str(size),
                "the request",
                "leave the page size to the row",
            )
        else:
            assert (narrow is None) == (required is None)
    assert told(amd().replace(aiter_source=None), "aiter-preshuffle", "page.size", Request(page_size=512)) is not None


def test_a_plain_kernel_of_one_token() -> None:
    """04907edc took the assertion out; without a source nothing is said."""
    caps = amd("gfx1151", generation="861b4c93")
    source = "aiter/ops/triton/attention/pa_mqa_logits.py"
    answer = ("unmet", "it asserts KVBlockSize == 1", "an aiter since 04907edc", source, MAIN)
    assert said(caps, "aiter-flat", "aiter.plain-one-token") == answer
    assert told(amd("gfx1151"), "aiter-flat", "aiter.plain-one-token") is None
    assert told(with_source(caps, plain_pages=None), "aiter-flat", "aiter.plain-one-token") is None
    assert told(caps.replace(aiter_source=None), "aiter-flat", "aiter.plain-one-token") is None


# --- aiter: the gluon kernels


LOGITS = "aiter/ops/triton/attention/pa_mqa_logits.py"
COMPILED = "measured: tests/real_aiter/compiles.json"
AOT = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS"


def aot(*kernels: AotKernel, location: str | None = "/aot", **machine: Any) -> Capabilities:
    """Return a machine whose aiter is to take its kernels from a bundle."""
    return amd(**{AOT: "1"}, **machine).replace(aot_bundle=AotBundle(location, kernels))


def test_tiles_need_gluon_and_gluon_a_new_triton() -> None:
    """a6bb4993 takes Triton 3.5.0 for new; where the bundle's variable makes gluon active, Triton is not the reason."""
    caps = amd(triton="3.4.0", generation="a6bb4993")
    caps = caps.replace(triton=replace(caps.triton, source="/triton"))
    answer = ("unmet", "Triton 3.4.0", "Triton >= 3.5.0", "/triton", 'pip install "triton>=3.5.0,<3.10"')
    assert said(caps, "aiter-preshuffle", "triton.too-old") == answer
    assert told(amd(triton="3.5.0", generation="a6bb4993"), "aiter-preshuffle", "triton.too-old") is None
    bundled = aot(triton="3.3.1", generation="a6bb4993")
    assert told(bundled, "aiter-preshuffle", "triton.too-old") is None
    assert told(caps.replace(aiter_source=None), "aiter-preshuffle", "triton.too-old") is None


def test_the_archs_that_gluon_takes() -> None:
    """861b4c93 (0.1.16) brought gfx1250; of others no newer aiter is known to take any."""
    older, newer = "one of gfx942, gfx950", "one of gfx942, gfx950, gfx1250"
    image = "install AMD's aiter >= 0.1.16, as ROCm images bring it"
    for arch, generation, required, fix in (
        ("gfx1250", "a6bb4993", older, image),
        ("gfx1201", "a6bb4993", older, None),
        ("gfx1201", "04907edc", newer, None),
    ):
        caps = amd(arch, generation=generation)
        row = "aiter-preshuffle" if generation == "04907edc" else "aiter-token"
        assert said(caps, row, "aiter.arch-not-gluon") == ("unmet", arch, required, LOGITS, fix)
    assert told(amd("gfx1250"), "aiter-preshuffle", "aiter.arch-not-gluon") is None


def test_flat_pages_need_gluon_not_to_be_active() -> None:
    """aiter#5591: only where the bundle's variable makes it so, on an old Triton, is there a way back."""
    for caps, fix in ((amd(), None), (aot(), None), (aot(triton="3.4.0", AITER_USE_SYSTEM_TRITON="1"), f"unset {AOT}")):
        answer = ("unmet", "gluon is active", "gluon not active", "aiter#5591", fix)
        assert said(caps, "aiter-flat", "aiter.flat-reads-wrong") == answer
    for caps in (amd("gfx1151"), amd(triton="3.4.0"), amd().replace(aiter_source=None)):
        assert told(caps, "aiter-flat", "aiter.flat-reads-wrong") is None


def test_a_launch_with_too_few_arguments() -> None:
    """d863d2f8's: of the kernel that it launches so, on every Triton, before anything that is compiled."""
    caps = with_source(amd(), launches_short=("preshuffle",), compiled=())
    observed = "the preshuffle kernel is launched with one argument fewer"
    answer = ("unmet", observed, "as many as it takes", LOGITS, MAIN)
    assert said(caps, "aiter-preshuffle", "aiter.launch-short") == answer
    assert told(caps, "aiter-preshuffle", "aiter.body-unproven") is None
    assert told(caps, "aiter-token", "aiter.launch-short") is None
    unread = with_source(amd(), launches_short=None)
    assert told(unread, "aiter-preshuffle", "aiter.launch-short") is None


def test_gluon_multiplies_keys_of_a_type_that_aiter_has() -> None:
    """Where `dtypes.py` has none for the arch, keys are bytes; where it was not read that is not told."""
    caps = with_source(amd(), fp8_archs=("gfx950", "gfx1250"))
    answer = ("unmet", "gfx942", "one of gfx950, gfx1250", "aiter/utility/dtypes.py", MAIN)
    for row in ("aiter-preshuffle", "aiter-token"):
        assert said(caps, row, "aiter.no-fp8-type") == answer
    assert told(with_source(amd(), fp8_archs=None), "aiter-token", "aiter.no-fp8-type") is None


def test_a_gluon_body_that_was_never_compiled() -> None:
    """None of history's, or for none of the archs that were tried."""
    source = "aiter/ops/triton/gluon/pa_mqa_logits.py"
    for compiled in ((), None, ("preshuffle:gfx942", "plain:*")):
        caps = with_source(amd(), compiled=compiled)
        observed = "a base kernel that is none of history's"
        answer = ("unknown", observed, "a body that was compiled", source, MAIN)
        assert said(caps, "aiter-token", "aiter.body-unproven") == answer
    assert told(with_source(amd(), compiled=("base:gfx942",)), "aiter-token", "aiter.body-unproven") is None
    new: dict[str, Any] = {"arch_gate": "assert", "gluon_archs": ("gfx942", "gfx1200"), "known_archs": ("gfx1200",)}
    untried = ("unknown", "gfx1200", "one of gfx942, gfx950, gfx1250", COMPILED, None)
    assert said(with_source(amd("gfx1200"), **new), "aiter-token", "device.arch-unproven") == untried
    seen = with_source(amd("gfx1200"), **new, compiled=("base:gfx1200",))
    assert told(seen, "aiter-token", "device.arch-unproven") is None


CANNOT = "aiter.does-not-compile"


@pytest.mark.parametrize(
    ("arch", "triton", "generation", "observed", "required", "fix"),
    [
        (
            "gfx950",
            "3.5.0",
            "914dcee3",
            "kernels written for MFMA version 3, on gfx950",
            "an aiter that follows the GPU (10c87ea1)",
            "install AMD's aiter >= 0.1.13, as ROCm images bring it",
        ),
        (
            "gfx942",
            "3.6.0",
            "10c87ea1",
            "the base kernel names MFMA shapes by two numbers, on Triton 3.6.0",
            "an aiter since a1bdcec9, or Triton < 3.6",
            "install AMD's aiter >= 0.1.13, as ROCm images bring it",
        ),
        (
            "gfx1250",
            "3.6.0",
            "04907edc",
            "Triton 3.6.0 on gfx1250",
            "Triton >= 3.7.0",
            'pip install "triton>=3.7.0,<3.10"',
        ),
    ],
)
def test_what_passes_every_gate_of_gluon_and_does_not_compile(
    arch: str, triton: str, generation: str, observed: str, required: str, fix: str
) -> None:
    """As measured with Triton's compiler; the fix is a newer Triton where one would do, else a newer aiter."""
    caps = amd(arch, triton=triton, generation=generation, AITER_USE_SYSTEM_TRITON="1")
    if generation == "914dcee3":
        caps = with_source(caps, fp8_archs=None)
    assert said(caps, "aiter-token", CANNOT) == ("unmet", observed, required, COMPILED, fix)


def test_a_pre_release_of_gluons_floor_was_not_compiled() -> None:
    """3.7.0rc1 comes before the 3.7.0 that was measured on gfx1250; on gfx942 no such floor is known."""
    caps = amd("gfx1250", triton="3.7.0rc1")
    fix = 'pip install "triton>=3.7.0,<3.10"'
    answer = ("unknown", "gfx1250 with Triton 3.7.0rc1", "Triton >= 3.7.0, as released", COMPILED, fix)
    assert said(caps, "aiter-token", "device.arch-unproven") == answer
    assert told(amd(triton="3.7.0rc1"), "aiter-token", "device.arch-unproven") is None


# --- aiter: the ahead-of-time bundle


TILED = "paged_mqa_logits_preshuffle_64x256x128_B64PFW2"
BASE = "paged_mqa_logits_64x256x128_B1PFW2"


def test_a_bundle_with_an_old_triton() -> None:
    """Its kernels have the ABI of Triton 3.3 (triton#7258); 10c87ea1 calls what a new Triton alone imports."""
    whole = (AotKernel(TILED, complete=True, arch="gfx942"), AotKernel(BASE, complete=True, arch="gfx942"))
    ways = f'unset {AOT} or pip install "triton>=3.5.0,<3.10"'
    for triton in ("3.2.0", "3.4.0"):
        answer = ("unmet", f"Triton {triton}", "3.3.0 <= Triton < 3.4.0", "triton#7258", ways)
        caps = aot(*whole, triton=triton, generation="914dcee3")
        assert said(caps, "aiter-token", "aot.triton") == answer
    for triton in ("3.3", "3.3.0", "3.3.1"):
        caps = aot(*whole, triton=triton, generation="914dcee3")
        assert decide(caps).verdict("aiter-token").verdict == "met"
    required, source = f"{AOT} unset, or Triton >= 3.5.0", f"{LOGITS} (10c87ea1)"
    answer = ("unmet", "get_cdna_version on Triton 3.3.1", required, source, ways)
    assert said(aot(*whole, triton="3.3.1", generation="a6bb4993"), "aiter-token", "aot.name-error") == answer


@pytest.mark.parametrize(
    ("kernels", "code", "observed", "required"),
    [
        ((), "aot.kernel-missing", f"{AOT}=1 and no {TILED}", "that kernel, or the variable unset"),
        (
            (AotKernel(BASE, complete=True, arch="gfx942"),),
            "aot.kernel-missing",
            f"{AOT}=1 and no {TILED}",
            "that kernel, or the variable unset",
        ),
        ((AotKernel(TILED, complete=False, arch="gfx942"),), "aot.kernel-partial", TILED, "its .json and .hsaco"),
        ((AotKernel(TILED, complete=True, arch="gfx950"),), "aot.wrong-arch", f"{TILED} for gfx950", "one for gfx942"),
        ((AotKernel(TILED, complete=True),), "aot.wrong-arch", f"{TILED} for None", "one for gfx942"),
        ((AotKernel(BASE, complete=False), AotKernel(TILED, complete=True, arch="gfx942")), None, "", ""),
    ],
)
def test_a_bundle_that_lacks_the_kernel(
    kernels: tuple[AotKernel, ...], code: str | None, observed: str, required: str
) -> None:
    """Its folder is named, and unsetting the variable is always a way; on a new Triton a kernel in place is met."""
    caps = aot(*kernels)
    if code is None:
        assert decide(caps).verdict("aiter-preshuffle").verdict == "met"
        return
    answer = ("unmet", observed, required, f"/aot/{TILED}", f"unset {AOT}")
    assert said(caps, "aiter-preshuffle", code) == answer
    jit = with_source(caps, aot_stops_jit=False)
    assert told(jit, "aiter-preshuffle", code) is None


def test_a_bundle_that_cannot_be_read() -> None:
    """What is in it is not known, and the kernel that it should have is named."""
    caps = aot().replace(aot_bundle=AotBundle("/aot", None))
    answer = ("unknown", "a folder that cannot be read", TILED, "/aot", f"unset {AOT}")
    assert said(caps, "aiter-preshuffle", "aot.unknown") == answer


# --- aiter: the plain kernel


PLAIN_ARCHS = "one of gfx942, gfx950, gfx1100, gfx1101, gfx1102, gfx1151, gfx1200, gfx1201"


@pytest.mark.parametrize(
    ("arch", "triton", "code", "verdict", "observed", "floor"),
    [
        ("gfx1151", "3.4.0", CANNOT, "unmet", "the plain kernel for gfx1151 on Triton 3.4.0", "3.5.0"),
        ("gfx1151", "3.5.0", None, "", "", ""),
        ("gfx1151", "3.5.0rc1", "device.arch-unproven", "unknown", "gfx1151 with Triton 3.5.0rc1", "3.5.0"),
        ("gfx1201", "3.5.1", "device.arch-unproven", "unknown", "gfx1201 with Triton 3.5.1", "3.6.0"),
        ("gfx1201", "3.6.0", None, "", "", ""),
        ("gfx1201", "3.6.0rc1", "device.arch-unproven", "unknown", "gfx1201 with Triton 3.6.0rc1", "3.6.0"),
        ("gfx1200", "3.3.1", CANNOT, "unmet", "the plain kernel for gfx1200 on Triton 3.3.1", "3.4.0"),
        ("gfx942", "3.1.0", "device.arch-unproven", "unknown", "gfx942 with Triton 3.1.0", "3.2.0"),
        ("gfx942", "3.2.0", None, "", "", ""),
    ],
)
def test_the_triton_that_the_plain_kernel_needs(
    arch: str, triton: str, code: str | None, verdict: str, observed: str, floor: str
) -> None:
    """Seen to fail below is refused; not tried below, or tried as released alone, is not known."""
    caps = amd(arch, triton=triton, AITER_USE_SYSTEM_TRITON="1")
    if code is None:
        assert decide(caps).verdict("aiter-token").verdict == "met"
        return
    fix = f'pip install "triton>={floor},<3.10"'
    assert said(caps, "aiter-token", code) == (verdict, observed, f"Triton >= {floor}", COMPILED, fix)


def test_an_arch_that_the_plain_kernel_was_never_compiled_for() -> None:
    """Aiter's map and its types may have an arch that nobody tried."""
    for arch in ("gfx1103", "gfx1300"):
        caps = with_source(amd(arch), known_archs=(arch,), fp8_archs=(arch,))
        answer = ("unknown", arch, PLAIN_ARCHS, COMPILED, None)
        found = [each for each in decide(caps).verdict("aiter-token").reasons if each.source == COMPILED]
        assert [(each.verdict, each.observed, each.required, each.source, each.fix) for each in found] == [answer]


def test_a_plain_kernel_that_is_none_of_historys() -> None:
    """Its body was never compiled, whatever the arch; that aiter has no fp8 type there comes first."""
    for compiled in ((), None, ("base:gfx1151",)):
        caps = with_source(amd("gfx1151"), compiled=compiled)
        observed, source = "a plain kernel that is none of history's", "aiter/ops/triton/_triton_kernels"
        answer = ("unknown", observed, "a body that was compiled", source, MAIN)
        assert said(caps, "aiter-token", "aiter.body-unproven") == answer
        typeless = with_source(caps, fp8_archs=("gfx942",))
        answer = ("unmet", "gfx1151", "one of gfx942", "aiter/utility/dtypes.py", MAIN)
        assert said(typeless, "aiter-token", "aiter.no-fp8-type") == answer
        assert told(typeless, "aiter-token", "aiter.body-unproven") is None


def test_where_the_plain_kernel_does_not_run_nothing_is_said_of_it() -> None:
    """Where gluon is active, or which of them is not known, or not for which GPU, or by which Triton."""
    facts: dict[str, Any] = {"compiled": ("base:gfx942", "preshuffle:gfx942")}
    plain = with_source(amd(triton="3.4.0", AITER_USE_SYSTEM_TRITON="1"), **facts)
    assert told(plain, "aiter-token", "aiter.body-unproven") is not None
    for caps in (
        with_source(amd(), **facts),
        with_source(plain, wrapper=None),
        plain.replace(rocminfo_arch=None),
        with_source(plain, wrapper="plain").replace(triton=Package("triton", "found", "main")),
        plain.replace(aiter_source=None),
    ):
        assert told(caps, "aiter-token", "aiter.body-unproven") is None
        assert told(caps, "aiter-token", "aiter.no-fp8-type") is None


def test_of_a_gpu_that_gluon_does_not_know_only_that_is_told() -> None:
    """What it would assert of no arch is no second reason."""
    caps = amd(generation="a6bb4993").replace(rocminfo_arch=None)
    assert [each.code for each in decide(caps).verdict("aiter-token").reasons] == ["device.unknown"]
