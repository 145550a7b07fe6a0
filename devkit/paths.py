"""Where devkit keeps its things: the folders of the XDG base directory specification, by platformdirs.

Where ``install.sh --dir`` put devkit into a folder that alone stays, they are in that folder; ``DEVKIT_HOME`` names
another one.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import platformdirs

VARIABLE = "DEVKIT_HOME"
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


def state_home() -> Path:
    """Return the folder of devkit's records and other state."""
    home = own_home()
    return home / "state" if home else Path(platformdirs.user_state_dir("devkit"))


def data_home() -> Path:
    """Return the folder of devkit's environments and other data."""
    home = own_home()
    return home / "data" if home else Path(platformdirs.user_data_dir("devkit"))


def cache_home() -> Path:
    """Return the folder of what devkit can make again."""
    home = own_home()
    return home / "cache" if home else Path(platformdirs.user_cache_dir("devkit"))


def config_home() -> Path:
    """Return the folder of the user's settings."""
    home = own_home()
    return home / "config" if home else Path(platformdirs.user_config_dir("devkit"))
