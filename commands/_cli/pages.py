"""The page of all commands, from their own help: ``python -m devkit.commands._cli.pages > docs/commands.md``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from devkit.app import App
from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 100


def page() -> str:
    """Return the page as Markdown."""
    return "# The commands of devkit\n\nMade from each command's `--help` by `make docs`.\n\n" + "\n".join(
        _parts(tree.ROOT)
    )


def overview() -> str:
    """Return the tree as README shows it: a line for the commands of each part, and one for each group."""
    lines = []
    for _, names in tree.PARTS:
        nodes = [node for name in names if (node := tree.ROOT.child(name)) is not None]
        single = [node.name for node in nodes if not node.is_group]
        lines += [f"    devkit {' | '.join(single)}"] if single else []
        for node in nodes:
            below = "|".join(node.children())
            if below:
                lines.append(f"    devkit {node.name} {f'[{below}]' if node.own_command else below}")
    return "\n".join(lines)


def _parts(node: tree.Node) -> Iterator[str]:
    if node.own_command:
        yield f"## devkit {' '.join(node.words)}\n\n```\n{help_of(node)}\n```\n"
    elif node.words:
        yield f"## devkit {' '.join(node.words)} …\n\n{node.purpose()}\n"
    for child in node.children().values():
        yield from _parts(child)


def help_of(node: tree.Node) -> str:
    """Return a command's help as its ``--help`` prints it, at a fixed width."""
    command = load(node)
    line = " ".join(("devkit", *node.words))
    context = command.make_context(line, [], obj=App(), resilient_parsing=True, terminal_width=WIDTH)
    return "\n".join(row.rstrip() for row in command.get_help(context).splitlines())


if __name__ == "__main__":
    sys.stdout.write(page())
