"""The cache carried to another machine: what a build needs of it in one file, and what such a file adds to a cache."""

from __future__ import annotations

import os
import shlex
import shutil
import tarfile
from typing import TYPE_CHECKING

from devkit.builds import archives, checkout
from devkit.builds.deps import FETCH_LIMIT_S, NAMES_FILE, URL_FILE, Fetcher, asked_names, bare, home, wanted
from devkit.errors import DevkitError
from devkit.files import explained, replacing, write_atomically
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.process import Finished

TAR_END = 1024
SETTINGS = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[uploadpack]\n\tallowAnySHA1InWant = true\n"


def needed(app: App, root: Path, taken: Sequence[archives.Archive], words: Sequence[str] = ()) -> list[Path]:
    """Return the parts of the cache that a checkout and the archives of its build need, nested submodules too.

    Archives that the build may do without are left out where the cache has none of them; ``words`` are the flags of
    its options.

    Raises:
        DevkitError: some are not there.
    """
    fetcher = Fetcher(app, root, 1)
    waiting = wanted(app, root)
    kept = [archive for archive in taken if archive.keepable and archive.kept.is_file()]
    found = {path for archive in kept for path in archives.files(archive)}
    missing = [archive.name for archive in taken if archive.keepable and archive.always and archive not in kept]
    while waiting:
        repository = waiting.pop()
        if fetcher.has(repository):
            found.add(bare(repository.url))
            waiting += fetcher.nested(repository)
        else:
            missing.append(repository.path)
    if missing:
        what = f"{missing[0]} is not in the cache" + (f", nor are {len(missing) - 1} more" if len(missing) > 1 else "")
        raise DevkitError(what, "", shlex.join(["devkit", "build", "deps", *words]))
    return sorted(found)


def export(paths: Iterable[Path], target: Path) -> int:
    """Write parts of the cache into one file, and return its size.

    Raises:
        DevkitError: it cannot be written.
    """
    with explained(target), replacing(target) as unfinished, tarfile.open(unfinished, "w") as archive:
        for path in paths:
            archive.add(path, arcname=str(path.relative_to(home())))
    return target.stat().st_size


def take_in(app: App, source: Path) -> tuple[int, int]:
    """Take what ``export`` wrote into the cache, and return how many repositories and archives came.

    What is in the cache already stays, and a repository gets the commits that it lacks. An archive whose MD5 is not its
    name's is refused. Of a repository only what it holds comes: neither settings nor hooks nor links to other objects.

    Raises:
        DevkitError: the file is none of ``export``'s.
    """
    if not source.exists():
        raise DevkitError(
            f"there is no {source}", "", "devkit build deps export FILE   writes one, where there is a network"
        )
    if tarfile.is_tarfile(source) and not is_whole(source):
        why = "Its end is not that of an archive: the copy was cut off."
        raise DevkitError(f"{source} is not whole", why, "devkit build deps export FILE   and copy it again")
    room = home() / f".import-{os.getpid()}"
    try:
        with tarfile.open(source) as archive, explained(home()):
            room.mkdir(parents=True)
            archive.extractall(room, filter="data")
        return _sorted_in(app, room)
    except (OSError, tarfile.TarError) as error:
        raise DevkitError(
            f"{source} is not an export of devkit's", redact(str(error)), "devkit build deps export FILE"
        ) from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def is_whole(source: Path) -> bool:
    """Tell whether an archive ends as tar ends one: by two blocks of zeros."""
    with explained(source), source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - TAR_END))
        return file.read() == bytes(TAR_END)


def _sorted_in(app: App, room: Path) -> tuple[int, int]:
    for path in sorted((room / "archives").glob("*")):
        if path.suffix != archives.SEEN and archives.broken(path):
            what = f"{path.name} is broken in this export"
            raise DevkitError(what, "Its MD5 is not the one that it was kept under.", "devkit build deps export FILE")
    counts = {"git": 0, "archives": 0}
    for kind in counts:
        (home() / kind).mkdir(parents=True, exist_ok=True)
        for path in sorted((room / kind).glob("*")):
            place = home() / kind / path.name
            if kind == "git":
                _disarm(path)
            if kind == "git" and (place / URL_FILE).is_file():
                counts[kind] += _merged(app, path, place)
            elif kind == "git" or (path.suffix != archives.SEEN and (not place.is_file() or archives.broken(place))):
                _replace(path, place)
                counts[kind] += 1
    return counts["git"], counts["archives"]


def _disarm(repository: Path) -> None:
    (repository / "config").write_text(SETTINGS, "utf-8")
    shutil.rmtree(repository / "hooks", ignore_errors=True)
    (repository / "objects" / "info" / "alternates").unlink(missing_ok=True)


def _replace(path: Path, place: Path) -> None:
    if place.is_dir():  # a fetch that never ended
        shutil.rmtree(place)
    if archives.seen(path).is_file():
        archives.seen(path).replace(archives.seen(place))
    path.replace(place)


def _merged(app: App, source: Path, place: Path) -> bool:
    """Give a repository of the cache what another one of its address has besides; tell whether that was anything."""

    def git(folder: Path, *words: str) -> Finished:
        environ = {**checkout.clean_environ(), "LC_ALL": "C"}
        return app.runner.run(["git", "-C", str(folder), *words], env=environ, timeout_s=FETCH_LIMIT_S)

    if set(git(source, "for-each-ref").text.splitlines()) <= set(git(place, "for-each-ref").text.splitlines()):
        return False
    both = "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"
    git(place, "fetch", "-q", "--update-shallow", "--update-head-ok", "--", f"file://{source}", *both)
    names = "".join(f"{name}\n" for name in sorted({*asked_names(source), *asked_names(place)}))
    write_atomically(place / NAMES_FILE, names.encode())
    return True
