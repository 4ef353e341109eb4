"""Changes to aiter's source as a maintainer or a fork would make them, each a few replacements of text.

What aiter then does is not said in `mutations.json`: it is executed (`edited.py`). Those called harmless change nothing
(a renamed local, an annotation, a docstring, a line of a log, imports in another order); the others may.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["MUTATIONS", "Mutation"]


class Mutation(NamedTuple):
    """One change.

    Attributes:
        kind: its class.
        what: what it does, in words.
        harmless: it changes nothing that aiter does.
        commit: the source that is changed.
        edits: file, old text, new text; old `*` replaces the whole file, and with no new text takes it away.
    """

    kind: str
    what: str
    harmless: bool
    commit: str
    edits: tuple[tuple[str, str, str], ...]


MUTATIONS = tuple(
    Mutation(**{**record, "edits": tuple(map(tuple, record["edits"]))})
    for record in json.loads(Path(__file__).with_name("mutations.json").read_text(encoding="utf-8"))
)
