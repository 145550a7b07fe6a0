"""devkit build overlay: the tree's Python over a wheel's compiled files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.build.conftest import commit_all, run

if TYPE_CHECKING:
    from tests.commands.build.conftest import Project
    from tests.conftest import Devkit

LIMIT_S = 120.0


def test_python_of_the_tree_runs_over_a_wheel_and_keeps_in_step(devkit: Devkit, project: Project) -> None:
    line = ("build", "overlay", "--env", str(project.env))
    nothing = devkit(*line, cwd=project.root)
    assert nothing.status == 1
    assert "✗ there is no compiled Paddle in" in nothing.err
    built = devkit("build", "--env", str(project.env), cwd=project.root)
    assert built.status == 0, built.err

    # The change is committed, as a pull request's is; the wheel is of the commit before.
    project.edit("python/paddle/nn/__init__.py", "first", "overlaid")
    (project.root / "python/paddle/nn/new.py").write_text("WORD = 'new'\n")
    shutil.rmtree(project.root / "python" / "paddle" / "device")
    project.edit("python/paddle/__init__.py", "from . import device, nn, version", "from . import nn, version")
    (project.root / "python/paddle/device.py").write_text(
        "def get_device():\n    return 'cpu'\n\n\ndef is_compiled_with_cuda():\n    return False\n"
    )
    project.edit("python/paddle/__init__.py", "import nn,", "import device, nn,")
    commit_all(project.root)
    first = devkit(*line, "--json", cwd=project.root)
    assert first.status == 0, first.err
    found = json.loads(first.out)
    assert found["near"] == {"known": True, "ahead": 1, "behind": 0, "drifted": []}
    assert found["wheel"]["commit"] == run("git", "rev-parse", "HEAD~1", cwd=project.root)
    assert found["check"]["sum"] == 2
    words = "import paddle, paddle.nn.new as n; print(paddle.nn.WORD, n.WORD, paddle.device.__file__)"
    assert project.python(words) == f"overlaid new {found['folder']}/paddle/device.py"
    loaded = project.python("import paddle.base.libpaddle as l; print(l.__file__)")
    assert Path(loaded).resolve() == project.packages / "paddle" / "base" / "libpaddle.so"

    # An edit is seen at once, a file that goes on the next run.
    project.edit("python/paddle/nn/__init__.py", "overlaid", "edited")
    assert project.python("import paddle.nn; print(paddle.nn.WORD)") == "edited"
    (project.root / "python/paddle/nn/new.py").unlink()
    second = devkit(*line, cwd=project.root)
    assert "0 linked, 1 dropped" in second.err
    assert "the wheel's commit is 1 commit back" in second.err
    third = devkit(*line, cwd=project.root)
    assert "in step already" in third.err

    # verify is not fooled: what Python loads stands before the environment's own.
    gone = devkit("build", "overlay", "--remove", "--env", str(project.env), cwd=project.root)
    assert gone.status == 0
    assert project.python("import paddle.nn; print(paddle.nn.WORD)") == "first"
    assert not Path(found["folder"]).exists()

    # Compiled code: one's own is refused with its file; upstream's is taken with --near.
    (project.root / "paddle/phi/scale_kernel.cc").write_text("// changed\n")
    refused = devkit(*line, "--near", cwd=project.root)
    assert refused.status == 1
    assert "✗ the change touches compiled code" in refused.err
    assert "paddle/phi/scale_kernel.cc" in refused.err
    commit_all(project.root)
    run("git", "update-ref", "refs/remotes/upstream/develop", "HEAD", cwd=project.root)
    drifted = devkit(*line, cwd=project.root)
    assert drifted.status == 1
    assert "2 commits later, 1 file of it: paddle/phi/scale_kernel.cc" in drifted.err
    near = devkit(*line, "--near", cwd=project.root)
    assert near.status == 0, near.err
    assert "1 compiled file differs" in near.err


def test_the_files_of_a_wheel_whose_environment_lies_in_the_checkout_are_not_the_trees(
    devkit: Devkit, project: Project
) -> None:
    built = devkit("build", "--env", str(project.env), cwd=project.root)
    assert built.status == 0, built.err
    inside = project.root / ".venv"
    inside.symlink_to(project.env)
    told = devkit("build", "overlay", "--env", str(inside), "--json", cwd=project.root)
    assert told.status == 0, told.err
    files = json.loads(told.out)["files"]
    tree = run("git", "ls-files", "python/paddle", cwd=project.root).splitlines()
    assert files["tree"] == len(tree)
    assert files["wheel"] > 0


def test_a_wheel_that_is_neither_a_file_nor_a_version_is_refused(devkit: Devkit, project: Project) -> None:
    line = ("build", "overlay", "--env", str(project.env), "--wheel")
    told = devkit(*line, "latest!", cwd=project.root)
    assert told.status == 2
    assert "is neither a wheel nor a version" in told.err
    told = devkit(*line, "./none.whl", cwd=project.root)
    assert told.status == 1
    assert "none.whl cannot be read" in told.err


@pytest.mark.slow
def test_real_paddle_over_its_own_wheel_runs_a_change_in_its_python(
    devkit: Devkit, tmp_path: Path, bare_env: Path
) -> None:
    """The wheel's Python stands for the tree: Paddle's own cannot be had here."""
    import paddle

    package = Path(paddle.__file__).parent
    root = tmp_path / "Paddle"
    shutil.copytree(
        package,
        root / "python" / "paddle",
        ignore=shutil.ignore_patterns("*.so*", "include", "libs", "proto", "__pycache__"),
    )
    shutil.rmtree(root / "python" / "paddle" / "version")
    (root / "CMakeLists.txt").write_text("project(paddle CXX C)\n")
    commit_all(root)
    (packages,) = bare_env.glob("lib/python*/site-packages")
    theirs = Path(sysconfig.get_path("purelib"))
    (packages / "numpy").unlink()
    (packages / "numpy.libs").unlink(missing_ok=True)
    for each in theirs.iterdir():
        if not (packages / each.name).exists() and not each.name.endswith(".pth"):
            (packages / each.name).symlink_to(each)
    begin = time.monotonic()
    told = devkit("build", "overlay", "--near", "--env", str(bare_env), "--json", cwd=root, limit_s=LIMIT_S)
    assert told.status == 0, told.err
    assert json.loads(told.out)["check"]["paddle"] == paddle.__version__
    assert time.monotonic() - begin < LIMIT_S
    path = root / "python" / "paddle" / "tensor" / "math.py"
    path.write_text(path.read_text("utf-8") + "\n\nOVERLAID = 'yes'\n", "utf-8")
    code = "import paddle; print(paddle.tensor.math.OVERLAID, float(paddle.diff(paddle.to_tensor([1.0, 4.0]))))"
    done = subprocess.run(
        [bare_env / "bin" / "python", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["yes", "3.0"], done.stderr

    # The lines of the change that a unit test runs, through the overlay.
    more = "\n\ndef overlaid(x):\n    if x > 0:\n        return diff\n    return None\n"
    path.write_text(path.read_text("utf-8") + more, "utf-8")
    (root / "test").mkdir()
    (root / "test" / "test_math.py").write_text("import paddle\n\nassert paddle.tensor.math.overlaid(1)\n")
    line = ("build", "test", "test_math", "--cov", "--cov-min", "80", "--json", "--env", str(bare_env))
    told = devkit(*line, cwd=root, limit_s=LIMIT_S)
    assert told.status == 0, told.err
    (file,) = json.loads(told.out)["coverage"]["files"]
    assert (file["path"], file["changed"], file["covered"]) == ("python/paddle/tensor/math.py", 5, 4)
