"""A forge over HTTP, clones of it, and devkit as a user starts it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.pr.ledger import BASE, Ledger
from tests.commands.pr.ledger import start as start_ledger
from tests.commands.pr.random_clones import checkout, fork_devkit, git, refs
from tests.hints import faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NUMBERS = itertools.count()
NOT_SHOWN = ("--decorate-refs-exclude=refs/devkit", "--decorate-refs-exclude=refs/remotes/fork/HEAD")  # by version
SERVER = Path(__file__).with_name("forge_server.py")
PROTECT = """#!/bin/sh
case "$1" in
refs/heads/develop) echo "develop is protected" >&2; exit 1 ;;
refs/pull/*) echo "deny updating a hidden ref" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Said:
    """What a line of devkit answered: its exit status, and what it printed on either stream."""

    status: int
    text: str


@dataclass
class Clone:
    """A clone of the forge, as a user has it."""

    folder: Path
    state: Path

    def git(self, *words: str, check: bool = True) -> str:
        return git(self.folder, *words, check=check).decode().rstrip("\n")

    def devkit(self, *words: str, folder: Path | None = None, env: dict[str, str] | None = None) -> Said:
        status, text = fork_devkit(words, folder or self.folder, self.state, env=env)
        assert faults(text) == []
        return Said(status, text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, subject: str, **files: str) -> str:
        """Commit files, named with ``__`` for a slash and ``_`` for a dot before the extension."""
        for name, text in files.items():
            self.write(name.replace("__", "/").replace("_", "."), text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)
        return self.git("rev-parse", "HEAD")

    def git_version(self) -> tuple[int, int]:
        major, minor = self.git("version").split()[2].split(".")[:2]
        return int(major), int(minor)

    def status(self) -> list[str]:
        return self.git("status", "--porcelain", "-b").splitlines()

    def graph(self, *names: str) -> str:
        """Return the graph of commits below names (by default all, devkit's too), with the refs that a user sees."""
        names = names or ("HEAD", "--branches", "--remotes", "--glob=refs/devkit/pull", "--glob=refs/devkit/old")
        words = ("log", "--graph", "--topo-order", "--format=%s%d", "--decorate=short")
        shown = self.git(*words, *NOT_SHOWN, *names)
        return "\n".join(line.rstrip() for line in shown.splitlines())


@dataclass
class Forge:
    """A forge: the project, whose base branch is protected, and a fork."""

    folder: Path
    address: str
    _times: Iterator[int] = field(default_factory=lambda: itertools.count(1_700_000_000, 100))

    def url(self, name: str) -> str:
        return f"{self.address}/{name}.git"

    def bare(self, name: str) -> Path:
        return self.folder / f"{name}.git"

    def create(self, name: str) -> None:
        git(self.folder, "init", "-q", "--template=", "--bare", "-b", "develop", str(self.bare(name)))
        git(self.bare(name), "config", "http.receivepack", "true")

    def protect(self, name: str) -> None:
        hook = self.bare(name) / "hooks" / "update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(PROTECT)
        hook.chmod(0o755)

    def commit(self, repository: str, ref: str, subject: str, files: Mapping[str, str | None], *, on: str = "") -> str:
        """Commit to a ref of a repository, on top of itself or of ``on``; a file of None is removed."""
        bare = self.bare(repository)
        start = os.fsdecode(git(bare, "rev-parse", "--verify", "-q", on or ref, check=False)).strip()
        (self.folder / "index").unlink(missing_ok=True)
        env = {**os.environ, "GIT_INDEX_FILE": str(self.folder / "index"), **self._dates()}

        def run(*words: str, data: bytes | None = None) -> str:
            done = subprocess.run(["git", *words], cwd=bare, env=env, input=data, check=True, capture_output=True)
            return done.stdout.decode().strip()

        if start:
            run("read-tree", start)
        for path, text in files.items():
            if text is None:
                run("update-index", "--force-remove", "--", path)
            else:
                oid = run("hash-object", "-w", "--stdin", data=text.encode())
                run("update-index", "--add", "--cacheinfo", f"100644,{oid},{path}")
        words = ["commit-tree", run("write-tree"), "-m", subject, *(["-p", start] if start else [])]
        oid = run(*words)
        run("update-ref", ref, oid)
        return oid

    def _dates(self) -> dict[str, str]:
        date = f"{next(self._times)} +0000"
        return {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}

    def fill(self) -> None:
        """Make the project with its requests, and the fork."""
        for name in ("project", "me"):
            self.create(f"{name}/Paddle")
        base = {"a.cc": numbered(9), "b.py": numbered(9), ".gitignore": "*.log\n"}
        project = "project/Paddle"
        self.commit(project, "refs/heads/develop", "Begin", base)
        self.commit(
            project, "refs/pull/7/head", "Mend the op", {"a.cc": numbered(9, l8="eight")}, on="refs/heads/develop"
        )
        self.commit(project, "refs/pull/7/head", "Test the op", {"test_op.py": "assert True\n"})
        self.commit(
            project, "refs/pull/8/head", "Other words", {"b.py": numbered(9, l5="cinq")}, on="refs/heads/develop"
        )
        self.commit(project, "refs/pull/9/head", "Half", {"c.py": "half\n"}, on="refs/heads/develop")
        self.commit(project, "refs/pull/9/head", "Whole", {"c.py": "whole\n"})
        git(
            self.bare(project),
            "push",
            "-q",
            str(self.bare("me/Paddle")),
            "refs/heads/develop",
            "refs/pull/9/head:refs/heads/whole",
        )
        self.commit(project, "refs/heads/develop", "Words", {"b.py": numbered(9, l5="five")})
        self.commit(project, "refs/heads/develop", "Whole (#9)", {"c.py": "whole\n"})
        self.protect(project)

    def refs(self, name: str) -> list[str]:
        """Return a repository's refs with the subjects of their commits."""
        return git(self.bare(name), "for-each-ref", "--format=%(refname) %(subject)").decode().splitlines()

    def requests(self) -> list[str]:
        """Return what was asked over HTTP."""
        log = self.folder / "requests.log"
        return log.read_text().splitlines() if log.exists() else []


def numbered(count: int, **changed: str) -> str:
    """Return lines 1 to ``count``, some of them changed: ``numbered(9, l3="three")``."""
    return "".join(f"{changed.get(f'l{number}', number)}\n" for number in range(1, count + 1))


def look(clone: Clone) -> dict[str, object]:
    """Return a checkout bit for bit, and the refs of its repository."""
    inside = clone.git("rev-parse", "--absolute-git-dir")
    return {**checkout(clone.folder, Path(inside)), "refs": refs(clone.folder)}


@pytest.fixture(scope="session")
def nobody() -> Iterator[None]:
    """git without a user's settings, for what is made before a test has its home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [word for word in os.environ if word.startswith("GIT_")]:
            patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@example.com")
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, nobody: None) -> Iterator[tuple[Path, str]]:
    """A folder that is served over HTTP, and its address."""
    del nobody
    folder = tmp_path_factory.mktemp("served")
    with subprocess.Popen([sys.executable, str(SERVER), str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise AssertionError
            yield folder, f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def made(server: tuple[Path, str]) -> Path:
    """The forge and a clone of it, made once and copied for each test."""
    folder = server[0] / "made"
    folder.mkdir()
    forge = Forge(folder, f"{server[1]}/made")
    forge.fill()
    git(folder, "clone", "-q", "--template=", "-o", "upstream", forge.url("project/Paddle"), "Paddle")
    git(folder / "Paddle", "remote", "add", "fork", forge.url("me/Paddle"))
    git(folder / "Paddle", "fetch", "-q", "fork")
    (folder / "requests.log").unlink(missing_ok=True)
    return folder


@pytest.fixture
def forge(server: tuple[Path, str], made: Path) -> Forge:
    """A project with three requests and a fork, over HTTP.

    7 is two commits on an old base, 8 conflicts with develop, 9 is one that upstream squashed.
    """
    name = f"forge{next(_NUMBERS)}"
    shutil.copytree(made, server[0] / name, symlinks=True)
    return Forge(server[0] / name, f"{server[1]}/{name}", itertools.count(1_750_000_000, 100))


@pytest.fixture
def clone(forge: Forge, tmp_path: Path) -> Clone:
    """A clone with ``upstream`` and ``fork``, on develop."""
    folder = tmp_path / "Paddle"
    (forge.folder / "Paddle").rename(folder)
    for remote, name in (("upstream", "project/Paddle"), ("fork", "me/Paddle")):
        git(folder, "remote", "set-url", remote, forge.url(name))
    return Clone(folder, tmp_path / "state")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return start_ledger(tmp_path, BASE)
