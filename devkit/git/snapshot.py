"""Snapshots: all that a command can touch, as git objects, written by one git process.

A snapshot is a commit. A ref below ``refs/devkit/undo/`` names it while its run lasts; then a pack of devkit's keeps it
(``store.py``). Its tree holds ``snapshot.json`` and, in ``o/``, the blobs that it
names: the raw index (an unmerged one is not a tree), files byte for byte (no filter and no line ending conversion), the
files of a rebase or merge that goes on, the stash's log. Its parents keep alive every commit that the command could
let go of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.changes import in_the_way, is_path, lstat
from devkit.git.command import GitFailed
from devkit.git.state import (
    GITLINK,
    INCOMING,
    REFS,
    find_place,
    head_text,
    linked_worktree,
    own_refs,
    parse_refs,
    read_status,
)
from devkit.text import size as size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from devkit.git.command import Git
    from devkit.git.journal import JournalEntry
    from devkit.git.state import CloneDirs, State, Status

NAMESPACE = "refs/devkit/undo/"
VERSION = 1
CHUNK = 1 << 20
MIB = 1 << 20
LARGEST_SHOWN = 3
SPARE_BYTES, SPARE_LARGEST, SPARE_FILES = 32 * MIB, 4 * MIB, 2000
WORKTREE_REFS = ("refs/bisect/", "refs/rewritten/", "refs/worktree/")
# What says in a linked worktree's own git directory what it is, and what was done in it.
OWN_FILES = ("config.worktree", "info/sparse-checkout", "logs/HEAD")
# What git keeps in a checkout's git directory about work that goes on; the last is ours.
OPERATION_FILES = (
    "ORIG_HEAD",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "MERGE_AUTOSTASH",
    "SQUASH_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "AUTO_MERGE",
    "BISECT_LOG",
    "BISECT_START",
    "BISECT_TERMS",
    "BISECT_NAMES",
    "BISECT_EXPECTED_REV",
    "BISECT_ANCESTORS_OK",
    "BISECT_FIRST_PARENT",
    "BISECT_HEAD",
    "BISECT_RUN",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "devkit-rebase.json",
)


SHARED = "sharedindex."
_CRASH_REPORT = re.compile(rb"fast_import_crash_\d+")


@dataclass(frozen=True)
class File:
    """A path of a checkout as it was.

    Attributes:
        mode: its kind and permissions as ``lstat`` has them; 0: nothing was there.
        oid: the blob with its bytes, or a symbolic link's target; empty for a folder and for nothing.
        size: in bytes.
    """

    path: str
    mode: int
    oid: str = ""
    size: int = 0


@dataclass(frozen=True)
class Checkout:
    """A checkout as it was.

    Attributes:
        path: its folder.
        git_dir: its own git directory, relative to the shared one: ``.`` for the main checkout.
        head: the bytes of its ``HEAD``.
        commit: the commit that this was, or nothing.
        index: the blob with the bytes of its index, or nothing when it had none.
        index_time: that file's time, in ns: git trusts entries by it.
        files: what the command can touch.
        operation: the files of a rebase, merge, … that went on, relative to the git directory.
        submodules: path, commit and branch of the submodules that are there.
        refs: the refs of this checkout alone: those of a bisect, and the labels of a rebase that keeps merges; None in
            a snapshot of an older devkit.
        own: the files of its own git directory that say what a worktree is, for one that is removed.
    """

    path: str
    git_dir: str
    head: str
    commit: str
    index: str
    index_time: int
    files: tuple[File, ...]
    operation: tuple[File, ...]
    submodules: tuple[tuple[str, str, str], ...] = ()
    refs: tuple[tuple[str, str], ...] | None = None
    own: tuple[File, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """What a command can touch, as it was before it.

    Attributes:
        id: the run's id.
        refs: the branches, the stash, devkit's own refs and those that the command names (empty: not there).
        config: the settings of branches.
        stash: the blob with the stash's log, or nothing.
        logs: the blobs with the logs of branches that the command deletes.
        config_file: the blob with the bytes of the repository's own configuration, where branches are deleted.
    """

    id: str
    command: str
    refs: Mapping[str, str]
    config: tuple[tuple[str, str], ...]
    stash: str
    logs: Mapping[str, str]
    checkouts: tuple[Checkout, ...]
    config_file: str = ""

    @property
    def ref(self) -> str:
        """The private ref that keeps it."""
        return NAMESPACE + self.id


@dataclass(frozen=True)
class WriteSet:
    """What a command can touch.

    Attributes:
        checkout: whether it can touch this checkout at all.
        paths: the paths that it can touch beside the dirty and untracked ones, with the blob that a commit has there.
        refs: the refs outside branches and devkit's own.
        deletes: the branches that it deletes.
        checkouts: other checkouts that it can touch, each with its paths.
        whole: those among them that it removes: their ignored files count too.
    """

    checkout: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)
    refs: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    checkouts: Mapping[Path, Mapping[str, str]] = field(default_factory=dict)
    whole: frozenset[Path] = frozenset()


class TooLarge(DevkitError):
    """The snapshot would take more than the user allowed without being asked."""


@dataclass
class Blobs:
    """The objects of a snapshot: blobs that must be written, blobs and names (commits or not) that must be kept."""

    object_format: str
    written: dict[str, tuple[int, Path | bytes]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    sources: dict[str, str] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def add(self, data: bytes) -> str:
        """Add bytes and return the blob's name."""
        oid = self._hash(len(data), [data])
        self.kept.add(oid)
        self.written[oid] = (len(data), data)
        return oid

    def add_file(self, path: Path, size: int, known: Iterable[str], name: str) -> str:
        """Add a file and return the blob's name; one of the ``known`` blobs is in the repository already."""
        with path.open("rb") as file:
            oid = self._hash(size, iter(lambda: file.read(CHUNK), b""))
        self.kept.add(oid)
        if oid not in known:
            self.written[oid] = (size, path)
            self.sources[oid] = name
        return oid

    def _hash(self, size: int, chunks: Iterable[bytes]) -> str:
        digest = hashlib.new(self.object_format, b"blob %d\0" % size, usedforsecurity=False)
        for chunk in chunks:
            digest.update(chunk)
        return digest.hexdigest()


class Folders:
    """Which paths of a checkout are folders and no symbolic links, each looked at once."""

    def __init__(self, top: Path) -> None:
        self._top = os.fspath(top)
        self._known: dict[str, bool] = {"": True}

    def above(self, path: str) -> bool:
        """Tell whether every folder above ``path`` is one."""
        return self._is_folder(path.rpartition("/")[0])

    def is_file(self, path: str) -> bool:
        """Tell whether a file or a symbolic link is at ``path``, and folders are above it."""
        if not self.above(path):
            return False
        found = lstat(os.path.join(self._top, path))  # noqa: PTH118 - there may be thousands
        return found is not None and not stat.S_ISDIR(found.st_mode)

    def _is_folder(self, folder: str) -> bool:
        if folder not in self._known:
            found = lstat(os.path.join(self._top, folder)) if self.above(folder) else None  # noqa: PTH118
            self._known[folder] = found is not None and stat.S_ISDIR(found.st_mode)
        return self._known[folder]


def capture(top: Path, path: str, blobs: Blobs, known: Iterable[str] = (), folders: Folders | None = None) -> File:
    """Return what is at a path of a checkout, its bytes added to ``blobs``."""
    place = top / path
    found = lstat(place) if (folders or Folders(top)).above(path) else None
    if found is None:
        return File(path, 0)
    if stat.S_ISLNK(found.st_mode):
        target = link_bytes(place)
        return File(path, found.st_mode, blobs.add(target), len(target))
    if stat.S_ISREG(found.st_mode):
        try:
            return File(path, found.st_mode, blobs.add_file(place, found.st_size, known, str(place)), found.st_size)
        except PermissionError as error:
            raise DevkitError(
                f"{place} cannot be read", "Its bytes could not be kept.", f"chmod u+r -- {shlex.quote(str(place))}"
            ) from error
    return File(path, found.st_mode)


def link_bytes(place: Path) -> bytes:
    """Return where a symbolic link leads, byte for byte."""
    return os.fsencode(os.readlink(place))  # noqa: PTH115 - a Path would normalize it


def real_parents(top: Path, path: str) -> bool:
    """Tell whether every folder above ``path`` is one, and no symbolic link."""
    return Folders(top).above(path)


def take(
    git: Git,
    state: State,
    run_id: str,
    command: str,
    writes: WriteSet,
    *,
    limit: int,
) -> tuple[Snapshot, str]:
    """Write the snapshot of what ``writes`` names, and return it and its commit.

    Args:
        git: in the checkout.
        state: the clone's state at this moment.
        run_id: what the snapshot is called.
        command: what the user typed, for the list.
        writes: what the command can touch.
        limit: how many bytes may be written.

    Raises:
        TooLarge: it would take more than ``limit``.
    """
    place = state.place
    blobs = Blobs(place.object_format)
    checkouts = []
    if writes.checkout and place.top:
        own = {name: oid for name, oid in state.own_refs.items() if name.startswith(WORKTREE_REFS)}
        checkouts.append(_checkout(git, place, state.status, writes.paths, blobs, head=(state.head, own)))
    for path, paths in writes.checkouts.items():
        if path == place.top:
            continue
        other = git.at(path)
        checkouts.append(
            _checkout(
                other,
                find_place(other),
                read_status(other),
                paths,
                blobs,
                head=_head_of(other),
                whole=path in writes.whole,
            )
        )
    stash, stash_commits = _log(place.common_dir / "logs" / "refs" / "stash", blobs)
    blobs.commits += stash_commits
    logs = {}
    for branch in writes.deletes:
        logs[branch], commits = _log(place.common_dir / "logs" / "refs" / "heads" / branch, blobs)
        blobs.commits += commits
    refs = {name: oid for name, oid in state.own_refs.items() if is_kept(name) or name in writes.refs}
    refs.update(dict.fromkeys(writes.refs - refs.keys(), ""))
    tips = [oid for name, oid in refs.items() if state.kinds.get(name) == "commit"]
    snapshot = Snapshot(
        run_id,
        command,
        refs,
        tuple((key, value) for key, value in state.local if key.startswith("branch.")),
        stash,
        logs,
        tuple(checkouts),
        blobs.add((place.common_dir / "config").read_bytes()) if writes.deletes else "",
    )
    total = sum(size for size, _ in blobs.written.values())
    if total > limit:
        raise too_large(
            ((size, blobs.sources.get(oid, "git state")) for oid, (size, _) in blobs.written.items()), limit
        )
    keep = list(dict.fromkeys([*tips, *filter(None, [state.head]), *_commits(git, blobs.commits, set(tips))]))
    document = ("snapshot.json", encode(snapshot))
    return snapshot, write_commit(git, snapshot.ref, document, blobs, keep, f"before {command}")


def is_kept(name: str) -> bool:
    """Tell whether every snapshot holds a ref of this name."""
    return name.startswith(("refs/heads/", "refs/stash", "refs/devkit/")) and not name.startswith((NAMESPACE, INCOMING))


def too_large(sizes: Iterable[tuple[int, str]], limit: int) -> TooLarge:
    """Return the error for files, each with its size and name, that together are more than ``limit`` bytes."""
    found = sorted(sizes, reverse=True)
    total = sum(size for size, _ in found)
    names = ", ".join(f"{name} ({size_text(size)})" for size, name in found[:LARGEST_SHOWN])
    return TooLarge(
        f"keeping your uncommitted files would take {size_text(total)}",
        f"That is over undo.max-mib, {limit // MIB}. The largest: {names}.",
        "echo NAME >> .git/info/exclude   if a file is not worth keeping",
        f"devkit config set undo.max-mib {-(-total // MIB)}   allows it",
    )


def _checkout(
    git: Git,
    place: CloneDirs,
    status: Status,
    paths: Mapping[str, str],
    blobs: Blobs,
    *,
    head: tuple[str, dict[str, str]],
    whole: bool = False,
) -> Checkout:
    top = place.top
    if top is None:
        raise DevkitError(f"{git.directory} is not a checkout")
    entries = {status_entry.path: status_entry for status_entry in status.entries}
    loose = [*filter(is_path, status.untracked)]
    wanted = dict.fromkeys([*entries, *(loose if whole else _spare(top, loose, paths)), *paths])
    if whole:
        ignored = git.read("ls-files", "-z", "--others", "--ignored", "--exclude-standard")
        wanted.update(dict.fromkeys(filter(is_path, os.fsdecode(ignored).split("\0"))))
    files = []
    seen = set()
    folders = Folders(top)
    for path in wanted:
        entry = entries.get(path)
        known = [paths.get(path, "")]
        if entry:
            known += [entry.head[1], *([] if entry.unmerged else [entry.index[1]])]
            for mode, oid in (entry.index, entry.head, *entry.stages):
                if mode not in {"000000", GITLINK}:
                    blobs.kept.add(oid)
        blocking = in_the_way(top, path) if path in paths and not folders.is_file(path) else []
        for fromkey in dict.fromkeys([*blocking, path]):
            if fromkey not in seen:
                seen.add(fromkey)
                files.append(capture(top, fromkey.rstrip("/"), blobs, known, folders))
    index = place.git_dir / "index"
    found = lstat(index)
    submodules = tuple(_submodules(git, top))
    data = index.read_bytes() if found else b""
    operation = (*_operation(place, blobs), *_shared(place, data, blobs))
    commit, refs = head
    blobs.commits += [*refs.values(), *([commit] if commit else [])]
    own = tuple(_own_files(place, blobs)) if whole else ()
    return Checkout(
        str(top),
        os.path.relpath(place.git_dir, place.common_dir),
        head_text(place.git_dir),
        commit,
        blobs.add(data) if found else "",
        found.st_mtime_ns if found else 0,
        tuple(files),
        operation,
        submodules,
        tuple(refs.items()),
        own,
    )


def _spare(top: Path, loose: Sequence[str], paths: Mapping[str, str]) -> list[str]:
    """Return the untracked files to keep beside those that the command can touch: as many as cost little.

    A hook may write one; a large one, or one that cannot be read, is in no command's way and in nobody's snapshot.
    """
    kept = []
    left = SPARE_BYTES
    for path in loose:
        found = lstat(top / path)
        if path in paths:
            kept.append(path)
        elif (
            found is not None
            and len(kept) < SPARE_FILES
            and found.st_size <= min(left, SPARE_LARGEST)
            and (stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and os.access(top / path, os.R_OK)))
        ):
            left -= found.st_size
            kept.append(path)
    return kept


def _head_of(git: Git) -> tuple[str, dict[str, str]]:
    """Return the commit that is checked out, or nothing, and the refs of the checkout alone."""
    commit = os.fsdecode(git.ask("rev-parse", "--quiet", "--verify", "HEAD^{commit}").stdout).strip()
    return commit, own_worktree_refs(git)


def own_worktree_refs(git: Git) -> dict[str, str]:
    """Return the refs that belong to one checkout alone."""
    names, _, symrefs = parse_refs(git.read(*REFS, "--", *WORKTREE_REFS))
    return own_refs(names, symrefs)


def _own_files(place: CloneDirs, blobs: Blobs) -> Iterator[File]:
    for name in OWN_FILES:
        path = place.git_dir / name
        if place.git_dir != place.common_dir and path.is_file():
            data = path.read_bytes()
            yield File(name, path.stat().st_mode, blobs.add(data), len(data))


def _submodules(git: Git, top: Path) -> Iterator[tuple[str, str, str]]:
    if not (top / ".gitmodules").is_file():
        return
    for record in os.fsdecode(git.read("ls-files", "-z", "--stage")).split("\0"):
        if not record.startswith(GITLINK):
            continue
        path = record.partition("\t")[2]
        if not real_parents(top, path) or not (top / path / ".git").exists():
            continue
        inside = git.at(top / path)
        head = os.fsdecode(inside.ask("rev-parse", "--quiet", "--verify", "HEAD").stdout).strip()
        branch = os.fsdecode(inside.ask("symbolic-ref", "--quiet", "HEAD").stdout).strip()
        yield path, head, branch


def _operation(place: CloneDirs, blobs: Blobs) -> Iterator[File]:
    for name in OPERATION_FILES:
        root = place.git_dir / name
        if root.is_dir():
            inside = [Path(folder, word) for folder, _, names in os.walk(root) for word in names]
        else:
            inside = [root] if root.is_file() else []
        for path in sorted(inside):
            data = path.read_bytes()
            blobs.commits += _names(data, place)
            mode = path.stat().st_mode
            yield File(str(path.relative_to(place.git_dir)), mode, blobs.add(data), len(data))


def _shared(place: CloneDirs, index: bytes, blobs: Blobs) -> Iterator[File]:
    """Return the file that a split index builds on: git lets go of it some time after the last index that named it."""
    for path in place.git_dir.glob(f"{SHARED}*") if b"link" in index else ():
        if bytes.fromhex(path.name[len(SHARED) :]) in index:
            data = path.read_bytes()
            yield File(path.name, path.stat().st_mode, blobs.add(data), len(data))


def _names(data: bytes, place: CloneDirs) -> list[str]:
    """Return what in a file of git's looks like the name of an object."""
    length = len(place.null)
    words = data.decode("ascii", "replace").split()
    return [word for word in words if len(word) == length and set(word) <= set("0123456789abcdef")]


def _log(path: Path, blobs: Blobs) -> tuple[str, list[str]]:
    """Return the blob of a ref's log, and the commits that it names."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return "", []
    commits = [word.decode() for line in data.splitlines() for word in line.split(b" ", 2)[:2]]
    return blobs.add(data), [commit for commit in commits if set(commit) != {"0"}]


def _commits(git: Git, names: Sequence[str], known: set[str]) -> list[str]:
    """Return which of the names are commits that are here."""
    asked = [fromkey for fromkey in dict.fromkeys(names) if fromkey not in known]
    if not asked:
        return []
    answer = git.read(
        "cat-file",
        "--batch-check=%(objectname) %(objecttype)",
        data="".join(f"{word}\n" for word in asked).encode(),
        env={"GIT_NO_LAZY_FETCH": "1"},
    )
    return [line.split()[0] for line in answer.decode().splitlines() if line.endswith(" commit")]


def write_commit(
    git: Git, ref: str, document: tuple[str, Any], blobs: Blobs, parents_: Sequence[str], message: str
) -> str:
    """Write a commit below a private ref, with one git process, and return its name.

    Args:
        git: in the repository.
        ref: the ref.
        document: the name of a JSON file in the commit's tree, and what it holds.
        blobs: what the tree keeps beside it, in ``o/``.
        parents_: the commits that it keeps.
        message: the commit's message.
    """
    name = blobs.add(json.dumps(document[1], separators=(",", ":")).encode())

    def chunks() -> Iterator[bytes]:
        yield b"feature done\n"
        for size, source in blobs.written.values():
            yield b"blob\ndata %d\n" % size
            if isinstance(source, bytes):
                yield source
            else:
                yield from _exactly(source, size)
            yield b"\n"
        said = os.fsencode(message + "\n")
        yield b"commit %s\nmark :1\ncommitter devkit <devkit> %d +0000\n" % (ref.encode(), int(time.time()))
        yield b"data %d\n%s" % (len(said), said)
        yield from (b"merge %s\n" % parent.encode() for parent in parents_)
        yield b"M 100644 %s %s\n" % (name.encode(), document[0].encode())
        yield from (b"M 100644 %s o/%s\n" % (oid.encode(), oid.encode()) for oid in sorted(blobs.kept - {name}))
        yield b"get-mark :1\ndone\n"

    words = ("-c", "core.compression=1", "fast-import", "--quiet", "--force", "--depth=0", "--date-format=raw")
    try:
        return git.stream(*words, chunks=chunks()).decode().strip()
    except GitFailed as error:
        report = _CRASH_REPORT.search(error.answer.stderr)
        if report:  # which git leaves in the repository for ever
            Path(git.text("rev-parse", "--absolute-git-dir"), os.fsdecode(report[0])).unlink(missing_ok=True)
        raise


def _exactly(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with path.open("rb") as file:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise DevkitError(f"{path} changed while it was being kept", "", "nothing was changed: run it again")
            left -= len(chunk)
            yield chunk


def encode(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as plain data."""

    def files(all_: Iterable[File]) -> list[list[Any]]:
        return [[file.path, file.mode, file.oid, file.size] for file in all_]

    return {
        "version": VERSION,
        "id": snapshot.id,
        "command": snapshot.command,
        "refs": [[name, oid] for name, oid in snapshot.refs.items()],
        "config": [[key, value] for key, value in snapshot.config],
        "stash": snapshot.stash,
        "logs": [[name, oid] for name, oid in snapshot.logs.items()],
        "config_file": snapshot.config_file,
        "checkouts": [
            {
                "path": checkout.path,
                "git_dir": checkout.git_dir,
                "head": checkout.head,
                "commit": checkout.commit,
                "index": checkout.index,
                "index_time": checkout.index_time,
                "files": files(checkout.files),
                "operation": files(checkout.operation),
                "submodules": [[path, head, branch] for path, head, branch in checkout.submodules],
                "refs": None if checkout.refs is None else [[name, oid] for name, oid in checkout.refs],
                "own": files(checkout.own),
            }
            for checkout in snapshot.checkouts
        ],
    }


def decode(data: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot that ``encode`` made plain.

    Raises:
        DevkitError: a later devkit wrote it.
    """
    if data.get("version") != VERSION:
        raise DevkitError("the snapshot is of another version of devkit", f"It says {data.get('version')!r}.")

    def files(all_: Iterable[Sequence[Any]]) -> tuple[File, ...]:
        return tuple(File(path, mode, oid, size) for path, mode, oid, size in all_)

    return Snapshot(
        data["id"],
        data["command"],
        dict(data["refs"]),
        tuple((key, value) for key, value in data["config"]),
        data["stash"],
        dict(data["logs"]),
        tuple(
            Checkout(
                each["path"],
                each["git_dir"],
                each["head"],
                each["commit"],
                each["index"],
                each["index_time"],
                files(each["files"]),
                files(each["operation"]),
                tuple((path, head, branch) for path, head, branch in each["submodules"]),
                None if each.get("refs") is None else tuple((name, oid) for name, oid in each["refs"]),
                files(each.get("own", ())),
            )
            for each in data["checkouts"]
        ),
        data.get("config_file", ""),
    )


def exists(entry: JournalEntry, state: State) -> bool:
    """Tell whether a run's snapshot is here."""
    return bool(entry.snapshot) or NAMESPACE + entry.id in state.refs


def load(git: Git, entry: JournalEntry, state: State) -> Snapshot:
    """Read the snapshot of a run, its checkouts where they are by now.

    Raises:
        DevkitError: it is gone.
    """
    answer = git.ask("cat-file", "blob", f"{entry.snapshot or NAMESPACE + entry.id}:snapshot.json")
    if answer.status:
        raise DevkitError(f"the snapshot of run {entry.id} is gone", answer.complaint, "devkit undo --list")
    found = decode(json.loads(answer.stdout))
    return replace(
        found, checkouts=tuple(replace(checkout, path=_moved_to(checkout, state)) for checkout in found.checkouts)
    )


def _moved_to(checkout: Checkout, state: State) -> str:
    if checkout.git_dir == ".":
        return str(state.worktrees[0].path)
    try:
        return str(linked_worktree(state.place.common_dir / checkout.git_dir))
    except OSError:
        return checkout.path


def blobs_of(git: Git, oids: Iterable[str]) -> Callable[[str], bytes]:
    """Read blobs in one go and return what finds each."""
    names = list(dict.fromkeys(filter(None, oids)))
    data = git.read("cat-file", "--batch", data="".join(f"{name}\n" for name in names).encode()) if names else b""
    found = {}
    at = 0
    for oid in names:
        end = data.index(b"\n", at)
        header = data[at:end].split(b" ")
        if header[-1] == b"missing":
            raise DevkitError(f"the object {oid} of a snapshot is missing", "The repository is damaged.", "git fsck")
        length = int(header[2])
        found[oid] = data[end + 1 : end + 1 + length]
        at = end + length + 2
    return found.__getitem__
