"""devkit build clean and devkit build test as a user sees them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.both_ways import never_started
from tests.commands.build_.conftest import commit_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit


def test_clean_frees_only_what_was_named(devkit: Devkit, project: Project) -> None:
    dist = project.build / "python" / "dist"
    dist.mkdir(parents=True)
    (project.build / "CMakeCache.txt").touch()
    for name in ("old.whl", "new.whl"):
        (dist / name).write_bytes(b"x" * 10_000)
    (project.build / "a.o").write_bytes(b"x" * 20_000)
    (project.build / "third_party").mkdir()
    (project.build / "third_party" / "b.a").write_bytes(b"x" * 30_000)
    shown = devkit("build", "clean", "--json", cwd=project.root)
    sizes = json.loads(shown.out)["bytes"]
    assert 10_000 <= sizes["wheels"] < 20_000 <= sizes["objects"] < 30_000 <= sizes["third-party"] < sizes["build"]
    planned = devkit("build", "clean", "objects", "--dry-run", cwd=project.root)
    assert planned.out.splitlines() == [f"rm -r {project.build}/a.o"]
    result = devkit("build", "clean", "wheels", "objects", cwd=project.root)
    assert result.status == 0, result.err
    assert sorted(path.name for path in dist.iterdir()) == ["new.whl"]
    assert not (project.build / "a.o").exists()
    assert (project.build / "third_party" / "b.a").exists()
    assert devkit("build", "clean", "everything", cwd=project.root).status == 2
    assert devkit("build", "clean", "build", cwd=project.root).status == 0
    assert not project.build.exists()


def test_clean_never_removes_a_folder_that_no_build_made(devkit: Devkit, project: Project) -> None:
    result = devkit("build", "clean", "build", "objects", "--build-dir", "python", cwd=project.root)
    assert result.status == 0
    assert (project.root / "python" / "paddle" / "__init__.py").is_file()


def test_unit_tests_run_over_the_build_folder_with_the_variables_of_ci(devkit: Devkit, project: Project) -> None:
    compiled(project.build / "python" / "paddle")
    (project.root / "python" / "paddle" / "__init__.py").write_text("WHERE = 'the build folder'\n")
    commit_all(project.root)
    assert devkit("build", "sync", cwd=project.root).status == 0
    test = project.root / "test" / "test_where.py"
    test.write_text(
        "import os, unittest\nimport paddle\n\n\nclass Where(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(paddle.WHERE, 'the build folder')\n"
        "        self.assertEqual(os.environ['FLAGS_cudnn_deterministic'], 'true')\n\n\nunittest.main()\n"
    )
    line = ("build", "test", "--env", str(project.env))
    result = devkit(*line, "--changed", "--json", cwd=project.root)
    assert result.status == 0, result.out
    (verdict,) = json.loads(result.out)["tests"]
    assert (verdict["name"], verdict["passed"], verdict["tests"]) == ("test/test_where.py", True, 1)
    (project.root / "python" / "paddle" / "__init__.py").write_text("WHERE = 'elsewhere'\n")
    old = devkit(*line, "test_where", cwd=project.root)
    assert old.status == 1
    assert "older than the tree's" in old.err
    assert "→ devkit build sync" in old.err
    assert devkit("build", "sync", cwd=project.root).status == 0
    failed = devkit(*line, "test_where", cwd=project.root)
    assert failed.status == 4
    assert "✗ test/test_where.py" in failed.out
    assert "AssertionError" in failed.out or "FAILED" in failed.out
    assert devkit(*line, cwd=project.root).status == 2
    unknown = devkit(*line, "test_wher", cwd=project.root)
    assert (unknown.status, "→ devkit build test test_where" in unknown.err) == (1, True)


def compiled(package: Path) -> None:
    (package / "base").mkdir(parents=True)
    (package / "base" / "libpaddle.so").touch()


def test_another_paddle_than_the_trees_is_refused_by_its_name(devkit: Devkit, project: Project) -> None:
    wheel = project.packages / "paddle"
    compiled(wheel)
    (wheel / "__init__.py").write_text("def f():\n    return 1\n")
    (project.root / "python" / "paddle" / "__init__.py").write_text("def f():\n    raise ValueError\n")
    test = project.root / "test" / "test_f.py"
    test.write_text("import paddle\n\n\ndef test_f():\n    paddle.f()\n\n\ntest_f()\n")
    result = devkit("build", "test", "--env", str(project.env), "test_f", cwd=project.root)
    assert (result.status, result.out) == (1, "")
    assert f"✗ the tests would not run the Paddle of {project.root}" in result.err
    assert f"imports {wheel}" in result.err
    assert "→ devkit build overlay" in result.err


@pytest.mark.both_ways("build test")
def test_like_ci_a_new_test_runs_first_and_thrice_and_what_fails_is_run_again(devkit: Devkit, project: Project) -> None:
    compiled(project.build / "python" / "paddle")
    (project.root / "python" / "paddle" / "__init__.py").write_text("")
    body = (
        "import os\nimport paddle\n\nassert os.environ['FLAGS_CI_PIPELINE'] == 'py3'\n"
        "count = os.environ['COUNTS'] + __file__.rpartition('/')[2]\nwith open(count, 'a') as file:\n"
        "    file.write('.')\nassert os.path.getsize(count) >= {least}\nprint('Ran 1 test in 0.1s')\n"
    )
    counts = project.root.parent / "counts"
    counts.mkdir()
    env = {"COUNTS": f"{counts}/"}
    (project.root / "test" / "test_old.py").write_text(body.format(least=2))
    commit_all(project.root)
    (project.root / "test" / "test_new.py").write_text(body.format(least=1))
    assert devkit("build", "sync", cwd=project.root).status == 0
    line = ("build", "test", "--env", str(project.env), "test_old", "test_new", "--like-ci")
    planned = devkit(*line, "--dry-run", cwd=project.root, env=env)
    assert planned.status == 0, planned.err
    words = [text.split() for text in planned.out.splitlines()]
    assert [text[-1].rpartition("/")[2] for text in words] == ["test_new.py"] * 3 + ["test_old.py", "test_new.py"]
    assert "FLAGS_CI_PIPELINE=py3" in words[0]
    assert [*counts.iterdir()] == []
    result = devkit(*line, "--json", "-v", cwd=project.root, env=env)
    assert result.status == 0, result.out
    assert never_started(planned.out.splitlines(), result) == []
    tests = json.loads(result.out)["tests"]
    assert [(test["name"], test["passed"], test["runs"]) for test in tests] == [
        ("test/test_new.py", True, 3), ("test/test_old.py", True, 2), ("test/test_new.py", True, 1),
    ]  # fmt: skip
    assert "not in CI's image: " in result.err
    assert "CI runs 12 at once" in result.err
