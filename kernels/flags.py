"""Settings that are flags of a command line too: a field's default, help and least value are said once, where it is."""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import TYPE_CHECKING, Any

from .protocol import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection


def flag(default: Any, text: str, *, metavar: str = "", least: float | None = None) -> Any:
    """Return a dataclass's field that is a flag.

    Args:
        default: its value where the flag is not given.
        text: its line of help.
        metavar: how help shows its value.
        least: the smallest value that it takes, for ``check_least``.
    """
    return field(default=default, metadata={"help": text, "metavar": metavar or None, "least": least})


def flags_of(kind: Any) -> list[Field[Any]]:
    """Return the fields of a dataclass that are flags, in order."""
    return [setting for setting in fields(kind) if "help" in setting.metadata]


def words_of(settings: Any, names: Collection[str]) -> tuple[str, ...]:
    """Return the words of a command line that give fields their values; those that have their defaults need none."""
    words: list[str] = []
    for setting in flags_of(type(settings)):
        value = getattr(settings, setting.name)
        if setting.name not in names or value == setting.default:
            continue
        if isinstance(value, bool):
            words.append(spelled(setting.name) if value else f"--no-{spelled(setting.name)[2:]}")
        else:
            words += [spelled(setting.name), f"{value:g}" if isinstance(value, float) else str(value)]
    return tuple(words)


def spelled(name: str) -> str:
    """Return a field's name as one types it; ranks are given by their number on a machine."""
    return "--nproc" if name == "world_size" else f"--{name.replace('_', '-')}"


def check_least(settings: Any) -> None:
    """Refuse numbers that are smaller than they may be.

    Raises:
        Refusal: one is.
    """
    for setting in flags_of(type(settings)):
        least, value = setting.metadata["least"], getattr(settings, setting.name)
        if least is not None and value is not None and value < least:
            name = spelled(setting.name)
            raise Refusal(f"{name} is {value}", f"It counts from {least}.", f"{name} {least}")
