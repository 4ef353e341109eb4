"""What is printed, without the names of users, hosts and GPUs, for everyone to read. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["redacted"]

# Home folders of anyone, and what names a GPU for good.
_PATTERNS = (
    (re.compile(r"/(home|Users)/[^/\s]+"), r"/\1/user"),
    (re.compile(r"\b(GPU|MIG)-[0-9a-fA-F][0-9a-fA-F-]{7,}"), r"\1-redacted"),
)


def redacted(value: Any, names: Mapping[str, str]) -> Any:
    """Return plain data with every home folder, GPU's serial number and given name replaced.

    Args:
        value: a text, or dicts, lists and tuples of texts; anything else stays.
        names: what stands for each name, such as `{"/root": "~", "node-17.example": "host"}`; where a name is part of
            a longer word, it stays. One whose word begins with a slash is a folder anywhere: `{"/jane": "/user"}`.
    """
    own = [
        (re.compile(("" if word.startswith("/") else r"(?<![\w.-])") + rf"{re.escape(name)}(?![\w-])"), word)
        for name, word in sorted(names.items(), key=lambda each: -len(each[0]))
        if name
    ]
    return _replaced(value, (*own, *_PATTERNS))


def _replaced(value: Any, patterns: tuple[tuple[re.Pattern[str], str], ...]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, patterns) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, patterns) for item in value]
    if isinstance(value, tuple):
        return tuple(_replaced(item, patterns) for item in value)
    if isinstance(value, str):
        for pattern, word in patterns:
            value = pattern.sub(word, value)
    return value
