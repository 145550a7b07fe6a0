"""Patterns of what is left out mean what they mean to git."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

from devkit.transfer.remote.names import Ignore

if TYPE_CHECKING:
    from pathlib import Path

PIECES = [
    *("a", "b", "1", "z", "A", ".", "/", "*", "?", "**/", "!", "#", " ", "-", "\\", "[", "[!", "[^", "]"),
    *("[a-c]", "[c-a]", "[]]", "[\\]a]", "[!a]", "[[:digit:]]", "[[:alpha:]", "[:foo:]", "[[:punct:]x]"),
]
NAMES = [
    *(
        "a",
        "b",
        "1",
        "ab",
        "a1",
        "a.b",
        "z",
        "A",
        "-",
        "]",
        "[",
        "\\",
        "a]",
        "a-b",
        "!a",
        "#",
        "d/a",
        "d/b1",
        "a/b",
        "c",
    ),
    *("ca", " ", "a ", "[a]", "1.", "..x", "^", "*", "?", "a*", "a?", "x", ","),
]


def test_random_patterns_leave_out_what_git_leaves_out(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    chosen = random.Random(7)  # noqa: S311 - the same patterns each time
    patterns = sorted({"".join(chosen.choice(PIECES) for _ in range(chosen.randint(1, 5))) for _ in range(150)})
    wrong = []
    for pattern in patterns:
        (tmp_path / ".gitignore").write_bytes(pattern.encode() + b"\n")
        told = subprocess.run(
            ["git", "check-ignore", "-z", "--stdin", "--no-index", "-v", "-n"],
            cwd=tmp_path,
            input="\0".join((*NAMES, "")).encode(),
            capture_output=True,
            check=False,
        ).stdout.split(b"\0")
        theirs = {
            told[i + 3].decode(): bool(told[i + 2]) and told[i + 2][:1] != b"!" for i in range(0, len(told) - 3, 4)
        }
        ignore = Ignore([pattern.encode()])
        for name in NAMES:
            parts = name.split("/")
            ours = any(
                ignore.leaves_out("/".join(parts[:depth]).encode(), depth < len(parts))
                for depth in range(1, len(parts) + 1)
            )
            if theirs[name] != ours:
                wrong.append((pattern, name, theirs[name]))
    assert wrong == []
