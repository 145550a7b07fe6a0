"""devkit pr try --build on a project with Paddle's shape: both sides are compiled, and nothing is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.commands.build_.conftest import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

TEST = """import unittest

import paddle


class TestAdd(unittest.TestCase):
    def test_add(self):
        self.assertEqual(float(paddle.ones([1]) + paddle.ones([1])), 3.0)


if __name__ == "__main__":
    unittest.main()
"""


def test_compiled_code_is_built_on_both_sides_and_nothing_is_installed(
    devkit: Devkit, project: Project, tmp_path: Path
) -> None:
    forge = tmp_path / "forge"
    run("git", "clone", "-q", "--bare", project.root, forge, cwd=tmp_path)
    run("git", "remote", "add", "origin", forge, cwd=project.root)
    run("git", "fetch", "-q", "origin", cwd=project.root)
    begin = run("git", "rev-parse", "HEAD", cwd=project.root)
    kernel = project.root / "paddle" / "phi" / "add_kernel.cc"

    def push(number: int, body: str) -> None:
        kernel.write_text(kernel.read_text().replace("return x + y;", body))
        (project.root / "test" / "test_add.py").write_text(TEST)
        run("git", "add", "-A", cwd=project.root)
        run("git", "commit", "-q", "-m", f"request {number}", cwd=project.root)
        run("git", "push", "-q", "origin", f"HEAD:refs/pull/{number}/head", cwd=project.root)
        run("git", "reset", "-q", "--hard", begin, cwd=project.root)

    push(1, "return x + y + 1;")
    push(2, "return x + nobody;")
    before = sorted(str(path) for path in project.packages.rglob("*") if "__pycache__" not in str(path))
    words = ("--env", str(project.env), "--build", "--repeat", "1", "--json")
    good = devkit("pr", "try", "1", *words, cwd=project.root)
    assert good.status == 0, good.err
    found = json.loads(good.out)
    assert [(test["test"], test["verdict"]) for test in found["tests"]] == [("TestAdd::test_add", "fixed")]
    bad = devkit("pr", "try", "2", *words, cwd=project.root)
    assert bad.status == 4, bad.err
    assert "add_kernel.cc:4:" in json.loads(bad.out)["reason"]
    assert "error:" in json.loads(bad.out)["reason"]
    assert sorted(str(path) for path in project.packages.rglob("*") if "__pycache__" not in str(path)) == before
