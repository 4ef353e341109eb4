"""How wheels are read and run, on one written here: what the downstream check rests on, without any real wheel."""

from __future__ import annotations

import os
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.downstream.gates import GATE, home_of_gate, sglang_tiles
from tests.downstream.wheels import Sandbox, Wheel, find_wheels, take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOME = "sglang.srt.layers.attention.dsa.utils"
MODULES = {
    "sglang/__init__.py": "",
    "sglang/srt/utils/common.py": """
import os, torch
_warned_bool_env_var_keys = set()
@lru_cache(maxsize=1)
def is_hip() -> bool:
    return torch.version.hip is not None
def get_bool_env_var(name: str, default: str = "false") -> bool:
    return os.getenv(name, default) == "on"
""",
    "sglang/srt/environ.py": """
import os
from dataclasses import dataclass
os.environ["SGLANG_LEFT_BEHIND"] = "1"
@dataclass
class Flag:
    name: str
    def get(self):
        return self.name in os.environ
class envs:
    OFF = Flag("SGLANG_OFF")
""",
    "sglang/srt/layers/attention/dsa/utils.py": f"""
from sglang.srt.environ import envs
from sglang.srt.utils import get_bool_env_var, is_hip
import triton
@lru_cache(maxsize=1)
def {GATE}() -> bool:
    return is_hip() and get_bool_env_var("SGLANG_ON") and not envs.OFF.get() and triton.__version__ >= "3.5"
class Backend:
    @staticmethod
    def sizes(spec=None):
        return [SIZE]
""",
    "sglang/pool.py": f"from {HOME} import {GATE}\nfrom sglang.missing import anything\n",
    "sglang/late.py": f"def use():\n    from {HOME} import {GATE}\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Iterator[Wheel]:
    """Return a wheel of an SGLang that never was."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "sglang-9.9.9-py3-none-any.whl", "w") as archive:
        for name, text in MODULES.items():
            archive.writestr(name, text)
    (folder / "other-1.0-py3-none-any.whl").write_bytes(b"")
    (found,) = find_wheels(folder)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("platform", "triton", "variables", "answer"),
    [
        ("rocm", "3.6.0", {"SGLANG_ON": "on"}, True),
        ("cuda", "3.6.0", {"SGLANG_ON": "on"}, False),
        ("rocm", "3.4.0", {"SGLANG_ON": "on"}, False),
        ("rocm", None, {"SGLANG_ON": "on"}, False),
        ("rocm", "3.6.0", {"SGLANG_ON": "1"}, False),
        ("rocm", "3.6.0", {"SGLANG_ON": "on", "SGLANG_OFF": ""}, False),
    ],
)
def test_the_gate_of_a_wheel_is_asked_afresh(
    wheel: Wheel, tmp_path: Path, platform: str, triton: str | None, variables: dict[str, str], answer: bool
) -> None:
    """It sees the machine that it is asked about, not this one, in every input, and leaves this one's environment."""
    before = dict(os.environ)
    assert (wheel.project, wheel.version, home_of_gate(wheel)) == ("sglang", "9.9.9", HOME)
    says = sglang_tiles(wheel, tmp_path)
    assert says("rocm", "3.6.0", {"SGLANG_ON": "on"}) is True
    assert says(platform, triton, variables) is answer  # type: ignore[arg-type]
    assert dict(os.environ) == before


def test_those_who_import_by_value_are_found(wheel: Wheel) -> None:
    """At the import of the module, not inside its functions; of a package the module is the package."""
    assert wheel.importers(GATE) == {"sglang.pool"}
    assert "sglang" in wheel.modules()


def test_a_method_is_taken_out_of_its_class(wheel: Wheel) -> None:
    """Without its decorators, and with the globals that it is given."""
    assert take(wheel.source(HOME), ["Backend.sizes"], {"SIZE": 64})["sizes"]() == [64]


def test_modules_run_beside_this_process(wheel: Wheel, tmp_path: Path) -> None:
    """What is executed is real and shared, all else of the engine stands in, and nothing stays in `sys.modules`."""
    given: dict[str, dict[str, object]] = {
        "sglang.srt.utils": {"is_hip": lambda: True},
        "triton": {"__version__": "3.4"},
    }
    box = Sandbox(wheel, tmp_path, {"sglang.pool"}, given)
    pool = box.load("sglang.pool")
    assert box.modules["sglang.srt.layers.attention.dsa.utils"].__name__ == HOME
    assert vars(pool).keys() >= {GATE, "anything"}
    assert not [name for name in sys.modules if name.split(".")[0] == "sglang"]
