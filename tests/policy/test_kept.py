"""What kept verdicts say to the policy: pure, of any machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsa_caps import Capabilities, Device, Package, Request, decide
from nsa_caps._version import __version__
from nsa_caps.capabilities.kept import BoundPackage, KeptVerdict, Timing
from nsa_caps.policy.decision import find_row
from nsa_caps.policy.kept import cost_here, format_fields, void_because

CAPS = Capabilities(
    platform="cuda",
    devices=(Device(0, "sm_90", "t", model="NVIDIA H100"),),
    torch=Package("torch", "found", "2.11.0"),
    triton=Package("triton", "found", "3.6.0"),
    driver="nvidia 580",
)
ROW = find_row("reference")
FORMAT = decide(CAPS).verdict("reference").format
assert FORMAT is not None
KEPT = KeptVerdict(
    row="reference",
    verdict="proven",
    format=format_fields(FORMAT),
    heads=64,
    device="NVIDIA H100",
    driver="nvidia 580",
    packages=(
        BoundPackage("nsa_caps", __version__),
        BoundPackage("torch", "2.11.0"),
        BoundPackage("triton", "3.6.0"),
    ),
    variables=(),
    told="all right",
    made="2026-11-25",
    limit=300.0,
)
ONLY = Request(rows=("reference",))


def test_a_proof_of_this_machine_holds() -> None:
    """And stands with the row."""
    assert void_because(KEPT, ROW.bound_packages, CAPS) is None
    assert decide(CAPS.replace(kept=(KEPT,)), ONLY).verdict("reference").proofs == (KEPT,)


@pytest.mark.parametrize(
    "caps",
    [
        CAPS.replace(driver="nvidia 581"),
        CAPS.replace(devices=(Device(0, "sm_90", "t", model="NVIDIA H200"),)),
        CAPS.replace(devices=None),
        CAPS.replace(torch=Package("torch", "found", "2.11.1")),
        CAPS.replace(triton=Package("triton", "found", "3.7.0")),
        CAPS.replace(variables={"AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS": "1"}),
    ],
    ids=["driver", "device", "no devices", "torch", "triton", "variable"],
)
def test_another_machine_makes_it_void(caps: Capabilities) -> None:
    """A wrong row may be right there, and a right one wrong."""
    assert void_because(KEPT, ROW.bound_packages, caps) is not None
    wrong = caps.replace(kept=(replace(KEPT, verdict="wrong"),))
    reasons = decide(wrong, ONLY).verdict("reference").reasons
    assert [reason for reason in reasons if reason.code.startswith("selfcheck.")] == []


def test_a_verdict_that_is_bound_to_less_than_the_row_runs_says_nothing() -> None:
    """A row that came to stand on another package since."""
    assert void_because(KEPT, (*ROW.bound_packages, "flydsl", "aiter"), CAPS) == "it is bound to no aiter"


@pytest.mark.parametrize("verdict", ["wrong", "cannot-run", "timed-out"])
def test_known_wrong_here_refuses(verdict: str) -> None:
    """With a code of its own, what was found, and what to type."""
    failed = replace(KEPT, verdict=verdict, told="gather: 3 of 9 differ")  # type: ignore[arg-type]  # one of them
    decision = decide(CAPS.replace(kept=(failed,)), ONLY)
    (reason,) = decision.verdict("reference").reasons
    assert decision.chosen is None
    assert reason.code == f"selfcheck.{verdict}"
    assert "gather: 3 of 9 differ" in reason.observed
    assert reason.fix == "nsa-caps prove --again --row reference"


def test_the_report_says_what_was_proven_and_what_that_settles() -> None:
    """Of a GPU whose arch is not in any table, which the row alone would be unknown of."""
    new = CAPS.replace(devices=(Device(0, "sm_999", "t", model="NVIDIA H100"),), kept=(replace(KEPT, row="portable"),))
    decision = decide(new, Request(rows=("portable",)))
    (settled,) = decision.verdict("portable").settled
    told = " ".join(decision.explain().split())
    assert "proven here on NVIDIA H100, 2026-11-25: all right" in told
    assert f"unknown, and proven here: {settled.summary}: {settled.observed} [{settled.code}]" in told


def test_another_request_has_no_proof() -> None:
    """Other heads, or another page, are other kernels."""
    caps = CAPS.replace(kept=(KEPT,))
    for request in (replace(ONLY, heads=32), replace(ONLY, page_size=16)):
        assert decide(caps, request).verdict("reference").proofs == ()


def test_what_a_row_costs_here_is_told_instead_of_elsewhere() -> None:
    """Against the best that was timed here; of the best itself there is nothing to tell."""
    timed = replace(KEPT, timings=(Timing("decode 1 x 8,192", 751.0),))
    best = replace(timed, row="portable", timings=(Timing("decode 1 x 8,192", 131.0),))
    caps = CAPS.replace(kept=(timed, best))
    told = cost_here("reference", caps)
    assert told is not None
    assert told.startswith("takes 751 us where portable takes 131 (decode 1 x 8,192)")
    assert decide(caps, ONLY).caveats == (told,)
    assert cost_here("portable", caps) is None
    assert cost_here("reference", caps.replace(driver="nvidia 581")) is None
