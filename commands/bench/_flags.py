"""Flags from a configuration: each field of ``devkit.bench.options`` becomes a flag, its default and its help."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from devkit.bench.options import flag_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.bench.options import Flag

Options = TypeVar("Options")


def flags_from(configuration: type[Options]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Turn ``command(ctx, options, …)`` into one with a flag for each field of ``options``, before its own flags."""
    types = get_type_hints(configuration)
    names = [field.name for field in fields(configuration)]  # type: ignore[arg-type]  # a dataclass, by contract

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(command, eval_str=True)
        context, _, *own = signature.parameters.values()

        def with_flags(**values: Any) -> int:
            options = configuration(**{name: values.pop(name) for name in names})
            return command(values.pop(context.name), options, **values)

        parameters = [
            context,
            *(
                inspect.Parameter(field.name, context.kind, default=field.default, annotation=annotation)
                for field in fields(configuration)  # type: ignore[arg-type]
                for annotation in [Annotated[types[field.name], _typer_option(flag_of(field))]]
            ),
            *own,
        ]
        with_flags.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_flags

    return decorate


def _typer_option(flag: Flag) -> Any:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{word}" for word in flag.words if word.startswith(last)]

    return typer.Option(
        flag.name,
        metavar=flag.metavar,
        min=flag.least,
        max=flag.most,
        help=flag.help,
        autocompletion=complete if flag.words else None,
    )
