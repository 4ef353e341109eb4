"""What one evaluation carries: the machines, where control still is, what happened, and how much may yet be done."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nsa_caps.errors import NsaCapsError
from nsa_caps.probes.aiter.space import Choice, Opaque, Raised, Space, Sure, Thing, choice, text_of, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsa_caps.probes.aiter.values import Function, Where

__all__ = ["Catcher", "Event", "Run", "TooMuchError", "merged"]


class TooMuchError(NsaCapsError):
    """The source takes more steps, or nests deeper, than any real one does."""


class Event(NamedTuple):
    """Something that ends or marks a path: on the machines of `may` it may happen, on those of `must` it does.

    `kind` is `raise`, `launch`, `return`, `unaccounted` or `bound`.
    """

    kind: str
    may: int
    must: int
    detail: Any
    file: str
    line: int


@dataclass
class Catcher:
    """A `try` that runs, and the machines that came to its handlers."""

    errors: tuple[str, ...]
    may: int = 0
    must: int = 0

    def takes(self, error: str) -> bool:
        """Return whether a handler takes this error: Python's own by their bases, another as an `Exception`."""
        kind = _ERRORS.get(error, Exception)
        return error in self.errors or any(issubclass(kind, _ERRORS[name]) for name in self.errors if name in _ERRORS)


_ERRORS = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}


class Run:
    """One evaluation over a space."""

    def __init__(
        self,
        space: Space,
        modules: Any,
        call: Callable[[Run, Function, list[Any], dict[str, Any], Where], Any],
        steps: int = 60_000,
    ) -> None:
        self.space = space
        self.may = space.all
        self.must = space.all
        # Machines on which something may have raised: a branch that only may run leaves the others as they were.
        self.doubt = 0
        self.events: list[Event] = []
        self.catchers: list[Catcher] = []
        self.bundle: list[Any] = []
        self.steps = steps
        self.depth = 0
        self.calls = 0
        self.modules = modules
        self.call = call

    def step(self) -> None:
        """Count one step.

        Raises:
            TooMuchError: there are none left.
        """
        self.steps -= 1
        if self.steps < 0:
            raise TooMuchError("more steps than any aiter takes")

    def unaccounted(self, what: str, where: Where) -> Opaque:
        """Note what is not understood: from here on nothing is sure."""
        if self.may:
            self.events.append(Event("unaccounted", self.may, 0, what, *where))
        self.doubt |= self.may
        self.must = 0
        return Opaque(f"?{what}")

    def raises(self, mask: int, error: str, where: Where, *, sure: bool = True) -> None:
        """Note that the machines of a mask raise here, or may."""
        may, must = self.may & mask, self.must & mask if sure else 0
        for catcher in reversed(self.catchers):
            if catcher.takes(error):
                catcher.may |= may
                catcher.must |= must
                break
        else:
            if may:
                self.events.append(Event("raise", may, must, error, *where))
            self.doubt |= without(may, must)
        # Where it surely was raised, control is gone; where it may have been, nothing is sure any more.
        self.may = without(self.may, must)
        self.must = without(self.must, may)

    def within(self, mask: int, sure: int, act: Callable[[], Any]) -> Any:
        """Do something on the machines of `mask` alone, of which only those of `sure` are sure to come to it."""
        may, must, doubt = self.may, self.must, self.doubt
        self.may, self.must, self.doubt = may & mask, must & sure, 0
        value = act() if self.may else None
        unsure = without(without(must & mask, sure), self.doubt) & self.may
        self.must = without(must, mask) | self.must | unsure
        self.may |= without(may, mask)
        self.doubt |= doubt
        return value

    def settle(self, value: Any, where: Where) -> Any:
        """Take out of a value the machines on which it raises."""
        if isinstance(value, Raised):
            self.raises(self.may, value.error, where)
            return Opaque("raised")
        if isinstance(value, Choice) and value.holds(Raised):
            for mask, part in value.parts:
                if isinstance(part, Raised):
                    self.raises(mask, part.error, where)
            rest = [(mask, part) for mask, part in value.parts if not isinstance(part, Raised)]
            return choice(rest, value.text)
        return value

    def truth(self, value: Any) -> tuple[int, int, int]:
        """Return where a value counts as true, as false, and where that is not known."""
        if isinstance(value, Choice):
            true = false = unknown = 0
            for mask, part in value.parts:
                kind = _truth(part)
                if kind is None:
                    unknown |= mask
                elif kind:
                    true |= mask
                else:
                    false |= mask
            return true & self.may, false & self.may, unknown & self.may
        kind = _truth(value)
        return (0, 0, self.may) if kind is None else (self.may, 0, 0) if kind else (0, self.may, 0)


def _truth(value: Any) -> bool | None:
    if isinstance(value, Opaque):
        return value.truth if isinstance(value, Sure) else None
    if isinstance(value, Thing):
        return True
    return bool(value)


def merged(parts: list[tuple[int, Any]], unknown: int) -> Any:
    """Return one value of what branches left, each on its machines; `unknown` are those where either may have run."""
    texts = sorted({text_of(value) for _, value in parts})
    text = "|".join(texts)
    if unknown:
        first, *rest = (value for _, value in parts)
        same = all(
            value is first or (type(value) is type(first) and text_of(value) == text_of(first)) for value in rest
        )
        return first if same else Opaque(text)
    flat: list[tuple[int, Any]] = []
    for mask, value in parts:
        if isinstance(value, Choice):
            flat += [(here, inner) for part, inner in value.parts if (here := mask & part)]
        else:
            flat.append((mask, value))
    return choice(flat, text)
