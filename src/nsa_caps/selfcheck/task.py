"""One row proven on one kind of device, in a process of its own, and its verdict kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import gmtime, strftime
from typing import TYPE_CHECKING, Any

from nsa_caps.capabilities.kept import BoundPackage, KeptVerdict, Timing
from nsa_caps.capabilities.records import Note
from nsa_caps.policy.kept import format_fields, proofs_on
from nsa_caps.probes.host import Host
from nsa_caps.probes.kept import kept
from nsa_caps.probes.kept_files import bound_variables
from nsa_caps.selfcheck.check import versions_of
from nsa_caps.selfcheck.kept import NotKeptError, file_name, keep, one_at_a_time, package_files
from nsa_caps.selfcheck.process import Ended, run_task
from nsa_caps.selfcheck.records import SelfCheck

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nsa_caps.capabilities.kept import Proven
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.pages import PageFormat
    from nsa_caps.policy.rows import Row
    from nsa_caps.selfcheck.proof import Proof

__all__ = ["Task"]

_CHILD = "nsa_caps.selfcheck.child"
# Who runs out of memory, or is told to stop, is ended by others.
_FROM_OUTSIDE = tuple(f"killed by {name}" for name in ("SIGHUP", "SIGINT", "SIGKILL", "SIGTERM"))


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came out of a process.

    Attributes:
        check: the verdict.
        files: the files of each package that it loaded.
        lasting: the verdict is of the row, and not of this moment: memory or the device taken, a process ended by
            somebody else.
        timings: what its calls cost, where that was asked for.
    """

    check: SelfCheck
    files: Mapping[str, list[str]] = field(default_factory=dict)
    lasting: bool = False
    timings: tuple[Timing, ...] = ()


@dataclass(frozen=True)
class Task:
    """One row on one kind of device."""

    caps: Capabilities
    row: Row
    fmt: PageFormat
    heads: int
    kind: str | None
    proof: Proof
    host: Host = field(default_factory=Host.current)

    def prove(self) -> tuple[Capabilities, SelfCheck | None]:
        """Return the machine with the verdict, and the check; None where another process has just kept one."""
        if not self.proof.keep:
            return self._run()
        what = file_name(self.row.name, format_fields(self.fmt), self.heads, self.kind)
        with one_at_a_time(self.host, what, self.proof.limit):
            if not self.proof.again and not self.proof.measure:
                now = self.caps.replace(kept=kept(self.host).get("kept", ()))
                if self.kind in proofs_on(self.row.name, self.row.bound_packages, self.fmt, self.heads, now):
                    own = (each for each in self.caps.kept if each.source is None)
                    return self.caps.replace(kept=(*own, *now.kept)), None
            return self._run()

    def _run(self) -> tuple[Capabilities, SelfCheck]:
        answer = self._ask()
        verdict = replace(self._verdict(answer.check), timings=answer.timings)
        notes = self.caps.notes
        if self.proof.keep and answer.lasting and self.kind is not None:
            try:
                files = package_files(self.host, answer.files)
                verdict = keep(self.host, verdict, files, answer.check.to_dict())
            except NotKeptError as error:
                notes = (*notes, Note("kept", self.row.name, f"its verdict is not kept: {error}"))
        return self.caps.replace(kept=(*self.caps.kept, verdict), notes=notes), answer.check

    def _ask(self) -> _Answer:
        try:
            ended = run_task(_CHILD, self._document(), self.proof.limit)
        # TypeError, ValueError: a third party's options are no JSON.
        except (OSError, TypeError, ValueError) as error:
            reason = f"no process to prove it in could be started: {type(error).__name__}: {error}"
            return _Answer(self._failed("cannot-run", (reason,)))
        files = ended.said.get("files", {})
        if not ended.clean or "done" not in ended.said:
            verdict: Proven = "timed-out" if ended.timed_out else "cannot-run"
            check = self._failed(verdict, tuple(_what_happened(ended)))
            return _Answer(check, files, lasting=ended.how not in _FROM_OUTSIDE)
        done = ended.said["done"]
        check = replace(SelfCheck.from_dict(done["check"]), versions=self._versions())
        # A verdict on another device than the one that was meant, or of this moment alone, says nothing tomorrow.
        archs = [device.arch for device in self.caps.devices or () if device.model == self.kind]
        lasting = not done["transient"] and done["arch"] in (None, *archs)
        timings = tuple(Timing(shape, float(microseconds)) for shape, microseconds in done["timings"])
        return _Answer(check, files, lasting=lasting, timings=timings)

    def _document(self) -> dict[str, Any]:
        return {
            "row": self.row.name,
            "kernels": self.row.kernels,
            "logits_kernels": self.row.logits_kernels,
            "options": dict(self.row.logits_options(self.fmt.page_size)),
            "format": self.fmt.to_dict(),
            "heads": self.heads,
            "device": self._device(),
            "packages": self.row.bound_packages,
            "measure": self.proof.measure,
        }

    def _failed(self, verdict: Proven, reasons: tuple[str, ...]) -> SelfCheck:
        return SelfCheck(
            row=self.row.name,
            verdict=verdict,
            format=self.fmt,
            device=None,
            versions=self._versions(),
            reasons=reasons,
        )

    def _versions(self) -> dict[str, str | None]:
        return versions_of(self.caps, self.row)

    def _device(self) -> str:
        if self.proof.device is not None:
            return self.proof.device
        of_kind = (device.index for device in self.caps.devices or () if device.model == self.kind)
        return "cpu" if self.kind == "cpu" else f"cuda:{next(of_kind, 0)}"

    def _verdict(self, check: SelfCheck) -> KeptVerdict:
        versions = self._versions()
        return KeptVerdict(
            row=self.row.name,
            verdict=check.verdict,
            format=format_fields(self.fmt),
            heads=self.heads,
            device=self.kind,
            driver=self.caps.driver,
            packages=tuple(BoundPackage(name, versions.get(name)) for name in self.row.bound_packages),
            variables=bound_variables(self.host.environ),
            told=_told(check),
            made=strftime("%Y-%m-%d", gmtime()),
            limit=float(self.proof.limit),
        )


def _what_happened(ended: Ended) -> Iterable[str]:
    after = ", after its verdict" if "done" in ended.said else ""
    yield f"{ended.said.get('step', 'at its start')}: its process {ended.how}{after}"
    if ended.words:
        yield f"last words: {ended.words}"


def _told(check: SelfCheck) -> str:
    """Return a verdict in one sentence or two: the first mismatch, or why it did not run."""
    if check.verdict == "proven":
        return f"{', '.join(check.checked)} were right"
    found: list[object] = [*check.mismatches[:1], *check.reasons]
    return "; ".join(str(each) for each in found) or "it gave no reason"
