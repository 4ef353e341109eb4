"""Third parties' probes and rows, by entry points: read only where they are asked for."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nsa_caps import ROWS, Host, Note, decide, probe
from nsa_caps.layout.row_table import row_table
from nsa_caps.probes import timeout
from nsa_caps.probes.plugins import load_plugins
from nsa_caps.probes.timeout import TimeLimit
from nsa_caps.testing import lay_out_packages

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps import Capabilities

SOURCES = Path(__file__).parents[2] / "src"
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
    assert load_plugins("nsa_caps.nothing", [], TimeLimit()) == []


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
    assert json.loads(done.stdout)["extras"]["printed"] is True
    assert done.stderr.splitlines()[:2] == ["an import that prints", "a probe that prints"]


@pytest.mark.parametrize(
    "printing",
    [
        "os.write(1, b'raw')",
        "os.system('echo from a child')",
        "sys.stdout.close()",
        "threading.Thread(target=lambda: [print('late') for _ in iter(int, 1)], daemon=True).start()",
    ],
)
def test_nothing_of_a_plugin_gets_between_the_data(tmp_path: Path, printing: str) -> None:
    """What it writes to the descriptor itself, a child's words and a thread that goes on printing are no data."""
    put(tmp_path, f"import os, threading\ndef probe(host):\n    {printing}\n    return {{}}\n", "probe")
    path = os.pathsep.join(map(str, (tmp_path, SOURCES)))
    environ = {**os.environ, "PYTHONPATH": path, "NSA_CAPS_PLUGINS": "1"}
    command = [sys.executable, "-m", "nsa_caps", "snapshot"]
    with open(tmp_path / "data", "wb") as data:
        done = subprocess.run(command, env=environ, stdout=data, stderr=subprocess.DEVNULL, check=False, timeout=60)
    assert done.returncode == 0
    assert "variables" in json.loads((tmp_path / "data").read_text())


# --- What third parties bring that is broken


def put(site: Path, text: str, *groups: str) -> None:
    """Install a distribution `bad` of one module, whose names stand for entry points of the same names."""
    information = site / "bad-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "nsa_caps_bad.py").write_text("import sys, time\nfrom dataclasses import replace\nimport nsa_caps\n" + text)
    lines = (f"[nsa_caps.{group}s]\n{group} = nsa_caps_bad:{group}\n" for group in groups)
    (information / "entry_points.txt").write_text("".join(lines))


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Capabilities]:
    """Return a function that installs a module with a `probe` or a `row` and probes an empty machine with it."""

    def bring(text: str, group: str) -> Capabilities:
        put(tmp_path / "site", text, group)
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.delitem(sys.modules, "nsa_caps_bad", raising=False)
        return probe(Host({"NSA_CAPS_PLUGINS": "1"}, (), {}, "/nowhere"), timeout=0.5)

    return bring


NOT_ROWS = {
    "None": "row = None",
    "the class": "row = nsa_caps.Row",
    "a page size that is text": "row = replace(nsa_caps.ROWS[-1], name='bad', page_size='64')",
    "no page size": "row = replace(nsa_caps.ROWS[-1], name='bad', page_size=0)",
    "an order of its own": "row = replace(nsa_caps.ROWS[-1], name='bad', order='spiral')",
    "a name that steers a terminal": "row = replace(nsa_caps.ROWS[-1], name='b\\x1b[31mad')",
    "a name that is taken": "row = replace(nsa_caps.ROWS[-1], requirements=())",
    "requirements that are none": "row = replace(nsa_caps.ROWS[-1], name='bad', requirements=(1,))",
    "a proxy that raises": """
class Proxy(nsa_caps.Row):
    def __getattribute__(self, name): raise RuntimeError("lazy")
row = Proxy.__new__(Proxy)
""",
}


@pytest.mark.parametrize("text", NOT_ROWS.values(), ids=NOT_ROWS)
def test_what_is_no_row_is_left_out(bring: Callable[..., Capabilities], text: str) -> None:
    """An entry point that is no row is a note that names it, and the rows are those without it."""
    caps, rows = row_table(bring(text, "row"))
    assert rows == ROWS
    (note,) = (note for note in caps.notes if note.source == "bad: nsa_caps_bad:row")
    assert note.text.startswith("is left out: ")
    assert note.text.isprintable()


BAD_REQUIREMENTS = {
    "raises": "raise ValueError('a bug')",
    "exits": "sys.exit(7)",
    "interrupts": "raise KeyboardInterrupt",
    "never returns": "time.sleep(1000)",
    "returns a text": "return 'no'",
    "returns a reason of wrong types": "return nsa_caps.Reason(1, 'unmet', 'a', 'b')",
    "returns a verdict of its own": "return nsa_caps.Reason('x.bad', 'met', 'a', 'b')",
    "asks for the layout": "nsa_caps.get_indexer_layout()",
}


@pytest.mark.parametrize("body", BAD_REQUIREMENTS.values(), ids=BAD_REQUIREMENTS)
def test_a_row_that_fails_when_asked_is_out(
    bring: Callable[..., Capabilities], monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    """A requirement that does anything but answer puts its row out, by a reason that names it, and nothing else."""
    monkeypatch.setattr(timeout, "DEFAULT_TIMEOUT", 0.5)
    text = f"""
def requirement(caps, request):
    {body}
row = replace(nsa_caps.ROWS[-1], name="bad", requirements=(requirement,))
"""
    caps, rows = row_table(bring(text, "row"))
    decision = decide(caps, rows=rows)
    verdict = decision.verdict("bad")
    assert (verdict.verdict, {reason.code for reason in verdict.reasons}) == ("unknown", {"plugin.failed"})
    assert verdict.reasons[0].source == "bad: nsa_caps_bad:row"
    assert decision.chosen == decide(caps).chosen
    assert "a third party's row failed" in decision.explain()


def test_options_that_raise_put_their_row_out(bring: Callable[..., Capabilities]) -> None:
    """`logits_options` is called before the row may be chosen."""
    text = "row = replace(nsa_caps.ROWS[-1], name='bad', requirements=(), logits_options=lambda size: 1 / 0)"
    caps, rows = row_table(bring(text, "row").replace(platform="cpu", devices=()))
    (reason,) = decide(caps, rows=rows).verdict("bad").reasons
    assert (reason.code, "ZeroDivisionError" in reason.observed) == ("plugin.failed", True)


def test_a_caveat_that_raises_is_told(bring: Callable[..., Capabilities]) -> None:
    """A caveat decides nothing, also where it fails."""
    text = "row = replace(nsa_caps.ROWS[-1], name='bad', requirements=(), caveats=(lambda caps: 1 / 0,))"
    caps, rows = row_table(bring(text, "row").replace(platform="cpu", devices=()))
    decision = decide(caps, rows=rows)
    (text,) = decision.caveats
    assert (decision.chosen, "ZeroDivisionError" in text, "bad: nsa_caps_bad:row" in text) == ("bad", True, True)


def test_a_row_without_a_page_format_is_not_met() -> None:
    """A row that requires nothing is still out where no page of it can exist."""
    row = replace(ROWS[-1], name="bad", order="tiles", page_size=8, requirements=())
    caps = probe(EMPTY).replace(platform="cpu", devices=())
    (reason,) = decide(caps, rows=(row,)).verdict("bad").reasons
    assert (reason.code, reason.verdict) == ("page.size", "unmet")
    (reason,) = decide(caps.replace(platform="rocm", devices=None), rows=(row,)).verdict("bad").reasons
    assert (reason.code, reason.verdict) == ("device.unknown", "unknown")


def test_a_code_of_a_third_party_is_printed(bring: Callable[..., Capabilities]) -> None:
    """A reason code of a row's own is told like any other."""
    text = """
def requirement(caps, request):
    return nsa_caps.Reason("x.fabric-missing", "unmet", "no fabric", "a fabric")
row = replace(nsa_caps.ROWS[-1], name="bad", requirements=(requirement,))
"""
    caps, rows = row_table(bring(text, "row"))
    assert "x.fabric-missing: no fabric; needs a fabric" in str(decide(caps, rows=rows).verdict("bad").reasons[0])


BAD_PROBES = {
    "keys of mixed types": "probe = lambda host: {1: 2, 'zzz': 3}",
    "a proxy that raises": """
class Proxy:
    def __getattribute__(self, name): raise RuntimeError("lazy")
    def __call__(self, host): return {"extras": {"here": 1}}
probe = Proxy()
""",
    "equal to everything, of wrong types": """
class Same:
    def __eq__(self, other): return True
    __hash__ = object.__hash__
    def __call__(self, host): return {"devices": "gfx942"}
probe = Same()
""",
    "equal to everything, and hangs": """
class Same:
    def __eq__(self, other): return True
    __hash__ = object.__hash__
    def __call__(self, host): time.sleep(1000)
probe = Same()
""",
    "an error that exits when it is told": """
class SpeechlessError(Exception):
    def __str__(self): sys.exit(5)
def probe(host): raise SpeechlessError
""",
    "an import that leaves": "raise GeneratorExit",
}


@pytest.mark.parametrize("text", BAD_PROBES.values(), ids=BAD_PROBES)
def test_a_probe_that_is_not_what_it_seems(bring: Callable[..., Capabilities], text: str) -> None:
    """Whatever object an entry point names, what it does wrong is a note, and the machine is the one without it."""
    caps = bring(text, "probe")
    assert caps.replace(notes=(), extras={}) == probe(EMPTY).replace(
        notes=(), variables=caps.variables, switches=caps.switches
    )
    assert any("nsa_caps_bad" in note.source or "probe " in note.source for note in caps.notes) != bool(caps.extras)


@pytest.mark.parametrize(
    "text",
    [
        "sys.path.clear()\nprobe = lambda host: {}",
        "sys.path = ['/theirs']\nprobe = lambda host: {}",
        "probe = lambda host: sys.path.clear() or {}",
        "def probe(host):\n    del sys.path[-1]\n    raise RuntimeError",
    ],
    ids=["as it is imported", "another list", "as it is asked", "and then fails"],
)
def test_a_plugin_that_takes_folders_out_of_the_path(bring: Callable[..., Capabilities], text: str) -> None:
    """Later calls, and the engine's imports, find what they found before: the folders are back, and a note says so."""
    before = list(sys.path)
    caps = bring(text, "probe")
    assert set(before) <= set(sys.path)
    assert [note.source for note in caps.notes if "out of sys.path" in note.text]


def test_what_a_probe_returned_stays_as_it_was() -> None:
    """A probe that changes what it returned, afterwards, changes nothing of the capabilities."""
    kept: dict[str, Any] = {"a": {"b": [1]}}
    caps = probe(EMPTY, probes=[lambda _: {"extras": kept}])
    kept["a"]["b"].append(2)
    assert caps.extras["a"] == {"b": [1]}


def test_all_plugins_together_have_one_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twenty plugins that hang the first takes all the time there is, and the others are named."""
    for number in range(20):
        information = tmp_path / f"slow{number}-1.0.dist-info"
        information.mkdir()
        (tmp_path / f"nsa_caps_slow{number}.py").write_text("import time\ntime.sleep(1000)\n")
        (information / "entry_points.txt").write_text(f"[nsa_caps.probes]\nslow = nsa_caps_slow{number}:probe\n")
    monkeypatch.syspath_prepend(tmp_path)
    start = time.monotonic()
    notes = [note for note in probe(EMPTY, plugins=True, timeout=0.3).notes if note.source.startswith("slow")]
    assert time.monotonic() - start < 3
    assert ["not asked" in note.text for note in notes] == [False] + [True] * 19


def fill(path: Path) -> None:
    """Put a link to a device that never ends."""
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.write_bytes(b"[console_scripts]\n\xff\xfe = a:b\n"),
        lambda path: path.write_text("[nsa_caps.probes]\njust a line\n"),
        os.mkfifo,
        fill,
        Path.mkdir,
    ],
    ids=["not UTF-8", "no equals sign", "a pipe", "a device", "a folder"],
)
@pytest.mark.usefixtures("plugin")
def test_another_package_that_is_broken(tmp_path: Path, break_it: Callable[[Path], object]) -> None:
    """An entry_points.txt that cannot be read takes no other plugin with it, and is named."""
    information = tmp_path / "site" / "broken-1.0.dist-info"
    information.mkdir()
    break_it(information / "entry_points.txt")
    caps = probe(EMPTY, plugins=True)
    assert dict(caps.extras) == {"ports": 4}
    assert [note.source for note in caps.notes if "broken" in note.source] == [str(information / "entry_points.txt")]


def test_what_a_probe_notes_too_often_is_counted() -> None:
    """A hundred notes of one probe are kept, and how many more there were."""
    notes = tuple(Note("x", "x", str(number)) for number in range(250))
    kept = probe(Host({}, (), {}, "/nowhere"), probes=[lambda _: {"notes": notes}]).notes
    assert (len(kept), kept[-1].text) == (101, "left 150 notes more")
