"""Lines about requests, settings, records and plans, in a clone of a small project."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.commands.bench.test_report import report_file
from tests.commands.pr.random_clones import fork_devkit

from .lines import read_walk

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_about_a_clone_are_run_as_they_stand(clone: Path, tmp_path: Path) -> None:
    report_file(clone)
    fork_devkit(("pr", "fetch", "8"), clone, tmp_path / "state")
    for step in read_walk("clone.sh"):
        words = shlex.split(step.line)
        if not step.example:
            subprocess.run(words, cwd=clone, check=True, capture_output=True, timeout=60)
            continue
        status, said = fork_devkit(tuple(words[1:]), clone, tmp_path / "state")
        assert status == step.status, f"{step.line}\n{said}"
        assert said.strip() or "set" in step.line, step.line
