"""devkit pr push and sync: what the forge has afterwards, and what they refuse."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from textwrap import dedent
from typing import TYPE_CHECKING

from tests.commands.pr.conftest import numbered
from tests.commands.pr.random_clones import fork_devkit, git

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


def test_a_branch_that_began_at_the_forks_develop_goes_to_its_own_name(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix", "--track", "fork/develop")
    clone.commit("Fix", fix_txt="1\n")
    said = clone.devkit("pr", "push")
    assert said.status == 0
    assert "✓ fix → fork/fix" in said.text
    assert forge.refs("me/Paddle") == [BEGIN[0], "refs/heads/fix Fix", BEGIN[1]]


def test_an_upstream_of_another_name_is_asked_about(clone: Clone, forge: Forge) -> None:
    clone.git("push", "-q", "fork", "develop~1:refs/heads/seven")
    clone.git("switch", "-q", "-c", "fix", "--track", "fork/seven")
    clone.commit("Fix", fix_txt="1\n")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "it is not clear whether fix goes to fork/seven or fork/fix" in said.text
    assert "→ devkit pr push --branch seven" in said.text
    assert "refs/heads/fix" not in str(forge.refs("me/Paddle"))
    assert clone.devkit("pr", "push", "--branch", "seven").status == 0
    clone.commit("More", fix_txt="2\n")
    assert "✓ fix → fork/seven: pushed" in clone.devkit("pr", "push").text  # remembered


def test_on_a_terminal_it_asks_where_to_push(clone: Clone, forge: Forge) -> None:
    clone.git("push", "-q", "fork", "develop~1:refs/heads/seven")
    clone.git("switch", "-q", "-c", "fix", "--track", "fork/seven")
    clone.commit("Fix", fix_txt="1\n")
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "devkit", "pr", "push"],
        cwd=clone.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "XDG_STATE_HOME": str(clone.state), "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        os.write(main, b"2\n")
        said = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while data := os.read(main, 4096):
                said += data
        status = process.wait(60)
    os.close(main)
    assert "refs/heads/fix" in str(forge.refs("me/Paddle")), (status, said.decode())


def test_ones_own_request_is_pushed_again_and_again(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "9")
    for number in ("1", "2", "3"):
        clone.commit(f"Round {number}", round_txt=number)
        said = clone.devkit("pr", "push")
        assert said.status == 0, said.text
    assert forge.refs("me/Paddle") == [BEGIN[0], "refs/heads/whole Round 3"]
    assert clone.devkit("undo").status == 0
    assert forge.refs("me/Paddle") == [BEGIN[0], "refs/heads/whole Round 2"]
    clone.commit("Round 4", round_txt="4")
    assert clone.devkit("pr", "push").status == 0


def test_two_branches_at_a_requests_commit_are_asked_about(clone: Clone, forge: Forge) -> None:
    git(forge.bare("me/Paddle"), "branch", "backup", "whole")
    clone.devkit("pr", "fetch", "9")
    clone.commit("Round 1", round_txt="1")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "fork/backup, fork/whole are at its commit" in said.text
    assert "→ devkit pr push 9 --remote fork --branch whole" in said.text
    assert clone.devkit("pr", "push", "9", "--remote", "fork", "--branch", "whole").status == 0
    assert clone.devkit("pr", "push", "--dry-run").status == 0
    assert "refs/heads/backup Whole" in forge.refs("me/Paddle")


def test_the_forks_branch_is_found_though_it_was_never_fetched(clone: Clone, forge: Forge) -> None:
    clone.git("update-ref", "-d", "refs/remotes/fork/whole")
    clone.devkit("pr", "fetch", "9")
    clone.commit("Round 1", round_txt="1")
    assert clone.devkit("pr", "push").status == 0
    assert "refs/heads/whole Round 1" in forge.refs("me/Paddle")


def test_pushes_that_go_elsewhere_than_fetches_are_asked_there(clone: Clone, forge: Forge) -> None:
    clone.git("remote", "remove", "fork")
    clone.git("remote", "set-url", "--push", "upstream", forge.url("me/Paddle"))
    clone.git("switch", "-q", "-c", "fix")
    for number in ("1", "2"):
        clone.commit(f"Fix {number}", fix_txt=number)
        said = clone.devkit("pr", "push")
        assert said.status == 0, said.text
    assert clone.devkit("undo").status == 0
    assert "refs/heads/fix Fix 1" in forge.refs("me/Paddle")


def test_a_branch_that_another_tool_gave_an_address_is_pushed_there(clone: Clone, forge: Forge) -> None:
    forge.create("author/Paddle")
    git(forge.bare("me/Paddle"), "push", "-q", str(forge.bare("author/Paddle")), "whole:refs/heads/whole")
    clone.git("fetch", "-q", "upstream", "refs/pull/9/head:whole")
    clone.git("switch", "-q", "whole")
    for key, value in (("remote", forge.url("author/Paddle")), ("pushRemote", forge.url("author/Paddle"))):
        clone.git("config", f"branch.whole.{key}", value)
    clone.git("config", "branch.whole.merge", "refs/heads/whole")
    clone.commit("Review", review_txt="1")
    said = clone.devkit("pr", "push")
    assert said.status == 0, said.text
    assert "refs/heads/whole Review" in forge.refs("author/Paddle")


def test_what_was_pushed_is_known_without_a_reflog(clone: Clone, forge: Forge) -> None:
    clone.git("config", "core.logAllRefUpdates", "false")
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    clone.devkit("pr", "push")
    clone.git("commit", "-q", "--amend", "-m", "Fix better")
    assert clone.devkit("pr", "push").status == 0
    assert "refs/heads/fix Fix better" in forge.refs("me/Paddle")


def test_a_hook_that_refuses_is_passed_over_when_asked(clone: Clone, forge: Forge) -> None:
    hook = clone.folder / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "not today" in said.text
    assert clone.devkit("pr", "push", "--no-verify").status == 0
    assert "refs/heads/fix Fix" in forge.refs("me/Paddle")


def test_what_the_server_says_is_shown_whole_and_in_order(clone: Clone, forge: Forge) -> None:
    hook = forge.bare("me/Paddle") / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nfor i in $(seq 1 26); do echo reason $i >&2; done\nexit $(cat status)\n")
    hook.chmod(0o755)
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    for status in ("1", "0"):
        (forge.bare("me/Paddle") / "status").write_text(status)
        said = clone.devkit("pr", "push")
        assert said.status == int(status)
        found = [line.strip() for line in said.text.splitlines() if "reason" in line]
        assert found == [f"reason {number}" for number in range(1, 27)]


def test_sync_updates_what_is_here_though_the_fork_declines(clone: Clone, forge: Forge) -> None:
    forge.protect("me/Paddle")
    forge.commit("project/Paddle", "refs/heads/develop", "Newest", {"newest.txt": "\n"})
    said = clone.devkit("pr", "sync")
    assert said.status == 1
    assert "develop is at upstream/develop; fork/develop did not take the push" in said.text
    assert "develop is protected" in said.text
    assert clone.git("log", "-1", "--format=%s", "develop") == "Newest"
    assert clone.devkit("undo").status == 0
    assert clone.git("log", "-1", "--format=%s", "develop") == "Whole (#9)"


def test_a_push_remote_that_was_set_since_the_last_push_is_asked_about(clone: Clone, forge: Forge) -> None:
    forge.create("other/Paddle")
    clone.git("remote", "add", "other", forge.url("other/Paddle"))
    clone.git("config", "remote.pushDefault", "fork")
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    assert clone.devkit("pr", "push").status == 0
    clone.git("config", "branch.fix.pushRemote", "other")
    clone.commit("More", fix_txt="2\n")
    said = clone.devkit("pr", "push")
    assert said.status == 1
    assert "✗ it is not clear whether fix goes to fork/fix or other/fix" in said.text
    assert "→ devkit pr push fix --remote other --branch fix" in said.text
    assert clone.devkit("pr", "push", "fix", "--remote", "other", "--branch", "fix").status == 0
    assert forge.refs("other/Paddle") == ["refs/heads/fix More"]
    clone.commit("Again", fix_txt="3\n")
    assert "✓ fix → other/fix: pushed" in clone.devkit("pr", "push").text


def test_a_push_comes_forward_again_though_the_first_undo_of_it_was_killed(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "fix")
    clone.commit("Fix", fix_txt="1\n")
    assert clone.devkit("pr", "push").status == 0
    pushed = forge.refs("me/Paddle")
    (entry,) = (path.stem for path in (clone.folder / ".git" / "devkit" / "undo").glob("*.json"))
    for at in range(12, 60, 4):  # until it was killed after its snapshot and before its push
        fork_devkit(("undo", entry, "--yes"), clone.folder, clone.state, end=("before", at))
        if len(list((clone.folder / ".git" / "devkit" / "undo").glob("*.json"))) > 1:
            break
    assert forge.refs("me/Paddle") == pushed
    assert clone.devkit("undo", entry, "--yes").status == 0
    assert forge.refs("me/Paddle") == BEGIN
    assert clone.devkit("redo", "--yes").status == 0
    assert forge.refs("me/Paddle") == pushed
