"""What the files of a checkout are like."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from devkit.app import App
from devkit.builds.tree import disk_of, gather

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS = "/dev/sda / ext4 rw 0 0\nC:\\134 /mnt/c 9p rw 0 0\n//nas/x /mnt/with\\040blank cifs rw 0 0\n"


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True)


def test_line_ends_flat_links_and_times_in_the_future_are_seen(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "x.sh").write_bytes(b"echo\r\n")
    (tmp_path / "CMakeLists.txt").write_text("project(paddle)\n")
    (tmp_path / "link").symlink_to("CMakeLists.txt")
    git(tmp_path, "init", "-q", ".")
    git(tmp_path, "add", "-A")
    clean = gather(App().runner, tmp_path, refused=False)
    assert (clean.dos, clean.flat, clean.future, clean.case_blind) == (("tools/x.sh",), (), (), False)
    (tmp_path / "link").unlink()
    (tmp_path / "link").write_text("CMakeLists.txt")
    ahead = time.time() + 9000
    os.utime(tmp_path / "CMakeLists.txt", (ahead, ahead))
    found = gather(App().runner, tmp_path, refused=False)
    assert (found.flat, found.future) == (("link",), ("CMakeLists.txt",))


def test_another_systems_disk_is_known_by_the_mount_that_holds_the_tree(tmp_path: Path) -> None:
    root = tmp_path.__class__
    assert disk_of(root("/mnt/c/Users/x/Paddle"), MOUNTS) == "9p"
    assert disk_of(root("/mnt/with blank/Paddle"), MOUNTS) == "cifs"
    assert disk_of(root("/mnt/cd/Paddle"), MOUNTS) == ""
    assert disk_of(root("/home/x"), MOUNTS) == ""
