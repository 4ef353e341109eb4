"""Builds the wheel and the sdist of a release and checks them: `python tools/release.py`. Uploads nothing.

Refuses a version without a section in the changelog, a project without addresses, and a tree with changes.

Needs `pip install -e '.[release]'`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
# What a wheel without would be broken: types, schemas, the licence.
IN_WHEEL = (
    "nsa_caps/py.typed",
    "nsa_caps/schemas/capabilities.json",
    "nsa_caps/schemas/report.json",
    "nsa_caps/probes/aiter/releases.json",
    "nsa_caps/probes/aiter/parts.json",
    "nsa_caps/engines/sglang/__init__.py",
    "licenses/LICENSE",
    "entry_points.txt",
)
# Tracked, and of no use to who has the sdist.
NOT_IN_SDIST = (".ci/",)


class ReleaseError(Exception):
    """The release is not fit to be made; the message says what to do."""


def version(root: Path) -> str:
    """Return the version, from the one place that has it.

    Raises:
        ReleaseError: it stands there in no known shape.
    """
    found = re.search(r'^__version__ = "([^"]+)"$', (root / "src/nsa_caps/_version.py").read_text(), re.MULTILINE)
    if found is None:
        raise ReleaseError('src/nsa_caps/_version.py has no line __version__ = "X.Y.Z"')
    return found[1]


def changelog_section(root: Path, release: str) -> str:
    """Return what the changelog says of a version.

    Raises:
        ReleaseError: nothing, or not under a heading with a date.
    """
    text = (root / "CHANGELOG.md").read_text()
    found = re.search(
        rf"^## \[{re.escape(release)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None or not found[1].strip():
        raise ReleaseError(f"CHANGELOG.md tells nothing of {release}: rename [Unreleased] to [{release}] - YYYY-MM-DD")
    return found[1].strip()


def check_addresses(root: Path) -> None:
    """Look for the project's addresses, which the package index shows and the README's links are relative to.

    Raises:
        ReleaseError: `pyproject.toml` has none.
    """
    if not re.search(r"^\[project\.urls\]\n\w", (root / "pyproject.toml").read_text(), re.MULTILINE):
        raise ReleaseError("pyproject.toml has no [project.urls]: say where the repository, docs and issues are")


def check_committed() -> None:
    """Look at the tree.

    Raises:
        ReleaseError: it holds more than, or other than, what is committed.
    """
    if changed := _run("git", "status", "--porcelain"):
        raise ReleaseError(f"the tree is not what is committed:\n{changed}")


def missing(names: list[str], wanted: Iterable[str]) -> list[str]:
    """Return what should be in an archive and is not; names may stand in a folder named after the version."""
    there = {name.partition("/")[2] for name in names} | set(names)
    return [each for each in wanted if each not in there]


def check_contents(wheel: Path, sdist: Path, tracked: Iterable[str]) -> None:
    """Look into both archives.

    Raises:
        ReleaseError: something is missing; the sdist has every tracked file, so that its tests run.
    """
    with zipfile.ZipFile(wheel) as archive:
        lacking = missing(archive.namelist(), IN_WHEEL)
    with tarfile.open(sdist) as archive:
        lacking += missing(archive.getnames(), (name for name in tracked if not name.startswith(NOT_IN_SDIST)))
    if lacking:
        raise ReleaseError(f"the archives lack {', '.join(lacking)}: look at [tool.hatch.build] in pyproject.toml")


def check_installed(wheel: Path, release: str) -> None:
    """Install a wheel into an environment of its own and run its command there.

    Raises:
        ReleaseError: the command does not print this version, or no report.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        bin_ = Path(folder) / "bin"
        _run(str(bin_ / "pip"), "install", "-q", "--disable-pip-version-check", str(wheel))
        said = _run(str(bin_ / "python"), "-c", "import nsa_caps; print(nsa_caps.__version__)", cwd=folder).strip()
        if said != release:
            raise ReleaseError(f"the wheel says it is {said}, not {release}")
        # Exit code 1 is an answer: without torch no row may be used.
        report = subprocess.run(
            [str(bin_ / "nsa-caps"), "--json"], capture_output=True, text=True, check=False, cwd=folder
        )
        if report.returncode not in (0, 1) or not report.stdout.startswith("{"):
            raise ReleaseError(f"nsa-caps --json ended with {report.returncode}: {report.stderr or report.stdout}")


def _run(*command: str, cwd: str | Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Build and check; return the exit code."""
    try:
        release = version(ROOT)
        section = changelog_section(ROOT, release)
        check_addresses(ROOT)
        check_committed()
        shutil.rmtree(ROOT / "dist", ignore_errors=True)
        _run(sys.executable, "-m", "build")
        (wheel,), (sdist,) = (list((ROOT / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
        _run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
        check_contents(wheel, sdist, _run("git", "ls-files").splitlines())
        check_installed(wheel, release)
    except ReleaseError as error:
        sys.stderr.write(f"no release: {error}\n")
        return 1
    sys.stdout.write(f"{wheel.name} and {sdist.name} are fit for release. The changelog says:\n\n{section}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
