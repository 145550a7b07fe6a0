"""The receiver: it compares the manifest with what it has, asks for the rest, and writes it whole or not at all."""

import contextlib
import errno
import os
import stat
import time
import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from .attributes import Attributes
from .commit import Commit
from .deleting import not_offered, remove
from .durability import Finished, Syncer, copy_range, ignores_case, open_part, sync_folders
from .folders import (
    FOLDER_ALONE,
    OPEN_FOLDER,
    Folders,
    Staging,
    booted_at,
    let_write,
    names_folder,
    open_folder,
    stash,
)
from .manifest import FILE, FOLDER, ManifestEntry, take_revised, unpack
from .names import PART, collisions, folded, part_name, split
from .requests import Basis, Requests, Wanted, regular_size
from .wire import (
    BLOCK,
    CHANGED,
    DATA,
    ENTRIES,
    ENTRIES_END,
    FAILED,
    GONE,
    HOLE,
    PIECE,
    PLAN,
    RANGE,
    RESULT,
    REVISED,
    SAME,
    Channel,
    ProtocolError,
    Stopped,
    as_object,
    digests,
    failure,
    parse,
    sums,
    text,
)
from .writing import DIRECT_FROM, Writer

SMALL = 1 << 18
SYNC_EVERY = 1 << 26
ATTEMPTS = 4
FAILURES_NAMED = 100
CHANGED_NAMED = 5
REPLACED_NAMED = 5
FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENFILE, errno.EMFILE)


class Options(NamedTuple):
    """How to take.

    Attributes:
        checksum: compare the content of files whose size and time are the same.
        dry_run: stop after the plan.
        unsafe_links: make symbolic links that point out of the destination.
        delete: remove what is not offered from the folders that are offered whole.
        keep: patterns, as gitignore has them, of what is not removed.
        update: leave what is newer here.
        backup: keep what is replaced or removed, under its name and a tilde.
        reserve: the bytes of the disk that must stay free; None is 64 MiB, or a hundredth of a small disk.
    """

    checksum: bool = False
    dry_run: bool = False
    unsafe_links: bool = False
    delete: bool = False
    keep: Sequence[bytes] = ()
    update: bool = False
    backup: bool = False
    reserve: Optional[int] = None


class Incoming:
    """A file that is arriving, in order but for blocks that are asked for again."""

    def __init__(self, entry: ManifestEntry, basis: Optional[Basis]) -> None:
        self.entry = entry
        self.basis = basis
        self.part = basis.part if basis else -1
        self.old = basis.old if basis else -1
        self.written = basis.part_size if basis else 0  # beyond it the part holds nothing but zeros
        self.next = 0
        self.bad: Dict[int, int] = {}
        self.unsynced = 0
        self.failed = False

    def close(self) -> None:
        """Close what is open."""
        for descriptor in (self.part, self.old):
            if descriptor >= 0:
                os.close(descriptor)
        self.part = self.old = -1


class Receiver:
    """Takes a manifest's entries into a folder.

    Args:
        channel: the connection.
        destination: the folder, or for one file its new name.
        digest: the name of the hash that blocks are compared by.
        checksum: the name of the checksum that blocks carry.
        options: how.
        on_plan: called with the plan, before anything is written but folders.
        on_taken: called with the bytes of the files that arrived or were found here.
    """

    uses_staging = True

    def __init__(
        self,
        channel: Channel,
        destination: bytes,
        digest: str,
        checksum: str,
        options: Optional[Options] = None,
        on_plan: Optional[Callable[[Dict[str, Any]], None]] = None,
        on_taken: Optional[Callable[[int], None]] = None,
    ) -> None:
        self.channel = channel
        self.options = options or Options()
        self._destination = destination
        self._sum = sums()[checksum]
        self._on_plan = on_plan or (lambda _plan: None)
        self._on_taken = on_taken or (lambda _count: None)
        self._entries: List[ManifestEntry] = []
        self._failures: Dict[int, str] = {}
        self._changed: Set[int] = set()
        self._deleted = 0
        self._attributes = Attributes()
        self._active: Dict[int, Incoming] = {}
        self._requests = Requests(channel, self._entries, digests()[digest])
        self._writer = Writer()
        self._staging = Staging(self.uses_staging and not self.options.dry_run)
        self._booted_at = booted_at()
        self._root_is_new = False
        self._above = (-1, b"")  # where an staging root lies, and its name there
        self._granted: Set[Tuple[bytes, int]] = set()
        self._attempts: Dict[Tuple[int, int], int] = {}
        self._counts = dict.fromkeys(("files", "bytes", "same_bytes", "have_files", "have_bytes", "again_bytes"), 0)

    def run(self) -> Dict[str, Any]:
        """Take everything and return what came of it, which the sender was told too.

        Raises:
            ProtocolError: the sender said what no honest end says, or the connection ended.
            Stopped: the disk is full, or the destination is none.
        """
        began = time.monotonic()
        about = self._manifest()
        root = -1
        folders = None
        try:
            root = self._root(bool(about.get("one_file")))
            folders = Folders(root, not self.options.dry_run, self._staging) if root >= 0 else None
            if folders is not None and self._root_is_new:
                folders.made.add(b"")
            wanted = self._compare(folders)
            extra = self._extra(folders, about)
            self._announce(root, wanted, about, [path for path, _ in extra])
            if not self.options.dry_run and folders is not None:
                self._take(folders, wanted)
                # Not after anything failed, here or there: what could not be read might be what is still needed.
                if not self._failures and not about.get("left_out_count"):
                    self._deleted = sum(
                        remove(folders, path, is_folder, self.options.backup) for path, is_folder in extra
                    )
            failed = [[text(self._entries[i].path), why] for i, why in sorted(self._failures.items())[:FAILURES_NAMED]]
            result = dict(
                self._counts,
                failed=failed,
                failed_count=len(self._failures),
                seconds=time.monotonic() - began,
                deleted=self._deleted,
                remarks=self._remarks(),
            )
            self.channel.send_json(RESULT, result)
        except OSError as error:
            where = os.fsdecode(self._destination) or "."
            raise Stopped(f"{where} cannot be written", f"{error.strerror}.") from error
        else:
            return result
        finally:
            if folders is not None:
                folders.close()
            self._staging.close()
            for descriptor in (root, self._above[0]):
                if descriptor >= 0:
                    os.close(descriptor)

    def _remarks(self) -> List[str]:
        """Return what deserves a look though all arrived."""
        changed = [os.fsdecode(self._entries[i].path) for i in sorted(self._changed) if i < len(self._entries)]
        named = ", ".join(changed[:CHANGED_NAMED]) + (" …" if len(changed) > CHANGED_NAMED else "")
        said = [f"{named} changed while it was read: as much as it held at first is here"]
        return [text(os.fsencode(line)) for line in (said if changed else []) + self._attributes.remarks()]

    def _manifest(self) -> Dict[str, Any]:
        while True:
            kind, body = self.channel.receive()
            if kind == ENTRIES:
                unpack(body, self._entries)
            elif kind == ENTRIES_END:
                return as_object(body)
            elif kind == FAILED:
                raise failure(body)
            else:
                raise ProtocolError(f"a frame of kind {kind} in the manifest")

    def _root(self, one_file: bool) -> int:
        """Return the descriptor of the folder that everything lands in, or -1 where a dry run finds none."""
        path = self._destination or b"."
        if one_file and len(self._entries) == 1 and not os.path.isdir(path) and not path.endswith(b"/"):
            path, name = os.path.split(path)
            split(name)
            self._entries[0] = self._entries[0]._replace(path=name)
        try:
            if not self.options.dry_run and (one_file or not self._begins(path.rstrip(b"/"))):
                os.makedirs(path or b".", exist_ok=True)
            if self._staging.names:
                return os.open(self._staging.names[b""], OPEN_FOLDER, dir_fd=self._above[0])
            return open_folder(path or b".")
        except FileNotFoundError:
            if self.options.dry_run:
                return -1
            raise
        except (FileExistsError, NotADirectoryError) as error:
            raise Stopped(f"{os.fsdecode(path)} is not a folder", "A file is in its way.") from error
        except OSError as error:
            what = "{} cannot be written".format(os.fsdecode(path or b"."))
            raise Stopped(what, f"{error.strerror}.") from error

    def _begins(self, path: bytes) -> bool:
        """Make the folder that everything lands in under a temporary name, where there is none."""
        above, name = os.path.split(path)
        if os.path.lexists(path) or name in (b"", b".", b".."):
            return False
        os.makedirs(above or b".", exist_ok=True)
        parent = os.open(above or b".", FOLDER_ALONE | os.O_DIRECTORY | os.O_CLOEXEC)
        self._above = parent, name
        fresh = self._staging.begin(parent, b"", name, 0o777)
        self._root_is_new = bool(fresh)
        return fresh is not None

    def _fail(self, index: int, reason: str) -> None:
        self._failures.setdefault(index, reason)

    def _refuse(self, index: int, error: OSError) -> None:
        """Note why an entry cannot be written; where nothing else could be either, stop."""
        if error.errno in FATAL:
            what = f"{os.fsdecode(self._entries[index].path)} cannot be written"
            raise Stopped(what, f"{error.strerror}.") from error
        reason = {
            errno.ELOOP: "a symbolic link is in its way",
            errno.ENOTDIR: "no folder, or a symbolic link, is in its way",
            errno.EISDIR: "a folder is in its way",
        }
        self._fail(index, reason.get(error.errno or 0, error.strerror or "cannot be written"))

    def _compare(self, folders: Optional[Folders]) -> List[Wanted]:
        """Make the folders, and return the files that are not here as they are offered."""
        wanted = []
        self._refuse_collisions(folders)
        if folders is not None and b"" in self._staging.begun:
            self._stash_what_is_not_offered(folders, b"")
        for index, entry in enumerate(self._entries):
            if index in self._failures:
                continue
            try:
                if entry.kind == FOLDER and folders is not None:
                    self._make_folder(folders, entry.path)
                elif entry.kind == FILE:
                    found = self._here(entry, folders)
                    if found is None:
                        self._counts["have_files"] += 1
                        self._counts["have_bytes"] += entry.size
                    else:
                        wanted.append(Wanted(index, *found))
            except FileNotFoundError:
                if entry.kind == FILE:
                    wanted.append(Wanted(index, 0, 0))
            except OSError as error:
                self._refuse(index, error)
        return wanted

    def _refuse_collisions(self, folders: Optional[Folders]) -> None:
        refused = collisions(entry.path for entry in self._entries)
        if refused and folders is not None and ignores_case(folders.root):
            for index, entry in enumerate(self._entries):
                if entry.path in refused:
                    self._fail(index, "this file system takes its name for another's")

    def _make_folder(self, folders: Folders, path: bytes) -> None:
        folder = folders.folder(path)
        if not self.options.dry_run:
            let_write(folder)
        if path in self._staging.begun:
            self._stash_what_is_not_offered(folders, path)

    def _stash_what_is_not_offered(self, folders: Folders, top: bytes) -> None:
        """Hide what an earlier transfer left in an staging folder, and is not offered now, or is of another kind."""
        offered: Dict[str, bool] = {}
        inside = top + b"/" if top else b""
        for entry in self._entries:
            path, is_folder = entry.path, entry.kind == FOLDER
            while path.startswith(inside) and path and folded(path) not in offered:
                offered[folded(path)] = is_folder
                path, is_folder = path.rpartition(b"/")[0], True
        paths = [top]
        while paths:
            above = paths.pop()
            let_write(folders.folder(above))
            for name in map(os.fsencode, os.listdir(folders.folder(above))):
                path = above + b"/" + name if above else name
                is_folder = names_folder(folders.folder(above), name)
                if offered.get(folded(path)) is not is_folder and not PART.match(name):
                    stash(folders.folder(above), name, is_folder)
                elif is_folder and not PART.match(name):
                    paths.append(path)

    def _here(self, entry: ManifestEntry, folders: Optional[Folders]) -> Optional[Tuple[int, int]]:
        """Return None where the file is here, else the sizes of its part and of its older version."""
        if folders is None:
            return 0, 0
        above, _, name = entry.path.rpartition(b"/")
        if above in folders.made:
            return 0, 0
        folder = folders.folder(above)
        old = regular_size(folder, name)
        if old is None and names_folder(folder, name):
            raise IsADirectoryError(errno.EISDIR, "a folder is in its way")
        if old is not None:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if self.options.update and status.st_mtime_ns > entry.mtime_ns:
                return None
            compares = self.options.checksum or (above in self._staging.within and status.st_ctime < self._booted_at)
            if (old, status.st_mtime_ns) == (entry.size, entry.mtime_ns) and not compares:
                if stat.S_IMODE(status.st_mode) != entry.mode and not self.options.dry_run:
                    self._attributes.mode_of_name(folder, name, entry.mode)
                return None
        return regular_size(folder, part_name(name)) or 0, old or 0

    def _extra(self, folders: Optional[Folders], about: Dict[str, Any]) -> List[Tuple[bytes, bool]]:
        """Return what is to be removed, by path, and whether it is a folder."""
        if not self.options.delete or folders is None:
            return []
        tops = [entry.path for entry in self._entries if entry.kind == FOLDER]
        keep = [*self.options.keep, *([b"*~"] if self.options.backup else [])]
        return not_offered(folders, self._entries, tops + ([b""] if about.get("whole") else []), keep)

    def _announce(self, root: int, wanted: List[Wanted], about: Dict[str, Any], extra: List[bytes]) -> None:
        sizes = [self._entries[each.number].size for each in wanted]
        replaced = [each for each in wanted if each.old]
        plan = {
            "files": len(wanted),
            "bytes": sum(sizes),
            "begun_bytes": sum(min(each.part, size) for each, size in zip(wanted, sizes)),
            "have_files": self._counts["have_files"],
            "have_bytes": self._counts["have_bytes"],
            "entries": len(self._entries),
            "left_out": about.get("left_out", []),
            "left_out_count": about.get("left_out_count", 0),
            "deletes": [text(path) for path in extra[:FAILURES_NAMED]],
            "deletes_count": len(extra),
            "replaces": [text(self._entries[each.number].path) for each in replaced[:REPLACED_NAMED]],
            "replaces_count": len(replaced),
            "names": [text(self._entries[each.number].path) for each in wanted[:FAILURES_NAMED]],
        }
        disk = _disk(root, self._destination)
        if disk is not None:
            free = disk.f_bavail * disk.f_frsize
            needed = sum(max(self._entries[w.number].allocated - w.part, 0) for w in wanted)
            reserve = self.options.reserve
            if reserve is None:
                reserve = min(1 << 26, disk.f_blocks * disk.f_frsize // 100)
            if disk.f_blocks and needed and needed > free - reserve:
                why = f"{_mib(free)} are free there, and {_mib(reserve)} stay free."
                raise Stopped(f"the disk has no room for {_mib(needed)}", why)
        self.channel.send_json(PLAN, plan)
        self._on_plan(plan)

    def _take(self, folders: Folders, wanted: List[Wanted]) -> None:
        finisher = Syncer(folders.root, self._staging, self.options.backup)
        remaining = set()
        for each in wanted:
            if self._entries[each.number].size == 0:
                self._small(folders, finisher, each.number, memoryview(b""))
            else:
                remaining.add(each.number)
        asking = [each for each in wanted if each.number in remaining]
        self._requests.start(Folders(folders.root, staging=self._staging), asking)
        self.channel.on_ping = self._requests.check
        try:
            while remaining:
                self._receive(folders, finisher, remaining)
                finisher.look()
        finally:
            self._requests.stop()
            self._writer.close()
            for incoming in self._active.values():
                incoming.close()
            finisher.close()
        self._requests.join()
        for path, error in finisher.failures:
            index = next(i for i, entry in enumerate(self._entries) if entry.path == path)
            self._counts["files"] -= 1
            self._refuse(index, error)
        commit = Commit(
            self._entries,
            self._failures,
            self._refuse,
            self._staging,
            self._above,
            self.options.unsafe_links,
            self._attributes,
            self.options.backup,
        )
        commit.links(folders)
        commit.stash_what_failed(folders)
        staging = bool(self._staging.names)
        if staging and not self._staging.sync(folders.root):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        commit.folders_last(folders)
        if not staging or not self._staging.sync(folders.root):
            sync_folders(folders, finisher.folders)

    # What arrives.

    def _receive(self, folders: Folders, finisher: Syncer, remaining: "Set[int]") -> None:
        kind, body = self.channel.receive()
        if kind == DATA:
            self._data(folders, finisher, remaining, body)
        elif kind in (SAME, HOLE):
            index, offset, length = parse(RANGE, body)
            if index not in remaining or not length:
                raise ProtocolError("a range that was not asked for")
            incoming = self._incoming(index)
            in_order = self._admit(incoming, index, offset, length, good=True)
            work = self._keep if kind == SAME else self._hole
            self._try(index, incoming, lambda: work(folders, incoming, offset, length))
            if kind == SAME:
                self._counts["same_bytes"] += length
            self._on_taken(length)
            self._settle(folders, finisher, remaining, index, length if in_order else 0)
        elif kind == REVISED:
            self._revise(folders, finisher, remaining, as_object(body))
        elif kind == CHANGED:
            self._changed.add(parse(RANGE, body)[0])
        elif kind == GONE:
            index, _, _ = parse(RANGE, body)
            if index not in remaining:
                raise ProtocolError("an end of what was not asked for")
            self._fail(index, bytes(body[RANGE.size :]).decode("utf-8", "replace")[:200])
            self._drop(index)
            remaining.discard(index)
        elif kind == FAILED:
            raise failure(body)
        else:
            raise ProtocolError(f"a frame of kind {kind}")

    def _revise(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", said: Dict[str, Any]) -> None:
        """Take note that a file, of which nothing is here yet, is another version by now."""
        index = said.get("entry")
        if (
            not isinstance(index, int)
            or index not in remaining
            or index in self._active
            or self._requests.has_basis(index)
        ):
            raise ProtocolError("a version of what was not asked for")
        self._entries[index] = take_revised(self._entries[index], said)
        if self._entries[index].size == 0:
            self._small(folders, finisher, index, memoryview(b""))
            remaining.discard(index)

    def _data(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", body: memoryview) -> None:
        index, offset, length, deflated, checksum = parse(PIECE, body)
        data = memoryview(_inflate(body[PIECE.size :], length)) if deflated else body[PIECE.size :]
        if index not in remaining or len(data) != length or not length:
            raise ProtocolError("bytes that were not asked for")
        good = self._sum(data) == checksum
        self._counts["bytes"] += length
        self._on_taken(length if good else 0)
        begun = index in self._active or self._requests.has_basis(index)
        if good and length == self._entries[index].size and length <= SMALL and not begun:
            self._small(folders, finisher, index, data)
            remaining.discard(index)
            return
        incoming = self._incoming(index)
        in_order = self._admit(incoming, index, offset, length, good)
        if good:
            self._try(index, incoming, lambda: self._write(folders, finisher, incoming, offset, data))
        self._settle(folders, finisher, remaining, index, length if in_order else 0)

    def _settle(self, folders: Folders, finisher: Syncer, remaining: "Set[int]", index: int, advance: int) -> None:
        """Move on in a file, and finish it where that was its last range."""
        incoming = self._active[index]
        incoming.next += advance
        if incoming.next == incoming.entry.size and not incoming.bad:
            remaining.discard(index)
            self._try(index, incoming, lambda: self._finish(folders, finisher, incoming))
            self._drop(index)

    def _incoming(self, index: int) -> Incoming:
        if index not in self._active:
            self._active[index] = Incoming(self._entries[index], self._requests.take_basis(index))
        return self._active[index]

    def _drop(self, index: int) -> None:
        incoming = self._active.pop(index, None)
        if incoming is None:
            incoming = Incoming(self._entries[index], self._requests.take_basis(index))
        if incoming.part >= 0:
            with contextlib.suppress(OSError):
                self._writer.settle(incoming.part)
        incoming.close()
        if incoming.basis is not None:
            self._requests.release()

    def _try(self, index: int, incoming: Incoming, work: Callable[[], None]) -> None:
        """Do what may fail for this file alone, unless it already has."""
        if incoming.failed:
            return
        try:
            work()
        except OSError as error:
            incoming.failed = True
            self._refuse(index, error)

    def _admit(self, incoming: Incoming, index: int, offset: int, length: int, good: bool) -> bool:
        """Tell whether a range is the next of its file; else it must be one that was asked for again."""
        in_order = incoming.bad.pop(offset, None) != length
        if in_order and (offset != incoming.next or offset + length > incoming.entry.size):
            raise ProtocolError("bytes out of order")
        if not good:
            tried = self._attempts[index, offset] = self._attempts.get((index, offset), 0) + 1
            if tried >= ATTEMPTS:
                raise ProtocolError(f"a block that arrived wrong {tried} times")
            incoming.bad[offset] = length
            self._counts["again_bytes"] += length
            self._requests.again(index, offset, length)
        return in_order

    def _opened(self, folders: Folders, incoming: Incoming) -> int:
        """Return the part, made now if there is none, with what was found the same in the older version so far."""
        if incoming.part < 0:
            folder, name = folders.of(incoming.entry.path)
            incoming.part = open_part(folder, part_name(name), keep=False)
            if incoming.old >= 0:
                copy_range(incoming.old, incoming.part, 0, min(incoming.next, os.fstat(incoming.old).st_size))
            incoming.written = os.fstat(incoming.part).st_size
        return incoming.part

    def _write(self, folders: Folders, finisher: Syncer, incoming: Incoming, offset: int, data: memoryview) -> None:
        part = self._opened(folders, incoming)
        incoming.written = max(incoming.written, offset + len(data))
        if incoming.entry.size >= DIRECT_FROM:
            self._writer.write(part, offset, data)
            return
        done = 0
        while done < len(data):
            done += os.pwrite(part, data[done:], offset + done)
        incoming.unsynced += len(data)
        if incoming.unsynced >= SYNC_EVERY:
            finisher.sync(os.dup(part))
            incoming.unsynced = 0

    def _keep(self, _folders: Folders, incoming: Incoming, offset: int, length: int) -> None:
        basis = incoming.basis
        if basis is None or offset + length > max(basis.part_size, basis.old_size):
            raise ProtocolError("the same as what is not here")
        if incoming.part >= 0 and offset + length > basis.part_size:
            copy_range(incoming.old, incoming.part, offset, length)
            incoming.written = max(incoming.written, offset + length)

    def _hole(self, folders: Folders, incoming: Incoming, offset: int, length: int) -> None:
        part = self._opened(folders, incoming)
        zeros = memoryview(bytes(min(BLOCK, length)))
        end = offset + length
        while offset < min(end, incoming.written):
            offset += os.pwrite(part, zeros[: min(end, incoming.written) - offset], offset)

    def _finish(self, folders: Folders, finisher: Syncer, incoming: Incoming) -> None:
        entry = incoming.entry
        self._counts["files"] += 1
        if incoming.part < 0 and incoming.old >= 0 and os.fstat(incoming.old).st_size == entry.size:
            self._attributes.mode(incoming.old, entry.mode)
            self._attributes.time(incoming.old, entry.mtime_ns)
            return
        part = self._opened(folders, incoming)
        self._writer.settle(part)
        os.ftruncate(part, entry.size)
        self._attributes.mode(part, entry.mode)
        self._attributes.time(part, entry.mtime_ns)
        incoming.part = -1
        above, _, name = entry.path.rpartition(b"/")
        if above in self._staging.within and DIRECT_FROM > entry.size <= entry.allocated:
            os.close(part)
            folder = folders.folder(above)
            os.rename(part_name(name), name, src_dir_fd=folder, dst_dir_fd=folder)
            finisher.passed(entry.size)
        else:
            finisher.put(Finished(entry.path, part_name(name), part, entry.size))

    def _small(self, folders: Folders, finisher: Syncer, index: int, data: memoryview) -> None:
        entry = self._entries[index]
        try:
            above, _, name = entry.path.rpartition(b"/")
            folder = folders.folder(above)
            seen = above not in self._staging.within
            written = part_name(name) if seen else name
            part = open_part(folder, written, keep=False, lock=False, mode=entry.mode if _reopens(entry) else 0o600)
            try:
                if data and os.write(part, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._give_mode(part, above, entry)
                self._attributes.time(part, entry.mtime_ns)
            finally:
                os.close(part)
            if seen:
                finisher.put(Finished(entry.path, written, -1, entry.size))
            else:
                finisher.passed(entry.size)
            self._counts["files"] += 1
        except OSError as error:
            self._refuse(index, error)

    def _give_mode(self, part: int, above: bytes, entry: ManifestEntry) -> None:
        """Give a part its mode, unless the files of this folder are known to be made with it."""
        if (above, entry.mode) in self._granted:
            return
        if _reopens(entry) and stat.S_IMODE(os.fstat(part).st_mode) == entry.mode:
            self._granted.add((above, entry.mode))
        else:
            self._attributes.mode(part, entry.mode)


def _reopens(entry: ManifestEntry) -> bool:
    """Tell whether we could open a part of this mode again, to go on with it."""
    return entry.mode & 0o600 == 0o600  # noqa: PLR2004 - permission bits


def _inflate(data: memoryview, length: int) -> bytes:
    if length > BLOCK:
        raise ProtocolError("a block that is too long")
    try:
        worker = zlib.decompressobj()
        return worker.decompress(data, length + 1)
    except zlib.error as error:
        raise ProtocolError("a block that does not inflate") from error


def _disk(root: int, destination: bytes) -> "Optional[os.statvfs_result]":
    """Return what is known of a folder's disk, or of the one that it would be made on; some file systems do not say."""
    above = os.path.abspath(destination or b".")
    while root < 0 and not os.path.lexists(above):
        above = os.path.dirname(above)
    try:
        return os.fstatvfs(root) if root >= 0 else os.statvfs(above)
    except OSError:
        return None


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
