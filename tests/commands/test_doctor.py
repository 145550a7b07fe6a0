"""devkit doctor as a user sees it, on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from devkit.commands.doctor import show, wrapped
from devkit.console import Console
from devkit.doctor.finding import Finding

if TYPE_CHECKING:
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parent.parent.parent
LIMIT_S = 60.0
MACHINE = [
    "processor",
    "memory",
    "disk",
    "open_files",
    "shm",
    "Python",
    "Paddle",
    "MKL",
    "GPU",
    "CUDA",
    "cuDNN",
    "NCCL",
]
TOOLS = ["compiler", "cmake", "make", "ninja", "ccache", "patchelf", "git", "ssh", "docker"]
CHECKS = [*MACHINE, *TOOLS, "proxy", "no_proxy", "network", "ranks"]


def test_json_has_every_check_and_a_dead_proxy_is_a_bad_verdict(devkit: Devkit) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = devkit("doctor", "--json", env={"https_proxy": f"http://me:geheim@127.0.0.1:{port}"})
    answer = json.loads(result.out)
    checks = answer["checks"]
    assert result.status == 4
    assert "geheim" not in result.out + result.err
    assert all({"name", "state", "text", "remedy"} <= set(check) for check in checks)
    words = {"open files": "open_files", "/dev/shm": "shm"}  # noqa: S108 - the name of a check
    names = list(dict.fromkeys(words.get(check["name"], check["name"].split(" ")[0]) for check in checks))
    assert names == [name for name in CHECKS if name in names]
    assert {"processor", "Paddle", "compiler", "network", "ranks", "proxy", "no_proxy"} <= set(names)
    assert answer["summary"] == {
        state: sum(check["state"] == state for check in checks) for state in ("fine", "warning", "broken")
    }
    by_name = {check["name"]: check for check in checks}
    assert by_name["proxy"]["state"] == "broken"
    assert "***@127.0.0.1" in by_name["proxy"]["text"]
    assert by_name["Paddle"]["state"] == "fine"
    assert "1 + 1 = 2" in by_name["Paddle"]["text"]
    assert all(check["remedy"] for check in checks if check["state"] == "broken")


def test_screen_fits_80_columns_without_colour(devkit: Devkit) -> None:
    result = devkit("doctor", env={"COLUMNS": "80", "PYTHONIOENCODING": "ascii"})
    lines = result.out.splitlines()
    assert result.status in {0, 4}
    assert result.out.isascii()
    assert max(map(len, lines)) <= 80
    assert {line[2] for line in lines if line[:2] == "  " and line[2:4].strip() and line[3] == " "} <= set("+!x")
    assert lines[-1].split()[1] == "fine,"
    assert result.err == "examining this machine and its Paddle...\n"


def test_an_environment_without_paddle_is_broken_with_a_way_out(devkit: Devkit, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    result = devkit("doctor", "--env", "./bare")
    assert result.status == 4
    line = next(line for line in result.out.splitlines() if line.startswith("  ✗ Paddle"))
    assert "cannot be imported" in line
    assert "→ devkit env create" in result.out


def test_an_unknown_environment_is_an_error_of_the_user(devkit: Devkit) -> None:
    result = devkit("doctor", "--env", "nosuch")
    assert (result.status, result.out) == (1, "")
    assert "✗ there is no environment named nosuch" in result.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_the_probes(tmp_path: Path, number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "devkit", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        probes: list[psutil.Process] = []
        deadline = time.monotonic() + LIMIT_S
        while not probes and time.monotonic() < deadline:
            time.sleep(0.02)
            below = psutil.Process(process.pid).children(recursive=True)
            probes = [pid for pid in below if "devkit.kernels.probe" in _line(pid) and "supervisor" not in _line(pid)]
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT_S)
    assert probes
    assert process.returncode == status
    assert "interrupted" in err
    assert "Traceback" not in err
    assert out == ""
    assert not any(probe.is_running() and probe.status() != psutil.STATUS_ZOMBIE for probe in probes)
    assert not list(tmp_path.glob("devkit-doctor-*"))


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.parametrize(
    ("finding", "lines"),
    [
        (Finding("git", "2.39.5"), ["  ✓ git     2.39.5"]),
        (
            Finding("ccache", "missing", "warning", "slow", "apt install ccache"),
            ["  ! ccache  missing; slow   → apt install ccache"],
        ),
        (
            Finding("x", "a text of some length", "broken", "because of all of this", "do it   or that"),
            [
                "  ✗ x       a text of some length; because of",
                "            all of this",
                "            → do it   or that",
            ],
        ),
        (Finding("x", "one\ntwo"), ["  ✓ x       one", "            two"]),
    ],
)
def test_a_finding_is_one_line_where_it_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, finding: Finding, lines: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "48")
    show(Console(), finding, 12)
    assert capsys.readouterr().out.splitlines() == lines


def test_a_word_that_is_too_long_is_left_whole() -> None:
    assert wrapped("a " + "x" * 50, 20) == ["a", "x" * 50]
    assert wrapped("", 20) == [""]
