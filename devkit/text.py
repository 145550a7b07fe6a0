"""Figures and names as people read them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

MINUTE_S = 60.0
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Overwritten(str):
    """A line that its program overwrites with the next one, as progress bars do.

    Attributes:
        due: whether a log should keep it, which has room for one a second.
    """

    due: bool
    __slots__ = ("due",)

    def __new__(cls, text: str, *, due: bool) -> Self:
        """Make it of a text."""
        line = super().__new__(cls, text)
        line.due = due
        return line


def printable(text: str) -> str:
    r"""Return ``text`` with control characters, bidirectional overrides and stray bytes written out (``\x1b``)."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shown(name: bytes) -> str:
    r"""Return a path in one line: what is not UTF-8, does not print or breaks lines written out (``\n``, ``\xff``)."""
    return printable(name.decode("utf-8", "backslashreplace")).replace("\n", r"\n").replace("\t", r"\t")


def significant(value: float, digits: int = 3) -> str:
    """Return ``value`` with three significant digits and no exponent: 0.0123, 52.1, 5140."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{abs(rounded):e}".split("e")[1])
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}"


def duration(seconds: float) -> str:
    """Return a time as 52 ms, 1.36 s or 3 min 12 s."""
    if seconds < 1:
        return f"{significant(seconds * 1e3)} ms"
    if seconds < MINUTE_S:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), int(MINUTE_S))
    if minutes < MINUTE_S:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, int(MINUTE_S))
    return f"{hours} h {minutes} min"


def ago(time_s: float) -> str:
    """Return how long ago a time (seconds since 1970) was: 52 s ago, 3 min ago, 5 h ago, 12 days ago."""
    seconds = max(time.time() - time_s, 0.0)
    for limit, step, unit in ((MINUTE_S, 1.0, "s"), (3600.0, MINUTE_S, "min"), (2 * 86400.0, 3600.0, "h")):
        if seconds < limit:
            return f"{int(seconds / step)} {unit} ago"
    return f"{int(seconds / 86400)} days ago"


def size(number_of_bytes: float) -> str:
    """Return a size as 512 B, 3.2 KiB, 6.1 MiB or 1.4 GiB."""
    value = float(number_of_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":  # noqa: PLR2004 - the step between binary units
            break
        value /= 1024
    return f"{int(value)} B" if unit == "B" else f"{significant(value)} {unit}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 file`` or ``3 files``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def in_cells(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` cells: broken at blanks where there are some, else anywhere."""
    from rich.cells import cell_len, chop_cells

    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
            continue
        lines += chop_cells(word, width) if cell_len(word) > width > 0 else [word]
    return lines or [""]


def local_time(stamp: str) -> str:
    """Return a time in ISO 8601 as a clock here shows it, ``2026-11-28 20:12``; other text as it is."""
    import datetime as dt

    try:
        return f"{dt.datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return stamp


def zone(stamp: str = "") -> str:
    """Return the zone of this machine's clock, at a time in ISO 8601 or now: ``UTC``, ``CST, UTC+8``."""
    import datetime as dt

    try:
        here = (dt.datetime.fromisoformat(stamp) if stamp else dt.datetime.now(dt.timezone.utc)).astimezone()
    except ValueError:
        return ""
    minutes = int((here.utcoffset() or dt.timedelta()).total_seconds() // 60)
    if not minutes:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours}" + (f":{rest:02}" if rest else "")
