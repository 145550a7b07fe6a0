"""Wheels made again from what is installed: uv keeps none, and a bundle must not need the index that they came from.

A wheel made so installs the same files. It is not byte for byte the index's, so it has a SHA-256 of its own.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint
from devkit.files import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
COMPRESSION = 1  # of paddlepaddle 3.3.1's 600 MB the best one takes a minute, and saves a tenth
OURS = "paddle-devkit"
# uv begins a script so where the interpreter's path is too long for a shebang.
LONG_SHEBANG = re.compile(rb"\A#!/bin/sh\n'''exec' [^\n]*\n' '''\n")
SHEBANG = re.compile(rb"\A#![^\n]*python[^\n]*\n")


@dataclass(frozen=True)
class Installed:
    """A distribution that is installed: its name, its version, the folder of its metadata and its environment's."""

    name: str
    version: str
    info: Path
    prefix: Path

    @property
    def in_place(self) -> bool:
        """Whether it is its source's folder that is imported (``pip install -e``)."""
        try:
            direct = json.loads((self.info / "direct_url.json").read_text("utf-8"))
            return bool((direct.get("dir_info") or {}).get("editable"))
        except (OSError, ValueError, AttributeError):
            return False


def canonical(name: str) -> str:
    """Return a distribution's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(packages: Path, prefix: Path) -> dict[str, Installed]:
    """Return what is installed in a site-packages folder of the environment at ``prefix``, by name."""
    found = {}
    for info in sorted(packages.glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        found[canonical(name)] = Installed(canonical(name), version, info, prefix)
    return found


def pack(package: Installed, folder: Path) -> Path:
    """Write the wheel of an installed distribution into ``folder``, and return its path.

    Raises:
        DevkitError: it was not installed from a wheel, or files of it are missing.
    """
    info = package.info
    members = dict(_own(package) if package.in_place and package.name == OURS else _members(package))
    try:
        tags = re.findall(r"^Tag: (\S+)$", (info / "WHEEL").read_text("utf-8"), re.MULTILINE)
    except OSError as error:
        raise _not_a_wheel(package) from error
    stem = info.name.removesuffix(".dist-info")
    wheel = folder / f"{stem}-{_compressed(tags)}.whl"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    with explained(wheel), zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive:
        for name, source in sorted(members.items(), key=lambda item: (".dist-info/" in item[0], item[0])):
            digest, size = _add(archive, name, source)
            lines.writerow((name, f"sha256={digest}", size))
        lines.writerow((f"{info.name}/RECORD", "", ""))
        archive.writestr(f"{info.name}/RECORD", record.getvalue())
    return wheel


def _add(archive: zipfile.ZipFile, name: str, source: Path) -> tuple[str, int]:
    mode = source.stat().st_mode
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (mode & 0o777 | 0o100000) << 16
    digest, size = hashlib.sha256(), 0
    script = ".data/scripts/" in name
    with source.open("rb") as file, archive.open(entry, "w", force_zip64=True) as target:
        while block := file.read(1 << 20):
            data = SHEBANG.sub(b"#!python\n", LONG_SHEBANG.sub(b"#!python\n", block)) if script and not size else block
            digest.update(data)
            target.write(data)
            size += len(data)
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode(), size


def _members(package: Installed) -> Iterator[tuple[str, Path]]:
    """Yield the files of a distribution by their names in its wheel."""
    info, prefix = package.info, package.prefix.resolve()
    site = info.parent
    try:
        rows = [row[0] for row in csv.reader((info / "RECORD").read_text("utf-8").splitlines()) if row]
    except OSError as error:
        raise _not_a_wheel(package) from error
    generated, data = _entry_points(info), f"{info.name.removesuffix('.dist-info')}.data"
    missing = []
    for row in rows:
        source = (site / row).resolve() if row.startswith("..") else site / row
        if row.endswith(".pyc") or "__pycache__" in PurePosixPath(row).parts:
            continue
        if source.parent.name == info.name and source.name in INSTALLERS:
            continue
        if not source.is_file():
            missing.append(row)
        elif not row.startswith(("..", "/")):
            yield row, source
        elif source.is_relative_to(prefix) and not (source.parent == prefix / "bin" and source.name in generated):
            kind = "scripts" if source.parent == prefix / "bin" else "data"
            yield f"{data}/{kind}/{source.relative_to(prefix / 'bin' if kind == 'scripts' else prefix)}", source
    if missing:
        raise DevkitError(
            f"{package.name} {package.version} is not whole", f"Files of it are missing: {', '.join(missing[:3])}.",
            Hint.of("devkit", "env", "uninstall", str(package.prefix), package.name, purpose="and install it again"),
        )  # fmt: skip


def _entry_points(info: Path) -> set[str]:
    """Return the scripts that an installer makes of a distribution's entry points."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    try:
        parser.read_string((info / "entry_points.txt").read_text("utf-8"))
    except (OSError, configparser.Error):
        return set()
    return {
        name for part in ("console_scripts", "gui_scripts") if parser.has_section(part) for name in parser.options(part)
    }


def _own(package: Installed) -> Iterator[tuple[str, Path]]:
    """Yield the files of devkit itself, of which a checkout is installed in place: its rooms lie behind links."""
    import os

    import devkit

    root = Path(devkit.__file__).parent
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if name != "__pycache__"]
        for name in names:
            path = Path(folder, name)
            if not name.endswith(".pyc") and path.is_file():
                yield (Path("devkit") / path.relative_to(root)).as_posix(), path
    installer = install_script()
    if installer.parent != root:
        yield "devkit/install.sh", installer
    for path in package.info.rglob("*"):
        if path.is_file() and path.name not in INSTALLERS:
            yield path.relative_to(package.info.parent).as_posix(), path


def install_script() -> Path:
    """Return devkit's ``install.sh``: a wheel holds it in the package, a checkout beside that."""
    import devkit

    inside = Path(devkit.__file__).parent / "install.sh"
    return inside if inside.is_file() else inside.parent.parent / "install.sh"


def glibc_of(wheel: Path) -> tuple[int, int]:
    """Return the oldest glibc that a wheel installs with, by its name; (0, 0) where it says none."""
    found = []
    for platform in wheel.stem.rpartition("-")[2].split("."):
        matched = re.fullmatch(r"manylinux_(\d+)_(\d+)_\w+", platform)
        older = re.fullmatch(r"manylinux(1|2010|2014)_\w+", platform)
        if matched:
            found.append((int(matched[1]), int(matched[2])))
        elif older:
            found.append({"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}[older[1]])
    return min(found, default=(0, 0))


def _compressed(tags: list[str]) -> str:
    parts = zip(*(tag.split("-") for tag in tags), strict=True) if tags else (("py3",), ("none",), ("any",))
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)


def _not_a_wheel(package: Installed) -> DevkitError:
    return DevkitError(
        f"{package.name} {package.version} was not installed from a wheel",
        f"{package.info} has no RECORD or no WHEEL, so which files are its own is not known.",
        Hint.of("devkit", "env", "uninstall", str(package.prefix), package.name, purpose="and install it again"),
    )
