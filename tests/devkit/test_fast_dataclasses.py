"""Quick dataclasses: what they do is what the standard library's do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from devkit import fast_dataclasses

if TYPE_CHECKING:
    from collections.abc import Callable


@fast_dataclasses.dataclass(frozen=True)
class Point:
    """A record that pickle finds by its name."""

    x: int
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", compare=False, repr=False)

    @cached_property
    def double(self) -> int:
        return 2 * self.x


@dataclasses.dataclass(frozen=True)
class Peer:
    """The standard library's of the same shape."""

    x: int
    tags: list[str] = field(default_factory=list)
    note: str = field(default="", compare=False, repr=False)


CALLS: tuple[Callable[[Any], Any], ...] = (
    lambda cls: cls(1).tags,
    lambda cls: cls(1, ["a"], "b").note,
    lambda cls: cls(x=1, note="b").note,
    lambda cls: repr(cls(1, ["a"], "b")).replace(cls.__name__, "Point"),
    lambda cls: cls(1, note="b") == cls(1),
    lambda cls: cls(1) == cls(2),
    lambda cls: cls(1) == (1, [], ""),
    lambda cls: dataclasses.asdict(cls(1, ["a"])),
    lambda cls: dataclasses.replace(cls(1), x=3).x,
    lambda cls: hash(cls(1, ())) == hash(cls(1, (), "b")),
    lambda cls: [each.name for each in dataclasses.fields(cls)],
    lambda cls: cls.__match_args__,
    lambda cls: vars(copy.copy(cls(1, ["a"]))),
    lambda cls: vars(pickle.loads(pickle.dumps(cls(1, ["a"])))),  # noqa: S301 - our own bytes
    lambda cls: cls(),
    lambda cls: cls(1, [], "", 4),
    lambda cls: cls(1, x=1),
    lambda cls: cls(1, y=1),
    lambda cls: setattr(cls(1), "x", 2),
    lambda cls: delattr(cls(1), "x"),
    lambda cls: hash(cls(1, [])),
)


@pytest.mark.parametrize("call", CALLS)
def test_they_do_what_dataclasses_do(call: Callable[[Any], Any]) -> None:
    try:
        expected = call(Peer)
    except (TypeError, dataclasses.FrozenInstanceError) as error:
        with pytest.raises(type(error)):
            call(Point)
    else:
        assert call(Point) == expected


def test_one_that_is_not_frozen_changes_and_has_no_hash() -> None:
    @fast_dataclasses.dataclass
    class Count:
        total: int = 0

        def __post_init__(self) -> None:
            self.total += 1

    count = Count(1)
    count.total += 1
    assert count == Count(2)
    with pytest.raises(TypeError):
        hash(count)


def test_methods_of_the_class_and_what_it_inherits_stay() -> None:
    @fast_dataclasses.dataclass(frozen=True)
    class Named(Point):
        name: str = ""

        def __repr__(self) -> str:
            return self.name

    assert repr(Named(1, name="n")) == "n"
    assert Named(4).double == 8
    assert Named(1) != Point(1)
