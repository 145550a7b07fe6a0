"""What is no condition of the work: locks, and a home for records."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit

WITHOUT_LOCKS = "from tests.refusals import without_locks; without_locks()"
NO_LOCKS = "! this file system has no locks: "


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    for words in (["init", "-q", str(folder)], ["-C", str(folder), "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], check=True, timeout=60)
    (folder / "loose.txt").write_text("loose\n")
    return folder


@pytest.mark.parametrize(
    ("line", "beside"),
    [
        ("config set runs.keep 7", "config.toml.held"),
        ("env create it --paddle none", ".held"),
        ("wip save", "lock.held"),
    ],
)
def test_where_locks_are_refused_a_file_is_one_and_that_is_said_once(
    line: str, beside: str, devkit: Devkit, clone: Path, home: Path
) -> None:
    done = devkit(*line.split(), cwd=clone, env={"FORKS_FIRST": WITHOUT_LOCKS})
    assert (done.status, done.err.count(NO_LOCKS)) == (0, 1), done.err
    assert f"{beside} is used as one" in done.err
    assert not [path for folder in (home, clone) for path in folder.rglob("*.held")]
    assert NO_LOCKS not in devkit("config", "set", "runs.keep", "8", cwd=clone).err
