"""The decision over Triton versions x GPU archs for one machine, as data. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsa_caps.archs import ARCHS
from nsa_caps.base.lines import printable
from nsa_caps.policy.changes import Change, torch_for
from nsa_caps.policy.decision import decide
from nsa_caps.policy.request import Request
from nsa_caps.policy.rows import ROWS
from nsa_caps.policy.versions import parse_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.decision import Decision
    from nsa_caps.policy.reasons import Reason
    from nsa_caps.policy.rows import Row

__all__ = ["SHOWN_ARCHS", "TRITON_VERSIONS", "Cell", "Matrix", "matrix"]

# One release for each answer that any aiter's gates give: below 3.4 a bundle may be loaded, 3.5 brings gluon, 3.6
# another MFMA shape and aiter's import gate, 3.7 gfx1250.
TRITON_VERSIONS = ("3.3.1", "3.4.0", "3.5.1", "3.6.0", "3.7.0", "3.8.0")
SHOWN_ARCHS: Mapping[str, tuple[str, ...]] = {
    platform: tuple(arch.name for arch in ARCHS.values() if arch.shown and arch.platform == platform)
    for platform in ("rocm", "cuda")
}


@dataclass(frozen=True)
class Cell:
    """What is decided with one Triton on one arch.

    Attributes:
        triton: the version.
        arch: the arch of every GPU.
        chosen: the row; None: no row.
        page_size: its page size, in index slots.
        reasons: all that is against the best row; empty where it is the one chosen.
    """

    triton: str
    arch: str
    chosen: str | None
    page_size: int | None
    reasons: tuple[Reason, ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the reasons, each once."""
        return tuple(dict.fromkeys(reason.code for reason in self.reasons))


@dataclass(frozen=True)
class Matrix:
    """The decision over Triton versions x archs.

    Attributes:
        caps: the machine whose Triton and GPUs are varied.
        request: what was asked.
        triton_versions: the rows, oldest first.
        archs: the columns.
        best_row: the best row of this platform that the request allows; None: no row.
        cells: one for each version and arch, row by row.
        table: the rows that were decided over, best first.
    """

    caps: Capabilities
    request: Request
    triton_versions: tuple[str, ...]
    archs: tuple[str, ...]
    best_row: str | None
    cells: tuple[Cell, ...]
    table: tuple[Row, ...]

    def cell(self, triton: str, arch: str) -> Cell:
        """Return the cell of a version and an arch."""
        return next(cell for cell in self.cells if (cell.triton, cell.arch) == (triton, arch))

    def chosen_rows(self) -> tuple[tuple[Row, int], ...]:
        """Return the rows that any cell chooses, best first, each with its page size."""
        sizes = {cell.chosen: cell.page_size for cell in self.cells}
        return tuple((row, size) for row in self.table if (size := sizes.get(row.name)) is not None)

    def codes(self) -> tuple[str, ...]:
        """Return the codes of what is against the best row anywhere, in order of first appearance."""
        return tuple(dict.fromkeys(code for cell in self.cells for code in cell.codes))

    @property
    def subject(self) -> str:
        """The machine, as far as it stands while Triton and the GPUs vary."""
        package = self.caps.aiter
        known = package.version or "of unknown version"
        what = {"missing": "no aiter", "unknown": "aiter"}.get(package.state, f"aiter {known}")
        state = "" if package.state in ("found", "missing") else f" ({package.state})"
        return printable(f"{what}{state}, platform {self.caps.platform}, engine {self.caps.engine}")

    def starred(self, name: str) -> str:
        """Return a version or an arch, fit to print, with a star if this machine has it."""
        return printable(name) + ("*" if name in (self.caps.triton.version, *(self.caps.archs or ())) else "")


def matrix(caps: Capabilities, request: Request | None = None, table: tuple[Row, ...] = ROWS) -> Matrix:
    """Return the decision for `caps` with every Triton version on every arch of its platform.

    The installed Triton and the visible archs are among them; everything else stays as `caps` has it.

    Raises:
        UnknownRowError: the request, or NSA_CAPS_ROW, names a row that there is none of.
    """
    request = Request() if request is None else request
    versions = _versions(caps)
    archs = tuple(dict.fromkeys((*SHOWN_ARCHS.get(caps.platform, ()), *(caps.archs or ())))) or sum(
        SHOWN_ARCHS.values(), ()
    )
    best = _best_row(decide(caps, request, table))
    cells = tuple(_cell(caps, request, table, version, arch, best) for version in versions for arch in archs)
    return Matrix(caps, request, versions, archs, best, cells, table)


def _best_row(decision: Decision) -> str | None:
    """Return the best row that neither the platform nor the request rules out: Triton and GPUs change neither."""
    return next((verdict.row for verdict in decision.verdicts if verdict.out_of_reach is None), None)


def _versions(caps: Capabilities) -> tuple[str, ...]:
    """Return the versions to decide with, oldest first; an installed one that is no version comes last."""
    installed = (caps.triton.version,) if caps.triton.version else ()
    known = {text: parsed for text in (*TRITON_VERSIONS, *installed) if (parsed := parse_version(text)) is not None}
    return tuple(dict.fromkeys((*sorted(known, key=known.__getitem__), *installed)))


def _cell(
    caps: Capabilities, request: Request, table: tuple[Row, ...], version: str, arch: str, best: str | None
) -> Cell:
    for change in (Change.triton(version), torch_for(arch), Change.arch(arch)):
        caps, request = change.apply(caps, request)
    decision = decide(caps, request, table)
    page_size = None if decision.chosen is None else decision.verdict(decision.chosen).page_size
    against = () if best is None or best == decision.chosen else decision.verdict(best).reasons
    return Cell(version, arch, decision.chosen, page_size, against)
