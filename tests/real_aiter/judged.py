"""What this library says of a source set of aiter, beside what that source does when it is executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps import AotBundle, AotKernel, Capabilities, Decision, Device, Package, Request, decide, probe
from nsa_caps.capabilities.switches import resolve
from nsa_caps.probes.aiter.files import EXCERPTS
from nsa_caps.testing import machine

from .edited import CALLS, truth
from .gates import RealMachine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.reasons import Verdict

    from .checkout import Checkout

__all__ = ["FILES", "MACHINES", "Answer", "answers", "decided", "lay_out_sources", "read"]

AOT, ESCAPE = "AITER_ENABLE_AOT_GLUON_PA_MQA_LOGITS", "AITER_USE_SYSTEM_TRITON"
# Triton, GPU and variables: one machine for each way through the gates.
MACHINES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("3.6.0", "gfx942", {}),
    ("3.8.0", "gfx950", {}),
    ("3.4.0", "gfx942", {}),
    ("3.8.0", "gfx942", {AOT: "1"}),
    ("3.8.0", "gfx942", {AOT: "true"}),
    ("3.8.0", "gfx1250", {}),
    ("3.8.0", "gfx1100", {}),
    ("3.5.1", "gfx942", {ESCAPE: "1"}),
    ("3.8.0", "gfx90a", {}),
    ("3.10.0", "gfx942", {}),
    ("3.5.0rc1", "gfx950", {ESCAPE: "1"}),
)
# Every file of aiter that its import runs, or that decides, at any commit of its main branch since the first kernel.
FILES = tuple(Path(__file__).with_name("files.txt").read_text(encoding="utf-8").split())
# The compiler's own refusals, which nothing that is executed here shows.
COMPILER = frozenset({"aiter.does-not-compile", "device.arch", "device.arch-unproven"})


class Answer(NamedTuple):
    """One row on one machine.

    Attributes:
        row: the row.
        where: the machine: Triton, GPU, variables.
        verdict: what the library says.
        codes: its reasons.
        real: what the source does: `runs`, or what keeps it from that.
    """

    row: str
    where: str
    verdict: Verdict
    codes: tuple[str, ...]
    real: str

    @property
    def is_wrong_yes(self) -> bool:
        """Whether the row is said to run, and does not."""
        return self.verdict == "met" and self.real != "runs"

    @property
    def is_wrong_no(self) -> bool:
        """Whether the row is said not to run, not for the compiler's sake, and is launched."""
        return self.verdict == "unmet" and self.real == "runs" and not COMPILER.intersection(self.codes)


def lay_out_sources(site: Path, checkout: Checkout) -> None:
    """Write the files of a commit that probes read: all that an import runs, so that this is no excerpt."""
    (site / EXCERPTS).unlink(missing_ok=True)
    for name in FILES:
        text = checkout.text(f"aiter/{name}")
        if text is not None:
            path = site / "aiter" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def read(folder: Path, checkout: Checkout) -> Capabilities:
    """Return what the probes find on a machine with these sources."""
    host = machine(folder / "machine", archs=("gfx942",), environ={"SGLANG_USE_AITER": "1"})
    lay_out_sources(folder / "machine" / "site", checkout)
    return probe(host)


def on_machine(
    base: Capabilities, triton: str, arch: str, environ: dict[str, str], kernels: tuple[AotKernel, ...] = ()
) -> Capabilities:
    """Return the machine where the sources lie beside another Triton, GPU, ahead-of-time bundle and switches."""
    switches, _ = resolve({**environ, "SGLANG_USE_AITER": "1"}, "sglang")
    return base.replace(
        triton=Package("triton", "found", triton),
        devices=(Device(0, arch, "test"),),
        rocminfo_arch=arch,
        switches=switches,
        aot_bundle=AotBundle("aot", kernels),
    )


def decided(base: Capabilities, triton: str, arch: str, environ: dict[str, str], page_size: int) -> Decision:
    """Return the decision where the sources lie on another machine, without an ahead-of-time bundle."""
    return decide(on_machine(base, triton, arch, environ), Request(page_size=page_size))


def answers(base: Capabilities, checkout: Checkout) -> Iterator[Answer]:
    """Yield what is said of each row of aiter on each machine, and what the source does."""
    for triton, arch, environ in MACHINES:
        real = truth(checkout, RealMachine(triton, arch, frozenset(environ.items())))
        for row, call in CALLS.items():
            verdict = decided(base, triton, arch, environ, call.page_size).verdict(row)
            codes = tuple(reason.code for reason in verdict.reasons)
            where = " ".join((triton, arch, *(f"{name}={value}" for name, value in environ.items())))
            yield Answer(row, where, verdict.verdict, codes, real[row])
