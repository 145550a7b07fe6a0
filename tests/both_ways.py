"""What a dry run printed beside what the run started: a line typed by hand and one of ``-v`` are compared as words."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.forks import Result


def words_of(line: str) -> list[str]:
    """Return a line's program and its words, without the variables that it is given; the program by its own name."""
    words = shlex.split(line)
    if words[:1] == ["env"]:
        words.pop(0)
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL):
        words.pop(0)
    return [words[0].rpartition("/")[2], *words[1:]] if words else []


def started(result: Result) -> list[list[str]]:
    """Return what a run with ``-v`` started, in order."""
    lines = [row.strip()[2:] for row in result.err.splitlines() if row.strip().startswith("$ ")]
    return [words_of(line) for line in lines if is_whole(line)]


def is_whole(line: str) -> bool:
    """Tell whether a line is all of one that was started: a program's text goes over several."""
    try:
        shlex.split(line)
    except ValueError:
        return False
    return True


def never_started(planned: Iterable[str], result: Result) -> list[str]:
    """Return the planned lines that a run with ``-v`` did not start in their order."""
    ran = iter(started(result))
    return [line for line in planned if not any(words == words_of(line) for words in ran)]
