"""What a dry run adds to the reading of aiter's real sources and of changed ones, against what these do when executed.

    python -m tests.real_aiter.dry_runs --aiter-checkout ../aiter [--every N] [--processes N]

takes every release tag, every N-th commit of main, every N-th of the other branches' sets, and every change of
`mutations.json`, and prints the counts that `docs/evidence.md` has. The dry run and the oracle share no code: the
oracle's sandbox and stand-ins are the tests' own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsa_caps import probe
from nsa_caps.testing import machine

from .checkout import Checkout
from .edited import Edited, edited
from .history import source_sets
from .judged import Answer, answers, lay_out_sources
from .mutations import MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator


class Source(NamedTuple):
    """A source set of history, or a change: its kind and its name, or its number among the changes."""

    kind: str
    name: str


class Judged(NamedTuple):
    """What is said of a source before and after a dry run, beside what it does.

    Attributes:
        state: what became of the dry run.
        before: the answers of the reading.
        after: those after the dry run.
        differs: facts of which reading and running say different things.
    """

    state: str
    before: list[Answer]
    after: list[Answer]
    differs: list[str]

    def wrong(self) -> list[Answer]:
        """Return the answers that the dry run made wrong: a yes or a no that the source refutes."""
        pairs = zip(self.before, self.after, strict=True)
        return [new for old, new in pairs if new.verdict != old.verdict and (new.is_wrong_yes or new.is_wrong_no)]

    def turned(self) -> list[Answer]:
        """Return the answers that were no and are yes."""
        pairs = zip(self.before, self.after, strict=True)
        return [new for old, new in pairs if (old.verdict, new.verdict) == ("unmet", "met")]


def sources(git: Path, every: int) -> Iterator[Source]:
    """Yield the sources to judge."""
    counts: Counter[str] = Counter()
    for kind, commit in source_sets(git):
        if kind == "release" or counts[kind] % every == 0:
            yield Source(kind, commit)
        counts[kind] += 1
    yield from (Source("change", str(number)) for number in range(len(MUTATIONS)))


def checkout_of(git: Path, source: Source) -> Checkout:
    """Return the files of a source."""
    if source.kind != "change":
        return Checkout(git, source.name)
    mutation = MUTATIONS[int(source.name)]
    return edited(git, mutation.commit, mutation.edits)


def judged(git: Path, source: Source) -> Judged:
    """Return what is said of a source before and after a dry run."""
    checkout = checkout_of(git, source)
    with tempfile.TemporaryDirectory() as folder:
        host = machine(Path(folder) / "machine", archs=("gfx942",), environ={"SGLANG_USE_AITER": "1"})
        site = Path(host.search_path[0])
        lay_out_sources(site, checkout)
        # A change may add a file that no commit has.
        for name, text in checkout.files if isinstance(checkout, Edited) else ():
            if text is not None:
                (site / "aiter" / name).parent.mkdir(parents=True, exist_ok=True)
                (site / "aiter" / name).write_text(text, encoding="utf-8")
        before, after = probe(host), probe(host, dry_run=True)
        told = after.extras["dry_run"]
        return Judged(
            told["state"], list(answers(before, checkout)), list(answers(after, checkout)), list(told["differs"])
        )


def main() -> int:
    """Judge all, print the counts, and name what is wrong."""
    parser = argparse.ArgumentParser(description="Judge what dry runs add.")
    parser.add_argument("--aiter-checkout", type=Path, required=True)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    every = list(sources(given.aiter_checkout, given.every))
    counts: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    with ProcessPoolExecutor(given.processes) as pool:
        for source, found in zip(every, pool.map(partial(judged, given.aiter_checkout), every), strict=True):
            count = counts.setdefault(source.kind, Counter())
            count["sets"] += 1
            count[f"dry runs: {found.state}"] += 1
            count["answers"] += len(found.after)
            count["unknown before"] += sum(answer.verdict == "unknown" for answer in found.before)
            count["unknown after"] += sum(answer.verdict == "unknown" for answer in found.after)
            count["sets that differ"] += bool(found.differs)
            count["made wrong"] += len(found.wrong())
            count["no turned to yes"] += len(found.turned())
            wrong += [f"{source}: {answer}" for answer in (*found.wrong(), *found.turned())]
            wrong += [f"{source}: {each}" for each in found.differs]
    for kind, count in counts.items():
        sys.stdout.write(f"{kind}: {', '.join(f'{name} {number}' for name, number in count.items())}\n")
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    return 1 if any(count["made wrong"] or count["no turned to yes"] for count in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
