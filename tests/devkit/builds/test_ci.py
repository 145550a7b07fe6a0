"""Unit tests in the order, with the limits and at the place of Paddle's CI."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from devkit.app import App
from devkit.builds import ci
from devkit.builds.python import Python
from devkit.builds.tests import FileVerdict

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

JOB = ci.job(gpus=False)


def test_new_tests_come_first_and_three_times_with_little_time() -> None:
    found = ci.order(["test/test_a.py", "test/test_b.py"], {"test/test_b.py"}, JOB)
    assert [(turn.path, turn.runs, turn.limit_s, turn.retries) for turn in found] == [
        ("test/test_b.py", 3, 15, 0),
        ("test/test_a.py", 1, 120, 4),
        ("test/test_b.py", 1, 120, 4),
    ]


def run(turn: ci.Turn, *passed: bool, not_run: str = "") -> tuple[bool, int]:
    left = iter(passed)
    verdict = ci.take(turn, lambda _: FileVerdict(turn.path, next(left), 1, 0.0, not_run=not_run))
    return verdict.passed, verdict.runs


def test_a_test_that_fails_is_run_again_and_the_first_that_passes_decides() -> None:
    turn = ci.Turn("test/test_a.py", 1, 120, 4)
    assert run(turn, True) == (True, 1)
    assert run(turn, False, False, True) == (True, 3)
    assert run(turn, *[False] * 5) == (False, 5)
    assert run(turn, False, not_run="no test ran in it") == (False, 1)


def test_a_new_test_must_pass_each_time() -> None:
    turn = ci.Turn("test/test_a.py", 3, 15, 0)
    assert run(turn, True, True, True) == (True, 3)
    assert run(turn, True, False) == (False, 2)


def docker(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a stand-in for docker's client first on PATH: no engine is needed to see which line it is given."""
    program = folder / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def environment(folder: Path) -> Python:
    base = folder / "python" / "bin" / "python3.10"
    base.parent.mkdir(parents=True)
    base.touch()
    executable = folder / "env" / "bin" / "python"
    executable.parent.mkdir(parents=True)
    executable.symlink_to(base)
    return Python("env", str(executable))


def test_where_an_engine_has_the_image_each_test_runs_in_a_container_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker(tmp_path, monkeypatch, '[ "$1 $2" = "image inspect" ]')
    told = environment(tmp_path)
    root = tmp_path / "Paddle"
    where = ci.place(App().runner, JOB, told, [root], {"FLAGS_CI_PIPELINE": "py3"})
    line = ci.inside(where, JOB, [told.executable, "test_a.py"], tmp_path)
    assert line[:4] == ["docker", "run", "--rm", "--init"]
    mounted = [line[index + 1] for index, word in enumerate(line) if word == "-v"]
    assert mounted == [f"{path}:{path}" for path in (tmp_path / "python", tmp_path / "env", root)]
    assert "FLAGS_CI_PIPELINE=py3" in line
    assert line[-5:] == ["-w", str(tmp_path), JOB.image, told.executable, "test_a.py"]
    assert not any("image" in text for text in ci.differences(where, JOB, by_ctest=True))


def test_where_there_is_none_the_run_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = environment(tmp_path)
    docker(tmp_path, monkeypatch, 'echo "Error: No such image: x" >&2; exit 1')
    where = ci.place(App().runner, JOB, told, [], {})
    assert where.prefix == ()
    assert where.why_here == f"the image is not on this machine: docker pull {JOB.image}"
    assert ci.inside(where, JOB, ["x"], tmp_path) == ["x"]
    assert ci.differences(where, JOB, by_ctest=False)[0].startswith("not in CI's image: the image is not")
    system = Python("system", "/usr/bin/python3")
    assert "this system's Python" in ci.place(App().runner, JOB, system, [], {}).why_here
