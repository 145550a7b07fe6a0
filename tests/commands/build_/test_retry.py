"""devkit build --retry: builds that really fail, what is done about it, and what is left to the user."""

from __future__ import annotations

import json
import os
import resource
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit
    from tests.forks import Result

# Stands for the kernel when memory runs out, which a test cannot let happen: of two compilers at once it ends one.
KERNEL = """#!/bin/sh
case "$1" in
*cc1plus)
  exec 9>"${0%/*}/.memory"
  flock -n 9 || kill -9 $$
  sleep 0.3
  ;;
esac
"$@"
"""
# Opens more files than a build is given at first.
HUNGRY = """import os
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(8500)]
"""


def build(devkit: Devkit, project: Project, *words: str, env: dict[str, str] | None = None) -> Result:
    return devkit("build", "--env", str(project.env), "--target", "phi", *words, cwd=project.root, env=env)


def mended(result: Result) -> list[str]:
    assert result.status == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    assert found["causes"] == []
    return [f"{fix['cause']}: {fix['did']}" for fix in found["mended"]]


def add(project: Project, text: str) -> None:
    path = project.root / "CMakeLists.txt"
    path.write_text(f"{path.read_text()}{text}")


@pytest.fixture
def crowded(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of whose compilers only one at a time finds memory."""
    monkeypatch.setenv("CCACHE_DISABLE", "1")
    script = project.root / "kernel.sh"
    script.write_text(KERNEL)
    script.chmod(0o755)
    line = "add_subdirectory(paddle)"
    project.edit("CMakeLists.txt", line, f"add_compile_options(-wrapper {script})\n{line}")
    return project


def test_a_compiler_that_ran_out_of_memory_leads_to_fewer_jobs(devkit: Devkit, crowded: Project) -> None:
    failed = build(devkit, crowded, "-j", "4")
    assert failed.status == 1
    assert "✗ compile failed: the kernel ended a compiler: memory ran out" in failed.err
    result = build(devkit, crowded, "-j", "4", "--retry", "--json")
    assert mended(result) == ["out-of-memory: 2 at once instead of 4", "out-of-memory: 1 at once instead of 2"]
    assert "memory ran out; fixed, going on: 2 at once instead of 4" in result.err


def test_another_failure_after_one_that_was_mended_is_named_by_its_own_cause(devkit: Devkit, crowded: Project) -> None:
    project = crowded
    project.edit("paddle/phi/scale_kernel.cc", "x * by", "x * bi")
    result = build(devkit, project, "-j", "4", "--retry", "--json")
    assert result.status == 1
    found = json.loads(result.out)
    assert [cause["id"] for cause in found["causes"]] == ["compile-error"]
    assert {fix["cause"] for fix in found["mended"]} <= {"out-of-memory"}
    assert "was not declared in this scope" in result.err


@pytest.fixture
def few_files() -> Iterator[int]:
    """A shell that allows few open files, on a machine that would allow more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > 8600, "this machine's hard limit is too low for a build"
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files_leads_to_the_machines_hard_limit(devkit: Devkit, project: Project, few_files: int) -> None:
    (project.root / "hungry.py").write_text(HUNGRY)
    add(
        project,
        "add_custom_target(hungry COMMAND ${PYTHON_EXECUTABLE} ${PADDLE_SOURCE_DIR}/hungry.py)\n"
        "add_dependencies(phi hungry)\n",
    )
    failed = build(devkit, project)
    assert failed.status == 1
    assert "✗ compile failed: the link opens more files than this shell allows" in failed.err
    assert "→ ulimit -n" in failed.err
    assert mended(build(devkit, project, "--retry", "--json")) == [
        f"open-files: {few_files} open files instead of 8192"
    ]


def test_a_checkout_of_another_user_is_trusted_for_the_build_and_no_setting_is_written(
    devkit: Devkit, project: Project, home: Path
) -> None:
    settings = (home / ".gitconfig").read_text()
    other = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}  # git's own switch for its tests; ours may not run as root
    words = ("--from", "configure")
    failed = build(devkit, project, *words, env=other)
    assert failed.status == 1
    assert "git refuses a checkout that belongs to another user" in failed.err
    assert "→ git config --global --add safe.directory" in failed.err
    result = build(devkit, project, *words, "--retry", "--json", env=other)
    assert mended(result) == ["dubious-ownership: git takes the checkout for this build, though another user owns it"]
    assert (home / ".gitconfig").read_text() == settings


def test_a_project_too_old_for_cmake_4_is_let_pass_in_this_build(devkit: Devkit, project: Project) -> None:
    # Stands for CMake 4, which the tests do not have: its words, and the variable that it heeds, in an inner project.
    (project.root / "old").mkdir()
    (project.root / "old" / "CMakeLists.txt").write_text(
        'if(NOT "$ENV{CMAKE_POLICY_VERSION_MINIMUM}" VERSION_GREATER_EQUAL 3.5)\n'
        '  message(FATAL_ERROR "Compatibility with CMake < 3.5 has been removed from CMake.")\nendif()\n'
        "cmake_minimum_required(VERSION 3.18)\nproject(old NONE)\n"
    )
    add(
        project,
        "add_custom_target(old COMMAND ${CMAKE_COMMAND} -S ${PADDLE_SOURCE_DIR}/old -B old-build)\n"
        "add_dependencies(phi old)\n",
    )
    failed = build(devkit, project)
    assert failed.status == 1
    assert "a project of the build was written for one before 3.5" in failed.err
    assert "→ export CMAKE_POLICY_VERSION_MINIMUM=3.5" in failed.err
    result = build(devkit, project, "--retry", "--json")
    assert mended(result) == ["cmake-policy: with CMAKE_POLICY_VERSION_MINIMUM=3.5 for this build"]
    assert "CMAKE_POLICY_VERSION_MINIMUM" not in (project.build / "CMakeCache.txt").read_text()


def test_half_an_object_in_the_build_folder_is_made_again(devkit: Devkit, project: Project) -> None:
    line = ("build", "--env", str(project.env), "--target", "paddle")
    assert devkit(*line, cwd=project.root).status == 0
    name = "paddle/CMakeFiles/paddle.dir/pybind/pybind.cc.o"
    whole, told_by_kernel = (project.build / name).read_bytes(), (project.build / name).stat()
    (project.build / name).write_bytes(whole[:100])
    # As after a crash, when the disk has the name and the time but not all of the bytes: ninja sees no difference.
    os.utime(project.build / name, ns=(told_by_kernel.st_atime_ns, told_by_kernel.st_mtime_ns))
    (project.build / "paddle" / "libpaddle.so").unlink()
    failed = devkit(*line, cwd=project.root)
    assert failed.status == 1
    assert f"{name} is half an object file" in failed.err
    result = devkit(*line, "--retry", "--json", cwd=project.root)
    assert mended(result) == [f"truncated-object: {name} removed, which was half an object"]
    assert (project.build / name).stat().st_size == len(whole)


def test_a_missing_package_is_named_and_not_installed(devkit: Devkit, project: Project) -> None:
    before = sorted(path.name for path in project.packages.glob("[!_]*"))
    project.edit(
        "cmake/third_party.cmake",
        "include(cmake/external",
        'execute_process(COMMAND ${PYTHON_EXECUTABLE} -c "import jinja2.nothing" RESULT_VARIABLE lacks)\n'
        'message(FATAL_ERROR "python module jinja2 is not found")\ninclude(cmake/external',
    )
    result = build(devkit, project, "--from", "configure", "--retry")
    assert result.status == 1
    assert "the environment lacks what Paddle's build needs in Python: jinja2" in result.err
    assert "→ devkit build preflight --fix" in result.err
    assert "mended" not in result.err
    assert sorted(path.name for path in project.packages.glob("[!_]*")) == before
