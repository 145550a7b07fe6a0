"""devkit undo in every kind of clone: linked, bare, shallow, sparse, without a commit, with submodules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.commands.pr.conftest import Clone, Forge, look, numbered
from tests.commands.pr.random_clones import differences, git

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_clone_that_was_moved_is_undone_where_it_is(clone: Clone, tmp_path: Path) -> None:
    folder = clone.folder.parent / "linked"
    clone.git("worktree", "add", "-q", "-b", "linked", str(folder))
    clone.devkit("pr", "fetch", "7")
    linked = Clone(folder, clone.state)
    linked.devkit("pr", "fetch", "8")
    clone.git("worktree", "move", str(folder), str(tmp_path / "there"))
    moved = Clone(clone.folder.rename(tmp_path / "moved"), clone.state)
    moved.git("worktree", "repair", str(tmp_path / "there"))
    assert moved.devkit("undo").status == 0
    assert git(tmp_path / "there", "status", "-sb") == b"## linked\n"
    assert moved.devkit("undo", _run(moved, "pr fetch 7")).status == 0
    assert moved.status() == ["## develop...upstream/develop"]
    assert not folder.exists()
    assert not clone.folder.exists()


def test_a_linked_worktree(clone: Clone) -> None:
    folder = clone.folder.parent / "linked"
    clone.git("worktree", "add", "-q", "-b", "linked", str(folder))
    linked = Clone(folder, clone.state)
    linked.write("a.cc", numbered(9, l1="mine"))
    before, main = look(linked), look(clone)
    assert linked.devkit("pr", "fetch", "7").status == 0
    assert linked.status() == ["## pr/7", " M a.cc"]
    assert linked.devkit("pr", "rebase").status == 0
    assert linked.devkit("undo").status == 0
    assert linked.devkit("undo", _run(linked, "pr fetch 7"), "--yes").status == 0
    assert differences(before, look(linked)) == []
    assert differences(main["files"], look(clone)["files"]) == []


def test_a_worktree_on_a_disk_that_is_away_and_one_with_relative_paths_outlive_the_undo_of_another(
    clone: Clone, tmp_path: Path
) -> None:
    for name in ("away", "relative"):
        clone.git("worktree", "add", "-q", "-b", name, str(tmp_path / name))
    kept = clone.folder / ".git" / "worktrees"
    (tmp_path / "away").rename(tmp_path / "unplugged")
    (kept / "relative" / "gitdir").write_text(f"{'../' * 5}{tmp_path.name}/relative/.git\n")
    before = {path: path.read_bytes() for path in sorted(kept.rglob("*")) if path.is_file()}
    assert clone.devkit("pr", "fetch", "7", "--worktree").status == 0
    assert clone.devkit("undo", "--yes").status == 0
    assert {path: path.read_bytes() for path in sorted(kept.rglob("*")) if path.is_file()} == before


def _run(clone: Clone, command: str) -> str:
    found = json.loads(clone.devkit("undo", "--list", "--json").text)
    return str(next(entry["id"] for entry in found if entry["command"] == command))


def test_a_submodule_is_a_clone_like_any_other(clone: Clone, forge: Forge, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    git(tmp_path, "init", "-q", str(outer))
    git(outer, "submodule", "--quiet", "add", forge.url("project/Paddle"), "inner")
    inner = Clone(outer / "inner", clone.state)
    before = look(inner)
    assert inner.devkit("pr", "fetch", "7").status == 0
    assert inner.status() == ["## pr/7"]
    assert inner.devkit("undo").status == 0
    assert differences(before, look(inner)) == []
    inner.devkit("redo")
    forge.commit("project/Paddle", "refs/pull/7/head", "Third", {"third.txt": "3\n"})
    assert "updated, 3 commits" in inner.devkit("pr", "fetch", "7").text
    assert (inner.folder / "third.txt").is_file()


def test_a_repository_without_a_commit(forge: Forge, clone: Clone, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "fresh")
    fresh = Clone(tmp_path / "fresh", clone.state)
    fresh.git("remote", "add", "origin", forge.url("project/Paddle"))
    fresh.write("loose.txt", "loose\n")
    assert fresh.devkit("pr", "fetch", "7").status == 0
    assert fresh.status() == ["## pr/7", "?? loose.txt"]
    assert fresh.devkit("undo").status == 0
    assert fresh.status() == ["## No commits yet on main", "?? loose.txt"]


def test_a_shallow_and_a_blobless_clone(forge: Forge, clone: Clone, tmp_path: Path) -> None:
    git(forge.bare("project/Paddle"), "config", "uploadpack.allowFilter", "true")
    for name, flag in (("shallow", "--depth=1"), ("blobless", "--filter=blob:none")):
        git(tmp_path, "clone", "-q", flag, forge.url("project/Paddle"), name)
        other = Clone(tmp_path / name, clone.state)
        before = look(other)
        said = other.devkit("pr", "fetch", "7")
        assert said.status == 0, name
        assert (", no commit in common here" in said.text) == (name == "shallow")
        assert ("→ git fetch --unshallow -- origin" in other.devkit("pr", "show").text) == (name == "shallow")
        assert other.status() == ["## pr/7"]
        assert other.devkit("undo").status == 0
        assert differences(before["files"], look(other)["files"]) == []


def test_a_bare_repository_with_worktrees(forge: Forge, clone: Clone, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", forge.url("project/Paddle"), "bare/.git")
    bare = Clone(tmp_path / "bare", clone.state)
    said = bare.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "this repository is bare, there is nothing to switch" in said.text
    assert bare.devkit("pr", "fetch", "8", "--no-switch").status == 0
    assert bare.devkit("pr", "fetch", "7", "--worktree").status == 0
    assert (tmp_path / "bare-pr-7" / "test_op.py").is_file()
    assert bare.devkit("undo").status == 0
    assert not (tmp_path / "bare-pr-7").exists()


def test_sparse_checkout_filters_and_line_endings(clone: Clone) -> None:
    clone.git("config", "core.autocrlf", "true")
    clone.git("config", "filter.lfs.clean", "sed s/big/pointer/")
    clone.git("config", "filter.lfs.smudge", "sed s/pointer/big/")
    clone.write(".git/info/attributes", "*.bin filter=lfs\n")
    clone.commit("A pointer", big_bin="big\n")
    (clone.folder / "a.cc").write_bytes(b"mixed\r\nline\nendings\r\n")
    (clone.folder / "big.bin").write_bytes(b"big, and edited\n")
    (clone.folder / "loose.bin").write_bytes(b"\r\n\0big")
    clone.git("add", "a.cc")
    before = look(clone)
    assert clone.devkit("wip", "save").status == 0
    assert clone.devkit("wip", "restore").status == 0
    assert differences(before["files"], look(clone)["files"]) == []
    said = clone.devkit("pr", "fetch", "8")
    assert "big.bin   changed here" in said.text
    clone.git("branch", "keep")
    clone.git("stash", "-q", "-u")
    clone.git("switch", "-q", "--detach", "upstream/develop")
    (clone.folder / "c.py").write_bytes(b"mixed\r\nline\nendings\r\n")
    before = look(clone)
    assert clone.devkit("pr", "fetch", "8", "--detach").status == 1
    assert clone.devkit("pr", "rebase", "--onto", "HEAD~1").status == 1
    (clone.folder / "c.py").unlink()
    (clone.folder / "a.cc").write_bytes(b"mixed\r\nline\nendings\r\n")
    before = look(clone)
    assert clone.devkit("pr", "fetch", "8").status == 0
    assert (clone.folder / "a.cc").read_bytes() == b"mixed\r\nline\nendings\r\n"
    assert clone.devkit("undo").status == 0
    assert differences(before["files"], look(clone)["files"]) == []
    clone.git("checkout", "-q", "a.cc")
    clone.git("sparse-checkout", "set", "nothing")
    assert clone.devkit("pr", "fetch", "7").status == 0
    assert clone.devkit("pr", "rebase").status == 0
    assert clone.devkit("undo").status == 0


def test_outside_of_a_clone_it_says_so(clone: Clone, tmp_path: Path) -> None:
    for words in (("pr", "list"), ("pr", "fetch", "7"), ("undo",), ("wip", "save")):
        said = clone.devkit(*words, folder=tmp_path)
        assert (said.status, said.text.splitlines()[0]) == (1, f"✗ there is no clone at {tmp_path}")


def test_a_repository_of_sha256(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    del home
    monkeypatch.setenv("GIT_DEFAULT_HASH", "sha256")
    (tmp_path / "forge").mkdir()
    forge = Forge(tmp_path / "forge", str(tmp_path / "forge"))
    forge.fill()
    git(tmp_path, "clone", "-q", "-o", "upstream", forge.url("project/Paddle"), "Paddle")
    clone = Clone(tmp_path / "Paddle", tmp_path / "state")
    clone.git("remote", "add", "fork", forge.url("me/Paddle"))
    clone.write("a.cc", numbered(9, l1="mine"))
    clone.write("loose.txt", "loose\n")
    before = look(clone)
    assert clone.devkit("pr", "fetch", "7").status == 0
    assert len(clone.git("rev-parse", "HEAD")) == 64
    assert clone.devkit("pr", "rebase").status == 0
    assert clone.status() == ["## pr/7", " M a.cc", "?? loose.txt"]
    assert clone.git("merge-base", "--is-ancestor", "upstream/develop", "HEAD") == ""
    assert clone.devkit("wip", "save").status == 0
    assert clone.devkit("wip", "restore").status == 0
    clone.git("gc", "-q", "--prune=now")
    while json.loads(clone.devkit("undo", "--list", "--json").text):
        assert clone.devkit("undo", "--yes").status == 0
        if not differences(before, look(clone)):
            break
    assert differences(before, look(clone)) == []
    assert clone.devkit("redo", "--yes").status == 0
    assert clone.status() == ["## pr/7", " M a.cc", "?? loose.txt"]


def test_a_symbolic_branch_stays_one(clone: Clone) -> None:
    clone.git("reset", "-q", "--hard", "HEAD~1")
    clone.git("symbolic-ref", "refs/heads/alias", "refs/heads/develop")
    before = look(clone)
    clone.devkit("pr", "sync")
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []


def test_a_split_index_comes_back_with_what_it_builds_on(clone: Clone) -> None:
    clone.git("update-index", "--split-index")
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    clone.git("update-index", "--no-split-index")
    for path in (clone.folder / ".git").glob("sharedindex.*"):
        path.unlink()
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []
    assert clone.status() == ["## develop...upstream/develop"]


def test_a_head_that_is_a_symbolic_link(clone: Clone) -> None:
    head = clone.folder / ".git" / "HEAD"
    head.unlink()
    head.symlink_to("refs/heads/develop")
    assert clone.devkit("pr", "fetch", "7").status == 0
    assert clone.devkit("undo").status == 0
    assert clone.status() == ["## develop...upstream/develop"]


def test_a_whole_clone_is_not_made_a_shallow_one(clone: Clone) -> None:
    before = look(clone)
    said = clone.devkit("pr", "fetch", "7", "--depth", "1")
    assert "! this clone has its whole history, and keeps it: --depth would cut it off" in said.text
    assert "✓ pr/7  2 commits, 2 files, +2 −1, 2 behind upstream/develop" in said.text
    assert not (clone.folder / ".git" / "shallow").exists()
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []


def test_a_clone_that_git_cannot_read_is_not_said_to_be_none(clone: Clone) -> None:
    with (clone.folder / ".git" / "config").open("a") as file:
        file.write("[broken\n")
    said = clone.devkit("pr", "list")
    assert said.status == 1
    assert f"✗ git cannot work at {clone.folder}\n  fatal: bad config line" in said.text
