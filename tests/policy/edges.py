"""Machines at an edge of a requirement, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nsa_caps import decide
from tests.hand import capabilities
from tests.oracle import Machine

if TYPE_CHECKING:
    from nsa_caps import Capabilities, Reason, Request

UNDERSTOOD = "a source of which every statement is accounted for"
MAIN = "install AMD's aiter from 2026-08-20 on (commit 04907edc), as ROCm images bring it"


def amd(*archs: str, triton: str = "3.7.0", generation: str = "04907edc", **environ: str) -> Capabilities:
    """Return a machine of AMD's, of one MI300X where no arch is named, whose SGLang asks for aiter."""
    told = {"SGLANG_USE_AITER": "1", "VLLM_ROCM_USE_AITER": "1", **environ}
    return capabilities(
        Machine(platform="rocm", archs=archs or ("gfx942",), triton=triton, aiter=generation, environ=told)
    )


def with_source(caps: Capabilities, **facts: Any) -> Capabilities:
    """Return a machine of whose aiter some facts are changed."""
    assert caps.aiter_source is not None
    return caps.replace(aiter_source=replace(caps.aiter_source, **facts))


def nvidia(*archs: str, triton: str | None = "3.6.0", **fields: Any) -> Capabilities:
    """Return a machine of NVIDIA's, of one H100 where no arch is named, with DeepGEMM."""
    machine = Machine(platform="cuda", archs=archs or ("sm_90",), triton=triton, deep_gemm=True)
    return capabilities(machine).replace(**fields)


def told(caps: Capabilities, row: str, code: str, request: Request | None = None) -> Reason | None:
    """Return the reason of a code against a row; None: it is not given."""
    return next((each for each in decide(caps, request).verdict(row).reasons if each.code == code), None)


def said(caps: Capabilities, row: str, code: str) -> tuple[str, str, str, str | None, str | None]:
    """Return all that a reason says."""
    found = told(caps, row, code)
    assert found is not None
    return found.verdict, found.observed, found.required, found.source, found.fix
