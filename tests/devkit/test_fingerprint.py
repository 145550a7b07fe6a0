"""What a record says of the machine and the clone."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from devkit.fingerprint import git_state, host_fingerprint
from devkit.kernels.machine import Limits, limits, memory_left

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


def group(root: Path, files: dict[str, str]) -> Limits:
    """Return the limits below a root that a test writes, of a process in /a/b."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    own = root / "own"
    own.write_text("0::/a/b\n4:memory:/a\n3:cpu,cpuacct:/a\n")
    return limits(str(root), str(own))


def test_tightest_limit_of_a_group_and_those_above_it_holds(tmp_path: Path) -> None:
    files = {"a/b/memory.max": "max\n", "a/memory.max": "1073741824\n", "a/b/cpu.max": "150000 100000\n"}
    assert group(tmp_path, files) == Limits(1.5, 1 << 30, 2)
    assert group(tmp_path / "none", {"x": ""}) == Limits(None, None, 2)


def test_groups_of_version_1_are_read_too(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/a/memory.limit_in_bytes": "2147483648\n",
        "cpu/a/cpu.cfs_quota_us": "50000\n",
        "cpu/a/cpu.cfs_period_us": "100000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
    }
    assert group(tmp_path, files) == Limits(0.5, 2 << 30, 1)


def test_what_a_control_group_leaves_is_its_limit_less_what_is_in_use(tmp_path: Path) -> None:
    gib = 1 << 30
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("0::/build\n")
    assert memory_left(str(root), str(own)) is None
    (root / "build").mkdir(parents=True)
    (root / "build" / "memory.max").write_text(f"{3 * gib}\n")
    (root / "build" / "memory.current").write_text(f"{2 * gib}\n")
    (root / "build" / "memory.stat").write_text(f"anon 1\ninactive_file {gib}\n")
    assert memory_left(str(root), str(own)) == 2 * gib
    own.write_text("4:memory:/docker/1f\n")
    (root / "memory").mkdir()
    (root / "memory" / "memory.limit_in_bytes").write_text(f"{4 * gib}\n")
    (root / "memory" / "memory.usage_in_bytes").write_text(f"{gib}\n")
    assert memory_left(str(root), str(own)) == 3 * gib
