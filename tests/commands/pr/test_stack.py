"""devkit pr start, squash, remotes and stacks: requests on top of requests, and a contributor's whole walk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from devkit.pr.squash import squashed_message
from tests.commands.pr.conftest import Clone, numbered
from tests.commands.pr.random_clones import git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Forge

PROJECT = "project/Paddle"


def subjects(clone: Clone, range_: str) -> list[str]:
    return clone.git("log", "--reverse", "--format=%s", range_).splitlines()


def test_a_change_begins_at_the_projects_newest_base_with_the_work_carried(clone: Clone, forge: Forge) -> None:
    clone.git("switch", "-q", "-c", "first")
    clone.commit("First", first_txt="1")
    clone.write("b.py", numbered(9, l5="five", l1="mine"))
    forge.commit(PROJECT, "refs/heads/develop", "Newest", {"newest.txt": "1"})
    plan = clone.devkit("pr", "start", "second", "--dry-run")
    assert plan.status == 0
    assert "git switch --no-recurse-submodules --no-track -c second" in plan.text
    assert clone.status() == ["## first", " M b.py"]
    said = clone.devkit("pr", "start", "second")
    assert said.status == 0
    assert "✓ second at upstream/develop" in said.text
    assert clone.status() == ["## second", " M b.py"]
    assert subjects(clone, "HEAD~2..HEAD")[-1] == "Newest"
    for words in (("start", "second"), ("start", "second", "--dry-run")):
        said = clone.devkit("pr", *words)
        assert (said.status, said.text.splitlines()[0]) == (1, "✗ there is a branch second already")
    assert clone.devkit("undo").status == 0
    assert clone.status() == ["## first", " M b.py"]


def test_a_change_for_a_release_is_compared_with_the_release(clone: Clone, forge: Forge) -> None:
    git(forge.bare(PROJECT), "branch", "release/3.0", "develop~1")
    assert clone.devkit("pr", "start", "port", "--base", "release/3.0").status == 0
    clone.commit("Port", port_txt="1")
    found = {row["branch"]: row for row in json.loads(clone.devkit("pr", "list", "--json").text)}
    assert (found["port"]["number"], found["port"]["ahead"], found["port"]["behind"]) == (None, 1, 0)
    said = clone.devkit("pr", "rebase")
    assert "✓ port on upstream/release/3.0: was on it already" in said.text


def test_squash_makes_one_commit_and_touches_no_file(clone: Clone) -> None:
    clone.devkit("pr", "fetch", "7")
    clone.write("a.cc", "work in progress\n")
    tree = clone.git("rev-parse", "HEAD^{tree}")
    assert clone.devkit("pr", "squash", "--dry-run").status == 0
    said = clone.devkit("pr", "squash")
    assert said.status == 0
    assert "✓ pr/7: 2 commits are one" in said.text
    assert clone.git("rev-parse", "HEAD^{tree}") == tree
    assert clone.git("log", "-1", "--format=%B").strip() == "Mend the op\n\n- Test the op"
    assert clone.status() == ["## pr/7", " M a.cc"]
    for words in (("squash",), ("squash", "--dry-run")):
        said = clone.devkit("pr", *words)
        assert (said.status, said.text.splitlines()[0]) == (1, "✗ pr/7 has 1 commit on upstream/develop")
    assert clone.devkit("undo").status == 0
    assert len(subjects(clone, "upstream/develop..pr/7")) == 2


def test_a_parent_that_was_amended_leaves_none_of_its_old_commits(clone: Clone) -> None:
    clone.devkit("pr", "start", "lower")
    clone.commit("Lower", lower_txt="1")
    clone.devkit("pr", "start", "upper", "--on", "lower")
    clone.commit("Upper", upper_txt="1")
    clone.devkit("pr", "start", "top", "--on", "upper")
    clone.commit("Top", top_txt="1")
    clone.git("switch", "-q", "lower")
    clone.write("lower.txt", "better\n")
    clone.git("commit", "-q", "-a", "--amend", "-m", "Lower, better")
    said = clone.devkit("pr", "rebase", "--stack")
    assert said.status == 0, said.text
    assert clone.git("branch", "--show-current") == "lower"
    assert subjects(clone, "upstream/develop..top") == ["Lower, better", "Upper", "Top"]
    assert subjects(clone, "upstream/develop..upper") == ["Lower, better", "Upper"]


def test_the_old_tip_of_a_parent_is_known_from_its_log_too(clone: Clone) -> None:
    clone.git("switch", "-q", "-c", "lower")
    clone.commit("Lower", lower_txt="1")
    clone.git("switch", "-q", "-c", "upper")
    clone.commit("Upper", upper_txt="1")
    clone.git("switch", "-q", "lower")
    clone.write("lower.txt", "better\n")
    clone.git("commit", "-q", "-a", "--amend", "-m", "Lower, better")
    clone.git("switch", "-q", "upper")
    said = clone.devkit("pr", "rebase", "--onto", "lower")
    assert said.status == 0, said.text
    assert subjects(clone, "upstream/develop..upper") == ["Lower, better", "Upper"]


def test_a_parent_without_a_log_is_known_from_when_it_was_named(clone: Clone) -> None:
    clone.git("config", "core.logAllRefUpdates", "false")
    clone.git("switch", "-q", "-c", "lower")
    clone.commit("Lower", lower_txt="1")
    clone.git("switch", "-q", "-c", "upper")
    clone.commit("Upper", upper_txt="1")
    assert "was on it already" in clone.devkit("pr", "rebase", "--onto", "lower").text
    clone.git("switch", "-q", "lower")
    clone.write("lower.txt", "better\n")
    clone.git("commit", "-q", "-a", "--amend", "-m", "Lower, better")
    assert clone.devkit("pr", "rebase", "upper").status == 0
    assert subjects(clone, "upstream/develop..upper") == ["Lower, better", "Upper"]


def test_a_squash_keeps_who_wrote_and_who_signed() -> None:
    messages = [
        "One\n\nBody: of it\nand more\n\nSigned-off-by: A <a@x>\n",
        "fixup! One\n",
        "Two\n\nNot: a trailer\nbut text\n",
        "Three\n\nSigned-off-by: B <b@x>\nSigned-off-by: A <a@x>\n",
    ]
    signed = "Signed-off-by: A <a@x>\nSigned-off-by: B <b@x>\nCo-authored-by: B <b@x>\n"
    authors = ["A <a@x>", "A <a@x>", "B <b@x>", "B <b@x>"]
    assert squashed_message(messages, authors) == f"One\n\nBody: of it\nand more\n\n- Two\n- Three\n\n{signed}"
    assert squashed_message(["One", "fix: two"], ["A <a@x>"] * 2) == "One\n\n- fix: two\n"


def test_which_remote_plays_which_part(clone: Clone) -> None:
    found = {row["remote"]: row for row in json.loads(clone.devkit("pr", "remotes", "--json").text)}
    assert (found["upstream"]["part"], found["fork"]["part"]) == ("project", "fork")
    assert found["upstream"]["branch"] == "develop"
    assert "project" in clone.devkit("pr", "remotes").text


def test_a_contributors_walk(clone: Clone, forge: Forge, tmp_path: Path) -> None:
    """Two requests, one on the other: pushed, reviewed, force-pushed, one squashed upstream, restacked, cleaned."""
    git(tmp_path, "clone", "-q", "--template=", "-o", "upstream", forge.url(PROJECT), "reviewer")
    reviewer = Clone(tmp_path / "reviewer", clone.state)

    def opened() -> None:
        """Do what the forge does after a push: a request's ref is where its branch is."""
        for number, name in ((10, "op"), (11, "tests")):
            source = f"+refs/heads/{name}:refs/pull/{number}/head"
            git(forge.bare(PROJECT), "fetch", "-q", str(forge.bare("me/Paddle")), source)

    def seen() -> list[str]:
        """Return the reviewer's graph, without the tips that were kept of what the author rewrote."""
        return reviewer.graph("--branches", "--remotes").splitlines()

    def kept() -> list[str]:
        return reviewer.git("for-each-ref", "--format=%(refname) %(subject)", "refs/devkit/old").splitlines()

    for words in (("start", "op"), ("start", "tests", "--on", "op")):
        assert clone.devkit("pr", *words).status == 0
        name = words[1]
        clone.commit(f"Add {name}", **{f"{name}_txt": "1\n"})
        assert clone.devkit("pr", "push").status == 0
    opened()
    assert reviewer.devkit("pr", "fetch", "10", "11").status == 0
    assert seen() == [
        "* Add tests (pr/11)",
        "* Add op (pr/10)",
        "* Whole (#9) (HEAD -> develop, upstream/develop, upstream/HEAD)",
        "* Words",
        "* Begin",
    ]
    clone.git("switch", "-q", "op")
    clone.commit("Answer the review", op_txt="2\n")
    assert clone.devkit("pr", "squash", "-m", "Add op").status == 0
    assert clone.devkit("pr", "push").status == 0
    assert clone.devkit("pr", "rebase", "tests").status == 0
    assert clone.devkit("pr", "push", "tests").status == 0
    opened()
    said = reviewer.devkit("pr", "fetch", "10", "11")
    assert said.text.count("rewritten by its author") == 2, said.text
    assert seen() == [
        "* Add tests (pr/11)",
        "* Add op (pr/10)",
        "* Whole (#9) (HEAD -> develop, upstream/develop, upstream/HEAD)",
        "* Words",
        "* Begin",
    ]
    assert kept() == ["refs/devkit/old/pr/10/1 Add op", "refs/devkit/old/pr/11/1 Add tests"]
    assert subjects(clone, "upstream/develop..fork/tests") == ["Add op", "Add tests"]
    forge.commit(PROJECT, "refs/heads/develop", "Add op (#10)", {"op.txt": "2\n"})
    said = clone.devkit("pr", "rebase", "tests")
    assert said.status == 0, said.text
    assert clone.devkit("pr", "push", "tests").status == 0
    opened()
    clone.git("switch", "-q", "develop")
    said = clone.devkit("pr", "clean", "--remote")
    assert said.status == 0, said.text
    assert "✓ removed op, fork/op" in said.text
    assert clone.devkit("pr", "sync").status == 0
    assert clone.graph().splitlines() == [
        "* Add tests (fork/tests, tests)",
        "* Add op (#10) (HEAD -> develop, upstream/develop, upstream/HEAD, fork/develop)",
        "* Whole (#9)",
        "* Words",
        "| * Whole (fork/whole)",
        "| * Half",
        "|/",
        "* Begin",
    ]
    assert [name.split()[0] for name in forge.refs("me/Paddle")] == [
        "refs/heads/develop",
        "refs/heads/tests",
        "refs/heads/whole",
    ]
    assert reviewer.devkit("pr", "fetch", "11", "--no-switch").status == 0
    assert "✓ removed pr/10" in reviewer.devkit("pr", "clean").text
    assert seen() == [
        "* Add tests (pr/11)",
        "* Add op (#10) (upstream/develop, upstream/HEAD)",
        "* Whole (#9) (HEAD -> develop)",
        "* Words",
        "* Begin",
    ]
    assert kept() == ["refs/devkit/old/pr/11/1 Add tests", "refs/devkit/old/pr/11/2 Add tests"]


def test_a_request_for_a_release_is_compared_and_rebased_there(clone: Clone, forge: Forge) -> None:
    git(forge.bare(PROJECT), "branch", "release/3.0", "develop~1")
    forge.commit(PROJECT, "refs/heads/release/3.0", "Only there", {"release.txt": "1"})
    forge.commit(PROJECT, "refs/pull/10/head", "Port the fix", {"port.txt": "1"}, on="refs/heads/release/3.0")
    forge.commit(PROJECT, "refs/heads/release/3.0", "Later there", {"later.txt": "1"})
    clone.git("fetch", "-q", "upstream")
    said = clone.devkit("pr", "fetch", "10")
    assert "1 commit, 1 file, +1 −0, 1 behind upstream/release/3.0" in said.text
    assert clone.devkit("pr", "rebase").status == 0
    assert subjects(clone, "HEAD~2..HEAD") == ["Later there", "Port the fix"]
