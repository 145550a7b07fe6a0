"""Clones whose refs are in a table, which no file of git's tells: of git 2.46 and later, which migrates to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.git import reflog
from devkit.git.command import Git
from devkit.git.state import find_place
from tests.commands.pr.conftest import Clone, look, numbered
from tests.commands.pr.random_clones import differences, git

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Forge

NEWER_GIT = Path(__file__).parents[3] / ".newer-git" / "bin"  # make newer-git


def migrate(clone: Clone) -> None:
    shutil.rmtree(clone.folder / ".git" / "logs")  # which git before 2.49 does not migrate
    clone.git("refs", "migrate", "--ref-format=reftable")
    assert (clone.folder / ".git" / "HEAD").read_text() == "ref: refs/heads/.invalid\n"


@pytest.fixture
def knows_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that keeps refs in tables: the machine's, or the one that was made for these tests."""
    done = subprocess.run(["git", "refs", "migrate", "-h"], capture_output=True, check=False)
    if b"--ref-format" not in done.stdout + done.stderr:
        assert (NEWER_GIT / "git").exists(), "this git knows no reftables: make newer-git"
        monkeypatch.setenv("PATH", f"{NEWER_GIT}:{os.environ['PATH']}")


@pytest.fixture
def table(knows_tables: None, clone: Clone, forge: Forge) -> Clone:
    del knows_tables
    for remote, name in (("upstream", "project/Paddle"), ("fork", "me/Paddle")):
        clone.git("remote", "set-url", remote, str(forge.bare(name)))
    migrate(clone)
    return clone


@pytest.mark.parametrize("ref", ["refs/stash", "refs/heads/develop", "HEAD"])
def test_a_log_is_read_and_written_without_its_file(clone: Clone, ref: str) -> None:
    """As with a table, which git's lines make and tell alike."""
    for number in (1, 2):
        clone.write("a.cc", numbered(9, l1=str(number)))
        clone.git("-c", "user.name=Ünïcode <odd", "stash", "push", "-q", "-m", f"stashed {number}\tand more")
    clone.git("commit", "-q", "--allow-empty", "-m", "Mine")
    if ref == "HEAD":
        clone.git("switch", "-q", "--detach")
    inside = Git(App(), clone.folder)
    place = find_place(inside)
    log = reflog.read(inside, place, ref)
    assert log
    bare = type(place)(place.git_dir, place.common_dir, place.top, place.object_format, ref_format="reftable")
    assert reflog.read(inside, bare, ref) == log
    commits = reflog.commits(log)
    if ref != "HEAD":
        clone.git("update-ref", "-d", ref)
        clone.git("update-ref", "--create-reflog", ref, commits[-1])
    reflog.write(inside, bare, ref, log)
    rows, again = (text.splitlines() for text in (log, reflog.read(inside, place, ref)))
    assert [row.partition(b" ")[2] for row in again] == [row.partition(b" ")[2] for row in rows]
    assert clone.git("rev-parse", ref) == commits[-1]


@pytest.mark.engine
def test_every_command_goes_and_comes_back(table: Clone, tmp_path: Path) -> None:
    table.write("a.cc", numbered(9, l2="stashed"))
    table.git("stash", "push", "-q")
    table.write("a.cc", numbered(9, l1="mine"))
    table.write("loose.txt", "loose\n")
    before = look(table)
    assert table.devkit("pr", "fetch", "8").status == 0
    assert table.status() == ["## pr/8", " M a.cc", "?? loose.txt"]
    assert table.devkit("pr", "rebase").status == 1
    assert table.devkit("pr", "abort").status == 0
    assert table.status() == ["## pr/8", " M a.cc", "?? loose.txt"]
    assert table.devkit("pr", "fetch", "7", "--worktree").status == 0
    assert table.devkit("pr", "rebase", folder=tmp_path / "Paddle-pr-7").status == 0
    assert table.devkit("wip", "save").status == 0
    assert table.devkit("wip", "restore").status == 0
    stash = table.git("stash", "list", "--date=raw")
    for command in ("drop", "fetch"):
        words = [command, "7", "--yes"] if command == "drop" else [command, "9"]
        then = look(table)
        assert table.devkit("pr", *words).status == 0
        assert table.devkit("undo", "--yes").status == 0
        assert differences(then, look(table)) == []
    while json.loads(table.devkit("undo", "--list", "--json").text) and table.devkit("undo", "--yes").status == 0:
        if differences(before, look(table)) == []:
            break
    assert differences(before, look(table)) == []
    assert table.git("stash", "list", "--date=raw") == stash


def logs_of(linked: Clone) -> list[list[str]]:
    """Return the logs of a worktree's branch and HEAD; before git 2.51 without what left HEAD where it was."""
    newer = tuple(map(int, linked.git("version").split()[2].split(".")[:2])) >= (2, 51)
    logs = [
        linked.git("log", "-g", "--format=%H %gs %gn %gd", "--date=raw", ref).splitlines() for ref in ("pr/7", "HEAD")
    ]
    return logs if newer else [[line for line in log if " reset: moving to HEAD " not in line] for log in logs]


@pytest.mark.engine
def test_a_branch_and_a_worktree_come_back_with_their_logs(table: Clone, tmp_path: Path) -> None:
    assert table.devkit("pr", "fetch", "7", "--worktree").status == 0
    linked = Clone(tmp_path / "Paddle-pr-7", table.state)
    linked.commit("Mine", mine_txt="1")
    logs = logs_of(linked)
    assert table.devkit("pr", "drop", "7", "--yes").status == 0
    assert not linked.folder.exists()
    assert table.devkit("undo").status == 0
    now = logs_of(linked)
    assert now[0] == logs[0]
    assert now[1][-len(logs[1]) :] == logs[1]


@pytest.mark.engine
def test_a_pick_that_stopped_is_known_and_comes_back(table: Clone) -> None:
    table.devkit("pr", "fetch", "8", "--no-switch")
    table.git("cherry-pick", "pr/8", check=False)
    before = look(table)
    said = table.devkit("pr", "fetch", "7")
    assert "a cherry-pick is in progress in this checkout" in said.text
    table.write("b.py", "both\n")
    table.git("add", "b.py")
    assert table.devkit("pr", "continue").status == 0
    assert table.git("log", "-1", "--format=%s") == "Other words"
    assert table.devkit("undo").status == 0
    table.git("checkout", "-q", "-m", "b.py")
    assert differences(before["operation"], look(table)["operation"]) == []
    assert table.git("rev-parse", "CHERRY_PICK_HEAD") == table.git("rev-parse", "pr/8")


@pytest.mark.engine
@pytest.mark.usefixtures("knows_tables")
def test_what_was_kept_before_the_refs_were_in_a_table_comes_back(clone: Clone) -> None:
    clone.git("reset", "-q", "--hard", "HEAD")
    before = clone.git("rev-parse", "ORIG_HEAD", "HEAD")
    assert clone.devkit("pr", "fetch", "7").status == 0
    migrate(clone)
    clone.git("update-ref", "ORIG_HEAD", "pr/7")
    assert clone.devkit("undo", "--yes").status == 0
    assert clone.git("rev-parse", "ORIG_HEAD", "HEAD") == before


@pytest.mark.engine
def test_a_lock_that_a_killed_git_left_is_named(table: Clone) -> None:
    lock = table.folder / ".git" / "reftable" / "tables.list.lock"
    lock.write_text("")
    said = table.devkit("pr", "fetch", "7")
    assert (said.status, f"rm -- {lock}" in said.text) == (1, True), said.text
    lock.unlink()
    assert table.devkit("pr", "fetch", "7").status == 0
    assert git(table.folder, "rev-parse", "pr/7")
