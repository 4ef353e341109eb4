"""Why a row may not be used: data first, prose second."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities.kept import KeptVerdict
    from nsa_caps.pages import PageFormat
    from nsa_caps.policy.changes import Change

__all__ = ["CODES", "Reason", "RowVerdict", "Verdict"]

Verdict: TypeAlias = Literal["met", "unmet", "unknown"]

# A code, once released, is never renamed: engines and dashboards key on it.
CODES: Mapping[str, str] = MappingProxyType({
    "row.not-in-request": "the engine cannot run this row",
    "row.forced": "another row is forced",
    "row.outranked": "a better row is met",
    "platform.mismatch": "this row is for another platform",
    "platform.unknown": "what torch was built for is not known",
    "package.missing": "a package is not installed",
    "package.broken": "a package is there but cannot be read",
    "package.impostor": "another project of the same name is installed",
    "device.none": "there is no GPU that this process may use",
    "device.unknown": "which GPUs this process may use is not known",
    "device.arch": "this row's kernels do not run on this GPU",
    "device.arch-unproven": "this row's kernels were never compiled for this GPU",
    "device.dialects": "the visible GPUs speak different fp8 dialects",
    "switch.aiter-off": "aiter is not enabled",
    "switch.preshuffle-off": "the tiled layout is switched off",
    "switch.unreadable": "a switch holds what its consumer cannot read",
    "triton.version-unknown": "the version of Triton is not known",
    "triton.too-old": "Triton is too old",
    "aiter.source-unknown": "aiter's source is not understood",
    "aiter.import-barred": "nothing of aiter can be imported with this Triton",
    "aiter.import-trimmed": "a variable keeps the kernels out of what `import aiter` brings",
    "aiter.no-preshuffle-logits": "aiter's logits kernel takes neither Preshuffle nor KVBlockSize",
    "aiter.no-preshuffle-cache": "aiter's cache kernels take no preshuffle",
    "aiter.unknown-arch": "aiter does not support the GPU that it detects",
    "aiter.arch-differs": "aiter builds for another GPU than the one that runs",
    "aiter.arch-not-gluon": "aiter's gluon kernels do not take this arch",
    "aiter.flat-reads-wrong": "aiter's gluon kernels read flat pages in the wrong order",
    "aiter.plain-one-token": "aiter's plain kernel takes pages of one token only",
    "aiter.no-fp8-type": "aiter has no fp8 type for this arch",
    "aiter.does-not-compile": "aiter's kernel passes every gate and does not compile",
    "aot.name-error": "aiter's ahead-of-time path calls a function that it does not import",
    "aot.triton": "the ahead-of-time kernels do not fit this Triton",
    "aot.kernel-missing": "the ahead-of-time kernel is not in the bundle",
    "aot.kernel-partial": "the ahead-of-time kernel lacks a file",
    "aot.wrong-arch": "the ahead-of-time kernel is for another arch",
    "aot.unknown": "the ahead-of-time bundle could not be read",
    "page.size": "this row takes no pages of this size",
    "request.shape": "this row takes no indexer of this shape",
    "request.shape-unproven": "this row was never compiled for an indexer of this shape",
    "engine.keyword": "the engine hands aiter what this aiter does not take",
    "aiter.flydsl": "aiter does not take the flydsl that is installed",
    "aiter.gluon-cut": "this aiter's logits function never calls its gluon kernels",
    "aiter.launch-short": "aiter launches this kernel with fewer arguments than it takes",
    "aiter.body-unproven": "the body of aiter's kernel was never compiled",
    "plugin.failed": "a third party's row failed when it was asked",
    "engine.row": "the engine does not run this row here",
    "selfcheck.wrong": "this row's kernels ran on this device and were wrong",
    "selfcheck.cannot-run": "this row's kernels were tried on this device and did not run",
    "selfcheck.timed-out": "this row's kernels were tried on this device and did not end",
    "device.no-access": "this process may not open the GPUs that are there",
    "triton.ptxas": "the ptxas that Triton is told of does not know this GPU",
    "triton.ptxas-unknown": "it is not known whether the ptxas that Triton is told of knows this GPU",
    "deepgemm.unknown": "what the installed DeepGEMM was built for is not known",
    "deepgemm.no-paged-logits": "the installed DeepGEMM has no paged logits kernel",
    "deepgemm.arch": "the installed DeepGEMM has no kernel for this GPU",
    "deepgemm.lacks": "a package that DeepGEMM imports is not installed",
    "deepgemm.cuda": "the installed DeepGEMM is built for another CUDA than torch",
    "deepgemm.toolkit": "no CUDA toolkit was found where DeepGEMM looks for one",
    "deepgemm.nvcc": "the nvcc that DeepGEMM finds is too old",
    "package.unknown": "it is not known which package an import would bring",
})  # fmt: skip


@dataclass(frozen=True)
class Reason:
    """One reason against one row.

    Attributes:
        code: what is the matter, a key of `CODES`, never renamed; third parties' own are such as `x.fabric-missing`.
        verdict: `unmet` or `unknown`.
        observed: what was found.
        required: what the row needs.
        source: where it was read, or the rule's source.
        changes: the fixes, any one of which would do; empty where there is none.
    """

    code: str
    verdict: Verdict
    observed: str
    required: str
    source: str | None = None
    changes: tuple[Change, ...] = ()

    @property
    def summary(self) -> str:
        """What is the matter, in one sentence; of a third party's own code, the code."""
        return CODES.get(self.code, self.code)

    @property
    def fix(self) -> str | None:
        """What to do about it, as one can type it."""
        return " or ".join(change.text for change in self.changes) or None

    def __str__(self) -> str:
        """Return the whole reason on one line."""
        source = f" ({self.source})" if self.source else ""
        return f"{self.summary}: {self.observed}; needs {self.required}{source}"


# No change can remove these, unless they name one: a torch for the GPUs that are there.
_OUT_OF_REACH = {
    "platform.mismatch": "for {required}",
    "row.not-in-request": "not among the rows that the engine runs",
}


@dataclass(frozen=True)
class RowVerdict:
    """What was decided of one row.

    Attributes:
        row: its name.
        verdict: `met`, `unmet`, or `unknown` where nothing is unmet and something is not known.
        page_size: index slots a page under this row and request.
        reasons: all unmet and unknown requirements; empty exactly where the verdict is `met`.
        format: the bytes of one page; None where the GPUs have no one dialect, or no such page exists.
        settled: what is not known, and that the row was proven on every kind of device here settles.
        proofs: that proof, a verdict a kind of device; empty where it was not proven on all.
    """

    row: str
    verdict: Verdict
    page_size: int
    reasons: tuple[Reason, ...] = ()
    format: PageFormat | None = None
    settled: tuple[Reason, ...] = ()
    proofs: tuple[KeptVerdict, ...] = ()

    @property
    def out_of_reach(self) -> str | None:
        """Why nothing else about the row matters: it is another platform's, or not the engine's; else None."""
        for reason in self.reasons:
            if reason.code in _OUT_OF_REACH and not reason.changes:
                return _OUT_OF_REACH[reason.code].format(required=reason.required)
        return None

    @property
    def decisive_reasons(self) -> tuple[Reason, ...]:
        """The reasons that matter: those that put the row out of reach where there are any, else all."""
        if self.out_of_reach is None:
            return self.reasons
        return tuple(reason for reason in self.reasons if reason.code in _OUT_OF_REACH)
