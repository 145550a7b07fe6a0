"""How long devkit pr fetch takes beside git fetch and git switch by hand, on 20,000 commits and 300 requests."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.random_clones import git
from tests.forks import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMITS = 20_000
REQUESTS = 300
FILES = 400
ROUNDS = 15
ALLOWED = 1.5

pytestmark = pytest.mark.bench


def history() -> Iterator[str]:
    """Yield the stream of a project for ``git fast-import``: commits on develop, and a request every so many."""
    text = "line of the file" * 40
    for number in range(1, COMMITS + 1):
        when = 1_500_000_000 + number * 60
        yield f"commit refs/heads/develop\nmark :{number}\ncommitter A <a@example.com> {when} +0000\n"
        yield f"data <<END\nCommit {number}\nEND\n"
        for file in range(FILES) if number == 1 else (number % FILES,):
            yield f"M 100644 inline src/{file % 20}/{file}.cc\ndata <<END\n{text}\n{number}\nEND\n"
    for request in range(1, REQUESTS + 1):
        base = COMMITS - request * 20
        for step in range(3):
            start = f"from :{base}\n" if step == 0 else ""
            yield f"commit refs/pull/{request}/head\ncommitter A <a@example.com> {1_600_000_000 + request} +0000\n"
            yield f"data <<END\nRequest {request}, {step}\nEND\n{start}"
            yield f"M 100644 inline src/{request % 20}/new{request}.cc\ndata <<END\n{request} {step}\nEND\n"


def timed(*words: str, folder: Path, bytecode: Path) -> float:
    """Return the seconds that a line takes; Python's bytecode is kept, as that of an installed devkit is."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONPYCACHEPREFIX": str(bytecode)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env=env)
    return time.perf_counter() - started


def test_a_fetch_takes_at_most_half_as_long_again_as_by_hand(
    server: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = server[0] / "speed" / "Paddle.git"
    bare.mkdir(parents=True)
    git(bare, "init", "-q", "--bare", "-b", "develop")
    git(bare, "fast-import", "--quiet", data="".join(history()).encode())
    git(bare, "repack", "-q", "-a", "-d")
    clone = tmp_path / "Paddle"
    git(tmp_path, "clone", "-q", "-o", "upstream", f"{server[1]}/speed/Paddle.git", str(clone))
    devkit = (sys.executable, "-m", "devkit")
    by_hand, ours, start_up = [], [], []
    run = partial(timed, bytecode=tmp_path / "bytecode")
    run(*devkit, "pr", "fetch", str(2 * ROUNDS + 2), folder=clone)
    git(clone, "switch", "-q", "develop")
    for number in range(1, ROUNDS + 1):
        mine, theirs = 2 * number, 2 * number + 1
        fetched = run("git", "fetch", "-q", "upstream", f"refs/pull/{theirs}/head:hand-{theirs}", folder=clone)
        by_hand.append(fetched + run("git", "switch", "-q", f"hand-{theirs}", folder=clone))
        git(clone, "switch", "-q", "develop")
        ours.append(run(*devkit, "pr", "fetch", str(mine), folder=clone))
        git(clone, "switch", "-q", "develop")
        start_up.append(run(*devkit, "runs", "list", "-q", folder=tmp_path))
    hand, own, start = (statistics.median(row) for row in (by_hand, ours, start_up))
    ratio = (own - start) / hand
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{COMMITS} commits, {REQUESTS} requests, medians of {ROUNDS}: by hand {hand * 1e3:.0f} ms, "
            f"devkit pr fetch {own * 1e3:.0f} ms, of that start-up {start * 1e3:.0f} ms: {ratio:.2f} times by hand, "
            f"{own / hand:.2f} with the start-up"
        )
    assert ratio <= ALLOWED
