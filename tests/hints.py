"""The lines that devkit advises: each must exist and parse as it stands."""

from __future__ import annotations

import re
import shlex
from functools import cache

import typer
from typer._click.exceptions import ClickException

from devkit.app import App
from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load
from devkit.errors import GAP

PLACEHOLDER = re.compile(r"…|\b[A-Z][A-Z_]*\b")  # NAME, N, HOST:PORT: for the reader to fill in


def faults(said: str) -> list[str]:
    """Return what is wrong with the lines to type in what devkit said."""
    lines = [row.lstrip()[2:] for row in said.splitlines() if row.lstrip().startswith("→ ")]
    return [wrong for line in lines if (wrong := fault(line.partition(GAP)[0].strip()))]


@cache
def fault(line: str) -> str:
    """Return what is wrong with a line to type, or an empty string; of other programs only the quoting is looked at."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"{line!r} is not a line of a shell: {error}"
    for part in " ".join(shlex.quote(word) for word in words).split(" '&&' "):
        typed = shlex.split(part)
        while typed and re.fullmatch(r"[A-Za-z_]\w*=.*", typed[0], re.DOTALL):
            typed.pop(0)
        if typed[:1] == ["devkit"] and (wrong := _fault_of_ours(typed[1:])):
            return f"{line!r}: {wrong}"
    return ""


def _fault_of_ours(words: list[str]) -> str:
    node, rest = tree.resolve(words)
    if node.own_command is None:
        known = not rest or rest[0].startswith("-") or PLACEHOLDER.search(rest[0])
        return "" if known else "there is no such command"
    try:
        load(node).make_context("devkit", list(rest), obj=App(words))
    except ClickException as error:
        missing = "Missing argument" in error.format_message()
        return "" if missing or any(map(PLACEHOLDER.search, rest)) else error.format_message()
    except typer.Exit:
        return ""  # --help
    return ""
