"""The tree of commands as the folders show it, read without importing any of them.

A group is a folder, a command is a module in it, and the module named as its group is what the group does by itself
(``commands/train/train.py`` is ``devkit train``). The first line of a module's docstring is its line of help. Names
that begin with an underscore are not commands; a trailing one is dropped (``continue_.py``, and ``build_/``: many tools
take a folder named ``build`` for generated files).
"""

from __future__ import annotations

import os
import sys

ROOM = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT_PURPOSE = "One terminal command for the working day of people who develop PaddlePaddle or on it."
EVERYWHERE = ("-q", "--quiet", "-v", "--verbose", "--json")
# What people do, in the order of a day; a command that no part names is listed in the last one.
PARTS = (
    ("environments", ("env",)),
    ("pull requests", ("pr", "wip", "undo", "redo")),
    ("building Paddle", ("build", "check", "bisect", "op", "new", "api")),
    ("kernels and training", ("bench", "train", "launch", "align")),
    ("files", ("send", "recv", "serve", "get")),
    ("this machine and devkit", ("doctor", "net", "runs", "config", "explain", "completion")),
)
WIDEST = 100
QUOTES = '"""'


class Node:
    """A group or a command.

    Attributes:
        words: the words that lead to it, without ``devkit``.
        path: its folder or its file.
        is_group: whether there are commands below it.
    """

    def __init__(self, words: tuple[str, ...], path: str, *, is_group: bool) -> None:
        self.words = words
        self.path = path
        self.is_group = is_group

    @property
    def name(self) -> str:
        """The word that one types."""
        return self.words[-1] if self.words else "devkit"

    @property
    def stem(self) -> str:
        """The name of its folder or file, without the underscore behind it."""
        return os.path.splitext(os.path.basename(self.path))[0].rstrip("_")

    @property
    def own_command(self) -> str | None:
        """The file of what a group does by itself, or None."""
        if not self.is_group:
            return self.path
        path = os.path.join(self.path, f"{self.stem}.py")
        return path if self.words and os.path.isfile(path) else None

    @property
    def module(self) -> str:
        """The name of the module to import for it."""
        path = self.own_command or os.path.join(self.path, "__init__.py")
        inside = os.path.relpath(path, ROOM)[: -len(".py")].replace(os.sep, ".")
        return f"devkit.commands.{inside}"

    def purpose(self) -> str:
        """Return its line of help."""
        if not self.words:
            return ROOT_PURPOSE
        return first_line(os.path.join(self.path, "__init__.py") if self.is_group else self.path)

    def children(self) -> dict[str, Node]:
        """Return what is below it, by name, in alphabetical order."""
        found = {}
        for entry in os.scandir(self.path) if self.is_group else ():
            stem, extension = os.path.splitext(entry.name)
            name = stem.rstrip("_").replace("_", "-")
            if stem.startswith(("_", ".")) or (self.words and stem == self.stem):
                continue
            if extension == ".py" or (not extension and os.path.isfile(os.path.join(entry.path, "__init__.py"))):
                found[name] = Node((*self.words, name), entry.path, is_group=not extension)
        return dict(sorted(found.items()))

    def child(self, name: str) -> Node | None:
        """Return what is below it under this name, or None."""
        return self.children().get(name)


ROOT = Node((), ROOM, is_group=True)


def first_line(path: str) -> str:
    """Return the first line of a module's docstring, without reading further."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith(QUOTES):
                return line.strip().strip('"').strip()
    return ""


def resolve(argv: list[str]) -> tuple[Node, list[str]]:
    """Return the deepest node that the words lead to, and the words that are left."""
    node, rest = ROOT, list(argv)
    while rest and node.is_group:
        below = node.child(rest[0])
        if below is None:
            break
        node = below
        rest.pop(0)
    return node, rest


def hoist(argv: list[str]) -> list[str]:
    """Return the words with the flags that stand before the command behind it: ``-q env list`` is ``env list -q``."""
    node, words, flags, rest = ROOT, [], [], list(argv)
    while rest:
        if rest[0] in EVERYWHERE or rest[0].startswith("--env="):
            flags.append(rest.pop(0))
        elif rest[0] == "--env" and len(rest) > 1:
            flags += [rest.pop(0), rest.pop(0)]
        else:
            below = node.child(rest[0]) if node.is_group else None
            if below is None:
                break
            node = below
            words.append(rest.pop(0))
            if node.own_command and not node.is_group:
                break
    return [*words, *flags, *rest]


def terminal_columns() -> int:
    """Return how wide the screen is; shutil would tell too, and takes as long to load as Python to start."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else WIDEST
    except (OSError, ValueError):
        return WIDEST


def wrap(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` letters, where a word is not longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def listing(node: Node, columns: int) -> list[str]:
    """Return the lines that list what is below a group: names, and each one's purpose beside it, wrapped."""
    children = node.children()
    if not node.words:
        return _in_parts(children, columns)
    return _lines(children, columns, max((len(name) for name in children), default=0) + 4)


def _in_parts(children: dict[str, Node], columns: int) -> list[str]:
    column = max((len(name) for name in children), default=0) + 4
    lines: list[str] = []
    left = dict(children)
    for number, (part, names) in enumerate(PARTS):
        found = {name: left.pop(name) for name in names if name in left}
        if number == len(PARTS) - 1:
            found.update(left)
        if found:
            lines += [f"{part}:", *_lines(found, columns, column), ""]
    return lines[:-1]


def _lines(children: dict[str, Node], columns: int, column: int) -> list[str]:
    lines = []
    for name, child in children.items():
        text = child.purpose()
        if child.is_group and len(child.words) == 1:
            text += f" ({', '.join(child.children())})"
        wrapped = wrap(text, max(columns - column, 20)) or [""]
        lines.append(f"  {name}".ljust(column) + wrapped[0])
        lines += [" " * column + more for more in wrapped[1:]]
    return lines


def help_text(node: Node, *, width: int | None = None) -> str:
    """Return the help of a group: its purpose and each command with its one line.

    Args:
        node: the group.
        width: the columns to fill; the terminal's by default, at most 100.
    """
    columns = width or min(terminal_columns(), 100)
    line = " ".join(("devkit", *node.words))
    after = f"{line} COMMAND --help shows a command's flags and an example."
    if not node.words:
        after += " devkit completion SHELL prints what completes these words; devkit --version the version."
    parts = [f"usage: {line} COMMAND …", "", *wrap(node.purpose(), columns), ""]
    heading = ["commands:"] if node.words else []
    return "\n".join([*parts, *heading, *listing(node, columns), "", *wrap(after, columns)])
