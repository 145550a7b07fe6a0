"""What a receiver means to do, by what is offered and what is here: decided before anything of a file is written."""

import os
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from .manifest import FILE, LINK, ManifestEntry
from .messages import NAMED, About, Options, Plan
from .names import collisions, link_stays_inside

IN_THE_WAY = "a folder is in its way"
REPLACED_NAMED = 5
NAMED_BYTES = 1 << 17


class Here(NamedTuple):
    """What is at the place of an entry."""

    size: int = -1  # of a regular file, in bytes; -1 is none
    mtime_ns: int = 0
    mode: int = 0
    part: int = 0  # the bytes of its half-written part
    certain: bool = True  # whether size and time tell what is in it: not where it may not have reached the disk
    why: str = ""  # why nothing can be put there; empty where something can


NOTHING = Here()


class Wanted(NamedTuple):
    """A file that is not here: its number, and the sizes of what may hold some of it."""

    number: int
    part: int
    old: int


class Steps(NamedTuple):
    """What is to be done."""

    wanted: List[Wanted]  # the files that are asked for
    modes: List[int]  # the numbers of files that are here and have another mode
    refusals: Dict[int, str]  # why entries cannot be put here, by number
    deletes: Sequence[Tuple[bytes, bool]]  # the paths that are removed, and whether each is a folder
    needed: int  # the bytes that must be free on the disk
    plan: Plan  # what is said of it


def plan(
    entries: Sequence[ManifestEntry],
    here: Dict[int, Here],
    options: Options,
    about: About,
    extra: Sequence[Tuple[bytes, bool]] = (),
    case_blind: bool = False,
) -> Steps:
    """Return what is to be done.

    ``here`` is what is at the entries' places, by number; ``extra`` what is here and not offered, by path, each with
    whether it is a folder; ``case_blind`` tells that this file system takes ``A`` and ``a`` for one name.
    """
    collide: Set[bytes] = collisions(entry.path for entry in entries) if case_blind else set()
    wanted, modes, refusals = [], [], {}
    have_files = have_bytes = 0
    for index, entry in enumerate(entries):
        found = here.get(index, NOTHING)
        if entry.path in collide:
            refusals[index] = "this file system takes its name for another's"
        elif found.why:
            refusals[index] = found.why
        elif entry.kind == LINK and not (options.unsafe_links or link_stays_inside(entry.path, entry.target)):
            refusals[index] = "a symbolic link that points out"
        elif entry.kind == FILE and is_here(entry, found, options, about.by_version):
            have_files += 1
            have_bytes += entry.size
            if found.mode != entry.mode and not _is_newer(entry, found, options):
                modes.append(index)
        elif entry.kind == FILE:
            wanted.append(Wanted(index, found.part, max(found.size, 0)))
    replaced = [file for file in wanted if file.old]
    said = Plan(
        files=len(wanted),
        bytes=sum(entries[file.number].size for file in wanted),
        begun_bytes=sum(min(file.part, entries[file.number].size) for file in wanted),
        have_files=have_files,
        have_bytes=have_bytes,
        left_out_count=about.left_out_count,
        entries=len(entries),
        names=_first(entries[file.number].path for file in wanted),
        left_out=about.left_out,
        failed=[(entries[index].path, why) for index, why in sorted(refusals.items())[:NAMED]],
        deletes=[path for path, _ in extra[:NAMED]],
        deletes_count=len(extra),
        replaces=[entries[file.number].path for file in replaced[:REPLACED_NAMED]],
        replaces_count=len(replaced),
    )
    needed = sum(max(entries[file.number].allocated - file.part, 0) for file in wanted)
    return Steps(wanted, modes, refusals, extra, needed, said)


def _first(paths: Iterable[bytes]) -> List[bytes]:
    """Return as many paths as a message has room for."""
    room, found = NAMED_BYTES, []
    for path in paths:
        room -= len(path)
        if room < 0:
            break
        found.append(path)
    return found


def is_here(entry: ManifestEntry, found: Here, options: Options, by_second: bool = False) -> bool:
    """Tell whether a file need not come: by its size and time, or since what is here is newer."""
    if found.size < 0:
        return False
    if _is_newer(entry, found, options):
        return True
    unit = 10**9 if by_second else 1
    same = (found.size, found.mtime_ns // unit) == (entry.size, entry.mtime_ns // unit)
    return same and found.certain and not options.checksum


def _is_newer(entry: ManifestEntry, found: Here, options: Options) -> bool:
    return options.update and found.mtime_ns > entry.mtime_ns


def room_on(folder: Union[int, bytes]) -> Tuple[int, int]:
    """Return the bytes that are free on a folder's disk, and those of all of it: 0 where it does not say."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return 0, 0
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def lack_of_room(needed: int, free: int, total: int, reserve: Optional[int] = None) -> str:
    """Return why a disk cannot take so many bytes; empty where it can. What says no size of itself is not asked."""
    stays = min(1 << 26, total // 100) if reserve is None else reserve
    if not total or not needed or needed <= free - stays:
        return ""
    return f"{mib(free)} are free there, and {mib(stays)} stay free."


def mib(count: int) -> str:
    """Return a size as people read it."""
    return f"{count / (1 << 20):.1f} MiB"
