"""Flags from dataclasses: a command's parameter whose annotation is one stands for its fields."""

from __future__ import annotations

import functools
import inspect
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from devkit.kernels.flags import flags_of, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from dataclasses import Field


def configured(**only: Collection[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a command: each parameter that is a dataclass becomes its flags, and is given whole.

    Args:
        only: by parameter, the fields that are flags of this command; all by default. The others keep their defaults.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function, eval_str=True)
        kinds: dict[str, Any] = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if is_dataclass(parameter.annotation)
        }
        flags = {name: parameters(kind, only.get(name)) for name, kind in kinds.items()}

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            for name, kind in kinds.items():
                values[name] = kind(**{flag.name: values.pop(flag.name) for flag in flags[name]})
            return function(**values)

        expanded: list[inspect.Parameter] = []
        for name, parameter in signature.parameters.items():
            expanded += flags.get(name, [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)])
        command.__signature__ = signature.replace(parameters=expanded)  # type: ignore[attr-defined]  # for inspect
        return command

    return decorate


def parameters(kind: Any, only: Collection[str] | None = None) -> list[inspect.Parameter]:
    """Return the parameters that Typer makes flags of, for the fields of a dataclass."""
    types = get_type_hints(kind)
    return [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.default,
            annotation=Annotated[
                types[option.name],
                typer.Option(_declared(option), metavar=option.metadata["metavar"], help=option.metadata["help"]),
            ],
        )
        for option in flags_of(kind)
        if only is None or option.name in only
    ]


def _declared(option: Field[Any]) -> str:
    """Return how a flag is typed; one that is on by default has a word that turns it off."""
    name = spelled(option.name)
    return f"{name}/--no-{name[2:]}" if option.default is True else name


def given(ctx: typer.Context) -> frozenset[str]:
    """Return the names of the parameters that the command line gives."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")
