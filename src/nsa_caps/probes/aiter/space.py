"""Many machines at once: a set of them is a bit mask, and a value that differs from machine to machine a `Choice`.

A space is the product of a few dimensions (Triton's version, the arch, the page size, …), each with the values that can
make a difference to the source at hand: every constant that it compares with, and what lies between. Evaluating an
expression once over the space is evaluating it on each machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = [
    "Choice", "Opaque", "Raised", "Space", "Sure", "Thing", "choice", "is_known", "joined", "kept", "lifted",
    "parts_of", "text_of", "without",
]  # fmt: skip

_MOST_PARTS = 2_000
_LONGEST_TEXT = 600
# Beyond these nothing is computed: a source that multiplies or doubles for ever takes no more than its steps.
_LONGEST_VALUE, _MOST_BITS = 5_000, 1_000
# What holds nothing, and what holds others.
_PLAIN = (str, int, float, type(None))
_HOLDERS = (tuple, list, set, frozenset, dict)


class Opaque:
    """A value of which nothing is known but where it came from: a tensor, an object of torch, what a call gave.

    Attributes:
        text: how it was made, with values in the place of local names, so that a renamed local changes nothing.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…{len(text)}"


class Sure(Opaque):
    """A value of which only that is known whether it counts as true."""

    __slots__ = ("truth",)

    def __init__(self, text: str, *, truth: bool) -> None:
        super().__init__(text)
        self.truth = truth


class Thing:
    """A function, a module or a promise of one: what is no plain value and still known."""

    __slots__ = ()
    text: str


class Raised:
    """In the place of a value: evaluating it raises."""

    __slots__ = ("error",)

    def __init__(self, error: str) -> None:
        self.error = error


class Choice:
    """A value that differs between machines.

    Attributes:
        parts: masks that do not overlap, each with its value.
        text: how it was made.
    """

    __slots__ = ("_kinds", "parts", "text")

    def __init__(self, parts: tuple[tuple[int, Any], ...], text: str) -> None:
        self.parts = parts
        self.text = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…{len(text)}"
        # Asked for whenever the value is met.
        self._kinds = {type(part) for _, part in parts}

    def holds(self, kinds: type | tuple[type, ...]) -> bool:
        """Return whether one of the values is of a class, or of one of several."""
        return any(issubclass(each, kinds) for each in self._kinds)


class Space:
    """The product of some dimensions.

    Attributes:
        dimensions: the values of each, by name.
        all: the mask of every machine.
    """

    def __init__(self, dimensions: Mapping[str, Sequence[Any]]) -> None:
        self.dimensions = {name: tuple(values) for name, values in dimensions.items()}
        self._masks: dict[str, tuple[int, ...]] = {}
        count = 1
        strides: dict[str, int] = {}
        for name, values in self.dimensions.items():
            strides[name] = count
            count *= len(values)
        self.all = (1 << count) - 1
        for name, values in self.dimensions.items():
            stride, size = strides[name], len(values)
            first = _repeated((1 << stride) - 1, stride * size, count)
            self._masks[name] = tuple(first << at * stride for at in range(size))

    def choice(self, name: str, text: str | None = None) -> Any:
        """Return the value of a dimension."""
        return choice(zip(self._masks[name], self.dimensions[name], strict=True), text or name)

    def has(self, name: str, value: object) -> int:
        """Return the mask of the machines with this value of a dimension."""
        return self.where(name, lambda each: each == value)

    def where(self, name: str, takes: Callable[[Any], bool]) -> int:
        """Return the mask of the machines whose value of a dimension `takes` accepts."""
        mask = 0
        for part, value in zip(self._masks[name], self.dimensions[name], strict=True):
            if takes(value):
                mask |= part
        return mask


def _repeated(block: int, period: int, length: int) -> int:
    """Return a mask with a block at the begin of every period."""
    mask = block
    while period < length:
        mask |= mask << period
        period *= 2
    return mask & ((1 << length) - 1)


def without(mask: int, other: int) -> int:
    """Return the machines of a mask that another has not: `mask & ~other` in a fifth of its time."""
    return mask ^ (mask & other)


def choice(parts: Iterable[tuple[int, Any]], text: str) -> Any:
    """Return one value of parts with masks that do not overlap; equal ones are joined."""
    alike: dict[Any, list[Any]] = {}
    for mask, value in parts:
        if not mask:
            continue
        key = _key(value)
        if key in alike:
            alike[key][0] |= mask
        else:
            alike[key] = [mask, value]
    if len(alike) == 1:
        ((_, value),) = alike.values()
        return value
    return Choice(tuple((mask, value) for mask, value in alike.values()), text)


def _key(value: Any) -> Any:
    if isinstance(value, Opaque):
        return (type(value), value.text)
    if isinstance(value, _PLAIN):
        return (type(value), value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    # What is equal need not be alike: versions 3.5 and 3.5.0, and tuples of 1 and of True.
    return (type(value), value, repr(value))


def parts_of(value: Any, live: int) -> Iterable[tuple[int, Any]]:
    """Return the parts of a value on the machines of a mask."""
    if isinstance(value, Choice):
        return [(here, part) for mask, part in value.parts if (here := mask & live)]
    return [(live, value)]


def lifted(call: Callable[..., Any], arguments: Sequence[Any], live: int, text: str) -> Any:
    """Return what a pure function gives, machine by machine.

    An argument that is not known makes the result not known; an error of the function is `Raised` in its place.
    """
    rows: list[tuple[int, tuple[Any, ...]]] = [(live, ())]
    for argument in arguments:
        whole = _whole(argument, live)
        if not isinstance(whole, Choice):
            rows = [(mask, (*row, whole)) for mask, row in rows]
            continue
        rows = [(here, (*row, value)) for mask, row in rows for part, value in whole.parts if (here := mask & part)]
        if len(rows) > _MOST_PARTS:
            return Opaque(text)
    return choice([(mask, _applied(call, row, text)) for mask, row in rows], text)


def _whole(value: Any, live: int) -> Any:
    """Return a value of which no part holds what differs between machines: a tuple of choices is a choice of tuples."""
    if isinstance(value, Choice):
        if not value.holds(_HOLDERS):
            return value
        parts = [(mask & live, _whole(part, mask)) for mask, part in value.parts]
        return joined(Choice(tuple(parts), value.text), value.text)
    if not isinstance(value, _HOLDERS):
        return value
    inner = list(value.values()) if isinstance(value, dict) else list(value)
    if all(isinstance(each, _PLAIN) for each in inner):
        return value
    return lifted(_maker(value), inner, live, text_of(value))


def _maker(value: Any) -> Callable[..., Any]:
    if isinstance(value, dict):
        return lambda *each: {key: each[at] for at, key in enumerate(value)}
    return lambda *each: type(value)(each)


def _applied(call: Callable[..., Any], row: tuple[Any, ...], text: str) -> Any:
    # Asked for every row: one loop takes half the time of three `any`.
    computed = True
    for value in row:
        if isinstance(value, (str, tuple, list)):
            computed = computed and len(value) <= _LONGEST_VALUE
        elif isinstance(value, Raised):
            return value
        elif isinstance(value, (Opaque, Thing)):
            computed = False
    if not computed:
        return Opaque(text)
    try:
        value = call(*row)
    except Exception as error:  # noqa: BLE001 - what Python raises there is the value
        return Raised(type(error).__name__)
    return Opaque(text) if isinstance(value, int) and value.bit_length() > _MOST_BITS else value


def text_of(value: Any) -> str:
    """Return how a value was made."""
    if isinstance(value, str):
        return repr(value)[:_LONGEST_TEXT]
    if isinstance(value, (Choice, Opaque)):
        return value.text
    if isinstance(value, (tuple, list)):
        inner = ",".join(map(text_of, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{text_of(key)}:{text_of(inner)}" for key, inner in value.items()) + "}"
    text = getattr(value, "text", None)
    if isinstance(text, str):
        return text
    return repr(value)[:_LONGEST_TEXT]


def is_known(value: Any) -> bool:
    """Return whether a value holds nothing that is not known."""
    if isinstance(value, (Opaque, Thing)):
        return False
    if isinstance(value, Choice):
        return all(is_known(part) for _, part in value.parts)
    if isinstance(value, (tuple, list, set, frozenset)):
        return all(map(is_known, value))
    if isinstance(value, dict):
        return all(map(is_known, value.values()))
    return True


def kept(value: Any, *, fresh: bool) -> Any:
    """Return a value that is kept in a second place: what can be changed through two names is not followed."""
    return value if fresh or not _can_change(value) else Opaque(f"alias of {text_of(value)}")


def _can_change(value: Any) -> bool:
    if isinstance(value, Choice):
        return any(_can_change(part) for _, part in value.parts)
    return isinstance(value, (list, dict)) or (isinstance(value, tuple) and any(map(_can_change, value)))


def joined(value: Any, text: str) -> Any:
    """Return a choice among choices as one choice."""
    if not isinstance(value, Choice):
        return value
    parts: list[tuple[int, Any]] = []
    for mask, part in value.parts:
        inner = part.parts if isinstance(part, Choice) else [(mask, part)]
        parts += [(mask & each, found) for each, found in inner]
    return choice(parts, text)
