"""Where devkit keeps its things: the folders of the XDG base directory specification, by platformdirs.

Where ``install.sh --dir`` put devkit into a folder that alone stays, they are in that folder; ``DEVKIT_HOME`` names
another one.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

VARIABLE = "DEVKIT_HOME"
LEAST_ROOM_BYTES = 1 << 20
MARK = "devkit-home"  # in the environment that devkit runs in: what is kept is beside it


def own_home() -> Path | None:
    """Return the one folder that all is kept in, or None: then XDG's folders hold."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    return _marked()


@cache
def _marked() -> Path | None:
    return Path(sys.prefix).parent if Path(sys.prefix, MARK).is_file() else None


def user_home() -> Path:
    """Return the user's home; a folder among the temporary files for a user who has none (``docker run --user``)."""
    named = Path(os.environ.get("HOME", ""))
    if named.is_absolute():
        return named
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return private_folder()


@cache
def private_folder() -> Path:
    """Return a folder among the temporary files that only this user writes to; the same one each time, if that can be.

    Raises:
        OSError: there is no folder for temporary files.
    """
    folder = Path(tempfile.gettempdir(), f"devkit-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    except OSError:
        ours = False
    return folder if ours else Path(tempfile.mkdtemp(prefix="devkit-"))


def _folder(name: str, variable: str, below: str, standard: str) -> Path:
    own = own_home()
    if own:
        return own / name
    if any(Path(os.environ.get(word, "")).is_absolute() for word in ("HOME", variable)):
        return Path(standard)
    return user_home() / below / "devkit"  # what platformdirs says is below a folder named ~, or below /


def state_home() -> Path:
    """Return the folder of devkit's records and other state."""
    return _folder("state", "XDG_STATE_HOME", ".local/state", platformdirs.user_state_dir("devkit"))


def data_home() -> Path:
    """Return the folder of devkit's environments and other data."""
    return _folder("data", "XDG_DATA_HOME", ".local/share", platformdirs.user_data_dir("devkit"))


def cache_home() -> Path:
    """Return the folder of what devkit can make again; where that cannot be written, a temporary one."""
    folder = _folder("cache", "XDG_CACHE_HOME", ".cache", platformdirs.user_cache_dir("devkit"))
    return folder if can_be_made(folder) else private_folder() / "cache"


def work_home() -> Path:
    """Return the folder of work trees: in the cache; a temporary one where the cache's disk is full."""
    folder = cache_home()
    disk = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
    return folder if disk.f_bavail * disk.f_frsize >= LEAST_ROOM_BYTES else private_folder() / "cache"


def can_be_made(folder: Path) -> bool:
    """Tell whether a folder, or what is missing of the way to it, may be written by this user."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def config_home() -> Path:
    """Return the folder of the user's settings."""
    return _folder("config", "XDG_CONFIG_HOME", ".config", platformdirs.user_config_dir("devkit"))
