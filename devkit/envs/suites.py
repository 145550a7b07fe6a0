"""The model suites and docs that people develop beside Paddle: their own pins, at the commit that is asked for."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained, write_atomically
from devkit.git.command import environment as git_environment
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    from devkit.app import App
    from devkit.process import Finished

OWNER = "https://github.com/PaddlePaddle"
COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,200}")
PADDLES = ("paddlepaddle", "paddlepaddle-gpu", "paddlepaddle-xpu", "paddlepaddle-dcu")
INCLUDED = re.compile(r"^(?:-r|--requirement|-c|--constraint)[ =]\s*(\S+)", re.MULTILINE)
PINNED_BY_A_SCRIPT = re.compile(r"pip3? install ([A-Za-z][\w.-]*==[\w.]+)")
# The modules that settings of Sphinx load, and the distributions that they are in. Another module may be the
# repository's own, and an index may have a stranger's of its name.
DISTRIBUTIONS = {
    "breathe": "breathe", "exhale": "exhale", "markdown": "markdown", "myst_parser": "myst-parser",
    "nbsphinx": "nbsphinx", "pymdownx": "pymdown-extensions", "recommonmark": "recommonmark", "sphinx": "sphinx",
    "sphinx_copybutton": "sphinx-copybutton", "sphinx_design": "sphinx-design",
    "sphinx_markdown_tables": "sphinx-markdown-tables", "sphinx_rtd_theme": "sphinx-rtd-theme",
    "sphinx_sitemap": "sphinx-sitemap",
}  # fmt: skip
# The first version of NumPy with wheels for the Python 3 minor version after the one that is named.
NUMPY_WHEELS = (("1.23.2", 10), ("1.26", 11), ("2.1", 12))
PROJECT = "pyproject.toml"
BUILD = "build.txt"  # what is asked for elsewhere than in files of requirements
FETCH_S = 600


@dataclass(frozen=True)
class Suite:
    """A repository, and where it says what it needs.

    Attributes:
        files: of requirements; those that are there at a commit are taken.
        sphinx: settings of Sphinx, whose extensions it needs.
        scripts: those of its scripts that install what they pin.
        newest: the newest minor version of Python 3 that all it needs has wheels for, as of November 2026.
    """

    name: str
    files: tuple[str, ...] = ("requirements.txt",)
    sphinx: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    newest: int = 12

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
        Suite("PaddleOCR"),
        Suite("PaddleDetection"),
        Suite("PaddleSeg"),
        Suite("FastDeploy", ("requirements.txt", "python/requirements.txt")),
        Suite(
            "docs",
            ("requirements.txt", "ci_scripts/CAPItools/requirements.txt"),
            ("ci_scripts/doc-build-config/zh/conf.py", "ci_scripts/doc-build-config/en/conf.py"),
            ("ci_scripts/check_code.sh",),
            newest=13,
        ),
    )
}


@dataclass(frozen=True)
class Pins:
    """What a suite asks for.

    Attributes:
        name: of the suite.
        commit: that they are of; empty for a folder of the user's.
        files: of requirements, on this machine.
        requirements: those of them that are understood and hold here, Paddle's apart.
        paddles: those of Paddle.
        newest: the newest minor version of Python 3 that suits.
    """

    name: str
    commit: str
    files: tuple[Path, ...]
    requirements: tuple[Requirement, ...]
    paddles: tuple[Requirement, ...] = ()
    newest: int = 13

    @property
    def paddle(self) -> str:
        """The version of Paddle that is pinned, ``==3.0.0``; empty where none is."""
        found = (str(requirement.specifier) for requirement in self.paddles)
        return next((text for text in found if re.fullmatch(r"==[\w.]+", text)), "")


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
        return _of_a_folder(folder.absolute())
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
        listed = frozenset(git("ls-tree", "-r", "--name-only", "-z", sha).text.split("\0"))

        def blob(name: str) -> bytes:
            return git("show", f"{sha}:{name}").stdout if name in listed else b""

        files = _write(suite, blob, clone.with_suffix("") / sha[:12])
    if not files:
        looked = ", ".join((*suite.files, PROJECT))
        raise DevkitError(f"{suite.name} has no requirements at {sha[:12]}", f"Looked for {looked}.")
    return replace(read(suite.name, sha, files), newest=suite.newest)


def _of_a_folder(folder: Path) -> Pins:
    """Return the pins of a clone of a suite, of whatever name: what it has of the files that suites have."""
    known = SUITES.values()
    files = [folder / name for name in dict.fromkeys(name for suite in known for name in suite.files)]
    files = [path for path in files if path.is_file()]

    def blob(name: str) -> bytes:
        return (folder / name).read_bytes() if (folder / name).is_file() else b""

    own = list(dict.fromkeys(line for suite in known for line in of_its_own(suite, blob)))
    if own:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        files.append(cache_home() / "suites" / digest / BUILD)
        write_atomically(files[-1], "".join(f"{line}\n" for line in own).encode())
    if not files:
        raise DevkitError(
            f"{folder} has no requirements", f"Looked for requirements.txt, and for dependencies in {PROJECT}.",
            Hint.of("devkit", "env", "create", "-e", str(folder), purpose="installs it in place, with what it needs"),
        )  # fmt: skip
    suite = SUITES.get(folder.name.lower())
    return replace(read(folder.name, "", files), newest=suite.newest if suite else 13)


def _write(suite: Suite, blob: Callable[[str], bytes], place: Path) -> list[Path]:
    """Write a suite's files of requirements below ``place``, and what they include; return those to install.

    Args:
        suite: whose.
        blob: returns what is in a file of the repository; nothing where there is none.
        place: a folder of this commit's.
    """
    texts = {name: blob(name) for name in suite.files}
    wanted = files = [name for name, data in texts.items() if data]
    while wanted:
        beside = [
            (name, included) for name in wanted for included in INCLUDED.findall(texts[name].decode(errors="replace"))
        ]
        new = {_normal(PurePosixPath(name).parent / included) for name, included in beside} - texts.keys()
        texts |= {name: blob(name) for name in new}
        wanted = [name for name in new if texts[name]]
    own = of_its_own(suite, blob)
    if own:
        texts[BUILD] = "".join(f"{line}\n" for line in own).encode()
        files = [*files, BUILD]
    for name, data in texts.items():
        if data:
            write_atomically(place / name, data)
    return [place / name for name in files]


def of_its_own(suite: Suite, blob: Callable[[str], bytes]) -> list[str]:
    """Return what a suite's ``pyproject.toml``, settings of Sphinx and scripts ask for, as requirements."""
    settings = [name for path in suite.sphinx for name in of_sphinx(blob(path).decode(errors="replace"))]
    pins = [pin for path in suite.scripts for pin in PINNED_BY_A_SCRIPT.findall(blob(path).decode(errors="replace"))]
    return list(dict.fromkeys((*of_project(blob(PROJECT).decode(errors="replace")), *settings, *pins)))


def of_project(text: str) -> list[str]:
    """Return the dependencies in a ``pyproject.toml``; none where its build makes them up."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        project = tomlkit.parse(text).unwrap().get("project")
    except TOMLKitError:
        return []
    found = project.get("dependencies") if isinstance(project, dict) else None
    return [line for line in found if isinstance(line, str)] if isinstance(found, list) else []


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def of_sphinx(conf: str) -> list[str]:
    """Return the distributions that a ``conf.py`` of Sphinx needs: of its extensions, and of what it imports."""
    try:
        body = ast.parse(conf).body
    except (SyntaxError, ValueError):
        return []
    modules = ["sphinx"] if body else []
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            texts = [
                value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
            ]
            name = node.targets[0].id.lower()
            modules += texts if name.endswith("extensions") or name == "html_theme" else []
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.append(node.module)
    tops = dict.fromkeys(module.partition(".")[0] for module in modules)
    return [DISTRIBUTIONS[top] for top in tops if top in DISTRIBUTIONS]


def read(name: str, commit: str, files: Sequence[Path]) -> Pins:
    """Return the pins in files of requirements; lines that only pip understands are left to uv."""
    found: list[Requirement] = []
    paddles: list[Requirement] = []
    for requirement in (requirement for file in files for requirement in _requirements(file)):
        (paddles if _canonical(requirement.name) in PADDLES else found).append(requirement)
    return Pins(name, commit, tuple(files), tuple(found), tuple(paddles))


def _requirements(file: Path) -> Iterator[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in file.read_text("utf-8-sig", errors="replace").splitlines():
        try:
            requirement = Requirement(re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip())
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(name))


def excluding(pins: Pins, chosen: Sequence[str]) -> list[Path]:
    """Return a file that names the Paddles of a suite beside the one that is chosen: two would lie over each other.

    Raises:
        DevkitError: it cannot be written.
    """
    from packaging.requirements import Requirement

    ours = {Requirement(text).name for text in chosen}
    named = {_canonical(requirement.name) for requirement in pins.paddles} - ours
    if not named:
        return []
    file = cache_home() / "suites" / f"without-{'-'.join(sorted(named))}.txt"
    write_atomically(file, "".join(f"{name}\n" for name in sorted(named)).encode())
    return [file]


def newest_python(pins: Pins, minors: tuple[int, int]) -> tuple[int, int]:
    """Return those minor versions of Python 3 that a suite's packages have wheels for: a source may not build."""
    from packaging.specifiers import SpecifierSet

    numpy = [requirement.specifier for requirement in pins.requirements if _canonical(requirement.name) == "numpy"]
    kept = [
        newest
        for first, newest in NUMPY_WHEELS
        if any(not meet(specifier, SpecifierSet(f">={first}")) for specifier in numpy)
    ]
    return minors[0], min(minors[1], pins.newest, *kept)


def clashes(pins: Pins, ours: Sequence[str]) -> list[str]:
    """Return in words what a suite's pins and what Paddle needs, or is, cannot both have."""
    from packaging.requirements import InvalidRequirement, Requirement

    found = []
    for text in ours:
        try:
            own = Requirement(text)
        except InvalidRequirement:
            continue
        if own.url:
            continue
        if own.name in PADDLES:
            wanted = [theirs for theirs in pins.paddles if not meet(own.specifier, theirs.specifier)]
            found += [f"{pins.name} asks for {theirs}, and {own} was asked for" for theirs in wanted]
        for theirs in pins.requirements:
            if _canonical(theirs.name) == own.name and not meet(own.specifier, theirs.specifier):
                found.append(f"{pins.name} asks for {theirs}, and this Paddle for {own}")
    return found


def meet(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Tell whether a version can be in both: one of those that they name, or one a little newer, or the oldest."""
    from packaging.version import InvalidVersion, Version

    probes = [Version("0")]
    for specifier in (*one, *other):
        try:
            named = Version(specifier.version.removesuffix(".*"))
        except InvalidVersion:  # ===
            return True
        probes += [named, Version(f"{named.base_version}.0.0.1")]
    return any(one.contains(probe, prereleases=True) and other.contains(probe, prereleases=True) for probe in probes)
