"""Files of a commit of aiter, read with git: nothing of aiter lies in this project."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# A quoted string inside the braces of a double-quoted f-string: PEP 701, so a SyntaxError before Python 3.12.
_NESTED = re.compile(r"""\{"([^"{}]*)" if (\w+) else "([^"{}]*)"\}""")


@dataclass(frozen=True)
class Checkout:
    """One commit of aiter in a git folder, bare or not."""

    git: Path
    commit: str

    def paths(self) -> frozenset[str]:
        """Every file of its package.

        Raises:
            subprocess.CalledProcessError: git does not know the commit.
        """
        return frozenset(_blobs(self.git, self.commit))

    def text(self, path: str) -> str | None:
        """The file at this commit, None where there is none.

        aiter fe927e8d to ee7897ea55 nested equal quotes in an f-string, which Python below 3.12 does not parse. There
        the quotes are respelled, so that the gates of those commits can be executed on every Python.
        """
        blob = _blobs(self.git, self.commit).get(path)
        if blob is None:
            return None
        raw = _blob(self.git, blob)
        return raw if sys.version_info >= (3, 12) else _NESTED.sub(r"{'\1' if \2 else '\3'}", raw)

    def tree(self, path: str) -> ast.Module | None:
        """The parsed file, None where there is none."""
        text = self.text(path)
        return None if text is None else ast.parse(text, f"{self.commit}:{path}")


# By their own names, since neighbouring commits share almost all of their files.
@functools.lru_cache(maxsize=4096)
def _blob(git: Path, blob: str) -> str:
    return _git(git, "cat-file", "blob", blob)


@functools.lru_cache(maxsize=64)
def _blobs(git: Path, commit: str) -> Mapping[str, str]:
    lines = (line.split("\t", 1) for line in _git(git, "ls-tree", "-r", commit, "aiter").splitlines())
    return {path: entry.split()[2] for entry, path in lines}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], stdout=subprocess.PIPE, check=True).stdout.decode()
