"""The two work trees of a trial, in a repository of devkit's own: nothing is written into the user's clone.

The repository borrows the clone's objects (``objects/info/alternates``) and reads its settings (``include.path``), so
that a fetch brings only what is new, by the same proxies, rewritten addresses and credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.files import explained
from devkit.git.command import Git, GitFailed, line, safe_url
from devkit.git.hunks import WORDS, hunks
from devkit.git.roles import base_branch
from devkit.locks import Busy, hold
from devkit.paths import cache_home
from devkit.tryout.selection import belongs_to_tests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from devkit.app import App
    from devkit.config import Config
    from devkit.git.command import Line
    from devkit.git.roles import PullRequest
    from devkit.git.state import CloneDirs, State

KEPT = "kept"
# After what the clone's settings say: its hooks and its sparse checkout are its own.
OVERRIDES = "[core]\n\thooksPath = /dev/null\n\tsparseCheckout = false\n"


@dataclass(frozen=True)
class Sources:
    """Where the two sides come from.

    Attributes:
        remote: the remote's name, as git knows it from the clone's settings, or an address.
        request: the request's ref there.
        base: the base branch's ref there; empty where a commit of the clone is the base.
        commit: that commit.
    """

    remote: str
    request: str
    base: str
    commit: str = ""


@dataclass(frozen=True)
class Commits:
    """The commits of the two sides.

    Attributes:
        head: the request's.
        base: what it is compared with: where it left the base branch, or the commit that was asked for.
    """

    head: str
    base: str


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
        self.home = cache_home() / "tryout" / digest
        self.repository = self.home / "repository.git"
        self.folder = self.home / str(number)

    def side(self, name: str) -> Path:
        """Return the work tree of a side."""
        return self.folder / name

    @property
    def git(self) -> Git:
        """Git in the trial's repository."""
        return Git(self.app, self.repository)

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
        with explained(self.repository):
            self.home.mkdir(parents=True, exist_ok=True)
            for init_line in self.init_lines():
                Git(self.app, self.home).execute(init_line)
            self._borrow()

    def fetch(self, sources: Sources, lines: Sequence[Line]) -> Commits:
        """Bring the request and its base by the lines of the plan, and return their commits.

        Raises:
            DevkitError: the remote does not answer, or has no such request.
        """
        self.open()
        try:
            self.git.execute(lines[-1], title=f"fetching {sources.request}")
        except GitFailed as failed:
            raise explain_fetch(failed, sources) from failed
        refs = f"refs/tryout/{self.folder.name}"
        head = self.git.text("rev-parse", f"{refs}/request^{{commit}}")
        base = sources.commit
        if not base:
            left = self.git.ask("merge-base", f"{refs}/base", f"{refs}/request")
            if left.status:
                raise DevkitError(
                    "the request and its base have no commit in common",
                    "There is nothing to compare with.",
                    "--base COMMIT   names another base",
                )
            base = left.stdout.decode().strip()
        self.git.read("update-ref", f"{refs}/left", base)
        return Commits(head, base)

    def _borrow(self) -> None:
        """Let the repository read the clone's objects and settings."""
        common = self.place.common_dir
        info = self.repository / "objects" / "info"
        info.mkdir(parents=True, exist_ok=True)
        theirs = [f"{common / 'objects'}"]
        with contextlib.suppress(OSError):  # what the clone borrows itself
            theirs += (common / "objects" / "info" / "alternates").read_text("utf-8").splitlines()
        (info / "alternates").write_text("".join(f"{their}\n" for their in theirs), "utf-8")
        if (common / "shallow").is_file():
            shutil.copyfile(common / "shallow", self.repository / "shallow")
        config = self.repository / "config"
        if OVERRIDES not in config.read_text("utf-8", "surrogateescape"):
            quoted = str(common / "config").replace("\\", "\\\\").replace('"', '\\"')
            with config.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f'[include]\n\tpath = "{quoted}"\n{OVERRIDES}')

    def check_out_lines(self, sources: Sources) -> list[Line]:
        """Return the lines of git that check both sides out."""
        del sources
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
        planned = lines or [
            self.side_line(self.side(n), c) for n, c in (("base", commits.base), ("request", commits.head))
        ]
        for name, commit, one in zip(("base", "request"), (commits.base, commits.head), planned, strict=True):
            self.check_out_side(self.side(name), commit, one)
        changed = self.changes(commits)
        laid = [change.path for change in changed if belongs_to_tests(change.path) and change.status != "D"]
        base = self.git.at(self.side("base"))
        if laid:
            words = "checkout", "-q", commits.head, "--pathspec-from-file=-", "--pathspec-file-nul"
            base.read(*words, data=b"\0".join(map(os.fsencode, laid)))
        for change in changed:
            if change.status == "D" and belongs_to_tests(change.path):
                (self.side("base") / change.path).unlink(missing_ok=True)
        return changed

    def check_out_side(self, folder: Path, commit: str, planned: Line | None = None) -> None:
        """Check a commit out into a work tree; what it built before and git ignores stays.

        Raises:
            DevkitError: git cannot, or the disk is full.
        """
        inside = self.git.at(folder)
        one = planned or self.side_line(folder, commit)
        if one.words[0] == "checkout" and not self.git.execute(one, check=False).status:
            inside.read("clean", "-fdq")
            return
        with explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
        self.git.read("worktree", "prune")
        with self.app.console.progress(f"checking out {folder.name}"):
            self.git.execute(self.side_line(folder, commit) if one.words[0] == "checkout" else one)

    def changes(self, commits: Commits) -> list[Changed]:
        """Return what the request changes against its base, with the lines on both sides."""
        words = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--ignore-submodules=none")
        names = self.git.read(*words, "--name-status", "-z", commits.base, commits.head).split(b"\0")
        statuses = {os.fsdecode(path): status.decode() for status, path in zip(names[::2], names[1::2], strict=False)}
        patch = self.git.read(*WORDS, "--no-renames", "--ignore-submodules=none", commits.base, commits.head)
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
        rows = os.fsdecode(self.git.read(*words, commits.base, commits.head)).split("\0")
        return dict(zip(rows[2::3], rows[1::3], strict=False))

    def conflicts(self, head: str) -> list[str]:
        """Return the files in which the request conflicts with the base branch as it is now."""
        tip = f"refs/tryout/{self.folder.name}/base"
        words = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", tip, head)
        said = self.git.ask(*words)  # before git 2.38 there is no such command: then nothing is known
        return os.fsdecode(said.stdout).split("\0")[1:-1] if said.status == 1 else []

    def text(self, commit: str, path: str) -> str:
        """Return a file's text at a commit; nothing where it is not there."""
        return self.git.ask("cat-file", "blob", f"{commit}:{path}").stdout.decode(errors="replace")

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


def fetch_line(sources: Sources, number: str, repository: Path) -> Line:
    """Return the line that fetches the sides beside all that is here."""
    refs = [f"+{sources.request}:refs/tryout/{number}/request"]
    refs += [f"+{sources.base}:refs/tryout/{number}/base"] if sources.base else []
    words = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--refmap=", "--no-recurse-submodules")
    return line(*words, "--", sources.remote, *refs, directory=repository, slow=True)


def explain_fetch(failed: GitFailed, sources: Sources) -> DevkitError:
    """Return what a failed fetch means for the user."""
    if "couldn't find remote ref" in failed.why and sources.request in failed.why:
        return DevkitError(
            f"{sources.request} was not found on {sources.remote}",
            "The forge has no request of this number.",
            "git remote -v   shows where the clone leads",
            "--remote NAME   asks another remote",
        )
    return failed


def sources_of(state: State, config: Config, request: PullRequest, base: str, git: Git) -> Sources:
    """Return where the sides come from.

    Args:
        state: the clone's.
        config: the settings.
        request: the request.
        base: a commit or branch of the clone that is the base; empty for where the request left the base branch.
        git: in the clone.

    Raises:
        DevkitError: ``base`` is not a commit.
    """
    url = safe_url(state.remotes[request.remote])
    local = "://" not in url and not Path(url).is_absolute() and (state.place.top is not None)
    nearby = local and state.place.top is not None and (state.place.top / url).exists()
    remote = str((state.place.top / url).resolve()) if nearby and state.place.top is not None else request.remote
    if base:
        answer = git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
        if base.startswith("-") or answer.status:
            raise DevkitError(f"--base {base} is not a commit of this clone", "", "git branch -a   lists the branches")
        return Sources(remote, request.source, "", answer.stdout.decode().strip())
    branch = base_branch(state, config, request.remote)
    known = f"refs/remotes/{request.remote}/{branch}" in state.refs or bool(config.get("pr.base-branch"))
    return Sources(remote, request.source, f"refs/heads/{branch}" if known else "HEAD")
