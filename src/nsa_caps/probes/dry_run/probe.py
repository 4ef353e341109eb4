"""A dry run of the installed aiter: what was read of it, and beside it what its own gates do when they are executed."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from nsa_caps.base.serial import SnapshotError, from_plain, to_plain
from nsa_caps.capabilities.aiter_source import AiterSource
from nsa_caps.capabilities.records import Note
from nsa_caps.probes.aiter.files import EXCERPTS, PackageFiles
from nsa_caps.probes.dry_run.facts import facts_of
from nsa_caps.probes.dry_run.kept import FILE_VERSION, Ran, digest_of_task, keep, kept_run
from nsa_caps.probes.dry_run.process import DryRunError, run_child
from nsa_caps.probes.dry_run.settle import settled
from nsa_caps.probes.dry_run.task import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsa_caps.probes.host import Host

__all__ = ["CANNOT_SEE", "LIMIT", "after_dry_run", "nothing"]

LIMIT = 60.0
"""Seconds that a dry run is given."""

CANNOT_SEE = (
    "whether a kernel's body compiles for a GPU: a body that was never compiled stays unproven",
    "what the compiled C++ kernels of aiter do: of the cache kernels only how they are declared",
    "modules that decide nothing for the indexer: what `import aiter` runs beside",
)
"""What no dry run can say."""


def after_dry_run(
    host: Host, source: AiterSource | None, python: str | None = None, limit: float = LIMIT
) -> Mapping[str, Any]:
    """Return the fields of the capabilities after a dry run: `aiter_source`, `extras` and `notes`.

    Args:
        host: the machine.
        source: what was read; None: no aiter of AMD's, so that there is nothing to run.
        python: the interpreter that runs aiter's code; None: this one.
        limit: seconds.
    """
    if source is None or source.logits_preshuffle is False:
        return {"extras": {"dry_run": {"state": "nothing to run", "settled": [], "differs": [], "unsaid": []}}}
    python = python or sys.executable
    files = PackageFiles(host, source.location)
    task = task_of(files)
    if task is None or files.shadowed:
        return nothing(source.location, "found no logits function, or Python loads something else than a source")
    if host.is_file(os.path.join(os.path.dirname(source.location), EXCERPTS)):
        return nothing(source.location, "found an excerpt of aiter, which cannot be executed")
    version = _version_of(python)
    digest = digest_of_task(task, version)
    ran, problem = kept_run(host, source.location, version, digest)
    notes = [Note("dry_run", source.location, problem)] if problem else []
    state = "kept"
    if ran is None:
        state = "executed"
        try:
            ran = _ran(task, digest, source.location, run_child(task, python, limit))
        except DryRunError as error:
            return nothing(source.location, str(error), notes)
        problem = keep(host, source.location, version, ran)
        notes += [Note("dry_run", source.location, f"is not kept: {problem}")] if problem else []
    after = settled(source, ran)
    notes += [Note("dry_run", source.location, f"{each}: not known") for each in after.differs]
    told = {"state": state, "settled": list(after.settled), "differs": list(after.differs), "unsaid": list(ran.unsaid)}
    return {"aiter_source": after.source, "extras": {"dry_run": told}, "notes": tuple(notes)}


def _version_of(python: str) -> str:
    """Return what names an interpreter: another one in its place, as an upgrade leaves it, is another file."""
    try:
        file = os.stat(shutil.which(python) or python)
    except OSError:
        return f"{python} {sys.version}"
    return f"{python} {file.st_mtime_ns} {file.st_size} {sys.version}"


def nothing(location: str, why: str, notes: list[Note] | None = None) -> Mapping[str, Any]:
    """Return what a dry run that came to nothing adds: a note; the answer stays that without it."""
    told = {"state": "failed", "settled": [], "differs": [], "unsaid": [why]}
    return {
        "extras": {"dry_run": told},
        "notes": (
            *(notes or ()),
            Note("dry_run", location, f"the dry run {why}; the answer is that without it"),
        ),
    }


def _ran(task: Mapping[str, Any], digest: str, location: str, answers: Any) -> Ran:
    """Return what the child's answers show.

    Raises:
        DryRunError: they are no answers.
    """
    try:
        facts, refutes, unsaid = facts_of(task, answers)
        shows = from_plain(AiterSource, to_plain({**facts, "location": location}), "dry run")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, SnapshotError) as error:
        raise DryRunError(f"answered what is no answer: {type(error).__name__}: {error}") from error
    return Ran(schema_version=FILE_VERSION, digest=digest, shows=shows, refutes=tuple(refutes), unsaid=tuple(unsaid))
