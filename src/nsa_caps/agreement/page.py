"""A fleet as one page for a browser: its groups, what sets each party apart, and a search. Pure.

Names and reasons are strangers' text: every one is escaped, and the page runs one script of its own, allowed by its
hash, loads nothing and sends nothing.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING

from nsa_caps._version import __version__
from nsa_caps.agreement.mismatch import mismatch_between, who
from nsa_caps.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nsa_caps.agreement.fleet import Fleet
    from nsa_caps.agreement.mismatch import Cohort, Group

__all__ = ["fleet_page"]

_STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --dim: #57606a; --good: #1a7f37; --bad: #cf222e; --fill: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --line: #30363d; --dim: #9198a1; --good: #3fb950; --bad: #f85149; --fill: #4493f8; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 0; } p, ul { margin: .4rem 0; }
li { overflow-wrap: anywhere; }
section { border: 1px solid var(--line); border-radius: 8px; margin: 1rem 0; padding: 1rem; }
.bar { background: var(--line); border-radius: 4px; height: .6rem; margin: .5rem 0; }
.bar > div { background: var(--fill); border-radius: 4px; height: 100%; min-width: 3px; }
.same { color: var(--good); } .apart { color: var(--bad); } .dim { color: var(--dim); }
input { box-sizing: border-box; font: inherit; padding: .4rem .6rem; width: 100%; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
.names { max-height: 12rem; overflow: auto; } [hidden] { display: none; }
"""
# What is hidden is hidden by the attribute, so that a browser without scripts shows all.
_SCRIPT = """
const field = document.getElementById("search"), told = document.getElementById("told");
field.addEventListener("input", () => {
  const wanted = field.value.trim().toLowerCase();
  let count = 0;
  for (const party of document.querySelectorAll(".party")) {
    party.hidden = !party.textContent.toLowerCase().includes(wanted);
    count += party.hidden ? 0 : Number(party.dataset.count);
    if (wanted && !party.hidden) party.querySelector("details").open = true;
  }
  for (const group of document.querySelectorAll("section")) {
    group.hidden = !group.querySelector(".party:not([hidden])");
  }
  told.textContent = wanted ? `${count.toLocaleString("en")} ${count === 1 ? "machine" : "machines"} shown` : "";
});
// fleet.html#triton.too-old opens with this search.
field.value = decodeURIComponent(location.hash.slice(1));
field.dispatchEvent(new Event("input"));
"""


def fleet_page(fleet: Fleet) -> str:
    """Return the page: the groups, the largest first, and in each its parties with every cause and fix."""
    verdict = "share one layout" if fleet.shared else f"in {_counted(len(fleet.groups), 'group')}"
    head = f"{_counted(fleet.count, 'machine')} {verdict}"
    if fleet.failures:
        head += f"; no machine: {_counted(len(fleet.failures), 'document')}"
    digest = b64encode(sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    body = "\n".join((*_failures(fleet), *(line for group in fleet.groups for line in _group(group, fleet))))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(head)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1 class="{"same" if fleet.shared else "apart"}">{escape(head)}</h1>
<p class="dim">Layouts of the indexer's pages, by nsa-caps {escape(__version__)}.
Machines of one group may share pages.</p>
<input id="search" type="search" placeholder="Search: a machine, a reason, a version" aria-label="Search">
<p id="told" class="dim" aria-live="polite"></p>
<main>
{body}
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _failures(fleet: Fleet) -> Iterator[str]:
    if fleet.failures:
        yield f'<section><h2 class="apart">No machine: {_counted(len(fleet.failures), "document")}</h2>'
        which = _list(f"{failure.name}: {failure.problem}" for failure in fleet.failures)
        yield '<div class="party" data-count="0"><details open><summary>which, and why</summary>'
        yield f"{which}</details></div></section>"


def _group(group: Group, fleet: Fleet) -> Iterator[str]:
    share, title = 100 * group.count / fleet.count, f"{_counted(group.count, 'machine')}: {group.headline}"
    yield f"<section><h2>{_text(title)}</h2>"
    yield f'<div class="bar"><div style="width: {share:.1f}%"></div></div>'
    for party in group.parties:
        yield from _party(party, fleet)
    yield "</section>"


def _party(party: Cohort, fleet: Fleet) -> Iterator[str]:
    """Return one kind of machine: who, what sets it apart from the largest group, and its names."""
    row = party.summary.row or party.summary.error or "no row"
    yield f'<div class="party" data-count="{party.count}">'
    yield f"<p><b>{party.count:,} x {_text(row)}</b>: {_text(who([party]))}</p>"
    if party.summary is not fleet.groups[0].summary:
        apart = mismatch_between(party.summary, fleet.groups[0].summary)
        for title, texts in (("differs in", apart.fields), ("because", apart.reasons), ("differences", apart.facts)):
            if texts:
                yield f"<p>{title}</p>{_list(map(str, texts))}"
        if apart.fix:
            yield f"<p>fix</p><ol>{''.join(f'<li><code>{_text(step)}</code></li>' for step in apart.fix)}</ol>"
    first = "" if len(party.names) == party.count else "the first "
    yield f'<details><summary class="dim">{first}{_counted(len(party.names), "name")}</summary>'
    yield f'<p class="names">{_text(", ".join(party.names))}</p></details>'
    yield "</div>"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _list(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(text)}</li>' for text in texts)}</ul>"


def _text(text: str) -> str:
    return escape(printable(text))
