"""Third parties' probes and rows, by entry points: read only where they are asked for."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nsa_caps import ROWS, Host, probe
from nsa_caps.layout.row_table import row_table
from nsa_caps.probes.plugins import load_plugins
from nsa_caps.testing import lay_out_packages

SOURCES = Path(__file__).parents[1] / "src"
MODULE = '''
from dataclasses import replace
from nsa_caps import ROWS, Note

def fabric(host):
    """Find the fabric."""
    return {"extras": {"ports": 4}, "variables": {"NSA_CAPS_ROW": "mine", "NSA_CAPS_PLUGINS": "1"}}

def failing(host):
    """Fail."""
    raise SystemExit("no fabric here")

row = replace(ROWS[-1], name="mine", requirements=())
'''
PRINTING = """print("an import that prints")
def probe(host):
    print("a probe that prints")
    return {"extras": {"printed": True}}
"""
ENTRY_POINTS = """[nsa_caps.probes]
fabric = nsa_caps_example:fabric
failing = nsa_caps_example:failing
gone = nsa_caps_gone:probe
leaving = nsa_caps_leaving:probe

[nsa_caps.rows]
mine = nsa_caps_example:row
lost = nsa_caps_example:no_such_row
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a distribution that brings probes and rows, some of which do not load."""
    site = tmp_path / "site"
    information = site / "nsa_caps_example-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "nsa_caps_example.py").write_text(MODULE)
    (site / "nsa_caps_leaving.py").write_text("raise SystemExit(3)")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: nsa-caps-example\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    return site


EMPTY = Host({}, (), {}, "/nowhere")


@pytest.mark.usefixtures("plugin")
def test_plugins_are_off_unless_asked_for() -> None:
    """An installed plugin does nothing on its own."""
    assert dict(probe(EMPTY).extras) == {}
    assert dict(probe(Host({"NSA_CAPS_PLUGINS": "0"}, (), {}, "/nowhere")).extras) == {}


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("by", ["argument", "variable"])
def test_plugins_that_are_asked_for(by: str) -> None:
    """`plugins=True` or NSA_CAPS_PLUGINS=1 runs them; what they find counts, and each that fails is named."""
    if by == "argument":
        caps = probe(EMPTY, plugins=True)
    else:
        caps = probe(Host({"NSA_CAPS_PLUGINS": "1"}, (), {}, "/nowhere"))
    assert dict(caps.extras) == {"ports": 4}
    assert caps.switches["row"].value == "mine"
    notes = {note.source: note.text for note in caps.notes}
    assert notes["probe failing"] == "failed with SystemExit: no fabric here"
    assert "did not load: ModuleNotFoundError" in notes["nsa-caps-example: nsa_caps_gone:probe"]
    assert "did not load: SystemExit: 3" in notes["nsa-caps-example: nsa_caps_leaving:probe"]


@pytest.mark.usefixtures("plugin")
def test_an_argument_of_no_comes_before_the_variable() -> None:
    """`plugins=False` leaves them out, whatever the environment says."""
    assert dict(probe(Host({"NSA_CAPS_PLUGINS": "1"}, (), {}, "/nowhere"), plugins=False).extras) == {}


@pytest.mark.usefixtures("plugin")
def test_rows_of_third_parties_come_first() -> None:
    """Where plugins are asked for their rows come before this library's, and one that does not load is a note."""
    caps, rows = row_table(probe(EMPTY, plugins=False))
    assert rows == ROWS
    asked = probe(Host({"NSA_CAPS_PLUGINS": "1"}, (), {}, "/nowhere"))
    caps, rows = row_table(asked)
    assert [row.name for row in rows] == ["mine", *(row.name for row in ROWS)]
    assert caps.notes[-1].source == "nsa-caps-example: nsa_caps_example:no_such_row"


def test_a_group_that_nobody_fills() -> None:
    """Without entry points there is nothing to load."""
    assert load_plugins("nsa_caps.nothing", []) == []


def test_an_engine_gets_the_row_of_a_third_party(plugin: Path, tmp_path: Path) -> None:
    """`get_indexer_layout` decides over third parties' rows too, where they are asked for."""
    lay_out_packages(tmp_path / "torch", platform="cpu", torch="2.9.1")
    path = os.pathsep.join(map(str, (tmp_path / "torch", plugin, SOURCES)))
    code = "import nsa_caps; print(nsa_caps.get_indexer_layout().row)"
    for asked, row in (("1", "mine"), ("0", "reference")):
        environ = {**os.environ, "PYTHONPATH": path, "NSA_CAPS_PLUGINS": asked}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
        assert done.stdout == f"{row}\n", done.stderr


def install(site: Path, text: str, entry: str) -> None:
    """Install a distribution `loud` whose one probe is in a module of this text."""
    information = site / "loud-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "loud.py").write_text(text)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[nsa_caps.probes]\nloud = {entry}\n")


def test_an_import_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin whose import does not end is waited for a while and named; its thread is left behind."""
    install(tmp_path, "nsa_caps_never_set.wait()", "loud:probe")
    never = threading.Event()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(builtins, "nsa_caps_never_set", never, raising=False)
    caps = probe(EMPTY, plugins=True, timeout=0.1)
    never.set()
    (note,) = (note for note in caps.notes if note.source == "loud: loud:probe")
    assert note.text.startswith("did not load: TimeoutError: no answer within 0.1 s")


def test_what_a_plugin_prints_is_no_data(tmp_path: Path) -> None:
    """The command's stdout holds its JSON alone; what an import or a probe prints goes to stderr."""
    install(tmp_path / "site", PRINTING, "loud:probe")
    path = os.pathsep.join(map(str, (tmp_path / "site", SOURCES)))
    environ = {**os.environ, "PYTHONPATH": path, "NSA_CAPS_PLUGINS": "1"}
    command = [sys.executable, "-m", "nsa_caps", "snapshot"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["extras"] == {"printed": True}
    assert done.stderr.splitlines()[:2] == ["an import that prints", "a probe that prints"]
