"""Runs the examples of the README and the docs and writes what they print; with `--check`, fails where it differs.

Run as `python docs/examples.py [--check] [PAGE ...]`. An example is a fenced block behind `<!-- example -->`:

- `python`: runs as it stands, after the page's earlier ones; a `text` block right behind it is what it prints.
- `console`: its `$ nsa-caps` commands are run on this machine, or on the one that is laid out by the expression in
  `<!-- example: named_machine(folder, "mi300x_rocm700") -->`. `export` and `unset` count; other commands are left out.

A line that is just `…` stands for any lines.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa_caps import AotKernel, Host
from nsa_caps.cli.main import main as nsa_caps_command
from nsa_caps.testing import machine, named_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_EXAMPLE = re.compile(
    r"^<!-- example(?:: (?P<machine>[^\n]+))? -->\n+```(?P<kind>python|console)\n(?P<body>.*?)^```$"
    r"(?P<print>\n\n```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


def rewritten(page: Path) -> str:
    """Return a page's text with what its examples print now; where that is what it says, the text as it is."""
    namespace: dict[str, Any] = {"__name__": page.stem}
    folders = (f"m{number}" for number in count())

    def rerun(found: re.Match[str]) -> str:
        head = found[0].partition("```")[0]
        if found["kind"] == "console":
            return f"{head}```console\n{_console(found['body'], _host(found['machine'], next(folders)))}```" + (
                found["print"] or ""
            )
        printed = _python(found["body"], namespace, str(page))
        if found["print"] is None or _same(printed, found["printed"]):
            return found[0]
        return f"{head}```python\n{found['body']}```\n\n```text\n{printed}```"

    with _empty_folder():
        return _EXAMPLE.sub(rerun, page.read_text(encoding="utf-8"))


def _python(code: str, namespace: dict[str, Any], page: str) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, page, "exec"), namespace)  # noqa: S102 the page's own example
    return printed.getvalue()


def _host(described: str | None, folder: str) -> Host:
    if described is None:
        return Host.current()
    names = {"machine": machine, "named_machine": named_machine, "AotKernel": AotKernel, "folder": folder}
    host: Host = eval(described, names)  # noqa: S307 the page's own example
    return host


def _console(body: str, host: Host) -> str:
    """Return a session with the output of its commands as it is now."""
    variables, session = dict(host.environ), ""
    for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
        line, _, expected = part.partition("\n")
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.match(r"(export|unset|\w+=)", words[0]):
            word = words.pop(0)
            if word == "unset":
                variables.pop(words.pop(0), None)
            elif word != "export":
                name, _, variables[name] = word.partition("=")
        if words[:1] == ["nsa-caps"]:
            printed = _command(words[1:], Host(variables, host.search_path, host.modules, host.root))
            expected = expected if _same(printed, expected.rstrip("\n") + "\n") else printed
        session += f"{line}\n{expected}" if line else ""
    return session


def _command(arguments: list[str], host: Host) -> str:
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        nsa_caps_command(arguments, host=host)
    # A laid-out machine's files stand where a real one's would.
    shown = re.sub(r"\bm\d+/site", "/usr/lib/python3/dist-packages", printed.getvalue())
    return re.sub(r"\bm\d+/root", "", shown)


def _same(printed: str, expected: str) -> bool:
    lines = expected.splitlines(keepends=True)
    pattern = "".join(r"(?:.*\n)*?" if line == "…\n" else re.escape(line) for line in lines)
    return re.fullmatch(pattern, printed) is not None


@contextmanager
def _empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def main(arguments: list[str]) -> int:
    """Write what the examples print, or check it; return the exit code."""
    check = "--check" in arguments
    pages = [Path(name).resolve() for name in arguments if name != "--check"] or PAGES
    stale = []
    for page in pages:
        text = rewritten(page)
        if text != page.read_text(encoding="utf-8"):
            stale.append(page.name)
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"not what the examples print: {', '.join(stale)}; run python docs/examples.py\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
