"""Snapshots: all that a command can touch, as git objects, written by one git process.

A snapshot is a commit. A ref below ``refs/devkit/undo/`` names it while its run lasts; then a pack of devkit's keeps it
(``store.py``). Its tree holds ``snapshot.json`` and, in ``o/``, the blobs that it
names: the raw index (an unmerged one is not a tree), files byte for byte (no filter and no line ending conversion), the
files of a rebase or merge that goes on, the stash's log. Its parents keep alive every commit that the command could
let go of.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git import reflog
from devkit.git.blobs import MIB, Blobs, File, capture, too_large, write_commit
from devkit.git.changes import in_the_way, is_path, lstat
from devkit.git.checkout_files import Folders, real_parents
from devkit.git.snapshot_document import Checkout, Snapshot, decode, encode
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from devkit.git.command import Git
    from devkit.git.journal import JournalEntry
    from devkit.git.state import CloneDirs, State, Status

NAMESPACE = "refs/devkit/undo/"
SPARE_BYTES, SPARE_LARGEST, SPARE_FILES = 32 * MIB, 4 * MIB, 2000
KEPT_REFS = ("refs/heads/", "refs/stash", "refs/devkit/", "refs/notes/")  # notes may follow a rebase
WORKTREE_REFS = ("refs/bisect/", "refs/rewritten/", "refs/worktree/")
# What says in a linked worktree's own git directory what it is, and what was done in it.
HEAD_LOG = "logs/HEAD"
OWN_FILES = ("config.worktree", "info/sparse-checkout", HEAD_LOG)
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
# Those among them that are refs; where refs are in a table no file has them.
ROOT_REFS = (
    "ORIG_HEAD",
    "MERGE_AUTOSTASH",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "AUTO_MERGE",
    "BISECT_EXPECTED_REV",
    "BISECT_HEAD",
)
SHARED = "sharedindex."


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
        if place.ref_format != "files":
            own = own_worktree_refs(git, place)
        checkouts.append(_checkout(git, place, state.status, writes.paths, blobs, head=(state.head, own)))
    for path, paths in writes.checkouts.items():
        if path == place.top:
            continue
        other = git.at(path)
        there = find_place(other)
        checkouts.append(
            _checkout(
                other,
                there,
                read_status(other),
                paths,
                blobs,
                head=_head_of(other, there),
                whole=path in writes.whole,
            )
        )
    stash = _log(git, place, "refs/stash", blobs)
    logs = {branch: _log(git, place, f"refs/heads/{branch}", blobs) for branch in writes.deletes}
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
            ((size, source if isinstance(source, str) else "git state") for size, source in blobs.written.values()),
            limit,
        )
    keep = list(dict.fromkeys([*tips, *filter(None, [state.head]), *_commits(git, blobs.commits, set(tips))]))
    document = ("snapshot.json", encode(snapshot))
    return snapshot, write_commit(git, NAMESPACE + run_id, document, blobs, keep, f"before {command}")


def is_kept(name: str) -> bool:
    """Tell whether every snapshot holds a ref of this name."""
    return name.startswith(KEPT_REFS) and not name.startswith((NAMESPACE, INCOMING))


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
    own = tuple(_own_files(git, place, blobs)) if whole else ()
    return Checkout(
        str(top),
        os.path.relpath(place.git_dir, place.common_dir),
        head_text(git, place.git_dir),
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


def _head_of(git: Git, place: CloneDirs) -> tuple[str, dict[str, str]]:
    """Return the commit that is checked out, or nothing, and the refs of the checkout alone."""
    commit = git.commit_of("HEAD")
    return commit, own_worktree_refs(git, place)


def own_worktree_refs(git: Git, place: CloneDirs) -> dict[str, str]:
    """Return the refs that belong to one checkout alone; ``ORIG_HEAD`` and its like too where they are not files."""
    if place.ref_format == "files":
        names, _, symrefs = parse_refs(git.read(*REFS, "--", *WORKTREE_REFS))
        return own_refs(names, symrefs)
    names, _, symrefs = parse_refs(git.read(*REFS, "--include-root-refs"))
    own = own_refs(names, symrefs)
    return {name: oid for name, oid in own.items() if name.startswith(WORKTREE_REFS) or name in ROOT_REFS}


def _own_files(git: Git, place: CloneDirs, blobs: Blobs) -> Iterator[File]:
    if place.ref_format != "files" and place.git_dir != place.common_dir:
        log = reflog.read(git, place, "HEAD")
        yield File(HEAD_LOG, stat.S_IFREG | 0o644, blobs.add(log), len(log))
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
        head = inside.commit_of("HEAD")
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


def _log(git: Git, place: CloneDirs, ref: str, blobs: Blobs) -> str:
    """Return the blob of a ref's log, or nothing; the commits that it names are kept."""
    log = reflog.read(git, place, ref)
    blobs.commits += reflog.commits(log)
    return blobs.add(log) if log else ""


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
