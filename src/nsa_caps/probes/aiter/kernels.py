"""The kernels' bodies: each is known by a digest of all that it is made of, and was compiled once, or is not proven."""

from __future__ import annotations

import re

from nsa_caps.probes.aiter.modules import bound_names
from nsa_caps.probes.aiter.normal import digest, text_digest
from nsa_caps.probes.aiter.segments import segments
from nsa_caps.probes.python_source import SourceError

__all__ = ["body_digest"]

_WORD = re.compile(r"[A-Za-z_]\w*")


def body_digest(text: str, name: str, *, doing: bool = False) -> str | None:
    """Return the digest of a kernel, or None where it is not in the text or that cannot be read.

    It covers the kernel, the functions of its module that it names, directly or not, and the module's own constants
    and imports that any of these name.

    Args:
        text: the module's.
        name: the kernel's.
        doing: of what it does, which does not change with a comment, and takes longer; else of its text.
    """
    parts = segments(text)
    defined = {part.name: part for part in parts if part.kind}
    seen: set[str] = set()
    words: set[str] = set()
    todo = [name]
    while todo:
        each = todo.pop()
        if each in seen or each not in defined:
            continue
        seen.add(each)
        found = set(_WORD.findall(defined[each].text))
        words |= found
        todo += found & defined.keys()
    if not seen:
        return None
    try:
        top = [statement for part in parts if not part.kind for statement in part.body]
        named = [statement for statement in top if words.intersection(bound_names(statement))]
        own = [defined[each] for each in sorted(seen)]
        pieces = [digest(part.body) if doing else text_digest(part.text) for part in own]
        return text_digest("\n".join([digest(named), *pieces]))
    except SourceError:
        return None
