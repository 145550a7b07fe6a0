"""devkit pr fetch against a forge over HTTP: the whole graph, as text."""

from __future__ import annotations

import json
import os
import subprocess
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import Clone, numbered
from tests.commands.pr.random_clones import git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Forge

PROJECT = "project/Paddle"


def graph(text: str) -> str:
    return dedent(text).strip("\n")


def test_a_request_comes_to_its_branch_and_is_checked_out(clone: Clone, forge: Forge) -> None:
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 0
    assert said.text.startswith(
        "fetching 7 from upstream…\n✓ pr/7  2 commits, 2 files, +2 −1, 2 behind upstream/develop"
    )
    assert clone.graph() == graph("""
        * Whole (#9) (upstream/develop, upstream/HEAD, develop)
        * Words
        | * Whole (fork/whole)
        | * Half
        |/
        | * Test the op (HEAD -> pr/7)
        | * Mend the op
        |/
        * Begin (fork/develop)
        """)
    assert clone.git("rev-parse", "devkit/pull/upstream/7") == clone.git("rev-parse", "pr/7")
    assert not [line for line in clone.git("for-each-ref").splitlines() if "incoming" in line]
    assert len([request for request in forge.requests() if "info/refs" in request]) == 1


def test_a_rewritten_request_shows_what_became_of_its_commits_and_keeps_the_old_tip(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    old = clone.git("rev-parse", "HEAD")
    forge.commit(
        PROJECT, "refs/pull/7/head", "Mend the op", {"a.cc": numbered(9, l8="acht")}, on="refs/heads/develop~2"
    )
    forge.commit(PROJECT, "refs/pull/7/head", "Test the op", {"test_op.py": "assert True\n"})
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 0
    assert "rewritten by its author, 2 commits" in said.text
    assert "Mend the op" in said.text
    assert "! 1:" in said.text or "! 2:" in said.text or " = " in said.text
    assert "the old tip is kept as devkit/old/pr/7/1" in said.text
    assert clone.git("rev-parse", "devkit/old/pr/7/1") == old
    assert clone.status() == ["## pr/7"]


def test_a_request_that_went_on_is_fast_forwarded(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    newer = forge.commit(PROJECT, "refs/pull/7/head", "Third", {"third.txt": "3\n"})
    said = clone.devkit("pr", "fetch", "7")
    assert "updated, 3 commits" in said.text
    assert clone.git("rev-parse", "HEAD") == newer


def test_your_commits_on_a_request_are_never_replaced(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    mine = clone.commit("Mine", mine_txt="mine\n")
    assert "has your commits on top" in clone.devkit("pr", "fetch", "7").text
    forge.commit(PROJECT, "refs/pull/7/head", "Theirs", {"theirs.txt": "theirs\n"})
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "pr/7 has 1 commit of yours, and the author went on" in said.text
    assert clone.git("rev-parse", "HEAD") == mine
    assert clone.devkit("pr", "fetch", "7", "--branch", "pr/7-new").status == 0
    assert clone.git("rev-parse", "pr/7") == mine


def test_uncommitted_work_that_the_request_does_not_touch_comes_along(clone: Clone) -> None:
    clone.git("rm", "-q", "--cached", "c.py")
    clone.git("add", "c.py")
    clone.write(".gitignore", "*.log\nmine\n")
    clone.git("add", ".gitignore")
    clone.write(".gitignore", "*.log\nmine\nmore\n")
    clone.write("loose.txt", "loose\n")
    assert clone.devkit("pr", "fetch", "7").status == 0
    assert clone.status() == ["## pr/7", "MM .gitignore", "?? loose.txt"]


def test_uncommitted_work_in_the_same_file_is_merged_where_that_is_clean(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="one"))
    clone.git("add", "a.cc")
    clone.write("a.cc", numbered(9, l1="one", l3="three"))
    assert clone.devkit("pr", "fetch", "7").status == 0
    assert (clone.folder / "a.cc").read_text() == numbered(9, l1="one", l3="three", l8="eight")
    assert clone.git("show", ":a.cc") + "\n" == numbered(9, l1="one", l8="eight")


def test_work_that_would_be_overwritten_stops_it_and_nothing_changes(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l8="mine"))
    refs = clone.git("for-each-ref")
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert said.text == (
        "fetching 7 from upstream…\n"
        "✗ pull request 7 would overwrite 1 file of yours; nothing was changed\n"
        "  a.cc   changed here\n"
        "  → devkit pr fetch 7 --worktree\n"
    )
    assert clone.status() == ["## develop...upstream/develop", " M a.cc"]
    assert clone.git("for-each-ref") == refs


@pytest.mark.parametrize(("ignored", "kind"), [("*.log\ntest_op.py\n", "ignored"), ("*.log\n", "not tracked")])
def test_files_that_git_does_not_track_are_never_overwritten(clone: Clone, ignored: str, kind: str) -> None:
    clone.write(".gitignore", ignored)
    clone.git("commit", "-q", "-a", "--allow-empty", "-m", "Ignore")
    clone.write("test_op.py", "my own\n")
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert f"test_op.py   {kind}" in said.text
    assert (clone.folder / "test_op.py").read_text() == "my own\n"


def test_the_files_that_a_request_does_not_change_keep_their_times(clone: Clone) -> None:
    before = (clone.folder / ".gitignore").stat().st_mtime_ns
    clone.devkit("pr", "fetch", "7")
    clone.devkit("undo")
    assert (clone.folder / ".gitignore").stat().st_mtime_ns == before


def test_a_worktree_leaves_the_checkout_alone(clone: Clone) -> None:
    clone.write("a.cc", "mine\n")
    said = clone.devkit("pr", "fetch", "7", "--worktree")
    folder = clone.folder.parent / "Paddle-pr-7"
    assert said.status == 0
    assert f"in {folder}, your checkout untouched" in said.text
    assert git(folder, "status", "-sb") == b"## pr/7\n"
    assert clone.status() == ["## develop...upstream/develop", " M a.cc"]
    assert clone.devkit("undo").status == 0
    assert not folder.exists()
    assert clone.git("worktree", "list").count("\n") == 0


def test_a_request_that_is_checked_out_here_gets_no_worktree_and_says_so(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    for words in (("--worktree",), ("--worktree", "--dry-run")):
        said = clone.devkit("pr", "fetch", "7", *words)
        assert said.status == 1
        assert "pr/7 is checked out here" in said.text
        assert "devkit pr fetch 7 --worktree   from another branch" in said.text
    assert not (clone.folder.parent / "Paddle-pr-7").exists()


def test_a_request_that_is_checked_out_elsewhere_is_updated_there(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    newer = forge.commit(PROJECT, "refs/pull/7/head", "Third", {"third.txt": "3\n"})
    assert clone.devkit("pr", "fetch", "7").status == 0
    folder = clone.folder.parent / "Paddle-pr-7"
    assert git(folder, "rev-parse", "HEAD").decode().strip() == newer
    assert (folder / "third.txt").read_text() == "3\n"
    assert clone.status() == ["## develop...upstream/develop"]


def test_no_switch_detach_depth_and_a_page_address(clone: Clone, forge: Forge) -> None:
    assert clone.devkit("pr", "fetch", "8", "--no-switch").status == 0
    assert clone.status() == ["## develop...upstream/develop"]
    assert clone.git("rev-parse", "--verify", "pr/8")
    assert clone.devkit("pr", "fetch", "7", "--detach").status == 0
    assert clone.status() == ["## HEAD (no branch)"]
    assert clone.git("rev-parse", "--verify", "-q", "pr/7", check=False) == ""
    page = f"{forge.address}/project/Paddle/pull/9/files?diff=split"
    assert clone.devkit("pr", "fetch", page, "--depth", "1").status == 0
    assert clone.status() == ["## pr/9"]


def test_several_requests_take_one_round_trip(clone: Clone, forge: Forge) -> None:
    before = len(forge.requests())
    said = clone.devkit("pr", "fetch", "7", "8", "9")
    assert said.status == 0
    assert len([request for request in forge.requests()[before:] if "info/refs" in request]) == 1
    assert clone.status() == ["## develop...upstream/develop"]
    assert clone.git("branch", "--list", "pr/*").split() == ["pr/7", "pr/8", "pr/9"]


def test_the_forges_merge_commit(clone: Clone, forge: Forge) -> None:
    forge.commit(PROJECT, "refs/pull/7/merge", "Merge 7", {"a.cc": "merged\n"}, on="refs/heads/develop")
    assert clone.devkit("pr", "fetch", "7", "--merge").status == 0
    assert clone.status() == ["## pr/7-merge"]
    said = clone.devkit("pr", "fetch", "8", "--merge")
    assert said.status == 1
    assert "pull request 8 has no merge commit on upstream" in said.text


def test_the_record_has_the_clone_as_it_was_before(clone: Clone) -> None:
    before = clone.git("rev-parse", "HEAD")
    clone.write("a.cc", numbered(9, l1="mine"))
    assert clone.devkit("pr", "fetch", "7").status == 0
    (record,) = clone.state.glob("devkit/runs/*-pr-fetch-7-*/record.json")
    assert json.loads(record.read_text())["git"] == {"dirty": True, "commit": before, "branch": "develop"}


def test_a_line_break_in_the_folder_of_the_clone_is_no_trap(clone: Clone) -> None:
    moved = Clone(clone.folder.rename(clone.folder.with_name("two\nlines")), clone.state)
    assert moved.devkit("pr", "fetch", "7").status == 0
    moved.git("worktree", "add", "-q", "-b", "mine", "../linked")
    said = moved.devkit("pr", "fetch", "8", folder=moved.folder.with_name("linked"))
    assert said.status == 1
    assert "has a line break in its name" in said.text


def test_a_request_that_is_not_there(clone: Clone) -> None:
    said = clone.devkit("pr", "fetch", "4242")
    assert said.status == 1
    assert said.text == (
        "fetching 4242 from upstream…\n"
        "✗ pull request 4242 was not found on upstream (project/Paddle)\n"
        "  The forge has no refs/pull/4242/head.\n"
        "  → devkit pr fetch 4242 --remote fork   if the request is there\n"
    )


def test_a_branch_of_yours_with_that_name_is_not_taken(clone: Clone) -> None:
    clone.git("branch", "pr/7")
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "there is a branch pr/7 already" in said.text
    clone.git("branch", "-m", "pr/7", "pr")
    said = clone.devkit("pr", "fetch", "7")
    assert "the branch pr/7 cannot be beside the branch pr" in said.text
    assert clone.devkit("pr", "fetch", "7", "--branch", "pr-7").status == 0


def test_a_dry_run_prints_the_exact_lines_and_changes_nothing(clone: Clone, forge: Forge) -> None:
    refs = clone.git("for-each-ref")
    said = clone.devkit("pr", "fetch", "7", "--dry-run")
    oid = git(forge.bare(PROJECT), "rev-parse", "refs/pull/7/head").decode().strip()
    assert said.status == 0
    assert f"git switch --no-recurse-submodules --no-track -c pr/7 {oid}\n" in said.text
    assert clone.git("for-each-ref") == refs
    assert clone.status() == ["## develop...upstream/develop"]
    for word in [line for line in said.text.splitlines() if line.startswith("git ")]:  # the lines do what they say
        subprocess.run(["/bin/sh", "-c", word], cwd=clone.folder, check=True, capture_output=True)
    assert clone.git("rev-parse", "HEAD") == oid


def test_a_build_folder_is_told_of(clone: Clone) -> None:
    clone.write("build/CMakeCache.txt", "")
    clone.write(".git/info/exclude", "build/\n")
    said = clone.devkit("pr", "fetch", "7")
    assert "build/ would be built again for 1 changed files, 0 of them headers" in said.text
    assert "devkit pr fetch 7 --worktree leaves it alone" in said.text


def test_submodules_follow_where_nothing_of_yours_is_in_them(clone: Clone, forge: Forge, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    git(tmp_path, "init", "-q", "-b", "main", str(inner))
    for subject in ("One", "Two"):
        git(inner, "commit", "-q", "--allow-empty", "-m", subject)
    first, second = git(inner, "rev-list", "--reverse", "HEAD").decode().split()
    bare = forge.bare(PROJECT)
    modules = f'[submodule "inner"]\n\tpath = third/inner\n\turl = {inner}\n'
    forge.commit(PROJECT, "refs/heads/develop", "Add a submodule", {".gitmodules": modules})
    _link(bare, "refs/heads/develop", first)
    _link(bare, "refs/pull/10/head", second, on="refs/heads/develop")
    clone.git("pull", "-q")
    clone.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
    git(clone.folder / "third/inner", "config", "advice.detachedHead", "false")
    said = clone.devkit("pr", "fetch", "10")
    assert said.status == 0, said.text
    assert git(clone.folder / "third/inner", "rev-parse", "HEAD").decode().strip() == second
    assert clone.status() == ["## pr/10"]
    clone.devkit("undo")
    assert git(clone.folder / "third/inner", "rev-parse", "HEAD").decode().strip() == first
    (clone.folder / "third/inner/new").write_text("")
    git(clone.folder / "third/inner", "add", "new")
    assert "the submodule third/inner has uncommitted work" in clone.devkit("pr", "fetch", "10").text
    clone.devkit("undo")
    clone.git("config", "--global", "protocol.file.allow", "always")  # git clones no submodule from a folder by default
    said = clone.devkit("pr", "fetch", "10", "--worktree", "--branch", "ten")
    assert said.status == 0, said.text
    folder = clone.folder.parent / "Paddle-ten"
    assert f"CCACHE_BASEDIR={folder} CCACHE_NOHASHDIR=true" in said.text
    assert git(folder / "third/inner", "rev-parse", "HEAD").decode().strip() == second
    assert "third/inner" not in git(folder, "status", "--porcelain").decode()
    assert clone.devkit("undo", "--yes").status == 0
    assert not folder.exists()


def _link(bare: Path, ref: str, oid: str, *, on: str = "") -> None:
    index = {"GIT_INDEX_FILE": str(bare / "link-index"), **os.environ}
    import subprocess

    def run(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=bare, env=index, check=True, capture_output=True, text=True
        ).stdout.strip()

    run("read-tree", on or ref)
    run("update-index", "--add", "--cacheinfo", f"160000,{oid},third/inner")
    run("update-ref", ref, run("commit-tree", run("write-tree"), "-p", on or ref, "-m", "Link"))


# Clones inside the checkout: no snapshot keeps what is in them.


@pytest.mark.parametrize("becomes", ["a file", "a folder"])
def test_a_submodule_with_work_in_it_is_not_taken_away(clone: Clone, forge: Forge, becomes: str) -> None:
    bare = forge.bare(PROJECT)
    clone.git("submodule", "--quiet", "add", forge.url("me/Paddle"), "inner")
    clone.git("commit", "-q", "-m", "A submodule")
    clone.git("branch", "with")
    clone.git("rm", "-q", "--cached", "inner")
    (clone.folder / "inner").rename(clone.folder.parent / "inner")
    clone.write("inner" if becomes == "a file" else "inner/new.txt", "theirs\n")
    clone.git("add", "inner")
    clone.git("commit", "-q", "-m", "None")
    clone.git("push", "-q", str(bare), "HEAD:refs/heads/without")
    git(bare, "update-ref", "refs/pull/10/head", "refs/heads/without")
    clone.git("reset", "-q", "--hard", "with")
    (clone.folder / "inner").rmdir()
    (clone.folder.parent / "inner").rename(clone.folder / "inner")
    clone.write("inner/a.cc", "mine\n")
    said = clone.devkit("pr", "fetch", "10")
    assert said.status == 1
    assert "would overwrite 1 file of yours; nothing was changed\n  inner   a clone of its own" in said.text
    assert (clone.folder / "inner" / "a.cc").read_text() == "mine\n"


@pytest.mark.parametrize("words", [("wip", "save"), ("pr", "fetch", "7"), ("pr", "rebase", "9"), ("undo", "--yes")])
def test_a_clone_that_stands_where_a_file_was_stays(clone: Clone, words: tuple[str, ...]) -> None:
    clone.devkit("pr", "fetch", "9", "--no-switch")
    clone.devkit("pr", "fetch", "8")
    (clone.folder / "a.cc").unlink()
    git(clone.folder, "init", "-q", "a.cc")
    clone.write("a.cc/work.txt", "mine\n")
    said = clone.devkit(*words)
    assert said.status == 1, said.text
    assert "a.cc" in said.text
    assert (clone.folder / "a.cc" / "work.txt").read_text() == "mine\n"
    assert clone.git("branch", "--show-current") == "pr/8"


def test_a_request_that_shares_no_commit_with_the_base_is_said_to(clone: Clone, forge: Forge) -> None:
    forge.commit(PROJECT, "refs/heads/orphan", "Alone", {"alone.txt": "1\n"})
    git(forge.bare(PROJECT), "update-ref", "refs/pull/11/head", "refs/heads/orphan")
    assert "✓ pr/11  1 commit, 3 behind upstream/develop" in clone.devkit("pr", "fetch", "11").text
    said = clone.devkit("pr", "show")
    assert (said.status, said.text.splitlines()[0]) == (1, "✗ pr/11 and upstream/develop have no commit in common")


def test_a_clone_of_the_fork_alone_gets_the_project(clone: Clone, forge: Forge) -> None:
    clone.git("remote", "remove", "upstream")
    clone.git("remote", "rename", "fork", "origin")
    env = {"DEVKIT_PR_PROJECT": "project"}
    said = clone.devkit("pr", "fetch", "7", env=env)
    assert said.status == 1
    assert "devkit pr fetch 7 --add-remote" in said.text
    plan = clone.devkit("pr", "fetch", "7", "--add-remote", "--dry-run", env=env)
    assert plan.status == 0, plan.text
    assert f"git remote add -- upstream {forge.url('project/Paddle')}" in plan.text
    assert clone.git("remote") == "origin"
    said = clone.devkit("pr", "fetch", "7", "--add-remote", env=env)
    assert said.status == 0, said.text
    assert clone.git("remote", "get-url", "upstream") == forge.url("project/Paddle")
    assert clone.status()[0] == "## pr/7"


def test_a_page_of_a_repository_without_a_remote_gets_one(clone: Clone, forge: Forge) -> None:
    clone.git("remote", "remove", "upstream")
    page = f"{forge.url('project/Paddle').removesuffix('.git')}/pull/7"
    said = clone.devkit("pr", "fetch", page, "--add-remote", "--dry-run")
    assert "git remote add -- upstream" in said.text
    assert clone.git("remote") == "fork"


def test_what_a_failing_hook_of_the_checkout_says_is_shown(clone: Clone) -> None:
    hook = clone.write(".git/hooks/post-checkout", "#!/bin/sh\nfor i in 1 2 3; do echo line $i >&2; done\nexit 1\n")
    hook.chmod(0o755)
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 0
    assert (
        "! the repository's post-checkout hook failed; the checkout itself is whole\n    line 1\n    line 2\n"
        in said.text
    )


def test_a_bisect_is_ended_by_the_line_that_is_named(clone: Clone) -> None:
    clone.git("bisect", "start", "HEAD", "HEAD~2")
    for words in (("fetch", "7"), ("sync",), ("rebase", "--onto", "HEAD")):
        said = clone.devkit("pr", *words)
        assert "✗ a bisect is in progress in this checkout" in said.text
        assert "devkit pr abort   ends it, as git bisect reset does" in said.text
        assert "devkit pr continue" not in said.text
    assert clone.devkit("pr", "abort").status == 0
    assert clone.git("branch", "--show-current") == "develop"


def test_variables_that_name_another_clone_are_said_not_to_be_heeded(clone: Clone, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = clone.devkit("pr", "list", folder=elsewhere, env={"GIT_DIR": str(clone.folder / ".git")})
    assert said.status == 1
    assert "GIT_DIR and GIT_WORK_TREE are not heeded" in said.text
    assert f"→ cd -- {clone.folder}" in said.text
