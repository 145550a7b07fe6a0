"""Since which release an API is there."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.ops.since import since

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with releases that are not tagged in their order, and one that is not a release."""
    (tmp_path / "python" / "paddle").mkdir(parents=True)
    git(tmp_path, "init", "-q")
    text = "def add(x):\n    return x\n"
    for tag in ("v2.9.0", "v2.10.0", "v2.10.1-rc0", "v3.0.0"):
        text += "\n\ndef diff(x):\n    return x\n" if tag == "v2.10.0" else ""
        (tmp_path / "python" / "paddle" / "math.py").write_text(text)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", tag)
        git(tmp_path, "tag", tag)
    return tmp_path


def test_the_first_release_that_defines_it(clone: Path) -> None:
    assert since(App(), clone, "paddle.diff") == "v2.10.0"
    assert since(App(), clone, "paddle.add") == "v2.9.0 or before"
    assert since(App(), clone, "paddle.nothing") == ""
    git(clone, "config", "remote.origin.promisor", "true")
    assert since(App(), clone, "paddle.diff") == "", "it would fetch every old file"
