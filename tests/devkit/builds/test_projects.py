"""What is built on an installed Paddle: how it is known, what it runs, what it lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from devkit.app import App
from devkit.builds.projects import InstalledPaddle, ProjectRequest, check, found_file, judge, lines, projects
from devkit.builds.python import Python
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "custom-operators": ("setup_cuda.py", "from paddle.utils.cpp_extension import CUDAExtension, setup\n"),
    "custom-device": ("CMakeLists.txt", "include(paddle)\ntarget_link_libraries(p PRIVATE ${PADDLE_CORE_LIB})\n"),
    "fastdeploy": ("build.sh", 'FD_BUILDING_ARCS=${4:-""}\n'),
}
PADDLE = InstalledPaddle("/e/paddle", "3.0.0", "", True, True)
PYTHON = Python("env", "/e/bin/python", "3.10.1", headers=True)


def request(name: str, root: Path) -> ProjectRequest:
    (root / FILES[name][0]).write_text(FILES[name][1])
    kind = projects()[name]
    return ProjectRequest(kind, root, PYTHON, PADDLE, {**kind.options, "X": "1"}, 4, ("8.0", "9.0"))


def test_a_folder_is_known_by_what_its_file_says(tmp_path: Path) -> None:
    assert {name: found_file(kind, tmp_path) for name, kind in projects().items()} == dict.fromkeys(FILES, "")
    for name, (file, text) in FILES.items():
        (tmp_path / file).write_text(text)
        assert found_file(projects()[name], tmp_path) == file
    (tmp_path / "setup_cuda.py").write_text("from setuptools import setup\n")
    assert found_file(projects()["custom-operators"], tmp_path) == ""


def test_each_kind_runs_the_projects_own_lines(tmp_path: Path) -> None:
    pip = "uv pip install --python /e/bin/python --no-deps --reinstall"
    assert {name: [" ".join(line) for line in lines(request(name, tmp_path))] for name in FILES} == {
        "custom-operators": ["/e/bin/python setup_cuda.py install"],
        "custom-device": [
            (
                "cmake -S . -B build -DPython_EXECUTABLE=/e/bin/python -DCMAKE_BUILD_TYPE=Release -DWITH_TESTING=OFF "
                "-DON_INFER=OFF -DX=1"
            ),
            "cmake --build build -j 4",
            f"{pip} build/dist/*.whl",
        ],
        "fastdeploy": ["bash build.sh 1 /e/bin/python false [80,90]", f"{pip} dist/fastdeploy*.whl"],
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paddle": InstalledPaddle(setuptools=True)}, "Paddle: env"),
        ({"paddle": replace(PADDLE, headers=False)}, "Paddle: /e/paddle"),
        ({"paddle": replace(PADDLE, setuptools=False)}, "setuptools: env"),
        ({"paddle": replace(PADDLE, cuda="12.6")}, "nvcc: not on PATH"),
        ({"python": replace(PYTHON, headers=False)}, "Python: 3.10.1"),
    ],
)
def test_what_a_project_lacks_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], said: str
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    whole = request("custom-operators", tmp_path)
    check(judge(App(), whole))
    with pytest.raises(DevkitError, match=said) as caught:
        check(judge(App(), replace(whole, **change)))  # type: ignore[arg-type]
    assert caught.value.hints
