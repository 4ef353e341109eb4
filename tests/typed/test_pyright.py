"""The public interface under pyright; mypy checks the same file with everything else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONFIG = {
    "extraPaths": [str(HERE.parents[1] / "src")],
    "typeCheckingMode": "strict",
    # mypy's ignores are not pyright's; and where an error is expected and none is found, that is one.
    "enableTypeIgnoreComments": False,
    "reportUnnecessaryTypeIgnoreComment": "error",
}


def test_the_public_interface_under_pyright(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every promise of `public_api.py` holds in pyright's strict mode, and what it says is refused is refused."""
    if not request.config.getoption("--pyright"):
        pytest.skip("needs --pyright: pip install pyright, which brings or downloads node")
    pyright = shutil.which("pyright", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    assert pyright, "--pyright, and no pyright: pip install pyright"
    shutil.copy(HERE / "public_api.py", tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(CONFIG))
    done = subprocess.run(
        [pyright, "-p", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert [each["message"] for each in report["generalDiagnostics"]] == []
    assert report["summary"]["filesAnalyzed"] == 1
