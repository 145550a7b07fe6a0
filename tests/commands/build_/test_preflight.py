"""devkit build preflight and profiles as a user sees them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands.build_.conftest import run

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.commands.build_.conftest import Project
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 60.0
CONNECTIONS = 2  # a run tries the proxy itself and, through it, git's host


def broken(out: str) -> dict[str, Any]:
    return {load["name"]: load for load in json.loads(out)["checks"] if load["state"] == "broken"}


def test_what_would_fail_later_is_broken_now_and_fix_mends_it(
    devkit: Devkit, make_project: Callable[[Path], Project], bare_env: Path, index: Path
) -> None:
    project = make_project(bare_env)
    (project.root / "python" / "requirements.txt").write_text("numpy\nprotobuf>=3\nnetworkx # setup.py wants it\n")
    greet = project.root / "third_party" / "greet"
    shutil.rmtree(greet)
    greet.mkdir()
    archive = project.root / "third_party" / "lapack" / "Linux" / "lapack_lnx_v1.tar.gz"
    archive.parent.mkdir(parents=True)
    archive.touch()
    line = ("build", "preflight", "--env", str(bare_env))
    result = devkit(*line, "--json", cwd=project.root)
    found = broken(result.out)
    assert result.status == 4
    assert set(found) == {"packages", "submodules", "archive"}
    assert "lacks pyyaml, jinja2, wheel, pip, setuptools, protobuf>=3, networkx" in found["packages"]["why"]
    assert "1 is not there: third_party/greet" in found["submodules"]["why"]
    assert found["archive"]["why"] == "it is empty: its download failed"
    assert all(finding["remedy"] for finding in found.values())

    planned = devkit(*line, "--fix", "--dry-run", cwd=project.root)
    assert [word.split()[0].rpartition("/")[2] for word in planned.out.splitlines()] == ["uv", "rm", "git"]
    assert archive.exists()

    refused = devkit("build", "--env", str(bare_env), cwd=project.root)
    assert refused.status == 1
    assert "✗ the build would fail: packages: " in refused.err
    assert "1 more finding is broken" in refused.err

    fixed = devkit(*line, "--fix", "--json", cwd=project.root)
    assert fixed.status == 0, fixed.out
    assert len(json.loads(fixed.out)["fixed"]) == 3
    assert (project.packages / "networkx.py").is_file()
    assert (greet / "greet.h").is_file()
    assert not archive.exists()
    assert index.is_dir()


def test_the_screen_names_each_check_once(devkit: Devkit, project: Project) -> None:
    result = devkit("build", "preflight", "--offline", "--env", str(project.env), cwd=project.root)
    assert result.status == 0, result.out
    names = [line.split()[1] for line in result.out.splitlines() if line[2] == "✓"]
    assert {"compiler", "cmake", "ninja", "patchelf", "Python", "packages", "submodules", "owner"} <= set(names)
    assert "host" not in names


def test_a_tag_that_the_configure_checked_out_is_nothing_to_look_at(devkit: Devkit, project: Project) -> None:
    def submodules() -> str:
        result = devkit("build", "preflight", "--offline", "--json", "--env", str(project.env), cwd=project.root)
        (found,) = (load for load in json.loads(result.out)["checks"] if load["name"] == "submodules")
        return f"{found['state']}: {found['text']} {found['why']}"

    configured = devkit("build", "--only", "configure", "--env", str(project.env), cwd=project.root)
    assert configured.status == 0, configured.err
    assert submodules() == "fine: 1 at their pinned commits "
    greet = project.root / "third_party" / "greet"
    run("git", "commit", "-q", "--allow-empty", "-m", "another", cwd=greet)
    assert submodules() == "warning: 1 other commit third_party/greet: not at the commit that the tree pins"


def test_profiles_are_explained_with_their_lines_and_a_project_has_its_own(devkit: Devkit, tmp_path: Path) -> None:
    (tmp_path / "devkit.toml").write_text(
        '[build.profiles.mine]\npurpose = "ours"\nextends = "debug"\noptions = { WITH_MKL = false, X = "1 2" }\n'
    )
    result = devkit("build", "profiles", "--json")
    found = json.loads(result.out)
    assert result.status == 0
    assert {"cpu", "gpu", "debug", "test", "minimal", "mine"} <= set(found)
    assert found["mine"]["options"]["WITH_MKL"] == "OFF"
    assert found["mine"]["options"]["CMAKE_BUILD_TYPE"] == "Debug"
    assert found["mine"]["line"].endswith("-DWITH_MKL=OFF '-DX=1 2'")
    assert "-DWITH_GPU=ON" in found["gpu"]["line"]
    screen = devkit("build", "profiles").out
    assert "mine   ours" in screen
    assert "cmake -S . -B build -G Ninja -DPY_VERSION=3." in screen


def test_an_interruption_does_not_wait_for_a_proxy_that_hangs(project: Project) -> None:
    greet = project.root / "third_party" / "greet"
    shutil.rmtree(greet)
    greet.mkdir()
    modules = project.root / ".gitmodules"
    url = next(line for line in modules.read_text().splitlines() if "url" in line)
    modules.write_text(modules.read_text().replace(url, "\turl = https://git.example/greet.git"))
    line = ("build", "preflight", "--env", str(project.env))
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = {"https_proxy": f"http://me:geheim@127.0.0.1:{server.getsockname()[1]}"}
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", *line],
            cwd=project.root,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **proxy},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            server.settimeout(LIMIT_S)
            connections: list[socket.socket] = []
            while len(connections) < CONNECTIONS:
                connections.append(server.accept()[0])
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=LIMIT_S)
        for connection in connections:
            connection.close()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "geheim" not in said
    assert time.monotonic() - begin < 7


def test_an_interruption_does_not_wait_for_a_server_that_hangs(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        project.edit("cmake/external/lapack.cmake", f"file://{project.store}", address)
        process = subprocess.Popen(
            [sys.executable, "-m", "devkit", "build", "deps"],
            cwd=project.root,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            server.settimeout(LIMIT_S)
            connection = server.accept()[0]
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=2 * LIMIT_S)
        connection.close()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert time.monotonic() - begin < LIMIT_S / 2


def test_without_git_every_other_check_is_made_all_the_same(
    devkit: Devkit, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cmake", "ninja", "g++", "patchelf", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    result = devkit("build", "preflight", "--env", str(project.env), cwd=project.root)
    assert result.status == 4, result.err
    assert "✗ git" in result.out
    assert "✓ ninja" in result.out
    assert "submodules" not in result.out
