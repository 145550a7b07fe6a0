"""Lines about building: Paddle, in a small tree of its shape; operators and a plugin, over the Paddle here."""

from __future__ import annotations

from pathlib import Path

import coverage
import pytest

from tests.commands.build_ import test_projects as projects
from tests.commands.build_.conftest import Project, bare_env, index, make_project, project, templates, tiny_wheel
from tests.commands.build_.test_projects import over_paddle

from .lines import type_walk

__all__ = ["bare_env", "index", "make_project", "over_paddle", "project", "templates"]  # fixtures

# Stands for FastDeploy's own, which compiles for a GPU.
FASTDEPLOY = 'FD_BUILDING_ARCS=${4:-""}\nmkdir -p dist && cp fastdeploy-*.whl dist/\n'
A_TEST = """import unittest

import paddle


class TestIt(unittest.TestCase):
    def test_it(self):
        self.assertTrue(paddle.__version__)


if __name__ == "__main__":
    unittest.main()
"""


@pytest.mark.slow
def test_lines_about_building_paddle_are_run_as_they_stand(project: Project, tmp_path: Path) -> None:
    (project.packages / "coverage").symlink_to(Path(coverage.__file__).parent)
    (project.root / ".venv").symlink_to(project.env)
    (project.root / ".git" / "info").mkdir()
    (project.root / ".git" / "info" / "exclude").write_text(".venv\n")
    for name in ("a", "test_diff_op"):
        (project.root / "test" / f"{name}.py").write_text(A_TEST)
    type_walk("builds.sh", project.root, tmp_path / "log", 300)


@pytest.mark.slow
def test_lines_about_building_over_paddle_are_run_as_they_stand(over_paddle: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    files = {
        "csrc/setup.py": projects.SETUP,
        "csrc/twice.cc": projects.SOURCE,
        "backends/custom_cpu/CMakeLists.txt": projects.PLUGIN,
        "backends/custom_cpu/setup.py.in": projects.PACKING,
        "backends/custom_cpu/box.c": "int box(void) { return 7; }\n",
        "FastDeploy/build.sh": FASTDEPLOY,
    }
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    tiny_wheel(work / "FastDeploy", "fastdeploy", "1.0", "fastdeploy.py")
    for folder in (work, work / "FastDeploy"):
        (folder / ".venv").symlink_to(over_paddle)
    type_walk("plugins.sh", work, tmp_path / "log", 600)
