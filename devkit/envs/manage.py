"""What is done with environments that are there: survey, removal, adoption."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.envs import interpreters, moved, store
from devkit.envs.resolve import PROJECT_ENVIRONMENT, home, project_environment
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
    named = [each for each in sorted(home().glob("*")) if not each.name.startswith(".")]
    return found + [look(each.name, each) for each in named if _is_one(each) or store.unfinished(each)]


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
        known = ", ".join(each.name for each in survey(directory))
        raise DevkitError(
            f"there is no environment named {name}", f"There is {known}." if known else "There are none yet.",
            "devkit env list",
        )  # fmt: skip
    return folder


def remove(folder: Path, name: str) -> str:
    """Remove an environment that devkit made, or let go of an adopted one; return what was done.

    Raises:
        DevkitError: devkit did not make it, or it is being made.
    """
    record = store.read(folder)
    bury(folder.parent)
    if folder.is_symlink() or (record and record.adopted):
        real = folder.resolve()
        if not real.exists():
            folder.unlink()
            return f"let go of {name}; {real} is gone"
        with contextlib.suppress(DevkitError, OSError):
            packages = store.site_packages(real)
            if packages:
                (packages / store.DEVICE_SIDE).unlink(missing_ok=True)
            (real / store.RECORD).unlink(missing_ok=True)
        if folder.is_symlink():
            folder.unlink()
        return f"let go of {name}; {real} is as it was"
    if record is None and not store.unfinished(folder):
        if not ((folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()):
            raise DevkitError(f"{folder} is not an environment", "It has no pyvenv.cfg.", "devkit env list")
        raise DevkitError(
            f"{name} is not devkit's to remove",
            f"devkit did not make {folder}.",
            Hint.of("rm", "-r", "--", str(folder), purpose="if you are sure"),
        )
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
            f"{name} is removed, and some of its files could not be",
            f"{left}: {error.strerror}. What is left is {grave}",
            Hint.of("sudo", "rm", "-rf", "--", str(grave)),
            "devkit env remove OTHER   tries again each time",
        ) from error
    from devkit.text import size

    return f"removed {name}, {size(freed)}"


def bury(parent: Path) -> None:
    """Remove what earlier removals beside it had to leave, as far as that can be."""
    for grave in parent.glob(f"{REMOVED}*-*"):
        if (grave / store.RECORD).is_file() or (grave / "pyvenv.cfg").is_file() or grave.parent == home():
            shutil.rmtree(grave, ignore_errors=True)


def adoption_lines(path: Path, name: str, directory: Path) -> list[str]:
    """Return the lines that adopting an environment comes to; what it would refuse is not looked at."""
    import shlex

    from devkit.launch import device_side

    folder = path.parent.parent if path.is_file() else path
    packages = store.site_packages(folder) or folder / "lib" / "python3" / "site-packages"
    lines = [f"echo {shlex.quote(str(device_side()))} > {shlex.quote(str(packages / store.DEVICE_SIDE))}"]
    project = project_environment(directory)
    if store.read(folder) is None and (name or project is None or project.resolve() != folder.resolve()):
        link = home() / (name or folder.absolute().name.lstrip("."))
        lines.append(shlex.join(("ln", "-s", "--", str(folder.resolve()), str(link))))
    return lines


def adopt(app: App, path: Path, name: str, directory: Path) -> tuple[str, store.Record]:
    """Let devkit use an environment that something else made: its device side goes in, nothing else is changed.

    One that devkit knows already gets this devkit's device side.

    Args:
        app: whose runner asks its Python.
        path: its folder, or its Python.
        name: what to call it; its folder's name by default.
        directory: where the user stands.

    Raises:
        DevkitError: it is none, or it belongs to the system.
    """
    folder = path.parent.parent if path.is_file() else path
    known = store.read(folder)
    if known:
        if name and name != known.name:
            raise DevkitError(
                f"{path} is known as {known.name}", "An environment has one name.",
                Hint.of("devkit", "env", "remove", known.name, purpose="lets go of it, and it stays"),
            )  # fmt: skip
        store.put_device_side(folder)
        return known.name, known
    python = folder / "bin" / "python"
    answered = interpreters.inspect(app.runner, python, "adopted") if python.exists() else None
    packages = store.site_packages(folder)
    if answered is None or packages is None:
        raise DevkitError(
            f"{path} is no environment", "There is no bin/python in it that answers, or no site-packages.",
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
    if not as_project:
        link = home() / called
        if os.path.lexists(link):
            raise DevkitError(f"the name {called} is taken", f"{link} is there.", "devkit env adopt PATH --name OTHER")
        with explained(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder.resolve())
    record = store.Record(
        called,
        dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        answered.dotted,
        str(answered.path),
        adopted=True,
    )
    store.put_device_side(folder)
    store.write(folder, record)
    return called, record
