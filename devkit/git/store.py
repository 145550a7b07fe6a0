"""Where snapshots and saved work are kept: in packs that git's housekeeping leaves alone, and that no ref names.

A ref would show them in ``git log --all``, send them with ``git push --mirror`` and lose them to ``git fetch --prune``.
A pack beside which a ``.keep`` file lies is neither repacked nor pruned by git. Each holds what its snapshots need
beyond the project's own branches and the packs kept before it. What names a snapshot is the journal; what names saved
work is a file of names beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devkit.files import write_atomically
from devkit.git.command import GitFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.git.command import Git

MARK = b"devkit: undo and wip\n"
MOST_PACKS = 24
HISTORY = 2000  # commits that are copied at most where no branch of a remote's has them
PRIVATE = "refs/devkit/wip/"


@dataclass(frozen=True)
class PrivateRefs:
    """Names of commits that only devkit knows, in a file of the repository's own folder."""

    common_dir: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.common_dir / "devkit" / "refs.json"

    def read(self) -> dict[str, str]:
        """Return the names with their commits."""
        with contextlib.suppress(OSError, ValueError):
            data = json.loads(self.path.read_text("utf-8"))
            if isinstance(data, dict):
                return {str(name): str(oid) for name, oid in data.items() if str(name).startswith(PRIVATE)}
        return {}

    def update(self, changes: Mapping[str, str]) -> None:
        """Set names to commits; an empty one is removed."""
        before = self.read()
        now = {name: oid for name, oid in {**before, **changes}.items() if oid}
        if now != before:
            self.path.parent.mkdir(exist_ok=True)
            write_atomically(self.path, json.dumps(now, sort_keys=True).encode(), mode=0o600)


def kept_packs(common_dir: Path) -> list[Path]:
    """Return the ``.keep`` files of devkit's packs."""
    found = []
    for path in (common_dir / "objects" / "pack").glob("pack-*.keep"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == MARK:
                found.append(path)
    return found


def keep(git: Git, common_dir: Path, roots: Sequence[str], known: Iterable[str], kept: Sequence[str]) -> bool:
    """Keep commits and all that they need, and return whether that was done.

    Args:
        git: in the repository.
        common_dir: its folder.
        roots: the commits to be kept.
        known: commits whose history stays without this: the project's own branches.
        kept: commits that were kept before, all of whose history is in kept packs.
    """
    packs = kept_packs(common_dir)
    known = list(dict.fromkeys(known))
    if not known and _long(git, roots, kept):
        return False
    whole = len(packs) >= MOST_PACKS
    if whole:
        roots, kept = [*roots, *kept], []
    hidden = "" if whole else "".join(f"^{oid}\n" for oid in kept)
    data = "".join(f"{oid}\n" for oid in roots) + hidden + "".join(f"^{oid}\n" for oid in known)
    names = [] if whole else [f"--keep-pack={path.with_suffix('.pack').name}" for path in packs]
    try:
        name = _pack(git, common_dir, data, names)
    except GitFailed:  # a commit that was kept before is gone
        here = present(git, [*kept, *roots, *known])
        data = "".join(f"{oid}\n" for oid in roots) + "".join(f"^{oid}\n" for oid in (*kept, *known) if oid in here)
        name = _pack(git, common_dir, data, [])
    if whole:
        for path in packs:
            if path.stem != name:
                path.unlink(missing_ok=True)
    return True


def _long(git: Git, roots: Sequence[str], kept: Sequence[str]) -> bool:
    data = "".join(f"{oid}\n" for oid in roots) + "".join(f"^{oid}\n" for oid in kept)
    words = ("rev-list", "--count", f"--max-count={HISTORY + 1}", "--stdin")
    return int(git.read(*words, data=data.encode()) or 0) > HISTORY


def _pack(git: Git, common_dir: Path, data: str, keep_packs: Sequence[str]) -> str:
    """Write a pack, and beside it the file that keeps it, before it is where git looks."""
    made = common_dir / "devkit" / "pack"
    made.parent.mkdir(exist_ok=True)
    words = ("pack-objects", "-q", "--revs", "--non-empty", "--delta-base-offset", "--missing=allow-promisor")
    fast = ("-c", "pack.window=0", "-c", "pack.writeReverseIndex=false", "-c", "core.compression=1")
    said = git.read(*fast, *words, *keep_packs, str(made), data=data.encode(), env={"GIT_NO_LAZY_FETCH": "1"})
    name = f"pack-{said.decode().strip()}"
    source = made.parent / f"{name}.pack"
    if not source.exists():
        return ""
    folder = common_dir / "objects" / "pack"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.keep").write_bytes(MARK)
    for suffix in (".pack", ".idx"):
        os.replace(made.parent / f"{name}{suffix}", folder / f"{name}{suffix}")  # noqa: PTH105 - one step
    return name


def present(git: Git, oids: Iterable[str]) -> set[str]:
    """Return which of the objects are here."""
    names = list(dict.fromkeys(filter(None, oids)))
    if not names:
        return set()
    data = "".join(f"{oid}\n" for oid in names).encode()
    with contextlib.suppress(GitFailed):
        answer = git.read("cat-file", "--batch-check=%(objectname)", data=data, env={"GIT_NO_LAZY_FETCH": "1"})
        return {row for row in answer.decode().splitlines() if " " not in row}
    return set()
