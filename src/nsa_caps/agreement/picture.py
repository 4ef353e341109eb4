"""A fleet as a picture: how large each group is, its layout, and what sets it apart from the largest. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa_caps.agreement.mismatch import mismatch_between, who
from nsa_caps.base.lines import printable
from nsa_caps.base.svg import escaped, fill_of, picture, text_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.agreement.fleet import Fleet
    from nsa_caps.agreement.mismatch import Group

__all__ = ["draw_fleet"]

# Pixels and characters. A group is a bar, as long as its share of the fleet, above lines of text.
_MARGIN, _WIDTH, _BAR, _LINE, _GAP, _LETTERS = 20, 860, 26, 18, 30, 120
# Groups that are drawn, and reasons that are told of each.
_MOST_GROUPS, _MOST_REASONS = 20, 3


def draw_fleet(fleet: Fleet) -> str:
    """Return the picture: a bar a group, the largest first, coloured by its row."""
    head = f"{fleet.count:,} machines, {len(fleet.groups)} {'group' if len(fleet.groups) == 1 else 'groups'}"
    if fleet.failures:
        head += f", and {len(fleet.failures):,} documents that are no machine"
    body, y = [text_at(_MARGIN, _MARGIN + 16, f"Layouts of the indexer's pages: {head}", "head")], _MARGIN + 44
    for group in fleet.groups[:_MOST_GROUPS]:
        lines = [_fitted(line) for line in _lines(group, fleet)]
        body += [*_bar(group, fleet.count, y)]
        body += [text_at(_MARGIN, y + _BAR + _LINE * number, text) for number, text in enumerate(lines, 1)]
        y += _BAR + _LINE * len(lines) + _GAP
    if len(fleet.groups) > _MOST_GROUPS:
        body.append(text_at(_MARGIN, y, f"and {len(fleet.groups) - _MOST_GROUPS:,} smaller groups", "dim"))
        y += _LINE
    words = " ".join(f"{group.count:,} machines: {group.headline}." for group in fleet.groups[:_MOST_GROUPS])
    return picture(_WIDTH + 2 * _MARGIN, y, f"Layouts of the indexer's pages: {head}", printable(words), body)


def _bar(group: Group, count: int, y: int) -> Iterator[str]:
    # A single machine among ten thousand is seen all the same.
    width = max(3, round(_WIDTH * group.count / count))
    row = group.rows[0] if group.rows else None
    yield "<g>"
    yield f"<title>{escaped(printable(f'{group.count:,} of {count:,}: {who(group.parties)}'))}</title>"
    yield f'<rect class="{fill_of(row)}" x="{_MARGIN}" y="{y}" width="{width}" height="{_BAR}" rx="4"/>'
    yield text_at(_MARGIN + 8, y + 18, f"{group.count:,}  {group.headline}", "strong")
    yield "</g>"


def _lines(group: Group, fleet: Fleet) -> Iterator[str]:
    """Return who a group is, and what sets its largest party apart from the fleet's largest."""
    yield who(group.parties)
    if group is fleet.groups[0]:
        return
    apart = mismatch_between(group.summary, fleet.groups[0].summary)
    # What a difference does is said in the report; here is room for what it is.
    yield group.summary.error or "; ".join(field.partition(": ")[0] for field in apart.fields)
    why = [*apart.reasons, *map(str, apart.facts)]
    yield from why[:_MOST_REASONS]
    if len(why) > _MOST_REASONS:
        yield f"and {len(why) - _MOST_REASONS} more"
    if apart.fix:
        yield f"fix: {'; '.join(apart.fix)}"


def _fitted(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 3] + "..."
