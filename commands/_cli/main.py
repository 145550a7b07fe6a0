"""The door: from the words of the command line to a command, and from what it raises to an exit status."""

from __future__ import annotations

import os
import sys

from devkit.commands._cli import tree

HELP = ("-h", "--help")
VERSION = {"--version", "-V", "version"}


def main(argv: list[str] | None = None) -> int:
    """Run the command that ``argv`` (the words after ``devkit``) asks for, and return the exit status."""
    words = tree.hoist(_asking_for_help(sys.argv[1:] if argv is None else argv))
    if "_DEVKIT_COMPLETE" in os.environ:
        from devkit.commands._cli.completion import complete

        return complete()
    node, rest = tree.resolve(words)
    if not node.words and VERSION.intersection(rest) and VERSION.union(tree.EVERYWHERE).issuperset(rest):
        from devkit import __version__

        sys.stdout.write(f'{{"version": "{__version__}"}}\n' if "--json" in rest else f"devkit {__version__}\n")
        return 0
    if node.own_command is None and (set(rest) <= {*tree.EVERYWHERE, *HELP}):
        return _print_help(node)
    from devkit.commands._cli.run import run

    return run(node, rest, words)


def _asking_for_help(argv: list[str]) -> list[str]:
    """Return the words with ``--help`` behind the command, where ``help`` or a flag before the command asks for it."""
    node, rest = tree.resolve(argv)
    if not rest or not (rest[0] == "help" or (not node.words and rest[0] in HELP and rest[1:])):
        return argv
    return [*node.words, *rest[1:], "--help"] if node.is_group else argv


def _print_help(node: tree.Node) -> int:
    text = tree.help_text(node) + "\n"
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        text = text.replace("…", "...").encode("ascii", "backslashreplace").decode()
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.write(f"x the help cannot be written\n  {error.strerror}.\n")
        return 1
    return 0
