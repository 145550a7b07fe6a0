"""devkit undo: exact, itself undoable, after a kill, and never over what moved since; in every layout of a clone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import Clone, numbered
from tests.commands.pr.random_clones import checkout, differences, fork_devkit, git, refs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Forge


def look(clone: Clone) -> dict[str, object]:
    inside = clone.git("rev-parse", "--absolute-git-dir")
    return {**checkout(clone.folder, type(clone.folder)(inside)), "refs": refs(clone.folder)}


def test_undo_is_exact_and_redo_comes_forward_again(clone: Clone) -> None:
    clone.write("loose.bin", "").write_bytes(bytes(range(256)))
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    after = look(clone)
    said = clone.devkit("undo")
    assert said.status == 0
    assert "on develop, 3 files put back\n  → devkit redo   takes this back" in said.text
    assert differences(before, look(clone)) == []
    said = clone.devkit("redo")
    assert "✓ forward to after pr fetch 7" in said.text
    assert differences(after["files"], look(clone)["files"]) == []
    assert clone.status() == ["## pr/7", "?? loose.bin"]


def test_what_moved_since_is_shown_and_needs_yes(clone: Clone) -> None:
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    clone.commit("On top", top_txt="\n")
    clone.write("a.cc", "edited since\n")
    said = clone.devkit("undo")
    assert said.status == 1
    assert "pr/7 moved: " in said.text
    assert "On top" in said.text
    assert "a.cc was edited" in said.text
    assert clone.status() == ["## pr/7", " M a.cc"]
    assert clone.devkit("undo", "--yes").status == 0
    assert differences(before, look(clone)) == []
    assert clone.devkit("redo").status == 0
    assert (clone.folder / "a.cc").read_text() == "edited since\n"
    assert clone.git("log", "-1", "--format=%s") == "On top"


def test_new_files_of_yours_are_left_where_they_are(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.write("notes.txt", "mine\n")
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "notes.txt").read_text() == "mine\n"


def test_other_branches_that_moved_since_are_left_alone(clone: Clone) -> None:
    clone.git("branch", "other")
    clone.devkit("pr", "fetch", "7")
    clone.git("branch", "-f", "other", "pr/7")
    assert clone.devkit("undo").status == 0
    assert clone.git("log", "-1", "--format=%s", "other") == "Test the op"


def test_an_earlier_run_is_undone_by_its_name(clone: Clone) -> None:
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    run = clone.devkit("undo", "--list").text.splitlines()[2].split()[0]
    clone.write("a.cc", "work\n")
    clone.devkit("wip", "save")
    said = clone.devkit("undo", run)
    assert said.status == 0 or "--yes" in said.text
    assert clone.devkit("undo", run, "--yes").status == 0
    found = look(clone)
    found["refs"] = [ref for ref in refs(clone.folder) if "devkit/wip" not in ref]
    assert differences(before, found) == []
    said = clone.devkit("undo", "nosuchrun")
    assert said.text.startswith("✗ there is no run nosuchrun to undo in this repository")


@pytest.mark.parametrize("at", [12, 15, 18])
def test_a_killed_run_is_said_to_be_one_and_undone(clone: Clone, at: int) -> None:
    clone.write("loose.txt", "loose\n")
    before = look(clone)
    status, _ = fork_devkit(("pr", "fetch", "7"), clone.folder, clone.state, end=("before", at))
    assert status == -9
    said = clone.devkit("undo")
    if "nothing to undo" not in said.text:
        assert said.status == 1
        assert "pr fetch 7" in said.text
        assert "was killed before it ended" in said.text
        assert clone.devkit("undo", "--yes").status == 0
    assert differences(before, look(clone)) == []


def test_a_file_that_was_half_written_when_it_was_killed_goes(clone: Clone) -> None:
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    clone.write(".devkit-abcd_123/file", "half")
    assert clone.devkit("undo", "--yes").status == 0
    assert differences(before, look(clone)) == []
    assert not (clone.folder / ".devkit-abcd_123").exists()


def test_an_interruption_puts_everything_back_and_says_so(clone: Clone) -> None:
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nkill -INT $(cat ../devkit.pid)\nsleep 20\n")
    hook.chmod(0o755)
    clone.write("loose.txt", "loose\n")
    before = look(clone)
    started = time.monotonic()
    script = f"import os; open('{clone.folder.parent}/devkit.pid', 'w').write(str(os.getpid()))\n"
    script += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "import sys; from devkit.commands._cli.main import main; sys.exit(main(['pr', 'fetch', '7']))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=clone.folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130, done.stderr
    assert "the repository is as it was before" in done.stderr
    assert time.monotonic() - started < 15
    assert differences(before, look(clone)) == []
    assert "nothing to undo" in clone.devkit("undo").text


def test_a_failing_hook_does_not_hide_that_the_checkout_is_whole(clone: Clone) -> None:
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 0
    assert "post-checkout hook failed" in said.text
    assert clone.status() == ["## pr/7"]


def test_too_much_to_keep_is_asked_about(clone: Clone) -> None:
    clone.write("large.bin", "x" * (2 << 20))
    said = clone.devkit("pr", "fetch", "7", env={"DEVKIT_UNDO_MAX_MIB": "1"})
    assert said.status == 1
    assert "keeping your uncommitted files would take 2.00 MiB" in said.text
    assert "large.bin (2.00 MiB)" in said.text
    assert clone.status() == ["## develop...upstream/develop", "?? large.bin"]


def test_another_git_at_work_is_not_run_over(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    lock = clone.folder / ".git" / "index.lock"
    lock.write_text("")
    said = clone.devkit("undo")
    assert said.status == 1
    assert f"rm -- {lock}" in said.text
    lock.unlink()
    assert clone.devkit("undo").status == 0


def test_a_snapshot_from_elsewhere_is_never_restored(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    (path,) = (clone.folder / ".git" / "devkit" / "undo").glob("*.json")
    oid = json.loads(path.read_text())["snapshot"]
    clone.git("update-ref", "refs/devkit/undo/beef", oid)
    assert "beef" not in clone.devkit("undo", "--list").text
    assert clone.devkit("undo", "beef").status == 1


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


def test_old_snapshots_are_let_go_of(clone: Clone) -> None:
    for _ in range(4):
        clone.devkit("pr", "fetch", "7", env={"DEVKIT_UNDO_KEEP": "2"})
        clone.devkit("undo", env={"DEVKIT_UNDO_KEEP": "2"})
    assert len(list((clone.folder / ".git" / "devkit" / "undo").glob("*.json"))) == 2


# Layouts.


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
        assert other.devkit("pr", "fetch", "7").status == 0, name
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


def test_variables_of_a_hook_do_not_send_it_elsewhere(clone: Clone, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "elsewhere")
    env = {
        "GIT_DIR": str(tmp_path / "elsewhere" / ".git"),
        "GIT_WORK_TREE": str(tmp_path / "elsewhere"),
        "GIT_INDEX_FILE": str(tmp_path / "nowhere"),
        "GIT_EXTERNAL_DIFF": "touch /tmp/never",
    }
    assert clone.devkit("pr", "fetch", "7", env=env).status == 0
    assert clone.devkit("pr", "show", env=env).status == 0
    assert clone.status() == ["## pr/7"]
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == [".git"]


# The screen and the lock.


def test_two_devkits_do_not_meet_and_what_a_hook_leaves_running_holds_nothing(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devkit.git.lock.LOCK_WAIT_S", 0.3)
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nsleep 30 > /dev/null 2>&1 &\necho $! > ../sleeper.pid\n")
    hook.chmod(0o755)
    assert clone.devkit("pr", "fetch", "7").status == 0
    try:
        assert clone.devkit("undo").status == 0
    finally:
        os.kill(int((clone.folder.parent / "sleeper.pid").read_text()), signal.SIGTERM)
    with (clone.folder / ".git" / "devkit" / "lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        said = clone.devkit("pr", "fetch", "7")
        assert said.status == 1
        assert "another devkit is changing this repository" in said.text
        assert clone.devkit("pr", "list").status == 0  # to look is free


def test_the_lines_are_shown_and_a_dry_run_of_undo_changes_nothing(clone: Clone) -> None:
    said = clone.devkit("pr", "fetch", "7", "-v")
    assert "\n$ git switch --no-recurse-submodules --no-track -c pr/7 " in said.text
    before = look(clone)
    said = clone.devkit("undo", "--dry-run")
    assert "delete refs/heads/pr/7" in said.text
    assert differences(before, look(clone)) == []


def test_a_terminal_sees_gits_progress(clone: Clone) -> None:
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "devkit", "pr", "fetch", "7"],
        cwd=clone.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        said = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while data := os.read(main, 4096):
                said += data
        assert process.wait(30) == 0
    os.close(main)
    assert "fetching 7 from upstream" in said.decode()
    assert "✓ " in said.decode()
    assert "\x1b[?25h" in said.decode()  # the cursor is back


def test_outside_of_a_clone_it_says_so(clone: Clone, tmp_path: Path) -> None:
    for words in (("pr", "list"), ("pr", "fetch", "7"), ("undo",), ("wip", "save")):
        said = clone.devkit(*words, folder=tmp_path)
        assert (said.status, said.text.splitlines()[0]) == (1, f"✗ there is no clone at {tmp_path}")


# What would be pulled from under someone's feet.


def test_a_branch_is_not_moved_from_under_files_that_belong_to_it(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--no-switch")
    clone.git("switch", "-q", "pr/7")
    said = clone.devkit("undo")
    assert said.status == 1
    assert f"✗ pr/7 is checked out in {clone.folder}" in said.text
    assert f"git -C {clone.folder} switch --detach" in said.text
    assert clone.status() == ["## pr/7"]
    clone.git("switch", "-q", "develop")
    assert clone.devkit("undo").status == 0
    assert "pr/7" not in clone.git("branch")


def test_a_worktree_that_was_moved_since_keeps_its_branch(clone: Clone) -> None:
    folder = clone.folder.parent
    clone.devkit("pr", "fetch", "7", "--worktree")
    clone.git("worktree", "move", str(folder / "Paddle-pr-7"), str(folder / "moved"))
    said = clone.devkit("undo")
    assert said.status == 1
    assert f"pr/7 is checked out in {folder / 'moved'}" in said.text
    assert git(folder / "moved", "status", "-sb") == b"## pr/7\n"


def test_the_worktree_that_an_undo_would_remove_is_left_first(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    folder = clone.folder.parent / "Paddle-pr-7"
    said = clone.devkit("undo", folder=folder)
    assert said.status == 1
    assert f"{folder} would be removed, and you stand in it" in said.text
    assert f"cd {clone.folder} && devkit undo " in said.text
    assert folder.is_dir()
    assert clone.devkit("undo").status == 0
    assert not folder.exists()


def test_a_worktree_goes_and_comes_with_each_undo_and_redo(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    folder = clone.folder.parent / "Paddle-pr-7"
    (folder / "mine.txt").write_text("mine\n")
    assert clone.devkit("pr", "drop", "7", "--yes").status == 0
    for there in (True, False, True, False):
        assert clone.devkit("undo" if there else "redo").status == 0
        assert folder.exists() == there
        assert ("pr/7" in clone.git("branch")) == there
        if there:
            assert git(folder, "status", "-sb") == b"## pr/7\n?? mine.txt\n"


@pytest.mark.parametrize("name", ["nested", "nested.log"])
def test_a_clone_inside_a_worktree_goes_with_no_undo(clone: Clone, name: str) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    folder = clone.folder.parent / "Paddle-pr-7"
    git(folder, "init", "-q", name)
    (folder / name / "work.txt").write_text("mine\n")
    said = clone.devkit("undo", "--yes")
    assert said.status == 1
    assert f"{folder} holds clones with work of their own\n  {name}\n" in said.text
    assert (folder / name / "work.txt").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["a.cc~", "a.cc~1", "a.cc~old", "a.cc.~1~"])
def test_an_editors_copy_beside_a_file_is_left_where_it_is(clone: Clone, name: str) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.write(name, "mine\n")
    assert clone.devkit("undo").status == 0
    assert (clone.folder / name).read_text() == "mine\n"


# What git allows and few have.


def test_a_symbolic_branch_stays_one(clone: Clone) -> None:
    clone.git("reset", "-q", "--hard", "HEAD~1")
    clone.git("symbolic-ref", "refs/heads/alias", "refs/heads/develop")
    before = look(clone)
    clone.devkit("pr", "sync")
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []


def test_a_folder_that_git_would_take_for_its_own_is_left_alone(clone: Clone) -> None:
    clone.write(".GIT/x", "mine\n")
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []
    assert "there is no uncommitted work" in clone.devkit("wip", "save").text


@pytest.mark.parametrize("name", ["L" * 300, "/".join(["d" * 200] * 25)])
def test_a_name_that_is_too_long_for_the_system_is_said_and_nothing_is_lost(
    clone: Clone, forge: Forge, name: str
) -> None:
    forge.commit("project/Paddle", "refs/pull/80/head", "Long", {name: "x\n"}, on="refs/heads/develop")
    before = clone.status(), refs(clone.folder)
    said = clone.devkit("pr", "fetch", "80")
    assert said.status == 1
    assert "✗ git switch failed with status " in said.text
    assert (clone.status(), refs(clone.folder)) == before


def test_a_lock_that_another_git_left_is_named_with_the_line_that_removes_it(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="mine"))
    before = look(clone)
    for name in ("HEAD.lock", "refs/heads/pr/7.lock", "config.lock"):
        lock = clone.folder / ".git" / name
        lock.parent.mkdir(exist_ok=True)
        lock.touch()
        said = clone.devkit("pr", "fetch", "7")
        assert said.status == 1
        assert f"{name}   when no other git works here" in said.text
        assert differences(before, look(clone)) == []
        lock.unlink()
    lock = clone.folder / ".git" / "packed-refs.lock"
    lock.touch()
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "could not be put back at once" in said.text
    lock.unlink()
    line = next(word for word in said.text.splitlines() if "→ devkit undo" in word)
    assert clone.devkit(*line.split()[2:5]).status == 0
    assert differences(before, look(clone)) == []


def test_an_editors_git_is_waited_for(clone: Clone) -> None:
    """It takes the index for a moment, in the middle of an undo."""
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    lock = clone.folder / ".git" / "index.lock"
    hook = clone.folder / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\n[ -e '{lock}' ] || {{ touch '{lock}'; (sleep 0.5; rm '{lock}') > /dev/null 2>&1 & }}\n"
    )
    hook.chmod(0o755)
    said = clone.devkit("undo")
    assert said.status == 0, said.text
    hook.unlink()
    assert differences(before, look(clone)) == []


@pytest.mark.parametrize("folder", [".git", "sub"])
def test_a_folder_without_permission_is_said_and_nothing_is_lost(clone: Clone, folder: str) -> None:
    clone.commit("Sub", sub__x_txt="x\n")
    clone.write("sub/loose.txt", "loose\n")
    clone.write("a.cc", numbered(9, l1="mine"))
    before = look(clone)
    (clone.folder / folder).chmod(0o555)
    words = ["--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else ["--reset-env"]
    done = subprocess.run(
        [*(["setpriv", *words] if os.getuid() == 0 else []), sys.executable, "-m", "devkit", "wip", "save"],
        cwd=clone.folder,
        env={**os.environ, "XDG_STATE_HOME": str(clone.state)},
        capture_output=True,
        text=True,
        check=False,
    )
    (clone.folder / folder).chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "✗ the system refused " in done.stderr
    assert "Permission denied." in done.stderr
    assert differences(before, look(clone)) == []


def test_a_second_ctrl_c_at_a_terminal_does_not_reach_what_puts_everything_back(clone: Clone) -> None:
    """The terminal sends it to git as well."""
    hook = clone.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ../reached\nsleep 20\n")
    hook.chmod(0o755)
    slow = clone.folder / ".git" / "hooks" / "reference-transaction"
    slow.write_text('#!/bin/sh\n[ "$1" != prepared ] || [ ! -e ../reached ] || sleep 0.3\n')
    slow.chmod(0o755)
    clone.write("a.cc", numbered(9, l1="mine"))
    before = look(clone)
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "devkit", "pr", "fetch", "7"],
        cwd=clone.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "XDG_STATE_HOME": str(clone.state), "TERM": "dumb"},
        preexec_fn=_own_terminal,  # noqa: PLW1509 - a terminal of its own has to be taken between fork and exec
    ) as process:
        os.close(terminal)
        deadline = time.monotonic() + 30
        while not (clone.folder.parent / "reached").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        said = b""
        while process.poll() is None and time.monotonic() < deadline:
            os.write(main, b"\x03")
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # the end of a terminal
            while data := os.read(main, 4096):
                said += data
        assert process.wait(30) in {130, -signal.SIGINT}, said.decode()  # the last one may meet a Python that ends
    os.close(main)
    slow.unlink()
    hook.unlink()
    assert "the repository is as it was before" in said.decode()
    assert differences(before, look(clone)) == []


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


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


def test_settings_of_a_branch_that_were_made_since_need_a_yes(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.devkit("pr", "fetch", "7")  # writes down when, and no more
    clone.git("config", "branch.pr/7.description", "what I know of it")
    said = clone.devkit("undo")
    assert said.status == 1
    assert "the settings of the branch pr/7 changed" in said.text
    assert clone.git("config", "branch.pr/7.description") == "what I know of it"


def test_a_clone_that_git_cannot_read_is_not_said_to_be_none(clone: Clone) -> None:
    with (clone.folder / ".git" / "config").open("a") as file:
        file.write("[broken\n")
    said = clone.devkit("pr", "list")
    assert said.status == 1
    assert f"✗ git cannot work at {clone.folder}\n  fatal: bad config line" in said.text


def test_the_last_run_is_undone_though_the_clock_went_back(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "--no-switch")
    clone.devkit("pr", "fetch", "8", "--no-switch")
    entries = sorted((clone.folder / ".git" / "devkit" / "undo").glob("*.json"))
    by_command = {json.loads(path.read_text())["command"]: path for path in entries}
    data = json.loads(by_command["pr fetch 8"].read_text())
    by_command["pr fetch 8"].write_text(json.dumps({**data, "started": 1.0}))
    assert "back to before pr fetch 8" in clone.devkit("undo").text
    assert clone.git("branch", "--format=%(refname:short)").split() == ["develop", "pr/7"]


def test_each_undo_goes_one_further_back_and_each_redo_one_forward(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="mine"))
    looks = [look(clone)["files"]]
    for words in (["pr", "fetch", "8"], ["pr", "fetch", "7", "--no-switch"], ["wip", "save"]):
        assert clone.devkit(*words).status == 0
        looks.append(look(clone)["files"])
    for wanted in reversed(looks[:-1]):
        assert clone.devkit("undo").status == 0
        assert differences(wanted, look(clone)["files"]) == []
    said = clone.devkit("undo")
    assert said.status == 1
    assert "all that is kept is undone already" in said.text
    for wanted in looks[1:]:
        assert clone.devkit("redo").status == 0
        assert differences(wanted, look(clone)["files"]) == []
    assert "there is nothing to redo" in clone.devkit("redo").text
    for wanted in reversed(looks[:-1]):
        assert clone.devkit("undo").status == 0
        assert differences(wanted, look(clone)["files"]) == []
    clone.devkit("pr", "fetch", "9")
    assert clone.devkit("redo").status == 1  # another way was taken
    found = json.loads(clone.devkit("undo", "--list", "--json").text)
    assert found[0]["command"] == "pr fetch 9"
    assert found[0]["state"] == "undo is here"
    assert "refs/heads/pr/9" in found[0]["refs"]


def test_a_pipe_that_a_skip_replaced_comes_back(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    assert clone.devkit("pr", "rebase").status == 1
    (clone.folder / "a.cc").unlink()
    os.mkfifo(clone.folder / "a.cc", 0o600)
    assert clone.devkit("pr", "skip").status == 0
    assert not (clone.folder / "a.cc").is_fifo()
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "a.cc").is_fifo()
