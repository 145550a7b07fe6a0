"""What a configure would download under given options: the tree's CMake, read as far as that takes.

A small part of CMake's language is evaluated: variables, conditions, loops, functions, includes. What only a real
configure knows (a compiler's answer, what is installed) is unknown: both ways of a condition on it are followed, and
what is found there is not certain.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Truth = bool | None  # None where only a configure knows
    Text = str | None

DEEPEST = 40
MOST_ROUNDS = 200
TOKEN = re.compile(
    r"(?P<comment>\#\[(?P<c>=*)\[.*?\](?P=c)\]|\#[^\n]*)"
    r"|\[(?P<b>=*)\[\n?(?P<bracket>.*?)\](?P=b)\]"
    r'|"(?P<quoted>(?:\\.|[^"\\])*)"'
    r"|(?P<paren>[()])"
    r'|(?P<plain>(?:\\.|\$(?:ENV)?\{[^}]*\}|[^\s()#"\\])+)',
    re.DOTALL,
)
REFERENCE = re.compile(r"\$(ENV|CACHE)?\{([^${}]*)\}")
NAME = re.compile(r"[A-Za-z_]\w*")
TRUE = {"ON", "TRUE", "YES", "Y"}
FALSE = {"OFF", "FALSE", "NO", "N", "IGNORE", "NOTFOUND", ""}
BLOCKS = {"if": "endif", "foreach": "endforeach", "while": "endwhile", "function": "endfunction", "macro": "endmacro"}
ADDRESS = re.compile(r"(?:https?|ftp|file)://[^\r\n]+")
FETCHERS = {"wget", "curl"}
# The words of ExternalProject_Add that end a list of another one's values.
SECTIONS = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|URL|PREFIX|TIMEOUT|COMMAND|DEPENDS")


@dataclass(frozen=True)
class Word:
    """An argument as it is written; ``exact`` is one in quotes or brackets, which is no keyword and stays whole."""

    text: str
    exact: bool = False
    raw: bool = False


@dataclass(frozen=True)
class Call:
    """A command, and for one that begins a block what is inside: of an ``if`` a body for each of its conditions."""

    name: str
    words: tuple[Word, ...]
    bodies: tuple[tuple[tuple[Word, ...] | None, tuple[Call, ...]], ...] = ()


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


def calls(text: str) -> list[Call]:
    """Return the commands of a text, in order; what is no CMake is passed over."""
    found: list[Call] = []
    words: list[Word] = []
    name, depth, last = "", 0, ""
    for match in TOKEN.finditer(text):
        kind = match.lastgroup if match.lastgroup not in {"b", "c"} else "bracket"
        if match["comment"] is not None:
            continue
        if match["paren"] is not None:
            depth += 1 if match["paren"] == "(" else -1
            if match["paren"] == "(" and depth == 1:
                name, words = last.lower(), []
            elif not depth:
                found.append(Call(name, tuple(words)))
            elif depth > 0:
                words.append(Word(match["paren"]))
            depth, last = max(depth, 0), ""
        elif depth:
            if match["bracket"] is not None:
                words.append(Word(match["bracket"], exact=True, raw=True))
            elif kind == "quoted":
                words.append(Word(re.sub(r"\\\n", "", match["quoted"]), exact=True))
            else:
                words.append(Word(match["plain"]))
        else:
            last = match["plain"] or ""
    return found


def blocks(flat: Sequence[Call]) -> tuple[Call, ...]:
    """Return commands with the bodies of their blocks inside them."""
    left = iter(flat)

    def body(ends: set[str]) -> tuple[list[Call], Call | None]:
        found: list[Call] = []
        for each in left:
            if each.name in ends:
                return found, each
            if each.name not in BLOCKS:
                found.append(each)
                continue
            end = BLOCKS[each.name]
            stops = {end, "elseif", "else"} if each.name == "if" else {end}
            bodies: list[tuple[tuple[Word, ...] | None, tuple[Call, ...]]] = []
            condition: tuple[Word, ...] | None = each.words
            while True:
                inside, stop = body(stops)
                bodies.append((condition, tuple(inside)))
                if stop is None or stop.name == end:
                    break
                condition = stop.words if stop.name == "elseif" else None
            found.append(Call(each.name, each.words, tuple(bodies)))
        return found, None

    return tuple(body(set())[0])


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
        for each in body:
            if each.name == "if":
                self.choose(each.bodies)
            elif each.name in {"foreach", "while"}:
                self.loop(each)
            elif each.name in {"function", "macro"}:
                if each.words:
                    self.functions[each.words[0].text.lower()] = each
            elif each.name in {"return", "break", "continue"}:
                raise Stop
            elif each.name in self.functions:
                self.called(self.functions[each.name], each.words)
            else:
                self.command(each)

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
        merged = {name: results[0].get(name) for each in results for name in each}
        for name in merged:
            if any(each.get(name, "") != results[0].get(name, "") for each in results):
                merged[name] = None
        self.values, self.certain = merged, certain and not stopped

    def loop(self, each: Call) -> None:
        """Go through a loop's body for each value, or once where these are unknown."""
        body = each.bodies[0][1]
        words = self.words(each.words)
        if each.name == "while" or not words or words[0] is None:
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
        return [None] if value is None else [each for each in value.split(";") if each]

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
                found += [each for each in value.split(";") if each]
        return found

    def command(self, each: Call) -> None:
        """Carry out a command of CMake's, as far as it matters here."""
        act = ACTS.get(each.name)
        words = self.words(each.words)
        if act:
            act(self, words)
        elif each.name.startswith(("find_", "check_", "try_", "get_", "math", "execute_process")):
            self.forget(each.words)

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


def _set(reading: Reading, words: Sequence[Text]) -> None:
    if not words or words[0] is None or words[0].startswith("ENV{"):
        return
    name, values = words[0], list(words[1:])
    if "CACHE" in values:
        forced = values[-1] == "FORCE"
        values = values[: values.index("CACHE")]
        if not forced and name in reading.values:
            return
    scope = reading.values
    if values and values[-1] == "PARENT_SCOPE":
        values.pop()
        scope = reading.outer[-1] if reading.outer else scope
        if not reading.certain:
            values = [None]
    if not values and len(words) == 1:
        scope.pop(name, None)
    else:
        scope[name] = None if None in values else ";".join(each or "" for each in values)


def _unset(reading: Reading, words: Sequence[Text]) -> None:
    if words and words[0]:
        reading.values.pop(words[0], None)


def _option(reading: Reading, words: Sequence[Text]) -> None:
    if words and words[0] and words[0] not in reading.values:
        reading.values[words[0]] = words[2] if len(words) > 2 else "OFF"  # noqa: PLR2004 - name, help, value


def _include(reading: Reading, words: Sequence[Text]) -> None:
    if words and words[0]:
        base = reading.root / words[0]
        tried = (base, reading.root / "cmake" / f"{words[0]}.cmake")
        path = next((each for each in tried if each.is_file()), None)
        if path:
            here = reading.values.get("CMAKE_CURRENT_LIST_DIR")
            reading.set("CMAKE_CURRENT_LIST_DIR", str(path.parent))
            reading.file(path)
            reading.set("CMAKE_CURRENT_LIST_DIR", here)


def _string(reading: Reading, words: Sequence[Text]) -> None:
    kind, *rest = words or [None]
    if kind in {"TOUPPER", "TOLOWER"} and len(rest) > 1 and rest[1]:
        text = rest[0]
        reading.set(rest[1], text and (text.upper() if kind == "TOUPPER" else text.lower()))
    elif kind == "REPLACE" and len(rest) > 3 and rest[2]:  # noqa: PLR2004 - old, new, name, texts
        known = None not in rest
        reading.set(rest[2], "".join(map(str, rest[3:])).replace(str(rest[0]), str(rest[1])) if known else None)
    elif kind in {"CONCAT", "APPEND"} and rest and rest[0]:
        first = reading.value(rest[0]) if kind == "APPEND" else ""
        known = first is not None and None not in rest
        reading.set(rest[0], str(first) + "".join(map(str, rest[1:])) if known else None)
    elif kind is not None:
        _unknown(reading, rest)


def _list(reading: Reading, words: Sequence[Text]) -> None:
    if len(words) > 1 and words[0] == "APPEND" and words[1]:
        value, more = reading.values.get(words[1], ""), words[2:]
        known = value is not None and None not in more
        reading.set(words[1], ";".join(filter(None, [value, *more])) if known else None)
    else:
        _unknown(reading, words[1:])


def _unknown(reading: Reading, words: Sequence[Text]) -> None:
    reading.forget([Word(each) for each in words if each])


def _file(reading: Reading, words: Sequence[Text]) -> None:
    if not words or words[0] != "DOWNLOAD":
        if words and words[0] in {"READ", "STRINGS", "GLOB", "GLOB_RECURSE", "MD5", "SHA256", "TO_CMAKE_PATH"}:
            _unknown(reading, words[1:])
        return
    values = dict(pairwise(words))
    place = words[2] if len(words) > 2 else ""  # noqa: PLR2004 - DOWNLOAD, address, file
    reading.download(words[1] if len(words) > 1 else "", md5=_md5(values), place=place or "")
    _unknown(reading, [values.get("STATUS"), values.get("LOG")])


def _md5(values: Mapping[Text, Text]) -> str:
    for key in ("EXPECTED_MD5", "URL_MD5"):
        if values.get(key):
            return str(values[key]).lower()
    hashed = values.get("EXPECTED_HASH") or values.get("URL_HASH") or ""
    return hashed[4:].lower() if hashed.upper().startswith("MD5=") else ""


def _project(reading: Reading, words: Sequence[Text]) -> None:
    if words and words[0]:
        _fetched(reading, words[0], words[1:], f"{reading.build}/{words[0]}-prefix")


def _content(reading: Reading, words: Sequence[Text]) -> None:
    """FetchContent: a project of its own too, which the configure itself makes."""
    if words and words[0]:
        name = words[0].lower()
        base = reading.values.get("FETCHCONTENT_BASE_DIR", f"{reading.build}/_deps")
        _fetched(reading, f"{name}-populate", words[1:], base and f"{base}/{name}-subbuild/{name}-populate-prefix")


def _fetched(reading: Reading, name: str, rest: Sequence[Text], beside: Text) -> None:
    """Note a project's archive: its address, or the line that fetches it."""
    sections: dict[str, list[Text]] = {}
    current: list[Text] = []
    for each in rest:
        if each and SECTIONS.fullmatch(each):
            current = sections.setdefault(each, [])
        else:
            current.append(each)
    values: dict[Text, Text] = {key: found[0] for key, found in sections.items() if found}
    prefix = values.get("PREFIX", beside)
    stamp = f"{prefix}/src/{name}-stamp/{name}-download" if prefix else ""
    folder = values.get("DOWNLOAD_DIR", f"{prefix}/src" if prefix else None)
    line = sections.get("DOWNLOAD_COMMAND", [])
    fetcher = next((each for each in line if each in FETCHERS), None)
    line = line[line.index(fetcher) :] if fetcher else line
    url = next((each for each in line if each and ADDRESS.fullmatch(each)), None) if fetcher else values.get("URL")
    if url is None or ("DOWNLOAD_COMMAND" in sections and not fetcher):
        return
    file_name = values.get("DOWNLOAD_NAME") or url.rpartition("/")[2]
    if fetcher and "-O" in line[:-1]:
        file_name = line[line.index("-O") + 1] or file_name
    place = f"{folder.rstrip('/')}/{file_name}" if folder else ""
    reading.download(url, md5=_md5(values), place=place, by=fetcher or "project", stamp=stamp)


def _parsed(reading: Reading, words: Sequence[Text]) -> None:
    """cmake_parse_arguments: the values after each keyword, under a prefix."""
    if len(words) < 4 or None in words[:4]:  # noqa: PLR2004 - prefix, options, keywords of one and of several values
        return
    prefix, *kinds = [str(each) for each in words[:4]]
    options, one, several = (set(each.split(";")) - {""} for each in kinds)
    found: dict[str, list[Text]] = {}
    current = ""
    for each in words[4:]:
        if each in options:
            found[str(each)] = ["TRUE"]
            current = ""
        elif each in one | several:
            current = str(each)
            found[current] = []
        elif current:
            found[current].append(each)
            current = "" if current in one else current
    for key in options | one | several:
        values = found.get(key, ["FALSE"] if key in options else [])
        if values or key in found:
            reading.set(f"{prefix}_{key}", None if None in values else ";".join(map(str, values)))
        else:
            reading.values.pop(f"{prefix}_{key}", None)


ACTS: dict[str, Callable[[Reading, Sequence[Text]], None]] = {
    "set": _set,
    "unset": _unset,
    "option": _option,
    "include": _include,
    "string": _string,
    "list": _list,
    "file": _file,
    "externalproject_add": _project,
    "fetchcontent_declare": _content,
    "cmake_parse_arguments": _parsed,
}


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
            except ValueError:  # what is no number is neither less nor more
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
    found = [int(each) for each in re.findall(r"\d+", text)]
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
    for each in reading.downloads:
        before = found.get((each.url, each.place))
        if before is None or (each.certain and not before.certain):
            found[each.url, each.place] = each
    return list(found.values())
