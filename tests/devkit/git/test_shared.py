"""devkit's files in a repository that several users share."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from devkit.git.journal import JournalEntry, write
from devkit.git.shared import make_folder
from devkit.git.state import CloneDirs
from devkit.git.store import PrivateRefs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("repository", "folder", "file"), [(0o755, 0o755, 0o600), (0o2775, 0o2775, 0o660)])
def test_the_group_may_write_what_it_may_write_of_gits(tmp_path: Path, repository: int, folder: int, file: int) -> None:
    tmp_path.chmod(repository)
    write(CloneDirs(tmp_path, tmp_path, None), JournalEntry("1", "pr fetch 7", 0))
    PrivateRefs(tmp_path).update({"refs/devkit/wip/1": "1" * 40})
    made = make_folder(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (made, *made.rglob("*"))}
    assert modes == {"devkit": folder, "undo": folder, "1.json": file, "refs.json": file}
