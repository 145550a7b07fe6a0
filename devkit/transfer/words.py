"""The words of a transfer's command line: sources and places, lists of files, rates and sizes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import UsageError
from devkit.transfer.ssh import RemotePath, parse_place

if TYPE_CHECKING:
    from collections.abc import Sequence


def _places(word: str) -> list[RemotePath]:
    """Return the places that ``HOST:PATH`` or ``a:,b:PATH`` names; none where it is a path of this machine."""
    parts = word.split(",") if "," in word and all(":" in part for part in word.split(",")) else [word]
    found = [place for part in parts if (place := parse_place(part)) is not None]
    return found if len(found) == len(parts) else []


def parse_send(words: Sequence[str]) -> tuple[tuple[str, ...], list[RemotePath]]:
    """Return the sources and the places of ``send SRC… HOST:PATH``; ``a:,b:x`` are several hosts."""
    *sources, target = words
    check_names(words)
    found = _places(target)
    if not sources or not found:
        why = f"{target} names no host." if not found else f"Nothing stands before {target}."
        raise UsageError("send takes sources and then HOST:PATH", why, "devkit send file host:folder/")
    for source in sources:
        if not os.path.lexists(source) and parse_place(source):
            raise UsageError(f"{source} is on another host", "send takes files of this machine.", "devkit recv --help")
    if len({str(place) for place in found}) != len(found):
        raise UsageError("one host and path is named twice", "Two transfers would write the same files.")
    return tuple(sources), found


def parse_recv(words: Sequence[str]) -> tuple[list[tuple[RemotePath, tuple[str, ...]]], str]:
    """Return each host's first place and its paths, and the destination here, of ``recv HOST:PATH… DST``."""
    *sources, destination = words
    check_names(words)
    found = [_places(source) for source in sources]
    is_elsewhere = not os.path.lexists(destination) and parse_place(destination) is not None
    if not found or not all(found) or is_elsewhere:
        why = f"{destination} is on another host." if is_elsewhere else ""
        why = next((f"{word} names no host." for word, places in zip(sources, found, strict=True) if not places), why)
        raise UsageError("recv takes HOST:PATH… and then a folder here", why, "devkit recv host:file .")
    hosts: dict[str, list[RemotePath]] = {}
    for place in (place for places in found for place in places):
        hosts.setdefault(place.host, []).append(place)
    return [(places[0], tuple(place.path for place in places)) for places in hosts.values()], destination


def read_list(name: str | None) -> tuple[bytes, ...] | None:
    """Return the paths that a file lists, one a line or ended by NUL; ``-`` is standard input; None for no file."""
    if name is None:
        return None
    check_names([name])
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read", f"{error.strerror}.") from error
    paths = [path.rstrip(b"\r") for path in data.split(b"\0" if b"\0" in data else b"\n") if path.strip()]
    for path in paths:
        if path.startswith(b"/") or b".." in path.split(b"/"):
            raise UsageError(
                f"{os.fsdecode(path)!r} leads out", "Paths of --files-from are in the folder that is copied."
            )
    return tuple(paths)


def check_names(words: Sequence[str]) -> None:
    """Refuse words that name nothing: an empty one would be taken for the folder that one stands in."""
    if not all(words):
        raise UsageError("a name is empty", "A variable that holds nothing, perhaps. The folder one stands in is .")


def parse_rate(word: str) -> int:
    """Return the bytes a second that ``10M``, ``1.5GiB`` or ``500k`` mean, all binary; 0 for no word."""
    rate = _bytes(word.strip().removesuffix("/s"))
    if word and rate < 1:
        raise UsageError(f"{word!r} is not a rate", "A rate is bytes a second: 500k, 10M, 1.5G.")
    return rate


def parse_size(word: str) -> int:
    """Return the bytes that ``10M``, ``1.5GiB`` or ``0`` mean, all binary."""
    found = _bytes(word)
    if found < 0:
        raise UsageError(f"{word!r} is not a size", "A size is bytes: 500k, 10M, 1.5G.")
    return found


def _bytes(word: str) -> int:
    """Return the bytes that a word means; none mean 0, and one that is not a number -1."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)(?:i?b)?", word.strip(), re.IGNORECASE | re.ASCII)
    if not found:
        return -1 if word.strip() else 0
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
