"""`dataclasses.dataclass(frozen=True)`, without the 10 ms that importing `dataclasses` costs an engine's start-up.

`dataclasses` brings `inspect`, and with it `ast`, `dis` and `tokenize`, and compiles six methods a class; here it is
one. A record means the same, and is a dataclass to type checkers and to whoever asks (`fields`, `replace`, `asdict`):
what those read is made by `dataclasses` itself when they first do. Not offered, as no record needs it: bases that are
dataclasses, `ClassVar` and `InitVar`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["dataclass", "field", "field_names", "is_record", "replace"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass, field, replace
else:

    class field:  # noqa: N801 stands for dataclasses.field
        """What is said of one field beside its type; keywords as those of `dataclasses.field`."""

        def __init__(self, **options: Any) -> None:
            self.options = options

    def dataclass(*, frozen: bool, kw_only: bool = False) -> Callable[[type], type]:
        """Return a decorator that makes a class a frozen dataclass."""
        if not frozen:
            raise TypeError("nsa_caps.frozen makes frozen dataclasses only")

        def make(cls: type) -> type:
            names = tuple(cls.__annotations__)
            defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
            cls.__dataclass_fields__ = _Fields(cls, defaults, kw_only=kw_only)
            cls.__match_args__ = () if kw_only else names
            cls.__init__ = _make_init(cls, names, defaults, kw_only=kw_only)
            for name, method in _METHODS.items():
                if name not in cls.__dict__:
                    setattr(cls, name, method)
            cls.__record_fields__ = names
            cls.__record_shown__ = tuple(
                name for name in names if name not in defaults or _options(defaults[name]).get("repr", True)
            )
            return cls

        return make

    def replace(record: Any, /, **changes: Any) -> Any:
        """Return a copy with some fields changed."""
        return type(record)(**{**vars(record), **changes})

    class _Fields:
        """`__dataclass_fields__`, by which a class is known as a dataclass; made at the first look."""

        def __init__(self, cls: type, defaults: dict[str, Any], *, kw_only: bool) -> None:
            self.cls, self.defaults, self.kw_only = cls, defaults, kw_only

        def __get__(self, instance: object, owner: type) -> dict[str, Any]:
            import dataclasses  # noqa: PLC0415 the import that this module spares a start-up

            defaults = {name: dataclasses.field(**_options(default)) for name, default in self.defaults.items()}
            body = {"__module__": self.cls.__module__, "__annotations__": self.cls.__annotations__, **defaults}
            twin = dataclasses.dataclass(frozen=True, kw_only=self.kw_only)(type(self.cls.__name__, (), body))
            self.cls.__dataclass_fields__ = twin.__dataclass_fields__
            return twin.__dataclass_fields__

    def _options(default: Any) -> dict[str, Any]:
        return default.options if isinstance(default, field) else {"default": default}

    def _make_init(cls: type, names: tuple[str, ...], defaults: dict[str, Any], *, kw_only: bool) -> Callable:
        """Compile `__init__`, so that Python itself tells what is wrong with a call."""
        scope: dict[str, Any] = {}
        parameters, values = ["self", *(["*"] if kw_only else [])], []
        for name in names:
            parameter = value = name
            if name in defaults:
                options = _options(defaults[name])
                make = options.get("default_factory")
                scope[f"_{name}"] = options.get("default", make)
                parameter = f"{name}=_{name}"
                if make is not None:
                    value = f"_{name}() if {name} is _{name} else {name}"
            parameters.append(parameter)
            values.append(f"{name}={value}")
        checked = "\n    self.__post_init__()" if "__post_init__" in cls.__dict__ else ""
        text = f"def __init__({', '.join(parameters)}):\n    self.__dict__.update({', '.join(values)}){checked}"
        exec(text, scope)  # noqa: S102 names of our own fields, as dataclasses does
        init = scope["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        init.__annotations__ = {**cls.__annotations__, "return": None}
        return init

    def _values(record: Any) -> tuple[Any, ...]:
        return tuple(vars(record).values())

    def _eq(self: Any, other: object) -> bool:
        return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented

    def _hash(self: Any) -> int:
        return hash(_values(self))

    def _repr(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__record_shown__)
        return f"{type(self).__qualname__}({shown})"

    def _refuse(self: Any, name: str, *_: object) -> None:
        from dataclasses import FrozenInstanceError  # noqa: PLC0415 as above

        raise FrozenInstanceError(f"a {type(self).__name__} is frozen: its {name!r} cannot be set or deleted")

    _METHODS = {
        "__eq__": _eq,
        "__hash__": _hash,
        "__repr__": _repr,
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__replace__": replace,
    }


def field_names(record: Any) -> tuple[str, ...]:
    """Return the names of a record's fields in order; it may be the class or one of its instances."""
    names: tuple[str, ...] = record.__record_fields__
    return names


def is_record(value: Any) -> bool:
    """Say whether this is one of this module's records, or the class of one."""
    return hasattr(value, "__record_fields__")
