"""What a configure would download under given options: the tree's CMake, read as far as that takes.

A small part of CMake's language is evaluated: variables, conditions, loops, functions, includes. What only a real
configure knows (a compiler's answer, what is installed) is unknown: both ways of a condition on it are followed, and
what is found there is not certain.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devkit.builds.cmake.commands import ACTS, ADDRESS
from devkit.builds.cmake.conditions import NAME, Condition
from devkit.builds.cmake.syntax import Call, Word, blocks, calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from devkit.builds.cmake.conditions import Truth

    Text = str | None  # None where only a configure knows

DEEPEST = 40
MOST_ROUNDS = 200
REFERENCE = re.compile(r"\$(ENV|CACHE)?\{([^${}]*)\}")


@dataclass(frozen=True)
class Download:
    """Something that a configure or a build fetches.

    Attributes:
        url: where from.
        md5: what it must be; empty where the tree does not say.
        place: the file that it becomes; empty where that cannot be told.
        by: ``file`` (CMake, during the configure), ``project`` (CMake, during the build) or a program's name.
        stamp: the file that tells that it was fetched; empty where there is none.
        certain: whether these options take it; else only a configure knows.
    """

    url: str
    md5: str = ""
    place: str = ""
    by: str = "file"
    stamp: str = ""
    certain: bool = True


class Stop(Exception):
    """The end of a body before its last command: ``return``, ``break`` or ``continue``."""


@dataclass
class Reading:
    """One reading of a tree.

    Attributes:
        root: the tree.
        build: the build folder.
        given: the options.
        facts: what the tree asks the machine for, where that is known.
        environ: the environment.
        values: variables; None where only a configure knows.
        certain: whether what is read now is surely reached.
    """

    root: Path
    build: Path
    given: Mapping[str, str]
    facts: Mapping[str, str]
    environ: Mapping[str, str]
    values: dict[str, Text] = field(default_factory=dict)
    outer: list[dict[str, Text]] = field(default_factory=list)
    functions: dict[str, Call] = field(default_factory=dict)
    downloads: list[Download] = field(default_factory=list)
    certain: bool = True
    depth: int = 0

    def __post_init__(self) -> None:
        """Begin with what CMake itself knows on Linux, and what it is given."""
        root, build = str(self.root), str(self.build)
        for name in ("CMAKE_SOURCE_DIR", "CMAKE_CURRENT_SOURCE_DIR", "PROJECT_SOURCE_DIR", "CMAKE_CURRENT_LIST_DIR"):
            self.values[name] = root
        for name in ("CMAKE_BINARY_DIR", "CMAKE_CURRENT_BINARY_DIR", "PROJECT_BINARY_DIR"):
            self.values[name] = build
        self.values |= {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_HOST_SYSTEM_NAME": "Linux", "CMAKE_COMMAND": "cmake"}
        self.values |= {"UNIX": "1", "LINUX": "1", "CMAKE_GENERATOR": "Ninja", **self.given}

    def file(self, path: Path) -> None:
        """Read a file of the tree."""
        with contextlib.suppress(OSError):
            self.frame(blocks(calls(path.read_text("utf-8", "replace"))))

    def frame(self, body: Sequence[Call]) -> None:
        """Go through what ``return`` ends: a file or a function."""
        certain = self.certain
        with contextlib.suppress(Stop), self.deeper():
            self.run(body)
        self.certain = certain

    @contextlib.contextmanager
    def deeper(self) -> Iterator[None]:
        """Hold a tree that includes itself to some depth."""
        self.depth += 1
        try:
            if self.depth > DEEPEST:
                raise Stop
            yield
        finally:
            self.depth -= 1

    def run(self, body: Sequence[Call]) -> None:
        """Go through commands."""
        for call in body:
            if call.name == "if":
                self.choose(call.bodies)
            elif call.name in {"foreach", "while"}:
                self.loop(call)
            elif call.name in {"function", "macro"}:
                if call.words:
                    self.functions[call.words[0].text.lower()] = call
            elif call.name in {"return", "break", "continue"}:
                raise Stop
            elif call.name in self.functions:
                self.called(self.functions[call.name], call.words)
            else:
                self.command(call)

    def choose(self, bodies: Sequence[tuple[tuple[Word, ...] | None, tuple[Call, ...]]]) -> None:
        """Go through the body whose condition holds, and through each that may."""
        may: list[tuple[Call, ...]] = []
        for condition, body in bodies:
            truth: Truth = True if condition is None else Condition(self, condition).truth()
            if truth is False:
                continue
            if truth and not may:
                self.run(body)
                return
            may.append(body)
            if truth:
                break
        else:
            may.append(())
        if any(may):
            self.perhaps(may)

    def perhaps(self, bodies: Sequence[Sequence[Call]]) -> None:
        """Go through bodies of which only a configure knows which one it takes."""
        before, certain, stopped = self.values, self.certain, False
        results = []
        for body in bodies:
            self.values, self.certain = dict(before), False
            try:
                self.run(body)
            except Stop:
                stopped = True
            results.append(self.values)
        merged = {name: results[0].get(name) for result in results for name in result}
        for name in merged:
            if any(result.get(name, "") != results[0].get(name, "") for result in results):
                merged[name] = None
        self.values, self.certain = merged, certain and not stopped

    def loop(self, call: Call) -> None:
        """Go through a loop's body for each value, or once where these are unknown."""
        body = call.bodies[0][1]
        words = self.words(call.words)
        if call.name == "while" or not words or words[0] is None:
            self.perhaps([body, ()])
            return
        name, values = words[0], words[1:]
        if values[:1] == ["IN"]:
            kind, named = (values[1] if len(values) > 1 else ""), values[2:]
            values = [v for n in named for v in self.listed(n)] if kind == "LISTS" else named
        if None in values or "RANGE" in values or len(values) > MOST_ROUNDS:
            self.values[name] = None
            self.perhaps([body, ()])
            return
        certain = self.certain
        for value in values:
            self.values[name] = value
            with contextlib.suppress(Stop):
                self.run(body)
        self.certain = certain

    def listed(self, name: Text) -> list[Text]:
        """Return the values of a list."""
        value = None if name is None else self.values.get(name, "")
        return [None] if value is None else [word for word in value.split(";") if word]

    def called(self, function: Call, given: Sequence[Word]) -> None:
        """Go through a function of the tree's, or a macro."""
        arguments = self.words(given)
        names = [word.text for word in function.words[1:]]
        rest = arguments[len(names) :]
        bound: dict[str, Text] = dict(zip(names, [*arguments, *[""] * len(names)], strict=False))
        bound["ARGN"] = None if None in rest else ";".join(filter(None, rest))
        bound["ARGC"] = str(len(arguments))
        bound |= {f"ARGV{number}": value for number, value in enumerate(arguments)}
        own = function.name == "function"
        if own:
            self.outer.append(self.values)
            self.values = {**self.values, **bound}
        else:
            self.values |= bound
        self.frame(function.bodies[0][1])
        if own:
            self.values = self.outer.pop()

    def text(self, written: str) -> Text:
        """Return a text with its variables' values; None where one is unknown."""
        for _ in range(DEEPEST):
            match = REFERENCE.search(written)
            if match is None:
                return re.sub(r'\\([$"\\@();#{} ])', r"\1", written)
            value = self.environ.get(match[2], "") if match[1] == "ENV" else self.value(match[2])
            if value is None:
                return None
            written = written[: match.start()] + value + written[match.end() :]
        return None

    def value(self, name: str) -> Text:
        """Return a variable's value: empty where it was never set, unless CMake itself may set it."""
        if name in self.values:
            return self.values[name]
        if name in self.facts:
            return self.facts[name]
        return None if name.startswith("CMAKE_") or name.endswith("_FOUND") else ""

    def words(self, written: Sequence[Word]) -> list[Text]:
        """Return arguments as a command gets them: lists outside of quotes are several."""
        found: list[Text] = []
        for word in written:
            value = word.text if word.raw else self.text(word.text)
            if value is None or word.exact:
                found.append(value)
            else:
                found += [item for item in value.split(";") if item]
        return found

    def command(self, call: Call) -> None:
        """Carry out a command of CMake's, as far as it matters here."""
        act = ACTS.get(call.name)
        words = self.words(call.words)
        if act:
            act(self, words)
        elif call.name.startswith(("find_", "check_", "try_", "get_", "math", "execute_process")):
            self.forget(call.words)

    def forget(self, words: Sequence[Word]) -> None:
        """Take for unknown what a command that is not understood may set."""
        for word in words:
            if not word.exact and NAME.fullmatch(word.text):
                for name in (word.text, f"{word.text}_FOUND", f"{word.text.upper()}_FOUND"):
                    if name not in self.given:
                        self.values[name] = self.facts.get(name)

    def set(self, name: str, value: Text) -> None:
        """Set a variable."""
        self.values[name] = value

    def download(self, url: Text, **what: str) -> None:
        """Note something that is fetched, where its address is known."""
        if url is not None and ADDRESS.fullmatch(url):
            self.downloads.append(Download(url, certain=self.certain, **what))


def downloads(
    root: Path, build: Path, options: Mapping[str, str], *, facts: Mapping[str, str], environ: Mapping[str, str]
) -> list[Download]:
    """Return what a configure of a tree and the build after it would download, each once.

    What folders below add by themselves (``add_subdirectory``: the inference tests' models) is not read.

    Args:
        root: the tree.
        build: the build folder.
        options: what CMake is given.
        facts: the answers of this machine that are known beforehand, as variables.
        environ: the environment of the configure.
    """
    reading = Reading(root, build, options, facts, environ)
    reading.file(root / "CMakeLists.txt")
    found: dict[tuple[str, str], Download] = {}
    for download in reading.downloads:
        before = found.get((download.url, download.place))
        if before is None or (download.certain and not before.certain):
            found[download.url, download.place] = download
    return list(found.values())
