"""Packages into an environment, out of it and newer, and its lock; moved, copied and upgraded environments mended."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.commands.env.conftest import Index
    from tests.conftest import Devkit

BARE = ("--python", sys.executable, "--paddle", "none")
CLEAN = {"PYTHONPATH": ""}


@pytest.fixture
def work(devkit: Devkit, home: Path) -> Path:
    """The folder of an environment called work."""
    assert devkit("env", "create", "work", *BARE).status == 0
    return home / ".local/share/devkit/envs/work"


def test_packages_come_go_and_get_newer_and_the_lock_follows(devkit: Devkit, index: Index, work: Path) -> None:
    index.add("tiny", "1.0")
    at = ("--index-url", index.url)
    done = devkit("env", "install", "work", "tiny", *at, "--json")
    assert done.status == 0, done.err
    lock = work / "devkit.lock.toml"
    assert json.loads(done.out) == {"name": "work", "changed": {"tiny": {"from": "", "to": "1.0"}}, "lock": str(lock)}
    assert '"tiny==1.0"' in lock.read_text()
    index.add("tiny", "1.1")
    assert "tiny 1.0 → 1.1" in devkit("env", "upgrade", "work", "tiny", *at).err
    assert '"tiny==1.1"' in lock.read_text()
    assert "holds that already" in devkit("env", "install", "work", "tiny", *at).err
    (work / "bin" / "pip").unlink()  # as uv takes the real pip out
    assert "tiny 1.1 taken out" in devkit("env", "uninstall", "work", "tiny").err
    assert devkit("env", "run", "work", "--", "which", "pip").out == f"{work}/bin/pip\n"
    assert "tiny" not in lock.read_text()


def test_paths_are_the_users_and_no_name_is_the_projects_environment(
    devkit: Devkit, index: Index, tmp_path: Path
) -> None:
    assert devkit("env", "create", *BARE).status == 0
    below = tmp_path / "below"
    below.mkdir()
    index.add("tiny", "1.0")
    (below / "requirements.txt").write_text("tiny\n")
    (below / "mine").mkdir()
    (below / "mine" / "pyproject.toml").write_text("[project]\nname = 'mine'\nversion = '1'\n")
    shown = devkit("env", "install", "-r", "requirements.txt", "-e", "mine", "--dry-run", cwd=below)
    assert shown.status == 0, shown.err
    assert f"{tmp_path}/.venv/bin/python -r {below}/requirements.txt -e {below}/mine " in shown.out
    assert json.loads(devkit("env", "install", "tiny", "--dry-run", "--json").out)["plan"][0].endswith("-- tiny")
    wheel = index.add("small", "2.0")
    shutil.copy(wheel, below)
    made = devkit("env", "create", "other", *BARE, "--offline", "--with", f"./{wheel.name}", cwd=below)
    assert made.status == 0, made.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["install", "work"], "there is no"),
        (["install", "work", "-r", "absent.txt"], "there is no absent.txt"),
        (["install", "work", "-e", "absent"], "not the folder of a package"),
        (["install", "work", "--", "--target=/x"], "is not a package"),
    ],
)
@pytest.mark.usefixtures("work")
def test_what_cannot_be_installed_is_named(devkit: Devkit, index: Index, words: list[str], said: str) -> None:
    done = devkit("env", *words, env={"UV_DEFAULT_INDEX": index.url})
    assert done.status in {1, 2}
    assert said in done.err or "does not have it" in done.err


def test_renamed_project_is_seen_and_mended(devkit: Devkit, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / ".git").mkdir()
    assert devkit("env", "create", *BARE, cwd=old).status == 0
    tool = old / ".venv" / "bin" / "tool"
    tool.write_text(f"#!{old}/.venv/bin/python\nprint(1)\n")
    tool.chmod(0o755)
    old.rename(new)
    assert " moved" in devkit("env", "list", cwd=new).out
    result = devkit("env", "run", "--", "tool", cwd=new)
    assert result.status == 127
    assert "devkit env doctor .venv --fix" in result.err
    line = devkit("env", "activate", "--shell", "bash", cwd=new).out
    assert f"VIRTUAL_ENV={new}/.venv" in line
    sick = devkit("env", "doctor", cwd=new, env=CLEAN)
    assert sick.status == 4
    assert f"it was made in {old}/.venv" in sick.out
    fixed = devkit("env", "doctor", "--fix", cwd=new, env=CLEAN)
    assert fixed.status == 0, fixed.out
    assert devkit("env", "run", "--", "tool", cwd=new).out == "1\n"


def test_copied_project_is_seen_and_mended_and_the_first_one_stays(devkit: Devkit, tmp_path: Path) -> None:
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    (first / ".git").mkdir()
    assert devkit("env", "create", *BARE, cwd=first).status == 0
    shutil.copytree(first, copy, symlinks=True)
    assert devkit("env", "doctor", cwd=copy, env=CLEAN).status == 4
    assert devkit("env", "doctor", "--fix", cwd=copy, env=CLEAN).status == 0
    assert devkit("env", "doctor", cwd=first, env=CLEAN).status == 0
    assert f"VIRTUAL_ENV='{copy}/.venv'" in (copy / ".venv" / "bin" / "activate").read_text()


def test_upgraded_interpreter_is_seen_and_the_environment_made_again(
    devkit: Devkit, index: Index, work: Path, tmp_path: Path
) -> None:
    index.add("tiny", "1.0")
    at = {**CLEAN, "UV_DEFAULT_INDEX": index.url}
    assert devkit("env", "install", "work", "tiny", env=at).status == 0
    another = tmp_path / "python3.14"  # a Python of another minor version, by its name
    shutil.copy(Path(sys.executable).resolve(), another)
    python = work / "bin" / "python"
    python.unlink()
    python.symlink_to(another)
    assert "interpreter changed" in devkit("env", "list").out
    sick = devkit("env", "doctor", "work", env=CLEAN)
    assert sick.status == 4
    assert "is Python 3.14, and its packages are in lib/python3." in sick.out
    fixed = devkit("env", "doctor", "work", "--fix", env=at)
    assert fixed.status == 0, fixed.out + fixed.err
    assert devkit("env", "run", "work", "--", "python", "-c", "import tiny").status == 0
    assert [path.name for path in work.parent.iterdir() if path.name.startswith(".replaced")] == []


def test_environment_that_cannot_be_made_again_stays_as_it_was(devkit: Devkit, index: Index, work: Path) -> None:
    wheel = index.add("tiny", "1.0")
    assert devkit("env", "install", "work", str(wheel)).status == 0
    python = work / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere")
    wheel.unlink()
    refused = devkit("env", "doctor", "work", "--fix", env=CLEAN)
    assert refused.status == 1
    assert os.path.lexists(python)
    assert (work / "devkit.lock.toml").is_file()


def test_adopted_environment_whose_folder_is_gone_is_listed_and_let_go_of(
    devkit: Devkit, tmp_path: Path, home: Path
) -> None:
    link = home / ".local/share/devkit/envs/theirs"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "theirs")
    assert "gone" in devkit("env", "list").out
    assert devkit("env", "show", "theirs").status == 0
    assert devkit("env", "remove", "theirs").status == 0
    assert not os.path.lexists(link)
