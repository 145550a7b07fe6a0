"""Which unit tests a word or a change means."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.builds.python import Python
from devkit.builds.tests import affected, changed_operators, line, named, run, stack, touched
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.builds.tests import FileVerdict

FILES = ["test/legacy_test/test_diff_op.py", "test/xpu/test_diff_op.py", "test/legacy_test/test_add.py"]


def test_a_word_is_a_name_or_a_path() -> None:
    assert named(["test_add"], FILES) == ["test/legacy_test/test_add.py"]
    assert named(["test_diff_op.py", "test_add", "test_add"], FILES) == [*FILES[:2], FILES[2]]
    assert named(["test/xpu/test_diff_op.py"], FILES) == ["test/xpu/test_diff_op.py"]


def test_a_word_that_is_none_names_the_nearest() -> None:
    with pytest.raises(DevkitError, match="there is no test test_dif_op") as caught:
        named(["test_dif_op"], FILES)
    assert caught.value.remedies[0] == "devkit build test test_diff_op"


def test_a_change_touches_tests_that_name_its_module() -> None:
    texts = {
        "test/a.py": "import paddle.nn.functional as F",
        "test/b.py": "from paddle.nn import functional",
        "test/c.py": "import paddle.nn.functional_more",
        "test/d.py": "import unittest",
        "test/e.py": "import unittest",
    }
    changed = ["python/paddle/nn/functional/__init__.py", "test/e.py", "paddle/phi/a.cc", "README.md"]
    assert touched(changed, texts) == ["test/a.py", "test/b.py", "test/e.py"]
    assert touched([], texts) == []


def test_a_change_of_operators_affects_the_tests_that_name_them() -> None:
    texts = {
        "test/legacy_test/test_diff_op.py": "",
        "test/legacy_test/test_abs_op.py": "",
        "test/legacy_test/test_math.py": "self.op_type = 'abs'",
        "test/legacy_test/test_calls.py": "y = paddle.abs(x)",
        "test/legacy_test/test_generated.py": "_C_ops.abs(x)",
        "test/legacy_test/test_absolute.py": "paddle.absolute(x); self.op_type = 'abs_grad_x'",
    }
    assert [path.rpartition("/")[2] for path in affected(["abs"], texts)] == [
        "test_abs_op.py", "test_math.py", "test_calls.py", "test_generated.py",
    ]  # fmt: skip
    assert affected([], texts) == []


def test_the_operators_of_a_change_are_those_of_its_kernels_and_yaml_entries(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    yaml = tmp_path / "paddle" / "phi" / "ops" / "yaml" / "ops.yaml"
    yaml.parent.mkdir(parents=True)
    yaml.write_text("- op : abs\n  args : (Tensor x)\n\n- op : acos\n  args : (Tensor x)\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "before")
    yaml.write_text(yaml.read_text().replace("acos\n  args : (Tensor x)", "acos\n  args : (Tensor y)"))
    kernel = tmp_path / "paddle" / "phi" / "kernels" / "cpu" / "diag_grad_kernel.cc"
    kernel.parent.mkdir(parents=True)
    kernel.write_text("// new\n")
    assert changed_operators(App().runner, tmp_path, "HEAD") == ["acos", "diag"]


@pytest.mark.engine  # gdb
def test_a_crash_shows_where_in_compiled_code_and_in_python(tmp_path: Path) -> None:
    text = "import ctypes, unittest\nclass T(unittest.TestCase):\n    def test_x(self):\n        ctypes.string_at(0)\n"
    text += "if __name__ == '__main__':\n    unittest.main()\n"
    said = verdict(tmp_path, text)
    assert (said.passed, said.crashed, said.stack) == (False, True, "")
    argv, cwd = line(Python("env", sys.executable), tmp_path, tmp_path / "build", "test_it.py", tmp_path / "x.log")
    where = stack(App(), argv, cwd, os.environ, log=tmp_path / "gdb.log", limit_s=60)
    assert where.startswith("#0 ")
    assert "string_at" in where
    assert 'test_it.py", line 4 in test_x' in where


def verdict(folder: Path, text: str, **told: str) -> FileVerdict:
    (folder / "test_it.py").write_text(text)
    python = Python("env", sys.executable)
    argv, cwd = line(python, folder, folder / "build", "test_it.py", folder / "test_it.log")
    return run(App(), "test_it.py", argv, cwd, {**os.environ, **told}, log=folder / "test_it.log", limit_s=60)


def test_a_file_that_runs_no_test_has_not_passed(tmp_path: Path) -> None:
    said = verdict(tmp_path, "import unittest\n\nif __name__ == '__main__':\n    pass\n")
    assert (said.passed, said.not_run) == (False, "no test ran in it")


def test_a_file_in_pytest_style_is_run_by_pytest(tmp_path: Path) -> None:
    assert verdict(tmp_path, "def test_good():\n    assert True\n").passed
    said = verdict(tmp_path, "def test_bad():\n    assert False\n")
    assert (said.passed, said.tests, said.not_run) == (False, 1, "")


def test_a_missing_module_is_no_failure(tmp_path: Path) -> None:
    said = verdict(tmp_path, "import module_of_nobody\n")
    assert (said.passed, said.not_run) == (False, "the module module_of_nobody is missing")
    (tmp_path / "pytest.py").write_text("raise SystemExit('No module named pytest')\n")
    said = verdict(tmp_path, "def test_good():\n    assert True\n", PYTHONPATH=str(tmp_path))
    assert (said.passed, said.not_run) == (False, "the module pytest is missing")
