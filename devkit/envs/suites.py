"""The model suites and docs that people develop beside Paddle: their own pins, at the commit that is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained, write_atomically
from devkit.git.command import environment as git_environment
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.requirements import Requirement

    from devkit.app import App
    from devkit.process import Finished

OWNER = "https://github.com/PaddlePaddle"
COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,200}")
PADDLES = re.compile(r"paddlepaddle(-gpu|-xpu|-dcu)?")
FETCH_S = 600


@dataclass(frozen=True)
class Suite:
    """A repository, and where its requirements may lie."""

    name: str
    files: tuple[str, ...] = ("requirements.txt",)

    @property
    def url(self) -> str:
        """The address of its repository."""
        return f"{OWNER}/{self.name}"


SUITES = {
    suite.name.lower(): suite
    for suite in (
        Suite("PaddleMIX", ("requirements.txt", "ppdiffusers/requirements.txt")),
        Suite("PaddleNLP"),
        Suite("PaddleFormers"),
        Suite("FastDeploy", ("requirements.txt", "python/requirements.txt")),
        Suite("docs", ("requirements.txt", "docs/requirements.txt", "ci_scripts/requirements.txt")),
    )
}


@dataclass(frozen=True)
class Pins:
    """What a suite asks for.

    Attributes:
        name: of the suite.
        commit: that they are of; empty for a folder of the user's.
        files: of requirements, on this machine.
        requirements: those of them that are understood, Paddle's apart.
        paddle: what it asks of Paddle, ``==3.0.0`` or nothing.
    """

    name: str
    commit: str
    files: tuple[Path, ...]
    requirements: tuple[Requirement, ...]
    paddle: str = ""


def parse(text: str) -> tuple[Suite, str]:
    """Return the suite and the commit in ``NAME`` or ``NAME@COMMIT``.

    Raises:
        UsageError: there is no such suite, or the commit can be none.
    """
    name, at, commit = text.partition("@")
    suite = SUITES.get(name.lower())
    if suite is None:
        known = ", ".join(offered.name for offered in SUITES.values())
        raise UsageError(f"--for {name} is not a suite that devkit knows", f"It knows {known}; or give a folder.")
    if at and not COMMIT.fullmatch(commit):
        raise UsageError(f"{commit!r} is not a commit, a branch or a tag", "", f"devkit env create --for {suite.name}")
    return suite, commit


def fetch(app: App, text: str) -> Pins:
    """Return the pins of a suite: fetched without its history and its files, or read from a folder of the user's.

    Raises:
        UsageError: there is no such suite.
        DevkitError: it cannot be fetched, or has no requirements.
    """
    folder = Path(text).expanduser()
    if "/" in text and folder.is_dir():
        files = [folder / name for name in SUITES["paddlemix"].files if (folder / name).is_file()]
        if not files:
            raise DevkitError(f"{folder} has no requirements.txt", "", Hint.of("ls", str(folder)))
        return read(folder.absolute().name, "", files)
    suite, commit = parse(text)
    clone = cache_home() / "suites" / f"{suite.name}.git"
    environ = {**git_environment(app.child_environment()), "GIT_TERMINAL_PROMPT": "0"}

    def git(*words: str, check: bool = True) -> Finished:
        line = ("git", "-C", str(clone), *words)
        return app.runner.run(line, env=environ, timeout_s=FETCH_S, check=check)

    with explained(clone):
        clone.mkdir(parents=True, exist_ok=True)
    if not (clone / "HEAD").is_file():
        git("init", "--quiet", "--bare")
        for key, value in (("url", suite.url), ("promisor", "true"), ("partialclonefilter", "blob:none")):
            git("config", f"remote.origin.{key}", value)
    with app.console.progress(f"fetching the requirements of {suite.name}"):
        words = ("fetch", "--quiet", "--depth", "1", "--filter=blob:none", "origin", commit or "HEAD")
        done = git(*words, check=False)
        if done.status:
            raise DevkitError(
                f"{suite.name}{'@' + commit if commit else ''} was not fetched", done.complaint,
                Hint.of("git", "ls-remote", suite.url, purpose="shows whether it answers, and its branches"),
                "devkit env create --for FOLDER   takes a clone of it that is here",
            )  # fmt: skip
        sha = git("rev-parse", "FETCH_HEAD").text.strip()
        listed = git("ls-tree", "-r", "--name-only", "-z", sha).text.split("\0")
        place = clone.with_suffix("") / sha[:12]
        files = []
        for name in suite.files:
            if name in listed:
                write_atomically(place / name, git("show", f"{sha}:{name}").stdout)
                files.append(place / name)
    if not files:
        raise DevkitError(f"{suite.name} has no requirements at {sha[:12]}", f"Looked for {', '.join(suite.files)}.")
    return read(suite.name, sha, files)


def read(name: str, commit: str, files: Sequence[Path]) -> Pins:
    """Return the pins in files of requirements; lines that only pip understands are left to uv."""
    from packaging.requirements import InvalidRequirement, Requirement

    found, paddle = [], ""
    for file in files:
        for line in file.read_text("utf-8", errors="replace").splitlines():
            try:
                requirement = Requirement(line.partition(" #")[0].strip())
            except InvalidRequirement:
                continue
            if PADDLES.fullmatch(requirement.name.lower()):
                paddle = str(requirement.specifier)
            else:
                found.append(requirement)
    return Pins(name, commit, tuple(files), tuple(found), paddle)


def clashes(pins: Pins, ours: Sequence[str]) -> list[str]:
    """Return in words what a suite's pins and what Paddle needs cannot both have."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found = []
    for text in ours:
        try:
            own = Requirement(text)
        except InvalidRequirement:
            continue
        for theirs in pins.requirements:
            if canonicalize_name(theirs.name) != canonicalize_name(own.name):
                continue
            exact = [
                specifier.version
                for specifier in theirs.specifier
                if specifier.operator == "==" and "*" not in specifier.version
            ]
            if any(not own.specifier.contains(version, prereleases=True) for version in exact):
                found.append(f"{pins.name} asks for {theirs}, and this Paddle for {own}")
    return found
