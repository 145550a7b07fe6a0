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
from devkit.git.shared import file_mode, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
            make_folder(self.common_dir)
            write_atomically(self.path, json.dumps(now, sort_keys=True).encode(), mode=file_mode(self.common_dir))


def kept_packs(common_dir: Path) -> list[Path]:
    """Return the ``.keep`` files of devkit's packs."""
    found = []
    for path in (common_dir / "objects" / "pack").glob("pack-*.keep"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == MARK:
                found.append(path)
    return found


@dataclass(frozen=True)
class Packing:
    """A pack of commits and all that they need, as it is asked of git.

    Attributes:
        roots: the commits.
        known: commits whose history stays without this: the project's own branches.
        kept: commits that were kept before, all of whose history is in kept packs.
        packs: those packs.
        whole: all is written anew, for there are many packs.
    """

    roots: tuple[str, ...]
    known: tuple[str, ...]
    kept: tuple[str, ...]
    packs: tuple[Path, ...]
    whole: bool

    @property
    def data(self) -> bytes:
        """What git reads."""
        shown = (*self.roots, *self.kept) if self.whole else self.roots
        hidden = self.known if self.whole else (*self.kept, *self.known)
        return ("".join(f"{oid}\n" for oid in shown) + "".join(f"^{oid}\n" for oid in hidden)).encode()

    def words(self, made: Path) -> tuple[str, ...]:
        """Return the line of git that writes the pack beside ``made``."""
        names = () if self.whole else tuple(f"--keep-pack={path.with_suffix('.pack').name}" for path in self.packs)
        fast = ("-c", "pack.window=0", "-c", "pack.writeReverseIndex=false", "-c", "core.compression=1")
        words = ("pack-objects", "-q", "--revs", "--non-empty", "--delta-base-offset", "--missing=allow-promisor")
        return (*fast, *words, *names, str(made))


def packing(common_dir: Path, roots: Sequence[str], known: Iterable[str], kept: Sequence[str]) -> Packing:
    """Return the pack that keeps ``roots``."""
    packs = tuple(kept_packs(common_dir))
    return Packing(tuple(roots), tuple(dict.fromkeys(known)), tuple(kept), packs, whole=len(packs) >= MOST_PACKS)


def keep(git: Git, common_dir: Path, wanted: Packing) -> bool:
    """Write a pack, and return whether that was done: not where no branch of a remote's has a long history."""
    if not wanted.known and _long(git, wanted.roots, wanted.kept):
        return False
    with begin(git, common_dir, wanted) as finish:
        if finish():
            return True
    # a commit that was kept before is gone
    here = present(git, [*wanted.kept, *wanted.roots, *wanted.known])
    kept, known = ([oid for oid in oids if oid in here] for oids in (wanted.kept, wanted.known))
    with begin(git, common_dir, Packing(wanted.roots, tuple(known), tuple(kept), (), whole=False)) as finish:
        return finish()


@contextlib.contextmanager
def begin(git: Git, common_dir: Path, wanted: Packing) -> Iterator[Callable[[], bool]]:
    """Write a pack beside what the caller does; what is yielded puts it in its place, and tells whether it is there."""
    made = make_folder(common_dir) / "pack"
    for left in made.parent.glob("pack-*"):  # of a devkit that was killed
        left.unlink(missing_ok=True)
    with git.beside(wanted.words(made), data=wanted.data, env={"GIT_NO_LAZY_FETCH": "1"}) as answers:

        def finish() -> bool:
            (answer,) = answers()
            if answer.status:
                return False
            name = _placed(common_dir, made, f"pack-{answer.stdout.decode().strip()}")
            if wanted.whole:
                for path in wanted.packs:
                    if path.stem != name:
                        path.unlink(missing_ok=True)
            return True

        yield finish


def _long(git: Git, roots: Sequence[str], kept: Sequence[str]) -> bool:
    data = "".join(f"{oid}\n" for oid in roots) + "".join(f"^{oid}\n" for oid in kept)
    words = ("rev-list", "--count", f"--max-count={HISTORY + 1}", "--stdin")
    return int(git.read(*words, data=data.encode()) or 0) > HISTORY


def _placed(common_dir: Path, made: Path, name: str) -> str:
    """Put a pack where git looks, after the file that keeps it; an empty one was not written, and has no name."""
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
