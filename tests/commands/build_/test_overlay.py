"""devkit build overlay: the tree's Python over a wheel's compiled files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.build_.conftest import commit_all, run

if TYPE_CHECKING:
    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

LIMIT_S = 120.0
NO_CUDA = "def cuda():\n    return 'False'\ndef cudnn():\n    return 'False'\n"


def commit_change(project: Project) -> None:
    """Commit what was edited, and not which tag of a submodule the tree's configure checked out."""
    run("git", "add", "-A", "--", "python", "paddle", cwd=project.root)
    run("git", "commit", "-qm", "a change", cwd=project.root)


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
    commit_change(project)
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
    assert f"the wheel, from {project.env}: no compiled file differs, 1 commit back" in second.err
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
    commit_change(project)
    run("git", "update-ref", "refs/remotes/upstream/develop", "HEAD", cwd=project.root)
    drifted = devkit(*line, cwd=project.root)
    assert drifted.status == 1
    assert "2 commits later, 1 file of it: paddle/phi/scale_kernel.cc" in drifted.err
    near = devkit(*line, "--near", cwd=project.root)
    assert near.status == 0, near.err
    assert "1 compiled file differs, 2 commits back" in near.err


def pack(project: Project, folder: Path, commit: str, version: str, *, name: str = "paddlepaddle") -> Path:
    """Write a wheel as a build of a commit leaves it, over the library that was built."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(project.build / "python/paddle/base/libpaddle.so", "paddle/base/libpaddle.so")
        archive.writestr("paddle/version/__init__.py", f"full_version = '{version}'\ncommit = '{commit}'\n{NO_CUDA}")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "")
    return path


@pytest.mark.slow
def test_the_nearest_wheel_at_hand_is_taken_by_compiled_code_and_then_by_commits(
    devkit: Devkit, project: Project, tmp_path: Path
) -> None:
    def commit(text: str) -> str:
        (project.root / "paddle/phi/more.cc").write_text(text)
        (project.root / "python/paddle/nn/more.py").write_text(f"WORD = {text!r}\n")
        commit_change(project)
        return run("git", "rev-parse", "HEAD", cwd=project.root)

    built = devkit("build", "--env", str(project.env), cwd=project.root)
    assert built.status == 0, built.err
    old = commit("// one")  # the compiled code of the tree
    middle = commit("// two")
    commit("// one")
    last = run("git", "rev-parse", "HEAD", cwd=project.root)
    run("git", "update-ref", "refs/remotes/upstream/develop", "HEAD", cwd=project.root)
    line = ("build", "overlay", "--env", str(project.env), "--json")

    # The environment's own is of the first commit; it alone is not near enough.
    alone = devkit(*line, cwd=project.root)
    assert alone.status == 1
    assert "compiled code changed since paddlepaddle 9.9.0" in alone.err

    other = tmp_path / "other"
    run("git", "worktree", "add", "-q", "--detach", other, cwd=project.root)
    pack(project, other / "build" / "python" / "dist", middle, "9.9.2")
    store = tmp_path / "wheels"
    far = pack(project, store, old, "9.9.1")
    pack(project, store, last, "9.9.3", name="paddlepaddle_gpu")
    pack(project, store, "0" * 40, "9.9.4")
    (store / "paddlepaddle-9.9.5-cp27-cp27mu-linux_x86_64.whl").write_bytes(far.read_bytes())
    (store / "paddlepaddle-9.9.6-py3-none-any.whl").write_bytes(b"half")
    set_ = devkit("config", "set", "build.wheels", f"{store},{tmp_path}/none.whl")
    assert set_.status == 0, set_.err
    result = devkit(*line, cwd=project.root)
    assert result.status == 0, result.err
    found = json.loads(result.out)
    assert (found["wheel"]["version"], found["wheel"]["from"]) == ("9.9.1", str(far))
    assert found["near"] == {"known": True, "ahead": 2, "behind": 0, "drifted": []}
    assert {wheel["version"] or Path(wheel["path"]).name: wheel["why"] for wheel in found["passed_over"]} == {
        "9.9.2": "1 compiled file differs, 1 commit back",
        "9.9.0": "1 compiled file differs, 3 commits back",
        "9.9.4": "its commit is not in this clone",
        "9.9.3": "it wants an NVIDIA driver",
        "9.9.1": "it is for cp27-cp27mu-linux_x86_64",
        "paddlepaddle-9.9.6-py3-none-any.whl": "it is not a wheel",
        "none.whl": "it is not there",
    }
    assert project.python("import paddle.nn.more as m, paddle; print(m.WORD, paddle.__version__)") == "// one 9.9.1"
    shown = devkit(*line[:-1], cwd=project.root)
    assert "the wheel, from the wheel cache: no compiled file differs, 2 commits back" in shown.err
    assert f"passed over paddlepaddle 9.9.2 ({other}/build/python/dist/" in shown.err

    # What was unpacked for it stays at hand; the environment's own can be asked for.
    shutil.rmtree(store)
    again = json.loads(devkit(*line, cwd=project.root).out)
    assert (again["wheel"]["version"], again["wheel"]["from"]) == ("9.9.1", "the wheel cache")
    own = devkit(*line, "--near", "--wheel", "installed", cwd=project.root)
    assert json.loads(own.out)["wheel"]["version"] == "9.9.0"


def test_the_files_of_a_wheel_whose_environment_lies_in_the_checkout_are_not_the_trees(
    devkit: Devkit, project: Project
) -> None:
    built = devkit("build", "--env", str(project.env), cwd=project.root)
    assert built.status == 0, built.err
    inside = project.root / ".venv"
    inside.symlink_to(project.env)
    result = devkit("build", "overlay", "--env", str(inside), "--json", cwd=project.root)
    assert result.status == 0, result.err
    files = json.loads(result.out)["files"]
    tree = run("git", "ls-files", "python/paddle", cwd=project.root).splitlines()
    assert files["tree"] == len(tree)
    assert files["wheel"] > 0


def test_a_wheel_that_is_neither_a_file_nor_a_version_is_refused(devkit: Devkit, project: Project) -> None:
    line = ("build", "overlay", "--env", str(project.env), "--wheel")
    result = devkit(*line, "latest!", cwd=project.root)
    assert result.status == 2
    assert "is neither a wheel nor a version" in result.err
    result = devkit(*line, "./none.whl", cwd=project.root)
    assert result.status == 1
    assert "none.whl cannot be read" in result.err


@pytest.mark.slow
def test_real_paddle_over_its_own_wheel_runs_a_change_in_its_python(
    devkit: Devkit, tmp_path: Path, bare_env: Path
) -> None:
    """The wheel's Python stands for the tree: Paddle's own cannot be downloaded here."""
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
    for entry in theirs.iterdir():
        if not (packages / entry.name).exists() and not entry.name.endswith(".pth"):
            (packages / entry.name).symlink_to(entry)
    begin = time.monotonic()
    result = devkit("build", "overlay", "--near", "--env", str(bare_env), "--json", cwd=root, limit_s=LIMIT_S)
    assert result.status == 0, result.err
    assert json.loads(result.out)["check"]["paddle"] == paddle.__version__
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
    (root / "test" / "test_math.py").write_text(
        "import unittest\n\nimport paddle\n\n\nclass TestMath(unittest.TestCase):\n    def test_overlaid(self):\n"
        "        self.assertTrue(paddle.tensor.math.overlaid(1))\n\n\nif __name__ == '__main__':\n    unittest.main()\n"
    )
    line = ("build", "test", "test_math", "--cov", "--cov-min", "80", "--json", "--env", str(bare_env))
    result = devkit(*line, cwd=root, limit_s=LIMIT_S)
    assert result.status == 0, result.err
    (file,) = json.loads(result.out)["coverage"]["files"]
    assert (file["path"], file["changed"], file["covered"]) == ("python/paddle/tensor/math.py", 5, 4)
