"""Where devkit keeps its things: the folders of the XDG base directory specification, by platformdirs."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def state_home() -> Path:
    """Return the folder of devkit's records and other state."""
    return Path(platformdirs.user_state_dir("devkit"))


def data_home() -> Path:
    """Return the folder of devkit's environments and other data."""
    return Path(platformdirs.user_data_dir("devkit"))


def cache_home() -> Path:
    """Return the folder of what devkit can make again."""
    return Path(platformdirs.user_cache_dir("devkit"))


def config_home() -> Path:
    """Return the folder of the user's settings."""
    return Path(platformdirs.user_config_dir("devkit"))
