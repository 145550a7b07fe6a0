"""The settings of a branch: told from the others, and put back with their comments."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from devkit.git.command import Git, line
from devkit.git.state import parse_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path


def set_branch_config(
    git: Git, common_dir: Path, name: str, wanted: Collection[tuple[str, str]], then: bytes = b""
) -> None:
    """Make the settings of a branch what ``wanted`` says: keys as git lists them; what is right already stays as it is.

    Args:
        git: in the repository.
        common_dir: its folder.
        name: the branch.
        wanted: its settings.
        then: the bytes of the configuration that had them: a section that is gone comes back with its comments.
    """
    _, local = parse_config(git.read("config", "--list", "-z", "--show-scope"))
    now = sections(local).get(name, ())
    text = _section(then, name) if wanted and not now else b""
    if text and _append(common_dir / "config", text):
        return
    for key in dict.fromkeys(key for key, _ in (*now, *wanted)):
        values = [value for other, value in wanted if other == key]
        if values == [value for other, value in now if other == key]:
            continue
        git.ask("config", "--local", "--unset-all", key)
        for value in values:
            git.execute(line("config", "--local", "--add", key, value))
    if not wanted and now:
        git.ask("config", "--local", "--remove-section", f"branch.{name}")


def _section(config: bytes, name: str) -> bytes:
    """Return the lines of a branch's section in a configuration, byte for byte; nothing where it has not just one."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    header = os.fsencode(f'[branch "{quoted}"]')
    parts = re.split(rb"(?m)^(?=[ \t]*\[)", config)
    found = [part for part in parts if part.strip().startswith(header)]
    return found[0] if len(found) == 1 else b""


def _append(config: Path, text: bytes) -> bool:
    """Append a section to a configuration under git's own lock; return whether that was done."""
    lock = config.with_name(config.name + ".lock")
    try:
        with lock.open("xb") as file:
            data = config.read_bytes()
            file.write(data + (b"" if data.endswith(b"\n") or not data else b"\n") + text)
        lock.chmod(stat.S_IMODE(config.stat().st_mode))
        lock.replace(config)
    except OSError:
        return False
    return True


def sections(config: Iterable[tuple[str, str]]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the settings of each branch."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for key, value in config:
        if key.startswith("branch.") and key.count(".") > 1:
            name = key[len("branch.") : key.rindex(".")]
            found[name] = (*found.get(name, ()), (key, value))
    return found
