"""A failure that no rule knows: its block, the command that failed, and the families that are most likely, with why."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.builds.remedy import worded
from devkit.builds.templates import table
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.builds.remedy import Origin

LIKELY = 3
SHOWN = 12
LONGEST = 400
HEADING = re.compile(
    r"FAILED: |^CMake Error|\*\*\* |Traceback \(most recent|subprocess-exited|ninja: build stopped|^Error: Process"
)
ERRORS = re.compile(
    r"\berrors?\b|\bError\b|ERROR|[a-z](?:Error|Exception)\b|\bfatal\b|FATAL|\bfailed\b|[Ff]ailure|cannot|not found|"
    r"No such"
)
COMMAND = re.compile(
    r"(?:^|[\s&(])(?:/\S+/)?(?:c\+\+|g\+\+|gcc|cc|clang\S*|nvcc|hipcc|ld|ar|cmake|make|ninja|python[\d.]*|pip\d?|git|"
    r"bash|sh|docker|wget|curl|patch|protoc)(?:-\d+)? .+"
)


@dataclass(frozen=True)
class Family:
    """A kind of cause: its name, why it is likely, and the line to type first."""

    name: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Unknown:
    """What is known of a failure that no rule knows.

    Attributes:
        line: the number of its first line.
        block: its lines.
        command: what ran, where the log tells.
        likely: the families that it may belong to, the likeliest first.
    """

    line: int
    block: tuple[str, ...]
    command: str = ""
    likely: tuple[Family, ...] = ()

    @property
    def first_error(self) -> tuple[int, str] | None:
        """The line that says most of it."""
        for offset, text in enumerate(self.block):
            if ERRORS.search(text) and not HEADING.search(text):
                return self.line + offset, text.strip()
        return (self.line, self.block[0].strip()) if self.block else None


def unknown(units: Sequence[tuple[int, list[str]]], data: bytes, origin: Origin) -> Unknown | None:
    """Return what is known of a failure, by its lines that say anything.

    Args:
        units: number and texts of the lines, messages of CMake's as a whole.
        data: the whole log.
        origin: what it is of.
    """
    at = next((number for number, texts in units if _says_why(texts)), 0)
    at = at or next((number for number, texts in units if HEADING.search(texts[0])), 0)
    if not at:
        return None
    heading = next((number for number, texts in reversed(units) if number <= at and HEADING.search(texts[0])), at)
    begin = heading if at - heading < SHOWN else at
    raw = _lines(data, begin, at - begin + SHOWN)
    block = [redact(text)[:LONGEST] for text in _until_progress(raw, at - begin)]
    command = next((text.strip() for text in block if COMMAND.search(text) and not ERRORS.search(text[:40])), "")
    return Unknown(begin, tuple(block), command, likely("\n".join(block), origin))


def _says_why(texts: list[str]) -> bool:
    body = texts[1:] if len(texts) > 1 else texts
    return (
        any(text.strip() for text in body)
        if len(texts) > 1
        else bool(ERRORS.search(texts[0]) and not HEADING.search(texts[0]))
    )


def _lines(data: bytes, number: int, count: int) -> list[str]:
    from devkit.builds.logfile import clean

    start = 0
    for _ in range(number - 1):
        start = data.find(b"\n", start) + 1
    raw = data[start : start + LONGEST * LONGEST].split(b"\n")[:count]
    return [(clean(line.decode(errors="replace")) or [""])[-1] for line in raw]


def _until_progress(texts: list[str], least: int) -> list[str]:
    """Return lines up to the next step of the build, but as many as lead to the one that says why."""
    found: list[str] = []
    for index, text in enumerate(texts):
        if index > least and re.match(r"\[\s*\d+(?:/\d+|%)\]|ninja: build stopped|g?make(?:\[\d+\])?: \*\*\*", text):
            break
        found.append(text)
    while found and not found[-1].strip():
        found.pop()
    return found


def likely(text: str, origin: Origin) -> tuple[Family, ...]:
    """Return the families whose words a text holds most, each with the word that it holds most often."""
    rows = table("families")
    said = {name: Counter(match[0].strip() for match in re.finditer(row["words"], text)) for name, row in rows.items()}
    best = sorted(said, key=lambda name: -len(said[name]))[:LIKELY]
    return tuple(
        Family(
            name,
            f"the lines speak of {rows[name]['about']} (“{said[name].most_common(1)[0][0]}”)",
            worded(rows[name]["remedy"], rows[name].get("elsewhere", ""), origin),
        )
        for name in best
        if said[name]
    )
