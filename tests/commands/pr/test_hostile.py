"""Hostile words, refs, titles and URLs run nothing and escape nowhere."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.random_clones import git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Clone, Forge, Said

PROJECT = "project/Paddle"
WORDS = [
    "--upload-pack=touch HIT",
    "--exec=touch HIT",
    "-x",
    "-c",
    "ext::sh -c touch% HIT",
    "../../etc",
    "7;touch HIT",
    "$(touch HIT)",
    "`touch HIT`",
    "7\nHIT",
    "\x1b]0;HIT\x07",
    "0x7",
    "-1",
    "٧",
    "",
    "@{u}",
    "HEAD:a.cc",
    "https://127.0.0.1/--upload-pack=touch HIT/pull/7",
    "--output=HIT",
]


def hit(clone: Clone) -> bool:
    return any(clone.folder.parent.rglob("*HIT*")) or any(clone.folder.glob("HIT*"))


@pytest.mark.parametrize("word", WORDS)
def test_a_hostile_word_is_refused_everywhere(clone: Clone, word: str) -> None:
    refs = clone.git("for-each-ref")
    lines = [
        ("pr", "fetch", word),
        ("pr", "fetch", "--", word),
        ("pr", "fetch", "7", f"--remote={word}"),
        ("pr", "rebase", f"--onto={word}"),
        ("pr", "push", f"--remote={word}", "--branch=x"),
        ("pr", "drop", "--", word),
        ("wip", "restore", "--", word),
        ("undo", "--", word),
    ]
    for line in lines if word in WORDS[:6] else lines[1:5:2]:
        said = clone.devkit(*line)
        if word == "" and line[-1] in {"--remote=", "--onto=", ""}:
            continue  # an empty word is not a word at all
        if line[1] == "rebase" and word == "@{u}":
            continue  # that is a commit, and rightly so
        assert said.status in {1, 2}, (line, said.text)
        assert "\x1b" not in said.text
        assert "\x07" not in said.text
    assert clone.git("for-each-ref") == refs
    assert not hit(clone)


@pytest.mark.parametrize(
    "name", ["--upload-pack=touch HIT", "-b", "..", "a..b", "a b", "x.lock", "a\x07", "@", "HEAD", "a~1"]
)
def test_a_hostile_branch_name_is_refused(clone: Clone, name: str) -> None:
    clone.git("switch", "-q", "-c", "fix")
    for line in (("pr", "fetch", "7", f"--branch={name}"), ("pr", "push", f"--branch={name}")):
        said = clone.devkit(*line)
        assert said.status == 2, said.text
    assert not hit(clone)


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% HIT", "fd::3", "-oProxyCommand=touch HIT", "--upload-pack=touch HIT"]
)
def test_a_remote_that_names_a_program_is_refused(clone: Clone, url: str) -> None:
    clone.git("config", "remote.upstream.url", url)
    for line in (("pr", "fetch", "7"), ("pr", "sync"), ("pr", "rebase", "--onto", "upstream/develop")):
        said = clone.devkit(*line)
        assert said.status == 1, said.text
    assert not hit(clone)


def test_a_remote_named_like_an_option_is_refused(clone: Clone) -> None:
    clone.git("config", "remote.--upload-pack=touch HIT;.url", "https://forge.invalid/a/b.git")
    clone.git("config", "remote.pushDefault", "--upload-pack=touch HIT;")
    clone.git("switch", "-q", "-c", "fix")
    assert clone.devkit("pr", "push").status == 2
    assert not hit(clone)


def test_titles_and_file_names_are_shown_as_what_they_are(clone: Clone, forge: Forge) -> None:
    files = {"a\x1b[2Jb.txt": "1\n", "new\nline.cc": "2\n", "--x": "3\n", ":(glob)*": "4\n", "ü [bold]x[/].py": "5\n"}
    title = "Ti\x1b]0;own\x07tle [red]no[/red] \u202eevil"
    forge.commit(PROJECT, "refs/pull/66/head", title, files, on="refs/heads/develop")
    said = clone.devkit("pr", "fetch", "66")
    assert said.status == 0
    texts = [said, clone.devkit("pr", "show"), clone.devkit("pr", "list"), clone.devkit("undo", "--list")]
    for text in texts:
        _plain(text)
    assert "[red]no[/red]" in texts[1].text
    assert sorted(load["path"] for load in json.loads(clone.devkit("pr", "show", "--json").text)["files"]) == sorted(
        files
    )
    for name in files:
        clone.write(name, "edited\n")
    assert clone.devkit("wip", "save", "--", "--x").status == 0
    assert clone.devkit("wip", "save").status == 0
    assert clone.status() == ["## pr/66"]
    assert clone.devkit("wip", "restore").status == 0
    assert clone.devkit("wip", "restore").status == 0
    assert all((clone.folder / name).read_text() == "edited\n" for name in files)


def _plain(said: Said) -> None:
    assert not set(said.text) & {"\x1b", "\x07", "\u202e"}, said.text


@pytest.mark.parametrize("path", ["../../outside.txt", ".git/hooks/post-checkout", ".GIT/config", "a/../../x", "/HIT"])
def test_a_path_that_leaves_the_checkout_is_refused(path: str) -> None:
    from devkit.errors import DevkitError
    from devkit.git.checkout_files import safe_path

    with pytest.raises(DevkitError, match="the snapshot names"):
        safe_path(path)


def test_a_symbolic_link_of_a_request_leads_nothing_outside(clone: Clone, forge: Forge, tmp_path: Path) -> None:
    """A folder that a request replaces by a link is never written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    clone.commit("A folder", folder__file_txt="mine\n")
    clone.git("branch", "base")
    bare = forge.bare(PROJECT)
    clone.git("rm", "-q", "-r", "folder")
    (clone.folder / "folder").symlink_to(outside)
    clone.git("add", "folder")
    clone.git("commit", "-q", "-m", "A link")
    clone.git("push", "-q", str(bare), "HEAD:refs/heads/tmp")
    git(bare, "update-ref", "refs/pull/67/head", "refs/heads/tmp")
    clone.git("reset", "-q", "--hard", "base")
    assert clone.devkit("pr", "fetch", "67").status == 0
    assert (clone.folder / "folder").is_symlink()
    assert clone.devkit("undo").status == 0
    assert (clone.folder / "folder" / "file.txt").read_text() == "mine\n"
    assert list(outside.iterdir()) == []
    assert clone.devkit("redo").status == 0
    assert (clone.folder / "folder").is_symlink()
    assert list(outside.iterdir()) == []


def test_a_line_separator_in_a_branch_or_a_title_splits_nothing(clone: Clone, forge: Forge) -> None:
    forge.commit(
        PROJECT, "refs/heads/a\u2028b\x85c", "x\u2028deadbeef Whole (#7)", {"x.txt": "x\n"}, on="refs/heads/develop"
    )
    forge.commit(PROJECT, "refs/heads/develop", "x\u2028deadbeef Whole (#8)\x85", {"x.txt": "x\n"})
    clone.git("fetch", "-q", "upstream")
    assert clone.devkit("pr", "fetch", "8").status == 0
    found = json.loads(clone.devkit("pr", "list", "--json").text)
    assert [row["merged"] for row in found] == [None]


@pytest.mark.parametrize("name", ["$(touch HIT) x.py", "a;touch HIT", ":(top)x", "-x"])
def test_what_is_shown_to_type_runs_nothing_of_a_file_name(clone: Clone, forge: Forge, name: str) -> None:
    forge.commit(PROJECT, "refs/pull/70/head", "Theirs", {f"sub/{name}": "theirs\n"}, on="refs/heads/develop")
    forge.commit(PROJECT, "refs/heads/develop", "Ours", {f"sub/{name}": "ours\n"})
    clone.devkit("pr", "fetch", "70")
    clone.devkit("pr", "rebase")
    said = clone.devkit("pr", "continue", folder=clone.folder / "sub")
    line = next(word for word in said.text.splitlines() if "→ git add" in word).strip().removeprefix("→ ")
    subprocess.run(["sh", "-c", line.partition("   once")[0]], cwd=clone.folder / "sub", check=True)
    assert clone.git("ls-files", "-u") == ""
    assert clone.git("ls-files", "-z", "sub").strip("\0") == f"sub/{name}"
    assert not (clone.folder / "sub" / "HIT").exists()
