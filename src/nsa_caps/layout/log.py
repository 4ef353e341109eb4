"""What an engine's log says of a layout: one line, and a warning where it is a fallback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nsa_caps.policy.explain import is_best

if TYPE_CHECKING:
    from nsa_caps.layout.layout import IndexerLayout

__all__ = ["log_layout"]


def log_layout(layout: IndexerLayout) -> None:
    """Log a layout under `nsa_caps`: at INFO, at WARNING where a better row is out, and where results go wrong."""
    # Whoever configured logging has imported it; else nobody listens, and it takes longer than the decision.
    if "logging" not in sys.modules:
        return
    from logging import INFO, WARNING, getLogger  # noqa: PLC0415 as above

    logger, decision = getLogger("nsa_caps"), layout.decision
    if is_best(decision):
        logger.log(INFO, "%s", layout)
    else:
        fix = decision.best_fix()
        steps = "; ".join(step.fix or "" for step in fix.steps) if fix else "none: the report says why"
        logger.log(WARNING, "%s; fix: %s", layout, steps)
    for warning in decision.warnings:
        logger.log(WARNING, "%s: %s", layout.row, warning)
