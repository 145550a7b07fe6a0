"""A clone of a small project."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONFLICTING = 8


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a small project with three requests, of which one conflicts with the base, and a fork."""
    forge, folder = tmp_path / "project", tmp_path / "clone"
    git(tmp_path, "init", "-q", "-b", "develop", str(forge))
    (forge / "python" / "paddle" / "nn").mkdir(parents=True)
    (forge / "python" / "paddle" / "nn" / "layer.py").write_text("z = 1\n")
    (forge / "money.py").write_text("def add(a, b):\n    return a + b\n")
    git(forge, "add", "-A")
    git(forge, "commit", "-q", "-m", "Begin")
    git(forge, "branch", "release/3.0")
    git(tmp_path, "clone", "-q", "--bare", str(forge), str(tmp_path / "fork.git"))
    for number in (7, 8, 1007):
        git(forge, "switch", "-q", "-c", f"request{number}")
        (forge / ("later.py" if number == CONFLICTING else f"more{number}.py")).write_text("x = 1\n")
        git(forge, "add", "-A")
        git(forge, "commit", "-q", "-m", f"Request {number}")
        git(forge, "update-ref", f"refs/pull/{number}/head", "HEAD")
        git(forge, "switch", "-q", "develop")
    (forge / "later.py").write_text("y = 1\n")
    git(forge, "add", "-A")
    git(forge, "commit", "-q", "-m", "Later")
    git(tmp_path, "clone", "-q", "-o", "upstream", str(forge), str(folder))
    git(folder, "remote", "add", "fork", str(tmp_path / "fork.git"))
    git(folder, "fetch", "-q", "fork")
    (folder / "request.md").write_text("It adds.\n")
    for name in ("error.log", "build.log"):
        (folder / name).write_text(
            "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.\n"
        )
    return folder
