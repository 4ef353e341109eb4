"""Runs the examples of the README and the docs and writes what they print; with `--check`, fails where it differs.

Run as `python docs/examples.py [--check] [--slow] [PAGE ...]`. An example is a fenced block behind `<!-- example -->`:

- `python`: runs as it stands, after the page's earlier ones; a `text` block right behind it is what it prints.
- `console`: its `$ nsa-caps` commands are run; `--machine` asks another machine than this one. `export` and `unset`
  count; other commands are left out.

What takes longer stands behind `<!-- example: slow -->` and is run with `--slow`; there `$ torchrun` is run too.

A line that is just `…` stands for any lines.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa_caps import Host
from nsa_caps.cli.main import main as nsa_caps_command

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_EXAMPLE = re.compile(
    r"^<!-- example(?P<slow>: slow)? -->\n+```(?P<kind>python|console)\n(?P<body>.*?)^```$"
    r"(?P<print>\n\n```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


def rewritten(page: Path, *, slow: bool = False) -> str:
    """Return a page's text with what its examples print now; where that is what it says, the text as it is."""
    namespace: dict[str, Any] = {"__name__": page.stem}

    def rerun(found: re.Match[str]) -> str:
        if found["slow"] and not slow:
            return found[0]
        head = found[0].partition("```")[0]
        if found["kind"] == "console":
            return f"{head}```console\n{_console(found['body'])}```{found['print'] or ''}"
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


def _console(body: str) -> str:
    """Return a session with the output of its commands as it is now."""
    host, session = Host.current(), ""
    variables = dict(host.environ)
    for part in re.split(r"^(?=\$ )", body, flags=re.MULTILINE):
        line, _, expected = part.partition("\n")
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.match(r"(export|unset|\w+=)", words[0]):
            word = words.pop(0)
            if word == "unset":
                variables.pop(words.pop(0), None)
            elif word != "export":
                name, _, variables[name] = word.partition("=")
        if words[:1] in (["nsa-caps"], ["torchrun"]):
            here = Host(variables, host.search_path, host.modules, host.root)
            printed = _command(words[1:], here) if words[0] == "nsa-caps" else _torchrun(words[1:])
            expected = expected if _same(printed, expected.rstrip("\n") + "\n") else printed
        session += f"{line}\n{expected}" if line else ""
    return session


def _torchrun(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 the page's own
    return done.stdout


def _command(arguments: list[str], host: Host) -> str:
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        # A console's `> FILE` is this command's option.
        nsa_caps_command(["--output" if word == ">" else word for word in arguments], host=host)
    return printed.getvalue()


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
    pages = [Path(name).resolve() for name in arguments if name not in ("--check", "--slow")] or PAGES
    stale = []
    for page in pages:
        text = rewritten(page, slow="--slow" in arguments)
        if text != page.read_text(encoding="utf-8"):
            stale.append(page.name)
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and stale:
        sys.stderr.write(f"not what the examples print: {', '.join(stale)}; run python docs/examples.py\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
