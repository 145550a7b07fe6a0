"""Logs as people keep them: packed, in any encoding, with colours, times and steps before each line; as plain text.

Everything here is linear in the length of the log.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING, cast

from devkit.builds.rules import literals
from devkit.builds.templates import table
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST = 2 << 30
PIECE = 8 << 20
HEAD = 1 << 16
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
# A file with so many of these in its head is not text.
CONTROL = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
BINARY_SHARE = 0.02
CHINESE_WORDS = ("错误", "没有", "无法", "失败", "警告", "已杀死")

ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # titles, links (OSC)
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor (CSI)
    r"|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[ -/]*[0-~]"
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
PREFIXES = re.compile(
    r"(?:"
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]? ?"  # CI and docker logs -t
    r"|\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]? "
    r"|#\d+ (?:\d+\.\d+ )?(?=\S| )"  # BuildKit
    r"|\d{1,4}>(?:  )?(?=\s*\S)"  # MSBuild
    r"|##\[\w+\]"  # GitHub's workflow commands
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [\w./-]+(?:\[\d+\])?: "  # the journal
    r"|[A-Za-z][\w.-]{0,40} +\| "  # docker compose
    r"|[^\t\n]{1,80}\t[^\t\n]{1,80}\t"  # gh run view --log
    r"|\[cmake\] |\[build\] |\[stderr\] |\[stdout\] |stderr: |stdout: |INFO: pip is looking.*"
    r"|\s*[|│] (?=\s)"  # pip's box
    r")"
)
MOST_PREFIXES = 4
# What pip and uv quote of a build, set in by so much.
QUOTED = re.compile(
    rb"(?m)^(?:.*\[\d+ lines of output\]|[ \t]+\[std(?:out|err)\])[ \r]*\n(?:(?:      .*|[ \t\r]*)(?:\n|\Z))+"
)
INDENT = re.compile(rb"(?m)^      ")
LONGEST_LINE = 8000


@dataclass(frozen=True)
class Line:
    """A line of a log: where it begins (bytes), its number from 1, and its text without what stands before it."""

    start: int
    number: int
    text: str


def load(path: Path) -> bytes:
    """Return what a log holds as UTF-8, unpacked.

    Raises:
        DevkitError: it cannot be read or unpacked, or is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror or error}.") from error
    return text_of(data, str(path))


def text_of(data: bytes, name: str) -> bytes:
    """Return a log as UTF-8, unpacked.

    Raises:
        DevkitError: it cannot be unpacked, is empty, or is not text.
    """
    packed = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "")
    if packed:
        data = _unpacked(data, packed, name)
    data = _utf8(data)
    if not data.strip():
        raise DevkitError(f"{name} is empty", "There is nothing in it that could be read; the build was not logged.")
    head = data[:HEAD]
    if len(CONTROL.findall(head)) > BINARY_SHARE * len(head):
        raise DevkitError(f"{name} is not text", "It looks like a program or an archive.", f"file {name}")
    return data


def _unpacked(data: bytes, kind: str, name: str) -> bytes:
    import zstandard

    broken = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
    try:
        if kind == "zip":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = sorted((zip_info for zip_info in archive.infolist() if not zip_info.is_dir()), key=_natural)
                return b"\n".join(_bounded(archive.open(member), name) for member in members)
        if kind == "zstd":
            return _bounded(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True), name)
        opened = io.BytesIO(data)
        if kind == "gzip":
            return _bounded(cast("IO[bytes]", gzip.GzipFile(fileobj=opened)), name)
        return _bounded(lzma.LZMAFile(opened) if kind == "xz" else bz2.BZ2File(opened), name)
    except (*broken, NotImplementedError, zstandard.ZstdError) as error:
        why = f"It is packed by {kind}, and cut off or broken: {error}."
        raise DevkitError(f"{name} cannot be unpacked", why) from error


def _natural(member: zipfile.ZipInfo) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", member.filename)]


def _bounded(file: IO[bytes], name: str) -> bytes:
    pieces, size = [], 0
    while piece := file.read(PIECE):
        size += len(piece)
        if size > LARGEST:
            raise DevkitError(f"{name} holds more than {LARGEST >> 30} GiB", "That is not a log.")
        pieces.append(piece)
    return b"".join(pieces)


def _utf8(data: bytes) -> bytes:
    """Return text in UTF-8: from UTF-16 and GB18030 too, which Windows and Chinese terminals write."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", "replace").encode()
    head = data[:HEAD]
    if len(head) > 1 and head[1::2].count(0) > len(head) // 4:
        return data.decode("utf-16-le", "replace").encode()
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:]
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            text = data.decode("gb18030", "replace")
            if any(word in text for word in CHINESE_WORDS):
                return text.encode()
    return data


def clean(text: str) -> list[str]:
    """Return a line as the terminal's texts that it holds: without escapes and prefixes, split at carriage returns."""
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    if "\x08" in text:
        text = re.sub("[^\x08]\x08", "", text)
    found = []
    for part in text.split("\r") if "\r" in text else (text,):
        shown = CONTROLS.sub("", part[:LONGEST_LINE]).rstrip()
        if shown.strip():
            found.append(translated(without_prefix(shown)))
    return found


def unquoted(data: bytes) -> bytes:
    """Return a log in which what pip and uv quote of a build stands as the build said it."""
    if b"lines of output]" not in data and b"[std" not in data:
        return data
    return QUOTED.sub(lambda match: INDENT.sub(b"", match[0]), data)


def without_prefix(text: str) -> str:
    """Return a line without what CI, BuildKit, pip and others put before it."""
    for _ in range(MOST_PREFIXES):
        match = PREFIXES.match(text)
        if match is None or not match[0]:
            break
        text = text[match.end() :]
    return text


@cache
def _dictionary() -> tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...]:
    """Return each phrase: words of which a line with it holds one (none where any may), expression and English."""
    rows = table("chinese")["phrase"]
    return tuple((literals(row["chinese"]), re.compile(row["chinese"]), row["english"]) for row in rows)


CHINESE = re.compile("[\u4e00-\u9fff]")


def translated(text: str) -> str:
    """Return what a tool says under zh_CN in its own English, as far as the rules need it."""
    if not CHINESE.search(text):
        return text
    for words, pattern, english in _dictionary():
        if not words or any(word in text for word in words):
            text = pattern.sub(english, text)
    return text


def lines(data: bytes, start: int = 0, end: int | None = None, number: int = 1) -> Iterator[Line]:
    """Yield the lines of a part of a log, cleaned; a line with carriage returns once for each text that it showed."""
    end = len(data) if end is None else end
    while start < end:
        stop = data.find(b"\n", start, end)
        stop = end if stop < 0 else stop
        for text in clean(data[start:stop].decode(errors="replace")):
            yield Line(start, number, text)
        start, number = stop + 1, number + 1
