"""What is offered: which files of what the user named, and which not."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from devkit.transfer.remote.manifest import MEANT_TO_BE_LEFT_OUT, Offer
from devkit.transfer.remote.names import MAX_DEPTH, MAX_PATH
from devkit.transfer.remote.wire import Stopped

from .conftest import nest, offer, transfer

if TYPE_CHECKING:
    from pathlib import Path


def paths(offered: Offer) -> list[str]:
    """Return the paths of what is offered, folders aside."""
    return sorted(os.fsdecode(entry.path) for entry in offered.entries if entry.kind != "d")


def test_exclude_leaves_out_sources_too(tmp_path: Path) -> None:
    for name in ("a.txt", "b.o", "build/c.txt", "src/b.o", "src/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    named = [tmp_path / name for name in ("a.txt", "b.o", "build", "src")]
    assert paths(offer(*named, exclude=["*.o", "build/"])) == ["a.txt", "src/d.txt"]
    assert paths(offer(f"{tmp_path}/*", exclude=["*.o", "build/"])) == ["a.txt", "src/d.txt"]


def test_what_is_named_twice_is_offered_once(tmp_path: Path) -> None:
    for name in ("a.whl", "b.whl"):
        (tmp_path / name).write_text(name)
    assert paths(offer(f"{tmp_path}/*.whl", tmp_path / "a.whl", f"{tmp_path}/./b.whl")) == ["a.whl", "b.whl"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.whl").write_text("another")
    with pytest.raises(Stopped, match="offered twice"):
        offer(tmp_path / "a.whl", tmp_path / "other" / "a.whl")


def test_a_source_that_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Stopped, match="pipe cannot be sent"):
        offer(tmp_path / "pipe")


@pytest.mark.parametrize(("name", "times"), [("d", MAX_DEPTH + 20), ("l" * 240, MAX_PATH // 240 + 2)])
def test_a_path_too_deep_or_too_long_is_left_out_and_the_rest_arrives(name: str, times: int, tmp_path: Path) -> None:
    nest(tmp_path / "source", name, times)
    (tmp_path / "source" / "file").write_text("here")
    offered = offer(tmp_path / "source")
    assert [reason for _, reason in offered.left_out] == ["its path is too long"]
    pair = transfer(offered, tmp_path / "there")
    assert (pair.result["failed"], pair.offered) == ([], [])
    assert (tmp_path / "there" / "source" / "file").read_text() == "here"


def test_what_could_not_be_read_comes_before_what_is_never_sent(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"out {number}").symlink_to("/somewhere else")
    nest(tmp_path, "z", MAX_DEPTH + 1)
    reasons = [reason for _, reason in offer(f"{tmp_path}/").left_out]
    assert reasons == ["its path is too long", *[MEANT_TO_BE_LEFT_OUT[0]] * 3]


def test_the_rules_of_the_repository_around_hold_in_its_folders(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    inner = repository / "packages" / "one"
    inner.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", repository], check=True)
    (repository / ".gitignore").write_text("*.o\n/packages/one/local\n!keep.o\n")
    (repository / "packages" / ".gitignore").write_text("one/*.log\n")
    (repository / ".git" / "info" / "exclude").write_text("private\n")
    for name in ("a.o", "keep.o", "local", "x.log", "private", "kept"):
        (inner / name).write_text(name)
    assert paths(offer(inner, gitignore=True)) == ["one/keep.o", "one/kept"]
    assert paths(offer(inner, gitignore=True, exclude=["keep.o", "!x.log"])) == ["one/kept", "one/x.log"]


def test_random_trees_are_left_out_as_git_leaves_them_out(tmp_path: Path) -> None:
    chance = random.Random(8)  # noqa: S311 - trees that can be repeated
    names = ["a", "b", "a.o", "build", "x.log", "ab"]
    patterns = ["*.o", "/a", "build/", "!a.o", "a/b", "**/x.log", "b/**", "a*", "!build", "/a/*", "#a", "[ab]", "?b"]
    for number in range(30):
        repository = tmp_path / str(number)
        repository.mkdir()
        subprocess.run(["git", "init", "-q", repository], check=True)
        for _ in range(12):
            folder = repository.joinpath(*chance.choices(names, k=chance.randrange(3)))
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / chance.choice(names)).write_text("x")
                if chance.random() < 0.4:
                    (folder / ".gitignore").write_text("\n".join(chance.choices(patterns, k=3)))
            except OSError:  # a file is where a folder would be, or the other way round
                continue
        listed = subprocess.run(
            ["git", "-C", repository, "ls-files", "-z", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
        )
        expected = sorted(os.fsdecode(name) for name in listed.stdout.split(b"\0") if name)
        assert paths(offer(f"{repository}/", gitignore=True, exclude=["/.git"])) == expected
