"""A checkout of Paddle: where it is, its submodules, and the archives that it names."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devkit.errors import DevkitError
from devkit.git.environ import LOOK_UP, without_redirection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from devkit.process import Finished, Runner

GIT_LIMIT_S = 60.0
PROJECT = "https://github.com/PaddlePaddle/Paddle.git"
NOTHING_FOUND = 1  # git config's status
READERS = 8
EXTERNAL = "cmake/external"
MODULES = r"^submodule\..*\.(path|url|update)$"
UPDATES = r"^submodule\..*\.update$"
THIRD_PARTY = "cmake/third_party.cmake"


@dataclass(frozen=True)
class Submodule:
    """A submodule of the tree.

    Attributes:
        path: below the root.
        url: where it comes from.
        pinned: the commit that the tree names.
        present: the commit that is checked out; empty where nothing is.
        left_out: whether the user (``update = none``) or the tree's own configure passes it over.
        parent: the submodule that holds it, below the root; empty for the tree itself.
    """

    path: str
    url: str
    pinned: str
    present: str
    left_out: bool = False
    parent: str = ""

    @property
    def missing(self) -> bool:
        """Whether it must be fetched."""
        return not self.present and not self.left_out


def find(directory: Path) -> Path:
    """Return the root of the checkout of Paddle that holds ``directory``.

    Raises:
        DevkitError: there is none.
    """
    start = directory.resolve()
    if not start.is_dir():
        raise DevkitError(f"there is no folder {start}", "", "devkit build -C PATH   with that of a checkout of Paddle")
    for path in (start, *start.parents):
        if (path / "python" / "paddle" / "__init__.py").is_file() and _names_paddle(path / "CMakeLists.txt"):
            return path
    raise DevkitError(
        f"{start} is in no checkout of Paddle",
        "A CMakeLists.txt with project(paddle …) and python/paddle were looked for, upwards.",
        "devkit build -C PATH   for a checkout that is elsewhere",
        f"git clone {PROJECT}",
        "devkit build --profile custom-operators   (or custom-device, fastdeploy) builds what is built on a Paddle",
    )


def _names_paddle(path: Path) -> bool:
    try:
        return re.search(r"^\s*project\(\s*paddle\b", path.read_text("utf-8", "replace"), re.MULTILINE) is not None
    except OSError:
        return False


def clean_environ() -> dict[str, str]:
    """Return the environment for git: without the variables that would turn it to another repository."""
    return without_redirection(os.environ)


def with_setting(environ: Mapping[str, str], key: str, value: str) -> dict[str, str]:
    """Return the variables that give git one more setting, beside those that the environment gives it already."""
    number = int(environ.get("GIT_CONFIG_COUNT") or 0)
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": key,
        f"GIT_CONFIG_VALUE_{number}": value,
    }


def git(runner: Runner, root: Path, *words: str, check: bool = True) -> Finished:
    """Run git in ``root``.

    Raises:
        DevkitError: it failed, with ``check``.
    """
    return runner.run(
        ["git", "-C", str(root), *words],
        env={**clean_environ(), "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        timeout_s=GIT_LIMIT_S,
        check=check,
    )


def has_commit(runner: Runner, root: Path, commit: str) -> bool:
    """Return whether the clone itself has a commit, see ``LOOK_UP``."""
    done = git(runner, root, *LOOK_UP, commit, check=False)
    return not done.status and bool(done.text.strip())


def refused(runner: Runner, root: Path) -> str:
    """Return what git says where it refuses the checkout because of its owner; empty where it does not."""
    done = git(runner, root, "rev-parse", "HEAD", check=False)
    said = done.stderr.decode(errors="replace")
    return said.strip().splitlines()[0] if "dubious ownership" in said else ""


def submodules(runner: Runner, root: Path) -> list[Submodule]:
    """Return the submodules of a checkout, in the order of their paths.

    Raises:
        DevkitError: git cannot read the checkout.
    """
    if not (root / ".gitmodules").is_file():
        return []
    listed = git(runner, root, "config", "-z", "-f", ".gitmodules", "--get-regexp", MODULES, check=False)
    if listed.status not in {0, NOTHING_FOUND}:
        raise DevkitError(f"git cannot read {root / '.gitmodules'}", listed.complaint)
    named = module_fields(listed.text)
    urls = _urls(named)
    if not urls:
        return []
    own = module_fields(git(runner, root, "config", "-z", "--get-regexp", UPDATES, check=False).text)
    passed_over = {
        fields["path"] for name, fields in named.items() if "path" in fields and _none({**fields, **own.get(name, {})})
    } | left_out_by(root)
    pins = git(runner, root, "ls-files", "-s", "-z", "--", *urls)
    found = []
    for entry in filter(None, pins.text.split("\0")):
        mode, commit, _, path = re.split(r"[ \t]", entry, maxsplit=3)
        if mode == "160000" and path in urls:
            found.append(Submodule(path, urls[path], commit, checked_out(root / path), path in passed_over))
    return sorted(found, key=lambda submodule: submodule.path)


def all_submodules(runner: Runner, root: Path) -> list[Submodule]:
    """Return the submodules of a checkout and theirs, as far as they are there, in the order of their paths.

    What a submodule pins is that of the commit that is checked out in it.

    Raises:
        DevkitError: git cannot read the checkout.
    """

    def inside(submodule: Submodule) -> list[Submodule]:
        try:
            found = submodules(runner, root / submodule.path)
        except DevkitError:  # its owner, or a git folder that is gone: both are told elsewhere
            return []
        return [
            replace(
                one, path=f"{submodule.path}/{one.path}", url=resolved(one.url, submodule.url), parent=submodule.path
            )
            for one in found
        ]

    level = found = submodules(runner, root)
    with ThreadPoolExecutor(READERS) as pool:
        while level := [
            submodule for submodule in level if submodule.present and (root / submodule.path / ".gitmodules").is_file()
        ]:
            level = [one for several in pool.map(inside, level) for one in several]
            found = [*found, *level]
    return sorted(found, key=lambda submodule: submodule.path)


def resolved(url: str, parent: str) -> str:
    """Return a submodule's address, which may be relative to that of the repository that names it."""
    if not url.startswith(("./", "../")):
        return url
    scheme, separator, rest = parent.partition("://")
    if not separator:
        return posixpath.normpath(posixpath.join(parent, url))
    return f"{scheme}://{posixpath.normpath(posixpath.join(rest, url))}"


def module_urls(listed: str) -> dict[str, str]:
    """Return path → URL of what ``git config -z --get-regexp`` told of a .gitmodules."""
    return _urls(module_fields(listed))


def _urls(named: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {mapping["path"]: mapping.get("url", "") for mapping in named.values() if "path" in mapping}


def _none(fields: Mapping[str, str]) -> bool:
    return fields.get("update") == "none"


def left_out_by(root: Path) -> set[str]:
    """Return the submodules that the tree's own configure does not fetch, though its .gitmodules names them."""
    return set(re.findall(r"NOT\s+submodule\s+STREQUAL\s+\"?([^\s\")]+)", text_of(root / THIRD_PARTY)))


def text_of(path: Path) -> str:
    """Return what a file holds; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text("utf-8", "replace")
    return ""


def module_fields(listed: str) -> dict[str, dict[str, str]]:
    """Return name → field → value of what ``git config -z --get-regexp`` told of submodules."""
    named: dict[str, dict[str, str]] = {}
    for entry in filter(None, listed.split("\0")):
        key, _, value = entry.partition("\n")
        name, _, field = key.removeprefix("submodule.").rpartition(".")
        named.setdefault(name, {})[field] = value
    return named


def checked_out(folder: Path) -> str:
    """Return the commit that a submodule's folder has checked out, read from its files; empty where there is none."""
    try:
        gitdir = git_folder(folder)
        head = (gitdir / "HEAD").read_text("utf-8").strip()
        if not any(path.name != ".git" for path in folder.iterdir()):
            return ""
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (gitdir / ref).is_file():
            return (gitdir / ref).read_text("utf-8").strip()
        packed = (gitdir / "packed-refs").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line.split()[0] for line in packed.splitlines() if line.endswith(f" {ref}")), "")


def git_folder(folder: Path) -> Path:
    """Return the git folder of a checkout.

    Raises:
        OSError: it is none.
    """
    mark = folder / ".git"
    return mark if mark.is_dir() else folder / mark.read_text("utf-8").removeprefix("gitdir:").strip()


def state(root: Path, paths: Sequence[str]) -> list[list[str | int]]:
    """Return what is other where submodules came, went or moved: of each path what files tell, the tree's first."""
    found: list[list[str | int]] = []
    for path in ("", *paths):
        folder = root / path
        times = [0, 0, 0]
        with contextlib.suppress(OSError, UnicodeDecodeError):
            gitdir = git_folder(folder)
            for number, file in enumerate((folder / ".gitmodules", gitdir / "index", gitdir / "config")):
                with contextlib.suppress(OSError):
                    times[number] = file.stat().st_mtime_ns
        found.append([path, checked_out(folder) if path else "", *times])
    return found


def named_refs(root: Path) -> dict[str, tuple[str, ...]]:
    """Return path of a submodule → the tags, branches and commits of it that ``cmake/external`` names.

    The tree's configure and build check these out by name: some are not what the tree pins.
    """
    found: dict[str, dict[str, None]] = {}
    for file in sorted((root / EXTERNAL).glob("*.cmake")):
        text = text_of(file)
        names = re.findall(r"set\(\s*\w+_TAG\s+\"?([\w][\w./-]*)", text)
        for path in re.findall(r"\$\{PADDLE_SOURCE_DIR\}/(third_party/[\w-]+)", text):
            found.setdefault(path, {}).update(dict.fromkeys(names))
    return {path: tuple(names) for path, names in found.items()}


def as_named(runner: Runner, root: Path, modules: Iterable[Submodule]) -> set[str]:
    """Return the submodules that the tree's configure put at another commit than the pinned one."""
    names = named_refs(root)
    found = set()
    for module in modules:
        if module.present and module.present != module.pinned and module.path in names:
            words = "for-each-ref", "--points-at=HEAD", "--format=%(refname:lstrip=2)"
            listed = git(runner, root / module.path, *words, check=False)
            here = {name.removeprefix("origin/") for name in listed.text.split()} | {module.present}
            found |= {module.path} if here & set(names[module.path]) else set()
    return found


def fetch_lines(root: Path, missing: Sequence[Submodule], *, jobs: int = 1) -> list[list[str]]:
    """Return the lines that fetch the submodules of which nothing is checked out, one a repository that holds some.

    Git takes one whose clone is at the pinned commit for done, though an interruption left its folder empty.
    ``--force`` checks it out; where nothing is checked out it has nothing to overwrite.
    """
    several = ["--jobs", str(jobs)] if jobs > 1 else []
    lines = []
    for parent in dict.fromkeys(submodule.parent for submodule in missing):
        names = [submodule.path.removeprefix(f"{parent}/") for submodule in missing if submodule.parent == parent]
        line = ["git", "-C", str(root / parent), "submodule", "update", "--init", "--recursive"]
        lines.append([*line, *several, "--force", "--", *names])
    return lines
