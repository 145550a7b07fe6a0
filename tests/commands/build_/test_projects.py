"""Custom operators and a device's plugin, built for real over an environment's Paddle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

if TYPE_CHECKING:
    from tests.conftest import Devkit

LIMIT_S = 600.0
SETUP = """from paddle.utils.cpp_extension import CppExtension, setup

setup(name="twice_op", ext_modules=CppExtension(sources=["twice.cc"]))
"""
SOURCE = """#include "paddle/extension.h"
std::vector<paddle::Tensor> Twice(const paddle::Tensor& x) { return {paddle::add(x, x)}; }
PD_BUILD_OP(twice).Inputs({"X"}).Outputs({"Out"}).SetKernelFn(PD_KERNEL(Twice));
"""
# As backends/custom_cpu of PaddleCustomDevice: finds the Paddle of the Python that it is given, and packs a wheel.
PLUGIN = """cmake_minimum_required(VERSION 3.10)
project(paddle-custom-box C)
find_package(Python REQUIRED COMPONENTS Interpreter)
execute_process(COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u; print(u.find_spec('paddle').origin)"
                OUTPUT_VARIABLE INIT OUTPUT_STRIP_TRAILING_WHITESPACE)
get_filename_component(PADDLE_DIR ${INIT} DIRECTORY)
find_library(PADDLE_CORE_LIB libpaddle.so PATHS ${PADDLE_DIR}/base)
if(NOT PADDLE_CORE_LIB OR WITH_TESTING)
  message(FATAL_ERROR "NO Installed Paddle Found in ${PADDLE_DIR}")
endif()
add_library(box SHARED box.c)
target_include_directories(box PRIVATE ${PADDLE_DIR}/include)
configure_file(setup.py.in setup.py)
add_custom_command(TARGET box POST_BUILD
  COMMAND ${CMAKE_COMMAND} -E make_directory python/box
  COMMAND ${CMAKE_COMMAND} -E copy libbox.so python/box/
  COMMAND ${CMAKE_COMMAND} -E touch python/box/__init__.py
  COMMAND ${Python_EXECUTABLE} setup.py -q bdist_wheel)
"""
PACKING = """from setuptools import setup

setup(name="box", version="1.0", packages=["box"], package_dir={"": "python"}, package_data={"box": ["*.so"]})
"""


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def over_paddle(tmp_path: Path) -> Path:
    """An environment of its own that finds the packages of this one, so that nothing is installed into that."""
    env = tmp_path / "env"
    run(find_uv_bin(), "venv", "-q", "--offline", "-p", sys.executable, env, cwd=tmp_path)
    (packages,) = env.glob("lib/python*/site-packages")
    (theirs,) = Path(sys.prefix).glob("lib/python*/site-packages")
    (packages / "theirs.pth").write_text(f"{theirs}\n")
    return env


@pytest.mark.slow
def test_custom_operators_are_built_and_installed_and_their_first_error_is_named(
    devkit: Devkit, tmp_path: Path, over_paddle: Path
) -> None:
    project = tmp_path / "ops"
    project.mkdir()
    (project / "setup.py").write_text(SETUP)
    (project / "twice.cc").write_text(SOURCE.replace("paddle::add", "paddle::ad"))
    line = ("build", "-C", str(project), "--profile", "custom-operators", "--env", str(over_paddle), "--json")
    failed = devkit(*line, limit_s=LIMIT_S)
    assert failed.status == 1
    assert json.loads(failed.out)["causes"][0]["id"] == "compile-error"
    assert "→ $EDITOR " in failed.err
    assert "twice.cc:2" in failed.err
    (project / "twice.cc").write_text(SOURCE)
    result = devkit(*line, limit_s=LIMIT_S)
    assert result.status == 0, result.err
    code = "import paddle, twice_op; print(twice_op.twice(paddle.ones([2])).tolist())"
    assert run(over_paddle / "bin" / "python", "-c", code, cwd=tmp_path).strip() == "[2.0, 2.0]"


@pytest.mark.slow
def test_a_plugin_of_a_device_is_configured_built_packed_and_installed(
    devkit: Devkit, tmp_path: Path, over_paddle: Path
) -> None:
    project = tmp_path / "box"
    project.mkdir()
    files = {"CMakeLists.txt": PLUGIN, "setup.py.in": PACKING, "box.c": "int box(void) { return 7; }\n"}
    for name, text in files.items():
        (project / name).write_text(text)
    line = ("build", "-C", str(project), "--profile", "custom-device", "--env", str(over_paddle))
    wrong = devkit("build", "-C", str(project), "--profile", "fastdeploy", "--env", str(over_paddle))
    assert (wrong.status, "→ devkit build --profile custom-device" in wrong.err) == (1, True)
    result = devkit(*line, limit_s=LIMIT_S)
    assert result.status == 0, result.err
    code = "import box, ctypes, os; print(ctypes.CDLL(os.path.dirname(box.__file__) + '/libbox.so').box())"
    assert run(over_paddle / "bin" / "python", "-c", code, cwd=tmp_path).strip() == "7"
