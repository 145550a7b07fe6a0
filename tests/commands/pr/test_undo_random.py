"""Random states × every changing command × ended at a random git call or not: undo gives all of it back."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from tests.commands.pr.random_clones import run, template, warm_up

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CASES = int(os.environ.get("DEVKIT_FUZZ_CASES", "300"))
FIRST = int(os.environ.get("DEVKIT_FUZZ_FIRST", "0"))
WORKERS = 2


def test_nothing_is_ever_lost(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del home
    made = tmp_path / "made"
    made.mkdir()
    template(made)
    warm_up()
    started = time.monotonic()
    workers = [_start(worker, tmp_path, made) for worker in range(WORKERS)]
    for pid in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    kinds: Counter[str] = Counter()
    losses = []
    for worker in range(WORKERS):
        for line in (tmp_path / f"found-{worker}.jsonl").read_text("utf-8").splitlines():
            seed, kind, lost = json.loads(line)
            kinds[kind.split()[-2] if kind else "broken"] += 1
            losses += [(seed, kind, lost)] if lost else []
    with capsys.disabled():
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        print(f"\n{CASES} random clones ({said}): {len(losses)} losses, {time.monotonic() - started:.0f} s")  # noqa: T201
    assert sum(kinds.values()) == CASES
    assert kinds["undone"] > CASES // 4, "most commands had nothing to do: the states are too tame"
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
