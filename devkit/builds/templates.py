"""The data of builds, which lies in ``templates/builds``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import devkit

FOLDER = Path(devkit.__file__).parent / "templates" / "builds"


def text(name: str) -> str:
    """Return what ``templates/builds/NAME`` holds."""
    return (FOLDER / name).read_text("utf-8")


@cache
def table(name: str) -> dict[str, Any]:
    """Return what ``templates/builds/NAME.toml`` holds."""
    text = (FOLDER / f"{name}.toml").read_text("utf-8")
    try:
        import tomllib  # of Python 3.11 and later, and twenty times as fast
    except ModuleNotFoundError:
        import tomlkit

        return tomlkit.parse(text).unwrap()
    return tomllib.loads(text)


@cache
def rows(folder: str, name: str) -> tuple[dict[str, Any], ...]:
    """Return the rows of that name of all tables in ``templates/builds/FOLDER``, in the order of the files' names."""
    paths = sorted((FOLDER / folder).glob("*.toml"))
    return tuple(row for path in paths for row in table(f"{folder}/{path.stem}")[name])
