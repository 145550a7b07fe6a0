"""What a snapshot holds, and the JSON document that it is written down as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.blobs import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERSION = 1


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
                checkout["path"],
                checkout["git_dir"],
                checkout["head"],
                checkout["commit"],
                checkout["index"],
                checkout["index_time"],
                files(checkout["files"]),
                files(checkout["operation"]),
                tuple((path, head, branch) for path, head, branch in checkout["submodules"]),
                None if checkout.get("refs") is None else tuple((name, oid) for name, oid in checkout["refs"]),
                files(checkout.get("own", ())),
            )
            for checkout in data["checkouts"]
        ),
        data.get("config_file", ""),
    )
