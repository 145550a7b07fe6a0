"""devkit pr rebase, continue, skip and abort, with uncommitted work."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.conftest import Clone, numbered
from tests.commands.pr.random_clones import checkout, differences, refs

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Forge


def graph(text: str) -> str:
    return dedent(text).strip("\n")


def dirty(clone: Clone) -> list[str]:
    """Leave uncommitted work of every kind, and return git's status of it."""
    clone.write(".gitignore", "*.log\nstaged\n")
    clone.git("add", ".gitignore")
    clone.write(".gitignore", "*.log\nstaged\nunstaged\n")
    clone.write("new.txt", "new\n")
    clone.git("add", "new.txt")
    clone.write("loose.txt", "loose\n")
    return ["MM .gitignore", "A  new.txt", "?? loose.txt"]


def test_a_rebase_goes_onto_the_base_as_the_remote_has_it_now_and_carries_work(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7")
    work = dirty(clone)
    forge.commit("project/Paddle", "refs/heads/develop", "Newest", {"newest.txt": "\n"})
    said = clone.devkit("pr", "rebase")
    assert said.status == 0
    assert "✓ pr/7 on upstream/develop: 2 commits, 2 files, +2 −1, 0 behind upstream/develop" in said.text
    assert clone.graph() == graph("""
        * Test the op (HEAD -> pr/7)
        * Mend the op
        * Newest (upstream/develop, upstream/HEAD)
        * Whole (#9) (develop)
        * Words
        | * Whole (fork/whole)
        | * Half
        |/
        | * Test the op
        | * Mend the op
        |/
        * Begin (fork/develop)
        """)
    assert clone.status() == ["## pr/7", *work]
    assert (clone.folder / ".gitignore").read_text() == "*.log\nstaged\nunstaged\n"
    assert clone.git("show", ":.gitignore") == "*.log\nstaged"


def test_a_conflict_stops_with_an_account_and_abort_goes_back_bit_for_bit(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    dirty(clone)
    before = checkout(clone.folder, clone.folder / ".git")
    said = clone.devkit("pr", "rebase")
    assert said.status == 1
    assert "! pr/8 stopped at commit 1 of 1:" in said.text
    assert "Other words\n  b.py   both changed it\n" in said.text
    assert "UU b.py" in clone.status()
    said = clone.devkit("pr", "continue")
    assert said.status == 1
    assert "git add -- b.py   once they are right" in said.text
    clone.write("b.py", "half resolved\n")
    assert clone.devkit("pr", "abort").status == 0
    assert differences(before, checkout(clone.folder, clone.folder / ".git")) == []


def test_continue_finishes_and_gives_the_work_back(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    work = dirty(clone)
    clone.devkit("pr", "rebase")
    clone.write("b.py", numbered(9, l5="five and cinq"))
    clone.git("add", "b.py")
    said = clone.devkit("pr", "continue")
    assert said.status == 0
    assert "✓ pr/8 on upstream/develop: 1 commit" in said.text
    assert clone.status() == ["## pr/8", *work]
    assert clone.git("log", "--format=%s", "-2").split("\n") == ["Other words", "Whole (#9)"]


def test_lines_of_a_message_that_begin_with_a_hash_outlive_a_conflict(clone: Clone, forge: Forge) -> None:
    message = "Other words\n\n#4242 is what it mends\n\n# and more"
    forge.commit(
        "project/Paddle", "refs/pull/10/head", message, {"b.py": numbered(9, l5="cinq")}, on="refs/pull/8/head~1"
    )
    clone.devkit("pr", "fetch", "10")
    assert clone.devkit("pr", "rebase").status == 1
    clone.write("b.py", numbered(9, l5="five and cinq"))
    clone.git("add", "b.py")
    assert clone.devkit("pr", "continue").status == 0
    assert clone.git("log", "-1", "--format=%B").strip() == message


def test_notes_that_followed_a_rebase_go_back_with_it(clone: Clone) -> None:
    clone.git("config", "notes.rewriteRef", "refs/notes/*")
    clone.devkit("pr", "fetch", "7")
    clone.git("notes", "add", "-m", "reviewed")
    before = refs(clone.folder)
    assert clone.devkit("pr", "rebase").status == 0
    assert clone.git("log", "-1", "--format=%N").strip() == "reviewed"
    assert clone.devkit("undo").status == 0
    assert refs(clone.folder) == before


def test_what_an_abort_takes_with_it_is_said(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.devkit("pr", "rebase")
    for name in ("a.cc", "b.py"):
        clone.write(name, "edited and staged\n")
        clone.git("add", name)
    said = clone.devkit("pr", "abort").text
    assert "! your edit of a.cc since it stopped is gone; devkit undo brings it back" in said
    assert "your edit of b.py" not in said  # how a conflict was resolved, which goes by nature
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "a.cc").read_text() == "edited and staged\n"


def test_skip_drops_the_commit(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    work = dirty(clone)
    clone.devkit("pr", "rebase")
    assert clone.devkit("pr", "skip").status == 0
    assert clone.status() == ["## pr/8", *work]
    assert clone.git("log", "--format=%s", "-1") == "Whole (#9)"


def test_work_that_no_longer_fits_is_kept_safe_and_said(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.write("b.py", numbered(9, l5="mine"))
    said = clone.devkit("pr", "rebase")
    assert said.status == 0
    assert (
        "your uncommitted work does not fit b.py any more; all of it is safe: devkit wip restore --from 1" in said.text
    )
    assert clone.status() == ["## pr/7"]
    assert "b.py" in clone.devkit("wip", "list").text
    clone.devkit("undo")
    assert (clone.folder / "b.py").read_text() == numbered(9, l5="mine")


def test_undo_after_a_conflict_brings_everything_back(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    dirty(clone)
    before = checkout(clone.folder, clone.folder / ".git"), refs(clone.folder)
    clone.devkit("pr", "rebase")
    assert clone.devkit("undo").status == 0
    assert differences(before[0], checkout(clone.folder, clone.folder / ".git")) == []
    assert refs(clone.folder) == before[1]
    assert clone.devkit("redo").status == 0  # the conflict is back
    assert "UU b.py" in clone.status()


def test_a_rebase_onto_another_base_and_one_that_is_not_there(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7", "8")
    assert clone.devkit("pr", "rebase", "7", "--onto", "pr/8").status == 0
    assert clone.git("log", "--format=%s", "-3").split("\n") == ["Test the op", "Mend the op", "Other words"]
    said = clone.devkit("pr", "rebase", "7", "--onto", "nowhere")
    assert (said.status, said.text.splitlines()[0]) == (1, "✗ there is no commit nowhere")


def test_files_that_git_does_not_track_stop_a_rebase(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.write("c.py", "my own\n")
    said = clone.devkit("pr", "rebase")
    assert said.status == 1
    assert "c.py   not tracked" in said.text
    assert clone.status() == ["## pr/7", "?? c.py"]


def test_a_rebase_that_has_nothing_to_do_says_so(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.devkit("pr", "rebase")
    assert "was on it already" in clone.devkit("pr", "rebase").text
    clone.git("switch", "-q", "develop")
    assert "develop is the branch that requests go to" in clone.devkit("pr", "rebase").text


@pytest.mark.parametrize("word", ["continue", "skip", "abort"])
def test_nothing_to_go_on_with(clone: Clone, word: str) -> None:
    said = clone.devkit("pr", word)
    assert (said.status, said.text.splitlines()[0]) == (1, "✗ nothing is in progress in this checkout")


def test_a_rebase_begun_by_hand_can_be_aborted_too(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.git("rebase", "-q", "upstream/develop", check=False)
    assert clone.devkit("pr", "abort").status == 0
    assert clone.status() == ["## pr/8"]


def test_what_a_merge_wrote_beside_a_file_that_met_a_folder_goes_with_the_abort(clone: Clone, forge: Forge) -> None:
    forge.commit("project/Paddle", "refs/pull/11/head", "A folder", {"met/inside.txt": "x\n"}, on="refs/heads/develop")
    forge.commit("project/Paddle", "refs/heads/develop", "A file", {"met": "y\n"})
    clone.devkit("pr", "fetch", "11")
    before = checkout(clone.folder, clone.folder / ".git")["files"]
    assert re.search(r"met(~HEAD)?   added upstream", clone.devkit("pr", "rebase").text)  # by its version
    assert clone.devkit("pr", "abort").status == 0
    assert differences(before, checkout(clone.folder, clone.folder / ".git")["files"]) == []


def test_a_rebase_that_lacks_git_lfs_says_what_brings_it(clone: Clone, forge: Forge) -> None:
    forge.commit("project/Paddle", "refs/pull/11/head", "Large", {"x.bin": "x\n"}, on="refs/heads/develop")
    forge.commit("project/Paddle", "refs/heads/develop", "Words", {"words.txt": "1\n"})
    clone.git("config", "filter.lfs.smudge", "git-lfs-that-is-not-found smudge -- %f; exit 1")
    clone.git("config", "filter.lfs.required", "true")
    clone.write(".git/info/attributes", "*.bin filter=lfs\n")
    assert clone.devkit("pr", "fetch", "11", "--no-switch").status == 0
    for words in ("pr fetch 11", "pr rebase 11"):
        said = clone.devkit(*words.split())
        assert said.status == 1
        assert "→ apt install git-lfs   large files need it" in said.text, said.text


# What was done by hand in between, and what was begun by hand.


def look(clone: Clone) -> dict[str, object]:
    return {**checkout(clone.folder, clone.folder / ".git"), "refs": refs(clone.folder)}


def test_a_hook_that_refuses_the_rebase_is_heard(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    work = dirty(clone)
    hook = clone.folder / ".git" / "hooks" / "pre-rebase"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not on a Tuesday >&2\nexit 1\n")
    hook.chmod(0o755)
    before = look(clone)
    said = clone.devkit("pr", "rebase")
    assert said.status == 1
    assert "✗ pr/7 could not be rebased\n  not on a Tuesday" in said.text
    assert differences(before, look(clone)) == []
    assert clone.status() == ["## pr/7", *work]


def test_a_rebase_that_was_finished_by_hand_does_not_answer_for_the_next(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.write("a.cc", numbered(9, l1="mine"))
    clone.devkit("pr", "rebase")
    clone.write("b.py", numbered(9, l5="five and cinq"))
    clone.git("add", "b.py")
    clone.git("-c", "core.editor=true", "rebase", "--continue")
    clone.git("commit", "-q", "--allow-empty", "-m", "Mine since")
    for word in ("continue", "abort"):
        assert "devkit wip restore --from 1   if your uncommitted work" in clone.devkit("pr", word).text
    clone.git("switch", "-q", "-c", "other", "upstream/develop~2")
    clone.commit("Other", b_py=numbered(9, l5="other"))
    clone.git("rebase", "upstream/develop", check=False)
    assert clone.devkit("pr", "abort").status == 0
    assert clone.status() == ["## other"]
    assert clone.git("log", "-1", "--format=%s", "pr/8") == "Mine since"
    clone.git("merge", "-q", "upstream/develop", check=False)
    clone.write("b.py", "merged\n")
    clone.git("add", "b.py")
    said = clone.devkit("pr", "continue")
    assert said.status == 0
    assert "✓ other: the merge is done" in said.text
    assert clone.devkit("wip", "restore").status == 0
    assert (clone.folder / "a.cc").read_text() == numbered(9, l1="mine")


def test_work_that_was_taken_back_by_hand_does_not_stop_the_rebase(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.write("a.cc", numbered(9, l1="mine"))
    clone.devkit("pr", "rebase")
    assert clone.devkit("wip", "restore").status == 0
    clone.write("b.py", "both\n")
    clone.git("add", "-A")
    assert clone.devkit("pr", "continue").status == 0
    assert clone.status() == ["## pr/8"]
    assert clone.git("diff", "--name-only", "HEAD~1").split() == ["a.cc", "b.py"]


def test_an_abort_leaves_the_newer_bytes_of_what_git_does_not_track(clone: Clone) -> None:
    clone.write("notes.txt", "before\n")
    clone.devkit("pr", "fetch", "8")
    clone.devkit("pr", "rebase")
    clone.write("notes.txt", "written during the conflict\n")
    assert clone.devkit("pr", "abort").status == 0
    assert (clone.folder / "notes.txt").read_text() == "written during the conflict\n"
    assert clone.status() == ["## pr/8", "?? notes.txt"]


def test_a_merge_has_nothing_to_skip_and_says_that_it_goes_on(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "8")
    clone.git("merge", "-q", "upstream/develop", check=False)
    assert "✗ a merge is in progress, and has no commits to skip" in clone.devkit("pr", "skip").text
    clone.write("b.py", "merged\n")
    clone.git("add", "b.py")
    hook = clone.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not like this >&2\nexit 1\n")
    hook.chmod(0o755)
    said = clone.devkit("pr", "continue")
    assert said.status == 1
    assert "! pr/8: the merge is in progress\n  not like this\n  → devkit pr continue   once that is fixed" in said.text
    assert "skip" not in said.text


@pytest.mark.parametrize("word", ["continue", "skip", "abort"])
def test_patches_that_are_being_applied_are_gone_on_with_too(clone: Clone, word: str) -> None:
    patch = clone.folder.parent / "words.patch"
    patch.write_text(clone.git("format-patch", "-1", "--stdout", "upstream/develop~1") + "\n")
    clone.commit("Mine", b_py=numbered(9, l5="mine"))
    clone.git("am", str(patch), check=False)
    before = look(clone)
    if word == "continue":
        clone.write("b.py", "applied\n")
        clone.git("add", "b.py")
        before = look(clone)
    said = clone.devkit("pr", word)
    assert said.status == 0, said.text
    assert clone.git("log", "-1", "--format=%s") == ("Words" if word == "continue" else "Mine")
    assert not (clone.folder / ".git" / "rebase-apply").exists()
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []


def test_a_bisect_that_was_aborted_comes_back_whole(clone: Clone) -> None:
    clone.git("bisect", "start", "HEAD", "HEAD~2")
    before = look(clone)
    assert clone.devkit("pr", "abort").status == 0
    assert clone.git("for-each-ref", "refs/bisect") == ""
    assert clone.devkit("undo").status == 0
    assert differences(before, look(clone)) == []


def test_what_moved_along_and_what_a_skip_took_is_said(clone: Clone) -> None:
    clone.git("config", "rebase.updateRefs", "true")
    clone.devkit("pr", "fetch", "7")
    clone.git("branch", "part", "HEAD~1")
    moves = clone.git_version() >= (2, 38)
    assert ("! part moved along, as rebase.updateRefs says" in clone.devkit("pr", "rebase").text) == moves
    clone.devkit("pr", "fetch", "8")
    clone.devkit("pr", "rebase")
    clone.write("a.cc", "edited during the conflict\n")
    assert "! your edit of a.cc went with the commit; devkit undo brings it back" in clone.devkit("pr", "skip").text
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "a.cc").read_text() == "edited during the conflict\n"


def test_a_branch_that_is_being_rebased_in_a_worktree_is_not_moved(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "8", "--worktree")
    tree = clone.folder.parent / "Paddle-pr-8"
    clone.devkit("pr", "rebase", folder=tree)
    forge.commit("project/Paddle", "refs/pull/8/head", "More", {"more.txt": "more\n"})
    for words in (("pr", "fetch", "8"), ("pr", "fetch", "8", "--no-switch")):
        said = clone.devkit(*words)
        assert said.status == 1
        assert f"✗ pr/8 is being rebased in {tree}" in said.text
    assert clone.git("log", "-1", "--format=%s", "pr/8") == "Other words"


def test_a_branch_that_is_being_bisected_in_a_worktree_stays(clone: Clone, forge: Forge) -> None:
    clone.devkit("pr", "fetch", "7", "--worktree")
    tree = Clone(clone.folder.parent / "Paddle-pr-7", clone.state)
    tree.git("bisect", "start", "HEAD", "HEAD~2")
    forge.commit("project/Paddle", "refs/pull/7/head", "More", {"more.txt": "more\n"})
    for words in (("fetch", "7"), ("rebase", "7"), ("drop", "7", "--yes")):
        said = clone.devkit("pr", *words)
        assert said.status == 1
        assert f"✗ pr/7 is being bisected in {tree.folder}" in said.text
    assert tree.devkit("pr", "abort").status == 0
    assert tree.status() == ["## pr/7"]


@pytest.mark.parametrize("way", [["pr", "abort"], ["undo"]])
def test_nothing_is_recorded_as_a_resolution_that_was_none(clone: Clone, way: list[str]) -> None:
    clone.git("config", "rerere.enabled", "true")
    clone.git("config", "rerere.autoUpdate", "true")
    clone.devkit("pr", "fetch", "8")
    clone.git("switch", "-q", "develop")
    assert clone.devkit("pr", "rebase", "8").status == 1
    assert (clone.folder / ".git" / "MERGE_RR").exists()
    assert clone.devkit(*way).status == 0
    assert not (clone.folder / ".git" / "MERGE_RR").exists()
    clone.commit("Other work", other_txt="1")
    assert clone.devkit("pr", "rebase", "8").status == 1  # it stops again: rerere has learned nothing


def test_carried_work_is_no_work_that_was_left_behind(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.write("b.py", numbered(9, l1="mine"))
    said = clone.devkit("pr", "rebase")
    assert said.status == 0
    assert "ended by hand" not in said.text


@pytest.mark.parametrize("word", ["continue", "abort"])
def test_a_cherry_pick_whose_stop_was_committed_by_hand_is_still_in_progress(
    clone: Clone, forge: Forge, word: str
) -> None:
    """git keeps no CHERRY_PICK_HEAD then; what it still has to pick writes over a file that it ignores."""
    on = "refs/heads/develop"
    forge.commit("project/Paddle", "refs/pull/12/head", "Third words", {"b.py": numbered(9, l5="trois")}, on=f"{on}~2")
    forge.commit("project/Paddle", "refs/pull/12/head", "Keep a log", {"own.log": "theirs\n"})
    clone.devkit("pr", "fetch", "12", "--no-switch")
    clone.write("own.log", "mine\n")
    clone.git("cherry-pick", "pr/12~1", "pr/12", check=False)
    clone.write("b.py", numbered(9, l5="both"))
    clone.git("commit", "-q", "-a", "-m", "Third words, by hand")
    assert not (clone.folder / ".git" / "CHERRY_PICK_HEAD").exists()
    before = look(clone)
    said = clone.devkit("pr", "fetch", "7")
    assert said.status == 1
    assert "a cherry-pick is in progress in this checkout" in said.text, said.text
    said = clone.devkit("pr", word)
    if "would be overwritten" in said.text:  # an older git spares ignored files
        assert clone.devkit("pr", "abort").status == 0
        return
    assert said.status == 0, said.text
    assert ("Not rewinding, check your HEAD" in said.text) == (word == "abort")
    assert clone.git("log", "-1", "--format=%s") == ("Keep a log" if word == "continue" else "Third words, by hand")
    assert not (clone.folder / ".git" / "sequencer").exists()
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "own.log").read_text() == "mine\n"
    assert differences(before, look(clone)) == []


@pytest.mark.parametrize("words", [["rebase"], ["squash"]])
def test_who_commits_is_asked_before_anything_moves(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.git("config", "user.useConfigOnly", "true")
    clone.write("b.py", numbered(9, l1="mine"))
    before = look(clone)
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)
    for line in (["pr", *words, "--dry-run"], ["pr", *words]):
        said = clone.devkit(*line)
        assert said.status == 1
        assert "✗ git does not know who makes the commits" in said.text, said.text
        assert "→ git config --global user.email YOU@EXAMPLE.ORG" in said.text
    assert differences(before, look(clone)) == []
