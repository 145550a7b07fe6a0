"""Locks, and the file that stands in where the file system has none."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from devkit.locks import ExclusiveFile, flock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_second_holder_is_refused_and_readers_share(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open() as second, path.open() as third:
        assert flock(first.fileno()) is True
        assert flock(second.fileno(), shared=True) is False
        first.close()
        assert flock(second.fileno(), shared=True) is True
        assert flock(third.fileno(), shared=True) is True


def test_file_system_without_locks_is_told_from_a_lock_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    with (tmp_path / "lock").open("w") as file:
        assert flock(file.fileno()) is None


def test_exclusive_file_has_one_holder_and_a_dead_ones_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "held"
    with ExclusiveFile(path) as held:
        assert held.take()
        assert not ExclusiveFile(path).take()
    assert not path.exists()
    path.write_text(f"4194999 {os.uname().nodename}\n")  # beyond the largest process id
    assert ExclusiveFile(path).take()
    path.write_text("1 another-machine\n")
    assert not ExclusiveFile(path).take()
