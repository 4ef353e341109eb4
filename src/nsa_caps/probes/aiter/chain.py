"""The rest of what `import aiter` runs: each module must be there, and none may refuse while it is imported.

These modules decide nothing else, so their text is scanned line by line and not executed; one that looks as though it
might refuse is parsed, and its refusing statement compared with those that aiter's history has had.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nsa_caps.capabilities.aiter_digests import OTHERS, REFUSALS
from nsa_caps.probes.aiter.modules import BARE, BARE_NAMES, FLYDSL, PACKAGE, PRESENT
from nsa_caps.probes.aiter.normal import digest, text_digest
from nsa_caps.probes.python_source import SourceError, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.probes.aiter.files import PackageFiles

__all__ = ["Chain", "chain"]

GLUON = f"{PACKAGE}.ops.triton.gluon"
# What an import names: in brackets, or up to the end of the statement.
_IMPORT = (
    r"(?:from\b[ \t]*(?P<base>[\w.]+)[ \t]*)?\bimport\b[ \t]*"
    r"(?P<names>\([^)]{0,10000}\)|[^\n#;\\]*(?:\\\n[^\n#;\\]*)*)"
)
_COMMENT = re.compile(r"#[^\n]*")
# What begins at the left edge and matters: imports, blocks that may hold more of them or a refusal, and calls.
# Every pattern begins with the end of the line before, which is found fast.
_LINE = re.compile(
    rf"\n(?=[A-Za-z_])(?:{_IMPORT}"
    r"|(?P<block>if|try|else|elif|except|finally|with|for|while|class|match|raise|assert|del)\b"
    r"|(?:[A-Za-z_]\w*[ \t]*(?::[^=\n]*)?=[ \t]*)?(?P<called>[A-Za-z_][\w.]*)\()"
)
_EDGE = re.compile(r"\n(?![ \t\r\n#)\]}]|else|elif|except|finally)")
# What ends an import when it is called; and besides, what runs what no scan follows.
_ENDS = ("exit", "_exit", "quit", "abort")
_ENDING = frozenset({*_ENDS, "exec", "throw", "import_module", "__import__"})
_WORDS = "|".join(("raise", "assert", *_ENDS))
_REFUSES = re.compile(rf"\b(?:{_WORDS})\b")
# What a statement behind another of its line does that matters: nobody writes aiter so.
_SECOND = re.compile(rf";[^\n;]*\b(?:import|{_WORDS})\b")
_FIRST = re.compile(r"[^ \t#][^#]*")
# How far the body of a class is indented, and what may refuse in it, whose methods do not run.
_CLASS_BODY = re.compile(r"\nclass\b[^\n]*:[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*([ \t]+)")
_IN_CLASS = re.compile(rf"\n([ \t]+)(?:if|for|while|with|try|class|raise|assert|[\w.]*(?:{'|'.join(_ENDS)})\()")
_INNER_IMPORT = re.compile(rf"\n(?P<edge>[ \t]+){_IMPORT}")
_INDENTED = re.compile(r"\n([ \t]+)[^\s#]")
_NAME = re.compile(r"\w+")
_DOTTED = re.compile(r"[\w.]+")
_MOST_MODULES = 600
_LONGEST_LINE = 10_000
_MOST_JUDGED = 200


@dataclass
class Chain:
    """What a scan found.

    Attributes:
        modules: every module that is imported, with its file.
        certain: those of them that no `try` passes over.
        missing: those that are not there, each with who imports it.
        others: packages of other projects that no aiter of history needs, likewise.
        refusals: file and line of statements that may refuse and that history has not had, with their digest; of a
            file that is not read: line 0, and why.
        gluon: the gluon package is among them.
    """

    modules: dict[str, str] = field(default_factory=dict)
    certain: set[str] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    refusals: list[tuple[str, int, str]] = field(default_factory=list)
    gluon: bool = field(init=False)


def chain(files: PackageFiles, module: str) -> Chain:
    """Scan what an import of the package, and then of a module of it, runs."""
    found = Chain()
    _follow(files, found, PACKAGE)
    found.gluon = GLUON in found.modules
    _follow(files, found, module)
    return found


def _follow(files: PackageFiles, found: Chain, root: str) -> None:
    todo: list[tuple[str, str, bool]] = [(root, "", True)]
    while todo and len(found.modules) < _MOST_MODULES:
        name, importer, needed = todo.pop()
        # One that was looked at before as one that may fail is looked at again: what it imports is needed now, too.
        if name in found.missing or (name in found.modules and (not needed or name in found.certain)):
            continue
        other = name.partition(".")[0]
        if other != PACKAGE:
            if needed and not _is_usual(files, other):
                found.others[other] = importer
            continue
        if needed:
            found.certain.add(name)
        path = files.module(name)
        if path is None:
            if needed:
                found.missing[name] = importer
            continue
        found.modules[name] = path
        parent = name.rpartition(".")[0]
        if parent:
            todo.append((parent, name, needed))
        text = _text(files, found, path) if path else None
        if text is not None:
            todo += [(each, name, must and needed) for each, must in _scanned(files, found, name, path, text)]


def _text(files: PackageFiles, found: Chain, path: str) -> str | None:
    """Return the text of a file; None where no scan sees through it, which is kept as a refusal."""
    text = files.text(path)
    odd = (0, "cannot be read") if text is None else _odd_line(text)
    if odd is None:
        return text
    found.refusals.append((path, *odd))
    return None


def _is_usual(files: PackageFiles, root: str) -> bool:
    """Return whether a package is Python's, one that aiter's releases need, or aiter's own that it puts on the path."""
    usual = root in sys.stdlib_module_names or root in PRESENT | OTHERS | BARE_NAMES
    return usual or files.module(f"{BARE}.{root}") is not None


def _odd_line(text: str) -> tuple[int, str] | None:
    """Return a line that no aiter has had and no scan by lines would see through, and what it is."""
    if _is_long(text):
        # Python gives up at 200 brackets in one another.
        return 0, f"a line of more than {_LONGEST_LINE} characters"
    if "\f" in text or ("\r" in text and "\r" in text.replace("\r\n", "")):
        return 0, "an end of a line that is no newline"
    for match in _SECOND.finditer(text) if ";" in text else ():
        if _FIRST.fullmatch(text, text.rfind("\n", 0, match.start()) + 1, match.start()):
            return text[: match.start()].count("\n") + 1, "a second statement of a line"
    return None


def _is_long(text: str) -> bool:
    """Return whether a line is too long: from its begin no end of a line comes in time."""
    begin = 0
    while len(text) - begin > _LONGEST_LINE:
        end = text.rfind("\n", begin, begin + _LONGEST_LINE + 1)
        if end < 0:
            return True
        begin = end + 1
    return False


def _scanned(files: PackageFiles, found: Chain, name: str, path: str, data: str) -> Iterator[tuple[str, bool]]:
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    # Read apart: these tell of their own refusals.
    judged = name not in (PACKAGE, GLUON, FLYDSL)
    end = 0
    left = _MOST_JUDGED
    functions: dict[str, str | None] = {}
    data = "\n" + data
    for match in _LINE.finditer(data):
        refusing: str | None = None
        if match.start() < end:
            continue
        if match["names"] is not None:
            yield from _imported(files, package, match, needed=True)
            continue
        if match["block"]:
            edge = _EDGE.search(data, match.end())
            end = edge.start() if edge else len(data)
            piece = data[match.start() : end]
            if match["block"] in ("try", "else") or name == PACKAGE:
                # Deeper in, a `try` of the branch may pass over a failure.
                needed = name == PACKAGE and match["block"] != "try"
                least = min(map(len, _INDENTED.findall(piece)), default=0) if needed else 0
                for inner in _INNER_IMPORT.finditer(piece):
                    yield from _imported(files, package, inner, needed=len(inner["edge"]) == least)
            refusing = piece if judged and _may_refuse(piece) else None
        elif judged:
            ends = match["called"].rpartition(".")[2] in _ENDING
            refusing = match[0] if ends else _refusing(data, match["called"], functions)
        if refusing and left:
            left -= 1
            line = data[match.start() : data.find("\n", match.end())].strip()
            # An end of a line stands in front of the first, too.
            number = data.count("\n", 0, match.start()) + 1
            if left:
                _judge(found, path, number, refusing, "" if match["block"] else line)
            else:
                found.refusals.append((path, number, f"more than {_MOST_JUDGED} statements that may refuse"))


def _may_refuse(piece: str) -> bool:
    if not _REFUSES.search(piece):
        return False
    body = _CLASS_BODY.match(piece)
    # No class, or one whose head is in several lines, or whose body is in the line of its head.
    return body is None or any(len(edge) <= len(body[1]) for edge in _IN_CLASS.findall(piece))


def _judge(found: Chain, path: str, line: int, piece: str, call: str) -> None:
    """Keep a statement that may refuse, unless history has had it."""
    text = f"{piece}\n{call}"
    if text_digest(text) in REFUSALS:
        return
    try:
        nodes = parse(piece).body
    except SourceError:
        nodes = []
    if nodes and (not any(map(_refuses, nodes)) or digest(nodes) in REFUSALS):
        return
    found.refusals.append((path, line, text_digest(text)))


def _refusing(data: str, name: str, functions: dict[str, str | None]) -> str | None:
    """Return the definition in this module of a function that is called, if it may refuse."""
    if name not in functions:
        _, head, rest = data.partition(f"\ndef {name}(")
        edge = _EDGE.search(rest)
        piece = head + (rest[: edge.start()] if edge else rest)
        functions[name] = piece if _REFUSES.search(piece) else None
    return functions[name]


def _imported(files: PackageFiles, package: str, match: re.Match[str], *, needed: bool) -> Iterator[tuple[str, bool]]:
    dotted, names = match["base"], match["names"]
    if "#" in names:
        # A comment in brackets may have a bracket of its own.
        at = match.start("names")
        names = _COMMENT.sub("", match.string[at : at + _LONGEST_LINE]).partition(")")[0]
    if dotted is None:
        for each in names.split(","):
            for whole in _DOTTED.findall(each)[:1]:
                yield whole, needed
        return
    level = len(dotted) - len(dotted.lstrip("."))
    if level:
        parents = package.split(".")
        kept = parents[: len(parents) - level + 1]
        rest = dotted[level:]
        dotted = ".".join([*kept, rest] if rest else kept)
    yield dotted, needed
    if dotted.partition(".")[0] == PACKAGE and files.is_package(dotted):
        for name in _NAME.findall(names):
            inner = f"{dotted}.{name}"
            if files.module(inner) is not None or inner in files.shadowed:
                yield inner, needed


def _refuses(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef):
        # Of what stands in it, its methods do not run.
        return any(
            _refuses(each) for each in node.body if not isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        )
    for inner in ast.walk(node):
        if isinstance(inner, (ast.Raise, ast.Assert)):
            return True
        if isinstance(inner, ast.Call):
            name = inner.func.attr if isinstance(inner.func, ast.Attribute) else getattr(inner.func, "id", "")
            if name in _ENDING:
                return True
    return False
