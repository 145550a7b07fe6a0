"""What a record says of the machine and the clone."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from devkit.fingerprint import git_state, host_fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def test_the_machine_has_a_name_cores_and_memory() -> None:
    host = host_fingerprint()
    assert host["processor"]
    assert host["cores"] == len(os.sched_getaffinity(0))
    assert host["memory_mib"] > 100
    assert host["kernel"] == os.uname().release


def test_a_clone_has_a_commit_a_branch_and_is_dirty_or_not(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "develop")
    (tmp_path / "a file").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"dirty": False, "commit": commit, "branch": "develop"}
    (tmp_path / "a file").write_text("2")
    state = git_state(tmp_path)
    assert state is not None
    assert state["dirty"]


def test_a_folder_of_its_own_is_no_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None


def test_a_gits_variables_do_not_lead_it_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q", "-b", "develop")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    state = git_state(tmp_path)
    assert state is not None
    assert state["branch"] == "develop"


def test_no_git_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(tmp_path) is None
