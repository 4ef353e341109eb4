"""Every source set of aiter's history that differs in a file that is read, and what the library says of each.

    python -m tests.real_aiter.history --aiter-checkout ../aiter [--processes N]

judges all of them and prints the counts that `docs/evidence.md` has. Source sets are: each release tag, each commit of
the main branch that touches a file that is read, and some of the tips of other branches, spread over all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from .checkout import Checkout
from .judged import FILES, Answer, answers, read

Kind: TypeAlias = Literal["release", "main", "branch"]
# Where it was, before and after a8eb62f5; a branch without it has no kernel to ask about.
LOGITS_FILES = ("aiter/ops/triton/attention/pa_mqa_logits.py", "aiter/ops/triton/pa_mqa_logits.py")
MOST_BRANCHES = 160


class SourceSet(NamedTuple):
    """One source of aiter that no other of the list equals."""

    kind: Kind
    commit: str


def source_sets(git: Path) -> list[SourceSet]:
    """Return every source set, the releases first."""
    releases = _lines(git, "tag", "--list", "v*")
    commits = _lines(git, "log", "--format=%H", "HEAD", "--", *(f"aiter/{name}" for name in FILES))
    names = set(_lines(git, "for-each-ref", "--format=%(refname)")) - {f"refs/tags/{name}" for name in releases}
    branches = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    seen: set[str] = set()
    found: list[SourceSet] = []
    for kind, candidates in (("release", releases), ("main", commits), ("branch", branches)):
        count = 0
        for commit in candidates:
            if kind == "branch" and count == MOST_BRANCHES:
                break
            listed = "\n".join(_lines(git, "ls-tree", "-r", commit, "--", *(f"aiter/{name}" for name in FILES)))
            # Every tag is asked about by its name, also where it equals another.
            if kind != "release" and (listed in seen or not any(name in listed for name in LOGITS_FILES)):
                continue
            seen.add(listed)
            count += 1
            found.append(SourceSet(kind, commit))  # type: ignore[arg-type]  # a tuple's first is a str to mypy
    return found


def judged(git: Path, each: SourceSet) -> list[Answer]:
    """Return every answer about a source set, beside what it does."""
    checkout = Checkout(git, each.commit)
    with tempfile.TemporaryDirectory() as folder:
        return list(answers(read(Path(folder), checkout), checkout))


def _lines(git: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", "-C", str(git), *arguments], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().splitlines()


def main() -> int:
    """Judge all, print the counts, and name what is wrong."""
    parser = argparse.ArgumentParser(description="Judge every source set of aiter's history.")
    parser.add_argument("--aiter-checkout", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    sets = source_sets(given.aiter_checkout)
    counts: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    with ProcessPoolExecutor(given.processes) as pool:
        for each, found in zip(sets, pool.map(partial(judged, given.aiter_checkout), sets, chunksize=8), strict=True):
            count = counts.setdefault(each.kind, Counter())
            count["sets"] += 1
            count["answers"] += len(found)
            count.update(answer.verdict for answer in found)
            count["sets with an unknown"] += any(answer.verdict == "unknown" for answer in found)
            bad = [answer for answer in found if answer.is_wrong_yes or answer.is_wrong_no]
            wrong += [f"{each.kind} {each.commit}: {answer}" for answer in bad]
            count["wrong yes"] += sum(answer.is_wrong_yes for answer in bad)
            count["wrong no"] += sum(answer.is_wrong_no for answer in bad)
    for kind, count in counts.items():
        sys.stdout.write(f"{kind}: {', '.join(f'{name} {number}' for name, number in count.items())}\n")
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
