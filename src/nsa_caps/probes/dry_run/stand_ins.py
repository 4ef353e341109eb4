"""What stands in for torch, Triton and the GPU in a dry run: it can be used, and it decides nothing.

A question whose answer would decide something (is it true, equal, longer, None) is put down as a doubt: what then comes
of the run says nothing about a real machine. What a gate may rightly ask of is real: sizes, dtypes, Triton's version.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Anything", "Doubts", "Dtype", "StandIn", "Tensor", "is_same", "lacks", "leaves_alone"]

_MOST = 64
_LONGEST = 200
_ERRORS = ("Error", "Exception")


class Doubts:
    """The questions that nobody here can answer, since the last `clear`."""

    asked: list[str] = []  # noqa: RUF012  one process has one dry run
    answers: tuple[bool, ...] = ()
    given = 0

    @classmethod
    def add(cls, what: str) -> None:
        """Put down a question that has no answer here."""
        if len(cls.asked) < _MOST:
            cls.asked.append(what)

    @classmethod
    def answer(cls, what: str) -> bool:
        """Answer a question of yes or no: as `answers` has it, else with no, and it is put down."""
        cls.given += 1
        if cls.given <= len(cls.answers):
            return cls.answers[cls.given - 1]
        cls.add(what)
        return False

    @classmethod
    def taken(cls) -> list[str]:
        """Return the questions, and begin anew."""
        taken, cls.asked = cls.asked, []
        return taken


def lacks(stand_in: object, name: str) -> AttributeError:
    """Return what to raise for a name that a stand-in lacks; the real one may have it."""
    return AttributeError(name, name=name, obj=stand_in)


class Anything:
    """An object of which nothing is known but its name."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "stands_for", name[:_LONGEST])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise lacks(self, name)
        if name.endswith(_ERRORS):
            return type(name, (Exception,), {})
        return Anything(f"{self.stands_for}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> Any:
        """Return another one: what a call gives is not known either."""
        return Anything(f"{self.stands_for}()")

    def __getitem__(self, _: object) -> Anything:
        return Anything(f"{self.stands_for}[]")

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        return ()

    def __instancecheck__(self, instance: object) -> bool:
        return self._asked(f"isinstance({_text(instance)})")

    def __subclasscheck__(self, _: object) -> bool:
        return self._asked("issubclass")

    def __iter__(self) -> Iterator[Any]:
        Doubts.add(f"items of {self.stands_for}")
        return iter(())

    def __hash__(self) -> int:
        Doubts.add(f"a look-up of {self.stands_for}")
        return hash(self.stands_for)

    def _asked(self, what: str) -> bool:
        return Doubts.answer(f"{what} of {self.stands_for}")

    def __bool__(self) -> bool:
        return self._asked("truth")

    def __len__(self) -> int:
        Doubts.add(f"length of {self.stands_for}")
        return 0

    def __eq__(self, other: object) -> bool:
        return self is other or self._asked("==")

    def __contains__(self, _: object) -> bool:
        return self._asked("in")

    def __repr__(self) -> str:
        Doubts.add(f"text of {self.stands_for}")
        return str(self.stands_for)

    __str__ = __repr__


def _question(name: str) -> Callable[..., bool]:
    def ask(self: Anything, *_: object) -> bool:
        return Doubts.answer(f"{name} of {self.stands_for}")

    return ask


def _number(name: str) -> Callable[..., Any]:
    def ask(self: Anything, *_: object) -> Any:
        Doubts.add(f"the number {self.stands_for}")
        return 1.0 if name == "__float__" else 1

    return ask


def _sum(name: str) -> Callable[..., Any]:
    def count(self: Anything, *others: object) -> Any:
        return Anything(f"{self.stands_for}.{name}({','.join(map(_text, others))})")

    return count


def _text(value: object) -> str:
    if isinstance(value, Anything):
        return str(value.stands_for)
    return value.name if isinstance(value, (Tensor, Dtype)) else repr(value)[:_LONGEST]


for _name in ("__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Anything, _name, _question(_name))
for _name in ("__index__", "__int__", "__float__"):
    setattr(Anything, _name, _number(_name))
for _name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "lshift", "rshift", "and", "or", "xor"):
    setattr(Anything, f"__{_name}__", _sum(_name))
    setattr(Anything, f"__r{_name}__", _sum(f"r{_name}"))
for _name in ("__neg__", "__abs__", "__invert__", "__ceil__", "__floor__", "__round__"):
    setattr(Anything, _name, _sum(_name))


def is_same(left: object, right: object) -> bool:
    """Python's `is`, which no object can answer for itself."""
    if left is not right and (isinstance(left, Anything) or isinstance(right, Anything)):
        return Doubts.answer(f"{_text(left)} is {_text(right)}")
    return left is right


class StandIn(ModuleType):
    """A module of which a few names are known; every other one is there, and nothing is known of it."""

    def __init__(self, name: str, /, **values: object) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        vars(self).update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise lacks(self, name)
        return _named(self.__name__, name)


@cache
def _named(module: str, name: str) -> Any:
    """Return what a stand-in module has under a name: a kernel's annotations alone ask for hundreds."""
    return type(name, (Exception,), {}) if name.endswith(_ERRORS) else Anything(f"{module}.{name}")


def leaves_alone(*given: Any, **_: object) -> Any:
    """Stand in for a decorator, with arguments or without, that changes nothing that decides."""
    return given[0] if len(given) == 1 and (inspect.isroutine(given[0]) or hasattr(given[0], "fn")) else leaves_alone


class Dtype:
    """One of torch's dtypes, or aiter's fp8."""

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.itemsize = size

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dtype) and "fp8" in (self.name, other.name) and other.name.startswith(("float8", "fp8")):
            # Which of torch's it is depends on the arch, and is asked apart.
            return self.name == other.name or Doubts.answer(f"{self.name} == {other.name}")
        return isinstance(other, Dtype) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


class Tensor:
    """Sizes, a dtype, and which bytes of which argument it shows."""

    def __init__(
        self, name: str, shape: Sequence[Any], dtype: Dtype, strides: Sequence[Any] = (), start: Any = 0
    ) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.dtype = dtype
        self.start = start
        self.device = Anything(f"{name}.device")
        self.is_cuda = True
        self.strides = tuple(strides) or _contiguous(self.shape)
        self.ndim = len(self.shape)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise lacks(self, name)
        return Anything(f"{self.name}.{name}")

    def __repr__(self) -> str:
        Doubts.add(f"text of {self.name}")
        return self.name

    def __bool__(self) -> bool:
        Doubts.add(f"truth of {self.name}")
        return True

    def size(self, dim: int | None = None) -> Any:
        """Return its sizes, or one of them."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return how many dimensions it has."""
        return len(self.shape)

    def stride(self, dim: int | None = None) -> Any:
        """Return its strides, or one of them."""
        return self.strides if dim is None else self.strides[dim]

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        plain = all(each is Ellipsis or each == slice(None) for each in keys[:-1])
        cut = keys[-1] if keys else None
        if not plain or not isinstance(cut, slice) or cut.step is not None:
            return Anything(f"{self.name}[]")
        size, first = self.shape[-1], cut.start or 0
        last = size if cut.stop is None else cut.stop
        start = self.start + first * self.dtype.itemsize
        return Tensor(self.name, (*self.shape[:-1], last - first), self.dtype, self.strides, start)

    def view(self, *shape: Any) -> Any:
        """Return the same bytes in another shape or dtype."""
        if len(shape) == 1 and isinstance(shape[0], Dtype):
            dtype = shape[0]
            factor = self.dtype.itemsize, dtype.itemsize
            scaled = [_scaled(each, *factor) for each in self.strides[:-1]]
            sizes = (*self.shape[:-1], _scaled(self.shape[-1], *factor))
            return Tensor(self.name, sizes, dtype, (*scaled, self.strides[-1]), self.start)
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        sizes = tuple(
            Anything(f"{self.name}.blocks") if isinstance(each, int) and each == -1 else each for each in sizes
        )
        inner = _contiguous(sizes)
        # The rows of a slice are as far apart as they were.
        row = self.strides[0] if len(self.shape) == 2 else inner[0]
        return Tensor(self.name, sizes, self.dtype, (row, *inner[1:]), self.start)

    reshape = view

    def contiguous(self) -> Tensor:
        """Return it: what an engine hands is."""
        return self


def _scaled(count: Any, old: int, new: int) -> Any:
    return count if old == new else count * old // new


def _contiguous(shape: Sequence[Any]) -> tuple[Any, ...]:
    strides: list[Any] = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, size if isinstance(strides[0], int) and strides[0] == 1 else size * strides[0])
    return tuple(strides)
