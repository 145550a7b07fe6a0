"""What is no condition of the work: locks, and a home for records."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.devkit.transfer.web import plain

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit
    from tests.forks import Result

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


AS_ANYBODY = "from tests.refusals import as_anybody; as_anybody()"
NO_RECORD = "! no record of this run is kept ("


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("wip save", 0),
        ("check --fast --base HEAD", 0),
        ("env create .venv --paddle none", 0),
        ("launch --nproc 1 -- hello.py", 0),
        ("get URL/file there", 0),
        ("get URL/file hello.py/there", 1),
        ("bisect --good HEAD~1 -- test ! -e second.txt", 0),
    ],
)
def test_in_a_home_that_cannot_be_written_the_work_is_done_and_no_record_is_said_to_be_kept(
    line: str, status: int, devkit: Devkit, clone: Path, tmp_path: Path
) -> None:
    (clone / "hello.py").write_text("print('hello')\n")
    (clone / "second.txt").touch()
    for words in (["add", "second.txt"], ["commit", "-q", "-m", "second"]):
        subprocess.run(["git", "-C", str(clone), *words], check=True, timeout=60)
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    read_only = {"HOME": str(home), "FORKS_FIRST": AS_ANYBODY}
    read_only |= {f"XDG_{name}_HOME": "" for name in ("CONFIG", "STATE", "DATA", "CACHE")}

    def run(name: str, env: dict[str, str]) -> tuple[Result, set[str]]:
        folder = tmp_path / name
        shutil.copytree(clone, folder, symlinks=True)
        words = line.replace("URL", server.url).replace(" -- ", f" --env {sys.prefix} -- ").split()
        done = devkit(*words, cwd=folder, env=env)
        return done, {str(path.relative_to(folder)) for path in folder.rglob("*") if ".git" not in path.parts}

    with plain(b"data") as server:
        usual, left = run("usual", {})
        kept, left_there = run("kept nothing", read_only)
    assert (usual.status, usual.out) == (status, kept.out), usual.err + kept.err
    assert kept.status == usual.status, kept.err
    assert {path for path in left ^ left_there if "__pycache__" not in path} == set()
    assert (usual.err.count(NO_RECORD), kept.err.count(NO_RECORD)) == (0, 1), kept.err
    assert list(home.iterdir()) == []
