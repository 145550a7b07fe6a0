"""The proof of a computation, in the Python that has Paddle and in one that has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, Any

from devkit.kernels.protocol import PROTOCOL
from devkit.launch import device_side

if TYPE_CHECKING:
    from pathlib import Path


def ask(python: str, request: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [python, "-m", "devkit.kernels.probe"],
        input=json.dumps({"protocol": PROTOCOL, **request}) + "\n",
        env={**os.environ, "PYTHONPATH": str(device_side()), "MKL_DEBUG_CPU_TYPE": "5"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"event"')]
    return done.returncode, [json.loads(line) for line in lines]


def test_probe_computes_and_says_on_what() -> None:
    status, (_, event) = ask(sys.executable, {"do": "probe"})
    assert status == 0
    assert event["event"] == "probe"
    assert event["sum"] == 2
    assert event["device"].partition(":")[0] in {"cpu", "gpu"}
    assert event["matmul_gflops"] > 0.1
    assert 0 < event["matmul_error"] < 1e-4
    assert len(event["commit"]) == 40
    assert event["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")


def test_probe_without_paddle_is_refused_with_the_reason_and_a_remedy(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    status, (_, event) = ask(str(tmp_path / "bare" / "bin" / "python"), {"do": "probe"})
    assert status == 1
    assert event["event"] == "error"
    assert "No module named" in event["why"]
    assert "devkit env create" in event["remedies"][0]


def test_probe_knows_nothing_else() -> None:
    status, (_, event) = ask(sys.executable, {"do": "dance"})
    assert status == 1
    assert "dance" in event["what"]
