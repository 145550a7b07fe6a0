"""What a project's own files say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.tryout.settings import code_folders, extensions, pytest_section, pytest_words, requirements

if TYPE_CHECKING:
    from devkit.tryout.settings import Read

SETUP = "setup.py"
PYPROJECT = "pyproject.toml"


def files(**texts: str) -> Read:
    return lambda name: texts.get(name.replace(".", "_"), "")


@pytest.mark.parametrize(
    ("read", "folders"),
    [
        (files(pyproject_toml='[tool.setuptools]\npackage-dir = {"" = "source"}\n'), {"source"}),
        (files(pyproject_toml='[tool.setuptools.packages.find]\nwhere = ["./code"]\n'), {"code"}),
        (files(pyproject_toml='[tool.poetry]\npackages = [{include = "a", from = "lib"}]\n'), {"lib"}),
        (files(pyproject_toml='[tool.hatch.build.targets.wheel]\npackages = ["code/a"]\n'), {"code"}),
        (files(pyproject_toml='[tool.maturin]\npython-source = "python"\n'), {"python"}),
        (files(pyproject_toml='[tool.setuptools]\npackage-dir = {"a.b" = "lib/a/b", "c" = "d"}\n'), {"lib"}),
        (files(pyproject_toml='# where = "a"\n[tool.x]\nfrom = "b"\n'), set()),
        (files(setup_py="W = 'lib'\nsetup(package_dir={'': 'lib'}, packages=find_packages(W))\n"), {"lib"}),
        (files(setup_py="import setuptools\nsetuptools.setup(packages=setuptools.find_packages(where='b'))\n"), {"b"}),
        (files(setup_cfg="[options]\npackage_dir =\n    = source\n"), {"source"}),
        (files(setup_cfg="[options.packages.find]\nwhere = source\n"), {"source"}),
        (files(pyproject_toml='[tool.setuptools.packages.find]\nwhere = [".", "../other", "/etc"]\n'), set()),
        (files(pyproject_toml="[tool", setup_py="def", setup_cfg="x"), set()),
    ],
)
def test_where_the_packages_lie(read: Read, folders: set[str]) -> None:
    assert code_folders(read) == folders


def backend(name: str, more: str = "") -> str:
    return f'[build-system]\nrequires = ["a>1"]\nbuild-backend = "{name}"\n{more}'


@pytest.mark.parametrize(
    ("read", "compiler", "modules"),
    [
        (
            files(setup_py="setup(name='a', ext_modules=[Extension('a._b', sources=['b.c'])])"),
            "cc", {"a._b": ("b.c",)},
        ),
        (
            files(setup_py="a = {}\na['ext_modules'] = [Pybind11Extension(f'{x}._b', ['b.cc'])]\nsetup(**a)"),
            "cc", {},
        ),
        (files(setup_py="setup(cffi_modules=['build.py:ffi'])"), "cc", {}),
        (files(pyproject_toml=backend("mesonpy")), "cc", {}),
        (files(pyproject_toml=backend("scikit_build_core.build")), "cc", {}),
        (files(pyproject_toml=backend("maturin", '[tool.maturin]\nmodule-name = "a._b"\n')), "cargo", {"a._b": ()}),
        (
            files(pyproject_toml='[tool.setuptools]\next-modules = [{name = "a._b", sources = ["b.c"]}]\n'),
            "cc", {"a._b": ("b.c",)},
        ),
        (files(pyproject_toml=backend("hatchling.build"), setup_py="setup(ext_modules=[])"), "", {}),
        (files(setup_py="setup(name='ext_modules')"), "", {}),
        (files(pyproject_toml=backend("setuptools.build_meta")), "", {}),
    ],
)  # fmt: skip
def test_the_extension_modules_that_a_build_makes(read: Read, compiler: str, modules: dict[str, tuple[str]]) -> None:
    found = extensions(read)
    assert (found.compiler if found else "", dict(found.modules) if found else {}) == (compiler, modules)


def test_the_requirements_of_the_tests_wherever_a_project_names_them() -> None:
    pyproject = """
[project]
dependencies = ["a"]
[project.optional-dependencies]
test = ["b>=1"]
docs = ["no"]
[dependency-groups]
dev = ["c", {include-group = "more"}]
more = ["d"]
[tool.poetry.group.test.dependencies]
python = "^3.10"
e = "^1.0"
[tool.hatch.envs.hatch-test]
extra-dependencies = ["f"]
[tool.pdm.dev-dependencies]
test = ["g"]
[tool.uv]
dev-dependencies = ["h"]
"""
    cfg = "[options]\ninstall_requires =\n    i\n    j<2\n[options.extras_require]\ntesting = k\ndocs = no\n"
    setup = "NEED = ['l']\nsetup(install_requires=NEED, extras_require={'tests': ['m'], 'docs': ['no']})\n"
    tox = "[testenv]\ndeps =\n    n\n    -r more.txt\n    py38: no\n    .[test]\n    {env:X}\n"
    read = files(pyproject_toml=pyproject, setup_cfg=cfg, setup_py=setup, tox_ini=tox)
    assert sorted(requirements(read)) == ["a", "b>=1", "c", "d", *"efghi", "j<2", *"klmn"]
    assert requirements(files(pyproject_toml="[project]\ndependencies = 3\n")) == []


def test_pytest_takes_the_first_file_that_has_its_section() -> None:
    texts = {"tox_ini": "[pytest]\npython_files = a.py\n", "setup_cfg": "[tool:pytest]\npython_files = b.py\n"}
    assert pytest_words(files(**texts, pyproject_toml="[tool.black]\n"), "python_files") == ["a.py"]
    own = '[tool.pytest.ini_options]\npython_files = ["c.py", "d.py"]\n'
    assert pytest_words(files(**texts, pyproject_toml=own), "python_files") == ["c.py", "d.py"]
    assert pytest_section("setup.cfg", "[pytest]\n") is None
    assert pytest_section("pyproject.toml", "[tool.pytest.ini_options]\n") == {}
