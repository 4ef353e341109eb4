"""Proposes rows for the tables of aiter's history: `python tools/aiter_history.py CHECKOUT [--since COMMIT]`.

Reads each commit of a checkout since the newest generation that is known and that touches the package's Python. What no
table has is printed as a row to put into `capabilities/aiter_digests.py`, with the commit that brought it, its file and
its line, and the facts of a new generation for `capabilities/aiter_history.py`. Read the statement before you add its
row: a digest that is in a table is trusted. A kernel's body is compiled first (`tests/real_aiter/measure_compiles.py`).
Run it for each release of this library, then `tools/aiter_releases.py`.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from nsa_caps import Host
from nsa_caps.capabilities.aiter_digests import FUNCTIONS, KERNELS, LAUNCHES
from nsa_caps.capabilities.aiter_history import GENERATIONS
from nsa_caps.probes.aiter.chain import chain
from nsa_caps.probes.aiter.files import PackageFiles
from nsa_caps.probes.aiter.kernels import body_digest
from nsa_caps.probes.aiter.known import KERNELS as KERNEL_NAMES
from nsa_caps.probes.aiter.logits import LEFT_OUT, LOGITS, outcome_of
from nsa_caps.probes.aiter.modules import Modules
from nsa_caps.probes.aiter.reader import read_in_full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps import AiterSource

GLUON_FILES = ("ops/triton/gluon/pa_mqa_logits.py",)
PLAIN_FILES = (
    "ops/triton/_triton_kernels/attention/pa_mqa_logits.py",
    "ops/triton/_triton_kernels/pa_mqa_logits.py",
)


def main() -> None:
    """Print what each commit brings that no table has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--since", default=list(GENERATIONS)[-1], help="the newest commit that the tables know")
    options = parser.parse_args()
    known: set[str] = set()
    before: AiterSource | None = None
    # The first is what is known: it only says what the others differ from.
    for commit in (options.since, *commits(options.checkout, options.since)):
        with tempfile.TemporaryDirectory() as folder:
            files = laid_out(options.checkout, commit, Path(folder))
            new = [row for row in rows(files) if row not in known]
            source = read_in_full(files, "")["aiter_source"]
        differs = [] if before is None else list(changes(before, source))
        if before is not None and (new or differs):
            sys.stdout.writelines(f"{line}\n" for line in (commit, *(f"    {each}" for each in (*new, *differs))))
        known.update(new)
        before = source


def rows(files: PackageFiles) -> Iterator[str]:
    """Yield the rows that a source needs and that no table has, each with where it stands."""
    modules = Modules(files)
    outcome = outcome_of(modules, files)
    if outcome is None:
        return
    yield from _bodies(files)
    for (dotted, name), digest in modules.used.items():
        if digest not in FUNCTIONS.get((dotted, name), ()):
            yield f'FUNCTIONS ("{dotted}", "{name}"): "{digest}"  # {files.module(dotted)}'
    for dotted, segment, at, what in modules.doubted:
        doing = modules.doing(dotted, segment, at)
        if doing is not None:
            line = segment.body[at].lineno
            yield f'STATEMENTS "{dotted}": "{doing}"  # {files.module(dotted)}:{line}: {what}'
    for fired in outcome.fired:
        if fired.key not in LAUNCHES and fired.key != LEFT_OUT:
            yield f'LAUNCHES "{fired.key}"  # {fired.kernel}, {fired.how}: does it hand as many as the kernel takes?'
    yield from _imports(files)


def _imports(files: PackageFiles) -> Iterator[str]:
    linked = chain(files, next(name for name in LOGITS if files.module(name)))
    for path, line, digest in linked.refusals:
        if line:
            yield f'REFUSALS "{digest}"  # {path}:{line}'
    for name, importer in linked.others.items():
        yield f'OTHERS "{name}"  # {files.module(importer)}: does what installs aiter bring it?'


def _bodies(files: PackageFiles) -> Iterator[str]:
    for name, kind in KERNEL_NAMES.items():
        for path in PLAIN_FILES if kind == "plain" else GLUON_FILES:
            text = files.text(path)
            parts = files.segments(path) if text else []
            digests = [body_digest(parts, name, doing=doing) for doing in (False, True)]
            if text and None not in digests and not KERNELS.keys() & set(digests):
                line = text[: text.index(f"def {name}(")].count("\n") + 1
                yield f'KERNELS "{digests[0]}", "{digests[1]}"  # {kind}, {path}:{line}: compile it'


def changes(before: AiterSource, source: AiterSource) -> Iterator[str]:
    """Yield the facts that differ from those of the commit before."""
    for each in fields(source):
        old, new = getattr(before, each.name), getattr(source, each.name)
        if each.name not in ("location", "unaccounted") and old != new:
            yield f"GENERATIONS {each.name}: {old!r} -> {new!r}"


def commits(checkout: Path, since: str) -> list[str]:
    """Return the commits after one that touch the package's Python, oldest first."""
    return _git(checkout, "log", "--reverse", "--format=%h", f"{since}..HEAD", "--", "aiter/*.py").decode().split()


def laid_out(checkout: Path, commit: str, folder: Path) -> PackageFiles:
    """Write the Python files of a commit below a folder."""
    with tarfile.open(fileobj=io.BytesIO(_git(checkout, "archive", commit, "aiter"))) as tar:
        tar.extractall(folder, [each for each in tar if each.isdir() or each.name.endswith(".py")], filter="data")
    return PackageFiles(Host({}, (str(folder),), {}, str(folder / "root")), str(folder / "aiter"))


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.check_output(["/usr/bin/env", "git", "-C", str(checkout), *arguments])


if __name__ == "__main__":
    main()
