"""The conditions of ``if``: what holds, what does not, and what only a configure knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devkit.builds.cmake.reading import Reading, Text
    from devkit.builds.cmake.syntax import Word

    Truth = bool | None  # None where only a configure knows

NAME = re.compile(r"[A-Za-z_]\w*")
TRUE = {"ON", "TRUE", "YES", "Y"}
FALSE = {"OFF", "FALSE", "NO", "N", "IGNORE", "NOTFOUND", ""}


class Condition:
    """The condition of an ``if``: true, false, or None where only a configure knows."""

    def __init__(self, reading: Reading, words: Sequence[Word]) -> None:
        self.reading = reading
        self.left = list(words)

    def truth(self) -> Truth:
        """Return whether it holds."""
        try:
            return self._any()
        except (IndexError, ValueError):
            return None

    def _next(self, *names: str) -> bool:
        if self.left and not self.left[0].exact and self.left[0].text in names:
            del self.left[0]
            return True
        return False

    def _any(self) -> Truth:
        found = self._all()
        while self._next("OR"):
            other = self._all()
            found = True if found or other else None if None in {found, other} else False
        return found

    def _all(self) -> Truth:
        found = self._not()
        while self._next("AND"):
            other = self._not()
            found = False if False in {found, other} else None if None in {found, other} else True
        return found

    def _not(self) -> Truth:
        if self._next("NOT"):
            found = self._not()
            return None if found is None else not found
        if self._next("("):
            found = self._any()
            self._next(")")
            return found
        return self._test()

    def _test(self) -> Truth:
        for name, test in (("DEFINED", self._defined), ("EXISTS", self._exists), ("IS_DIRECTORY", self._exists)):
            if len(self.left) > 1 and self._next(name):
                return test(self.left.pop(0))
        if len(self.left) > 1 and self._next("TARGET", "COMMAND", "POLICY", "TEST", "IS_ABSOLUTE", "IS_SYMLINK"):
            del self.left[0]
            return None
        word = self.left.pop(0)
        if self.left and not self.left[0].exact and (compare := COMPARED.get(self.left[0].text)):
            del self.left[0]
            first, second = self._operand(word), self._operand(self.left.pop(0))
            if first is None or second is None:
                return None
            try:
                return compare(first, second)
            except ValueError:  # what is not a number is neither less nor more
                return False
        return self._holds(word)

    def _operand(self, word: Word) -> Text:
        value = self.reading.text(word.text)
        if value is not None and not word.exact and NAME.fullmatch(value):
            known = value in self.reading.values or value in self.reading.facts or self.reading.value(value) is None
            return self.reading.value(value) if known else value
        return value

    def _holds(self, word: Word) -> Truth:
        value = self.reading.text(word.text)
        found = constant(value)
        if value is None or found is not None:
            return found
        named = "" if word.exact else self.reading.value(value)
        if named is None:
            return None
        return named.upper() not in FALSE | {"0"} and not named.upper().endswith("-NOTFOUND")

    def _defined(self, word: Word) -> Truth:
        name = self.reading.text(word.text)
        if name is None:
            return None
        if match := re.fullmatch(r"(ENV|CACHE)\{(.*)\}", name):
            return match[2] in self.reading.environ if match[1] == "ENV" else None
        if name in self.reading.values:
            return None if self.reading.values[name] is None else True
        return None if self.reading.value(name) is None else False

    def _exists(self, word: Word) -> Truth:
        """As in a tree that was never built: what a build leaves there is not there."""
        value = self.reading.text(word.text)
        if value is None:
            return None
        path = Path(value)
        if path.is_relative_to(self.reading.build) or path.is_relative_to(self.reading.root / "third_party"):
            return False
        return path.exists() if path.is_absolute() else None


def constant(value: Text) -> Truth:
    """Return what a text says by itself; None where it is the name of a variable."""
    if value is None:
        return None
    if value.upper() in FALSE or value.upper().endswith("-NOTFOUND"):
        return False
    if value.upper() in TRUE:
        return True
    return float(value) != 0 if re.fullmatch(r"[+-]?\d+(\.\d*)?", value) else None


def _version(text: str) -> list[int]:
    found = [int(part) for part in re.findall(r"\d+", text)]
    while found and not found[-1]:
        found.pop()
    return found


def _matches(text: str, pattern: str) -> Truth:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return None


COMPARED: dict[str, Callable[[str, str], Truth]] = {
    "STREQUAL": lambda a, b: a == b,
    "STRLESS": lambda a, b: a < b,
    "STRGREATER": lambda a, b: a > b,
    "EQUAL": lambda a, b: float(a) == float(b),
    "LESS": lambda a, b: float(a) < float(b),
    "GREATER": lambda a, b: float(a) > float(b),
    "LESS_EQUAL": lambda a, b: float(a) <= float(b),
    "GREATER_EQUAL": lambda a, b: float(a) >= float(b),
    "VERSION_EQUAL": lambda a, b: _version(a) == _version(b),
    "VERSION_LESS": lambda a, b: _version(a) < _version(b),
    "VERSION_GREATER": lambda a, b: _version(a) > _version(b),
    "VERSION_LESS_EQUAL": lambda a, b: _version(a) <= _version(b),
    "VERSION_GREATER_EQUAL": lambda a, b: _version(a) >= _version(b),
    "MATCHES": _matches,
    "IN_LIST": lambda a, b: a in b.split(";"),
    "IS_NEWER_THAN": lambda _a, _b: None,
}
