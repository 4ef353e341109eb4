"""What a start-up imports, by module: `tests/imported.txt` records it, and `python -m tests.imported` writes it anew.

Each module of this package costs every start-up about a tenth of a millisecond, and each frozen record half of one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from nsa_caps.testing import machine
from tests.watched import watch

RECORD = Path(__file__).with_name("imported.txt")
# What our modules stand on. All that they bring beside it is a loss.
STANDS_ON = """
import argparse, contextlib, dataclasses, errno, hashlib, importlib.machinery, json, locale, math
import packaging.version, shlex, textwrap, threading
argparse.ArgumentParser().parse_args([])
"""
ASK = "nsa_caps.select_indexer_layout(nsa_caps.probe({host}))"
# What the record tells of, each beside `import nsa_caps`: of a CUDA machine without aiter and without kept verdicts.
RECORDED = {
    "import nsa_caps": "",
    "probe and select": ASK,
    "nsa-caps --json": "from nsa_caps.cli import main; main(['--json'], host={host})",
}


def imported(folder: Path, statement: str, release: str | None = None) -> set[str]:
    """Return the modules of a process that has imported this library and run a statement.

    Args:
        folder: an empty one.
        statement: what to run; `{host}` in it is a CUDA machine.
        release: the aiter that is installed there.
    """
    host = machine(folder / "machine", platform="cuda", archs=("sm_90",), triton="3.6.0", aiter=release)
    told = f"nsa_caps.Host({dict(host.environ)!r}, {host.search_path!r}, {{}}, {host.root!r})"
    return watch(folder, f"import nsa_caps; {statement.format(host=told)}").imported


def lines() -> list[str]:
    """Return the record: what is asked, and below it the modules of this package."""
    found: list[str] = []
    at_import: set[str] = set()
    for title, statement in RECORDED.items():
        with tempfile.TemporaryDirectory() as folder:
            own = {name for name in imported(Path(folder), statement) if name.partition(".")[0] == "nsa_caps"}
        found += [title, *(f"  {name}" for name in sorted(own - at_import))]
        at_import = at_import or own
    return found


if __name__ == "__main__":
    RECORD.write_text("\n".join(lines()) + "\n", encoding="utf-8")
