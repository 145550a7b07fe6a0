"""What an installation would tell of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.tryout.metadata import UNKNOWN, Project, describe, read

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = '[project]\nname = "a.b_c"\nversion = "1.2"\n'
POINTS = f'{PROJECT}[project.scripts]\nrun = "a:main"\n[project.entry-points.x]\ny = "a:z"\n'


@pytest.mark.parametrize(
    ("name", "text", "project"),
    [
        ("pyproject.toml", POINTS, Project("a.b_c", "1.2", {"x": {"y": "a:z"}, "console_scripts": {"run": "a:main"}})),
        ("pyproject.toml", '[tool.poetry]\nname = "a"\nversion = "3"\n', Project("a", "3")),
        ("pyproject.toml", '[project]\nname = "../a"\n', None),
        ("pyproject.toml", "[project\n", None),
        ("setup.cfg", "[metadata]\nname = a\nversion = attr: a.version\n", Project("a", UNKNOWN)),
        ("setup.py", "setup(\n    name='a',\n    version=read(),\n)\n", Project("a", UNKNOWN)),
        ("README.md", "", None),
    ],
)
def test_a_project_is_read_from_its_own_files(tmp_path: Path, name: str, text: str, project: Project | None) -> None:
    (tmp_path / name).write_text(text)
    assert read(tmp_path) == project


def test_what_is_written_stays_below_its_place_and_leaves_an_installed_project_alone(tmp_path: Path) -> None:
    tree, place = tmp_path / "tree", tmp_path / "metadata"
    tree.mkdir()
    hostile = '[project]\nname = "a-b"\n[tool.setuptools_scm]\nversion_file = "../outside.py"\n'
    (tree / "pyproject.toml").write_text(hostile)
    assert not describe(tree, place, ["A_B-1.0.dist-info"])
    assert describe(tree, place, [])
    assert [path.name for path in place.glob("*/*")] == ["METADATA"]
    assert not (tmp_path / "outside.py").exists()
