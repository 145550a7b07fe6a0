"""Environments for a suite: its own pins, from its repository (a local one stands in), and what clashes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from devkit.envs import suites
from devkit.errors import UsageError

if TYPE_CHECKING:
    from tests.commands.env.conftest import Index
    from tests.conftest import Devkit
    from tests.forks import Result


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    """A repository that git takes for PaddleMIX's: the address is rewritten, as a mirror is."""
    folder = tmp_path / "mix"
    folder.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "{tmp_path}/mix"]\n    insteadOf = {suites.OWNER}/PaddleMIX\n[uploadpack]\n    allowFilter = true\n'
        "    allowAnySHA1InWant = true\n[safe]\n    directory = *\n"
    )
    subprocess.run(["git", "init", "-q", "-b", "develop", folder], check=True)
    commit(folder, "tiny\n")
    return folder


def commit(folder: Path, text: str) -> str:
    (folder / "requirements.txt").write_text(text)
    for words in (["add", "."], ["commit", "-q", "-m", "pins"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return subprocess.check_output(["git", "-C", folder, "rev-parse", "HEAD"], text=True).strip()


def test_environment_has_what_the_suite_asks_for_at_a_commit(
    devkit: Devkit, repository: Path, index: Index, home: Path
) -> None:
    for version in ("1.0", "1.1"):
        index.add("tiny", version)
    old = commit(repository, "tiny==1.0  # as the examples have it\n-r other.txt\n")
    (repository / "other.txt").touch()
    commit(repository, "tiny==1.1\n")
    words = ("env", "create", "--python", sys.executable, "--paddle", "none", "--index-url", index.url)
    made = devkit(*words, "mix", "--for", "PaddleMIX")
    assert made.status == 0, made.err
    assert list((home / ".local/share/devkit/envs/mix").glob("lib/*/site-packages/tiny-1.1.dist-info"))
    shown = devkit(*words, "older", "--for", f"paddlemix@{old}", "--dry-run")
    assert shown.status == 0, shown.err
    assert old[:12] in shown.err
    assert f"PaddleMIX/{old[:12]}/requirements.txt" in shown.out
    assert "was not fetched" in devkit(*words, "x", "--for", "PaddleMIX@nosuch").err
    index.add("needs", "1.0", requires="tiny<1.1")
    clash = devkit(*words, "x", "--for", "PaddleMIX", "--with", "needs")
    assert "all versions of needs depend on tiny<1.1" in clash.err
    assert "devkit env create x --for PaddleMIX@COMMIT   takes another state of the suite" in clash.err


def plan(devkit: Devkit, folder: Path, requirements: str, *words: str) -> Result:
    """Plan an environment for a suite that asks for this."""
    (folder / "suite").mkdir()
    (folder / "suite" / "requirements.txt").write_text(requirements)
    return devkit("env", "create", "x", "--for", "./suite", "--dry-run", *words)


@pytest.mark.parametrize(
    ("asks", "paddle", "said"),
    [
        ("numpy==2.4.1\n", "cpu==3.3.1", "suite asks for numpy==2.4.1, and this Paddle for numpy<2.4"),
        ("NumPy >= 2.4\n", "cpu==3.3.1", "suite asks for NumPy>=2.4, and this Paddle for numpy<2.4"),
        ("paddlepaddle==3.0.0\n", "cpu==3.3.1", "suite asks for paddlepaddle==3.0.0, and paddlepaddle==3.3.1 was"),
    ],
)
def test_clash_is_named_before_anything_is_made(
    asks: str, paddle: str, said: str, devkit: Devkit, tmp_path: Path
) -> None:
    refused = plan(devkit, tmp_path, asks, "--paddle", paddle)
    assert (refused.status, said in refused.err) == (1, True), refused.err


def test_pins_of_paddle_hold_where_nothing_else_is_asked(devkit: Devkit, tmp_path: Path) -> None:
    # For another system, and of a GPU that is not here: the one pin that holds is of the version.
    asks = "paddlepaddle==2.5.0 ; sys_platform == 'win32'\npaddlepaddle-gpu==2.6.2  # as CI has it\n"
    shown = plan(devkit, tmp_path, asks)
    assert "paddlepaddle==2.6.2" in shown.out, shown.err
    assert "numpy<2" in shown.out
    # Two Paddles would lie over each other.
    excluded = re.search(r"--excludes (\S+)", shown.out)
    assert excluded is not None
    assert Path(excluded[1]).read_text() == "paddlepaddle-gpu\n"


def test_the_paddle_of_another_device_is_left_out(devkit: Devkit, index: Index, tmp_path: Path, home: Path) -> None:
    index.add("paddlepaddle-gpu", "3.3.1")
    index.add("tiny", "1.0")
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "requirements.txt").write_text("paddlepaddle-gpu\ntiny\n")
    words = ("--python", sys.executable, "--paddle", "none", "--index-url", index.url)
    made = devkit("env", "create", "x", *words, "--for", "./suite")
    assert made.status == 0, made.err
    site = next((home / ".local/share/devkit/envs/x").glob("lib/*/site-packages"))
    assert [path.name for path in sorted(site.glob("*.dist-info"))] == ["tiny-1.0.dist-info"]


CONF = """\
import os
from recommonmark import parser, transform
try:
    import paddle
except ImportError:
    pass
extensions = ["sphinx.ext.autodoc", "sphinx_sitemap", "nbsphinx", "an_extension_of_the_repository"]
html_theme = "sphinx_rtd_theme"
MARKDOWN_EXTENSIONS = ["markdown.extensions.tables", "pymdownx.superfences"]
"""


def test_docs_ask_for_what_their_settings_of_sphinx_and_their_scripts_name(devkit: Devkit, tmp_path: Path) -> None:
    conf = tmp_path / "docs" / "ci_scripts" / "doc-build-config" / "zh" / "conf.py"
    conf.parent.mkdir(parents=True)
    conf.write_text(CONF)
    (tmp_path / "docs" / "ci_scripts" / "check_code.sh").write_text("    pip install pre-commit==2.17.0 1>nul\n")
    shown = devkit("env", "create", "x", "--for", "./docs", "--paddle", "none", "--dry-run")
    file = re.search(r"-r (\S+)", shown.out)
    assert file is not None, shown.err
    modules = ["sphinx", "recommonmark", "sphinx-sitemap", "nbsphinx", "sphinx-rtd-theme", "markdown"]
    assert Path(file[1]).read_text().split() == [*modules, "pymdown-extensions", "pre-commit==2.17.0"]


def test_dependencies_of_a_project_are_what_it_asks_for(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    project = tmp_path / "clone" / "pyproject.toml"
    project.write_text(
        '[project]\nname = "ocr"\ndynamic = ["version"]\ndependencies = ["numpy>=2.4", "tiny[all]>=1"]\n'
    )
    refused = devkit("env", "create", "x", "--for", "./clone", "--paddle", "cpu==3.3.1", "--dry-run")
    assert "clone asks for numpy>=2.4, and this Paddle for numpy<2.4" in refused.err
    shown = devkit("env", "create", "x", "--for", "./clone", "--paddle", "none", "--dry-run")
    file = re.search(r"-r (\S+)", shown.out)
    assert file is not None, shown.err
    assert Path(file[1]).read_text() == "numpy>=2.4\ntiny[all]>=1\n"
    for text in ("[project]\nname = 'x'\n", "[project]\ndependencies = 3\n", "[build-system]\n", "[[["):
        project.write_text(text)
        nothing = devkit("env", "create", "x", "--for", "./clone", "--dry-run")
        assert (nothing.status, f"devkit env create -e {tmp_path}/clone" in nothing.err) == (1, True), nothing.err


def test_what_requirements_include_is_fetched_with_them(repository: Path, devkit: Devkit) -> None:
    (repository / "ppdiffusers").mkdir()
    (repository / "ppdiffusers" / "requirements.txt").write_text("-c ../pins/all.txt\nthree\n")
    (repository / "pins").mkdir()
    (repository / "pins" / "all.txt").write_text("three==1\n")
    commit(repository, "-r ppdiffusers/requirements.txt\ntiny\n")
    shown = devkit("env", "create", "x", "--for", "PaddleMIX", "--paddle", "none", "--dry-run")
    files = re.findall(r"-r (\S+)", shown.out)
    assert [Path(file).name for file in files] == ["requirements.txt", "requirements.txt"], shown.err
    assert (Path(files[0]).parent / "pins" / "all.txt").read_text() == "three==1\n"


@pytest.mark.parametrize(
    ("one", "other", "can"),
    [
        ("==3.3.*", "==3.3.1", True),
        ("==3.3.*", "!=3.3.0", True),
        ("==3.3.1", "==3.0.0", False),
        ("==3.3.*", "<3.0", False),
        ("<2.4", ">=2.4", False),
        ("<2.4", ">2.3,<2.3.5", True),
        ("<2", "~=1.26.4", True),
        ("", ">=1.20", True),
        ("<80", ">=80.0.0rc1", False),
    ],
)
def test_two_ranges_of_versions_meet_or_not(one: str, other: str, can: bool) -> None:
    assert suites.meet(SpecifierSet(one), SpecifierSet(other)) == can


@pytest.mark.parametrize(
    ("numpy", "newest"), [("<=1.26.4", 12), ("<1.26", 11), ("==1.21.6", 10), ("", 13), (">=2", 13)]
)
def test_python_is_one_that_the_suites_numpy_has_wheels_for(numpy: str, newest: int) -> None:
    pins = suites.Pins("suite", "", (), (Requirement(f"numpy{numpy}"),))
    assert suites.newest_python(pins, (9, 13)) == (9, newest)


@pytest.mark.parametrize("text", ["PaddleX2", "PaddleMIX@--upload-pack=x", "PaddleMIX@", "@x"])
def test_what_is_no_suite_or_no_commit_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        suites.parse(text)
