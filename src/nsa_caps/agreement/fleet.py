"""Machines of a fleet, compared: in groups that share a layout, and what sets the groups apart.

Snapshots and handshakes are read one after the other. Machines of equal facts are one kind, which is decided once, so
that memory grows with the kinds, not with the machines.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

from nsa_caps.agreement.mismatch import Cohort, groups_of, mismatch_lines
from nsa_caps.agreement.peers import is_handshake, summary_of_handshake
from nsa_caps.agreement.summary import MachineSummary, summary_of
from nsa_caps.base.files import text_pieces
from nsa_caps.base.lines import indented
from nsa_caps.base.serial import shortened
from nsa_caps.capabilities.records import Capabilities
from nsa_caps.capabilities.switches import with_variables
from nsa_caps.capabilities.system import SYSTEM
from nsa_caps.errors import NsaCapsError, printable
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.decision import UnknownRowError, decide

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping
    from typing import TextIO

    from nsa_caps.agreement.mismatch import Group
    from nsa_caps.base.lines import Line
    from nsa_caps.policy.request import Request

__all__ = ["Failure", "Fleet", "FleetError", "compare", "documents", "fleet_lines", "read_machines"]

# Characters of the longest document, of which a snapshot has some ten thousand; and levels of the deepest.
_LONGEST, _DEEPEST = 1 << 22, 64
# Documents that are no machine, of those printed: whoever wants all of them asks for data.
_MOST_FAILURES = 20
_BLANKS = re.compile(r"\s*")
# Names that are kept of each kind.
_MOST_NAMES = 1000
# What tells where something was read and decides nothing.
_SOURCES = frozenset({"source", "platform_source", "location", "notes"})
# What holds other keys than those of our records.
_FOREIGN = frozenset({"extras", "variables"})


class FleetError(NsaCapsError, ValueError):
    """There is nothing to compare."""


class _NoMachineError(NsaCapsError, ValueError):
    """A document is neither snapshot nor handshake."""


@dataclass(frozen=True)
class Failure:
    """What was given for a machine and is none, such as the empty file of an `ssh` that failed.

    Attributes:
        name: the file, and the number of the document in it.
        problem: what it holds, and what is needed.
    """

    name: str
    problem: str


@dataclass(frozen=True)
class Fleet:
    """Machines in groups that share a layout.

    Attributes:
        groups: the largest first; machines without a layout are one group, the last.
        failures: what was given for a machine and is none.
    """

    groups: tuple[Group, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def count(self) -> int:
        """How many machines these are."""
        return sum(group.count for group in self.groups)

    @property
    def shared(self) -> bool:
        """Whether all of them share one layout, and all that was given is a machine."""
        return len(self.groups) == 1 and self.groups[0].summary.format is not None and not self.failures


class _Kind:
    """Machines of equal facts."""

    def __init__(self, summary: MachineSummary) -> None:
        self.summary, self.count, self.names = summary, 0, list[str]()

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) < _MOST_NAMES:
            self.names.append(name)


def compare(
    machines: Iterable[tuple[str, Any]],
    request: Request,
    engine: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Fleet:
    """Return machines in groups that share a layout, by fingerprint.

    Args:
        machines: each machine's name and document, a snapshot or a handshake; or, for what could not be read, an error.
        request: what is asked of the machines whose snapshots these are; handshakes tell what was decided.
        engine: whose switches to read in snapshots; None: the one that each was made for.
        environ: whether third parties' rows are asked for here; a document does not ask for them.

    Raises:
        FleetError: there is no document at all.
    """
    kinds: dict[bytes, _Kind] = {}
    failures: list[Failure] = []
    for name, document in machines:
        try:
            key = _key_of(document)
            if key not in kinds:
                kinds[key] = _Kind(_summary(document, request, engine, environ or {}))
        except _NoMachineError as error:
            failures.append(Failure(name, str(error)))
        else:
            kinds[key].add(name)
    if not kinds and not failures:
        raise FleetError("there is no machine to compare: give snapshots or handshakes, as files, folders or `-`")
    parties = [Cohort(kind.summary, kind.count, tuple(kind.names)) for kind in kinds.values()]
    return Fleet(groups_of(parties, _layout_key), tuple(failures))


def read_machines(paths: Iterable[str], stdin: TextIO) -> Iterator[tuple[str, Any]]:
    """Return every document of some files, with its file and its number there for a name; what is none, as an error.

    Args:
        paths: files of one document or many; folders, of which the `.json` and `.jsonl` files count; `-`: `stdin`.
        stdin: what `-` stands for.
    """
    for path in paths:
        if path != "-" and os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if name.endswith((".json", ".jsonl")))
            inside = [os.path.join(path, name) for name in names]
            yield from read_machines(inside, stdin) if inside else [(path, _NoMachineError("no .json in this folder"))]
            continue
        name = "stdin" if path == "-" else printable(path)
        number = 0
        try:
            for number, document in enumerate(documents(text_pieces(path, stdin)), 1):
                # As a rule a file of one machine bears its name.
                yield (name if number == 1 and name.endswith(".json") else f"{name}:{number}"), document
        except (OSError, UnicodeDecodeError) as error:
            yield name, _NoMachineError(_why(error))
        else:
            if number == 0:
                yield name, _NoMachineError("is empty: whatever was to write it has failed")


def documents(pieces: Iterable[str]) -> Iterator[Any]:
    """Return the JSON documents of a text that comes in pieces; what is none, as an error.

    Whether each has a line or many. After what is none it goes on with the next line that begins with a brace.
    """
    rest = ""
    for piece in pieces:
        rest += piece
        rest, found = _documents_of(rest, is_whole=False)
        yield from found
    yield from _documents_of(rest, is_whole=True)[1]


def _documents_of(text: str, *, is_whole: bool) -> tuple[str, list[Any]]:
    """Return the documents at the beginning of a text, and what is left of it, which more may come behind."""
    decoder, found, place = json.JSONDecoder(), list[Any](), _blanks_end(text, 0)
    while place < len(text):
        try:
            document, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            if not is_whole and len(text) - place <= _LONGEST:
                break
            size = "" if is_whole else f", or longer than {_LONGEST:,} characters"
            document = _NoMachineError(f"is no JSON, or ends within a document{size}: {error}")
            place = text.find("\n{", place) + 1 or len(text)
        found.append(document)
        place = _blanks_end(text, place)
    return text[place:], found


def _blanks_end(text: str, place: int) -> int:
    return cast("re.Match[str]", _BLANKS.match(text, place)).end()


def _key_of(document: Any) -> bytes:
    """Return the same for documents that differ at most in where something was read, and in the system around it.

    Raises:
        _NoMachineError: it is no JSON object, or nested deeper than any machine's.
    """
    if isinstance(document, _NoMachineError):
        raise document
    if not isinstance(document, dict):
        raise _NoMachineError(f"holds {shortened(document)}, needs a snapshot or a handshake")
    extras = document.get("extras")
    if isinstance(extras, dict):
        document = {**document, "extras": {name: extra for name, extra in extras.items() if name != SYSTEM}}
    text = json.dumps(_without_sources(document), sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).digest()


def _without_sources(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise _NoMachineError(f"is nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        return {
            key: item if key in _FOREIGN else _without_sources(item, depth + 1)
            for key, item in value.items()
            if key not in _SOURCES
        }
    return [_without_sources(item, depth + 1) for item in value] if isinstance(value, list) else value


def _summary(
    document: dict[str, Any], request: Request, engine: str | None, environ: Mapping[str, str]
) -> MachineSummary:
    try:
        if is_handshake(document):
            return summary_of_handshake(document, "this")
        caps = Capabilities.from_dict(document)
        if engine is not None:
            caps = with_variables(caps, caps.variables, engine)
        caps, rows = row_table(caps, environ)
        return summary_of(decide(caps, request, rows))
    except UnknownRowError as error:
        return MachineSummary(None, None, request.index_kpool, error=f"no layout: {error}")
    except NsaCapsError as error:
        raise _NoMachineError(str(error)) from error


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _layout_key(summary: MachineSummary) -> Hashable:
    return summary.format, summary.index_kpool if summary.format else None


def fleet_lines(fleet: Fleet) -> Iterator[Line]:
    """Return the groups, what sets the smaller ones apart, and what was given and is no machine."""
    machines = "1 machine" if fleet.count == 1 else f"{fleet.count:,} machines"
    if len(fleet.groups) == 1 and fleet.groups[0].summary.format is not None:
        yield ((f"{machines} {'has' if fleet.count == 1 else 'share'} one layout:", "good"),)
    elif fleet.groups:
        groups = "1 group" if len(fleet.groups) == 1 else f"{len(fleet.groups)} groups"
        yield ((f"{machines} in {groups}:", "bad"),)
    if fleet.groups:
        yield from mismatch_lines(fleet.groups)
    if fleet.failures:
        if fleet.groups:
            yield ()
        yield ((f"No machine, {len(fleet.failures):,} of {fleet.count + len(fleet.failures):,} given:", "bad"),)
        for failure in fleet.failures[:_MOST_FAILURES]:
            yield from indented("  - ", f"{failure.name}: {failure.problem}")
        if len(fleet.failures) > _MOST_FAILURES:
            yield ((f"  - and {len(fleet.failures) - _MOST_FAILURES:,} more", ""),)
