"""The scripts of `tools/`, which are no part of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["tool"]


def tool(name: str) -> Any:
    """Return the module of a script."""
    path = Path(__file__).parents[1] / "tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
