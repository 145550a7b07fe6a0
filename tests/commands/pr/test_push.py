"""devkit pr push and sync: what the forge has afterwards, and what they refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from textwrap import dedent
from typing import TYPE_CHECKING

from tests.commands.pr.conftest import numbered
from tests.commands.pr.random_clones import git

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Clone, Forge

BEGIN = ["refs/heads/develop Begin", "refs/heads/whole Whole"]


def graph(text: str) -> str:
    return dedent(text).strip("\n")


def test_a_new_branch_goes_to_the_fork_and_gets_its_upstream(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    said = clone.devkit("pr", "push")
    assert said.status == 0
    assert "✓ fix → fork/fix: pushed as a new branch" in said.text
    assert forge.refs("me/Paddle") == [BEGIN[0], "refs/heads/fix Fix", BEGIN[1]]
    assert clone.status() == ["## fix...fork/fix"]
    assert clone.devkit("undo").status == 0
    assert forge.refs("me/Paddle") == BEGIN
    assert clone.status() == ["## fix"]


def test_a_rewritten_branch_replaces_exactly_what_it_had(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    clone.devkit("pr", "push")
    clone.git("commit", "-q", "--amend", "-m", "Fix better")
    said = clone.devkit("pr", "push")
    assert "pushed, replacing what was there" in said.text
    assert "refs/heads/fix Fix better" in forge.refs("me/Paddle")
    assert "was there already" in clone.devkit("pr", "push").text


def test_commits_that_the_branch_never_had_are_shown_and_stay(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    clone.devkit("pr", "push")
    forge.commit("me/Paddle", "refs/heads/fix", "A colleague's", {"theirs.txt": "\n"})
    clone.git("fetch", "-q", "fork")  # a fetch in the background would defeat a bare --force-with-lease
    clone.git("commit", "-q", "--amend", "-m", "Fix better")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "fork/fix has 1 commit that fix never had; nothing was pushed" in said.text
    assert "A colleague's (Test)" in said.text
    assert "refs/heads/fix A colleague's" in forge.refs("me/Paddle")
    assert clone.devkit("pr", "rebase", "--onto", "fork/fix").status in {0, 1}


def test_a_push_that_others_built_on_is_not_undone(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    clone.devkit("pr", "push")
    forge.commit("me/Paddle", "refs/heads/fix", "On top", {"top.txt": "\n"})
    said = clone.devkit("undo")
    assert said.status == 1
    assert "fork has moved on since pr push fix" in said.text
    assert "refs/heads/fix On top" in forge.refs("me/Paddle")


def test_a_request_goes_back_to_the_branch_that_it_came_from(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "9")
    clone.git("commit", "-q", "--amend", "-m", "Whole and good")
    said = clone.devkit("pr", "push")
    assert said.status == 0
    assert "pr/9 → fork/whole" in said.text
    assert forge.refs("me/Paddle") == [BEGIN[0], "refs/heads/whole Whole and good"]


def test_a_request_of_nobody_known_is_not_pushed_anywhere(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "it is not known which branch pull request 7 comes from" in said.text
    assert clone.devkit("pr", "push", "--remote", "fork", "--branch", "seven").status == 0
    assert "refs/heads/seven Test the op" in forge.refs("me/Paddle")


def test_the_branch_that_requests_go_to_is_never_pushed(clone: Clone, forge: Forge) -> None:
    clone.commit("Mine", mine_txt="\n")
    said = clone.devkit("pr", "push", "--remote", "upstream")
    assert said.status == 1
    assert "upstream/develop is the branch that requests go to" in said.text
    clone.git("switch", "-q", "-c", "other")
    clone.git("push", "-q", "upstream", "other:develop", check=False)
    assert forge.refs("project/Paddle")[0] == "refs/heads/develop Whole (#9)"


def test_a_push_that_the_forge_declines_changes_nothing_here(clone: Clone, forge: Forge) -> None:
    forge.protect("me/Paddle")
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    refs = clone.git("for-each-ref")
    said = clone.devkit("pr", "push", "--branch", "develop")
    assert said.status == 1
    assert "fork/develop has" in said.text or "develop is protected" in said.text
    assert clone.git("for-each-ref") == refs


def test_sync_makes_the_forks_base_and_the_local_one_equal(clone: Clone, forge: Forge) -> None:
    forge.commit("project/Paddle", "refs/heads/develop", "Newest", {"newest.txt": "\n"})
    clone.write("b.py", numbered(9, l5="five", l1="mine"))
    said = clone.devkit("pr", "sync")
    assert said.status == 0
    assert "fork/develop and develop at upstream/develop" in said.text
    assert "3 new commits" in said.text
    assert clone.graph() == graph("""
        * Newest (HEAD -> develop, upstream/develop, upstream/HEAD, fork/develop)
        * Whole (#9)
        * Words
        | * Whole (fork/whole)
        | * Half
        |/
        * Begin
        """)
    assert clone.status() == ["## develop...upstream/develop", " M b.py"]
    assert clone.devkit("undo").status == 0
    assert forge.refs("me/Paddle") == BEGIN
    assert clone.status()[1:] == [" M b.py"]


def test_sync_takes_no_commit_off_the_fork_unasked(clone: Clone, forge: Forge) -> None:
    forge.commit("me/Paddle", "refs/heads/develop", "By mistake", {"oops.txt": "\n"})
    said = clone.devkit("pr", "sync")
    assert said.status == 1
    assert "fork/develop has 1 commit that upstream/develop has not; nothing was changed" in said.text
    assert "refs/heads/develop By mistake" in forge.refs("me/Paddle")
    assert clone.devkit("pr", "sync", "--yes").status == 0
    assert "refs/heads/develop Whole (#9)" in forge.refs("me/Paddle")
    assert clone.devkit("undo").status == 0
    assert "refs/heads/develop By mistake" in forge.refs("me/Paddle")


def test_sync_leaves_commits_of_yours_on_the_local_base(clone: Clone, forge: Forge) -> None:
    mine = clone.commit("Mine", mine_txt="\n")
    said = clone.devkit("pr", "sync")
    assert said.status == 0
    assert "your develop has 1 commit of its own and stays" in said.text
    assert clone.git("rev-parse", "develop") == mine
    assert clone.devkit("pr", "sync", "--yes").status == 0
    assert clone.git("rev-parse", "devkit/old/develop/1") == mine
    assert forge.refs("me/Paddle")[0] == "refs/heads/develop Whole (#9)"


def test_the_project_as_origin_and_the_fork_under_another_name(clone: Clone, forge: Forge) -> None:
    clone.git("remote", "rename", "upstream", "origin")
    clone.git("remote", "rename", "fork", "gb")
    said = clone.devkit("pr", "sync")
    assert said.status == 0
    assert "gb/develop and develop at origin/develop" in said.text
    assert forge.refs("me/Paddle")[0] == "refs/heads/develop Whole (#9)"


def test_with_two_forks_it_asks_which(clone: Clone) -> None:
    clone.git("remote", "add", "other", "https://forge.invalid/other/Paddle.git")
    clone.git("switch", "-q", "-c", "fix")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "→ git config remote.pushDefault fork" in said.text
    clone.git("config", "remote.pushDefault", "fork")
    assert clone.devkit("pr", "push").status == 0


def test_private_refs_are_never_sent(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "9")
    clone.commit("More", more_txt="\n")
    clone.devkit("pr", "push")
    clone.devkit("pr", "sync")
    sent = git(forge.bare("me/Paddle"), "for-each-ref", "--format=%(refname)").decode()
    assert "devkit" not in sent


def test_a_push_that_was_interrupted_is_said_to_may_have_arrived(clone: Clone, forge: Forge) -> None:
    hook = forge.bare("me/Paddle") / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nsleep 5\n")
    hook.chmod(0o755)
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_cc="1\n")
    with subprocess.Popen(
        [sys.executable, "-m", "devkit", "pr", "push"],
        cwd=clone.folder,
        env={**os.environ, "XDG_STATE_HOME": str(clone.state)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 30
        while "refs/heads/fix Fix" not in forge.refs("me/Paddle") and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert "the push to fork may have arrived: git ls-remote fork refs/heads/fix" in said
