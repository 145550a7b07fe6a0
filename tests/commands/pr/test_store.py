"""Where snapshots and saved work are kept: out of sight of git's lists and pushes, out of its housekeeping's reach."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.random_clones import checkout, differences, git

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Clone, Forge


def work(clone: Clone) -> None:
    """Do what leaves snapshots and saved work: the commits of a dropped branch are nowhere else."""
    clone.devkit("pr", "fetch", "7")
    clone.commit("Only here", only_txt="1")
    clone.write("secret.env", "password=hunter2\n")
    clone.write("a.cc", "edited\n")
    assert clone.devkit("wip", "save", "-m", "half").status == 0
    clone.git("switch", "-q", "develop")
    assert clone.devkit("pr", "drop", "7", "--yes").status == 0
    clone.git("reflog", "expire", "--expire=now", "--all")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["gc --prune=now --quiet"], marks=pytest.mark.slow),
        ["repack -a -d -q", "prune --expire=now"],
        ["reflog expire --expire=now --all", "gc --prune=now --quiet"],
        pytest.param(
            ["fetch -q --prune upstream", "fetch -q --prune fork", "gc --prune=now --quiet"], marks=pytest.mark.slow
        ),
        ["fetch -q --prune upstream +refs/*:refs/remotes/all/*", "gc --prune=now --quiet", "gc --prune=now --quiet"],
    ],
)
def test_every_undo_and_saved_work_outlives_gits_housekeeping(clone: Clone, lines: list[str]) -> None:
    before = checkout(clone.folder, clone.folder / ".git")["files"]
    work(clone)
    for line in lines:
        clone.git(*line.split())
    assert "half" in clone.devkit("wip", "list").text
    for _ in range(3):
        said = clone.devkit("undo", "--yes")
        assert said.status == 0, said.text
        clone.git("gc", "--prune=now", "--quiet")
    found = checkout(clone.folder, clone.folder / ".git")["files"]
    assert differences(before, {name: file for name, file in found.items() if name != "secret.env"}) == []
    for _ in range(3):
        assert clone.devkit("redo", "--yes").status == 0
    assert clone.devkit("wip", "restore", "secret.env").status == 0
    assert (clone.folder / "secret.env").read_text() == "password=hunter2\n"
    assert git(clone.folder, "fsck", "--connectivity-only", check=False).find(b"missing") == -1


def test_no_list_of_commits_and_no_push_shows_them(clone: Clone, forge: Forge) -> None:
    clone.write("secret.env", "password=hunter2\n")
    clone.devkit("pr", "fetch", "7")
    clone.write("a.cc", "edited\n")
    clone.devkit("wip", "save")
    assert "devkit" not in clone.git("log", "--all", "--format=%an %s")
    assert clone.git("for-each-ref", "refs/devkit/undo", "refs/devkit/wip") == ""
    forge.create("me/Backup")
    clone.git("push", "-q", "--mirror", forge.url("me/Backup"))
    names = git(forge.bare("me/Backup"), "cat-file", "--batch-check", "--batch-all-objects").decode().splitlines()
    for name in names:
        oid, kind, _ = name.split()
        assert b"hunter2" not in git(forge.bare("me/Backup"), "cat-file", kind, oid)


def test_those_of_an_older_devkit_are_still_there_and_are_taken_along(clone: Clone) -> None:
    """An older devkit named snapshots and saved work by refs, and its journal had neither a sequence nor a commit."""
    clone.devkit("pr", "fetch", "7")
    clone.write("a.cc", "edited\n")
    clone.devkit("wip", "save", "-m", "half")
    folder = clone.folder / ".git" / "devkit"
    for path in (folder / "undo").glob("*.json"):
        data = json.loads(path.read_text())
        clone.git("update-ref", f"refs/devkit/undo/{data['id']}", data.pop("snapshot"))
        del data["sequence"]
        path.write_text(json.dumps(data))
    (name, oid), *_ = json.loads((folder / "refs.json").read_text()).items()
    clone.git("update-ref", name, oid)
    (folder / "refs.json").unlink()
    for path in (clone.folder / ".git" / "objects" / "pack").glob("*.keep"):
        path.unlink()
    clone.git("gc", "--prune=now", "--quiet")
    assert "half" in clone.devkit("wip", "list").text
    assert len(json.loads(clone.devkit("undo", "--list", "--json").text)) == 2
    assert clone.devkit("pr", "fetch", "8", "--no-switch").status == 0
    assert clone.git("for-each-ref", "refs/devkit/undo", "refs/devkit/wip") == ""
    clone.git("gc", "--prune=now", "--quiet")
    assert clone.devkit("undo").status == 0
    assert clone.devkit("undo", "--yes").status == 0
    assert (clone.folder / "a.cc").read_text() == "edited\n"
    assert clone.devkit("undo", "--yes").status == 0
    assert clone.status()[0] == "## develop...upstream/develop"


def test_the_packs_are_made_one_from_time_to_time(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKS_FIRST", "from devkit.git import store; store.MOST_PACKS = 6")
    for number in range(5):
        clone.devkit("pr", "fetch", "7", env={"DEVKIT_UNDO_KEEP": "3"})
        clone.commit(f"Mine {number}", mine_txt=str(number))
        assert clone.devkit("pr", "drop", "7", "--yes", env={"DEVKIT_UNDO_KEEP": "3"}).status == 0
    packs = list((clone.folder / ".git" / "objects" / "pack").glob("*.keep"))
    assert 0 < len(packs) <= 6
    clone.git("reflog", "expire", "--expire=now", "--all")
    clone.git("gc", "--prune=now", "--quiet")
    assert clone.devkit("undo", "--yes").status == 0
    assert clone.git("log", "-1", "--format=%s", "pr/7") == "Mine 4"
