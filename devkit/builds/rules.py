"""The table of causes: ``templates/builds/rules/*.toml``, one row a cause, in each tool's words.

Fields of a row:

    id, family   what it is, and of which kind
    patterns     regular expressions, each searched in a line or in a whole message of CMake's; a blank in one stands
                 for any white space. Named groups may stand in cause and remedy as {name}.
    cause        what it means
    remedy       the line to type, three spaces, what it is good for; words from the log are quoted in it
    remedies     the remedy in its place where the log tells {name}, by that name
    elsewhere    the remedy in a project that devkit does not build, where that differs in more than the tool that
                 builds (devkit/builds/remedy.py says ``devkit build`` lines in the words of CMake, make and pip)
    reference    where more of it is told
    tier         0 a cause, 1 what a tool says of any cause (an error in code), 2 only ever a consequence, 3 the last
                 resort
    explains     rules that, seen after this one, are only its consequences
    absorbs      true where that holds for those of the same block that stand before it too
    soft         true where a build that ends well may say it too: it counts only where something failed of it
    weak         true where it is mostly harmless: it counts only where nothing else is known but what it explains
    notes        true where it stands in a note or warning
    foreign      true for code that is not the user's, false for code that is; not given: any
    only_error_block  true where it counts only inside a message of CMake's that begins with CMake Error
    defaults     what {name} is where the log does not say
    fix          what ``devkit build --retry`` does about it: a name of REMEDIES in devkit/builds/retry.py
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from devkit.builds.remedy import PADDLES_OWN, worded
from devkit.builds.templates import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.builds.remedy import Origin

CAUSE, GENERIC, CONSEQUENCE, LAST_RESORT = range(4)
SHORTEST, LONG = 3, 6
CLASSES = "dDwWsSbBAZ"
QUANTIFIERS = {"*", "+", "?", "{"}


@dataclass(frozen=True)
class Pattern:
    """A regular expression that is compiled when a line first holds the words that any match of it holds."""

    source: str
    literals: tuple[str, ...]

    @classmethod
    def of(cls, source: str) -> Pattern:
        """Return the pattern that is written in the table."""
        source = source.strip()
        return cls(source, literals(source))

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The expression, in which a blank is any white space."""
        return re.compile(_blanks(self.source), re.MULTILINE)

    def search(self, text: str, flat: str) -> re.Match[str] | None:
        """Search a text; ``flat`` is the same with single blanks."""
        if self.literals and not any(word in flat for word in self.literals):
            return None
        return self.compiled.search(text)


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    id: str
    family: str
    patterns: tuple[Pattern, ...]
    cause: str
    remedy: str
    reference: str
    tier: int = CAUSE
    explains: tuple[str, ...] = ()
    absorbs: bool = False
    soft: bool = False
    weak: bool = False
    notes: bool = False
    foreign: bool | None = None
    only_error_block: bool = False
    fix: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    remedies: Mapping[str, str] = field(default_factory=dict)
    elsewhere: str = ""

    def remedy_for(self, words: Mapping[str, str], origin: Origin) -> str:
        """Return the remedy where the log told these words of this project."""
        said = next((line for name, line in self.remedies.items() if name in words), "")
        if self.family in PADDLES_OWN:
            return said or self.remedy
        return worded(said or self.remedy, "" if said else self.elsewhere, origin)

    def search(self, text: str, flat: str) -> re.Match[str] | None:
        """Return the first match of the patterns, in their order."""
        for pattern in self.patterns:
            match = pattern.search(text, flat)
            if match:
                return match
        return None


@cache
def rules() -> tuple[Rule, ...]:
    """Return the table."""
    return tuple(_rule(row) for row in rows("rules", "rule"))


def _rule(row: Mapping[str, Any]) -> Rule:
    known = {name: row[name] for name in ("id", "family", "cause", "remedy", "reference")}
    given = {name: value for name, value in row.items() if name not in {*known, "patterns", "explains"}}
    patterns = tuple(Pattern.of(source) for source in row["patterns"])
    return Rule(**known, **given, patterns=patterns, explains=tuple(row.get("explains", ())))


def _blanks(source: str) -> str:
    """Return an expression whose blanks, outside of character classes, stand for any white space."""
    found = []
    for (part, _, inside), (following, _, _) in pairwise([*_parts(source), ("", 0, False)]):
        blank = part == " " and not inside
        found.append((r"\s" if following in QUANTIFIERS else r"\s+") if blank else part)
    return "".join(found)


def _parts(source: str) -> Iterator[tuple[str, int, bool]]:
    """Yield the parts of an expression, escapes whole, each with its depth in groups and whether a class holds it."""
    depth, inside, index = 0, False, 0
    while index < len(source):
        part = source[index : index + 2] if source[index] == "\\" else source[index]
        index += len(part)
        if inside:
            yield part, depth, True
            inside = part != "]"
            continue
        if part == "[":
            inside = True
            yield part, depth, True
            if source[index : index + 1] == "^":
                index += 1
                yield "^", depth, True
            if source[index : index + 1] == "]":
                index += 1
                yield "]", depth, True
            continue
        depth -= part == ")"
        yield part, depth, False
        depth += part == "("


def literals(source: str) -> tuple[str, ...]:
    """Return words of which every match of an expression holds one; nothing where none are sure.

    They are the longest run of plain characters outside of groups, or, where that is short, the longest of each branch
    of a group that must match.
    """
    if "(?i" in source:
        return ()
    branches = _branches(source)
    if len(branches) > 1:
        found = [literals(branch) for branch in branches]
        return tuple(word for words in found for word in words) if all(found) else ()
    run = _longest_run(source)
    if len(run) >= LONG:
        return (run,)
    groups = [literals(group) for group in _groups(source)]
    best = max(groups, key=lambda words: min(map(len, words), default=0), default=())
    if min(map(len, best), default=0) > len(run):
        return best
    return (run,) if len(run) >= SHORTEST else ()


def _branches(source: str) -> list[str]:
    """Return the alternatives of an expression, outside of groups."""
    found = [""]
    for part, depth, inside in _parts(source):
        if part == "|" and depth == 0 and not inside:
            found.append("")
        else:
            found[-1] += part
    return found


def _groups(source: str) -> Iterator[str]:
    """Yield what stands in the groups of an expression that must match, their names and marks left out."""
    held = ""
    parts = [*_parts(source), ("", 0, False)]
    for (part, depth, inside), (following, _, _) in pairwise(parts):
        if depth == 0 and part == ")" and not inside:
            if following not in {"*", "?", "{"} and not re.match(r"\?(?:!|<!|<=|=)", held):
                yield re.sub(r"^\?(?::|P<\w+>)", "", held)
            held = ""
        elif depth > 0 or (part == "(" and held):
            held += part


def _longest_run(source: str) -> str:
    """Return the longest run of plain characters of an expression without alternatives, outside of groups."""
    runs, run, skipping = [""], "", False
    for (part, depth, inside), (following, _, _) in pairwise([*_parts(source), ("", 0, False)]):
        if skipping:
            skipping = part != "}"
            continue
        plain = depth == 0 and not inside and part not in set("()[]{}.*+?|^$")
        if plain and part[0] == "\\":
            plain = part[1] not in CLASSES and not part[1].isdigit()
        if not plain or following in {"*", "?", "{"}:
            runs.append(run)
            run, skipping = "", part == "{" and not inside
            continue
        run += part[-1]
        if following == "+":
            runs.append(run)
            run = ""
    return max([*runs, run], key=len)
