"""The decision as what a fleet's own tools read: labels for Kubernetes, and a text file for Prometheus. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nsa_caps._version import __version__
from nsa_caps.policy.explain import is_best

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsa_caps.policy.decision import Decision

__all__ = ["nfd_labels", "prometheus"]


def nfd_labels(decision: Decision) -> str:
    """Return a file for node feature discovery's `features.d`, a label a line.

    Labels of a node: `nsa-caps.row`, `.page-size`, `.fingerprint`, `.platform`, `.engine` and `.best`. Where no row may
    be used the row is `none` and nothing is said of its pages.
    """
    return "\n".join(f"nsa-caps.{name}={_label(value)}" for name, value in _facts(decision))


def _facts(decision: Decision) -> Iterator[tuple[str, str]]:
    yield "row", decision.chosen or "none"
    if decision.chosen is not None:
        verdict = decision.verdict(decision.chosen)
        yield "page-size", str(verdict.page_size)
        yield "fingerprint", "" if verdict.format is None else verdict.format.fingerprint
    yield "platform", decision.caps.platform
    yield "engine", decision.caps.engine
    yield "best", str(is_best(decision)).lower()


def _label(value: str) -> str:
    """Return a value as Kubernetes takes one: at most 63 letters, digits, dashes, dots and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", value)[:63].strip("._-")


def prometheus(decision: Decision) -> str:
    """Return the decision in Prometheus's text format, as node exporter's textfile collector reads it."""
    info = {name.replace("-", "_"): value for name, value in _facts(decision)} | {"version": __version__}
    barred = {
        (verdict.row, reason.code): 1
        for verdict in decision.better_rows()
        if verdict.out_of_reach is None
        for reason in verdict.reasons
    }
    lines = [
        *_metric("layout_info", "The layout of the indexer's pages on this machine."),
        f"nsa_caps_layout_info{_labels(info)} 1",
        *_metric("usable", "Whether any row may be used."),
        f"nsa_caps_usable {int(decision.chosen is not None)}",
        *_metric("fallback", "Whether a better row of this platform is out."),
        f"nsa_caps_fallback {int(not is_best(decision))}",
        *_metric("reason", "What bars a better row."),
        *(f"nsa_caps_reason{_labels({'row': row, 'code': code})} 1" for row, code in barred),
    ]
    return "\n".join(lines)


def _metric(name: str, text: str) -> tuple[str, str]:
    return f"# HELP nsa_caps_{name} {text}", f"# TYPE nsa_caps_{name} gauge"


def _labels(values: dict[str, str]) -> str:
    escaped = {
        name: value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for name, value in values.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
