"""The commands of CMake that matter to what is downloaded."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from devkit.builds.cmake.syntax import Word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devkit.builds.cmake.reading import Reading, Text

ADDRESS = re.compile(r"(?:https?|ftp|file)://[^\r\n]+")
FETCHERS = {"wget", "curl"}
# The words of ExternalProject_Add that end a list of another one's values.
SECTIONS = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|URL|PREFIX|TIMEOUT|COMMAND|DEPENDS")


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
        scope[name] = None if None in values else ";".join(value or "" for value in values)


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
        path = next((candidate for candidate in tried if candidate.is_file()), None)
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
    reading.forget([Word(word) for word in words if word])


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
    for word in rest:
        if word and SECTIONS.fullmatch(word):
            current = sections.setdefault(word, [])
        else:
            current.append(word)
    values: dict[Text, Text] = {key: found[0] for key, found in sections.items() if found}
    prefix = values.get("PREFIX", beside)
    stamp = f"{prefix}/src/{name}-stamp/{name}-download" if prefix else ""
    folder = values.get("DOWNLOAD_DIR", f"{prefix}/src" if prefix else None)
    line = sections.get("DOWNLOAD_COMMAND", [])
    fetcher = next((word for word in line if word in FETCHERS), None)
    line = line[line.index(fetcher) :] if fetcher else line
    url = next((word for word in line if word and ADDRESS.fullmatch(word)), None) if fetcher else values.get("URL")
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
    prefix, *kinds = [str(word) for word in words[:4]]
    options, one, several = (set(kind.split(";")) - {""} for kind in kinds)
    found: dict[str, list[Text]] = {}
    current = ""
    for word in words[4:]:
        if word in options:
            found[str(word)] = ["TRUE"]
            current = ""
        elif word in one | several:
            current = str(word)
            found[current] = []
        elif current:
            found[current].append(word)
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
