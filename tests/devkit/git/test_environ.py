from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from devkit.git.command import environment
from devkit.git.environ import with_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_are_given_to_every_version_of_git(tmp_path: Path) -> None:
    given = environment({**os.environ, "GIT_CONFIG_PARAMETERS": "'a.b=c'"})
    given = with_settings(given, {"remote.it's one.url": "ü = 'x'"})
    done = subprocess.run(
        ["git", "config", "--list"], cwd=tmp_path, env=given, check=True, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert {"a.b=c", "protocol.ext.allow=never", "remote.it's one.url=ü = 'x'"} <= set(lines)
