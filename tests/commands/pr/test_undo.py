"""devkit undo: exact, itself undoable, after a kill, and never over what moved since."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import Clone, look, numbered
from tests.commands.pr.random_clones import differences, git, refs

if TYPE_CHECKING:
    from pathlib import Path


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


def test_too_much_to_keep_is_asked_about(clone: Clone) -> None:
    clone.write("large.bin", "x" * (2 << 20))
    said = clone.devkit("pr", "fetch", "7", env={"DEVKIT_UNDO_MAX_MIB": "1"})
    assert said.status == 1
    assert "keeping your uncommitted files would take 2.00 MiB" in said.text
    assert "large.bin (2.00 MiB)" in said.text
    assert clone.status() == ["## develop...upstream/develop", "?? large.bin"]


def test_a_snapshot_from_elsewhere_is_never_restored(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    (path,) = (clone.folder / ".git" / "devkit" / "undo").glob("*.json")
    oid = json.loads(path.read_text())["snapshot"]
    clone.git("update-ref", "refs/devkit/undo/beef", oid)
    assert "beef" not in clone.devkit("undo", "--list").text
    assert clone.devkit("undo", "beef").status == 1


def test_old_snapshots_are_let_go_of(clone: Clone) -> None:
    for _ in range(4):
        clone.devkit("pr", "fetch", "7", env={"DEVKIT_UNDO_KEEP": "2"})
        clone.devkit("undo", env={"DEVKIT_UNDO_KEEP": "2"})
    assert len(list((clone.folder / ".git" / "devkit" / "undo").glob("*.json"))) == 2


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


def test_a_folder_that_git_would_take_for_its_own_is_left_alone(clone: Clone) -> None:
    clone.write(".GIT/x", "mine\n")
    before = look(clone)
    clone.devkit("pr", "fetch", "7")
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []
    assert "there is no uncommitted work" in clone.devkit("wip", "save").text


def test_settings_of_a_branch_that_were_made_since_need_a_yes(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.devkit("pr", "fetch", "7")  # writes down when, and no more
    clone.git("config", "branch.pr/7.description", "what I know of it")
    said = clone.devkit("undo")
    assert said.status == 1
    assert "the settings of the branch pr/7 changed" in said.text
    assert clone.git("config", "branch.pr/7.description") == "what I know of it"


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
