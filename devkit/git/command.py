"""The one door to git: a clean environment, no word of a user's taken for an option, NUL between fields.

GitPython is behind it too, imported only for what a line of git does not do: it parses git's progress. Nothing is
passed to its own commands, since it runs what it is given.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint, UsageError
from devkit.git.environ import LOOK_UP, with_settings, without_redirection
from devkit.process import converse, find_program
from devkit.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from devkit.app import App
    from devkit.git.store import PrivateRefs

SETTINGS = {
    # A repack or a monitor in the background would outlive the command, and hold its lock.
    "gc.auto": "0",
    "maintenance.auto": "false",
    "core.fsmonitor": "false",
    "protocol.ext.allow": "never",
    # What is read must not depend on how the user likes to see it.
    "color.ui": "false",
    "log.showSignature": "false",
    "log.showRoot": "true",
    "i18n.logOutputEncoding": "UTF-8",
    "advice.detachedHead": "false",
    "fetch.showForcedUpdates": "true",  # else git warns that it does not, at each fetch
}
COMMIT_FORMAT = "%H%x1f%P%x1f%an%x1f%at%x1f%s%x1f%B"
NETWORK = frozenset({"fetch", "push", "ls-remote"})
# What git says of its own work, beside what a server, a hook or ssh says.
_PROGRESS = re.compile(
    r"^(remote: *)?((Enumerating|Counting|Compressing|Receiving|Resolving|Writing|Unpacking|Updating|Filtering)\b.*:"
    r"|Total \d|Delta compression|Processing)|:\s+\d+% "
)
_OWN_WORDS = re.compile(
    r"^(From|To) |^ [-*+!=t ] |^   [0-9a-f]+\.\.|^(fatal|error|hint):|^Everything up-to-date|^branch '.*' set up"
    r"|^Please make sure you have the correct access|^and the repository exists\.$|^\s*$|^remote:\s*$"
)
_LOCK = re.compile(r"Unable to create '(.+\.lock)': File exists|could not lock config file (.+): File exists")
_LFS = re.compile(r"git-lfs.*not found|'lfs' is not a git command")
_HELPER = re.compile(r"(ext|fd)::", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|\.$|^@$|(^|/)\.|\.lock(/|$)")


@dataclass(frozen=True)
class Line:
    """A line of git that changes something or talks to a remote.

    Attributes:
        words: what follows ``git``.
        directory: where it runs, when not where the command runs.
        data: its standard input.
        slow: it may take long, or run hooks: it runs below the supervisor, with progress.
    """

    words: tuple[str, ...]
    directory: Path | None = None
    data: bytes | None = None
    slow: bool = False

    @property
    def argv(self) -> tuple[str, ...]:
        """The line as it is run."""
        return ("git", *(("-C", str(self.directory)) if self.directory else ()), *self.words)

    def __str__(self) -> str:
        line = shlex.join(self.argv)
        if self.data is not None:
            shown = self.data.decode("utf-8", "backslashreplace").replace("\0", r"\0").replace("%", "%%")
            line = f"printf {shlex.quote(shown)} | {line}"
        return line


def line(*words: str, directory: Path | None = None, data: bytes | None = None, slow: bool = False) -> Line:
    """Return a line of git."""
    return Line(words, directory, data, slow)


@dataclass(frozen=True)
class Answer:
    """How a line of git ended.

    Attributes:
        heard: the lines that the screen has shown already, as they came.
    """

    status: int
    stdout: bytes
    stderr: bytes
    heard: frozenset[str] = frozenset()

    @property
    def said(self) -> str:
        """All that it said when it failed."""
        return redact((self.stderr.strip() or self.stdout.strip()).decode(errors="replace"))

    @property
    def complaint(self) -> str:
        """What it said when it failed, without its progress and what the screen has shown already."""
        lines = [text.rstrip() for text in re.split(r"[\r\n]+", self.said)]
        kept = [text for text in lines if not text.startswith("hint:") and not _PROGRESS.search(text)]
        fresh = [text for text in kept if text not in self.heard and text != "remote:"]
        return "\n".join(fresh).strip("\n")


class GitFailed(DevkitError):
    """A line of git failed."""

    def __init__(self, argv: Sequence[str], answer: Answer) -> None:
        name = next((argument for argument in argv if not argument.startswith("-") and "=" not in argument), "")
        super().__init__(
            f"git {name} failed with status {answer.status}",
            answer.complaint or f"The line was: {redact(shlex.join(['git', *argv]))}",
            *remedies(answer.said),
        )
        self.answer = answer


def _stands_below(folder: Path) -> bool:
    """Tell whether devkit was started in a folder below this one that is still there."""
    try:
        return os.getcwd().startswith(os.path.join(folder, ""))  # noqa: PTH109, PTH118 - Path is only a type here
    except FileNotFoundError:
        return False


def remedies(complaint: str) -> list[Hint]:
    """Return what helps where git names no line to type: a lock that is left, large files without what reads them."""
    lock = _LOCK.search(complaint)
    path = lock and (lock[1] or f"{lock[2]}.lock")
    found = [Hint.of("rm", "--", path, purpose="when no other git works here")] if path else []
    return found + ([Hint("apt install git-lfs", "large files need it")] if _LFS.search(complaint) else [])


def lines_of(data: bytes) -> list[str]:
    """Return what git printed as its lines: names and titles may hold what ``splitlines`` takes for line breaks."""
    return os.fsdecode(data).removesuffix("\n").split("\n") if data else []


def quoted(path: str) -> bytes:
    """Return a path as git reads it from a list of lines: in C's quotes."""
    escaped = (
        b"\\%03o" % number if number < ord(" ") or number in b'"\\' else bytes([number]) for number in os.fsencode(path)
    )
    return b'"' + b"".join(escaped) + b'"'


def word(text: str, what: str) -> str:
    """Return a user's word if git cannot take it for anything but a word.

    Raises:
        UsageError: it begins like an option, is empty, or holds control characters.
    """
    if not text or text.startswith("-") or _CONTROL.search(text):
        raise UsageError(f"{text!r} is no {what}", "It is empty, begins with - or holds control characters.")
    return text


def branch_name(text: str) -> str:
    """Return a user's word if it can name a branch.

    Raises:
        UsageError: it cannot.
    """
    word(text, "name of a branch")
    if _REF_FORBIDDEN.search(text) or text == "HEAD":
        raise UsageError(f"{text!r} is not a name of a branch", "git check-ref-format says what is.")
    return text


def safe_url(url: str) -> str:
    """Return a remote's URL if contacting it starts no program of its choosing.

    Raises:
        DevkitError: it would.
    """
    if _HELPER.match(url) or url.startswith("-"):
        raise DevkitError(f"the URL {url!r} is refused", "It names a program to run, not a place.")
    return url


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return ``base`` without the ``GIT_*`` variables that redirect git, with what devkit asks of it."""
    return {
        **with_settings(without_redirection(base), SETTINGS),
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": ":",
        "GIT_SEQUENCE_EDITOR": ":",
        "GIT_PAGER": "cat",
        "GIT_MERGE_AUTOEDIT": "no",
        "LC_ALL": "C.UTF-8",
        "LANGUAGE": "",
    }


_UNHEEDED: dict[str, str] = {}


def unheeded() -> dict[str, str]:
    """Return the variables that would have turned git to another repository, which devkit does not heed."""
    return dict(_UNHEEDED)


@dataclass
class Git:
    """git in one directory.

    Attributes:
        directory: where its lines run.
        app: the screen and the runner.
        holds: descriptors that every git inherits: a lock is held until the last of them has ended.
        log: where the output of slow lines goes.
        shielded: its quick lines are out of the reach of a Ctrl-C.
        private: the names that only devkit knows, once the repository's folder is known.
    """

    app: App
    directory: Path
    holds: list[int] = field(default_factory=list)
    log: Path | None = None
    shielded: bool = False
    private: PrivateRefs | None = None

    def __post_init__(self) -> None:
        for name in os.environ.keys() - without_redirection(os.environ).keys():
            _UNHEEDED[name] = os.environ.pop(name)  # GitPython reads them from the process
        self.program = find_program("git")
        self.env = environment(self.app.child_environment())

    def at(self, directory: Path) -> Git:
        """Return git in another directory, under the same lock."""
        return Git(self.app, directory, self.holds, self.log, self.shielded, self.private)

    def _start(self, words: Sequence[str], env: Mapping[str, str], stdin: int) -> subprocess.Popen[bytes]:
        return converse(
            [self.program, *words],
            cwd=self.directory,
            env={**self.env, **env},
            stdin=stdin,
            pass_fds=self.holds,
            start_new_session=self.shielded,
        )

    def ask(self, *words: str, data: bytes | None = None, env: Mapping[str, str] | None = None) -> Answer:
        """Run a quick line and return how it ended."""
        process = self._start(words, env or {}, subprocess.DEVNULL if data is None else subprocess.PIPE)
        with _ended(process):
            stdout, stderr = process.communicate(data)
        return Answer(process.returncode, stdout, stderr)

    def read(self, *words: str, data: bytes | None = None, env: Mapping[str, str] | None = None) -> bytes:
        """Run a quick line and return what it printed.

        Raises:
            GitFailed: its status is not 0.
        """
        answer = self.ask(*words, data=data, env=env)
        if answer.status:
            raise GitFailed(words, answer)
        return answer.stdout

    def text(self, *words: str) -> str:
        """Run a quick line and return what it printed, as text without the last newline."""
        return os.fsdecode(self.read(*words)).removesuffix("\n")

    @contextlib.contextmanager
    def beside(
        self, *lines: Sequence[str], data: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Iterator[Callable[[], list[Answer]]]:
        """Run quick lines side by side, and beside what the caller does: ``with git.beside(…) as answers: …``.

        ``data`` is the standard input of each. What has not been asked for at the end is ended.
        """
        with contextlib.ExitStack() as stack:
            running = []
            for words in lines:
                process = self._start(words, env or {}, subprocess.DEVNULL if data is None else subprocess.PIPE)
                stack.enter_context(_ended(process))
                running.append(process)

            def answers() -> list[Answer]:
                found = []
                for process in running:
                    stdout, stderr = process.communicate(data)
                    found.append(Answer(process.returncode, stdout, stderr))
                return found

            yield answers

    def read_all(self, *lines: Sequence[str]) -> list[Answer]:
        """Run quick lines side by side and return how each ended."""
        with self.beside(*lines) as answers:
            return answers()

    def stream(self, *words: str, chunks: Iterator[bytes], env: Mapping[str, str] | None = None) -> bytes:
        """Run a line that reads ``chunks``, and return what it printed.

        Raises:
            GitFailed: its status is not 0.
        """
        process = self._start(words, env or {}, subprocess.PIPE)
        with _ended(process):
            if process.stdin:
                try:
                    for chunk in chunks:
                        process.stdin.write(chunk)
                    process.stdin.close()
                except BrokenPipeError:
                    pass
            process.stdin = None
            stdout, stderr = process.communicate()
        if process.returncode:
            raise GitFailed(words, Answer(process.returncode, stdout, stderr))
        return stdout

    def execute(
        self,
        git_line: Line,
        *,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        title: str = "",
        meanwhile: Callable[[], None] | None = None,
    ) -> Answer:
        """Run a line that changes something, shown with ``-v``; a slow one with progress, and ended with devkit.

        ``meanwhile`` is done while a slow line runs, after a quick one.

        Raises:
            GitFailed: with ``check``, its status is not 0.
        """
        if git_line.slow:
            answer = self._slow(git_line, env or {}, title, meanwhile)
        else:
            self.app.console.command(git_line.argv)
            answer = self.ask(*git_line.argv[1:], data=git_line.data, env=env)
            if meanwhile:
                meanwhile()
        if check and answer.status:
            raise GitFailed(git_line.words, answer)
        return answer

    def _slow(self, git_line: Line, env: Mapping[str, str], title: str, meanwhile: Callable[[], None] | None) -> Answer:
        runner, console = self.app.runner, self.app.console
        network = git_line.words[0] in NETWORK
        talks = network and git_line.words[0] != "ls-remote" and not console.quiet
        heard: set[str] = set()
        shows: list[Callable[[str], None]] = []
        titled = threading.Event()

        def on_line(text: str) -> None:
            titled.wait()  # git runs while what draws is imported
            for show in shows:
                show(text)
            said = text.rstrip()
            if talks and not _PROGRESS.search(said) and not _OWN_WORDS.search(said):
                heard.add(said)
                console.note(f"  {redact(said.removeprefix('remote: '))}", "dim")

        below = _stands_below(self.directory)  # git does not take away the folder that it is started in
        child = runner.start(
            ("git", "-C", str(self.directory), *git_line.argv[1:]) if below else git_line.argv,
            cwd=None if below else self.directory,
            env={**self.env, **env},
            pass_fds=() if network else tuple(self.holds),  # what keeps credentials or connections stays behind
            log=self.log,
            keep=None,
            on_line=on_line,
        )
        try:
            with self._progress(title, network=network) as show:
                if show:
                    shows.append(show)
                elif title and network and not console.interactive:
                    console.note(f"{title}…", "dim")
                titled.set()
                if meanwhile:
                    meanwhile()
                status = runner.finish(child)
        except BaseException:
            titled.set()
            child.end()
            runner.forget(child)
            raise
        return Answer(status, bytes(child.stdout), bytes(child.stderr), frozenset(heard))

    def _progress(self, title: str, *, network: bool) -> Any:
        console = self.app.console
        if not title or not console.interactive:
            return contextlib.nullcontext(None)
        return _progress_bar(console, title) if network else _spinner(console, title)

    def has_commit(self, oid: str) -> bool:
        """Return whether the clone itself has a commit, see ``LOOK_UP``."""
        answer = self.ask(*LOOK_UP, oid)
        return not answer.status and bool(answer.stdout.strip())

    def is_ancestor(self, old: str, new: str) -> bool:
        """Tell whether a commit is in another's history, or that commit; what is not here is in none."""
        return self.ask("merge-base", "--is-ancestor", old, new).status == 0

    def merge_base(self, *commits: str) -> str:
        """Return the newest commit that some have in common, or nothing."""
        return os.fsdecode(self.ask("merge-base", *commits).stdout).strip()

    def commit_of(self, name: str) -> str:
        """Return the commit that a name leads to, or nothing."""
        words = ("rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}")
        return os.fsdecode(self.ask(*words).stdout).strip()

    def commits(self, range_: str, limit: int) -> list[Commit]:
        """Return the commits of a range, newest first."""
        words = ("log", "-z", f"--max-count={limit}", "--encoding=UTF-8", f"--format={COMMIT_FORMAT}")
        data = self.read(*words, word(range_, "range"), "--").decode(errors="replace")
        found = []
        for record in filter(None, data.split("\0")):
            oid, parents, author, time, subject, message = record.split("\x1f", 5)
            found.append(Commit(oid, subject, message, author, int(time or 0), tuple(parents.split())))
        return found


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End git where this is left while it runs: it must not go on beside what puts everything back."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()  # so that it removes its locks
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()


@dataclass(frozen=True)
class Commit:
    """A commit: its name, words, author and time (seconds since 1970)."""

    oid: str
    subject: str
    message: str
    author: str
    time: int
    parents: tuple[str, ...]


@contextlib.contextmanager
def _spinner(console: Any, title: str) -> Iterator[None]:
    with console.progress(title):
        yield


@contextlib.contextmanager
def _progress_bar(console: Any, title: str) -> Iterator[Callable[[str], None]]:
    from git import RemoteProgress

    with console.progress(title, total=100) as shown:

        class Parser(RemoteProgress):
            def update(self, _op: int, done: str | float, total: str | float | None = None, _text: str = "") -> None:
                part = 100 * float(done) / float(total) if total else None
                shown.update(done=part, text=f"{title}: {(self._cur_line or '').split(':')[0].strip().lower()}")

        yield Parser().new_message_handler()
