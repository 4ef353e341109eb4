"""What the words and marks of a report mean, for who reads one for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.base.lines import HANG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.base.lines import Line

__all__ = ["WORDS", "word_lines"]

WORDS = {
    "row": "One complete way to run the indexer: how a page is laid out, and the kernels that write, read and score it."
    " Rows stand in order, the best first; the first one that everything is there for is chosen.",
    "page size": "How many tokens' index keys one page holds. The engine allocates its cache by it.",
    "-": "Known to be wrong: the row cannot run like this.",
    "?": "Not known. A row is never chosen on something unknown.",
    "[code]": "The name of a reason, for searching and for scripts: see docs/reasons.md. It never changes.",
    "fix:": "One change that removes this reason. It is printed only where it leads to the row.",
    "or:": "Another change that would do instead.",
    "Smallest fix": "The fewest changes after which the better row is chosen, found by deciding again.",
    "warning:": "The kernels of the chosen row give wrong results in this case, without an error.",
    "note:": "Something odd that was seen and that decides nothing.",
    "missing": "Packages that were looked for and not found.",
    "switch": "An environment variable that is set, as the engine or aiter will read it.",
    "python": "The Python that was asked. Another one: --python PATH.",
    "packages": "The folders in which packages were looked up.",
    "fingerprint": "A short hash of what the bytes of a page mean. Two machines may share pages only if it is equal.",
}


def word_lines() -> Iterator[Line]:
    """Return each word with what it means."""
    width = 2 + max(map(len, WORDS))
    for word, meaning in WORDS.items():
        yield (f"{word:<{width}}", "label"), HANG, (meaning, "")
