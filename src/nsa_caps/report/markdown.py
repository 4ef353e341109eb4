"""A report for an issue: what is used, the machine at a glance, the whole report, and the snapshot, folded. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsa_caps._version import __version__
from nsa_caps.base.lines import plain, printable
from nsa_caps.capabilities.system import system_of
from nsa_caps.policy.explain import note_lines, report_lines, short_headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.policy.decision import Decision

__all__ = ["markdown"]


def markdown(decision: Decision) -> str:
    """Return the report as GitHub's Markdown."""
    report = plain([*report_lines(decision), *note_lines(decision.caps.notes)])
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in _glance(decision))
    snapshot = decision.caps.to_json()
    return (
        f"### nsa-caps {__version__}: {short_headline(decision)}\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        f"{_fenced(report, 'text')}\n\n"
        f"<details><summary>Snapshot, for <code>nsa-caps --from FILE</code></summary>\n\n"
        f"{_fenced(snapshot, 'json')}\n\n</details>"
    )


def _glance(decision: Decision) -> Iterator[tuple[str, str]]:
    """Return what people ask first."""
    caps, system = decision.caps, system_of(decision.caps)
    unknown = "not known"
    gpus = [f"{system.gpus.count(gpu)} x {gpu}" for gpu in dict.fromkeys(system.gpus)]
    archs = [device.arch for device in caps.devices or ()]
    yield "system", f"{system.os or unknown}, kernel {system.kernel or unknown}"
    yield "Python", f"{system.python_version or unknown} {system.python or ''}"
    yield "GPUs", ", ".join(gpus) or unknown
    seen = ", ".join(f"{archs.count(arch)} x {arch}" for arch in caps.archs or ())
    yield "visible", seen or ("none" if caps.devices == () else unknown)
    yield "driver", system.driver or unknown
    yield "ROCm or CUDA", ", ".join(filter(None, (system.runtime, caps.platform_source))) or unknown
    yield "engine", f"{caps.engine} {caps.engine_release or '(not installed here)'}"
    for package in caps.packages:
        yield package.name, package.version or package.state
    codes = {f"{verdict.row}: {reason.code}" for verdict in decision.better_rows() for reason in verdict.reasons
        if verdict.out_of_reach is None}  # fmt: skip
    yield "reasons", ", ".join(sorted(codes)) or "none: the best row of this platform"


def _cell(text: str) -> str:
    # A pipe ends a cell, and what looks like a tag or a link is none.
    return re.sub(r"([|<>\\`*_\[\]@#])", r"\\\1", printable(text).strip())


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
