"""Random states of a clone, random changing commands, ended at a random git call or not; then undo.

One case is one seed. Every command runs in a fork of a process that has imported devkit, so that a SIGKILL ends a whole
devkit and none of the time goes into imports.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.forks import forks

LIMIT_S = 90
ONLY = os.environ.get("DEVKIT_FUZZ_KIND", "")  # every clone is set up like this one of KINDS
WIP = "refs/devkit/wip/"
NAMES = ["a.cc", "dir/b.py", "dir/sub/c.txt", "d e.txt", "ü.txt", "crlf.txt", "bin.dat", "run.sh", "new\nline.txt"]
ODD = [
    "loose.txt",
    "dir/loose two.txt",
    os.fsdecode(b"\xff\xfe.bin"),
    "-rf",
    "fresh/deep/er.txt",
    "quo\"te'.txt",
    ":(top)x",
]
WANTED = (
    "fetch",
    "fetch",
    "refetch",
    "rebase",
    "rebase",
    "go on",
    "go on",
    "sync",
    "push",
    "drop",
    "clean",
    "save",
    "restore",
    "wip drop",
    "start",
    "squash",
    "back",
)
FROM_A_BRANCH = frozenset({"rebase", "push", "squash"})
KINDS = (
    "sparse",
    "sparse index",
    "split",
    "version",
    "cache",
    "locked",
    "away",
    "relative",
    "worktree settings",
    "shallow",
    "stacked",
    "stacked",
    "packed",
    "gc",
    "reftable",
    "renamed",
    "renamed",
    "clone inside",
    "hook",
)
IGNORED = ["x.log", "dir/y.log", "out/z.bin"]


def git(folder: Path, *words: str, check: bool = True, data: bytes | None = None) -> bytes:
    """Run git by hand, as the user of the clone would."""
    done = subprocess.run(["git", *words], cwd=folder, input=data, capture_output=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"git {words} in {folder}: {done.stderr.decode()}")
    return done.stdout


def template(folder: Path) -> None:
    """Make a project with requests, a fork and a clone of both."""
    project, fork, work, clone = (folder / name for name in ("project.git", "fork.git", "work", "clone"))
    for bare in (project, fork):
        git(folder, "init", "-q", "--template=", "-b", "develop", "--bare", str(bare))
    git(folder, "init", "-q", "--template=", "-b", "develop", str(work))
    for name in NAMES:
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name.encode()!r} {number}\n" for number in range(40)))
    (work / "bin.dat").write_bytes(bytes(range(256)) * 8)
    (work / "crlf.txt").write_bytes(b"one\ntwo\nthree\n")
    (work / "run.sh").chmod(0o755)
    (work / "link").symlink_to("dir/b.py")
    (work / ".gitignore").write_text("*.log\nout/\n")
    _commit(work, "Begin")
    _branch(work, "feature", "develop", {"a.cc": (3, "feature"), "dir/b.py": (30, "feature")})
    _branch(work, "feature", "feature", {"dir/sub/c.txt": (1, "more")})
    _branch(work, "seven", "develop", {"a.cc": (20, "seven")})
    (work / "seven.txt").write_text("seven\n")
    _commit(work, "Add seven")
    _branch(work, "next", "seven", {"a.cc": (25, "seven went on")})
    git(work, "switch", "-q", "-c", "rewritten", "seven~1")
    _branch(work, "rewritten", "rewritten", {"a.cc": (20, "seven, better"), "dir/b.py": (7, "seven")})
    _branch(work, "eight", "develop", {"dir/b.py": (30, "eight"), "d e.txt": (2, "eight")})
    git(work, "switch", "-q", "-c", "nine", "develop")
    git(work, "rm", "-q", "-r", "dir/sub")
    git(work, "mv", "d e.txt", "moved.txt")
    (work / "dir" / "sub").write_text("a file where a folder was\n")
    (work / "x.log").write_text("tracked here, ignored there\n")
    (work / "run.sh").chmod(0o644)
    (work / "link").unlink()
    (work / "link").symlink_to("a.cc")
    git(work, "add", "-f", "-A", ".", "x.log")
    _commit(work, "Swap folders and files")
    _branch(work, "old", "develop", {"ü.txt": (5, "squashed")})
    _branch(work, "develop", "develop", {"a.cc": (3, "develop"), "ü.txt": (20, "develop")})
    git(
        work,
        "push",
        "-q",
        str(project),
        "develop",
        "seven:refs/pull/7/head",
        "eight:refs/pull/8/head",
        "nine:refs/pull/9/head",
        "old:refs/pull/5/head",
        "next:refs/next/forward",
        "rewritten:refs/next/rewritten",
    )
    git(work, "push", "-q", str(fork), "develop~1:refs/heads/develop", "feature", "seven:fix-seven")
    git(folder, "clone", "-q", "--template=", "-o", "upstream", str(project), str(clone))
    git(clone, "remote", "add", "fork", str(fork))
    git(clone, "fetch", "-q", "fork")
    git(clone, "branch", "-q", "feature", "fork/feature")
    git(clone, "reset", "-q", "--hard", "upstream/develop~1")
    git(work, "merge", "-q", "--squash", "old")
    _commit(work, "Mend the thing (#5)")
    _branch(work, "develop", "develop", {"dir/b.py": (30, "later")})
    git(work, "push", "-q", str(project), "develop")
    for repository in (project, fork, clone):
        git(repository, "gc", "-q")
    shutil.rmtree(work)


def _commit(work: Path, subject: str) -> None:
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", subject)


def _branch(work: Path, name: str, start: str, edits: dict[str, tuple[int, str]]) -> None:
    git(work, "switch", "-q", name, check=False) if name == start else git(work, "switch", "-q", "-c", name, start)
    for path, (row, text) in edits.items():
        lines = (work / path).read_text().splitlines(keepends=True)
        lines[row] = f"{text}\n"
        (work / path).write_text("".join(lines))
    _commit(work, f"Edit on {name}: {', '.join(edits)}")


@dataclass
class Case:
    """One seed's clone, what was done to it, and what it looked like."""

    seed: int
    folder: Path
    told: list[str] = field(default_factory=list)

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    # The states.

    def prepare(self, rng: random.Random, wanted: str) -> None:  # noqa: C901 - a branch for each thing that may be so
        """Bring the clone into a random state, in which the wanted command most often has something to do."""
        if rng.random() < 0.2:
            git(self.clone, "config", "core.autocrlf", "true")
            (self.clone / "crlf.txt").write_bytes(b"one\r\ntwo\r\nthree\n")
        if rng.random() < {"drop": 0.9, "clean": 0.9, "refetch": 0.9, "rebase": 0.5, "push": 0.5}.get(wanted, 0.2):
            self.fetch(rng, wanted)
        if rng.random() < 0.2:
            git(self.clone, "config", "rerere.enabled", "true")
        self.arrange(rng)
        if wanted == "back":
            self.devkit("pr", "fetch", rng.choice(["7", "8"]), "--no-switch")
            if rng.random() < 0.4:
                self.devkit("undo")
        start = (
            "feature" if wanted in FROM_A_BRANCH and rng.random() < 0.7 else rng.choice(["stay", "stay", "detached"])
        )
        if start != "stay":
            git(self.clone, "switch", "-q", *(["feature"] if start == "feature" else ["--detach"]), check=False)
        if rng.random() < 0.25:
            self.edit(rng, 2)
            git(self.clone, "stash", "push", "-q", *rng.choice([[], ["-u"]]), check=False)
        if rng.random() < (0.95 if wanted == "go on" else 0.08):
            self.stop_midway(rng)
        self.edit(rng, rng.choice([1, 3, 5]) if wanted == "save" else rng.choice([0, 0, 1, 2, 3, 5]))
        if rng.random() < 0.05:
            git(self.clone, "bisect", "start", "HEAD", "HEAD~1", check=False)
        if rng.random() < (0.95 if wanted in {"restore", "wip drop"} else 0.1):
            self.edit(rng, 1 + rng.randrange(3))
            self.devkit("wip", "save", *rng.choice([[], ["dir"], ["a.cc"]]))
            self.edit(rng, rng.choice([0, 0, 1]))

    def arrange(self, rng: random.Random) -> None:
        """Set up a clone as some are: sparse, with another index, a locked worktree, a stack, packed, after a gc."""
        kind = rng.choice(["", "", *KINDS] if not ONLY else [ONLY])
        self.told.append(kind)
        lines = {
            "sparse": [["sparse-checkout", "set", "dir"]],
            "sparse index": [["sparse-checkout", "set", "--cone", "--sparse-index", "dir"]],
            "split": [["update-index", "--split-index"]],
            "version": [["update-index", "--index-version", "4"]],
            "cache": [["config", "core.untrackedCache", "true"], ["update-index", "--untracked-cache"]],
            "locked": [["worktree", "add", "-q", "-b", "kept", "../kept"], ["worktree", "lock", "../kept"]],
            "away": [["worktree", "add", "-q", "-b", "kept", "../kept"], ["worktree", "lock", "../kept"]],
            "relative": [["worktree", "add", "-q", "-b", "kept", "../kept"]],
            "worktree settings": [
                ["config", "extensions.worktreeConfig", "true"],
                ["config", "--worktree", "user.name", "Of this checkout"],
            ],
            "shallow": [["fetch", "-q", "--depth=1", "upstream", "develop"]],
            "packed": [["pack-refs", "--all"]],
            "gc": [["gc", "-q", "--prune=now"]],
            "reftable": [["refs", "migrate", "--ref-format=reftable"]],  # a git that knows none refuses, and all stays
        }
        for words in lines.get(kind, []):
            git(self.clone, *words, check=False)
        if kind == "stacked":
            self.devkit("pr", "start", "upper", "--on", "feature")
            if rng.random() < 0.5:  # its parent was amended since
                git(self.clone, "switch", "-q", "feature", check=False)
                git(self.clone, "commit", "-q", "--amend", "-m", "Feature, better", check=False)
                git(self.clone, "switch", "-q", "upper", check=False)
        elif kind == "away":
            (self.folder / "kept").rename(self.folder / "elsewhere")
        elif kind == "relative":
            admin = self.clone / ".git" / "worktrees" / "kept"
            (admin / "gitdir").write_text("../../../../kept/.git\n")
            (self.folder / "kept" / ".git").write_text("gitdir: ../clone/.git/worktrees/kept\n")
        elif kind == "renamed":  # the base renames a file that is edited here: the edit follows it
            name = rng.choice(["a.cc", "dir/b.py"])
            self._upstream_renames(name)
            with contextlib.suppress(OSError):  # it may have been renamed or removed here
                self._edit(rng, "unstaged", name)
            if rng.random() < 0.5:
                git(self.clone, "add", "--", name, check=False)
        elif kind == "clone inside":
            git(self.clone, "init", "-q", "--template=", "inside", check=False)
            (self.clone / "inside" / "own.txt").write_text("its own\n")
        elif kind == "hook":
            hook = (
                self.clone / ".git" / "hooks" / rng.choice(["post-checkout", "pre-push", "pre-rebase", "post-rewrite"])
            )
            hook.parent.mkdir(exist_ok=True)
            hook.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9; do echo line $i; done >&2\nexit 1\n")
            hook.chmod(0o755)

    def _upstream_renames(self, name: str) -> None:
        """Rename a file on the project's develop, as a maintainer would."""
        work = self.folder / "maintainer"
        git(self.folder, "clone", "-q", "--template=", str(self.folder / "project.git"), str(work))
        git(work, "mv", "--", name, f"{name}.moved")
        git(work, "commit", "-q", "-m", "Rename a file")
        git(work, "push", "-q", "origin", "develop")
        shutil.rmtree(work)

    def fetch(self, rng: random.Random, wanted: str) -> None:
        """Fetch requests beforehand; the author may push again since."""
        numbers = ["5", "7"] if wanted in {"clean", "drop"} else [rng.choice(["7", "7", "8"])]
        for number in numbers:
            self.devkit("pr", "fetch", number, *rng.choice([[], ["--no-switch"], ["--no-switch"], ["--worktree"]]))
        if wanted == "clean":
            git(self.clone, "fetch", "-q", "upstream")
        if rng.random() < 0.6:
            new = rng.choice(["refs/next/forward", "refs/next/rewritten"])
            git(self.folder / "project.git", "update-ref", "refs/pull/7/head", new)
        if rng.random() < 0.3:
            self.edit(rng, 1)
            git(self.clone, "commit", "-q", "-a", "-m", "Mine on top", check=False)

    def stop_midway(self, rng: random.Random) -> None:
        """Leave a merge, picks, a rebase by hand or one of devkit's in conflict, resolved or not."""
        how = rng.choice(["merge", "by hand", "devkit", "devkit", "pick"])
        git(self.clone, "switch", "-q", "feature", check=False)
        if how == "devkit":
            self.edit(rng, rng.randrange(3))
            self.devkit("pr", "rebase")
        elif how == "pick":
            git(self.clone, "cherry-pick", "upstream/develop~2..upstream/develop", check=False)
        else:
            git(self.clone, how if how == "merge" else "rebase", "-q", "upstream/develop", check=False)
        if rng.random() < 0.6:
            git(self.clone, "add", "-A", check=False)
            if how == "pick" and rng.random() < 0.5:  # then only git's list of picks says that they go on
                git(self.clone, "commit", "-q", "-m", "Picked by hand", check=False)

    def edit(self, rng: random.Random, count: int) -> None:
        """Do some of what people do to files."""
        for _ in range(count):
            kind = rng.choice(
                [
                    "unstaged",
                    "staged",
                    "both",
                    "loose",
                    "ignored",
                    "rename",
                    "delete",
                    "rm",
                    "mode",
                    "link",
                    "swap",
                    "pipe",
                    "intent",
                    "resolve",
                ]
            )
            name = rng.choice(NAMES)
            self.told.append(f"{kind} {name!r}")
            with contextlib.suppress(OSError):
                self._edit(rng, kind, name)

    def _edit(self, rng: random.Random, kind: str, name: str) -> None:  # noqa: C901, PLR0912 - a branch for each thing people do
        path = self.clone / name
        text = f"{rng.random()}\n"
        if kind in {"unstaged", "staged", "both"} and path.is_file():
            self._append(path, text, rng.random() < 0.5)
            if kind != "unstaged":
                git(self.clone, "add", "--", name, check=False)
            if kind == "both":
                self._append(path, text, at_end=True)
        elif kind in {"loose", "ignored"}:
            path = self.clone / rng.choice(ODD if kind == "loose" else IGNORED)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode() * rng.randrange(4) + b"\r\n\0")
            path.chmod(rng.choice([0o644, 0o600, 0o755]))
        elif kind == "rename":
            git(self.clone, "mv", "--", name, f"renamed {name.replace('/', '-')}", check=False)
        elif kind == "delete":
            path.unlink(missing_ok=True)
        elif kind == "rm":
            git(self.clone, "rm", "-q", "-f", "--", name, check=False)
        elif kind == "mode" and path.is_file():
            path.chmod(path.stat().st_mode ^ 0o111)
        elif kind == "link":
            path.unlink(missing_ok=True)
            path.symlink_to(rng.choice(["a.cc", "/nowhere/./x", "..//", "dir"]))
        elif kind == "swap":
            path.unlink(missing_ok=True)
            path.mkdir(parents=True)
            (path / "inside.txt").write_text(text)
        elif kind == "pipe" and rng.random() < 0.3:
            path = self.clone / rng.choice([name, "a pipe"])
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        elif kind == "intent":
            (self.clone / "intended.txt").write_text(text)
            git(self.clone, "add", "-N", "intended.txt", check=False)
        elif kind == "resolve":
            git(self.clone, "add", "-A", check=False)

    @staticmethod
    def _append(path: Path, text: str, at_end: bool) -> None:
        data = path.read_bytes()
        path.write_bytes(data + text.encode() if at_end else text.encode() + data)

    # The commands.

    @staticmethod
    def command(rng: random.Random, wanted: str) -> list[str]:
        """Return a line for the command that is wanted."""
        number = rng.choice(["7", "7", "8", "9", "5"])
        choices: dict[str, list[list[str]]] = {
            "fetch": [
                ["pr", "fetch", number],
                ["pr", "fetch", number, rng.choice(["--no-switch", "--detach", "--worktree", "--branch=mine"])],
                ["pr", "fetch", "7", "8", "9"],
            ],
            "refetch": [["pr", "fetch", "7"], ["pr", "fetch", "7", "5", "8"]],
            "rebase": [
                ["pr", "rebase"],
                ["pr", "rebase", "--onto", rng.choice(["upstream/develop", "HEAD~1", "feature"])],
                ["pr", "rebase", "7"],
                ["pr", "rebase", "feature", "--stack"],
            ],
            "go on": [["pr", "continue"], ["pr", "continue"], ["pr", "skip"], ["pr", "abort"]],
            "sync": [["pr", "sync"], ["pr", "sync", "--yes"]],
            "push": [["pr", "push"], ["pr", "push", "--branch=elsewhere"], ["pr", "push", "7"]],
            "drop": [["pr", "drop", rng.choice(["5", "7"]), "--yes"], ["pr", "drop", "7"]],
            "clean": [["pr", "clean"], ["pr", "clean", "--yes", "--remote"]],
            "save": [["wip", "save"], ["wip", "save", "dir"], ["wip", "save", "a.cc", "loose.txt"]],
            "wip drop": [["wip", "drop", "1"]],
            "start": [["pr", "start", "fresh"], ["pr", "start", "fresh", "--on", "feature"]],
            "squash": [["pr", "squash"], ["pr", "squash", "7"]],
            "back": [["undo"], ["undo", "--yes"], ["redo"], ["redo", "--yes"]],
            "restore": [
                ["wip", "restore"],
                ["wip", "restore", "dir"],
                ["wip", "restore", "a.cc"],
                ["wip", "restore", "--markers"],
            ],
        }
        return rng.choice(choices[wanted])

    def devkit(self, *words: str, end: tuple[str, int] | None = None) -> int:
        """Run a line of devkit in a fork; ``end`` kills or interrupts it at its n-th git call (or file written)."""
        status, text = fork_devkit(words, self.clone, self.folder / "state", end=end)
        self.told.append(f"devkit {' '.join(words)} {end or ''} -> {status}")
        self.told.append("    " + text.strip().replace("\n", "\n    "))
        if status == 3:
            raise AssertionError("a bug of devkit's")
        return status

    def entries(self) -> list[str]:
        """Return the ids of what can be undone, newest first."""
        folder = self.clone / ".git" / "devkit" / "undo"
        return [path.stem for path in sorted(folder.glob("*.json"), key=_started, reverse=True)]

    # What it looks like.

    def look(self) -> dict[str, Any]:
        """Return all that undo has to give back."""
        return {
            "clone": checkout(self.clone, self.clone / ".git"),
            "worktrees": {
                str(path): checkout(path, _git_dir(path))
                for path in sorted([*self.folder.glob("clone-*"), self.folder / "kept"])
                if path.is_dir()
            },
            "refs": refs(self.clone),
            "saved work": saved(self.clone),
            "stash": _stash(self.clone),
            "config": self.branch_settings(),
            "project": refs(self.folder / "project.git"),
            "fork": refs(self.folder / "fork.git"),
        }

    def branch_settings(self) -> list[bytes]:
        """Return the settings of branches, but when a request was fetched last."""
        words = ("config", "--local", "-z", "--get-regexp", "^branch")
        found = git(self.clone, *words, check=False).split(b"\0")
        return sorted(line for line in found if b".devkitfetched\n" not in line)


def _started(path: Path) -> tuple[int, float]:
    import json

    data = json.loads(path.read_text())
    return data.get("sequence", 0), float(data["started"])


def fork_devkit(
    words: tuple[str, ...],
    folder: Path,
    state: Path,
    *,
    end: tuple[str, int] | None = None,
    env: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run a line of devkit in a fork of a process that has imported it; return its exit status and what it said.

    Args:
        words: the words after ``devkit``.
        folder: where it is started.
        state: where it keeps its records.
        end: how it is ended (``before`` a git call or ``during`` it, by SIGKILL, or by ``interrupt``), and at which.
        env: variables beside this process's.
    """
    state.mkdir(exist_ok=True)
    environ = {**os.environ, "XDG_STATE_HOME": str(state), **(env or {})}
    if end:
        environ["FORKS_FIRST"] = f"from {__name__} import arm; arm{end!r}"
    found = forks().run(words, folder, environ, limit_s=LIMIT_S, together=True)
    return found.status, found.out


def arm(how: str, at: int) -> None:
    """End this process at its ``at``-th git call, before it starts or while it runs."""
    from devkit.git import restore
    from devkit.git.command import Git
    from devkit.process import Runner

    number = signal.SIGINT if how == "interrupt" else signal.SIGKILL
    left = [at]

    def counted(function: Any) -> Any:
        def wrapper(*words: Any, **names: Any) -> Any:
            left[0] -= 1
            if left[0] == 0 and how != "during":
                os.kill(os.getpid(), number)
            result = function(*words, **names)
            if left[0] == 0 and how == "during":
                os.kill(os.getpid(), number)
            return result

        return wrapper

    Git._start = counted(Git._start)  # type: ignore[method-assign]
    Runner.start = counted(Runner.start)  # type: ignore[method-assign]
    vars(restore)["write_file"] = counted(vars(restore)["write_file"])


def checkout(top: Path, git_dir: Path) -> dict[str, Any]:
    """Return a checkout bit for bit: HEAD, index, files, and what goes on."""
    from devkit.git.snapshot import OPERATION_FILES

    files: dict[str, Any] = {}
    for folder, folders, names in os.walk(top):
        if ".git" in folders:
            folders.remove(".git")
        for name in [*names, *(word for word in folders if Path(folder, word).is_symlink())]:
            path = Path(folder, name)
            if name != ".git":
                files[str(path.relative_to(top))] = _file(path)
    state = {}
    for name in OPERATION_FILES:
        root = git_dir / name
        for path in [root, *root.rglob("*")]:
            if path.is_file():
                state[str(path.relative_to(git_dir))] = _bytes(path)
    return {"HEAD": _head(top, git_dir), "index": _bytes(git_dir / "index"), "files": files, "operation": state}


def _file(path: Path) -> tuple[int, bytes | str]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return stat.S_IFLNK, os.readlink(path)  # noqa: PTH115 - its very bytes
    if not stat.S_ISREG(mode):
        return mode, ""
    return mode, _digest(path.read_bytes())


def _digest(data: bytes) -> str:
    return data.decode() if len(data) < 40 and data.isascii() else hashlib.sha256(data).hexdigest()


def _bytes(path: Path) -> str | None:
    return _digest(path.read_bytes()) if path.is_file() else None


def _git_dir(top: Path) -> Path:
    text = (top / ".git").read_text().strip() if (top / ".git").is_file() else ""
    return top / text.removeprefix("gitdir: ") if text else top / ".git"


def _has_table(repository: Path) -> bool:
    return (repository / ".git" / "reftable").is_dir()


def _head(top: Path, git_dir: Path) -> str | None:
    """Return what HEAD is: git alone knows where refs are in a table."""
    text = _bytes(git_dir / "HEAD")
    if text != "ref: refs/heads/.invalid\n":
        return text
    return (git(top, "symbolic-ref", "-q", "HEAD", check=False) or git(top, "rev-parse", "HEAD")).decode()


def _stash(clone: Path) -> str | None:
    """Return the stash, its log byte for byte."""
    if _has_table(clone):
        return git(
            clone, "log", "-g", "--format=%H %gD %gn %ge %gs", "--date=raw", "refs/stash", "--", check=False
        ).decode()
    return _bytes(clone / ".git" / "logs" / "refs" / "stash")


def refs(repository: Path) -> list[str]:
    """Return every ref but devkit's way back; where refs are in a table, what goes on is among them."""
    roots = ["--include-root-refs"] if _has_table(repository) else []
    words = ["for-each-ref", *roots, "--format=%(refname) %(objectname) %(symref)"]
    lines = git(repository, *words).decode().splitlines()
    return [line for line in lines if not line.startswith(("refs/devkit/undo/", "refs/devkit/incoming/", WIP))]


def saved(repository: Path) -> list[str]:
    """Return the names of saved work with their commits, whether git or only devkit knows them."""
    import json

    path = repository / ".git" / "devkit" / "refs.json"
    found = dict(json.loads(path.read_text())) if path.exists() else {}
    for line in git(repository, "for-each-ref", "--format=%(refname) %(objectname)", WIP).decode().splitlines():
        name, oid = line.split()
        found[name] = oid
    return sorted(f"{name} {oid}" for name, oid in found.items())


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Return where two looks differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in sorted({*one, *other}, key=str)
            for found in differences(one.get(key), other.get(key), f"{where}/{key!r}")
        ]
    if isinstance(one, list) and isinstance(other, list):
        return (
            [f"{where}: lost {sorted(set(one) - set(other))} came {sorted(set(other) - set(one))}"]
            if one != other
            else []
        )
    return [] if one == other else [f"{where}: {one!r} became {other!r}"]


def run(seed: int, folder: Path, made: Path) -> tuple[str, list[str]]:
    """Run one seed in ``folder`` from the template ``made``; return what it was and what was lost, if anything."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    case = Case(seed, folder)
    shutil.copytree(made, folder, symlinks=True)
    for name in ("upstream", "fork"):
        target = folder / ("project.git" if name == "upstream" else "fork.git")
        git(case.clone, "config", f"remote.{name}.url", str(target))
    try:
        return _run(case, rng)
    except AssertionError as error:
        return "", [str(error), *case.told]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parts(look: dict[str, Any]) -> dict[str, Any]:
    """Return what a redo gives back: all but how fresh git takes its index to be."""
    clone = {name: part for name, part in look["clone"].items() if name != "index"}
    return {**{name: part for name, part in look.items() if name != "worktrees"}, "clone": clone}


def _untracked(look: dict[str, Any]) -> dict[str, Any]:
    """Return a look without where the remotes' branches are."""
    return {**look, "refs": [row for row in look["refs"] if not row.startswith("refs/remotes/")]}


def _run(case: Case, rng: random.Random) -> tuple[str, list[str]]:
    wanted = rng.choice(WANTED)
    words = case.command(rng, wanted)
    case.prepare(rng, wanted)
    how = rng.choice(["", "", "before", "during", "interrupt"])
    end = (how, rng.randrange(1, 45)) if how else None
    known = set(case.entries())
    before = case.look()
    status = case.devkit(*words, end=end)
    after = case.look()
    new = [entry for entry in case.entries() if entry not in known]
    if new:
        if rng.random() < 0.2:
            case.devkit("undo", new[0], "--yes", end=(rng.choice(["before", "during"]), rng.randrange(1, 40)))
        done = case.devkit("undo", new[0], "--yes")
        if done and ".lock is there" in case.told[-1]:  # a git that was killed left it: do what the screen says
            Path(case.told[-1].rpartition("rm -- ")[2].strip()).unlink()
            done = case.devkit("undo", new[0], "--yes")
        if done:
            raise AssertionError("undo failed")
    now = case.look()
    if not new and not status and tuple(words[:2]) == ("pr", "fetch"):  # as git's own fetch, it follows the base
        before, now = _untracked(before), _untracked(now)
    lost = differences(before, now)
    if not lost and new and not how and wanted != "back" and rng.random() < 0.3:
        if case.devkit("redo", "--yes"):
            raise AssertionError("redo failed")
        lost = [f"after the redo {text}" for text in differences(_parts(after), _parts(case.look()))]
        came = "redone"
    else:
        came = "undone" if new else "unchanged"
    kind = f"{' '.join(words[:2])} {how or 'whole'} {came} {status}"
    # git's own sparse index names trees that it has not written
    if not lost and rng.random() < 0.1 and "sparse index" not in case.told:
        said = git(case.clone, "fsck", "--connectivity-only", check=False)
        lost = [f"fsck: {said.decode()}"] if b"missing" in said or b"broken" in said else []
    return kind, [*lost, *case.told] if lost else []
