"""The failure of a script, told by its root: the first exception of a chain, and where it was raised."""

from __future__ import annotations

import functools
import os
import re
import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

PEER_LOST = re.compile(
    r"Connection (?:closed|reset|refused)|Broken pipe|Timed? ?out|gloo[:/]|NCCL|TCPStore|tcp_store|"
    r"tcp_utils|Socket|recv failed|peer",
    re.IGNORECASE,
)
"""What an exception says that comes out of a collective because another rank is gone or late."""
SUMMARY = re.compile(
    r"^Error Message Summary:\n-+\n(?P<text>.+?)(?:\n\s*\[(?:Hint|operator)|\n\s*\(at |\Z)", re.DOTALL | re.MULTILINE
)
LINES = 12
START = os.getcwd() + os.sep  # noqa: PTH109 - a script may go elsewhere
GUARD = str(Path(__file__).parent) + "/"
ROOM = str(Path(__file__).parent.parent) + "/"
STANDARD = sysconfig.get_paths()["stdlib"] + "/"


@dataclass(frozen=True)
class Failure:
    """What an exception that ended a script says.

    Attributes:
        what: the root exception's type and message.
        where: file and line that raised it, of the script's own files where one is on the way.
        via: the exception that ended the script, where it is another one.
        waiting: it came out of a collective because of another rank.
    """

    what: str
    where: str
    via: str
    traceback: str
    waiting: bool


def root(error: BaseException) -> BaseException:
    """Return the first exception of a chain, and of a group's; ``raise … from None`` hides what was before it."""
    seen = {id(error)}
    while True:
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        grouped = getattr(error, "exceptions", None)
        if before is None and isinstance(grouped, tuple):
            before = next((item for item in grouped if isinstance(item, BaseException)), None)
        if before is None or id(before) in seen:
            return error
        seen.add(id(before))
        error = before


def text_of(error: BaseException) -> str:
    """Return an exception's text; one of the script's own may fail to tell it, and then it is as Python prints it."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever it is, the error itself is to be told
        return "<exception str() failed>"


def message(error: BaseException) -> str:
    """Return an exception's type and what it says; of Paddle's own C++ errors their summary."""
    text = text_of(error)
    found = SUMMARY.search(text)
    if found:
        return " ".join(found["text"].split())
    name = type(error).__name__
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    first = next(iter(text.strip().splitlines()), "")
    return f"{name}: {first}" if first else name


def where(trace: TracebackType | None) -> str:
    """Return the innermost line of the user's own files on a trace, else its innermost line that is not the guard's."""
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(GUARD)]
    own = [frame for frame in frames if is_users(frame.filename)]
    chosen = (own or frames)[-1:]
    return f"{shown(chosen[0].filename)}:{chosen[0].lineno} in {chosen[0].name}" if chosen else ""


def shown(filename: str) -> str:
    """Return a file's name as seen from where the script was started."""
    return filename.removeprefix(START)


@functools.lru_cache(maxsize=4096)
def is_users(filename: str) -> bool:
    """Tell whether a file is none of a library's and none of the guard's."""
    if filename.startswith("<"):
        return False
    library = {"site-packages", "dist-packages"} & set(Path(filename).parts)
    return not library and not filename.startswith((STANDARD, ROOM))


def shown_traceback(error: BaseException) -> str:
    """Return an exception as Python prints it, without the guard's own frames."""
    told = traceback.TracebackException(type(error), error, error.__traceback__)
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        link = waiting.pop()
        if link is not None:
            link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(ROOM)]
            waiting += [link.__cause__, link.__context__]
    return "".join(told.format())


def explain(error: BaseException, collective: str) -> Failure:
    """Return what ended a script; ``collective`` is the one it was in, or ""."""
    first = root(error)
    lines = traceback.format_exception(type(first), first, first.__traceback__, chain=False)
    kept = [line for line in lines if "devkit/kernels/guard/" not in line]
    text = "".join(kept).strip()
    return Failure(
        what=message(first),
        where=where(first.__traceback__),
        via=message(error) if first is not error else "",
        traceback="\n".join(text.splitlines()[-LINES:]),
        waiting=bool(collective) and bool(PEER_LOST.search(text_of(first))),
    )
