"""How something is fetched, from the words of a command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import UsageError
from devkit.redact import remember_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


TO_STDOUT = "-"


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch."""

    destination: str = "."  # a folder, or for one file its new name; ``-`` is standard output
    connections: int = 4  # how many are used at once
    rate: int = 0  # the most bytes a second; 0 is not a limit
    checksum: bool = False  # compare the content of files whose size and time are the same (from ``devkit serve``)
    sha256: str = ""  # what the file must hash to, hexadecimal; empty is not checked
    dry_run: bool = False  # stop after the plan
    replace: bool = False  # replace a file of the name that the server chose, though it is somebody else's
    headers: Mapping[str, str] = field(default_factory=dict)  # what else the server is told
    environ: Mapping[str, str] | None = None  # the variables that name proxies; this process's by default
    ask: Callable[[Path], bool] | None = None  # asks whether such a file is replaced; None where nobody can be asked

    @property
    def keeps_what_came(self) -> bool:
        """Whether a later run can go on from what came: not in standard output, a device or a pipe."""
        target = Path(self.destination)
        return self.destination != TO_STDOUT and (target.is_file() or target.is_dir() or not target.exists())


def parse_header(word: str) -> dict[str, str]:
    """Return the head that ``Name: value`` is, or the heads of the lines of ``@FILE``, which no command line shows.

    Raises:
        UsageError: it is none, or there is no such file.
    """
    try:
        lines = Path(word[1:]).read_text("utf-8").splitlines() if word.startswith("@") else [word]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{word[1:]} cannot be read", f"{error}.") from error
    found = {}
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        if (
            not colon
            or not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII)
            or re.search(r"[\x00-\x1f\x7f]", value)
        ):
            raise UsageError("a header is Name: value", "", "devkit get -H 'Authorization: Bearer …' ADDRESS")
        found[name] = value.strip()
        remember_secret(value.strip())
        remember_secret(value.strip().rpartition(" ")[2])
    return found


def parse_sha256(word: str | None) -> str:
    """Return a SHA-256 in lower case; empty for none."""
    if word is None:
        return ""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", word):
        raise UsageError(f"{word!r} is not a SHA-256", "It has 64 hexadecimal digits.")
    return word.lower()
