"""What of a log may tell how it ended: lines that hold one of certain words, messages of CMake's as a whole.

Of a build's log that is a small part: steps and compilers' commands are not looked at, and of very many lines the first
and the last ones.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from devkit.builds import logfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Words of which a line holds one where it says anything of a failure, or of an end that was good; a line that is not
# ASCII may say so in Chinese.
WORDS = (
    "rror", "ERROR", "FAIL", "ailed", "atal", "annot", "an't", "illed", " not ", "NOT", "No ", "o module",
    "ndefined", "nable to", "efused", "enied", "ubious", "bort", "egmentation", "racebac", "issing",
    "nsupported", "ncompatib", "ismatch", "ut of ", "oo many", "imed out", "imeout", "too short", "xceed",
    "equire", "xception", "runcated", "orrupt", "nvalid", "unrecogni", "nknown", "*** ", "exit ", "exited",
    "non-zero", "is defined in header", "still dirty", "Clock skew", "previously applied", "been removed",
    "uccessfully", "ucceeded", ".....", "been written to", "100%", "no work to do", " passed", "checked out", "etry",
    "compiler identification", "[1/", "[0/", "already", "recompile", "OOM", "oom-", "llegal", "managed",
    "modified", "stopped", "Stack dump", "SIG", "Resource", "multiple definition", "uplicate", "conflict",
    "terminate", "Descriptors", "nan", "Collecting ", "Processing ", "Configuring done", "newer version",
    "forget", "137", "nexpected", "ad-only", "hash: ", "status: [", "Problem", "wrong", "curl: (", "\n+ ",
    "\n$ ", "\nOK", "tolerance", "approv", "expected >= ", "NO_PUBKEY", "no longer", "fail,", ") fail", "has diff",
    "(ADVANCED)", "Stale", ", prefer ", "writing image", "naming to ", "Installed ", "Audited ", " busy", "malformed",
    "Finished ", "install_scripts",
    "collided", "too long", "will not add", "holds no memory", "ipykernel", "over its data", "no more ", "syntax",
    "referenced from", "nterrupted", "\nE: ", "removing build/b", "Pod completed", "ad substitution", "Wsl/",
    "onger than",
)  # fmt: skip
WORDS_BYTES = tuple(word.encode() for word in WORDS)
STEP_BYTES = re.compile(
    rb"\[\s*(?!1/|0/|100%)(\d+)(?:/(?!\1\])\d+|%)\] (?:Building|Linking|Generating|Built|Copying|/\S+ )"
)
LAST_STEP_BYTES = re.compile(rb"\[\s*(\d+)/\1\] ")
CALL = 1 << 14
MOST_LINES = 40_000
LAST_LINES = 4_000
COMMAND = re.compile(
    r"(?:cd \S+ && )?(?:\S*/)?(?:c\+\+|g\+\+|gcc|cc|clang\+*|nvcc|hipcc|ccache|cmake)(?:-\d+)? .*(?: -c | -o | -D)"
)
BLOCK = re.compile(r"^CMake (?:Error|Warning|Deprecation Warning)\b")
OTHER_STREAM = re.compile(r"-- |See also \"")
LONGEST_BLOCK, MOST_BETWEEN = 60, 8
NUMBERS = re.compile(r"0x[0-9a-f]+|(?<!\d)[2-9](?!\d)|\d{2,}(?<!137)(?<!100)")
ALIKE = 160


@dataclass(frozen=True)
class Unit:
    """A line, or a whole message of CMake's: its byte, its first line's number, the texts of its lines."""

    start: int
    number: int
    texts: tuple[str, ...]

    @property
    def heading(self) -> str:
        """The first line."""
        return self.texts[0]

    @cached_property
    def alike(self) -> str:
        """The first line without its numbers but 0 and 1, which tell steps, counts and statuses apart."""
        return NUMBERS.sub("#", self.heading[:ALIKE])


def read_units(data: bytes, progress: Callable[[float], None] | None = None) -> Iterable[Unit]:
    """Yield the lines that may say something of an end, messages of CMake's as a whole."""
    number, counted, behind = 1, 0, 0
    for start in _candidates(data, progress):
        if start < behind:
            continue
        number += data.count(b"\n", counted, start)
        counted = start
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        for text in logfile.clean(data[start:end].decode(errors="replace")):
            if BLOCK.match(text):
                texts, behind = _message(data, text, end + 1)
                yield Unit(start, number, texts)
            elif not COMMAND.match(text):
                yield Unit(start, number, (text,))


def _candidates(data: bytes, progress: Callable[[float], None] | None) -> list[int]:
    """Return where lines begin that hold one of the words; steps of a build and commands of compilers hold none.

    Of more than ``MOST_LINES`` the first and the last ones are returned; what lies between is not even read.
    """
    begins = [0]
    while begins[-1] < len(data):
        end = data.find(b"\n", min(begins[-1] + logfile.PIECE, len(data)))
        begins.append(len(data) if end < 0 else end + 1)
    pieces = [*pairwise(begins)]
    first: list[int] = []
    last: list[int] = []
    while pieces and len(first) < MOST_LINES - LAST_LINES:
        begin, end = pieces.pop(0)
        first += _candidates_between(data, begin, end)
        if progress:
            progress(end / len(data))
    while pieces and len(last) < LAST_LINES:
        last[:0] = _candidates_between(data, *pieces.pop())
    if progress:
        progress(1.0)
    found = first + last
    return found if len(found) <= MOST_LINES else [*found[: MOST_LINES - LAST_LINES], *found[-LAST_LINES:]]


def _candidates_between(data: bytes, begin: int, end: int) -> list[int]:
    """Return where lines of a piece begin that hold one of the words, in their order."""
    found = set() if begin else {0}  # what ran may stand in the first line
    starts, places, kept = [], [], []
    start = place = 0
    for line in data[begin:end].split(b"\n"):
        if not (line[:1] == b"[" and STEP_BYTES.match(line)) and not (b" -o " in line and b" -c " in line[:CALL]):
            if not line.isascii() or (line[:1] == b"[" and LAST_STEP_BYTES.match(line)):
                found.add(begin + start)
            starts.append(start)
            places.append(place)
            kept.append(line)
            place += len(line) + 1
        start += len(line) + 1
    piece = b"\n".join(kept)
    for word in WORDS_BYTES:
        position = piece.find(word)
        while position >= 0:
            position += word.startswith(b"\n")
            found.add(begin + starts[bisect_right(places, position) - 1])
            stop = piece.find(b"\n", position)
            position = piece.find(word, stop) if stop >= 0 else -1
    return sorted(found)


def _message(data: bytes, heading: str, start: int) -> tuple[tuple[str, ...], int]:
    """Return the lines of a message of CMake's, and where what follows it begins.

    CMake says how it goes on another stream, whose lines may come between a heading and its text.
    """
    texts = [heading]
    between = MOST_BETWEEN if heading.endswith(":") else 0
    listed = heading.endswith("NOTFOUND.")  # the one message whose text is not indented
    for line in _each_line(data, start):
        text, stop = line
        shown = (logfile.clean(text) or [""])[-1]
        if between and len(texts) == 1 and OTHER_STREAM.match(shown):
            between -= 1
            continue
        flush = shown and not shown.startswith(" ") and not (listed and not shown.startswith(("-- ", "CMake ")))
        if shown.startswith("Call Stack") or flush or (listed and not shown) or len(texts) > LONGEST_BLOCK:
            break
        texts.append(shown)
        start = stop
    return tuple(texts), start


def _each_line(data: bytes, start: int) -> Iterable[tuple[str, int]]:
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        yield data[start:end].decode(errors="replace"), end + 1
        start = end + 1
