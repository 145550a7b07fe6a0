"""The decisions: which lines of git, what is in the way, what comes back; pure functions, without a repository."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from devkit.errors import UsageError
from devkit.git.blobs import File
from devkit.git.changes import Change, obstacles, parse_raw, rebuilt
from devkit.git.command import Answer, GitFailed, branch_name, environment, line, quoted, word
from devkit.git.roles import PullRequest
from devkit.git.snapshot_document import Checkout, Snapshot, decode, encode
from devkit.git.state import (
    CloneDirs,
    State,
    Status,
    StatusEntry,
    Worktree,
    not_usable,
    parse_config,
    parse_status,
    parse_worktrees,
)
from devkit.git.wip_entry import NOTHING, Item, Side
from devkit.git.wip_merge import Now, decide
from devkit.pr.arrival import Arrival, CheckoutMode, FetchOptions, Relation
from devkit.pr.fetch import plan, worktree_folder
from devkit.pr.forge import summary
from devkit.pr.github import parse_checks
from devkit.pr.summary import parse_shortstat

A, B, C = "a" * 40, "b" * 40, "c" * 40
REQUEST = PullRequest(7, "upstream")
SET = "git config --local branch.pr/7."
CONFIGURED = {
    "branch.pr/7.remote": ("upstream",),
    "branch.pr/7.merge": ("refs/pull/7/head",),
    "branch.pr/7.devkitfetched": ("0",),
}


def state(branch: str = "develop", worktrees: tuple[Worktree, ...] = (), seen: str = "") -> State:
    place = CloneDirs(Path("/x/.git"), Path("/x/.git"), Path("/x"))
    refs = {REQUEST.tracking: seen} if seen else {}
    return State(place, A, branch, refs, {}, {}, CONFIGURED, (), worktrees)


def lines(
    relation: Relation, way: CheckoutMode = "switch", branch: str = "develop", worktrees: tuple[Worktree, ...] = ()
) -> list[str]:
    seen = "" if relation == "new" else A
    local = {"new": "", "ahead": C}.get(relation, A)
    arrival = Arrival(REQUEST, A if relation in {"same", "ahead"} else B, seen, "pr/7", local, relation)
    options = FetchOptions((REQUEST,), way, folder=Path("/w"))
    return [
        str(git_line)
        for git_line in plan(arrival, options, state(branch, worktrees, seen), old="refs/devkit/old/pr/7/1")
    ]


TRACK = f"git update-ref -m 'devkit: fetched' refs/devkit/pull/upstream/7 {B} "
KEEP = f"git update-ref -m 'devkit: the author rewrote it' refs/devkit/old/pr/7/1 {A} {'0' * 40}"
SWITCH = "git switch --no-recurse-submodules "
HERE = (Worktree(Path("/x"), A, "pr/7"),)
THERE = (Worktree(Path("/y"), A, "pr/7"),)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (lines("new"), [f"{SWITCH}--no-track -c pr/7 {B}", TRACK + "0" * 40]),
        (lines("new", "branch"), [f"git branch --no-track -- pr/7 {B}", TRACK + "0" * 40]),
        (lines("new", "detach"), [f"{SWITCH}--detach {B}", TRACK + "0" * 40]),
        (lines("new", "worktree"), [f"git worktree add --no-track -b pr/7 -- /w {B}", TRACK + "0" * 40]),
        (lines("same"), [f"{SWITCH}pr/7"]),
        (lines("same", branch="pr/7", worktrees=HERE), []),
        (lines("same", "worktree"), ["git worktree add -- /w pr/7"]),
        (lines("ahead", "branch"), []),
        (lines("forward"), [f"{SWITCH}--no-track -C pr/7 {B}", TRACK + A]),
        (lines("forward", "branch"), [f"git branch --no-track --force -- pr/7 {B}", TRACK + A]),
        (lines("forward", "branch", "pr/7", HERE), [f"{SWITCH}--no-track -C pr/7 {B}", TRACK + A]),
        (
            lines("forward", "worktree"),
            [f"git branch --no-track --force -- pr/7 {B}", "git worktree add -- /w pr/7", TRACK + A],
        ),
        (
            lines("forward", worktrees=THERE),
            [f"git -C /y switch --no-recurse-submodules --no-track -C pr/7 {B}", TRACK + A],
        ),
        (lines("rewritten"), [KEEP, f"{SWITCH}--no-track -C pr/7 {B}", TRACK + A]),
    ],
)
def test_the_lines_that_put_a_request_in_its_place(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def change(path: str, before: str = A, after: str = B) -> Change:
    def side(oid: str) -> tuple[str, str]:
        return ("100644" if oid else "000000", oid)

    return Change(path, side(before), side(after))


def test_what_is_in_the_way(tmp_path: Path) -> None:
    for name in ("changed", "loose", "ignored", "folder/deep", "file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    dirty = StatusEntry("changed", ".M", "N...", ("100644", A), ("100644", A))
    status = Status((dirty,), ("loose", "folder/deep"))
    added = [change(name, "") for name in ("loose", "ignored", "folder", "file/below", "free")]
    found = obstacles([change("changed"), *added], status, tmp_path)
    assert [(obstacle.path, obstacle.kind) for obstacle in found] == [
        ("changed", "changed here"),
        ("file", "ignored"),
        ("folder/deep", "not tracked"),
        ("ignored", "ignored"),
        ("loose", "not tracked"),
    ]
    assert obstacles([change("file", A, ""), change("file/below", "")], Status(), tmp_path) == ()


def merge(base: Side, ours: Side, theirs: Side) -> Side | None:
    return None if "x" in {ours[1], theirs[1]} else ("100644", f"{base[1]}+{ours[1]}+{theirs[1]}")


def side(oid: str) -> Side:
    return ("100644", oid) if oid else NOTHING


@pytest.mark.parametrize(
    ("item", "now", "wanted"),
    [
        # base, index, work of the item; index, work, clean of now; index and work that are written (- leaves it)
        ("b b w", "b b yes", "- w"),
        ("b i w", "b b yes", "i w"),
        ("b i b", "b b yes", "i b"),
        ("b i -", "b b yes", "i "),
        ("b b w", "n n yes", "- b+n+w"),
        ("b i w", "n n yes", "b+n+i b+n+w"),
        ("b i b", "n n yes", "b+n+i -"),
        ("b b w", "b w no", "- -"),
        ("b b w", "b n no", "- b+n+w"),
        ("b b w", "x x yes", "conflict"),
        ("b i w", "x b no", "conflict"),
        ("- i w", "- - yes", "i w"),
    ],
)
def test_what_comes_back_over_what_is_there(item: str, now: str, wanted: str) -> None:
    base, index, work = (side(part.strip("-")) for part in item.split(" "))
    there_index, there_work, clean = now.split(" ")
    here = Now(side(there_index.strip("-")), side(there_work.strip("-")), clean=clean == "yes")
    write = decide(Item("p", base, index, work, work[1], 0o100644), here, merge)
    if wanted == "conflict":
        assert write is None
        return
    assert write is not None
    assert " ".join("-" if pair is None else pair[1] for pair in (write.index, write.work)) == wanted


def test_an_untracked_file_only_comes_back_where_nothing_is() -> None:
    item = Item("p", NOTHING, NOTHING, side("w"), "raw", 0o100600, untracked=True)
    write = decide(item, Now(NOTHING, NOTHING, clean=True), merge)
    assert write is not None
    assert (write.raw, write.mode) == ("raw", 0o100600)
    assert decide(item, Now(NOTHING, side("other"), clean=False), merge) is None


def test_words_that_git_could_take_for_options_are_refused() -> None:
    for text in ("-x", "--upload-pack=x", "", "a\nb", "a\x1b"):
        with pytest.raises(UsageError):
            word(text, "word")
    for text in (
        "a..b",
        "a b",
        "a/",
        "/a",
        "a.lock",
        "a.lock/b",
        ".a",
        "a/.b",
        "@",
        "a@{b",
        "a\\b",
        "HEAD",
        "a:b",
        "a.",
    ):
        with pytest.raises(UsageError):
            branch_name(text)
    assert branch_name("feature/ü-1_2.3") == "feature/ü-1_2.3"


def test_the_environment_of_git_is_clean() -> None:
    dirty = {
        "GIT_DIR": "/x",
        "GIT_INDEX_FILE": "/y",
        "GIT_EXTERNAL_DIFF": "evil",
        "GIT_SSH_COMMAND": "ssh -i k",
        "HOME": "/h",
    }
    clean = environment(dirty)
    assert not {"GIT_DIR", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF"} & clean.keys()
    assert (clean["GIT_SSH_COMMAND"], clean["HOME"], clean["GIT_LITERAL_PATHSPECS"]) == ("ssh -i k", "/h", "1")


def test_a_line_is_shown_as_one_would_type_it() -> None:
    assert str(line("switch", "a b", directory=Path("/x y"))) == "git -C '/x y' switch 'a b'"
    assert (
        str(line("update-ref", "-z", "--stdin", data=b"delete a\0\0"))
        == r"printf 'delete a\0\0' | git update-ref -z --stdin"
    )


def test_status_names_with_every_byte() -> None:
    data = (
        b"1 MM N... 100644 100644 100644 " + A.encode() + b" " + B.encode() + b" a b\0"
        b"u UU N... 100644 100644 100644 100644 " + b" ".join([A.encode(), B.encode(), C.encode()]) + b" new\nline\0"
        b"1 .M SC.. 160000 160000 160000 " + A.encode() + b" " + A.encode() + b" sub\0"
        b"? \xff\xfe\0"
    )
    status = parse_status(data)
    assert [(entry.path, entry.xy, entry.unmerged, entry.is_submodule) for entry in status.entries] == [
        ("a b", "MM", False, False),
        ("new\nline", "UU", True, False),
        ("sub", ".M", False, True),
    ]
    assert status.untracked == ("\udcff\udcfe",)
    assert [status_entry.path for status_entry in status.dirty] == ["a b", "new\nline"]


def test_config_worktrees_raw_changes_and_counts() -> None:
    values, local = parse_config(b"global\0a.b\nc\nd\0local\0branch.x.merge\nrefs/heads/x\0local\0flag\0")
    assert values == {"a.b": ("c\nd",), "branch.x.merge": ("refs/heads/x",), "flag": ("true",)}
    assert local == (("branch.x.merge", "refs/heads/x"), ("flag", "true"))
    trees = parse_worktrees(
        f"worktree /a b\0HEAD {A}\0branch refs/heads/x\0\0worktree /c\0HEAD {B}\0detached\0locked why\0\0".encode()
    )
    assert trees == (Worktree(Path("/a b"), A, "x"), Worktree(Path("/c"), B, "", locked=True))
    found = parse_raw(f":100644 000000 {A} {'0' * 40} D\0a\nb\0:000000 120000 {'0' * 40} {B} A\0c\0".encode())
    assert [(file.path, file.added, file.removed) for file in found] == [("a\nb", False, True), ("c", True, False)]
    assert rebuilt([change("a.cc"), change("b.H"), change("c.py")]) == (2, 1)
    assert parse_shortstat(" 3 files changed, 1 insertion(+), 22 deletions(-)") == (3, 1, 22)


def test_a_snapshot_survives_being_written() -> None:
    file = File("odd \udcff name", 0o100600, A, 3)
    checkout = Checkout("/x", ".", "ref: refs/heads/x\n", A, B, 12, (file, File("gone", 0)), (), (("sub", A, ""),))
    snapshot = Snapshot(
        "1a2b", "pr fetch 7", {"refs/heads/x": A}, (("branch.x.merge", "y"),), "", {"x": B}, (checkout,)
    )
    import json

    assert decode(json.loads(json.dumps(encode(snapshot)))) == snapshot
    assert dataclasses.is_dataclass(snapshot)


def test_a_path_in_a_list_of_lines_is_quoted() -> None:
    assert quoted('a"\\\n\udcff') == b'"a\\042\\134\\012\xff"'


def test_checks_are_summed_up() -> None:
    ended = {"status": "completed"}
    runs = [
        {"name": "a", "conclusion": "failure", **ended},
        {"name": "b", "conclusion": "success", **ended},
        {"name": "c"},
    ]
    assert summary(parse_checks({"check_runs": runs}, None)) == "1 passed, 1 failed (a), 1 running"
    assert summary(parse_checks(None, None)) == ""


def test_a_clone_that_git_does_not_trust_is_trusted_by_the_line_that_git_names() -> None:
    said = (
        "fatal: detected dubious ownership in repository at '/x y'\nTo add an exception for this directory, call:\n\n"
    )
    error = not_usable(Path("/x y"), f"{said}\tgit config --global --add safe.directory '/x y'")
    assert error.what == "git does not trust /x y"
    assert [hint.command for hint in error.hints] == ["git config --global --add safe.directory '/x y'"]


def test_large_files_without_their_program_name_it() -> None:
    answer = Answer(
        128, b"", b"git-lfs filter-process: 1: git-lfs: not found\nfatal: x.bin: smudge filter lfs failed\n"
    )
    assert [hint.command for hint in GitFailed(["switch", "x"], answer).hints] == ["apt install git-lfs"]


@pytest.mark.parametrize(("main", "folder"), [("/x", "/x-pr-7"), ("/p/x.git", "/p/x-pr-7"), ("/p/.bare", "/p/p-pr-7")])
def test_a_worktree_lies_beside_the_clone_and_is_seen(main: str, folder: str) -> None:
    here = state(worktrees=(Worktree(Path(main)),))
    assert worktree_folder("pr/7", FetchOptions((REQUEST,)), here) == Path(folder)
