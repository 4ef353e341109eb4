"""Jobs of several ranks on this machine: torchrun with gloo, each rank a laid-out machine of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[2]
# What each rank was told, by scenario and mode.
Told: TypeAlias = "list[dict[str, dict[str, Any]]]"


def torchrun(ranks: int, script: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a script on some ranks and return what came of it; torchrun's own words are part of it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.run(
        [*command, str(script), *argv], env=environ(), capture_output=True, text=True, check=False, timeout=120
    )


def environ(**more: str) -> dict[str, str]:
    """Return the environment of a rank."""
    # The ranks share two cores; without OMP_NUM_THREADS torchrun complains and sets it to 1 itself.
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", **more}


def play(folder: Path, ranks: int, scenarios: dict[str, Any], timeout: float = 60, **plan: Any) -> Told:
    """Play scenarios on some ranks and return what each that came to its end was told; {} of those that did not."""
    plan_path = write_plan(folder, scenarios, timeout, **plan)
    done = torchrun(ranks, Path(__file__).with_name("ranks.py"), str(plan_path), str(folder))
    assert done.returncode == 0, done.stderr
    return outcomes(folder, ranks)


def write_plan(folder: Path, scenarios: dict[str, Any], timeout: float, **plan: Any) -> Path:
    """Write what the ranks are to do."""
    path = folder / "plan.json"
    path.write_text(json.dumps({"scenarios": scenarios, "timeout": timeout, **plan}))
    return path


def outcomes(folder: Path, ranks: int) -> Told:
    """Return what each rank wrote down."""
    paths = [folder / f"{rank}.json" for rank in range(ranks)]
    return [json.loads(path.read_text()) if path.exists() else {} for path in paths]
