"""devkit pr try: a request's Python over a wheel, in a worktree and an environment of its own, and its tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands.build_ import conftest as build
from tests.commands.build_.conftest import Project, commit_all, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.pr.conftest import Clone
    from tests.conftest import Devkit

bare_env, index, make_project = build.bare_env, build.index, build.make_project
project = build.project


@pytest.fixture
def author(devkit: Devkit, project: Project, tmp_path: Path) -> Path:
    """The project is built and pushed to a forge; the clone of someone who sends requests to it."""
    built = devkit("build", "--env", str(project.env), cwd=project.root)
    assert built.status == 0, built.err
    run("git", "clone", "-q", "--bare", project.root, tmp_path / "forge.git", cwd=tmp_path)
    run("git", "remote", "add", "upstream", tmp_path / "forge.git", cwd=project.root)
    run("git", "fetch", "-q", "upstream", cwd=project.root)
    run("git", "clone", "-q", tmp_path / "forge.git", tmp_path / "author", cwd=tmp_path)
    return tmp_path / "author"


def push(author: Path, number: int, files: dict[str, str]) -> None:
    for name, text in files.items():
        (author / name).write_text(text)
    commit_all(author)
    run("git", "push", "-q", "-f", "origin", f"HEAD:refs/pull/{number}/head", cwd=author)


def test_a_request_in_python_is_tried_in_one_line_and_the_checkout_stays(
    devkit: Devkit, project: Project, author: Path
) -> None:
    folder = project.root.with_name("Paddle-pr-7")
    line = ("pr", "try", "7", "--env", str(project.env))
    push(author, 7, {"python/paddle/nn/__init__.py": "WORD = 'tried'\n", "test/test_nn.py": _says("tried")})
    (project.root / "mine.txt").write_text("mine\n")
    before = run("git", "status", "-sb", cwd=project.root)

    planned = devkit(*line, "--dry-run", cwd=project.root)
    assert planned.out.splitlines() == [
        "devkit pr fetch 7 --worktree",
        f"devkit build overlay -C {folder} --env {project.env}",
        f"devkit build test -C {folder} --env {project.env} --changed",
    ]
    assert not folder.exists()
    assert "devkit env create try-7" in devkit("pr", "try", "7", "--dry-run", cwd=project.root).out

    tried = devkit(*line, cwd=project.root)
    assert tried.status == 0, tried.err
    assert "✓ pr/7  1 commit, 2 files" in tried.err
    assert "of the tree over paddlepaddle" in tried.err
    assert "✓ test/test_nn.py   1 test" in tried.out
    assert tried.err.count("→") == 2, "only what follows the whole is proposed"
    assert run("git", "status", "-sb", cwd=project.root) == before

    push(author, 7, {"python/paddle/nn/__init__.py": "WORD = 'again'\n"})
    failed = devkit(*line, "--json", cwd=project.root)
    assert failed.status == 4, failed.err
    found = json.loads(failed.out)
    assert (found["number"], found["folder"], found["fetch"]["relation"]) == (7, str(folder), "forward")
    assert [each["passed"] for each in found["test"]["tests"]] == [False]

    words = ("--", "python", "-c", "import os, paddle.nn; print(os.getcwd(), paddle.nn.WORD)")
    said = devkit(*line, *words, cwd=project.root)
    assert (said.status, said.out.strip()) == (0, f"{folder} again")


def test_a_request_that_changes_compiled_code_says_what_builds_it(
    devkit: Devkit, project: Project, author: Path
) -> None:
    push(author, 8, {"paddle/phi/scale_kernel.cc": "// changed\n"})
    refused = devkit("pr", "try", "8", "--env", str(project.env), cwd=project.root)
    folder = project.root.with_name("Paddle-pr-8")
    assert refused.status == 1
    assert "✗ the change writes compiled code" in refused.err
    assert f"→ devkit build -C {folder} --env {project.env}" in refused.err


def test_what_is_no_paddle_gets_no_environment(clone: Clone) -> None:
    said = clone.devkit("pr", "try", "7")
    assert said.status == 1
    assert "is in no checkout of Paddle" in said.text
    assert "installing" not in said.text
    assert clone.devkit("env", "list").text.count("try-7") == 0


def _says(word: str) -> str:
    return (
        "import unittest\nimport paddle.nn\n\n\nclass Nn(unittest.TestCase):\n    def test_word(self):\n"
        f"        self.assertEqual(paddle.nn.WORD, {word!r})\n\n\nunittest.main()\n"
    )
