"""What devkit advises is typed: it runs, and what failed comes to another end."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from devkit.errors import GAP
from tests.forks import Result

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Devkit


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    for words in (["init", "-q", str(folder)], ["-C", str(folder), "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], check=True, timeout=60)
    return folder


def hints(result: Result) -> list[str]:
    lines = [row.strip().removeprefix("→ ") for row in result.err.splitlines() if row.startswith("  →")]
    return [line.partition(GAP)[0] for line in lines]


@pytest.mark.parametrize(
    ("before", "line", "advice", "kind"),
    [
        ("", "config set runs.kep 7", [0], "is the line, corrected"),
        ("", "config unset runs.kep", [0], "is the line, corrected"),
        ("", "train --heads 7 --dry-run", [0], "is the line, corrected"),
        ("", "train --size huge --dry-run", [0], "is the line, corrected"),
        ("new layer mine", "new layer mine", [0, 1], "clears the way"),
        ("env create it --paddle none", "env create it --paddle none", [1], "clears the way"),
        ("", "check --fast --base nowhere", [0], "lists what there is"),
        ("", "bench compare a b", [0], "lists what there is"),
        ("", "env show nowhere", [0], "lists what there is"),
    ],
)
def test_a_hint_runs_and_changes_the_outcome(
    before: str, line: str, advice: list[int], kind: str, devkit: Devkit, clone: Path
) -> None:
    def typed(text: str) -> Result:
        words = shlex.split(text)
        if words[0] == "devkit":
            return devkit(*words[1:], *(["--dry-run"] if "--dry-run" in line else []), cwd=clone)
        done = subprocess.run(["sh", "-c", text], cwd=clone, capture_output=True, text=True, check=False, timeout=60)
        return Result(done.returncode, done.stdout, done.stderr)

    if before:
        assert devkit(*before.split(), cwd=clone).status == 0
    failed = devkit(*line.split(), cwd=clone)
    assert failed.status in {1, 2}
    for number in advice:
        advised = hints(failed)[number]
        helped = typed(advised)
        assert helped.status == 0, (advised, helped)
    if kind == "clears the way":
        assert devkit(*line.split(), cwd=clone).status == 0
    elif kind == "is the line, corrected":
        assert advised.split()[1:2] == line.split()[:1]
    else:
        assert "list" in advised or "branch --all" in advised
