"""`tools/aiter_history.py`: what a checkout has that no table of aiter's history has, on small ones written here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nsa_caps.testing import GENERATIONS, write_aiter_tree

TOOL = Path(__file__).parents[1] / "tools/aiter_history.py"
LOGITS, KERNELS = "ops/triton/attention/pa_mqa_logits.py", "ops/triton/gluon/pa_mqa_logits.py"
# What a commit changes, and the row that it needs, with its file and line.
CHANGES = {
    "a comment": (LOGITS, "import os", "# a comment\nimport os", ""),
    "a kernel's body": (KERNELS, "a stand-in of nsa_caps", "another body", f"KERNELS .*base, {KERNELS}:"),
    "a statement": (LOGITS, "import os\n", "import os\n\nwith open('x') as x:\n    pass\n", f"STATEMENTS .*{LOGITS}:"),
    "a refusal": ("ops/attention.py", "from ..jit.core", "raise OSError\nfrom ..jit.core", "REFUSALS .*attention.py:"),
    "another package": (
        "ops/attention.py",
        "from ..jit.core",
        "import xformers\nfrom ..jit.core",
        'OTHERS "xformers".*attention.py:',
    ),
    "what asks the machine": ("jit/utils/chip_info.py", "the arch of", "the arches of", 'FUNCTIONS .*"get_gfx"'),
    "a fact": ("utility/dtypes.py", '"gfx1201"', '"gfx1299"', "GENERATIONS fp8_archs: "),
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder as nobody in particular."""
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_what_no_table_has_is_proposed_with_its_line(tmp_path: Path) -> None:
    """A commit that changes what is trusted by digest is named with the row that it needs; another one is not."""
    git(tmp_path, "init", "-q")
    write_aiter_tree(tmp_path, GENERATIONS["04907edc"])
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    expected = {}
    for what, (file, old, new, row) in CHANGES.items():
        path = tmp_path / "aiter" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        git(tmp_path, "commit", "-qam", what)
        expected[git(tmp_path, "rev-parse", "--short", "HEAD").strip()] = (what, row)
        git(tmp_path, "revert", "--no-edit", "HEAD")
    root = git(tmp_path, "rev-list", "--max-parents=0", "HEAD").strip()
    done = subprocess.run(
        [sys.executable, str(TOOL), str(tmp_path), "--since", root], capture_output=True, text=True, check=True
    )
    told: dict[str, list[str]] = {}
    commit = ""
    for line in done.stdout.splitlines():
        if line.startswith(" "):
            told[commit].append(line)
        else:
            commit = line
            told[commit] = []
    for commit, (what, row) in expected.items():
        found = [line for line in told.get(commit, []) if row and re.search(row, line)]
        assert (commit in told, bool(found)) == (bool(row), bool(row)), (what, told.get(commit))
