"""Submodules of submodules: seen, fetched and counted like those of the tree."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.builds import checkout
from tests.commands.build_.conftest import commit_all, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

DEEP = "third_party/greet/deep"


@pytest.fixture
def nesting(project: Project, tmp_path: Path) -> Project:
    """The project, whose submodule has one of its own, named by a relative address, and one that is left out."""
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "deep.h").write_text("// deep\n")
    commit_all(deep)
    greet = tmp_path / "greet"
    run("git", "submodule", "--quiet", "add", f"file://{deep}", "deep", cwd=greet)
    run("git", "config", "-f", ".gitmodules", "submodule.deep.url", "../deep", cwd=greet)
    for field, value in (("path", "docs"), ("url", "../none"), ("update", "none")):
        run("git", "config", "-f", ".gitmodules", f"submodule.docs.{field}", value, cwd=greet)
    (greet / "docs").mkdir()
    run("git", "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},docs", cwd=greet)
    run("git", "add", ".gitmodules", cwd=greet)
    run("git", "commit", "-qm", "with a submodule", cwd=greet)
    run("git", "submodule", "--quiet", "update", "--remote", "--recursive", "--init", cwd=project.root)
    run("git", "add", "third_party/greet", cwd=project.root)
    run("git", "commit", "-qm", "the newer greet", cwd=project.root)
    return project


def empty(project: Project) -> None:
    shutil.rmtree(project.root / DEEP)
    (project.root / DEEP).mkdir()


def test_a_nested_submodule_that_is_not_there_is_broken_and_fetched_by_fix_and_by_a_build(
    devkit: Devkit, nesting: Project
) -> None:
    line = ("build", "preflight", "--env", str(nesting.env))
    there = devkit(*line, cwd=nesting.root)
    assert there.status == 0, there.out
    assert "2 at their pinned commits, 2 of them in others, 1 left out" in there.out

    empty(nesting)
    result = devkit(*line, "--json", cwd=nesting.root)
    (found,) = [load for load in json.loads(result.out)["checks"] if load["state"] == "broken"]
    assert (result.status, found["name"], found["why"]) == (4, "submodules", f"1 is not there: {DEEP}")
    planned = devkit(*line, "--fix", "--dry-run", cwd=nesting.root)
    parent = nesting.root / "third_party" / "greet"
    assert planned.out == f"git -C {parent} submodule update --init --recursive --force -- deep\n"
    fixed = devkit(*line, "--fix", cwd=nesting.root)
    assert fixed.status == 0, fixed.out
    assert (nesting.root / DEEP / "deep.h").is_file()

    # Seen by the next build too, whose last one had all.
    build = ("build", "--only", "submodules", "--env", str(nesting.env))
    assert "submodules all are there" in devkit(*build, cwd=nesting.root).err
    empty(nesting)
    built = devkit(*build, cwd=nesting.root)
    assert built.status == 0, built.err
    assert "submodules 1 fetched" in built.err
    assert (nesting.root / DEEP / "deep.h").is_file()


def test_a_nested_submodule_at_another_commit_is_looked_at_and_left_alone(devkit: Devkit, nesting: Project) -> None:
    run("git", "commit", "-q", "--allow-empty", "-m", "mine", cwd=nesting.root / DEEP)
    head = run("git", "rev-parse", "HEAD", cwd=nesting.root / DEEP)
    result = devkit("build", "preflight", "--fix", "--env", str(nesting.env), cwd=nesting.root)
    assert result.status == 0, result.out
    assert f"{DEEP}: not at the commit that the tree pins" in result.out
    assert "git -C third_party/greet submodule update --recursive -- deep" in result.out
    assert run("git", "rev-parse", "HEAD", cwd=nesting.root / DEEP) == head


def test_the_walk_knows_addresses_parents_and_what_is_left_out(nesting: Project, tmp_path: Path) -> None:
    found = {submodule.path: submodule for submodule in checkout.all_submodules(App().runner, nesting.root)}
    assert list(found) == ["third_party/greet", DEEP, "third_party/greet/docs"]
    assert found[DEEP].url == f"file://{tmp_path}/deep"
    assert found[DEEP].parent == "third_party/greet"
    assert found[DEEP].present == found[DEEP].pinned == run("git", "rev-parse", "HEAD", cwd=tmp_path / "deep")
    assert found["third_party/greet/docs"].left_out
    assert not found["third_party/greet/docs"].missing


def test_a_submodule_without_its_git_folder_ends_the_walk_there(nesting: Project) -> None:
    shutil.rmtree(nesting.root / ".git" / "modules")
    found = checkout.all_submodules(App().runner, nesting.root)
    assert [(submodule.path, submodule.present) for submodule in found] == [("third_party/greet", "")]
