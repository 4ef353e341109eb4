"""The README's example, as a newcomer would paste it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_integration_example_runs_and_prints_a_layout() -> None:
    """The README's twenty lines run as they stand and print a page size and a fingerprint."""
    _, _, rest = README.read_text(encoding="utf-8").partition("<!-- example -->\n```python\n")
    example = rest.partition("```")[0]
    assert "get_indexer_layout" in example
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page_size, fingerprint = done.stdout.splitlines()[-1].split()
    assert int(page_size) >= 1
    assert len(fingerprint) >= 8
