"""A build's log → the first true cause of its failure, by a table of rules.

What a build says last is seldom why it failed: CMake blames the network for a folder's owner, and ninja goes on for
minutes after the first error. Each rule knows the words of one cause, and which other rules are only its consequences.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from devkit.builds.templates import table
from devkit.errors import GAP
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What says that a log is of a build that failed, and what that it went on and ended well though git's fatal: stands in
# it: a download that was tried again, or a package that was looked for and is not needed.
FAILED = re.compile(
    r"CMake Error|FAILED: |ninja: (?:build stopped|error)|: \*\*\* |-- Configuring incomplete|"
    r"Traceback \(most recent call last\)|(?:^|\s)(?:fatal )?error: ",
    re.MULTILINE,
)
FATAL = re.compile(r"^fatal: ", re.MULTILINE)
WELL = re.compile(r"Build files have been written to|^\[(\d+)/\1\] |Successfully built ", re.MULTILINE)
# What no log says of which all went well: a build that says nothing of its end failed where it has one of these.
ERRORS = re.compile(
    r"(?:\berror\b|[a-z]Error|FAILED|\*\*\*|not found|No such file|cannot|file too short|[Kk]illed|[Mm]issing )",
    re.MULTILINE,
)
FIRST_ERROR = re.compile(r"^.*(?:\berror\b|\bError\b|FAILED: |^fatal: |\*\*\*).*$", re.MULTILINE)
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONGEST_EXCERPT = 400


@dataclass(frozen=True)
class Rule:
    """One row of the table; see ``templates/builds/rules.toml`` for what each field means."""

    id: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    reference: str
    explains: tuple[str, ...] = ()
    soft: bool = False
    fix: str = ""
    hint: str = ""

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Yield where the pattern is found; with a hint, only lines that hold it are looked at."""
        if not self.hint:
            yield from self.pattern.finditer(text)
            return
        position = text.find(self.hint)
        while position >= 0:
            begin, end = text.rfind("\n", 0, position) + 1, text.find("\n", position)
            end = end if end >= 0 else len(text)
            yield from self.pattern.finditer(text, begin, end)
            position = text.find(self.hint, end)


@dataclass(frozen=True)
class Cause:
    """A cause that was found.

    Attributes:
        id: the rule's.
        line: its number in the log, from 1.
        text: the line itself, credentials masked.
        cause: what it means.
        remedy: the line to type.
        reference: where more of it is told.
        fix: what ``--retry`` would do about it, or nothing.
        consequences: the numbers of later lines that only follow from it.
        words: what the line tells by the names of the rule's pattern, as its file.
    """

    id: str
    line: int
    text: str
    cause: str
    remedy: str
    reference: str
    fix: str = ""
    consequences: tuple[int, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """What a log tells.

    Attributes:
        failed: whether it is of a build that failed.
        causes: the true causes, the first one first.
        first_error: where no rule knows the failure, its first error as ``(line, text)``.
    """

    failed: bool
    causes: tuple[Cause, ...]
    first_error: tuple[int, str] | None = None


@cache
def rules() -> tuple[Rule, ...]:
    """Return the table of rules."""
    return tuple(_rule(row) for row in table("rules")["rule"])


def _rule(row: Mapping[str, Any]) -> Rule:
    return Rule(
        row["id"],
        re.compile(row["pattern"].strip()),
        row["cause"],
        row["remedy"],
        row["reference"],
        tuple(row.get("explains", ())),
        bool(row.get("soft", False)),
        row.get("fix", ""),
        row.get("hint", ""),
    )


def diagnose(log: str, *, known: Sequence[Rule] | None = None) -> Diagnosis:
    """Return what a log tells: its causes in the order of their first lines, consequences left out.

    Args:
        log: the whole text; colours and carriage returns in it do not matter.
        known: the rules; those of the table by default.
    """
    known = rules() if known is None else known
    text = ANSI.sub("", log.replace("\r\n", "\n").replace("\r", "\n"))
    well = bool(WELL.search(text))
    failed = bool(FAILED.search(text) or (not well and (FATAL.search(text) or ERRORS.search(text))))
    hits = sorted(
        (
            (text.rfind("\n", 0, match.start()), order, rule, match)
            for order, rule in enumerate(known)
            if failed or not rule.soft
            for match in rule.matches(text)
        ),
        key=lambda hit: hit[:2],
    )
    causes: dict[str, tuple[Cause, list[int]]] = {}
    explained: dict[str, str] = {}
    for _, _, rule, match in hits:
        line = text.count("\n", 0, match.start()) + 1
        if rule.id in explained:
            causes[explained[rule.id]][1].append(line)
        elif rule.id not in causes:
            causes[rule.id] = (_cause(rule, match, line, text), [])
            explained.update(dict.fromkeys(rule.explains, rule.id) | explained)
    found = tuple(
        Cause(**{**vars(cause), "consequences": tuple(dict.fromkeys(lines))}) for cause, lines in causes.values()
    )
    return Diagnosis(failed or bool(found), found, None if found or not failed else _first_error(text))


def _cause(rule: Rule, match: re.Match[str], line: int, text: str) -> Cause:
    words = {re.sub(r"\d$", "", name): word for name, word in match.groupdict().items() if word}
    words = {name: redact(word.strip()) for name, word in words.items()}
    return Cause(
        rule.id,
        line,
        _excerpt(text, match.start()),
        _filled(rule.cause, words),
        _line(rule.remedy, words),
        rule.reference,
        rule.fix,
        words=words,
    )


def _line(remedy: str, words: Mapping[str, str]) -> str:
    """Return the line to type; what the log told is one word of it, whatever it holds."""
    line, gap, purpose = remedy.partition(GAP)
    quoted = {name: shlex.quote(word) for name, word in words.items()}
    return f"{_filled(line, quoted)}{gap}{_filled(purpose, words)}"


def _filled(words: str, values: Mapping[str, str]) -> str:
    """Put the values where ``{name}`` stands; what the log did not tell goes, with the colon before it."""

    def value(match: re.Match[str]) -> str:
        found = values.get(match["name"])
        before = match["before"] or ""
        return f"{before}{found}" if found else ("" if before else f"<{match['name']}>")

    return re.sub(r"(?P<before>: )?\{(?P<name>\w+)\}", value, words)


def _excerpt(text: str, position: int) -> str:
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return redact(text[begin : end if end >= 0 else len(text)].strip())[:LONGEST_EXCERPT]


def _first_error(text: str) -> tuple[int, str] | None:
    match = FIRST_ERROR.search(text)
    return (text.count("\n", 0, match.start()) + 1, redact(match[0].strip())[:LONGEST_EXCERPT]) if match else None
