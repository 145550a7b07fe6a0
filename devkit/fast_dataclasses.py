"""Dataclasses for what every command imports, at a tenth of the price.

``dataclasses.dataclass(frozen=True)`` compiles six methods for each class: half a millisecond, fifty times in the start
of ``devkit pr fetch``, a tenth of its time. Here the methods are written once, for all classes. To type checkers and to
``fields``, ``replace``, ``asdict`` and ``match`` these are dataclasses like others.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - what these are, said to type checkers

T = TypeVar("T")


def _make(cls: type[T] | None = None, /, *, frozen: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a dataclass: ``@dataclass``, ``@dataclass(frozen=True)``."""

    def make(cls: type[T]) -> type[T]:
        own = set(vars(cls))
        made = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        methods = {"__init__": _init, "__repr__": _repr, "__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            methods |= {"__setattr__": _set, "__delattr__": _delete}
        for name in methods.keys() - own:
            setattr(made, name, methods[name])
        return made

    return make if cls is None else make(cls)


if not TYPE_CHECKING:
    dataclass = _make


def _init(self: Any, /, *args: Any, **kwargs: Any) -> None:
    name = type(self).__qualname__
    given = dict(zip(self.__match_args__, args))  # noqa: B905 - counted below
    given.update(kwargs)
    if len(given) != len(args) + len(kwargs):
        raise TypeError(f"{name}() was given too much, or something twice: {args}, {kwargs}")
    values = vars(self)
    for field in self.__dataclass_fields__.values():
        if field.init and field.name in given:
            values[field.name] = given.pop(field.name)
        elif field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
        else:
            raise TypeError(f"{name}() lacks {field.name}")
    if given:
        raise TypeError(f"{name}() knows no {', '.join(given)}")
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _compared(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, field.name) for field in dataclasses.fields(record) if field.compare)


def _shown(record: Any) -> Iterator[str]:
    return (f"{field.name}={getattr(record, field.name)!r}" for field in dataclasses.fields(record) if field.repr)


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(_shown(self))})"


def _eq(self: Any, other: object) -> Any:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _set(self: Any, name: str, _value: Any) -> None:
    del self
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    del self
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
