"""The way back to a snapshot: first what would have to change (reading only), then the change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from devkit.errors import DevkitError
from devkit.git import reflog
from devkit.git.blobs import File, blobs_of
from devkit.git.changes import lstat
from devkit.git.checkout_files import (
    SCRATCH,
    link_bytes,
    make_folders,
    real_parents,
    remove,
    remove_folder,
    safe_path,
    write_file,
)
from devkit.git.command import line
from devkit.git.snapshot import HEAD_LOG, OPERATION_FILES, OWN_FILES, ROOT_REFS, SHARED, own_worktree_refs
from devkit.git.state import GITLINK, NAMES, find_place, head_text, parse_refs, parse_worktrees
from devkit.git.store import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from devkit.git.command import Git, Line
    from devkit.git.snapshot_document import Checkout, Snapshot
    from devkit.git.state import CloneDirs

BATCH_BYTES = 64 << 20
LOCK_WAIT_S = 2.0
# HEAD, or a commit and its subject as a rebase names it; an editor's own ``name~`` is the user's.
_BESIDE = re.compile(r"(.+)~(?:HEAD|[0-9a-f]{4,64} \(.*\))(?:_\d+)?", re.DOTALL)
_HALF_WRITTEN = re.compile(rf"(^|/){re.escape(SCRATCH)}\w{{8}}/file$")


@dataclass(frozen=True)
class Differences:
    """How a checkout differs from its snapshot, beyond the files that the snapshot holds.

    Attributes:
        stale: paths to be written from the snapshot's index: they were clean then, and are not so now.
        extra: paths that a commit brought since, to be removed.
    """

    stale: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    missing: bool = False


@dataclass
class Restored:
    """What was put back."""

    files: int = 0
    refs: tuple[str, ...] = ()
    left: list[str] = field(default_factory=list)


def _shared(checkout: Checkout) -> list[File]:
    return [file for file in checkout.operation if file.path.startswith(SHARED) and "/" not in file.path]


@contextlib.contextmanager
def index_of(place: CloneDirs, checkout: Checkout, blob: Callable[[str], bytes]) -> Iterator[Path]:
    """Give the snapshot's index as a temporary file with the original's time, by which git trusts its entries."""
    descriptor, name = tempfile.mkstemp(prefix="devkit-index-", dir=place.git_dir)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(blob(checkout.index))
        os.utime(path, ns=(checkout.index_time, checkout.index_time))
        for file_ in _shared(checkout):
            if not (place.git_dir / file_.path).exists():
                write_file(place.git_dir / file_.path, blob(file_.oid), file_.mode)
        yield path
    finally:
        for leftover in (path, Path(f"{path}.lock")):
            leftover.unlink(missing_ok=True)


def differences(git: Git, checkout: Checkout) -> Differences:
    """Return what must change in a checkout besides the snapshot's own files; nothing is written."""
    top = Path(checkout.path)
    if not (top / ".git").exists():
        return Differences(missing=True)
    inside = git.at(top)
    place = find_place(inside)
    now = _names(inside.read("ls-files", "-z"))
    then: set[str] = set()
    stale: set[str] = set()
    held = {file.path for file in checkout.files}
    if checkout.index:
        blob = blobs_of(inside, [checkout.index, *(file.oid for file in _shared(checkout))])
        with index_of(place, checkout, blob) as path:
            env = {"GIT_INDEX_FILE": str(path)}
            inside.ask("update-index", "-q", "--refresh", "--unmerged", "--ignore-submodules", env=env)
            then = _names(inside.read("ls-files", "-z", env=env))
            stale = _names(inside.read("diff-files", "-z", "--name-only", "--ignore-submodules=all", env=env))
    extra = now - then - held
    if extra:
        links, unmerged = _special(inside)
        # What a commit brought, and what a merge wrote beside a file that met a folder; the rest is the user's.
        extra &= _names(inside.ask("ls-tree", "-r", "-z", "--name-only", "HEAD").stdout) | unmerged
        extra -= links
    return Differences(tuple(sorted(stale - held)), tuple(sorted(extra)))


def _special(git: Git) -> tuple[set[str], set[str]]:
    """Return the submodules and the unmerged paths of the index."""
    links, unmerged = set(), set()
    for word in os.fsdecode(git.read("ls-files", "-z", "--stage")).split("\0"):
        facts, _, path = word.partition("\t")
        if facts.startswith(GITLINK):
            links.add(path)
        if facts and not facts.endswith(" 0"):
            unmerged.add(path)
    return links, unmerged


def _names(data: bytes) -> set[str]:
    return {word for word in os.fsdecode(data).split("\0") if word}


def put_back(git: Git, snapshot: Snapshot, found: Mapping[str, Differences], refs: Mapping[str, str]) -> Restored:
    """Make the repository what the snapshot says.

    Args:
        git: in the repository.
        snapshot: the state to return to.
        found: each checkout's differences, by its path.
        refs: the refs to set, with their objects; an empty one is deleted.
    """
    restored = Restored(refs=tuple(refs))
    for checkout in snapshot.checkouts:
        for file in checkout.files:
            safe_path(file.path)
    for checkout in snapshot.checkouts:
        if found[checkout.path].missing:
            git.execute(
                line(
                    "worktree",
                    "add",
                    "--quiet",
                    "--no-checkout",
                    "--force",
                    "--detach",
                    "--",
                    checkout.path,
                    checkout.commit,
                )
            )
            _own_files(git.at(Path(checkout.path)), checkout)
    for checkout in snapshot.checkouts:
        _checkout(git.at(Path(checkout.path)), checkout, found[checkout.path], restored)
    set_refs(git, refs)
    _logs(git, snapshot, refs)
    for checkout in snapshot.checkouts:
        _submodules(git, checkout, restored)
    return restored


def _own_files(git: Git, checkout: Checkout) -> None:
    """Give a worktree that comes back what its own git directory said of it: its sparse settings and its log."""
    place = find_place(git)
    blob = blobs_of(git, (file.oid for file in checkout.own))
    for file in checkout.own:
        if file.path == HEAD_LOG and place.ref_format != "files":
            reflog.write(git, place, "HEAD", blob(file.oid))
        elif file.path in OWN_FILES:
            path = place.git_dir / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, blob(file.oid), file.mode)


def _checkout(git: Git, checkout: Checkout, found: Differences, restored: Restored) -> None:
    top = Path(checkout.path)
    place = find_place(git)
    remove(top, [*found.extra, *(file.path for file in checkout.files if not file.mode), *_litter(git, checkout)])
    stale_files = [file for file in checkout.files if file.mode and not _same(top, file)]
    odd = [file for file in stale_files if not (is_content(file.mode) or _is_made_anew(file.mode))]
    restored.left += [f"{file.path} was a socket or a device" for file in odd]
    for batch in _batches([file for file in stale_files if file not in odd]):
        blob = blobs_of(git, (file.oid for file in batch))
        for file in batch:
            _write(top, file, blob)
            restored.files += 1
    blob = blobs_of(git, [checkout.index, *(file.oid for file in checkout.operation)])
    if checkout.index:
        with index_of(place, checkout, blob) as path:
            stale = [*found.stale]
            if found.missing:
                held = {file.path for file in checkout.files}
                stale = sorted(_names(git.read("ls-files", "-z", env={"GIT_INDEX_FILE": str(path)})) - held)
            for name in stale:
                there = lstat(top / name)
                if there is not None and stat.S_ISDIR(there.st_mode):
                    remove_folder(top / name)
            if stale:
                restored.files += len(stale)
                data = b"".join(os.fsencode(word) + b"\0" for word in stale)
                git.ask(
                    "checkout-index",
                    "--force",
                    "--quiet",
                    "-z",
                    "--stdin",
                    data=data,
                    env={"GIT_INDEX_FILE": str(path)},
                )
    table = place.ref_format != "files"
    roots = [file for file in checkout.operation if table and file.path in ROOT_REFS]  # kept before it had a table
    _operation(place, [file for file in checkout.operation if file not in roots], blob)
    if checkout.refs is not None:
        own = {file.path: blob(file.oid).decode("ascii", "replace").strip() for file in roots}
        wanted, now = {**dict(checkout.refs), **own}, own_worktree_refs(git, place)
        set_refs(git, {name: wanted.get(name, "") for name in {*wanted, *now} if wanted.get(name) != now.get(name)})
    _head(git, place, checkout.head)
    _index(place, checkout, blob)


def _litter(git: Git, checkout: Checkout) -> list[str]:
    """Return what a merge wrote beside a file that met a folder (``name~HEAD``), and half-written files."""
    held = {file.path for file in checkout.files}
    untracked = _names(git.read("ls-files", "-z", "--others", "--exclude-standard"))
    loose = untracked - held
    beside = [word for word in loose if (match := _BESIDE.fullmatch(word)) and match[1] in held]
    return [*beside, *(word for word in loose if _HALF_WRITTEN.search(word))]


def _batches(files: list[File]) -> Iterator[list[File]]:
    batch: list[File] = []
    total = 0
    for file in files:
        if batch and total + file.size > BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(file)
        total += file.size
    if batch:
        yield batch


def _same(top: Path, file: File) -> bool:
    """Tell whether a path is as the snapshot has it; where only its permissions differ, they are set."""
    place = top / file.path
    found = lstat(place) if real_parents(top, file.path) else None
    if found is None or stat.S_IFMT(found.st_mode) != stat.S_IFMT(file.mode):
        return False
    if not is_content(file.mode):
        return True
    if found.st_size != file.size:
        return False
    data = link_bytes(place) if stat.S_ISLNK(file.mode) else place.read_bytes()
    name = "sha256" if len(file.oid) > len("0" * 40) else "sha1"
    if hashlib.new(name, b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() != file.oid:
        return False
    if stat.S_ISREG(file.mode) and stat.S_IMODE(found.st_mode) != stat.S_IMODE(file.mode):
        place.chmod(stat.S_IMODE(file.mode))
    return True


def is_content(mode: int) -> bool:
    """Tell whether a mode is that of a file or a symbolic link, which have bytes to be kept."""
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _is_made_anew(mode: int) -> bool:
    """Tell whether a mode is that of a folder or a pipe, which have no bytes to be kept."""
    return stat.S_ISDIR(mode) or stat.S_ISFIFO(mode)


def _write(top: Path, file: File, blob: Callable[[str], bytes]) -> None:
    make_folders(top, file.path)
    place = top / file.path
    found = lstat(place)
    if stat.S_ISFIFO(file.mode):
        if found is not None and stat.S_ISDIR(found.st_mode):
            remove_folder(place)
        elif found is not None:
            place.unlink()
        os.mkfifo(place, stat.S_IMODE(file.mode))
        place.chmod(stat.S_IMODE(file.mode))
        return
    if stat.S_ISDIR(file.mode):
        if found is not None and not stat.S_ISDIR(found.st_mode):
            place.unlink()
        place.mkdir(exist_ok=True)
        return
    if found is not None and stat.S_ISDIR(found.st_mode):
        remove_folder(place)
    write_file(place, blob(file.oid), file.mode)


def _operation(place: CloneDirs, files: Sequence[File], blob: Callable[[str], bytes]) -> None:
    wanted = {file.path: file for file in files}
    for name in OPERATION_FILES:
        root = place.git_dir / name
        if root.is_dir() and not root.is_symlink():
            shutil.rmtree(root)
        elif name not in wanted:
            root.unlink(missing_ok=True)
    for file in files:
        path = place.git_dir / file.path
        if file.path.startswith(SHARED):
            continue  # it is there since the index was read
        if file.path.split("/")[0] not in OPERATION_FILES or ".." in file.path.split("/"):
            raise DevkitError(
                f"the snapshot names {file.path!r} in git's folder", "It is not a file of a rebase or merge."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, blob(file.oid), file.mode)


def _head(git: Git, place: CloneDirs, head: str) -> None:
    if head_text(git, place.git_dir) != head:
        git.execute(head_line(head))


def head_line(head: str) -> Line:
    """Return the line that makes HEAD what a file of that name says."""
    text = head.strip()
    if text.startswith("ref: "):
        return line("symbolic-ref", "-m", "devkit: undo", "HEAD", text[len("ref: ") :])
    return line("update-ref", "--no-deref", "-m", "devkit: undo", "HEAD", text)


def _index(place: CloneDirs, checkout: Checkout, blob: Callable[[str], bytes]) -> None:
    index = place.git_dir / "index"
    if not checkout.index:
        index.unlink(missing_ok=True)
        return
    data = blob(checkout.index)
    if index.exists() and index.read_bytes() == data and index.stat().st_mtime_ns == checkout.index_time:
        return
    lock = place.git_dir / "index.lock"  # git's own protocol: whoever makes this file may write the index
    with _created(lock) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.utime(lock, ns=(checkout.index_time, checkout.index_time))
            lock.replace(index)
        except BaseException:
            lock.unlink(missing_ok=True)
            raise


def _created(lock: Path) -> BinaryIO:
    """Make a lock file; another git, as an editor runs in the background, is waited for a moment.

    Raises:
        DevkitError: it does not go away.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    while lock.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        return lock.open("xb")
    except FileExistsError as error:
        why = "Another git works in this checkout, or was killed in it."
        raise DevkitError(f"{lock} is there", why, f"rm -- {shlex.quote(str(lock))}") from error


def set_refs(git: Git, refs: Mapping[str, str]) -> None:
    """Set refs, all or none; an empty object deletes."""
    if git.private:
        _set_private(git, {name: oid for name, oid in refs.items() if name.startswith(PRIVATE)})
    for ref_line in ref_lines(refs):
        git.execute(ref_line)


def ref_lines(refs: Mapping[str, str]) -> list[Line]:
    """Return the lines that set refs: first those that go, for a branch a/b can only come where a is gone."""
    refs = {name: oid for name, oid in refs.items() if not name.startswith(PRIVATE)}
    deletes = [f"delete {name}\0\0" for name, oid in refs.items() if not oid]
    sets = [f"update {name}\0{oid}\0\0" for name, oid in refs.items() if oid]
    words = ("update-ref", "--no-deref", "-m", "devkit: undo", "-z", "--stdin")
    return [line(*words, data=os.fsencode("".join(records))) for records in (deletes, sets) if records]


def _set_private(git: Git, refs: Mapping[str, str]) -> None:
    """Set names that only devkit knows; one of a killed run, or of an older devkit, is a ref of git's still."""
    if refs and git.private:
        git.private.update(refs)
        names, _, _ = parse_refs(git.read(*NAMES, "--", PRIVATE))
        data = os.fsencode("".join(f"delete {name}\0\0" for name in refs if name in names))
        if data:
            git.execute(line("update-ref", "-z", "--stdin", data=data))


def _logs(git: Git, snapshot: Snapshot, refs: Mapping[str, str]) -> None:
    place = find_place(git)
    logs = {f"refs/heads/{branch}": oid for branch, oid in snapshot.logs.items() if oid}
    if "refs/stash" in refs and snapshot.stash:
        logs["refs/stash"] = snapshot.stash
    logs = {name: oid for name, oid in logs.items() if refs.get(name)}
    blob = blobs_of(git, logs.values())
    for name, oid in logs.items():
        reflog.write(git, place, name, blob(oid))


def _submodules(git: Git, checkout: Checkout, restored: Restored) -> None:
    for path, head, branch in checkout.submodules:
        folder = Path(checkout.path) / safe_path(path)
        if head and not (folder / ".git").exists():
            where = shlex.quote(checkout.path)
            again = f"git -C {where} submodule update --init -- {shlex.quote(path)}"
            restored.left.append(f"the submodule {path} came back empty: {again}")
        if not head or not (folder / ".git").exists():
            continue
        inside = git.at(folder)
        now = inside.commit_of("HEAD")
        on = os.fsdecode(inside.ask("symbolic-ref", "--quiet", "HEAD").stdout).strip()
        if (now, on) == (head, branch):
            continue
        name = branch.removeprefix("refs/heads/")
        words = ("switch", "--quiet", name) if branch else ("switch", "--quiet", "--detach", head)
        if inside.execute(line(*words, directory=folder), check=False).status:
            restored.left.append(f"the submodule {path}: its own changes are in the way of {head[:10]}")


def remove_worktree(git: Git, path: Path) -> None:
    """Remove a worktree and its folder, wherever its making was cut off, and no other one."""
    listed = parse_worktrees(git.read("worktree", "list", "--porcelain").replace(b"\n", b"\0"))
    if any(worktree.path == path for worktree in listed):
        git.execute(line("worktree", "remove", "--force", "--force", "--", str(path)), check=False)
    if path.is_dir():
        shutil.rmtree(path)
    forget_worktree(git, path)


def forget_worktree(git: Git, path: Path) -> None:
    """Remove what a repository keeps of a worktree whose folder is gone, and what was begun for one and never named it.

    git's own ``worktree prune`` takes all whose folder is not there: those on a disk that is away too, and before git
    2.48 those that a newer git made with relative paths.
    """
    kept = find_place(git).common_dir / "worktrees"
    if not kept.is_dir():
        return
    for folder in kept.iterdir():
        try:
            named = (folder / "gitdir").read_bytes().strip()
        except OSError:
            named = b""
        ours = named and os.path.realpath(folder / os.fsdecode(named)) == os.path.realpath(path / ".git")
        if ours or not (named or (folder / "locked").exists()):
            shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        kept.rmdir()
