"""What two nodes tell each other before one reads the other's pages, and whether it may. Pure."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 records.py resolves the annotations at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsa_caps._version import __version__
from nsa_caps.agreement.mismatch import Cohort, LayoutMismatchError, groups_of, mismatch_lines
from nsa_caps.agreement.summary import FactDifference, MachineSummary, fact_differences
from nsa_caps.base.lines import indented, plain
from nsa_caps.base.serial import SnapshotError, from_plain
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.handshake import HANDSHAKE_VERSION
from nsa_caps.layout.layout import IndexerLayout
from nsa_caps.pages import PageFormat, PageFormatError
from nsa_caps.policy.facts import Fact
from nsa_caps.probes.timeout import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.base.lines import Line

__all__ = ["HANDSHAKE_VERSION", "HandshakeError", "check_peer", "is_handshake", "summary_of_handshake"]


_EXAMPLES = {"scale_format": "'fp32'", "rotated": "False"}


@dataclass(frozen=True)
class _Handshake:
    """What `layout.handshake()` holds; `schemas/handshake.json` says what the fields mean."""

    schema_version: int
    nsa_caps: str
    fingerprint: str
    format: PageFormat
    index_kpool: int
    row: str
    assumed: tuple[str, ...]
    diagnostics: Mapping[str, str]


class HandshakeError(NsaCapsError, ValueError):
    """What a peer sent is no handshake, or one of another release's; the message names the field."""


def check_peer(
    mine: IndexerLayout | Mapping[str, Any], theirs: IndexerLayout | Mapping[str, Any]
) -> tuple[FactDifference, ...]:
    """Return if both sides mean the same by the same bytes, and raise otherwise.

    The page format counts, and how many tokens share an index slot. Row and versions do not: they tell how a format
    came to be chosen.

    Args:
        mine: this side's layout or handshake.
        theirs: the peer's handshake, as `json.loads` gives it.

    Returns:
        what else is different over there, worth a line in a log.

    Raises:
        LayoutMismatchError: the sides differ; the message says in which field, and what reading the pages would do.
            Or what one of them writes is not known; the message says which fields to tell, by a `Request`.
        HandshakeError: one of the two is no handshake that this release understands.
    """
    ours, peer = (_summary(side, name) for side, name in ((mine, "this side's"), (theirs, "the peer's")))
    groups = groups_of(
        [Cohort(ours, names=("this side",)), Cohort(peer, names=("the peer",))],
        lambda summary: (summary.format, summary.index_kpool),
    )
    if len(groups) > 1:
        head = (("The peer means something else by the same bytes; its pages must not be read:", "bad"),)
        raise LayoutMismatchError(plain([head, *mismatch_lines(groups)]), groups)
    unknown = [(name, side.assumed) for name, side in (("this side", ours), ("the peer", peer)) if side.assumed]
    if unknown:
        raise LayoutMismatchError(plain(_unknown_lines(unknown)), groups)
    return fact_differences(peer, ours)


def _unknown_lines(unknown: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[Line]:
    """Return what is not known of the bytes and how to tell it: not known is not equal."""
    yield (("What the peer's bytes mean is unknown on one side at least; its pages must not be read:", "bad"),)
    names: dict[str, None] = {}
    for side, fields in unknown:
        names.update(dict.fromkeys(fields))
        yield from indented("  ", f"{side}: {' and '.join(fields)}, which the engine's release or the model decides")
    told = ", ".join(f"{name}={_EXAMPLES[name]}" for name in names)
    yield from indented("  fix: ", f"tell it on that side: Request({told})", "command")


def is_handshake(document: Mapping[str, Any]) -> bool:
    """Return whether a document claims to be a handshake, and not a snapshot."""
    return "fingerprint" in document and "format" in document


def summary_of_handshake(document: Mapping[str, Any], where: str) -> MachineSummary:
    """Return where the sender of a handshake stands.

    Raises:
        HandshakeError: the document is no handshake that this release understands; the message begins with `where`.
    """
    if not hasattr(document, "get"):
        raise HandshakeError(f"{where} handshake is {document!r}, needs the JSON object of layout.handshake()")
    version = document.get("schema_version")
    if version != HANDSHAKE_VERSION:
        text = f"schema_version is {version!r}, nsa_caps {__version__} reads {HANDSHAKE_VERSION}"
        raise HandshakeError(f"{where} handshake, written by nsa_caps {document.get('nsa_caps')}: {text}")
    try:
        told = from_plain(_Handshake, document, f"{where} handshake")
    except SnapshotError as error:
        raise HandshakeError(str(error)) from error
    except PageFormatError as error:
        raise HandshakeError(f"{where} handshake.format: {error}") from error
    if told.format.fingerprint != told.fingerprint:
        text = f"fingerprint is {told.fingerprint!r}, its format has {told.format.fingerprint!r} here"
        raise HandshakeError(f"{where} handshake: {text}: nsa_caps {told.nsa_caps} means something else by it")
    facts = tuple(Fact(name, value) for name, value in told.diagnostics.items())
    facts = (Fact("nsa_caps", told.nsa_caps), *facts)
    return MachineSummary(told.row, told.format, told.index_kpool, facts=facts, assumed=told.assumed)


def _summary(side: IndexerLayout | Mapping[str, Any], where: str) -> MachineSummary:
    if isinstance(side, IndexerLayout):
        return summary_of_handshake(side.handshake(), where)
    try:
        # A mapping of the peer's client may do anything when it is asked; what it holds is asked for once.
        document = dict(side)
    except Exception as error:
        raise HandshakeError(
            f"{where} handshake is a {type(side).__qualname__} that cannot be read: {describe(error)}"
        ) from error
    return summary_of_handshake(document, where)
