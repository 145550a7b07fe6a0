"""Commands that are made of others: each line is carried out as if it had been typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App


def carry_out(app: App, words: Sequence[str]) -> tuple[int, Any]:
    """Carry out the line ``devkit WORDS…`` as a part of this command.

    Returns:
        its exit status, and what it answered as JSON where the words ask for that.

    Raises:
        DevkitError: as the line itself does.
    """
    node, rest = tree.resolve(list(words))
    argv, app.argv = app.argv, tuple(words)
    said = [flag for flag, on in (("-q", app.console.quiet), ("-v", app.console.verbose)) if on]
    try:
        with app.console.part() as answers:
            command = load(node)
            with command.make_context(" ".join(("devkit", *node.words)), [*said, *rest], obj=app) as context:
                status = command.invoke(context)
    finally:
        app.argv = argv
    return status if isinstance(status, int) else 0, answers[-1] if answers else None
