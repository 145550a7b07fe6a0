"""A clone that a command works in: its lock, its state, and what is fetched beside all that is there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git.command import Git, line
from devkit.git.lock import check_table, locked
from devkit.git.state import INCOMING, State, find_place, read_head, read_state, refs_now
from devkit.git.store import PRIVATE, PrivateRefs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from devkit.app import App
    from devkit.git.command import Line
    from devkit.git.operation import RunningChange
    from devkit.git.snapshot import WriteSet
    from devkit.git.state import CloneDirs

REBASE_MARK = "devkit-rebase.json"
# What a folder without permission, a full disk and a read-only one answer: nothing that a command of ours did wrong.
REFUSALS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EIO, errno.EMFILE)
)


@dataclass
class Session:
    """A clone that a command works in.

    Attributes:
        arrived: the refs that ``incoming`` fetched, until the session ends.
        others: the other refs after it: a fetch may take minutes, in which others commit or switch.
        dry: nothing is to be changed.
    """

    app: App
    git: Git
    place: CloneDirs
    arrived: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    dry: bool = False
    warned: bool = False

    def state(self, *, status: bool = True, since: State | None = None) -> State:
        """Read the clone's state; what an operation that was ended by hand left aside is said, once."""
        state = read_state(self.git, self.place, status=status, since=since)
        mark = self.place.git_dir / REBASE_MARK
        if not self.warned and mark.exists() and not self.place.operation:
            self.warned = True
            with contextlib.suppress(OSError, ValueError, AttributeError):
                number = json.loads(mark.read_text("utf-8")).get("wip")
                if number and f"{PRIVATE}{number}" in state.refs:
                    what = "the rebase was ended by hand; your uncommitted work of before is put aside"
                    self.app.console.warn(f"{what}: devkit wip restore --from {number}")
        return state

    def since_fetch(self, state: State) -> State:
        """Return the state, read again where refs moved or another branch was checked out while git fetched."""
        same = {name: oid for name, oid in state.own_refs.items() if not name.startswith(INCOMING)}
        return state if same == self.others and read_head(self.git, self.place) == state.branch else self.state()

    @contextlib.contextmanager
    def change(
        self,
        command: str,
        state: State,
        writes: WriteSet,
        *,
        creates: Iterable[Path] = (),
        undoes: str = "",
        **arguments: Any,
    ) -> Iterator[RunningChange]:
        """Do a change: ``with session.change("pr fetch", state, writes, numbers=[7]) as change: change.run(…)``."""
        from devkit.git import operation  # what a command that only looks does without

        with operation.change(
            self, command, state, writes, creates=creates, undoes=undoes, arguments=arguments
        ) as change:
            yield change

    def delete(self, refs: Mapping[str, str]) -> None:
        """Delete refs, those that have an object here only while they have it; what ``incoming`` fetched goes too."""
        data = os.fsencode("".join(f"delete {name}\0{oid}\0" for name, oid in refs.items()))
        if not self.git.ask("update-ref", "-z", "--stdin", data=data).status:
            self.arrived = {}

    def clear_incoming(self) -> None:
        """Remove what ``incoming`` fetched; what is wanted has a ref of its own by then."""
        if self.arrived:
            self.delete(dict.fromkeys(self.arrived, ""))
            self.arrived = {}


@contextlib.contextmanager
def open_session(app: App, *, changes: bool, dry: bool = False, directory: Path | None = None) -> Iterator[Session]:
    """Open the clone around a folder (the current one by default), under its lock where it will be changed.

    Args:
        app: the screen and the runner.
        changes: it will be changed, or what would be is planned.
        dry: it is only planned.
        directory: the folder.
    """
    git = Git(app, directory or Path.cwd())
    place = find_place(git)
    git.directory = place.top or place.git_dir
    try:
        with locked(git, place) if changes else contextlib.nullcontext():
            if changes and not dry:
                check_table(place)
            git.private = PrivateRefs(place.common_dir)
            session = Session(app, git, place, dry=dry)
            try:
                yield session
            finally:
                session.clear_incoming()
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        folder = os.path.dirname(os.fsdecode(error.filename)) if error.filename else str(place.common_dir)  # noqa: PTH120 - it may be bytes
        look = "df -h" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "ls -ld"
        raise DevkitError(
            f"the system refused {os.fsdecode(error.filename or '') or 'to write'}",
            f"{error.strerror}.",
            f"{look} -- {shlex.quote(folder)}   shows why",
        ) from error


def incoming(
    session: Session,
    remote: str,
    sources: Mapping[str, str],
    *,
    depth: int = 0,
    title: str,
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, str]:
    """Fetch refs of a remote in one round trip, beside all that is here, and return their objects.

    Args:
        session: the clone.
        remote: the remote's name.
        sources: the remote's refs, each with the name that it gets below ``refs/devkit/incoming/``.
        depth: how many commits deep; all with 0.
        title: what the progress line says.
        meanwhile: what is done while git fetches.
    """
    session.git.execute(fetch_line(remote, sources, depth=depth), title=title, meanwhile=meanwhile)
    now = refs_now(session.git)
    session.arrived = {name: oid for name, oid in now.items() if name.startswith(INCOMING)}
    session.others = {name: oid for name, oid in now.items() if name not in session.arrived}
    return {source: now[INCOMING + name] for source, name in sources.items()}


def fetch_line(remote: str, sources: Mapping[str, str], *, depth: int = 0) -> Line:
    """Return the line that fetches refs of a remote beside all that is here."""
    return line(
        "fetch",
        "--progress",
        "--no-tags",
        "--no-prune",
        "--no-prune-tags",
        "--no-write-fetch-head",
        "--refmap=",
        "--recurse-submodules=no",
        *([f"--depth={depth}"] if depth else []),
        "--",
        remote,
        *(f"+{source}:{INCOMING}{name}" for source, name in sources.items()),
        slow=True,
    )
