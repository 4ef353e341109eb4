"""The kernels' bodies: each is known by a digest of all that it is made of, and was compiled once, or is not proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.probes.aiter.modules import bound_names
from nsa_caps.probes.aiter.normal import digest, text_digest
from nsa_caps.probes.python_source import SourceError

if TYPE_CHECKING:
    from nsa_caps.probes.aiter.segments import Segment

__all__ = ["body_digest"]


def body_digest(parts: list[Segment], name: str, *, doing: bool) -> str | None:
    """Return the digest of a kernel, or None where its module has none of that name, or cannot be read.

    It covers the kernel, the functions of its module that it names, directly or not, and the module's own constants
    and imports that any of these name.

    Args:
        parts: the module's statements.
        name: the kernel's.
        doing: of what it does, which does not change with a comment, and takes longer; else of its text.
    """
    defined = {part.name: part for part in parts if part.kind}
    seen: set[str] = set()
    words: set[str] = set()
    todo = [name]
    while todo:
        each = todo.pop()
        if each in seen or each not in defined:
            continue
        seen.add(each)
        found = defined[each].written.names
        words |= found
        todo += found & defined.keys()
    if not seen:
        return None
    try:
        top = [statement for part in parts if not part.kind for statement in part.body]
        named = [statement for statement in top if words.intersection(bound_names(statement))]
        own = [defined[each] for each in sorted(seen)]
        pieces = [part.told.digest if doing else part.written.digest for part in own]
        return text_digest("\n".join([digest(named), *pieces]))
    except SourceError:
        return None
