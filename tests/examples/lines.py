"""The lines of devkit that a reader finds in README, the pages and --help, and the walks in which they are run.

A file in ``walks/`` is a script of bash: the lines are typed one after another in one shell. One that begins with
devkit is an example of a page or a help, or stands in a page's sentence (of those only some are run, all are parsed);
the others make what it wants. Two spaces and ``#= 4`` after a line say how it ends, if not with 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.commands._cli import tree
from devkit.commands._cli.typer_command import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
WALKS = Path(__file__).parent / "walks"
ELSEWHERE = Path(__file__).parent / "elsewhere.txt"
PAGES = sorted(
    path
    for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "README.zh-CN.md"]
    if path.name != "commands.md"  # it is made from the help
)
BLOCK = re.compile(r"^```\w*\n(.*?)^```|^((?: {4}.*\n)+)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^ *(?:\$ )?(devkit .*)$", re.MULTILINE)
EXAMPLE = re.compile(r"^Example: +(.*\bdevkit .*)$", re.MULTILINE)
DEVKIT = re.compile(r"(^|\$\(|\| )devkit ")
INLINE = re.compile(r"`(devkit [^`]+)`")
SYNOPSIS = re.compile(r"\w\|\w| \| |…|\[[a-z]|\bCOMMAND\b")


def nodes(node: tree.Node = tree.ROOT) -> Iterator[tree.Node]:
    """Yield every command."""
    if node.own_command:
        yield node
    for child in node.children().values():
        yield from nodes(child)


def lines_of(text: str) -> list[str]:
    """Return the lines that stand in a page's blocks, without comments; a synopsis is no line to type."""
    found = [row for one, other in BLOCK.findall(text) for row in LINE.findall(one or other)]
    plain = [re.split(r" {2,}| # ", row)[0].rstrip() for row in found]
    return [row for row in plain if not SYNOPSIS.search(row)]


def spoken_of(text: str) -> list[str]:
    """Return the lines within a page's sentences; a synopsis is none."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = (" ".join(row.split()) for row in INLINE.findall(text))
    return [row for row in dict.fromkeys(found) if not SYNOPSIS.search(row)]


@cache
def examples() -> tuple[tuple[str, str], ...]:
    """Return where a line stands, and the line."""
    found = [(path.name, word) for path in PAGES for word in lines_of(path.read_text("utf-8"))]
    for node in nodes():
        found += [(f"--help of {' '.join(node.words)}", example) for example in EXAMPLE.findall(load(node).help or "")]
    return tuple(dict.fromkeys(found))


def parts_of(line: str) -> list[list[str]]:
    """Return the lines of devkit in a line of a shell, as words after ``devkit``."""
    found = []
    for part in re.findall(r"\$\(([^)]*)\)", line) or re.split(r" && | \| ", line):
        typed = shlex.split(part)
        typed = typed[: typed.index(">>")] if ">>" in typed else typed
        if typed[0] == "devkit":
            found.append(typed[1:])
    return found


@dataclass(frozen=True)
class Step:
    """A line of a walk, and the status with which it ends."""

    line: str
    status: int

    @property
    def example(self) -> str:
        """The line as it is documented, "" for one that is not.

        What a reader fills in (``HOST``, ``RUN``) is a variable in the walk; what stays open is sent to the
        background, and what asks for a terminal has one.
        """
        line = re.sub(r"^on_terminal |( (<|<<<|>) \S+)?( &)?$", "", self.line)
        return re.sub(r"\$(HOST|PORT|SECRET|HASH|RUN)\b", r"\1", line) if DEVKIT.search(line) else ""


def read_walk(name: str) -> list[Step]:
    """Return the steps of a walk."""
    steps = []
    for row in (WALKS / name).read_text("utf-8").splitlines():
        line, _, status = row.partition("  #= ")
        if line and not line.startswith("#"):
            steps.append(Step(line, int(status or 0)))
    return steps


def type_walk(
    walk: str | Sequence[Step], folder: Path, log: Path, limit_s: float, *, within: Sequence[str] = ()
) -> None:
    """Type a walk's lines, or some steps of it, into one bash, and end with it all that it left running.

    Args:
        walk: its name, or steps.
        folder: where it is typed.
        log: what is printed goes there.
        limit_s: how long it may take.
        within: the line that starts bash in surroundings of its own.

    Raises:
        AssertionError: a line ended with another status; it is named, with what it printed.
    """
    script = [f". {shlex.quote(str(WALKS.parent / 'functions.sh'))}"]
    for step in read_walk(walk) if isinstance(walk, str) else walk:
        script += [f"begin {shlex.quote(step.line)}", step.line, f"ends_with {step.status}"]
    words = [*within, "bash", "-c", "\n".join(script)]
    with log.open("wb") as out:
        shell = subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            status = shell.wait(limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    assert status == 0, log.read_text("utf-8", "replace").rpartition("\n$ ")[2]
