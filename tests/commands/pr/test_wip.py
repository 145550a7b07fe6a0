"""devkit wip: staged and unstaged apart, single files, and never a conflict with itself."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.commands.pr.conftest import numbered
from tests.commands.pr.random_clones import checkout, differences, git

if TYPE_CHECKING:
    from tests.commands.pr.conftest import Clone, Forge


def dirty(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="staged"))
    clone.git("add", "a.cc")
    clone.write("a.cc", numbered(9, l1="staged", l9="unstaged"))
    clone.git("rm", "-q", "b.py")
    clone.write("new.txt", "new\n")
    clone.git("add", "-N", "new.txt")
    clone.write("dir/loose.txt", "loose\r\n").chmod(0o600)
    (clone.folder / "link").symlink_to("..//nowhere")


def files(clone: Clone) -> dict[str, object]:
    return {**checkout(clone.folder, clone.folder / ".git")["files"], "status": clone.status()}


def test_what_is_put_aside_comes_back_as_it_was(clone: Clone) -> None:
    dirty(clone)
    before = files(clone)
    said = clone.devkit("wip", "save", "-m", "half done")
    assert said.status == 0
    assert "put aside as 1: 2 staged, 2 unstaged, 2 untracked" in said.text
    assert clone.status() == ["## develop...upstream/develop"]
    listed = json.loads(clone.devkit("wip", "list", "--json").text)
    assert (listed[0]["message"], listed[0]["files"]) == (
        "half done",
        ["a.cc", "b.py", "new.txt", "dir/loose.txt", "link"],
    )
    assert clone.devkit("wip", "restore").status == 0
    assert differences(before, files(clone)) == []
    assert clone.devkit("wip", "list", "--json").text.strip() == "[]"


def test_single_files_are_put_aside_and_taken_back(clone: Clone) -> None:
    dirty(clone)
    assert clone.devkit("wip", "save", "loose.txt", folder=clone.folder / "dir").status == 0
    assert clone.status() == ["## develop...upstream/develop", "MM a.cc", "D  b.py", " A new.txt", "?? link"]
    assert clone.devkit("wip", "save", "a.cc", "b.py").status == 0
    assert clone.devkit("wip", "restore", "b.py").status == 0
    assert clone.status() == ["## develop...upstream/develop", "D  b.py", " A new.txt", "?? link"]
    assert clone.devkit("wip", "restore").status == 0
    assert clone.devkit("wip", "restore").status == 0
    assert clone.status() == ["## develop...upstream/develop", "MM a.cc", "D  b.py", " A new.txt", "?? dir/", "?? link"]


def test_it_merges_with_what_came_in_between(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="staged"))
    clone.git("add", "a.cc")
    clone.write("a.cc", numbered(9, l1="staged", l9="unstaged"))
    clone.devkit("wip", "save")
    clone.commit("Between", a_cc=numbered(9, l5="between"))
    assert clone.devkit("wip", "restore").status == 0
    assert (clone.folder / "a.cc").read_text() == numbered(9, l1="staged", l5="between", l9="unstaged")
    assert clone.git("show", ":a.cc") + "\n" == numbered(9, l1="staged", l5="between")


def test_a_conflict_changes_nothing_and_the_work_stays_aside(clone: Clone) -> None:
    dirty(clone)
    clone.devkit("wip", "save")
    clone.commit("Between", a_cc=numbered(9, l1="between"))
    clone.write("dir/loose.txt", "another\n")
    before = files(clone)
    said = clone.devkit("wip", "restore")
    assert said.status == 1
    assert "2 files of entry 1 conflict with what is here; nothing changed\n  a.cc\n  dir/loose.txt" in said.text
    assert differences(before, files(clone)) == []
    assert clone.devkit("wip", "restore", "b.py", "link").status == 0
    listed = json.loads(clone.devkit("wip", "list", "--json").text)
    assert listed[0]["files"] == ["a.cc", "new.txt", "dir/loose.txt"]


def test_undo_gives_the_work_and_the_entry_back(clone: Clone) -> None:
    dirty(clone)
    before = files(clone)
    clone.devkit("wip", "save")
    assert clone.devkit("undo").status == 0
    assert differences(before, files(clone)) == []
    assert clone.devkit("redo").status == 0
    assert clone.status() == ["## develop...upstream/develop"]
    assert clone.devkit("wip", "restore").status == 0
    assert differences(before, files(clone)) == []


def test_nothing_to_put_aside_and_paths_outside(clone: Clone) -> None:
    said = clone.devkit("wip", "save")
    assert (said.status, said.text.splitlines()[0]) == (1, "✗ there is no uncommitted work")
    said = clone.devkit("wip", "save", "../../etc/passwd")
    assert (said.status, said.text.splitlines()[0]) == (2, "✗ ../../etc/passwd is not in this checkout")
    assert clone.devkit("wip", "restore").status == 1


def test_a_conflict_is_not_resolved_by_taking_work_back(clone: Clone) -> None:
    clone.git("switch", "-q", "--detach", "upstream/develop~2")
    clone.write("b.py", numbered(9, l1="staged"))
    clone.git("add", "b.py")
    clone.devkit("wip", "save")
    clone.devkit("pr", "fetch", "8")
    clone.git("merge", "-q", "upstream/develop", check=False)
    before = files(clone)
    said = clone.devkit("wip", "restore")
    assert said.status == 1
    assert "1 file of entry 1 conflict with what is here; nothing changed\n  b.py" in said.text
    assert "UU b.py" in clone.status()
    assert differences(before, files(clone)) == []


def test_a_path_through_a_link_to_the_checkout_is_inside_of_it(clone: Clone) -> None:
    link = clone.folder.parent / "linked"
    link.symlink_to(clone.folder)
    clone.write("dir/loose.txt", "loose\n")
    (clone.folder / "link").symlink_to("/nowhere")
    assert clone.devkit("wip", "save", str(link / "dir" / "loose.txt"), str(link / "link")).status == 0
    assert clone.status() == ["## develop...upstream/develop"]


def test_the_folder_that_the_user_stands_in_stays(clone: Clone) -> None:
    clone.write("new/deep/loose.txt", "loose\n")
    here = clone.folder / "new" / "deep"
    assert clone.devkit("wip", "save", folder=here).status == 0
    assert list(here.iterdir()) == []
    assert clone.devkit("wip", "restore", folder=here).status == 0
    assert (here / "loose.txt").read_text() == "loose\n"
    assert clone.devkit("wip", "save").status == 0
    assert not (clone.folder / "new").exists()


def test_a_ref_that_others_keep_below_the_same_name_is_no_entry(clone: Clone) -> None:
    clone.git("update-ref", "refs/devkit/wip/7", "HEAD")
    dirty(clone)
    assert "put aside as 8" in clone.devkit("wip", "save").text
    assert [load["wip"] for load in json.loads(clone.devkit("wip", "list", "--json").text)] == [8]
    said = clone.devkit("wip", "restore", "--from", "7")
    assert said.status == 1
    assert "refs/devkit/wip/7 is not an entry" in said.text
    assert clone.devkit("wip", "restore").status == 0


def test_a_save_that_git_cannot_keep_changes_nothing_and_leaves_no_crash_report(clone: Clone) -> None:
    clone.write("a.cc", "staged, and lost since\n")
    clone.git("add", "a.cc")
    lost = clone.git("rev-parse", ":a.cc")
    clone.write("a.cc", "unstaged\n")
    (clone.folder / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    said = clone.devkit("wip", "save")
    assert said.status == 1
    assert "git fast-import failed" in said.text
    assert (clone.folder / "a.cc").read_text() == "unstaged\n"
    assert list((clone.folder / ".git").rglob("fast_import_crash_*")) == []


def test_saved_work_is_looked_at_and_thrown_away(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l2="two"))
    clone.git("add", "a.cc")
    clone.write("loose.txt", "loose\n")
    clone.devkit("wip", "save", "-m", "half")
    found = json.loads(clone.devkit("wip", "show", "--json").text)
    assert found["files"] == [{"path": "a.cc", "state": "staged"}, {"path": "loose.txt", "state": "untracked"}]
    assert "half" in clone.devkit("wip", "show", "1").text
    diff = json.loads(clone.devkit("wip", "diff", "1", "--json").text)["diff"]
    assert "-2\n+two\n" in diff
    assert "+loose\n" in diff
    assert "loose" not in json.loads(clone.devkit("wip", "diff", "1", "--staged", "--json").text)["diff"]
    assert clone.devkit("wip", "drop", "1").status == 0
    assert json.loads(clone.devkit("wip", "list", "--json").text) == []
    assert clone.devkit("undo").status == 0
    assert clone.devkit("wip", "restore").status == 0
    assert clone.status()[1:] == ["M  a.cc", "?? loose.txt"]


def test_what_does_not_fit_comes_with_conflict_markers_when_asked(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l2="two"))
    clone.write("b.py", numbered(9, l5="five", l9="nine"))
    clone.devkit("wip", "save")
    clone.commit("Went on", a_cc=numbered(9, l2="deux"))
    said = clone.devkit("wip", "restore")
    assert said.status == 1
    assert "→ devkit wip restore --from 1 --markers" in said.text
    said = clone.devkit("wip", "restore", "--markers")
    assert said.status == 0
    assert "a.cc holds conflict markers" in said.text
    text = (clone.folder / "a.cc").read_text()
    assert "<<<<<<< here\ndeux\n" in text
    assert "two\n>>>>>>> wip 1\n" in text
    assert (clone.folder / "b.py").read_text() == numbered(9, l5="five", l9="nine")
    assert [load["wip"] for load in json.loads(clone.devkit("wip", "list", "--json").text)] == [1]
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "a.cc").read_text() == numbered(9, l2="deux")


def test_work_follows_a_file_that_was_renamed(clone: Clone, forge: Forge) -> None:
    clone.git("mv", "a.cc", "moved.cc")
    clone.git("commit", "-q", "-m", "Rename")
    clone.git("push", "-q", str(forge.bare("project/Paddle")), "HEAD:refs/heads/tmp")
    git(forge.bare("project/Paddle"), "update-ref", "refs/pull/20/head", "refs/heads/tmp")
    clone.git("reset", "-q", "--hard", "upstream/develop")
    clone.write("a.cc", numbered(9, l2="two"))
    assert clone.devkit("pr", "fetch", "20").status == 0
    assert clone.status() == ["## pr/20", " M moved.cc"]
    assert (clone.folder / "moved.cc").read_text() == numbered(9, l2="two")
    assert not (clone.folder / "a.cc").exists()
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "a.cc").read_text() == numbered(9, l2="two")
    assert not (clone.folder / "moved.cc").exists()
    assert clone.devkit("wip", "save").status == 0
    clone.git("mv", "a.cc", "other.cc")
    clone.git("commit", "-q", "-m", "Move it")
    assert clone.devkit("wip", "restore").status == 0
    assert clone.status()[1:] == [" M other.cc"]


def test_what_is_too_large_is_refused_before_git_stores_it(clone: Clone) -> None:
    clone.write("large.bin", "")
    os.truncate(clone.folder / "large.bin", 3 << 30)
    before = clone.git("count-objects")
    said = clone.devkit("wip", "save")
    assert said.status == 1
    assert "large.bin (3.00 GiB)" in said.text, said.text
    assert clone.git("count-objects") == before
    assert clone.devkit("pr", "fetch", "7").status == 0  # which does not touch it


def test_an_entry_that_was_dropped_is_still_shown_while_an_undo_has_it(clone: Clone) -> None:
    clone.write("a.cc", numbered(9, l1="mine"))
    clone.devkit("wip", "save", "-m", "half done")
    shown = clone.devkit("wip", "diff", "1")
    assert clone.devkit("wip", "drop", "1").status == 0
    said = clone.devkit("wip", "show", "1")
    assert said.status == 0
    assert "! entry 1 was dropped; while this is kept, devkit undo brings it back" in said.text
    assert "half done" in said.text
    assert "restore" not in said.text
    assert shown.text in clone.devkit("wip", "diff", "1").text
    assert clone.devkit("wip", "show", "2").status == 1
    assert clone.devkit("wip", "restore", "--from", "1").status == 1
    assert "nothing put aside here" in clone.devkit("wip", "list").text
