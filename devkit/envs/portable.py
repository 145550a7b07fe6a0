"""A Python that runs in another folder and on another machine: packed as python-build-standalone packs its own.

uv's are made for that: they need glibc 2.17, and nothing else. This machine's own are packed where no other is to be
had; which glibc and which libraries of the system they need is told.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.process import Runner

UNNEEDED = (
    "site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__", "EXTERNALLY-MANAGED", "config-*",
    "*.a", "*.pyc", "_tkinter.*", "_test*.so", "_ctypes_test*", "_xx*.so", "xx*.so", "nis.*", "_gdbm.*", "_dbm.*",
)  # fmt: skip
GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)")
LIBC = re.compile(r"(linux-vdso|ld-linux|libc|libm|libdl|libpthread|librt|libutil|libresolv)[.-]")
PROOF = "import encodings, json, sysconfig, zipfile, zlib; import sys; print(sys.base_prefix)"
LIMIT_S = 30


@dataclass(frozen=True)
class Portable:
    """A Python to pack.

    Attributes:
        prefix: its own folder.
        version: as one writes it, ``3.11.7``.
        glibc: the oldest that it runs with.
        needs: libraries of the system that modules of it are linked with, beside glibc's.
    """

    prefix: Path
    version: str
    glibc: tuple[int, int]
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What uv would call it."""
        return f"cpython-{self.version}-linux-{platform.machine()}-gnu"

    @property
    def short(self) -> str:
        """Its minor version, ``3.11``."""
        return ".".join(self.version.split(".")[:2])


def look(runner: Runner, python: Path, version: str) -> Portable:
    """Return what packing the Python at ``python`` comes to.

    Raises:
        DevkitError: its library is not beside it.
    """
    prefix = python.resolve().parent.parent
    short = ".".join(version.split(".")[:2])
    library = prefix / "lib" / f"python{short}"
    if not (library / "os.py").is_file():
        raise DevkitError(f"{python} cannot be packed", f"Its library is not in {library}.")
    modules = [path for path in sorted(library.glob("lib-dynload/*.so")) if not any(map(path.match, UNNEEDED))]
    binaries = [python.resolve(), *modules, *sorted(prefix.glob("lib/libpython3*.so.*"))]
    glibc = max((_glibc(binary) for binary in binaries), default=(2, 17))
    return Portable(prefix, version, glibc, tuple(_needs(runner, prefix, binaries)))


def _glibc(binary: Path) -> tuple[int, int]:
    found = GLIBC.findall(binary.read_bytes())
    return max(((int(major), int(minor)) for major, minor in found), default=(2, 0))


def _needs(runner: Runner, prefix: Path, binaries: list[Path]) -> Iterator[str]:
    if not shutil.which("ldd"):
        return
    said = runner.run(["ldd", *map(str, binaries)], check=False, timeout_s=LIMIT_S).text
    found = {
        name: path
        for name, path in re.findall(r"^\s+(\S+) => (\S.*?) \(0x", said, re.MULTILINE)
        if not LIBC.match(name)
    }
    yield from sorted(name for name, path in found.items() if not Path(path).resolve().is_relative_to(prefix))


def pack(runner: Runner, python: Portable, archive: Path) -> None:
    """Write a Python into an archive whose one folder is ``python``.

    Raises:
        DevkitError: the disk is full, or what was packed does not run.
    """
    staging = archive.with_name(f".{archive.name}.d")
    try:
        with explained(archive):
            _stage(python, staging / "python")
        program = staging / "python" / "bin" / f"python{python.short}"
        runner.run([str(program), "-I", "-S", "-c", PROOF], timeout_s=LIMIT_S)
        with explained(archive), tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(staging / "python", "python", filter=_nobodys)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stage(python: Portable, target: Path) -> None:
    prefix, short = python.prefix, python.short
    (target / "bin").mkdir(parents=True)
    program = target / "bin" / f"python{short}"
    shutil.copy2(prefix / "bin" / f"python{short}", program)
    for name in ("python", "python3"):
        (target / "bin" / name).symlink_to(program.name)
    ignore = shutil.ignore_patterns(*UNNEEDED)
    shutil.copytree(prefix / "lib" / f"python{short}", target / "lib" / f"python{short}", symlinks=True, ignore=ignore)
    (target / "lib" / f"python{short}" / "site-packages").mkdir()
    include = prefix / "include" / f"python{short}"
    if include.is_dir():
        shutil.copytree(include, target / "include" / include.name, ignore=ignore)
    # A conda's lib holds every package's libraries; a Python's own are linked with some of them.
    own = prefix not in {Path("/usr"), Path("/usr/local")}
    for library in sorted(prefix.glob("lib/*.so*" if own else "lib/libpython3*.so*")):
        if library.is_file():
            shutil.copy2(library, target / "lib" / library.name, follow_symlinks=False)
    for binary in (program, *(target / "lib").glob("libpython3*.so*")):
        if binary.is_file() and not binary.is_symlink():
            _lead_to_own_folder(binary, prefix / "lib")


def _lead_to_own_folder(binary: Path, old: Path) -> None:
    """Let a binary look for its libraries beside itself, where it was linked to look in a folder of this machine."""
    before, after = os.fsencode(old) + b"\0", b"$ORIGIN/../lib"
    data = binary.read_bytes()
    if len(after) < len(before) and before in data:
        binary.write_bytes(data.replace(before, after.ljust(len(before), b"\0")))


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
