"""`python -m tests.attempts [KIND]`: the tests of strangers and of trouble by kind, with their figures, into the docs.

Each kind runs in a process of its own; its memory is the most that one process of it held, children included. The
beginning of a kind's name runs that one alone, and leaves the others' lines as they are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- attempts -->\n", "<!-- end of attempts -->\n"

KINDS: Mapping[str, tuple[str, ...]] = {
    "files, folders and how packages are installed": (
        "tests/probes/test_broken_machines.py", "tests/probes/test_import_system.py", "tests/probes/test_packages.py",
        "tests/probes/test_host.py", "tests/probes/test_python_source.py",
    ),
    "modules and variables": ("tests/probes/test_platform.py", "tests/capabilities/test_switches.py"),
    "documents of strangers": (
        "tests/agreement/test_compare_command.py", "tests/agreement/test_handshake.py", "tests/test_security.py",
        "tests/report/test_schemas.py",
    ),
    "processes: signals, forks, threads, limits": (
        "tests/test_guest.py", "tests/probes/test_silent_mounts.py", "tests/layout",
    ),
    "third parties' probes and rows": ("tests/probes/test_plugins.py",),
    "arguments of kernels": ("tests/kernels/test_checks.py", "tests/test_page_table.py"),
    "command lines": ("tests/cli/test_cli.py",),
    "ranks: lost, stopped, failing, of another release": (
        "-m", "slow or not slow", "tests/agreement/test_agree.py", "tests/agreement/test_apart.py",
        "tests/agreement/test_under_fire.py",
    ),
}  # fmt: skip


def run(tests: tuple[str, ...]) -> tuple[int, float, int]:
    """Return how many tests there were, the seconds that they took, and the most MiB that one process held.

    Raises:
        SystemExit: one of them failed.
    """
    with tempfile.TemporaryFile("w+") as log:
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        log.seek(0)
        text = log.read()
    passed = re.search(r"(\d+) passed", text)
    if status or passed is None:
        raise SystemExit(text)
    return int(passed[1]), seconds, usage.ru_maxrss // 1024


def main(wanted: str) -> None:
    """Run the kinds that are wanted, and write the page."""
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    table, tail = rest.split(END)
    known = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines() if " | " in line}
    lines = ["| kind | attempts | held | seconds | peak MiB |", "|---|---|---|---|---|"]
    for kind, tests in KINDS.items():
        if kind.startswith(wanted):
            count, seconds, memory = run(tests)
            known[kind] = f"| {kind} | {count} | {count} | {seconds:.0f} | {memory} |"
            print(known[kind], flush=True)  # noqa: T201 all of it takes minutes
        lines.append(known[kind])
    text = "\n".join(lines)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
