"""What rows cost on this machine, measured: as lines, document and picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.base.lines import indented, printable
from nsa_caps.base.svg import escaped, fill_of, picture, text_at
from nsa_caps.policy.document import document_head
from nsa_caps.policy.kept import void_because

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nsa_caps.base.lines import Line
    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.selfcheck.records import SelfCheck

__all__ = ["Bench", "bench_document", "bench_lines", "bench_of", "draw_bench"]

# Pixels.
_MARGIN, _BAR, _GAP, _LINE, _WIDTH, _LABEL = 20, 22, 4, 20, 480, 170


class Bench(NamedTuple):
    """What was measured on one kind of device.

    Attributes:
        device: the kind.
        made: the day of the newest figure.
        shapes: the shapes, as they were first met.
        rows: microseconds by row, best row of the table first, and by shape.
    """

    device: str
    made: str
    shapes: tuple[str, ...]
    rows: dict[str, dict[str, float]]

    def best(self, shape: str) -> float:
        """Return the shortest time of a shape."""
        return min(times[shape] for times in self.rows.values() if shape in times)


def bench_of(caps: Capabilities, names: Sequence[str]) -> list[Bench]:
    """Return what is known of what these rows cost here, a bench a kind of device."""
    found: dict[str, Bench] = {}
    for name in names:
        for each in caps.kept:
            if each.row == name and each.timings and void_because(each, (), caps) is None:
                device = str(each.device)
                bench = found.setdefault(device, Bench(device, each.made, (), {}))
                times = {timing.shape: timing.microseconds for timing in each.timings}
                rows = {**bench.rows, name: times}
                shapes = tuple(dict.fromkeys((*bench.shapes, *times)))
                found[device] = Bench(device, max(bench.made, each.made), shapes, rows)
    return list(found.values())


def bench_document(benches: Sequence[Bench], checks: Sequence[SelfCheck], caps: Capabilities) -> dict[str, Any]:
    """Return what `nsa-caps bench --json` prints."""
    return {
        **document_head("bench"),
        "devices": [{"device": bench.device, "made": bench.made, "microseconds": bench.rows} for bench in benches],
        "checks": [check.to_dict() for check in checks],
        "capabilities": caps.to_dict(),
    }


def bench_lines(benches: Sequence[Bench], checks: Sequence[SelfCheck]) -> Iterator[Line]:
    """Return a table a kind of device: microseconds, and how many times the shortest."""
    for check in checks:
        if check.verdict != "proven":
            yield ((f"{printable(check.row)}: {check.verdict}, not timed", "bad"),)
    for bench in benches:
        yield (f"on {printable(bench.device)}, {bench.made}, microseconds a call", "label"), ("", "")
        width = max(len(name) for name in bench.rows)
        for shape in bench.shapes:
            yield (("  " + printable(shape), ""),)
            for name, times in bench.rows.items():
                if shape in times:
                    ratio = times[shape] / bench.best(shape)
                    yield (f"    {name:<{width}} ", "row"), (f"{times[shape]:>12,.1f}  {ratio:.2f}x", "")
    if not benches:
        yield from indented("", "No row was timed: none is proven here.")


def draw_bench(benches: Sequence[Bench]) -> str:
    """Return the picture: a bar a row and shape, as long as it takes, the longest of a shape as wide as the page."""
    body, y = [], _MARGIN + 16
    for bench in benches:
        body.append(text_at(_MARGIN, y, f"Microseconds a call on {bench.device}, {bench.made}", "head"))
        y += _LINE + 8
        for shape in bench.shapes:
            body.append(text_at(_MARGIN, y + 12, shape, "strong"))
            y += _LINE
            times = {name: row[shape] for name, row in bench.rows.items() if shape in row}
            for name, time in times.items():
                body += _bar(name, time, max(times.values()), y)
                y += _BAR + _GAP
            y += _LINE
    words = "; ".join(
        f"{bench.device}, {shape}: "
        + ", ".join(f"{name} {row[shape]:,.1f}" for name, row in bench.rows.items() if shape in row)
        for bench in benches
        for shape in bench.shapes
    )
    title = "What each row costs on this machine, in microseconds a call"
    return picture(2 * _MARGIN + _LABEL + _WIDTH + 110, y + _MARGIN, title, printable(words), body)


def _bar(name: str, time: float, longest: float, y: int) -> Iterator[str]:
    width = max(2, round(_WIDTH * time / longest))
    yield "<g>"
    yield f"<title>{escaped(printable(f'{name}: {time:,.1f} us'))}</title>"
    yield text_at(_MARGIN, y + 15, name)
    yield f'<rect class="{fill_of(name)}" x="{_MARGIN + _LABEL}" y="{y}" width="{width}" height="{_BAR}" rx="4"/>'
    yield text_at(_MARGIN + _LABEL + width + 8, y + 15, f"{time:,.1f}")
    yield "</g>"
