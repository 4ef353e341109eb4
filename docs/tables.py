"""Writes the tables of the docs from the tables in the code; with `--check`, fails where they differ.

Run as `python docs/tables.py [--check]`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nsa_caps
from nsa_caps.capabilities.engines import ENGINE_TABLE, ENGINES
from nsa_caps.capabilities.switches import GRAMMARS, SWITCHES
from nsa_caps.cli.parser import parsers
from nsa_caps.policy.engine import decide_for_engine
from nsa_caps.policy.explain import short_headline
from nsa_caps.policy.reasons import CODES
from nsa_caps.policy.rows import ROWS
from nsa_caps.testing import MACHINES, named_machine
from nsa_caps.testing.named_machines import TITLES, named_capabilities

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterable, Iterator, Sequence

    from nsa_caps.capabilities.engines import Engine
    from nsa_caps.capabilities.switches import SwitchRow

TABLES = Path(__file__).parent / "tables"


def reasons() -> str:
    """Return the reason codes."""
    return _table(("code", "what is the matter"), ((f"`{code}`", text) for code, text in CODES.items()))


def rows() -> str:
    """Return the rows, best first."""
    head = ("row", "page size", "order", "what it is")
    return _table(head, ((f"`{row.name}`", str(row.page_size), row.order, row.summary) for row in ROWS))


def switches() -> str:
    """Return the switches with the variables that decide them, the strongest first."""
    return _table(("switch", "decides", "default", "variables, the strongest first"), (
        (f"`{row.name}`", row.decides, str(row.default).lower() or "(none)", "; ".join(_variables(row)))
        for row in SWITCHES
    ))  # fmt: skip


def _variables(row: SwitchRow) -> Iterator[str]:
    if row.own is not None:
        yield f"`{row.own.variable}`"
    for engine in ENGINE_TABLE.values():
        names = [f"`{reading.variable}`" for reading in engine.variables.get(row.name, ())]
        if names:
            yield f"{engine.title}: {', '.join(names)}"
    yield from (f"`{reading.variable}`" for reading in row.always)


def grammars() -> str:
    """Return how each consumer reads each of its variables."""
    readings = {reading for row in SWITCHES for engine in ENGINES for reading in row.readings(engine)}
    variables = {
        name: sorted(reading.variable for reading in readings if name in (reading.grammar, *reading.also))
        for name in GRAMMARS
    }
    return _table(("grammar", "true", "false", "anything else", "read by it"), (
        (name, grammar.true, grammar.false, grammar.other or "-", ", ".join(f"`{v}`" for v in variables[name]))
        for name, grammar in GRAMMARS.items()
    ))  # fmt: skip


def engines() -> str:
    """Return the engines: what was read, what was run with our kernels, and the rows that each can run."""
    head = ("engine", "releases read", "run with our kernels", "rows as it is", "rows with our kernels")
    return _table(head, (
        (f"`{engine.name}`", ", ".join(engine.releases) or "-", ", ".join(engine.kernel_releases) or "-",
            _rows_of(engine, kernels=False), _rows_of(engine, kernels=True))
        for engine in ENGINE_TABLE.values()
    ))  # fmt: skip


def _rows_of(engine: Engine, *, kernels: bool) -> str:
    if engine.rows is None:
        return "all"
    return ", ".join(dict.fromkeys(f"`{row.row}`" for row in engine.rows if row.kernels is kernels)) or "-"


def runnable() -> str:
    """Return what is picked on named machines, and what each engine runs there, as it is and with our kernels."""
    known = [engine for engine in ENGINE_TABLE.values() if engine.rows is not None]
    head = ("machine", "best row, page size", *(f"{engine.title}{how}" for engine in known
        for how in ((" as it is", " with our kernels") if engine.kernel_releases else (" as it is",))))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return _table(head, (_runnable_on(name, Path(folder) / name) for name in MACHINES))


def _runnable_on(name: str, folder: Path) -> list[str]:
    # Each engine asks for aiter by a variable of its own.
    environ = {"VLLM_ROCM_USE_AITER": "1"} if "environ" in MACHINES[name] else {}
    host = named_machine(folder, name, environ=environ)
    cells = [f"`{name}`", _row_and_size(nsa_caps.decide(nsa_caps.probe(host, engine="sglang")))]
    for engine in ENGINE_TABLE.values():
        if engine.rows is not None:
            caps = nsa_caps.probe(host, engine=engine.name)
            ways = (False, True) if engine.kernel_releases else (False,)
            cells += [_row_and_size(decide_for_engine(caps, kernels=ours)) for ours in ways]
    return cells


def _row_and_size(decision: nsa_caps.Decision) -> str:
    return short_headline(decision).replace(" page size", "")


def machines() -> str:
    """Return the machines that have a name, with what is picked on each."""
    return _table(
        ("name", "what it is", "takes"),
        (
            (f"`{name}`", title, short_headline(nsa_caps.decide(named_capabilities(name))))
            for name, title in TITLES.items()
        ),
    )


def cli() -> str:
    """Return every command with what it takes, from its parser."""
    found = parsers()
    common = _options(found.by_name["snapshot"])
    parts = [f"## Options of every command\n\n{_table(('option', 'what it does'), common)}"]
    for name, command in found.by_name.items():
        own = [option for option in _options(command) if option not in common]
        usage = command.format_usage().removeprefix("usage: ").strip()
        told = f"\n{_table(('option', 'what it does'), own)}" if own else ""
        parts.append(f"## {name}\n\n`{usage}`\n\n{_sentence(str(command.description))}\n{told}")
    return "\n".join(parts)


def _sentence(text: str) -> str:
    # Two dashes in plain text become one long one.
    return re.sub(r"--[\w-]+", r"`\g<0>`", f"{text[0].upper()}{text[1:]}.")


def _options(command: ArgumentParser) -> list[tuple[str, str]]:
    # argparse shows its options no other way.
    actions = [action for action in command._actions if action.dest != "help"]  # noqa: SLF001
    told = []
    for action in actions:
        name = ", ".join(action.option_strings) or action.metavar or action.dest.upper()
        value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or ''}".rstrip()
        choices = f": {', '.join(map(str, action.choices))}" if action.choices and not action.option_strings else ""
        told.append((f"`{name}{value}`", f"{action.help}{choices}"))
    return told


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the tables, or check them; return the exit code."""
    check = arguments == ["--check"]
    stale = []
    for table in (reasons, rows, switches, grammars, engines, runnable, machines, cli):
        path = TABLES / f"{table.__name__}.md"
        if check and (not path.exists() or path.read_text(encoding="utf-8") != table()):
            stale.append(str(path))
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(table(), encoding="utf-8")
    if stale:
        sys.stderr.write(f"not what the code says: {', '.join(stale)}; run python docs/tables.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
