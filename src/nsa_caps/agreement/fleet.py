"""Machines of a fleet, compared: in groups that share a layout, and what sets the groups apart.

Snapshots and handshakes are read one after the other. Machines of equal facts are one kind, which is decided once, so
that memory grows with the kinds, not with the machines.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from nsa_caps.agreement.mismatch import Cohort, groups_of, mismatch_lines
from nsa_caps.agreement.peers import is_handshake, summary_of_handshake
from nsa_caps.agreement.summary import MachineSummary, summary_of
from nsa_caps.capabilities.records import Capabilities
from nsa_caps.capabilities.switches import with_variables
from nsa_caps.capabilities.system import SYSTEM
from nsa_caps.errors import NsaCapsError
from nsa_caps.layout.row_table import row_table
from nsa_caps.policy.decision import UnknownRowError, decide

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator
    from typing import TextIO

    from nsa_caps.agreement.mismatch import Group
    from nsa_caps.base.lines import Line
    from nsa_caps.policy.request import Request

__all__ = ["Fleet", "FleetError", "compare", "documents", "fleet_lines", "read_machines"]

# Characters: what is read at once, and the longest document; a snapshot has some ten thousand.
_CHUNK, _LONGEST = 1 << 16, 1 << 22
# Names that are kept of each kind.
_MOST_NAMES = 1000
# What tells where something was read and decides nothing.
_SOURCES = frozenset({"source", "platform_source", "location", "notes"})
# What holds other keys than those of our records.
_FOREIGN = frozenset({"extras", "variables"})


class FleetError(NsaCapsError, ValueError):
    """What was given is no machine: no JSON, no snapshot, no handshake; the message names the document."""


@dataclass(frozen=True)
class Fleet:
    """Machines in groups that share a layout.

    Attributes:
        groups: the largest first; machines without a layout are one group, the last.
    """

    groups: tuple[Group, ...]

    @property
    def count(self) -> int:
        """How many machines these are."""
        return sum(group.count for group in self.groups)

    @property
    def shared(self) -> bool:
        """Whether all of them share one layout."""
        return len(self.groups) == 1 and self.groups[0].summary.format is not None


class _Kind:
    """Machines of equal facts."""

    def __init__(self, summary: MachineSummary) -> None:
        self.summary, self.count, self.names = summary, 0, list[str]()

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.names) < _MOST_NAMES:
            self.names.append(name)


def compare(machines: Iterable[tuple[str, Any]], request: Request, engine: str | None = None) -> Fleet:
    """Return machines in groups that share a layout, by fingerprint.

    Args:
        machines: each machine's name and document, a snapshot or a handshake.
        request: what is asked of the machines whose snapshots these are; handshakes tell what was decided.
        engine: whose switches to read in snapshots; None: the one that each was made for.

    Raises:
        FleetError: a document is neither snapshot nor handshake, or there is none.
    """
    kinds: dict[bytes, _Kind] = {}
    for name, document in machines:
        if not isinstance(document, dict):
            raise FleetError(f"{name}: holds {json.dumps(document)[:60]}, needs a snapshot or a handshake")
        key = _key_of(document)
        if key not in kinds:
            kinds[key] = _Kind(_summary(name, document, request, engine))
        kinds[key].add(name)
    if not kinds:
        raise FleetError("there is no machine to compare: give snapshots or handshakes, as files or on stdin")
    parties = [Cohort(kind.summary, kind.count, tuple(kind.names)) for kind in kinds.values()]
    return Fleet(groups_of(parties, _layout_key))


def read_machines(paths: Iterable[str], stdin: TextIO) -> Iterator[tuple[str, Any]]:
    """Return every document of some files, with its file and its number there for a name; `-` is stdin.

    Raises:
        FleetError: a file cannot be read, or something is no JSON.
    """
    for path in paths:
        name = "stdin" if path == "-" else path
        try:
            with nullcontext(stdin) if path == "-" else open(path, encoding="utf-8") as stream:
                for number, document in enumerate(documents(stream, name), 1):
                    # As a rule a file of one machine bears its name.
                    yield (name if number == 1 and name.endswith(".json") else f"{name}:{number}"), document
        except (OSError, UnicodeDecodeError) as error:
            raise FleetError(f"{name}: {error}") from error


def documents(stream: TextIO, name: str) -> Iterator[Any]:
    """Return the JSON documents of a stream, whether each has a line or many.

    Raises:
        FleetError: something is no JSON.
    """
    decoder, rest = json.JSONDecoder(), ""
    for chunk in iter(lambda: stream.read(_CHUNK), ""):
        rest, problem = rest + chunk, None
        place = _skip_blanks(rest, 0)
        while place < len(rest):
            try:
                document, place = decoder.raw_decode(rest, place)
            except (ValueError, RecursionError) as error:
                problem = error
                break
            yield document
            place = _skip_blanks(rest, place)
        rest = rest[place:]
        if len(rest) > _LONGEST:
            raise FleetError(f"{name}: no JSON document ends within {_LONGEST:,} characters: {problem}")
    if rest:
        raise FleetError(f"{name}: is no JSON, or ends within a document: {problem}")


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _key_of(document: dict[str, Any]) -> bytes:
    """Return the same for documents that differ at most in where something was read, and in the system around it."""
    extras = document.get("extras")
    if isinstance(extras, dict):
        document = {**document, "extras": {name: extra for name, extra in extras.items() if name != SYSTEM}}
    text = json.dumps(_without_sources(document), sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).digest()


def _without_sources(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: item if key in _FOREIGN else _without_sources(item)
            for key, item in value.items()
            if key not in _SOURCES
        }
    return [_without_sources(item) for item in value] if isinstance(value, list) else value


def _summary(name: str, document: dict[str, Any], request: Request, engine: str | None) -> MachineSummary:
    try:
        if is_handshake(document):
            return summary_of_handshake(document, "this")
        caps = Capabilities.from_dict(document)
        if engine is not None:
            caps = with_variables(caps, caps.variables, engine)
        caps, rows = row_table(caps)
        return summary_of(decide(caps, request, rows))
    except UnknownRowError as error:
        return MachineSummary(None, None, request.index_kpool, error=f"no layout: {error}")
    except NsaCapsError as error:
        raise FleetError(f"{name}: {error}") from error


def _layout_key(summary: MachineSummary) -> Hashable:
    return summary.format, summary.index_kpool if summary.format else None


def fleet_lines(fleet: Fleet) -> Iterator[Line]:
    """Return the groups, and what sets the smaller ones apart."""
    machines = "1 machine" if fleet.count == 1 else f"{fleet.count:,} machines"
    if fleet.shared:
        yield ((f"{machines} {'has' if fleet.count == 1 else 'share'} one layout:", "good"),)
    else:
        groups = "1 group" if len(fleet.groups) == 1 else f"{len(fleet.groups)} groups"
        yield ((f"{machines} in {groups}:", "bad"),)
    yield from mismatch_lines(fleet.groups)
