"""A third party's row, so wrapped that nothing its functions do reaches the policy: they answer, or it is out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from nsa_caps.base.serial import field_names
from nsa_caps.errors import NsaCapsError
from nsa_caps.pages import Order
from nsa_caps.policy.changes import Change
from nsa_caps.policy.reasons import Reason
from nsa_caps.policy.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nsa_caps.capabilities.records import Capabilities
    from nsa_caps.policy.caveats import Caveat, Warn
    from nsa_caps.policy.request import Request
    from nsa_caps.policy.requirements.common import Requirement
    from nsa_caps.probes.timeout import TimeLimit

__all__ = ["RowError", "checked_row", "guarded_row"]

T = TypeVar("T")


class RowError(NsaCapsError, TypeError):
    """What an entry point names, or one of its functions returns, is not what a row is made of."""


def checked_row(loaded: Any) -> Row:
    """Return a row, whatever subclass or proxy of one was given.

    Raises:
        RowError: a field is not of its type.
        Exception: whatever reading the fields raises.
    """
    if not isinstance(loaded, Row):
        raise RowError(f"needs a Row, holds {type(loaded).__qualname__}")
    row = Row(**{name: getattr(loaded, name) for name in field_names(Row)})
    for name in ("name", "summary", "kernels", "logits_kernels"):
        value = getattr(row, name)
        _expect(isinstance(value, str) and value.isprintable() and bool(value.strip()), name, "text", value)
    _expect(type(row.page_size) is int and row.page_size > 0, "page_size", "a whole number above 0", row.page_size)
    _expect(row.order in get_args(Order), "order", f"one of {', '.join(get_args(Order))}", row.order)
    _expect(callable(row.logits_options), "logits_options", "a function", row.logits_options)
    _expect(row.variant is None or callable(row.variant), "variant", "a function or None", row.variant)
    for name in ("requirements", "caveats", "warnings"):
        value = getattr(row, name)
        _expect(isinstance(value, tuple) and all(map(callable, value)), name, "a tuple of functions", value)
    return row


def _expect(fits: bool, name: str, needed: str, value: object) -> None:
    if not fits:
        raise RowError(f"{name} needs {needed}, holds {value!r:.60}")


def guarded_row(row: Row, source: str, limit: TimeLimit) -> Row:
    """Return the row with its functions waited for, checked, and their failures told.

    Args:
        row: a row whose fields are of their types.
        source: where it comes from, for the reason of a failure.
        limit: how long its functions are waited for; a call that ends costs none of it.
    """

    def call(function: Callable[[], T]) -> tuple[T | None, str | None]:
        return limit.call(function, charged=False)

    def failed(problem: str) -> Reason:
        return Reason("plugin.failed", "unknown", problem, "a row that answers", source)

    def guarded_requirement(requirement: Requirement) -> Requirement:
        def check(caps: Capabilities, request: Request) -> Reason | None:
            reason, problem = call(lambda: _checked_reason(requirement(caps, request)))
            return reason if problem is None else failed(problem)

        return check

    def told(text: str | None, problem: str | None, what: str) -> str | None:
        return text if problem is None else f"its own {what} failed: {problem} ({source})"

    def guarded_caveat(caveat: Caveat) -> Caveat:
        return lambda caps: told(*call(lambda: _checked_text(caveat(caps))), "caveat")

    def guarded_warning(warning: Warn) -> Warn:
        return lambda caps, page_size: told(*call(lambda: _checked_text(warning(caps, page_size))), "warning")

    # Once a page size, so that the options of a row that was found to have some are those.
    @cache
    def options(page_size: int) -> tuple[Mapping[str, Any] | None, str | None]:
        return call(lambda: _checked_options(row.logits_options(page_size)))

    def has_options(_: Capabilities, request: Request) -> Reason | None:
        _options, problem = options(row.page_size if request.page_size is None else request.page_size)
        return None if problem is None else failed(f"logits_options: {problem}")

    return replace(
        row,
        requirements=(*map(guarded_requirement, row.requirements), has_options),
        caveats=tuple(map(guarded_caveat, row.caveats)),
        warnings=tuple(map(guarded_warning, row.warnings)),
        variant=None if row.variant is None else guarded_caveat(row.variant),
        logits_options=lambda page_size: options(page_size)[0] or {},
    )


def _checked_reason(answer: Any) -> Reason | None:
    if answer is None:
        return None
    if not isinstance(answer, Reason):
        raise RowError(f"a requirement needs to return None or a Reason, returned {answer!r:.60}")
    reason = Reason(**{name: getattr(answer, name) for name in field_names(Reason)})
    for name in ("code", "observed", "required"):
        _expect(isinstance(getattr(reason, name), str), name, "text", getattr(reason, name))
    _expect(reason.verdict in ("unmet", "unknown"), "verdict", "'unmet' or 'unknown'", reason.verdict)
    _expect(reason.source is None or isinstance(reason.source, str), "source", "text or None", reason.source)
    changes = reason.changes
    _expect(all(isinstance(change, Change) for change in changes), "changes", "a tuple of Change", changes)
    return reason


def _checked_text(answer: Any) -> str | None:
    _expect(answer is None or isinstance(answer, str), "a caveat", "text or None", answer)
    return None if answer is None else str(answer)


def _checked_options(answer: Any) -> Mapping[str, Any]:
    options = dict(answer)
    _expect(all(isinstance(key, str) for key in options), "its keys", "texts", list(options))
    return options
