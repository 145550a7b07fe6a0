"""One change of a repository: the snapshot before, the lines, the journal after, and the way back.

Killed at any point, the snapshot and its journal entry are there, and ``devkit undo`` returns to it. Interrupted, or
when a line fails, it is returned to at once.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git import journal, snapshot, store
from devkit.git.blobs import MIB, blobs_of
from devkit.git.branch_config import sections, set_branch_config
from devkit.git.lock import left_lock
from devkit.git.restore import differences, put_back, remove_worktree
from devkit.git.roles import USUAL_BASE_BRANCHES
from devkit.git.state import find_place, read_status, refs_now
from devkit.git.store import PRIVATE, PrivateRefs
from devkit.git.wip_entry import has_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from devkit.git.command import Answer, Git, Line
    from devkit.git.restore import Restored
    from devkit.git.session import Session
    from devkit.git.snapshot import WriteSet
    from devkit.git.snapshot_document import Snapshot
    from devkit.git.state import State
    from devkit.runs import Run


@dataclass
class RunningChange:
    """A change that goes on.

    Attributes:
        state: the clone before it.
        before: the snapshot.
        stays: what was done stays, though the command fails (a rebase that stopped at a conflict).
    """

    session: Session
    state: State
    record: Run
    before: Snapshot
    writes: WriteSet
    entry: journal.JournalEntry
    stays: bool = False
    lines: list[str] = field(default_factory=list)
    packed: tuple[str, store.Packing, Callable[[], bool]] | None = None

    def run(
        self,
        line: Line,
        *,
        check: bool = True,
        title: str = "",
        env: Mapping[str, str] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Answer:
        """Run one line; ``meanwhile`` is done while a slow one runs."""
        self.lines.append(str(line))
        return self.session.git.execute(line, check=check, title=title, env=env, meanwhile=meanwhile)

    def push(self, push: journal.Push, line: Line, *, title: str) -> None:
        """Push: the journal knows of it before the remote does."""
        self.entry = journal.with_push(self.entry, push)
        journal.write(self.session.place, self.entry)
        try:
            self.run(line, title=title)
        except DevkitError:
            self.entry = replace(self.entry, pushes=self.entry.pushes[:-1])
            raise
        self.stays = True

    def finish(self) -> None:
        """Write down what was left behind."""
        top = self.session.place.top
        looks = any(Path(checkout.path) == top for checkout in self.before.checkouts)
        now = self.session.state(status=looks, since=self.state)
        statuses = {}
        for checkout in self.before.checkouts:
            if Path(checkout.path) == top:
                statuses[checkout.git_dir] = now.status
            elif (Path(checkout.path) / ".git").exists():
                statuses[checkout.git_dir] = read_status(self.session.git.at(Path(checkout.path)))
        refs = moved(self.before, now.own_refs, self.writes.refs)
        after = journal.what_was_left(self.session.git, self.before, now, refs, statuses)
        for name in self.entry.creates:
            if (Path(name) / ".git").exists():
                marks = journal.file_marks(Path(name), read_status(self.session.git.at(Path(name))))
                after = replace(after, files={**after.files, name: marks})
        self.entry = replace(self.entry, after=after)
        journal.write(self.session.place, self.entry)
        self.record.record["lines"] = self.lines
        packed, self.packed = self.packed, None  # an interrupt may bring this here twice
        settle(self.session, now, packed)


def moved(before: Snapshot, now: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return the refs that are not as the snapshot has them, with their objects now (empty: gone)."""
    return journal.moved_refs(
        before, now, {name: "" for name in now if snapshot.is_kept(name)} | dict.fromkeys(named, "")
    )


def return_to(
    session: Session, before: Snapshot, entry: journal.JournalEntry, *, keep: frozenset[str] = frozenset()
) -> Restored:
    """Make the repository what a snapshot says, in what the run moved; a run without an end moved all that differs.

    Args:
        session: the clone.
        before: the snapshot.
        entry: the run.
        keep: refs that stay as they are.
    """
    git = session.git
    found = {checkout.path: differences(git, checkout) for checkout in before.checkouts}
    now = refs_now(git)
    names = entry.after.refs if entry.after else moved(before, now)
    wanted = {name: before.refs.get(name, "") for name in names}
    for checkout in before.checkouts:  # the branch that is checked out must be what its index and files belong to
        name = checkout.head.strip().removeprefix("ref: ")
        if name.startswith("refs/heads/"):
            wanted[name] = before.refs.get(name, "")
    wanted = {name: oid for name, oid in wanted.items() if now.get(name, "") != oid and name not in keep}
    made = [Path(path) for path in entry.creates]
    for path in made:
        remove_worktree(git, path)
    restored = put_back(git, before, found, wanted)
    then, since = sections(before.config), sections(session.state(status=False).local)
    config = blobs_of(git, [before.config_file])(before.config_file) if before.config_file else b""
    for name in entry.after.config if entry.after else {*then, *since}:
        if then.get(name) != since.get(name):
            set_branch_config(git, session.place.common_dir, name, then.get(name, ()), config)
    return restored


def stable(state: State) -> list[str]:
    """Return the commits whose history stays here whatever devkit lets go of: the default branches of the remotes."""
    found = []
    for remote in state.remotes:
        prefix = f"refs/remotes/{remote}/"
        names = [state.symrefs.get(f"{prefix}HEAD", ""), *(prefix + name for name in USUAL_BASE_BRANCHES)]
        found += [state.refs[name] for name in names if name in state.refs]
    return found


def is_saved(git: Git, name: str, oid: str) -> bool:
    """Tell whether a ref of git's is saved work of devkit's."""
    return name.startswith(PRIVATE) and name.removeprefix(PRIVATE).isdigit() and has_document(git, oid)


@contextlib.contextmanager
def change(
    session: Session,
    command: str,
    state: State,
    writes: WriteSet,
    *,
    creates: Iterable[Path] = (),
    undoes: str = "",
    arguments: Mapping[str, Any],
) -> Iterator[RunningChange]:
    """Do a change, as ``Session.change`` says."""
    for path in (*([session.place.git_dir] if writes.checkout else []), *writes.checkouts):
        _free(session, path)
    known = None
    if writes.checkout:  # else the status may not have been read
        branch, dirty = state.branch or "(detached)", bool(state.status.entries)
        known = {"dirty": dirty, "commit": state.head or "(initial)", "branch": branch}
    with session.app.start_run(command, known, **arguments) as run:
        session.git.log = run.log("git")
        before, oid = snapshot.take(
            session.git, state, run.id, command, writes, limit=session.app.config.get("undo.max-mib") * MIB
        )
        older = journal.entries(session.place)
        number = max((entry.sequence for entry in older), default=0) + 1
        entry = journal.JournalEntry(
            run.id, command, time.time(), tuple(map(str, creates)), undoes=undoes, sequence=number, snapshot=oid
        )
        journal.write(session.place, entry)
        run.hold("undo")
        change = RunningChange(session, state, run, before, writes, entry)
        with _packed(session, state, oid, older) as change.packed:
            try:
                yield change
                change.finish()
            except BaseException as error:
                if not change.stays:
                    _roll_back(session, change, run, error)
                else:
                    change.finish()
                raise
        _forget_old(session, [entry, *older])


@contextlib.contextmanager
def _packed(
    session: Session, state: State, oid: str, older: Iterable[journal.JournalEntry]
) -> Iterator[tuple[str, store.Packing, Callable[[], bool]] | None]:
    """Begin to pack a snapshot, beside the change that it is for."""
    known = stable(state)
    kept = [entry.snapshot for entry in older if entry.snapshot]
    wanted = store.packing(
        session.place.common_dir, [oid], known, [*kept, *(state.refs[name] for name in state.private)]
    )
    held = any(name.startswith(snapshot.NAMESPACE) for name in state.own_refs)  # of an older version: packed first
    if not known or wanted.whole or held:
        yield None
        return
    with store.begin(session.git, session.place.common_dir, wanted) as finish:
        yield oid, wanted, finish


def _free(session: Session, path: Path) -> None:
    """Refuse to work beside another git."""
    place = session.place if path == session.place.git_dir else find_place(session.git.at(path))
    lock = place.git_dir / "index.lock"
    if lock.exists():
        raise left_lock(lock)


def _roll_back(session: Session, change: RunningChange, run: Run, error: BaseException) -> None:
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    session.git.shielded = True  # a terminal sends the second Ctrl-C to git too
    try:
        return_to(session, change.before, change.entry)
        drop(session, run.id)
        run.release("undo")
        if isinstance(error, KeyboardInterrupt):
            session.app.restored.append("the repository is as it was before")
            for push in change.entry.pushes:  # nobody knows how far it came
                line_ = f"git ls-remote {shlex.quote(push.remote)} {shlex.quote(push.ref)}"
                session.app.restored.append(f"the push to {push.remote} may have arrived: {line_}")
    except (DevkitError, OSError) as failed:
        session.app.console.warn(f"the repository could not be put back at once: {failed}")
        session.app.console.next(f"devkit undo {run.id} --yes   puts the repository back, once that is mended")
    finally:
        session.git.shielded = False
        for number, handler in handlers.items():
            signal.signal(number, handler)


def drop(session: Session, run_id: str) -> None:
    """Let go of a snapshot and its journal entry."""
    session.git.ask("update-ref", "-d", snapshot.NAMESPACE + run_id)
    journal.forget(session.place, run_id)


def settle(session: Session, state: State, own: tuple[str, store.Packing, Callable[[], bool]] | None = None) -> None:
    """Take snapshots and saved work from git's refs to where only devkit looks, those of older versions too.

    Until then, and where it cannot be done, the refs hold them.

    Args:
        session: the clone.
        state: its state now.
        own: this run's snapshot, the pack that keeps it, and what ends its writing.
    """
    entries = {snapshot.NAMESPACE + entry.id: entry for entry in journal.entries(session.place)}
    held = {name: oid for name, oid in state.refs.items() if name not in state.private}
    saved = {name: oid for name, oid in held.items() if is_saved(session.git, name, oid)}
    undo = {name: oid for name, oid in held.items() if name in entries}
    if not saved and not undo:
        return
    kept = [entry.snapshot for name, entry in entries.items() if entry.snapshot and name not in held]
    kept += [oid for name, oid in PrivateRefs(session.place.common_dir).read().items() if name not in held]
    try:
        roots = [*saved.values(), *undo.values()]
        if own and own[0] in roots and _still(session, own[1].known, stable(state)) and own[2]():
            roots.remove(own[0])
            kept.append(own[0])
        if roots and not store.keep(
            session.git, session.place.common_dir, store.packing(session.place.common_dir, roots, stable(state), kept)
        ):
            return
        for name, oid in undo.items():
            if entries[name].snapshot != oid:
                journal.write(session.place, replace(entries[name], snapshot=oid))
        PrivateRefs(session.place.common_dir).update(saved)
    except (DevkitError, OSError) as error:
        if session.app.console.verbose:
            session.app.console.warn(f"snapshots stay in refs/devkit: {error}")
        return
    session.delete({**dict.fromkeys(session.arrived, ""), **saved, **undo})


def _still(session: Session, known: Iterable[str], now: Sequence[str]) -> bool:
    """Tell whether the history of commits that were the remotes' branches is theirs still."""
    gone = [oid for oid in known if oid not in now]
    if not gone:
        return True
    data = "".join(f"{oid}\n" for oid in gone) + "".join(f"^{oid}\n" for oid in now)
    answer = session.git.ask("rev-list", "--max-count=1", "--stdin", data=data.encode())
    return not answer.status and not answer.stdout


def _forget_old(session: Session, entries: Sequence[journal.JournalEntry]) -> None:
    from devkit.runs import Run as RunRecord

    for entry in entries[max(session.app.config.get("undo.keep"), 1) :]:
        if entry.snapshot:
            journal.forget(session.place, entry.id)
        else:
            drop(session, entry.id)
        with contextlib.suppress(DevkitError):
            found = session.app.runs.find(entry.id)
            RunRecord(found.folder, found.record, session.app.runs).release("undo")
