"""The two work trees of a trial, in a repository of devkit's own: nothing is written into the user's clone.

The repository borrows the clone's objects (``objects/info/alternates``) and reads its settings (``include.path``), so
that a fetch brings only what is new, by the same proxies, rewritten addresses and credentials.
"""

from __future__ import annotations

import bisect
import contextlib
import glob
import hashlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from devkit.config import Config
from devkit.errors import DevkitError, Hint
from devkit.files import explained
from devkit.git.command import Git, GitFailed, line
from devkit.git.hunks import WORDS, hunks
from devkit.locks import Busy, hold
from devkit.paths import work_home
from devkit.tryout.file_kinds import belongs_to_tests
from devkit.tryout.sources import explain_fetch, fetch_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.git.command import Line
    from devkit.git.state import CloneDirs
    from devkit.tryout.sources import Sources

KEPT = "kept"
LOST = re.compile(
    r"bad object|[Cc]ould not read [0-9a-f]{40}|did not send all necessary objects|unable to find all commit"
)
DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded")
LONG_LIVED = re.compile(
    r"(?:main|master|develop|dev|next|trunk|v?\d+(?:\.(?:\d+|x))*|(?:releases?|stable|maint|maintenance)[-/].+|.+-stable)$"
)
"""Names of branches that requests go to."""
# After what the clone's settings say: its hooks and its sparse checkout are its own.
OVERRIDES = "[core]\n\thooksPath = /dev/null\n\tsparseCheckout = false\n"
NO_LFS = '[filter "lfs"]\n\tsmudge =\n\tclean =\n\tprocess =\n\trequired = false\n'
"""Where git-lfs is not installed, its files are checked out as the pointers that they are."""


@dataclass(frozen=True)
class Commits:
    """The commits of the two sides.

    Attributes:
        head: the request's; empty for the files of the work tree as they are.
        base: what it is compared with: where it left the base branch, or the commit that was asked for.
    """

    head: str
    base: str

    @property
    def pair(self) -> tuple[str, ...]:
        """What ``git diff`` is given to compare the sides."""
        return tuple(filter(None, (self.base, self.head)))


@dataclass(frozen=True)
class Changed:
    """A file that the request changes: ``A``, ``M`` or ``D``, and its lines on both sides.

    Attributes:
        old: what a file that is new was named before, where it was renamed.
    """

    path: str
    status: str
    before: frozenset[int] = frozenset()
    after: frozenset[int] = frozenset()
    old: str = ""


class Trial:
    """The folder of a request's trial, below devkit's cache."""

    def __init__(self, app: App, place: CloneDirs, number: int | str, object_format: str = "") -> None:
        digest = hashlib.sha256(os.fsencode(place.common_dir)).hexdigest()[:16]
        self.app = app
        self.place = place
        self.object_format = object_format or "sha1"
        self.home = work_home() / "tryout" / digest
        with contextlib.suppress(OSError):
            if self.home.stat().st_uid != os.geteuid():  # in a cache that users share: git works in one's own alone
                self.home = self.home.with_name(f"{digest}-{os.geteuid()}")
        self.repository = self.home / "repository.git"
        self.folder = self.home / str(number)

    def side(self, name: str) -> Path:
        """Return the work tree of a side."""
        return self.folder / name

    @property
    def git(self) -> Git:
        """Git in the trial's repository."""
        return Git(self.app, self.repository)

    @property
    def config(self) -> Config:
        """The settings of the base, as far as it is checked out."""
        return Config.load(self.side("base"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one devkit at a time work in the trials of a clone.

        Raises:
            DevkitError: another one does.
        """
        with contextlib.ExitStack() as stack:
            try:
                with explained(self.home):
                    stack.enter_context(hold(self.home / ".lock", str(os.getpid()), say=self.app.console.warn))
            except Busy as busy:
                raise DevkitError(
                    "another devkit pr try is at work for this clone",
                    "They share the work trees of its trials.",
                    *busy.hints,
                ) from busy
            yield

    def lines(self, sources: Sources) -> list[Line]:
        """Return the lines of git that bring the two sides here."""
        return [*self.init_lines(), fetch_line(sources, self.folder.name, self.repository)]

    def init_lines(self) -> list[Line]:
        """Return the line that makes the repository, where it is not there yet."""
        if (self.repository / "HEAD").is_file():
            return []
        words = ("init", "-q", "--bare", "--template=", f"--object-format={self.object_format}")
        return [line(*words, "--", str(self.repository), directory=self.home)]

    def open(self) -> None:
        """Make the repository where it is not there yet, and let it borrow from the clone.

        Raises:
            DevkitError: the disk is full, or git cannot.
        """
        with explained(self.repository), self._roomy():
            self.home.mkdir(parents=True, exist_ok=True)
            for init_line in self.init_lines():
                Git(self.app, self.home).execute(init_line)
            self._borrow()

    def fetch(self, sources: Sources, lines: Sequence[Line]) -> tuple[Commits, list[str]]:
        """Bring the request and its base by the lines of the plan; return their commits, and notes on the base.

        Raises:
            DevkitError: the remote does not answer, or has no such request.
        """
        self.open()
        try:
            self._fetch(lines[-1], sources)
        except GitFailed as failed:
            if not LOST.search(failed.answer.said):
                raise explain_fetch(failed, sources) from failed
            # What it borrowed is gone: the clone was made anew, or git gc threw it away.
            shutil.rmtree(self.repository, ignore_errors=True)
            self.open()
            self._fetch(lines[-1], sources)
        refs = f"refs/tryout/{self.folder.name}"
        head = self.git.text("rev-parse", f"{refs}/request^{{commit}}")
        base, notes = self._base_of(head, sources)
        self.git.read("update-ref", f"{refs}/left", base)
        return Commits(head, base), notes

    def _fetch(self, fetch: Line, sources: Sources) -> None:
        self.git.execute(fetch, title=f"fetching {sources.request}")

    def fetched(self, sources: Sources, tips: Mapping[str, str]) -> Commits | None:
        """Return the commits of the two sides where the remote's tips were fetched before; None where they were not."""
        refs = {"request": sources.request, "base": sources.base}
        for name, ref in refs.items():
            if ref and self._tip(name) != tips.get(ref):
                return None
        try:
            return Commits(tips[sources.request], self._base_of(tips[sources.request], sources)[0])
        except DevkitError:  # what it borrowed is gone, or the clone is no longer shallow: only a fetch tells
            return None

    def _tip(self, name: str) -> str:
        """Return the commit that was fetched last for a side; nothing where none was."""
        if not (self.repository / "HEAD").is_file():
            return ""
        said = self.git.ask("rev-parse", "--verify", "--quiet", f"refs/tryout/{self.folder.name}/{name}^{{commit}}")
        return said.stdout.decode().strip()

    def _base_of(self, head: str, sources: Sources) -> tuple[str, list[str]]:
        """Return the commit that a request is compared with, and what a person should know of it.

        Raises:
            DevkitError: the request has nothing in common with the base branch.
        """
        tip = sources.commit or f"refs/tryout/{self.folder.name}/base"
        left = self._merge_base(tip, head)
        if sources.commit:
            if left in {"", head, sources.commit}:
                return sources.commit, []
            return left, [f"{sources.commit[:10]} went on since the request left it at {left[:10]}, its base here"]
        if not left:
            shallow = self.place.shallow
            history = Hint.of("git", "fetch", "--unshallow", "--", sources.remote, purpose="brings the rest of it")
            raise DevkitError(
                "the request and its base have no commit in common",
                "This clone is shallow: where they parted is not in it."
                if shallow
                else "There is nothing to compare with.",
                *([history] if shallow else []),
                "--base COMMIT   names another base",
            )
        if left == head:
            began, merge = self._before_its_merge(tip, head)
            return (began, [f"it is merged already, by {merge[:10]}"]) if began else (left, [])
        for branch, oid in self._release_branches(tip, head, sources.branches):
            nearer = self._merge_base(oid, head)
            if nearer and not self.git.ask("merge-base", "--is-ancestor", left, nearer).status:
                return nearer, [f"it left {branch} (--base names another base)"]
        return left, []

    @contextlib.contextmanager
    def _roomy(self) -> Iterator[None]:
        """Turn git's word that the disk is full into an error that tells where else the work trees may go."""
        try:
            yield
        except GitFailed as failed:
            if not DISK_FULL.search(failed.answer.said):
                raise
            raise DevkitError(
                "the work trees could not be written",
                f"{failed.answer.said.strip().splitlines()[-1]}: {self.home}",
                Hint.of("df", "-h", str(self.home)),
                Hint("export XDG_CACHE_HOME=/path", "puts them on another disk"),
            ) from failed

    def _merge_base(self, one: str, two: str) -> str:
        """Return the last commit that two have in common; empty where there is none."""
        return self.git.ask("merge-base", one, two).stdout.decode().strip()

    def _before_its_merge(self, tip: str, head: str) -> tuple[str, str]:
        """Return where a request began that is merged already, and the merge; empty where no merge tells it."""
        merges = self.git.text("rev-list", "--first-parent", "--merges", "--reverse", f"{head}..{tip}", "--").split()
        place = bisect.bisect_left(
            merges, True, key=lambda merge: not self.git.ask("merge-base", "--is-ancestor", head, merge).status
        )
        if place == len(merges):
            return "", ""
        began = self._merge_base(f"{merges[place]}^1", head)
        return ("", "") if began == head else (began, merges[place])

    def _release_branches(self, tip: str, head: str, branches: str) -> list[tuple[str, str]]:
        """Return the remote's long-lived branches that hold the request's first commits, and not its last.

        A request that goes to a release branch holds commits of that branch that the base branch has not.
        """
        own = self.git.text("rev-list", "--first-parent", head, "--not", tip, "--").split()
        if not own or not branches:
            return []
        words = ("for-each-ref", f"--contains={own[-1]}", "--format=%(objectname) %(refname)", branches)
        said = Git(self.app, self.place.common_dir).ask(*words)  # fails where the clone has no such commit
        found = []
        for row in os.fsdecode(said.stdout).splitlines() if not said.status else ():
            oid, _, ref = row.partition(" ")
            name = ref.removeprefix(branches)
            if LONG_LIVED.match(name) and self.git.ask("merge-base", "--is-ancestor", head, oid).status:
                found.append((name, oid))
        return found

    def _borrow(self) -> None:
        """Let the repository read the clone's objects and settings."""
        common = self.place.common_dir
        info = self.repository / "objects" / "info"
        info.mkdir(parents=True, exist_ok=True)
        theirs = [f"{common / 'objects'}"]
        with contextlib.suppress(OSError):  # what the clone borrows itself
            theirs += (common / "objects" / "info" / "alternates").read_text("utf-8").splitlines()
        (info / "alternates").write_text("".join(f"{their}\n" for their in theirs), "utf-8")
        (self.repository / "shallow").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(common / "shallow", self.repository / "shallow")
        config = self.repository / "config"
        text = config.read_text("utf-8", "surrogateescape")
        quoted = str(common / "config").replace("\\", "\\\\").replace('"', '\\"')
        lfs = "" if shutil.which("git-lfs") else NO_LFS
        ours = f'{text.partition("[include]")[0]}[include]\n\tpath = "{quoted}"\n{OVERRIDES}{lfs}'
        if ours != text:
            config.write_text(ours, "utf-8", "surrogateescape")

    def pointers(self) -> list[str]:
        """Return the request's files that stay pointers of Git LFS, which is not installed."""
        inside, attributes = self.git.at(self.side("request")), self.side("request") / ".gitattributes"
        if shutil.which("git-lfs") or not attributes.is_file() or b"filter=lfs" not in attributes.read_bytes():
            return []
        said = os.fsdecode(inside.read("check-attr", "-z", "--stdin", "filter", data=inside.read("ls-files", "-z")))
        words = said.split("\0")
        return [path for path, value in zip(words[::3], words[2::3], strict=False) if value == "lfs"]

    def is_at(self, commits: Commits) -> bool:
        """Tell whether both work trees are there, at the commits of the two sides."""
        return _commit_of(self.side("base")) == commits.base and _commit_of(self.side("request")) == commits.head

    def check_out_lines(self) -> list[Line]:
        """Return the lines of git that check both sides out."""
        refs = f"refs/tryout/{self.folder.name}"
        return [self.side_line(self.side(name), f"{refs}/{ref}") for name, ref in (("base", "left"), ("request",) * 2)]

    def side_line(self, folder: Path, commit: str) -> Line:
        """Return the line that checks a commit out into a work tree."""
        if (folder / ".git").is_file():
            return line("checkout", "-q", "--force", "--detach", commit, directory=folder)
        words = ("worktree", "add", "-q", "--detach", "--force", "--", str(folder), commit)
        return line(*words, directory=self.repository)

    def check_out(self, commits: Commits, lines: Sequence[Line] = ()) -> list[Changed]:
        """Check both sides out, lay the request's tests over the base, and return what the request changes.

        Args:
            commits: the two sides.
            lines: of the plan; made here where there was none.

        Raises:
            DevkitError: git cannot, or the disk is full.
        """
        both = {"base": commits.base, "request": commits.head}
        planned = lines or [self.side_line(self.side(name), commit) for name, commit in both.items()]
        for (name, commit), one in zip(both.items(), planned, strict=True):
            self.check_out_side(self.side(name), commit, one)
        changed = self.changes(commits)
        self.lay_tests(commits, changed)
        return changed

    def lay_tests(self, commits: Commits, changed: Sequence[Changed], *, back: bool = False) -> None:
        """Lay the request's tests, and what they need beside them, over the base; ``back``: the base's own again."""

        @cache
        def read(path: str) -> str:
            return self.text(commits.head, path) or self.text(commits.base, path)

        commit, absent = (commits.base, "A") if back else (commits.head, "D")
        tests = [change for change in changed if belongs_to_tests(change.path, read)]
        laid = [change.path for change in tests if change.status != absent]
        if laid:
            words = "checkout", "-q", commit, "--pathspec-from-file=-", "--pathspec-file-nul"
            self.git.at(self.side("base")).read(*words, data=b"\0".join(map(os.fsencode, laid)))
        for change in tests:
            if change.status == absent:
                (self.side("base") / change.path).unlink(missing_ok=True)
        _forget_compiled(self.side("base"), [change.path for change in tests])

    def check_out_side(self, folder: Path, commit: str, planned: Line | None = None) -> None:
        """Check a commit out into a work tree; what it built before and git ignores stays.

        Raises:
            DevkitError: git cannot, or the disk is full.
        """
        inside = self.git.at(folder)
        one = planned or self.side_line(folder, commit)
        before = _commit_of(folder)
        if one.words[0] == "checkout" and not self.git.execute(one, check=False).status:
            inside.read("clean", "-fdq")
            said = inside.ask("diff", "--no-ext-diff", "--no-renames", "--name-only", "-z", before, "HEAD", "--")
            _forget_compiled(folder, os.fsdecode(said.stdout).split("\0"))
            return
        with explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
        self.git.read("worktree", "prune")
        with self.app.console.progress(f"checking out {folder.name}"), self._roomy():
            self.git.execute(self.side_line(folder, commit) if one.words[0] == "checkout" else one)

    def changes(self, commits: Commits) -> list[Changed]:
        """Return what the request changes against its base, with the lines on both sides."""
        # A work tree's submodules are where its own build checked them out: of a commit, the pins are a change.
        submodules = f"--ignore-submodules={'none' if commits.head else 'all'}"
        words = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", submodules)
        names = self.git.read(*words, "--name-status", "-z", *commits.pair).split(b"\0")
        statuses = {os.fsdecode(path): status.decode() for status, path in zip(names[::2], names[1::2], strict=False)}
        patch = self.git.read(*WORDS, "--no-renames", submodules, *commits.pair)
        before, after = hunks(patch)
        renamed = {} if not {"A", "D"} <= {word[:1] for word in statuses.values()} else self._renamed(commits)
        return [
            Changed(
                path, status[:1], before.get(path, frozenset()), after.get(path, frozenset()), renamed.get(path, "")
            )
            for path, status in statuses.items()
        ]

    def _renamed(self, commits: Commits) -> dict[str, str]:
        """Return new name → old name of the files that the request renames."""
        words = ("diff", "--no-ext-diff", "--no-color", "--find-renames", "--diff-filter=R", "--name-status", "-z")
        rows = os.fsdecode(self.git.read(*words, *commits.pair)).split("\0")
        return dict(zip(rows[2::3], rows[1::3], strict=False))

    def files(self) -> list[str]:
        """Return the request's files."""
        return self.git.at(self.side("request")).text("ls-files", "-z", "--", ".").split("\0")

    def conflicts(self, head: str) -> list[str]:
        """Return the files in which the request conflicts with the base branch as it is now."""
        tip = f"refs/tryout/{self.folder.name}/base"
        words = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", tip, head)
        said = self.git.ask(*words)  # before git 2.38 there is no such command: then nothing is known
        return os.fsdecode(said.stdout).split("\0")[1:-1] if said.status == 1 else []

    def blob(self, commit: str, path: str) -> bytes:
        """Return what a file holds at a commit; nothing where it is not there."""
        return self.git.ask("cat-file", "blob", f"{commit}:{path}").stdout

    def text(self, commit: str, path: str) -> str:
        """Return a file's text at a commit; nothing where it is not there."""
        return self.blob(commit, path).decode(errors="replace")

    def keep(self) -> None:
        """Keep this trial's work trees until the user removes them."""
        (self.folder / KEPT).touch()

    def prune(self, keep: int) -> None:
        """Remove the work trees of the oldest trials beyond ``keep``, those asked to be kept apart."""
        os.utime(self.folder, (time.time(), time.time()))
        others = [
            folder
            for folder in self.home.iterdir()
            if folder.is_dir() and folder.name.isdigit() and folder != self.folder
        ]
        others = [other for other in others if not (other / KEPT).exists()]
        for other in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[max(keep - 1, 0) :]:
            shutil.rmtree(other, ignore_errors=True)


def _commit_of(folder: Path) -> str:
    """Return the commit that a work tree is at, as its own HEAD says; nothing where there is none."""
    try:
        link = (folder / ".git").read_text("utf-8").removeprefix("gitdir:").strip()
        return (folder / link / "HEAD").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _forget_compiled(folder: Path, changed: Sequence[str]) -> None:
    """Remove what Python compiled of files that changed: it knows a file by its size and the second of its time alone.

    Args:
        folder: a side's work tree; beside it lies the overlay of a tree of Paddle.
        changed: paths within it.
    """
    overlay = folder.with_name(f"{folder.name}-overlay")
    for path in changed:
        for file in (folder / path, overlay / path.removeprefix("python/")) if path.endswith(".py") else ():
            for compiled in (file.parent / "__pycache__").glob(f"{glob.escape(file.stem)}.*.pyc"):
                compiled.unlink(missing_ok=True)
