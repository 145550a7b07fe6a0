"""Run records: what was run, where, and what came of it; one folder a run."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from devkit import __version__
from devkit.errors import DevkitError, ExitStatus, Hint
from devkit.files import explained, write_atomically
from devkit.locks import flock
from devkit.redact import redact, redact_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

RECORD = "record.json"
EVENTS = "events.jsonl"
LOCK = ".running"
REMOVED = ".removed-"
NAMED_BY = ("id", "command", "started")
MIB = 1024 * 1024

Hold = Literal["checkpoint", "undo", "transfer"]


class Run:
    """The record of a run that is going on; use it as a context manager.

    Attributes:
        folder: where the record, the events and the logs are.
        record: what ``record.json`` holds; ``result`` in it is the command's to fill.
    """

    def __init__(self, folder: Path, record: dict[str, Any], store: RunStore) -> None:
        self.folder = folder
        self.record = record
        self._store = store
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._running: IO[bytes] | None = None
        self._events: IO[str] | None = None
        self._lost = ""

    @property
    def id(self) -> str:
        """The short name that people type."""
        return str(self.record["id"])

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True)
            self._running = (self.folder / LOCK).open("wb")
            flock(self._running.fileno())
            self._write(sync=False)
        except (OSError, DevkitError) as error:
            self._lose(
                f"{self.folder.parent}: {error.strerror}"
                if isinstance(error, OSError)
                else f"{error.what}: {error.why}"
            )
            with contextlib.suppress(OSError):
                shutil.rmtree(self.folder)
            # Logs and workers still need a folder, for as long as the run goes on.
            with explained(Path(tempfile.gettempdir())):
                self.folder = Path(tempfile.mkdtemp(prefix="devkit-run-"))
            self.save(sync=False)
        return self

    def _lose(self, why: str) -> None:
        """Say, once, that no record is kept: the work itself goes on."""
        if not self._lost:
            self._lost = why
            self._store.say(f"no record of this run is kept ({why})")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.record["seconds"] = round(time.monotonic() - self._started, 3)
        if error is None:
            self.record["status"] = self.record["status"] if self.record["status"] is not None else int(ExitStatus.DONE)
        elif isinstance(error, DevkitError):
            self.record["status"] = int(error.status)
            self.record["error"] = {"what": error.what, "why": error.why, "remedies": list(error.remedies)}
        elif isinstance(error, KeyboardInterrupt):
            self.record["status"] = int(ExitStatus.INTERRUPTED)
        else:
            self.record["status"] = int(ExitStatus.BUG)
            self.record["error"] = {"what": f"{type(error).__name__}: {error}"}
        self.save()
        with contextlib.suppress(OSError):
            if self._events:
                self._events.close()
            if self._running:
                (self.folder / LOCK).unlink(missing_ok=True)
                self._running.close()
        if self.folder.parent != self._store.root:
            if self.record["holds"]:
                self._store.say(f"what this run holds ({', '.join(self.record['holds'])}) is in {self.folder}")
            else:
                shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(DevkitError):
            self._store.prune(spare=self.folder)

    def save(self, *, sync: bool = True) -> None:
        """Write ``record.json`` as it stands, whole or not at all; where that cannot be, say so and go on."""
        try:
            self._write(sync=sync)
        except DevkitError as error:
            self._lose(f"{error.what}: {error.why}")

    def _write(self, *, sync: bool) -> None:
        text = json.dumps(redact_value(self.record), indent=2, allow_nan=False, ensure_ascii=True)
        write_atomically(self.folder / RECORD, text.encode(), sync=sync)

    def event(self, event: dict[str, Any]) -> None:
        """Append one event; threads may call it."""
        line = json.dumps(redact_value(event), allow_nan=False) + "\n"
        with self._lock:
            try:
                if self._events is None:
                    self._events = (self.folder / EVENTS).open("a", encoding="utf-8")
                self._events.write(line)
                self._events.flush()
            except OSError as error:
                self._lose(f"{self.folder / EVENTS}: {error.strerror}")

    def log(self, name: str) -> Path:
        """Return the path of a log in the folder."""
        return self.folder / f"{name}.log"

    def hold(self, what: Hold) -> None:
        """Keep this record from being cleaned: it holds something that would be lost with it."""
        if what not in self.record["holds"]:
            self.record["holds"].append(what)
            if what != "undo":  # what undo needs is in the repository
                self.save()

    def release(self, what: Hold) -> None:
        """Let go of what ``hold`` kept."""
        if what in self.record["holds"]:
            self.record["holds"].remove(what)
            self.save()


@dataclass(frozen=True)
class RecordedRun:
    """A run of the past, or one that still goes on."""

    folder: Path
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """The short name that people type."""
        return str(self.record.get("id", self.folder.name))

    @property
    def running(self) -> bool:
        """Whether its devkit is alive."""
        try:
            with (self.folder / LOCK).open("rb") as file:
                locked = flock(file.fileno(), shared=True)
        except OSError:
            return False
        if locked is None:  # a file system without locks: its process is all that there is to see
            return Path(f"/proc/{self.record.get('pid')}").exists()
        return not locked

    @property
    def state(self) -> str:
        """``running``, ``killed`` (it never wrote its end) or what its exit status says."""
        status = self.record.get("status")
        if status is None:
            return "running" if self.running else "killed"
        return {0: "done", 4: "bad verdict", 130: "interrupted"}.get(status, "failed")

    @cached_property
    def size(self) -> int:
        """What the folder takes on the disk, in bytes."""
        return _disk_use(self.folder)


def _disk_use(folder: str | Path) -> int:
    """Return what the files below a folder take on the disk, in bytes; what cannot be read counts as nothing."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(OSError):
                deeper = entry.is_dir(follow_symlinks=False)
                total += _disk_use(entry.path) if deeper else entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def _record(folder: Path) -> dict[str, Any]:
    """Return a run's record, empty where it cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(record, dict) and all(isinstance(record.get(key), str) for key in NAMED_BY)
    return record if whole else {}


class RunStore:
    """All run records of this user.

    Args:
        root: their folder.
        keep: how many are kept.
        max_mib: what they may take together, in MiB.
        say: how it is said that no record can be kept.
    """

    def __init__(self, root: Path, *, keep: int, max_mib: int, say: Callable[[str], None] = lambda _: None) -> None:
        self.root = root
        self.keep = keep
        self.max_mib = max_mib
        self.say = say

    def start(
        self,
        command: str,
        *,
        arguments: dict[str, Any] | None = None,
        argv: Sequence[str] | None = None,
        git: Mapping[str, Any] | None = None,
    ) -> Run:
        """Return the record of a run that begins: ``with store.start("bench attn") as run``.

        ``git`` is the clone's state; it is read where it is not given.
        """
        import shlex

        from devkit.fingerprint import git_state, host_fingerprint

        now = dt.datetime.now(dt.timezone.utc)
        run_id = os.urandom(2).hex()
        while any(self.root.glob(f"*-{run_id}")):
            run_id = os.urandom(3).hex()
        slug = re.sub(r"[^a-z0-9]+", "-", command.lower()).strip("-")
        record = {
            "id": run_id,
            "command": command,
            "arguments": arguments or {},
            "reproduce": redact(shlex.join(["devkit", *(sys.argv[1:] if argv is None else argv)])),
            "directory": str(Path.cwd()),
            "started": now.isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "versions": {"devkit": __version__, "python": sys.version.split()[0]},
            "host": host_fingerprint(),
            "git": git_state(Path.cwd()) if git is None else dict(git),
            "holds": [],
            "status": None,
            "result": None,
        }
        stamp = f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}"  # names sort as the runs began
        return Run(self.root / f"{stamp}-{slug}-{run_id}", record, self)

    def entries(self) -> Iterator[RecordedRun]:
        """Yield the runs, newest first."""
        for folder in sorted(self.root.glob("[!.]*/"), key=lambda path: path.name, reverse=True):
            record = _record(folder)
            if record:
                yield RecordedRun(folder, record)

    def find(self, name: str, *, command: str = "", exact: bool = False) -> RecordedRun:
        """Return the run with this id, or its beginning; ``last`` is the newest one.

        Args:
            name: what the user typed.
            command: only runs of commands that begin so.
            exact: only runs of just that command.

        Raises:
            DevkitError: there is none, or several begin so.
        """
        entries = [entry for entry in self.entries() if str(entry.record.get("command", "")).startswith(command)]
        entries = [entry for entry in entries if not exact or entry.record["command"] == command]
        if name == "last" and entries:
            return entries[0]
        found = [entry for entry in entries if entry.id == name] or [
            entry for entry in entries if entry.id.startswith(name)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            why = f"{', '.join(recorded_run.id for recorded_run in found)} begin so."
            raise DevkitError(f"{name} is not one run", why, f"devkit runs show {found[0].id}")
        raise self._not_found(name, command)

    def _not_found(self, name: str, command: str) -> DevkitError:
        of = f" of devkit {command}" if command else ""
        those = Hint.of("devkit", "runs", "list", *(["--command", command] if command else []))
        if name == "last":
            return DevkitError(f"there is no run{of} yet", "", those)
        others = [entry for entry in self.entries() if name and entry.id.startswith(name)]
        if len(others) == 1:
            other = others[0]
            return DevkitError(f"run {other.id} is one of devkit {other.record.get('command')}, not{of}", "", those)
        return DevkitError(f"there is no run {name}{of}", "", those)

    def excess(self, *, spare: Path | None = None) -> list[RecordedRun]:
        """Return the oldest runs beyond the bounds; one that goes on or holds something is never among them."""
        # Every command ends with this: records are read only where some must go.
        folders = sorted(self.root.glob("[!.]*/"), key=lambda path: path.name)
        sizes = [_disk_use(folder) for folder in folders]
        count, total = len(folders), sum(sizes)
        chosen: list[RecordedRun] = []
        for folder, size in zip(folders, sizes, strict=True):
            if count <= self.keep and total <= self.max_mib * MIB:
                break
            entry = RecordedRun(folder, _record(folder))
            if folder == spare or entry.record.get("holds") or entry.running:
                continue
            chosen.append(entry)
            count -= 1
            total -= size
        return chosen

    def prune(self, *, spare: Path | None = None) -> list[RecordedRun]:
        """Remove what is in excess, and return it."""
        removed = self.excess(spare=spare)
        for entry in removed:
            self.remove(entry)
        for grave in self.root.glob(f"{REMOVED}*/"):
            shutil.rmtree(grave, ignore_errors=True)
        return removed

    def remove(self, entry: RecordedRun) -> None:
        """Delete a run's folder: first out of sight by a rename, so that no half of one is ever listed.

        Another devkit may have been faster: what is gone is gone.
        """
        grave = self.root / f"{REMOVED}{entry.folder.name}"
        with explained(entry.folder), contextlib.suppress(FileNotFoundError):
            entry.folder.rename(grave)
            shutil.rmtree(grave)
