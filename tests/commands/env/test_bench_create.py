"""A second environment beside uv's own two lines by hand, in turns: make bench-tests."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

if TYPE_CHECKING:
    from tests.conftest import Devkit

pytestmark = pytest.mark.bench

ROUNDS = 9
RATIO = 1.3
ADDED_BYTES = 10_000_000
REPOSITORY = Path(__file__).parents[3]
REQUIREMENTS = ("paddlepaddle==3.3.1", "setuptools", "numpy<2.4")
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def by_hand(folder: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([find_uv_bin(), "venv", "-q", "--python", MINOR, str(folder)], check=True)
    subprocess.run([find_uv_bin(), "pip", "install", "-q", "-p", f"{folder}/bin/python", *REQUIREMENTS], check=True)
    return time.perf_counter() - begin


def by_devkit(folder: Path, name: str) -> tuple[float, int]:
    words = ["env", "create", name, "--python", MINOR, "--paddle", "cpu==3.3.1", "--no-verify", "--json"]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "devkit", *words], cwd=folder, env=environ, check=True, capture_output=True
    )
    seconds = time.perf_counter() - begin
    return seconds, int(json.loads(done.stdout)["new_bytes"])


def test_second_environment_takes_little_longer_than_by_hand(
    devkit: Devkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # an installed devkit is compiled
    first = devkit("env", "create", "first", "--python", MINOR, "--paddle", "cpu==3.3.1", "--no-verify", limit_s=300)
    assert first.status == 0, first.err  # uv's cache is warm from here on
    hand, own, added = [], [], 0
    for number in range(ROUNDS):
        if number % 2:
            hand.append(by_hand(tmp_path / "hand"))
        seconds, added = by_devkit(tmp_path, f"second-{number}")
        own.append(seconds)
        if not number % 2:
            hand.append(by_hand(tmp_path / "hand"))
        shutil.rmtree(tmp_path / "hand")
        devkit("env", "remove", f"second-{number}")
    ratio = statistics.median(own) / statistics.median(hand)
    sys.stdout.write(
        f"\n{ROUNDS} rounds in turns, Python {MINOR}, paddlepaddle 3.3.1, uv's cache warm\n"
        f"  uv venv; uv pip install   median {statistics.median(hand):.2f} s  ({min(hand):.2f}-{max(hand):.2f})\n"
        f"  devkit env create         median {statistics.median(own):.2f} s  ({min(own):.2f}-{max(own):.2f})\n"
        f"  ratio of the medians      {ratio:.2f}\n"
        f"  added                     {added / 1e6:.1f} MB\n"
    )
    assert ratio <= RATIO
    assert added < ADDED_BYTES
