"""One command's work in a clone: the lock, the snapshot before, the lines, the journal after, and the way back.

Killed at any point, the snapshot and its journal entry are there, and ``devkit undo`` returns to it. Interrupted, or
when a line fails, it is returned to at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import signal
import stat
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.git import journal, snapshot, store
from devkit.git.changes import lstat
from devkit.git.command import Git, line, lines_of, quoted
from devkit.git.restore import differences, put_back, refs_now, remove_worktree, sections, set_branch_config
from devkit.git.roles import USUAL_BASE_BRANCHES
from devkit.git.snapshot import MIB, WriteSet, blobs_of
from devkit.git.state import State, find_place, read_state, read_status
from devkit.git.store import PRIVATE, PrivateRefs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from devkit.app import App
    from devkit.git.command import Answer, Line
    from devkit.git.restore import Restored
    from devkit.git.snapshot import Snapshot
    from devkit.git.state import Place
    from devkit.runs import Run


WIP_DOCUMENT = "wip.json"
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
        dry: nothing is to be changed.
    """

    app: App
    git: Git
    place: Place
    arrived: dict[str, str] = field(default_factory=dict)
    dry: bool = False
    warned: bool = False

    def state(self, *, status: bool = True) -> State:
        """Read the clone's state; what an operation that was ended by hand left aside is said, once."""
        state = read_state(self.git, self.place, status=status)
        mark = self.place.git_dir / REBASE_MARK
        if not self.warned and mark.exists() and not self.place.operation:
            self.warned = True
            with contextlib.suppress(OSError, ValueError, AttributeError):
                number = json.loads(mark.read_text("utf-8")).get("wip")
                if number and f"{PRIVATE}{number}" in state.refs:
                    what = "the rebase was ended by hand; your uncommitted work of before is put aside"
                    self.app.console.look(f"{what}: devkit wip restore --from {number}")
        return state

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
    ) -> Iterator[Change]:
        """Do a change: ``with session.change("pr fetch", state, writes, numbers=[7]) as change: change.run(…)``."""
        if state.setting("extensions.refstorage") == "reftable":
            raise DevkitError(
                "this repository keeps its refs in reftables",
                "devkit cannot keep and restore those yet.",
                "git refs migrate --ref-format=files",
            )
        for path in (*([self.place.git_dir] if writes.checkout else []), *writes.checkouts):
            self._free(path)
        known = None
        if writes.checkout:  # else the status may not have been read
            branch, dirty = state.branch or "(detached)", bool(state.status.entries)
            known = {"dirty": dirty, "commit": state.head or "(initial)", "branch": branch}
        with self.app.start_run(command, known, **arguments) as run:
            self.git.log = run.log("git")
            before, oid = snapshot.take(
                self.git, state, run.id, command, writes, limit=self.app.config.get("undo.max-mib") * MIB
            )
            number = journal.next_sequence(self.place)
            entry = journal.Entry(
                run.id, command, time.time(), tuple(map(str, creates)), undoes=undoes, sequence=number, snapshot=oid
            )
            journal.write(self.place, entry)
            run.hold("undo")
            change = Change(self, run, before, writes, entry)
            try:
                yield change
                change.finish()
            except BaseException as error:
                if not change.stays:
                    self._roll_back(change, run, error)
                else:
                    change.finish()
                raise
            self._forget_old()

    def _free(self, path: Path) -> None:
        """Refuse to work beside another git."""
        lock = (path if path == self.place.git_dir else find_place(self.git.at(path)).git_dir) / "index.lock"
        if lock.exists():
            raise DevkitError(
                f"{lock} is there",
                "Another git works in this checkout, or was killed in it.",
                f"rm -- {shlex.quote(str(lock))}",
            )

    def _roll_back(self, change: Change, run: Run, error: BaseException) -> None:
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        self.git.shielded = True  # a terminal sends the second Ctrl-C to git too
        try:
            return_to(self, change.before, change.entry)
            self.drop(run.id)
            run.release("undo")
            if isinstance(error, KeyboardInterrupt):
                self.app.restored.append("the repository is as it was before")
                for push in change.entry.pushes:  # nobody knows how far it came
                    line_ = f"git ls-remote {shlex.quote(push.remote)} {shlex.quote(push.ref)}"
                    self.app.restored.append(f"the push to {push.remote} may have arrived: {line_}")
        except (DevkitError, OSError) as failed:
            self.app.console.look(f"the repository could not be put back at once: {failed}")
            self.app.console.next(f"devkit undo {run.id} --yes   puts the repository back, once that is mended")
        finally:
            self.git.shielded = False
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def drop(self, run_id: str) -> None:
        """Let go of a snapshot and its journal entry."""
        self.git.ask("update-ref", "-d", snapshot.NAMESPACE + run_id)
        journal.forget(self.place, run_id)

    def settle(self, state: State) -> None:
        """Take snapshots and saved work from git's refs to where only devkit looks, those of older versions too.

        Until then, and where it cannot be done, the refs hold them.
        """
        entries = {snapshot.NAMESPACE + entry.id: entry for entry in journal.entries(self.place)}
        private = PrivateRefs(self.place.common_dir)
        held = refs_now(Git(self.app, self.git.directory, self.git.holds), "refs/devkit/")
        saved = {name: oid for name, oid in held.items() if is_saved(self.git, name, oid)}
        undo = {name: oid for name, oid in held.items() if name in entries}
        if not saved and not undo:
            return
        kept = [entry.snapshot for name, entry in entries.items() if entry.snapshot and name not in held]
        kept += [oid for name, oid in private.read().items() if name not in held]
        try:
            roots = [*saved.values(), *undo.values()]
            if not store.keep(self.git, self.place.common_dir, roots, stable(state), kept):
                return
            for name, oid in undo.items():
                if entries[name].snapshot != oid:
                    journal.write(self.place, replace(entries[name], snapshot=oid))
            private.update(saved)
        except (DevkitError, OSError) as error:
            if self.app.console.verbose:
                self.app.console.look(f"snapshots stay in refs/devkit: {error}")
            return
        data = os.fsencode("".join(f"delete {name}\0{oid}\0" for name, oid in {**saved, **undo}.items()))
        self.git.ask("update-ref", "-z", "--stdin", data=data)

    def _forget_old(self) -> None:
        from devkit.runs import Run as RunRecord

        for entry in journal.entries(self.place)[max(self.app.config.get("undo.keep"), 1) :]:
            if entry.snapshot:
                journal.forget(self.place, entry.id)
            else:
                self.drop(entry.id)
            with contextlib.suppress(DevkitError):
                found = self.app.runs.find(entry.id)
                RunRecord(found.folder, found.record, self.app.runs).release("undo")


@dataclass
class Change:
    """A change that goes on.

    Attributes:
        before: the snapshot.
        stays: what was done stays, though the command fails (a rebase that stopped at a conflict).
    """

    session: Session
    record: Run
    before: Snapshot
    writes: WriteSet
    entry: journal.Entry
    stays: bool = False
    lines: list[str] = field(default_factory=list)

    def run(self, each: Line, *, check: bool = True, title: str = "", env: Mapping[str, str] | None = None) -> Answer:
        """Carry out one line."""
        self.lines.append(str(each))
        return self.session.git.execute(each, check=check, title=title, env=env)

    def push(self, push: journal.Push, each: Line, *, title: str) -> None:
        """Push: the journal knows of it before the remote does."""
        self.entry = journal.with_push(self.entry, push)
        journal.write(self.session.place, self.entry)
        try:
            self.run(each, title=title)
        except DevkitError:
            self.entry = replace(self.entry, pushes=self.entry.pushes[:-1])
            raise
        self.stays = True

    def finish(self) -> None:
        """Write down what was left behind."""
        now = self.session.state(status=False)
        statuses = {}
        for each in self.before.checkouts:
            if (Path(each.path) / ".git").exists():
                statuses[each.git_dir] = read_status(self.session.git.at(Path(each.path)))
        refs = moved(self.before, now.own_refs, self.writes.refs)
        after = journal.what_was_left(self.before, now, refs, statuses)
        for name in self.entry.creates:
            if (Path(name) / ".git").exists():
                marks = journal.file_marks(Path(name), read_status(self.session.git.at(Path(name))))
                after = replace(after, files={**after.files, name: marks})
        self.entry = replace(self.entry, after=after)
        journal.write(self.session.place, self.entry)
        self.record.record["lines"] = self.lines
        self.session.settle(now)


def moved(before: Snapshot, now: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return the refs that are not as the snapshot has them, with their objects now (empty: gone)."""
    return journal.moved_refs(
        before, now, {name: "" for name in now if snapshot.is_kept(name)} | dict.fromkeys(named, "")
    )


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
        with journal.locked(git, place) if changes else contextlib.nullcontext():
            git.private = PrivateRefs(place.common_dir)
            session = Session(app, git, place, dry=dry)
            try:
                yield session
            finally:
                if session.arrived:
                    clear_incoming(session)
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


def return_to(
    session: Session, before: Snapshot, entry: journal.Entry, *, keep: frozenset[str] = frozenset()
) -> Restored:
    """Make the repository what a snapshot says, in what the run moved; a run without an end moved all that differs.

    Args:
        session: the clone.
        before: the snapshot.
        entry: the run.
        keep: refs that stay as they are.
    """
    git = session.git
    found = {each.path: differences(git, each) for each in before.checkouts}
    now = refs_now(git)
    names = entry.after.refs if entry.after else moved(before, now)
    wanted = {name: before.refs.get(name, "") for name in names}
    for each in before.checkouts:  # the branch that is checked out must be what its index and files belong to
        name = each.head.strip().removeprefix("ref: ")
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


def since(session: Session, before: Snapshot, entry: journal.Entry, now: State) -> list[str]:
    """Return what moved since a run ended, as lines for a person: what going back would discard."""
    if entry.after is None:
        return []
    found = []
    for name, oid in entry.after.refs.items():
        if now.refs.get(name, "") != oid and now.refs.get(name, "") != before.refs.get(name, ""):
            found.append(f"{short(name)} moved{_commits(session.git, oid, now.refs.get(name, ''))}")
    found += _settings_since(entry.after, now)
    later = [run.after.files for run in journal.entries(session.place) if run.after]
    for each in before.checkouts:
        top = Path(each.path)
        name = each.head.strip().removeprefix("ref: ")
        if name not in entry.after.refs and now.refs.get(name, "") != before.refs.get(name, ""):
            found.append(
                f"{short(name)} moved{_commits(session.git, before.refs.get(name, ''), now.refs.get(name, ''))}"
            )
        if not (top / ".git").exists():
            continue
        if journal.head_of(top) != entry.after.heads.get(each.git_dir):
            found.append(f"another commit or branch was checked out in {top}")
        marks = journal.file_marks(top, read_status(session.git.at(top)))
        then = entry.after.files.get(each.git_dir, {})
        # an undo before this one may have written the files anew
        left = next((files[each.git_dir] for files in later if each.git_dir in files), {})
        edited = sorted(
            path
            for path in {*marks, *then}
            if marks.get(path) != then.get(path) and (path not in left or marks.get(path) != left[path])
        )
        held = {file.path for file in each.files}
        new = [path for path in edited if path not in then and path not in held and marks[path].startswith(" ")]
        found += [f"{path} was edited" for path in edited if path not in new]
        found += [f"{path} was edited, which git was told to overlook" for path in overlooked(session.git.at(top))]
    return found + _made_since(session, entry.creates, entry.after)


def overlooked(git: Git) -> list[str]:
    """Return the files that differ from the index though ``git status`` does not say so: marked to be overlooked."""
    rows = os.fsdecode(git.read("ls-files", "-v", "-z")).split("\0")
    marked = [row[2:] for row in rows if row and (row[0].islower() or row[0] == "S")]
    regular = [path for path in marked if (found := lstat(git.directory / path)) and stat.S_ISREG(found.st_mode)]
    if not regular:
        return []
    data = b"".join(quoted(path) + b"\n" for path in regular)
    now = git.read("hash-object", "--stdin-paths", data=data).decode().split()
    stages = os.fsdecode(git.read("ls-files", "-z", "--stage")).split("\0")
    index = {path: facts.split(" ")[1] for facts, _, path in (row.partition("\t") for row in stages if row)}
    return [path for path, oid in zip(regular, now, strict=True) if index.get(path) != oid]


def _settings_since(after: journal.After, now: State) -> list[str]:
    settings = sections(now.local)
    return [
        f"the settings of the branch {name} changed"
        for name, then in after.config.items()
        if _own_settings(settings.get(name, ())) != _own_settings(map(tuple, then))
    ]


def _made_since(session: Session, creates: Iterable[str], after: journal.After) -> list[str]:
    found = []
    for name in creates:
        path = Path(name)
        if path.is_dir():
            marks = journal.file_marks(path, read_status(session.git.at(path)))
            then = after.files.get(name, {})
            found += [
                f"{path / each} was edited" for each in sorted({*marks, *then}) if marks.get(each) != then.get(each)
            ]
    return found


def _own_settings(config: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [each for each in config if not each[0].endswith(".devkitfetched")]


def short(name: str) -> str:
    """Return a ref's name as people say it."""
    for prefix in ("refs/heads/", "refs/remotes/", "refs/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _commits(git: Git, before: str, after: str) -> str:
    if not after:
        return ": it was deleted"
    words = ["log", "-3", "--format=%h %s", after, *([f"^{before}"] if before else []), "--"]
    lines = lines_of(git.ask(*words).stdout)
    return f": {'; '.join(lines)}" if lines else ""


def incoming(
    session: Session, remote: str, sources: Mapping[str, str], *, depth: int = 0, title: str
) -> dict[str, str]:
    """Fetch refs of a remote in one round trip, beside all that is here, and return their objects.

    Args:
        session: the clone.
        remote: the remote's name.
        sources: the remote's refs, each with the name that it gets below ``refs/devkit/incoming/``.
        depth: how many commits deep; all with 0.
        title: what the progress line says.
    """
    session.git.execute(fetch_line(remote, sources, depth=depth), title=title)
    now = session.arrived = refs_now(session.git, snapshot.INCOMING)
    return {source: now[snapshot.INCOMING + name] for source, name in sources.items()}


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
        *(f"+{source}:{snapshot.INCOMING}{name}" for source, name in sources.items()),
        slow=True,
    )


def clear_incoming(session: Session) -> None:
    """Remove what ``incoming`` fetched; what is wanted has a ref of its own by then."""
    names = session.arrived or refs_now(session.git, snapshot.INCOMING)
    session.arrived = {}
    if names:
        data = os.fsencode("".join(f"delete {name}\0\0" for name in names))
        session.git.ask("update-ref", "-z", "--stdin", data=data)


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
    number = name.removeprefix(PRIVATE)
    if not name.startswith(PRIVATE) or not number.isdigit():
        return False
    return git.ask("cat-file", "-e", f"{oid}:{WIP_DOCUMENT}").status == 0
