"""The third-party archives that a build takes under its options, where it looks for them, and the cache's copies.

One whose MD5 the tree names is kept under that. One without is kept under its address, with the MD5 that was first
seen beside it: whether it is the right one nobody can tell, but that it is still the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import templates
from devkit.builds.cmake.reading import downloads
from devkit.files import digest_of, explained, replacing, write_atomically
from devkit.kernels.machine import features
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MACHINE = {"x86_64", "AMD64"}
# What Paddle asks the processor for, and what Linux calls it.
FLAGS = {"MMX": "mmx", "SSE2": "sse2", "SSE3": "pni", "AVX": "avx", "AVX2": "avx2", "AVX512F": "avx512f"}
WGET_SHIM = Path(".devkit") / "bin" / "wget"
UNNAMED = "url."
SEEN = ".md5"


@dataclass(frozen=True)
class Archive:
    """A third-party archive that a build takes.

    Attributes:
        expected: the MD5s that the tree names; none where it takes whatever comes.
        place: the file that the build looks for; empty where that cannot be told.
        here: its file where it is already there, and ``md5`` of that.
        always: whether these options surely take it; else only a configure knows.
        by: who fetches it: ``file`` and ``project`` are CMake's ways, else it is a program.
        fetched: whether the build folder's own mark says that it has been fetched.
    """

    name: str
    url: str
    expected: tuple[str, ...]
    place: str = ""
    here: Path | None = None
    md5: str = ""
    always: bool = True
    by: str = "file"
    fetched: bool = False

    @property
    def there(self) -> bool:
        """Whether the build has it already."""
        return self.fetched or self.md5 in self.expected

    @property
    def wrong(self) -> bool:
        """Whether a file is in its place that the tree will not take."""
        return self.here is not None and bool(self.expected) and self.md5 not in self.expected

    @property
    def keepable(self) -> bool:
        """Whether a copy can stand in for it: CMake fetches anew whatever has no sum."""
        return bool(self.expected) or self.by == "wget"

    @property
    def kept(self) -> Path:
        """Where the cache keeps it."""
        mark = self.expected[0] if self.expected else UNNAMED + digest(self.url.encode())
        return home() / f"{mark}-{self.name}"


def home() -> Path:
    """Return the cache's folder of archives."""
    return cache_home() / "paddle-deps" / "archives"


def digest(data: bytes) -> str:
    """Return the MD5 of some bytes, by which the tree names archives."""
    return hashlib.md5(data).hexdigest()  # noqa: S324 - the sum that the tree names


def seen(kept: Path) -> Path:
    """Return the file that holds the MD5 with which an archive without one first came."""
    return kept.with_name(kept.name + SEEN)


def broken(kept: Path) -> str:
    """Return what is wrong with a file of the cache; empty where it is what its name or the note beside it says."""
    found = digest_of(kept, "md5")
    named = kept.name.partition("-")[0]
    if named.startswith(UNNAMED):
        with contextlib.suppress(OSError):
            named = seen(kept).read_text("utf-8").strip()
    return "" if found == named else f"{kept} is broken: its MD5 is {found}"


def note(kept: Path, md5: str) -> None:
    """Keep the MD5 with which an archive came that the tree names none for."""
    write_atomically(seen(kept), f"{md5}\n".encode())


def files(archive: Archive) -> list[Path]:
    """Return what the cache keeps of an archive, or would."""
    return [archive.kept] if archive.expected else [archive.kept, seen(archive.kept)]


def processor() -> dict[str, str]:
    """Return what a configure will find out about this processor; of its instructions nothing where nobody tells."""
    machine = platform.machine()
    found = {"CMAKE_SYSTEM_PROCESSOR": machine, "CMAKE_HOST_SYSTEM_PROCESSOR": machine}
    if machine not in MACHINE:
        return found | {f"{name}_FOUND": "" for name in FLAGS}
    has = features()
    return found | ({f"{name}_FOUND": "1" if flag in has else "" for name, flag in FLAGS.items()} if has else {})


def archives(root: Path, build: Path, options: Mapping[str, str]) -> list[Archive]:
    """Return the archives that a configure with these options and the build after it take, by name.

    Args:
        root: the checkout.
        build: the build folder, which may not be there yet.
        options: what CMake is given.
    """
    found: dict[tuple[str, str], Archive] = {}
    for download in downloads(root, build, options, facts=processor(), environ=os.environ):
        key = download.url, download.place
        expected = ((download.md5,) if download.md5 else ()) + (found[key].expected if key in found else ())
        place = Path(download.place)
        here = place if download.place and expected and place.is_file() else None
        found[key] = Archive(
            name=download.url.rpartition("/")[2] or "index",
            url=download.url,
            expected=tuple(dict.fromkeys(expected)),
            place=download.place if place.is_absolute() else "",
            here=here,
            md5=digest_of(here, "md5") if here else "",
            always=download.certain or (key in found and found[key].always),
            by=download.by,
            fetched=bool(download.stamp) and Path(download.stamp).is_file(),
        )
    return sorted(found.values(), key=lambda archive: archive.name)


def put(archive: Archive) -> None:
    """Put an archive of the cache where the build looks for it, unless it has it.

    What a program fetches comes by the stand-in instead.
    """
    if not archive.place or archive.there or archive.by not in {"file", "project"} or not archive.expected:
        return
    place = Path(archive.place)
    with explained(place), replacing(place) as unfinished:
        shutil.copyfile(archive.kept, unfinished)


def place(build: Path, found: Sequence[Archive]) -> None:
    """Put the archives that the cache has where the build looks for them, and the shim of ``wget``."""
    for archive in found:
        if archive.kept.is_file():
            put(archive)
    wget_shim(build, found)


def wget_shim(build: Path, found: Sequence[Archive]) -> None:
    """Write the shim that stands before ``wget`` in a build, where that fetches archives; else remove it."""
    path = build / WGET_SHIM
    fetched = [archive for archive in found if archive.by == "wget" and archive.keepable]
    with explained(path):
        if not fetched:
            path.unlink(missing_ok=True)
            return
        cases = "\n".join(
            f"  {shlex.quote(archive.url)}) kept={shlex.quote(str(archive.kept))} ;;" for archive in fetched
        )
        real = shutil.which("wget")
        line = f'exec {shlex.quote(real)} "$@"' if real else "echo 'wget: not found' >&2\nexit 127"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = templates.text("wget.sh").replace("@CASES@", cases).replace("@REAL@", line)
        write_atomically(path, text.encode(), mode=0o755)


def variables(build: Path, path: str) -> dict[str, str]:
    """Return the variable by which a build's programs find what stands in for ``wget``, where something does."""
    own = build / WGET_SHIM
    return {"PATH": os.pathsep.join([str(own.parent), path])} if own.is_file() else {}
