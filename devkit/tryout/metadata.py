"""What an installation would tell of a project that is imported from its tree: its name, version and entry points.

Many packages ask ``importlib.metadata`` for their own version as they are imported, or find their plugins there; some
import a file of their version that only a build writes. Neither is in a tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.tryout import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

UNKNOWN = "0.0.0"
VERSION_FILE = "__version__ = version = {!r}\n__version_tuple__ = version_tuple = (0, 0, 0)\n"
WRITERS = (
    (("tool", "setuptools_scm"), ("write_to", "version_file")),
    (("tool", "hatch", "build", "hooks", "vcs"), ("version-file",)),
    (("tool", "pdm", "version"), ("write_to",)),
)
"""Tables of ``pyproject.toml`` that name a file which a build writes the version to."""


@dataclass(frozen=True)
class Project:
    """A project as its own files describe it.

    Attributes:
        version: ``UNKNOWN`` where only a build knows it.
        entry_points: group → name → object.
        version_files: files of the version that a build writes, below the project's folder.
    """

    name: str
    version: str = UNKNOWN
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    version_files: tuple[str, ...] = ()


def read(folder: Path) -> Project | None:
    """Return the project that a folder holds; None where its files name none."""
    text = settings.reader(folder)
    data = settings.toml(text("pyproject.toml"))
    described = settings.table(data, "project") or settings.table(data, "tool", "poetry")
    points: dict[str, Any] = {
        **settings.table(described, "entry-points"), **settings.table(data, "tool", "poetry", "plugins"),
    }  # fmt: skip
    for group, key in (("console_scripts", "scripts"), ("gui_scripts", "gui-scripts")):
        if settings.table(described, key):
            points[group] = settings.table(described, key)
    written = [settings.table(data, *table).get(key) for table, keys in WRITERS for key in keys]
    ini = settings.ini(text("setup.cfg")).get("metadata", {})
    setup = settings.setup_call(text("setup.py")).keywords
    name, version = (
        next(filter(None, (places.get(key) for places in (described, ini, setup))), "") for key in ("name", "version")
    )
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        return None
    return Project(
        name,
        version if isinstance(version, str) and re.fullmatch(r"[\w.+!-]+", version) else UNKNOWN,
        {
            group: {one: str(at) for one, at in named.items()}
            for group, named in points.items()
            if isinstance(named, dict)
        },
        tuple(word for word in written if isinstance(word, str)),
    )


def file_name(name: str) -> str:
    """Return how the name of a project begins the names of its folders."""
    return re.sub(r"[-_.]+", "_", name)


def files(project: Project) -> Iterator[tuple[str, str]]:
    """Yield name and text of what an installation writes into its ``.dist-info``."""
    folder = f"{file_name(project.name)}-{project.version}.dist-info"
    yield f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {project.name}\nVersion: {project.version}\n"
    if project.entry_points:
        rows = [
            row
            for group, named in project.entry_points.items()
            for row in (f"[{group}]", *(f"{name} = {at}" for name, at in named.items()), "")
        ]
        yield f"{folder}/entry_points.txt", "\n".join(rows)


def describe(folder: Path, place: Path, installed: Iterable[str]) -> bool:
    """Write what an installation of the project in a folder would, below a place; return whether there is any.

    A file of its version that a build would write is written beside its code, where git does not track one.

    Args:
        folder: the project's.
        place: where it is written.
        installed: names of ``.dist-info`` folders in the environment: what is installed there tells of itself.
    """
    import shutil

    project = read(folder)
    shutil.rmtree(place, ignore_errors=True)
    known = {name.partition("-")[0].lower() for name in installed}
    if project is None or file_name(project.name).lower() in known:
        return False
    for name, text in files(project):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, "utf-8")
    for word in project.version_files:
        path = folder / word
        if path.resolve().is_relative_to(folder.resolve()) and path.parent.is_dir() and not path.exists():
            path.write_text(VERSION_FILE.format(project.version), "utf-8")
    return True
