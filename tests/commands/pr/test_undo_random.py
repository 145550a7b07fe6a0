"""Random states × every changing command × ended at a random git call or not: undo gives all of it back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.random_clones import run, template, warm_up

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = int(os.environ.get("DEVKIT_FUZZ_CASES", "80"))
FIRST = int(os.environ.get("DEVKIT_FUZZ_FIRST", "0"))
WORKERS = 2
ROOM = 64 << 20


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a disk that is synced thousands of times would take most of the time."""
    if not os.access("/dev/shm", os.W_OK) or shutil.disk_usage("/dev/shm").free < ROOM:  # noqa: S108 - a folder of our own in it
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="devkit-test-") as folder:
        yield Path(folder)


def test_nothing_is_ever_lost(memory: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del home
    made = memory / "made"
    made.mkdir()
    template(made)
    warm_up()
    started = time.monotonic()
    workers = [_start(worker, memory, made) for worker in range(WORKERS)]
    for pid in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    kinds: Counter[str] = Counter()
    losses, ended = [], 0
    for worker in range(WORKERS):
        for line in (memory / f"found-{worker}.jsonl").read_text("utf-8").splitlines():
            seed, kind, lost = json.loads(line)
            *_, how, after, _status = kind.split() if kind else ("", "broken", "")
            kinds[after] += 1
            ended += how not in {"", "whole"}
            losses += [(seed, kind, lost)] if lost else []
    said = f"{ended} commands killed or interrupted; " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    with capsys.disabled():
        print(f"\n{CASES} random clones ({said}): {len(losses)} losses, {time.monotonic() - started:.0f} s")  # noqa: T201
        for seed, kind, lost in losses:
            print(f"  DEVKIT_FUZZ_FIRST={seed} DEVKIT_FUZZ_CASES=1: {kind}: {lost}")  # noqa: T201
    assert sum(kinds.values()) == CASES
    assert kinds["undone"] + kinds["redone"] > CASES // 4, "most commands had nothing to do: the states are too tame"
    assert losses == []


def _start(worker: int, folder: Path, made: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with (folder / f"found-{worker}.jsonl").open("w", encoding="utf-8") as file:
            for seed in range(FIRST + worker, FIRST + CASES, WORKERS):
                file.write(json.dumps([seed, *run(seed, folder / f"case-{worker}", made)]) + "\n")
                file.flush()
        status = 0
    except BaseException:  # noqa: BLE001 - it must not go on as a second pytest
        traceback.print_exc()
    finally:
        os._exit(status)
