"""A command's module as a Typer command, with the flags that all of them share."""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import typer
from typer._click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup

from devkit.commands._cli import tree

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.commands._cli.tree import Node

LINE_OF_HELP = 60
NUMBERS = ("int", "float")


def load(node: Node) -> TyperCommand:
    """Import a command's module and return its ``command`` function as a Typer command."""
    module = importlib.import_module(node.module)
    words = (module.__doc__ or "").strip()
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    function = common_flags(module.command)
    settings = {**getattr(module, "CONTEXT_SETTINGS", {})}
    settings = {"help_option_names": ["-h", "--help"], **settings}
    app.command(name=node.name, cls=Command, help=words, context_settings=settings)(function)
    command = typer.main.get_command(app)
    if not isinstance(command, Command):
        raise TypeError(f"{node.module} is not one command")
    command.node = node
    for param in command.params:
        if param.metavar is None and param.type.name.startswith(NUMBERS):
            param.metavar = "N"  # Typer would say <int range>
        if param.param_type_name == "argument":
            param.metavar = form_of(param)
    return command


def common_flags(function: Any) -> Any:
    """Add ``-q`` and ``-v`` to a command's own parameters; they set the console of the application object."""
    signature = inspect.signature(function, eval_str=True)

    def command(**values: Any) -> Any:
        context: typer.Context = values["ctx"]
        app: App = context.obj
        app.console.quiet = values.pop("quiet")
        app.console.verbose = values.pop("verbose")
        app.console.as_json = bool(values.get("as_json"))
        return function(**values)

    def flag(name: str, letters: tuple[str, ...], text: str) -> inspect.Parameter:
        option = typer.Option(*letters, help=text)
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_annotated(option))

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    parameters += [
        flag("quiet", ("-q", "--quiet"), "Say nothing but errors and the answer."),
        flag("verbose", ("-v", "--verbose"), "Show each line that is run."),
    ]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # how inspect is told
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__name__ = function.__name__
    return command


def _annotated(option: Any) -> Any:
    from typing import Annotated

    return Annotated[bool, option]


def on_one_line(text: str) -> str:
    """Return help as a shell shows it beside a candidate: Typer folds what is longer, and shells read line by line."""
    return textwrap.shorten(text, LINE_OF_HELP, placeholder="…")


def form_of(argument: Any) -> str:
    """Return an argument as a line of usage shows it: ``NAME``, ``[NAME]`` or ``PKG…``."""
    form = str(argument.metavar or argument.name.upper())
    if form.startswith("[") and form.endswith("]"):
        form = form[1:-1]
    form += "…" if argument.nargs < 0 and "…" not in form else ""
    return form if argument.required or form.startswith(("[", "--")) else f"[{form}]"


class Command(TyperCommand):
    """A command whose help goes through the screen's own stream: Typer would write UTF-8 into any locale.

    Attributes:
        node: its place in the tree; a group's own command lists what is below it.
    """

    node: Node | None = None

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the line of usage in the one form that groups have too."""
        arguments = [form_of(param) for param in self.params if param.param_type_name == "argument"]
        formatter.write(" ".join((f"usage: {ctx.command_path} [OPTIONS]", *arguments)) + "\n")

    def format_help_text(self, _ctx: Any, formatter: Any) -> None:
        """Write what the command is for, its example on one line that can be pasted, and the commands below it."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write("\n")
            if paragraph.startswith("Example:"):
                formatter.write("".join(f"  {line.rstrip()}\n" for line in paragraph.splitlines()))
            else:
                with formatter.indentation():
                    formatter.write_text(paragraph)
        if self.node and self.node.is_group:
            formatter.write("\nCommands:\n" + "".join(f"{line}\n" for line in tree.listing(self.node, formatter.width)))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Return what a word may become, each with help on one line: a second line would be a candidate to a shell."""
        found: list[CompletionItem] = super().shell_complete(ctx, incomplete)
        for item in found:
            item.help = on_one_line(item.help) if item.help else item.help
        return found

    def get_help_option(self, ctx: Any) -> Any:
        """Return the flag that shows the help."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(ctx: Any, _option: Any, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        sys.stdout.write(f"{ctx.get_help()}\n")
        ctx.exit()


class Group(TyperGroup):
    """A group whose commands are imported when they are called; only completion walks it."""

    def __init__(self, node: Node) -> None:
        super().__init__(name=node.name, help=node.purpose())
        self.node = node

    def list_commands(self, _ctx: Any) -> list[str]:
        """Return the names below it."""
        return list(self.node.children())

    def get_command(self, _ctx: Any, name: str) -> Any:
        """Return the command or group of this name, or None."""
        below = self.node.child(name)
        if below is None:
            return None
        return Group(below) if below.is_group and below.own_command is None else load(below)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Return what a word may become, from the tree alone; nothing after a word that leads nowhere."""
        if ctx._protected_args or ctx.args:  # noqa: SLF001 - where Typer keeps what it did not resolve
            return []
        names = self.node.children().items()
        return [
            CompletionItem(name, help=on_one_line(child.purpose()))
            for name, child in names
            if name.startswith(incomplete)
        ]


def root() -> Group:
    """Return the whole tree as one Typer group."""
    return Group(tree.ROOT)
