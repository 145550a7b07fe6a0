"""What is done with environments that are there: survey, removal, adoption."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.envs import interpreters, moved, store
from devkit.envs.places import PROJECT_ENVIRONMENT, home, project_environment
from devkit.errors import DevkitError, Hint
from devkit.files import explained

if TYPE_CHECKING:
    from devkit.app import App


REMOVED = ".removed-"


@dataclass(frozen=True)
class Seen:
    """An environment in a list.

    Attributes:
        state: ``fine``, ``gone`` (an adopted one), ``interpreter gone``, ``interpreter changed``, ``moved`` or
            ``unfinished``.
        record: None where devkit neither made nor adopted it.
    """

    name: str
    folder: Path
    python: str
    paddles: tuple[str, ...]
    state: str
    record: store.Record | None


def look(name: str, folder: Path) -> Seen:
    """Return what can be seen of an environment without starting its Python."""
    return Seen(
        name,
        folder,
        store.python_version(folder),
        tuple(store.installed_paddles(folder)),
        _state(folder),
        store.read(folder),
    )


def _state(folder: Path) -> str:
    if store.unfinished(folder):
        return "unfinished"
    if not folder.exists():
        return "gone"
    if not (folder / "bin" / "python").exists():
        return "interpreter gone"
    if store.made_for(folder) != (store.runs(folder) or store.made_for(folder)):
        return "interpreter changed"
    return "moved" if moved.made_in(folder) else "fine"


def survey(directory: Path) -> list[Seen]:
    """Return the virtual environments: the project's first, then the named ones."""
    project = project_environment(directory)
    found = [look(PROJECT_ENVIRONMENT, project)] if project else []
    named = [path for path in sorted(home().glob("*")) if not path.name.startswith(".")]
    return found + [look(path.name, path) for path in named if _is_one(path) or store.unfinished(path)]


def _is_one(folder: Path) -> bool:
    """Tell whether a folder is an environment, or the link of one whose folder is gone."""
    return os.path.lexists(folder / "bin" / "python") or (folder.is_symlink() and not folder.exists())


def folder_of(name: str, directory: Path) -> Path:
    """Return the folder that a name or a path stands for, whole or not.

    Raises:
        DevkitError: there is none.
    """
    folder = Path(name).expanduser().absolute() if "/" in name else store.place(name, directory)
    if not os.path.lexists(folder):
        known = ", ".join(seen.name for seen in survey(directory))
        raise DevkitError(
            f"there is no environment named {name}", f"There is {known}." if known else "There are none yet.",
            "devkit env list",
        )  # fmt: skip
    return folder


@dataclass(frozen=True)
class Removal:
    """What removing an environment comes to.

    Attributes:
        link: to remove; what it leads to stays.
        ours: what devkit put into an adopted environment, to take out.
        folder: to remove with all that is in it.
        said: what is said when it is done.
    """

    name: str
    link: Path | None = None
    ours: tuple[Path, ...] = ()
    folder: Path | None = None
    said: str = ""

    def lines(self) -> list[str]:
        """Return the lines that do the same."""
        words = [("rm", "-f", "--", *map(str, self.ours))] if self.ours else []
        words += [("rm", "--", str(self.link))] if self.link else []
        words += [("rm", "-r", "--", str(self.folder))] if self.folder else []
        return [shlex.join(word) for word in words]


def plan_removal(folder: Path, name: str) -> Removal:
    """Return what removing an environment comes to; nothing is changed.

    One that devkit made is removed; an adopted one is let go of; of a link to either the link goes.

    Raises:
        DevkitError: devkit did not make it.
    """
    record, link = store.read(folder), folder if folder.is_symlink() else None
    real = folder.resolve()
    if link and not real.exists():
        return Removal(name, link, said=f"let go of {name}; {real} is gone")
    if link or (record and record.adopted):
        ours: tuple[Path, ...] = ()
        if record and record.adopted and record.name == name:
            packages = store.site_packages(real)
            ours = (*([packages / store.DEVICE_SIDE] if packages else []), real / store.RECORD)
        return Removal(name, link, ours, said=f"let go of {name}; {real} is as it was")
    if record is None and not store.unfinished(folder):
        if not ((folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()):
            raise DevkitError(f"{folder} is not an environment", "It has no pyvenv.cfg.", "devkit env list")
        raise DevkitError(
            f"{name} is not devkit's to remove",
            f"devkit did not make {folder}.",
            Hint.of("rm", "-r", "--", str(folder), purpose="if you are sure"),
        )
    return Removal(name, folder=folder, said=f"removed {name}")


def remove(planned: Removal) -> str:
    """Carry out a removal, and return what was done.

    Raises:
        DevkitError: it is being made, or some of it cannot be removed; what is left is named.
    """
    from devkit.text import size

    for path in planned.ours:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    if planned.link:
        with explained(planned.link):
            planned.link.unlink()
    if planned.folder is None:
        return planned.said
    folder = planned.folder
    bury(folder.parent)
    with store.creating(folder):
        freed = store.own_size(folder)
        with explained(folder):
            # First out of sight by a rename, so that no half of one is ever used.
            grave = folder.with_name(f"{REMOVED}{folder.name}-{os.getpid()}")
            folder.rename(grave)
    try:
        shutil.rmtree(grave)
    except OSError as error:
        left = error.filename or grave
        raise DevkitError(
            f"{planned.name} is removed, and some of its files could not be",
            f"{left}: {error.strerror}. What is left is {grave}",
            Hint.of("sudo", "rm", "-rf", "--", str(grave)),
            "devkit env remove OTHER   tries again each time",
        ) from error
    return f"{planned.said}, {size(freed)}"


def bury(parent: Path) -> None:
    """Remove what earlier removals beside it had to leave, as far as that can be."""
    for grave in parent.glob(f"{REMOVED}*-*"):
        if (grave / store.RECORD).is_file() or (grave / "pyvenv.cfg").is_file() or grave.parent == home():
            shutil.rmtree(grave, ignore_errors=True)


@dataclass(frozen=True)
class Adoption:
    """What adopting an environment comes to.

    Attributes:
        folder: the environment's.
        packages: its site-packages, where devkit's device side goes in.
        link: by which it is known; None for the project's own, and for one that is known already.
        record: what devkit will know of it.
        known: whether it is known already: then only the device side is brought up to date.
    """

    folder: Path
    packages: Path
    link: Path | None
    record: store.Record
    known: bool

    def lines(self) -> list[str]:
        """Return the lines that do the same, but for the record."""
        from devkit.launch import device_side_folder

        target = shlex.quote(str(self.packages / store.DEVICE_SIDE))
        lines = [f"echo {shlex.quote(store.device_side_line(device_side_folder()))} > {target}"]
        if self.link:
            lines.append(shlex.join(("ln", "-s", "--", str(self.folder.resolve()), str(self.link))))
        return lines


def plan_adoption(app: App, path: Path, name: str, directory: Path) -> Adoption:
    """Return what it takes that devkit uses an environment that something else made; nothing is changed.

    Args:
        app: whose runner asks its Python.
        path: its folder, or its Python.
        name: what to call it; its folder's name by default.
        directory: where the user stands.

    Raises:
        DevkitError: it is none, it belongs to the system, or the name is taken.
    """
    folder = path.parent.parent if path.is_file() else path
    known, packages = store.read(folder), store.site_packages(folder)
    if known and packages:
        if name and name != known.name:
            raise DevkitError(
                f"{path} is known as {known.name}", "An environment has one name.",
                Hint.of("devkit", "env", "remove", known.name, purpose="lets go of it, and it stays"),
            )  # fmt: skip
        return Adoption(folder, packages, None, known, known=True)
    python = folder / "bin" / "python"
    answered = interpreters.inspect(app.runner, python, "adopted") if python.exists() else None
    if answered is None or packages is None:
        raise DevkitError(
            f"{path} is not an environment", "There is no bin/python in it that answers, or no site-packages.",
            "devkit env create NAME   makes one",
        )  # fmt: skip
    if answered.version[1] < 9:  # noqa: PLR2004 - the oldest Python of the device side
        raise DevkitError(f"{path} is Python {answered.dotted}", "devkit's device side wants 3.9 or later.")
    if (packages.parent / "EXTERNALLY-MANAGED").exists() or folder.absolute() in {Path("/usr"), Path("/usr/local")}:
        raise DevkitError(
            f"{path} is the system's", "What is put into it can break the system.", "devkit env create NAME"
        )
    project = project_environment(directory)
    as_project = project is not None and project.resolve() == folder.resolve() and not name
    called = PROJECT_ENVIRONMENT if as_project else store.check_name(name or folder.absolute().name.lstrip("."))
    link = None if as_project else home() / called
    if link and os.path.lexists(link):
        raise DevkitError(f"the name {called} is taken", f"{link} is there.", "devkit env adopt PATH --name OTHER")
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    record = store.Record(called, now, answered.dotted, str(answered.path), adopted=True)
    return Adoption(folder, packages, link, record, known=False)


def adopt(planned: Adoption) -> store.Record:
    """Let devkit use an environment: its device side goes in, nothing else is changed.

    Raises:
        DevkitError: it cannot be written, or the name was taken meanwhile.
    """
    if planned.link:
        with explained(planned.link):
            planned.link.parent.mkdir(parents=True, exist_ok=True)
            planned.link.symlink_to(planned.folder.resolve())
    store.put_device_side(planned.folder)
    if not planned.known:
        store.write(planned.folder, planned.record)
    return planned.record
