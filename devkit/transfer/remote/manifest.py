"""What is offered: the entries of a manifest, how they travel, and the walk that finds them."""

import errno
import glob
import hashlib
import os
import stat
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from .attributes import Held
from .folders import FOLDER_ALONE, NO_FOLLOW, OPEN_FOLDER
from .messages import NAMED, About, Choice
from .names import PART, Ignore, is_too_long, link_stays_inside, part_name, split
from .wire import Bytes, ProtocolError, Stopped

MAX_ENTRIES = 20 * 1000 * 1000
MAX_SIZE = 1 << 62
MAX_TIME_NS = 1 << 68  # what file systems keep ends centuries before
CHUNK = 1 << 19
FOLDERS_HELD = 64
FILE, FOLDER, LINK, HARD_LINK = "f", "d", "l", "h"
POINTS_OUT = "a symbolic link that points out"
NO_FILE = "a device, pipe or socket"
NO_SIZE = "the kernel makes it when it is read, and it has no size"
MEANT_TO_BE_LEFT_OUT = (POINTS_OUT, NO_FILE)
SHOWN_OF_A_PATH = 400


class ManifestEntry(NamedTuple):
    """A file, folder, symbolic link or further hard link of the manifest."""

    kind: str  # one of ``FILE``, ``FOLDER``, ``LINK``, ``HARD_LINK``
    path: bytes  # below the destination, names joined by slashes
    size: int = 0  # of a file, in bytes
    allocated: int = 0  # what it takes on the sender's disk, less than ``size`` where it is sparse
    mtime_ns: int = 0  # when it was last changed
    mode: int = 0o644  # its permission bits
    target: bytes = b""  # where a symbolic link points; of a hard link, the number of the first entry of its file


class Source(NamedTuple):
    """Where an entry is read from: a folder that was opened, the path below it, and the inode of a file."""

    root: int
    path: bytes
    inode: int = 0


class SourceRoot(NamedTuple):
    """A source: the folder it lies in, which is open, its name there (empty for itself), its name in the manifest.

    Of one that a symbolic link leads to, ``skip`` bytes of a path in the source come before what ``base`` names.
    """

    root: int
    base: bytes
    name: bytes
    skip: int = 0


class Offer(NamedTuple):
    """A manifest and where its entries lie."""

    entries: List[ManifestEntry]
    sources: List[Source]
    left_out: List[Tuple[bytes, str]]
    one_file: bool
    whole: bool = False  # whether all of the destination is offered: a source was a folder's content
    compares: bool = True  # whether the sender compares blocks, and knows times to the nanosecond

    @property
    def about(self) -> About:
        """What is said of it at the manifest's end."""
        left_out = self.left_out[:NAMED]
        return About(self.one_file, left_out, len(self.left_out), self.whole, self.compares, not self.compares)


def version_name(entry: ManifestEntry) -> bytes:
    """Return the temporary name of a file of this size and time: half of it is the name's, half the version's."""
    name = entry.path.rpartition(b"/")[2]
    version = hashlib.sha256(b"%d %d %s" % (entry.size, entry.mtime_ns, name)).hexdigest()[:8].encode()
    return part_name(name)[:-8] + version


def revised(entry: ManifestEntry, status: os.stat_result) -> ManifestEntry:
    """Return an entry as its file is now."""
    allocated = min(status.st_blocks * 512, status.st_size)
    return entry._replace(size=status.st_size, allocated=allocated, mtime_ns=status.st_mtime_ns, mode=_mode(status))


def pack(entry: ManifestEntry) -> bytes:
    """Return an entry as it travels."""
    numbers = f"{entry.kind} {entry.size} {entry.allocated} {entry.mtime_ns} {entry.mode}"
    return b"\0".join((numbers.encode(), entry.path, entry.target, b""))


def chunks(entries: Iterable[ManifestEntry]) -> Iterator[bytes]:
    """Yield the bodies of ENTRIES frames."""
    waiting = bytearray()
    for entry in entries:
        waiting += pack(entry)
        if len(waiting) >= CHUNK:
            yield bytes(waiting)
            waiting = bytearray()
    if waiting:
        yield bytes(waiting)


def unpack(body: Bytes, known: List[ManifestEntry]) -> None:
    """Append the entries of an ENTRIES frame to those that are known, each one proven.

    Raises:
        ProtocolError: an entry is malformed, or its path leads out of the destination.
    """
    fields = bytes(body).split(b"\0")
    if len(fields) % 3 != 1 or fields[-1]:
        raise ProtocolError("a manifest that is cut short")
    if len(known) + len(fields) // 3 > MAX_ENTRIES:
        raise ProtocolError("a manifest of too many entries")
    for at in range(0, len(fields) - 1, 3):
        known.append(_proven(fields[at], fields[at + 1], fields[at + 2], known))


def _proven(numbers: bytes, path: bytes, target: bytes, known: List[ManifestEntry]) -> ManifestEntry:
    try:
        kind, size, allocated, mtime_ns, mode = numbers.decode("ascii").split(" ")
        entry = ManifestEntry(kind, path, int(size), int(allocated), int(mtime_ns), int(mode) & 0o777, target)
    except ValueError as error:
        raise ProtocolError("an entry that does not parse") from error
    split(path)
    possible = 0 <= entry.size <= MAX_SIZE and abs(entry.mtime_ns) <= MAX_TIME_NS
    if kind not in (FILE, FOLDER, LINK, HARD_LINK) or not possible:
        raise ProtocolError("an entry of no kind or size")
    if kind == LINK and not target:
        raise ProtocolError("a link that points nowhere")
    if kind == HARD_LINK and not (target.isdigit() and int(target) < len(known) and known[int(target)].kind == FILE):
        raise ProtocolError("a hard link to what is not a file")
    return entry


def take_revised(entry: ManifestEntry, said: Dict[str, Any]) -> ManifestEntry:
    """Return an entry of which the sender says that it is another version by now.

    Raises:
        ProtocolError: it says what is not one.
    """
    numbers = [said.get(key) for key in ("size", "allocated", "mtime_ns", "mode")]
    if entry.kind != FILE or any(type(number) is not int for number in numbers):
        raise ProtocolError("a version that is none")
    packed = "{} {} {} {} {}".format(FILE, *numbers).encode()
    return _proven(packed, entry.path, b"", [])


def describe(paths: List[bytes], choice: Choice) -> Offer:
    """Find what is offered.

    Wildcards that no name here has are resolved. A folder that ends with a slash, or in ``.`` or ``..``, offers what is
    in it; any other, itself.

    Raises:
        Stopped: there is no such file, or two would land on one name.
    """
    walk = _Walk(choice)
    if choice.only is not None:
        if len(paths) != 1 or not os.path.isdir(paths[0]):
            raise Stopped("a list of files needs one folder that they are in", "Its paths begin there.")
        paths = [paths[0].rstrip(b"/") + b"/"]
    found = [line for path in paths for line in expand(path)]
    for path in found:
        try:
            walk.add(path)
        except Stopped as error:
            if len(found) == 1:
                raise
            walk.left_out.append((path[:SHOWN_OF_A_PATH], error.why.rstrip(".").lower()))
    if found and not walk.entries and walk.left_out and not walk.added:
        raise Stopped("nothing can be read", f"{os.fsdecode(walk.left_out[0][0])}: {walk.left_out[0][1]}.")
    walk.left_out += [(path[:SHOWN_OF_A_PATH], "it is not there") for path in sorted(walk.missing)]
    walk.left_out.sort(key=is_meant)
    seen = set()
    for entry in walk.entries:
        if entry.path in seen:
            raise Stopped(f"{os.fsdecode(entry.path)} is offered twice", "Two sources have the same name.")
        seen.add(entry.path)
    one_file = len(found) == 1 and len(walk.entries) == 1 and walk.entries[0].kind == FILE and walk.plain
    return Offer(walk.entries, walk.sources, walk.left_out, one_file, walk.whole)


def describe_open(places: Iterable[SourceRoot], choice: Optional[Choice] = None) -> Offer:
    """Return what places that are open offer; a folder without a name there offers what is in it."""
    walk = _Walk(choice or Choice())
    for place in places:
        try:
            walk.add_open(place)
        except OSError as error:
            raise Stopped(f"{os.fsdecode(place.name)} cannot be read", f"{error.strerror}.") from error
    walk.left_out.sort(key=is_meant)
    one_file = len(walk.entries) == 1 and walk.entries[0].kind == FILE and walk.plain
    return Offer(walk.entries, walk.sources, walk.left_out, one_file)


def expand(path: bytes) -> List[bytes]:
    """Return what a path with wildcards names; one that exists names itself."""
    path = path or b"."
    if os.path.lexists(path) or not glob.has_magic(os.fsdecode(path)):
        return [path]
    found = sorted(glob.glob(path))
    if not found:
        raise Stopped(f"nothing matches {os.fsdecode(path)}", "No name there fits the pattern.")
    return found


class _Folder(NamedTuple):
    """A folder of a source that is open, its path in the source and a slash; in a repository, what is ignored there."""

    place: SourceRoot
    descriptor: int
    below: bytes
    around: bytes
    ignored: Ignore


class _Walk:
    def __init__(self, choice: Choice) -> None:
        self.entries: List[ManifestEntry] = []
        self.sources: List[Source] = []
        self.left_out: List[Tuple[bytes, str]] = []
        self.plain = False
        self.whole = False
        self._exclude = Ignore(choice.exclude)
        self._gitignore = choice.gitignore
        self._unsafe_links = choice.unsafe_links
        self._copy_links = choice.copy_links
        listed = None if choice.only is None else [os.path.normpath(path) for path in choice.only if path]
        self._only = None if listed is None else set(listed)
        self._above = {path[:at] for path in listed or () for at in range(len(path)) if path[at : at + 1] == b"/"}
        self.missing = set(listed or ()) - {b"."}
        self._within: List[Tuple[int, int]] = []
        self.added: Set[Tuple[bytes, bytes]] = set()
        self._roots: Dict[bytes, int] = {}
        self._inodes: dict[Tuple[int, int], int] = {}

    def add(self, path: bytes) -> None:
        """Add a source, unless it was added before or is left out by its name."""
        try:
            status = os.stat(path)
            real = os.path.realpath(path)
            is_folder = stat.S_ISDIR(status.st_mode)
            name = os.path.basename(path)
            name = b"" if is_folder and name in (b".", b"..") else name
            if (real, name) in self.added or (name and self._exclude.leaves_out(name, is_folder)):
                return
            if not is_folder and not stat.S_ISREG(status.st_mode):
                raise Stopped(f"{os.fsdecode(path)} cannot be sent", f"It is {NO_FILE}.")
            self.added.add((real, name))
            self.whole = self.whole or not name
            self.add_open(
                self._place(real, name),
                *(repository_rules(real) if self._gitignore and is_folder else ()),
            )
        except OSError as error:
            raise Stopped(f"{os.fsdecode(path)} cannot be read", f"{error.strerror}.") from error

    def add_open(self, place: SourceRoot, around: bytes = b"", rules: Optional[Ignore] = None) -> None:
        """Add the file or folder at a place."""
        status = os.stat(place.base or b".", dir_fd=place.root, follow_symlinks=False)
        self.plain = not stat.S_ISDIR(status.st_mode)
        if self.plain:
            self._file(status, place, place.name, b"")
            return
        with Held(os.open(place.base or b".", OPEN_FOLDER, dir_fd=place.root)) as folder:
            if place.name:
                self._keep(_folder_entry(place.name, status), place, b"")
            self._folder(_Folder(place, folder, b"", around, rules or Ignore()))

    def _place(self, real: bytes, name: bytes) -> SourceRoot:
        """Return where a source lies: in its folder, or below the root of all where that is one folder too many."""
        folder, base = os.path.split(real) if name else (real, b"")
        if folder in self._roots or len(self._roots) < FOLDERS_HELD:
            return SourceRoot(self._root(folder), base, name)
        return SourceRoot(self._root(b"/"), real.lstrip(b"/"), name)

    def _root(self, folder: bytes) -> int:
        if folder not in self._roots:
            self._roots[folder] = os.open(folder, FOLDER_ALONE | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._roots[folder]

    def _keep(self, entry: ManifestEntry, place: SourceRoot, inside: bytes, inode: int = 0) -> None:
        self.entries.append(entry)
        self.sources.append(Source(place.root, _join(place.base, inside[place.skip :]), inode))

    def _folder(self, at: _Folder) -> None:
        names = sorted(os.fsencode(name) for name in os.listdir(at.descriptor))
        if self._gitignore and b".gitignore" in names:
            at = at._replace(ignored=at.ignored.copy())
            at.ignored.add(at.around + at.below, _lines(at.descriptor))
        here = os.fstat(at.descriptor)
        self._within.append((here.st_dev, here.st_ino))
        for name in names:
            if PART.match(name) or not self._is_listed(at.below + name):
                continue
            try:
                self._add(at, name)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR):
                    raise
                if error.errno != errno.ENOENT:
                    self.left_out.append((_join(at.place.name, at.below + name), error.strerror or "cannot be read"))
        self._within.pop()

    def _add(self, at: _Folder, name: bytes) -> None:
        inside = at.below + name
        path = _join(at.place.name, inside)
        status = os.stat(name, dir_fd=at.descriptor, follow_symlinks=False)
        is_folder = stat.S_ISDIR(status.st_mode)
        # What the user excludes, or keeps with ``!``, goes before .gitignore.
        excluded = self._exclude.verdict(inside, is_folder)
        if at.ignored.leaves_out(at.around + inside, is_folder) if excluded is None else excluded:
            return
        if is_too_long(path):
            self.left_out.append((path[:SHOWN_OF_A_PATH], "its path is too long"))
        elif is_folder:
            self._enter(at, name, at.place, status, OPEN_FOLDER)
        elif stat.S_ISLNK(status.st_mode) and self._copy_links:
            self._follow(at, name, path)
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=at.descriptor)
            if self._unsafe_links or link_stays_inside(path, target):
                self._keep(ManifestEntry(LINK, path, mtime_ns=status.st_mtime_ns, target=target), at.place, inside)
            else:
                self.left_out.append((path, POINTS_OUT))
        else:
            self._file(status, at.place, path, inside)

    def _enter(self, at: _Folder, name: bytes, place: SourceRoot, status: os.stat_result, flags: int) -> None:
        inside = at.below + name
        with Held(os.open(name, flags, dir_fd=at.descriptor)) as inner:
            self._keep(_folder_entry(_join(place.name, inside), status), place, inside)
            self._folder(at._replace(place=place, descriptor=inner, below=inside + b"/"))

    def _follow(self, at: _Folder, name: bytes, path: bytes) -> None:
        """Offer what a symbolic link leads to in its place."""
        try:
            status = os.stat(name, dir_fd=at.descriptor)
        except FileNotFoundError:
            self.left_out.append((path, "a symbolic link that leads nowhere"))
            return
        inside = at.below + name
        real = os.path.realpath(b"/proc/self/fd/%d/%s" % (at.descriptor, name))
        is_folder = stat.S_ISDIR(status.st_mode)
        there = SourceRoot(self._root(b"/"), real[1:], at.place.name, len(inside) + is_folder)
        if not is_folder:
            self._file(status, there, path, inside)
        elif (status.st_dev, status.st_ino) in self._within:
            self.left_out.append((path, "a symbolic link to a folder that it is in"))
        else:
            self._enter(at, name, there, status, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _is_listed(self, inside: bytes) -> bool:
        """Tell whether a path is one of those that alone are offered, below one, or above one."""
        self.missing.discard(inside)
        if self._only is None or inside in self._above or b"." in self._only:
            return True
        return any(inside[:at] in self._only for at in range(len(inside) + 1) if inside[at : at + 1] in (b"/", b""))

    def _file(self, status: os.stat_result, place: SourceRoot, path: bytes, inside: bytes) -> None:
        if not stat.S_ISREG(status.st_mode):
            self.left_out.append((path, NO_FILE))
            return
        if _is_made_when_read(status, place, inside):
            self.left_out.append((path, NO_SIZE))
            return
        if status.st_nlink > 1:
            first = self._inodes.setdefault((status.st_dev, status.st_ino), len(self.entries))
            if first != len(self.entries):
                self._keep(ManifestEntry(HARD_LINK, path, target=b"%d" % first), place, inside)
                return
        allocated = min(status.st_blocks * 512, status.st_size)
        entry = ManifestEntry(FILE, path, status.st_size, allocated, status.st_mtime_ns, _mode(status))
        self._keep(entry, place, inside, status.st_ino)


def _is_made_when_read(status: os.stat_result, place: SourceRoot, inside: bytes) -> bool:
    """Tell whether a file that says it is empty is not, as those of /proc."""
    if status.st_size or status.st_blocks or os.major(status.st_dev):
        return False
    try:
        path = _join(place.base, inside[place.skip :])
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=place.root)
    except OSError:
        return False
    try:
        return bool(os.read(descriptor, 1))
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _join(above: bytes, below: bytes) -> bytes:
    return above + b"/" + below if above and below else above or below


def _folder_entry(path: bytes, status: os.stat_result) -> ManifestEntry:
    return ManifestEntry(FOLDER, path, mtime_ns=status.st_mtime_ns, mode=_mode(status))


def _mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode) & 0o777


def is_meant(left_out: Tuple[bytes, str]) -> bool:
    """Tell whether something is left out on purpose; else it could not be read."""
    return left_out[1] in MEANT_TO_BE_LEFT_OUT


def _lines(folder: int, name: bytes = b".gitignore") -> List[bytes]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=folder)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return []
        return file.read(1 << 20).splitlines()


def repository_rules(real: bytes) -> Tuple[bytes, Ignore]:
    """Return a folder's path in the git repository around it, a slash at its end, and what is ignored from above it."""
    rules = Ignore()
    above: List[bytes] = []
    top = real
    while not os.path.lexists(os.path.join(top, b".git")):
        top, name = os.path.split(top)
        if not name:
            return b"", rules
        above.insert(0, name)
    with Held(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as folder:
        rules.add(b"", _lines(folder, b".git/info/exclude"))
        at = b""
        for name in above:
            rules.add(at, _lines(folder, at + b".gitignore"))
            at += name + b"/"
    return at, rules
