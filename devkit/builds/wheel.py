"""The wheel that a build leaves: where it is, what is in it, and whether the tree's Python is newer."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import digest_of

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = ("paddle_copy", "paddle_python")
LIBRARY = "paddle/base/libpaddle.so"
NAME = re.compile(r"(?P<name>[A-Za-z0-9._]+?)-(?P<version>[^-]+)(?:-[^-]+){3,4}\.whl")


@dataclass(frozen=True)
class Wheel:
    """A wheel: its distribution's name and version, and the digest of what it holds, whenever it was packed."""

    path: Path
    name: str
    version: str
    digest: str


def target(build: Path) -> str:
    """Return the target of ninja that packs the wheel.

    Raises:
        DevkitError: this build has none.
    """
    try:
        text = (build / "build.ninja").read_bytes()
    except OSError as error:
        raise DevkitError(f"{build} is not configured", "", "devkit build --from configure") from error
    for name in TARGETS:
        if f"\nbuild {name}: phony".encode() in text:
            return name
    raise no_wheel()


def no_wheel() -> DevkitError:
    """Return the error of a build without Python."""
    return DevkitError("this build makes no wheel", "WITH_PYTHON is OFF in it.", "devkit build -D WITH_PYTHON=ON")


def folder(build: Path) -> Path:
    """Return where wheels are packed."""
    return build / "python" / "dist"


def newest(build: Path) -> Wheel:
    """Return the wheel that was packed last.

    Raises:
        DevkitError: there is none, or it is broken.
    """
    paths = sorted(folder(build).glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)
    if not paths:
        raise DevkitError(f"there is no wheel in {folder(build)}", "", "devkit build --from compile")
    return read(paths[-1])


def read(path: Path) -> Wheel:
    """Return what a wheel is.

    Raises:
        DevkitError: it is none.
    """
    match = NAME.fullmatch(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            record = next((word for word in archive.namelist() if word.endswith(".dist-info/RECORD")), None)
            if match and record:
                rows = sorted(archive.read(record).splitlines())
                digest = hashlib.sha256(b"\n".join(rows)).hexdigest()
                return Wheel(path, match["name"].replace("_", "-").lower(), match["version"], digest)
    except (OSError, zipfile.BadZipFile) as error:
        raise DevkitError(f"{path} cannot be read", str(error), "devkit build --from wheel") from error
    raise DevkitError(f"{path} is not a wheel", "Its name or its RECORD is not a wheel's.", "devkit build --from wheel")


def python_digest(root: Path) -> str:
    """Return a digest of the tree's Python by names, sizes and times: it changes where a file of it may have."""
    seen = hashlib.sha256()
    for directory, folders, names in os.walk(root / "python" / "paddle"):
        folders[:] = sorted(word for word in folders if word != "__pycache__")
        with os.scandir(directory) as entries:
            stats = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        for name in sorted(names):
            if name in stats and not name.endswith(".pyc"):
                seen.update(f"{directory}/{name} {stats[name].st_size} {stats[name].st_mtime_ns}\n".encode())
    return seen.hexdigest()


def forget_copied(build: Path) -> None:
    """Let ninja copy the tree's Python again: Paddle's rule only watches a few files of it."""
    for path in (build / "python" / "build").glob(".timestamp*"):
        path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; empty where there is none."""
    try:
        return digest_of(path)
    except OSError:
        return ""
