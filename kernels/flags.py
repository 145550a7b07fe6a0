"""Settings that are flags of a command line too: a field's default, help and least value are said once, where it is."""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any

from .protocol import Refusal


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
    return [each for each in fields(kind) if "help" in each.metadata]


def spelled(name: str) -> str:
    """Return a field's name as one types it; ranks are given by their number on a machine."""
    return "--nproc" if name == "world_size" else f"--{name.replace('_', '-')}"


def check_least(settings: Any) -> None:
    """Refuse numbers that are smaller than they may be.

    Raises:
        Refusal: one is.
    """
    for each in flags_of(type(settings)):
        least, value = each.metadata["least"], getattr(settings, each.name)
        if least is not None and value is not None and value < least:
            name = spelled(each.name)
            raise Refusal(f"{name} is {value}", f"It counts from {least}.", f"{name} {least}")
