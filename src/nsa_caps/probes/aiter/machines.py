"""The machines that can make a difference to a source: every constant in it, and what lies between them."""

from __future__ import annotations

import re
from functools import lru_cache

from packaging.version import Version

__all__ = ["archs_of", "page_sizes", "triton_versions", "variables", "version_of"]

version_of = lru_cache(Version)
"""`Version` of a text: the same few are compared a thousand times."""

# What has made a difference to a release of aiter, and what is written oddly.
_TRITONS = (
    "3.1.0", "3.2.0", "3.3.0", "3.3.1", "3.4.0", "3.4.1", "3.5.0rc1", "3.5.0", "3.5.1+rocm7.2.4.gita272dfa8",
    "3.6.0.dev1", "3.6.0rc1", "3.6.0", "3.7.0+amd.rocm7.2.0.git89002410", "3.8.0", "3.9.0", "3.10.0", "4.0.0",
)  # fmt: skip
_ARCHS = ("gfx942", "gfx950", "gfx1250", "gfx90a", "gfx1100", "gfx1151", "gfx1201")
_PAGES = (1, 2, 8, 16, 24, 32, 48, 64, 80, 96, 128, 256, 512, 640)
# `environ.get("X")`, `getenv("X")` and `environ["X"]`; what all three have stands first, and is found fast.
_VARIABLE = re.compile(r"env(?:iron\.get\(|iron\[|(?<=getenv)\()\s*[\"'](\w+)[\"']")
# Each begins with what is found fast, and then looks back.
_VERSION = re.compile(
    r"[\"'(\[](?:(?<=[\"'])(\d{1,4}(?:\.\d{1,4}){1,3}(?:\.?(?:rc|dev|post|a|b)\d{1,4})?)[\"']"
    r"|(?<=[(\[])(\d{1,4}(?:, ?\d{1,4}){1,3})[)\]])"
)
_ARCH = re.compile(r"gfx\d\w{1,8}")
# No part of a version or of another number.
_NUMBER = re.compile(r"\d(?<![\w.]\d)\d{0,3}\b(?!\.\d)")
# What compares nothing: a comment, and a line's key as in `attrs`, where the number is a parameter's.
_ASIDE = re.compile(r"#[^\n\"']*$|^[ \t]*\(\d+,\):", re.MULTILINE)
# A smaller one is a list of numbers, as `[1, 1, 1]`: no machine is looked at that has a Triton before 3.1.
_FIRST_TRITON = 2
_MOST_OWN, _MOST_ARCHS, _MOST_PAGES, _LARGEST_PAGE = 8, 26, 24, 4096


def triton_versions(text: str) -> tuple[str, ...]:
    """Return the Tritons to look at: those of history, and around each version that a text names."""
    named = [first or re.sub(", ?", ".", second) for first, second in _VERSION.findall(text)]
    new = (each for each in dict.fromkeys(named) if each not in _TRITONS)
    own = [each for each in new if int(each.partition(".")[0]) >= _FIRST_TRITON][:_MOST_OWN]
    return tuple(dict.fromkeys((*_TRITONS, *(f"{each}{tail}" for each in own for tail in ("", "rc1", "+git1", ".1")))))


def archs_of(text: str) -> tuple[str, ...]:
    """Return the archs to look at: those that a text names, in its order, and some that it does not."""
    return tuple(dict.fromkeys((*_ARCH.findall(text), *_ARCHS, "gfx9999")))[:_MOST_ARCHS]


def page_sizes(text: str) -> tuple[int, ...]:
    """Return the page sizes to look at."""
    own = {int(number) for number in _NUMBER.findall(_ASIDE.sub("", text))} - {0, *_PAGES}
    return (*_PAGES, *sorted(number for number in own if number <= _LARGEST_PAGE))[:_MOST_PAGES]


def variables(text: str) -> list[str]:
    """Return the environment variables that a text reads, in its order."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))
