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

from tests.commands.pr.random_clones import run, template
from tests.forks import forks

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = int(os.environ.get("DEVKIT_FUZZ_CASES", "16"))
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


@pytest.mark.parametrize(("first", "count"), [(FIRST, CASES), pytest.param(FIRST + CASES, 160, marks=pytest.mark.slow)])
def test_nothing_is_ever_lost(
    memory: Path, home: Path, capsys: pytest.CaptureFixture[str], first: int, count: int
) -> None:
    del home
    made = memory / "made"
    made.mkdir()
    template(made)
    forks()  # before the workers begin: it is one process's
    started = time.monotonic()
    workers = [_start(memory, made, range(first + worker, first + count, WORKERS)) for worker in range(WORKERS)]
    for pid in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    kinds: Counter[str] = Counter()
    losses, ended = [], 0
    for worker in range(WORKERS):
        for line in (memory / f"found-{first + worker}.jsonl").read_text("utf-8").splitlines():
            seed, kind, lost = json.loads(line)
            *_, how, after, _status = kind.split() if kind else ("", "broken", "")
            kinds[after] += 1
            ended += how not in {"", "whole"}
            losses += [(seed, kind, lost)] if lost else []
    said = f"{ended} commands killed or interrupted; " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    with capsys.disabled():
        print(f"\n{count} random clones ({said}): {len(losses)} losses, {time.monotonic() - started:.0f} s")  # noqa: T201
        for seed, kind, lost in losses:
            print(f"  DEVKIT_FUZZ_FIRST={seed} DEVKIT_FUZZ_CASES=1: {kind}: {lost}")  # noqa: T201
    assert sum(kinds.values()) == count
    assert kinds["undone"] + kinds["redone"] > count // 4, "most commands had nothing to do: the states are too tame"
    assert losses == []


def _start(folder: Path, made: Path, seeds: range) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with (folder / f"found-{seeds.start}.jsonl").open("w", encoding="utf-8") as file:
            for seed in seeds:
                file.write(json.dumps([seed, *run(seed, folder / f"case-{seeds.start}", made)]) + "\n")
                file.flush()
        status = 0
    except BaseException:  # noqa: BLE001 - it must not go on as a second pytest
        traceback.print_exc()
    finally:
        os._exit(status)
