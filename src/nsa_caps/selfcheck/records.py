"""What a self-check found: records that need no torch, so that a kept verdict can be told anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping  # noqa: TC003 records.py resolves the annotations at run time
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nsa_caps.base.serial import SnapshotError, from_plain, to_plain
from nsa_caps.capabilities.kept import Proven  # noqa: TC001 as above
from nsa_caps.pages import PageFormat  # noqa: TC001 as above

__all__ = ["CAUSES", "Cause", "Mismatch", "RowKernels", "SelfCheck"]

Cause: TypeAlias = Literal["order", "dialect", "scale-form", "offset-overflow", "page-off-by-one", "unexplained"]

CAUSES: Mapping[Cause, str] = {
    "order": "the keys of a page lie in another order",
    "dialect": "bytes are of the other fp8 dialect",
    "scale-form": "scales are in another form",
    "offset-overflow": "offsets are cut off",
    "page-off-by-one": "another page is taken than the page table says",
    "unexplained": "no mismatch that this check knows explains it",
}


@dataclass(frozen=True)
class RowKernels:
    """What is checked: the kernels of one row, which take what those of `nsa_caps.kernels.reference` take.

    Attributes:
        row: the row's name.
        store: writes quantised keys.
        gather: reads them.
        quantise_and_store: quantises and writes; None: the row has none.
        logits: scores the pages; None: they are not checked.
        logits_options: the keyword arguments that `logits` takes beside `fmt` and `out`.
        ragged_logits: scores gathered keys; None: they are not checked.
    """

    row: str
    store: Callable[..., Any]
    gather: Callable[..., Any]
    quantise_and_store: Callable[..., Any] | None = None
    logits: Callable[..., Any] | None = None
    logits_options: Mapping[str, Any] = field(default_factory=dict)
    ragged_logits: Callable[..., Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """One step of a row that went wrong: the first token that differs, and what would explain all that do.

    Attributes:
        step: what was asked: `store`, `quantise_and_store`, `gather`, `logits` or `ragged_logits`, with `beyond 2 GiB`
            where it was.
        cause: which mismatch explains it, a key of `CAUSES`; it predicts all that was found, not the first token alone.
        explanation: the same in words.
        wrong: tokens that differ.
        tokens: tokens that were compared.
        part: what differs in the first of them, such as `key, from byte 3`.
        expected: what the reference has there.
        found: what the row has.
        request: whose token it is; None where the difference lies in no token.
        position: which of the request's tokens.
        page: the page that holds it.
        slot: which slot of the page.
    """

    step: str
    cause: Cause
    explanation: str
    wrong: int
    tokens: int
    part: str
    expected: str
    found: str
    request: int | None = None
    position: int | None = None
    page: int | None = None
    slot: int | None = None

    def __str__(self) -> str:
        """Return the whole of it in two sentences."""
        where = self.part if self.page is None else f"{self.part}, page {self.page}"
        if self.request is not None:
            where = f"the first in token {self.position} of request {self.request}, slot {self.slot}, {where}"
        return (
            f"{self.step}: {self.wrong:,} of {self.tokens:,} differ, {where}: expected {self.expected}, "
            f"found {self.found}. {CAUSES[self.cause].capitalize()}: {self.explanation}."
        )


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """The verdict on one row on one device.

    Attributes:
        row: the row's name.
        verdict: `proven`; `wrong`; `cannot-run`, where the kernels may not, could not be loaded, did not launch or
            ended their process; or `timed-out`.
        format: the bytes that were asked for; None where it is not known which.
        device: the device's name; None where nothing was run.
        versions: the packages that it was made with; None: without a version.
        checked: the steps that ran to their end, right or wrong.
        mismatches: the steps that went wrong.
        reasons: why it cannot run, or what else a reader should know.
    """

    row: str
    verdict: Proven
    format: PageFormat | None
    device: str | None
    versions: Mapping[str, str | None]
    checked: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the format that was checked."""
        return None if self.format is None else self.format.fingerprint

    def still_holds(self, fingerprint: str, versions: Mapping[str, str | None], device: str) -> bool:
        """Return whether this was proven or disproven of that format, with those packages, on that kind of device."""
        made_with = (self.fingerprint, dict(self.versions), self.device)
        return self.verdict != "cannot-run" and made_with == (fingerprint, dict(versions), device)

    def explain(self) -> str:
        """Return the verdict in words, and what it rests on, one item a line."""
        lines = [f"{self.row}: {self.verdict}"]
        if self.checked:
            lines.append(f"  {', '.join(self.checked)} on {self.device}, format {self.fingerprint}")
        return "\n".join([*lines, *(f"  {item}" for item in (*self.mismatches, *self.reasons))])

    def to_dict(self) -> dict[str, Any]:
        """Return this as plain JSON values; `from_dict` takes them back."""
        return {**to_plain(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SelfCheck:
        """Return what `to_dict` was called on.

        Raises:
            SnapshotError: a field is of the wrong name or type, or the fingerprint is not that of the format, as a
                release of nsa_caps that means another thing by a format would have it.
        """
        given = dict(document)
        fingerprint = given.pop("fingerprint", None)
        made = from_plain(cls, given, "self-check")
        if made.fingerprint != fingerprint:
            raise SnapshotError(f"self-check.fingerprint: is {fingerprint!r}, its format has {made.fingerprint!r} here")
        return made
