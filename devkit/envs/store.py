"""The environments of a user: their names, their records, and the lock below which one is made."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from devkit import locks
from devkit.envs.places import PROJECT_ENVIRONMENT, PROJECT_MARKS, home, project_environment
from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORD = "devkit-environment.json"
CREATING = ".creating"
DEVICE_SIDE = "devkit-device-side.pth"
OF_BYTES = "os.fsdecode("
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")  # what a container may be called, too
LINK = ".link"
MINOR = re.compile(r"^python3\.(\d+)")


@dataclass(frozen=True)
class Record:
    """What devkit knows of an environment that it made or adopted.

    Attributes:
        name: what it is called.
        created: when, in ISO 8601.
        python: the version of its interpreter.
        interpreter: the one that it was made from.
        paddle: ``cpu``, a CUDA build, ``none`` or ``wheel``.
        reason: why that one.
        requirements: what uv was given.
        index: Paddle's own index, where that was used.
        adopted: whether something else made it.
        proof: what the computation answered, if it was asked to compute.
    """

    name: str
    created: str
    python: str
    interpreter: str = ""
    paddle: str = ""
    reason: str = ""
    requirements: tuple[str, ...] = ()
    index: str | None = None
    adopted: bool = False
    proof: dict[str, Any] | None = None


def check_name(name: str) -> str:
    """Return ``name`` if an environment can be called so.

    Raises:
        UsageError: it cannot.
    """
    if NAME.fullmatch(name):
        return name
    if name.startswith("-"):
        why = "A name that begins with - would read as a flag."
    elif "/" in name:
        why = "A name is not a path: environments lie in devkit's own folder, or in .venv of the project."
    else:
        why = "A name has letters, digits, and . _ - inside, at most 63."
    better = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:63] or "paddle"
    raise UsageError(f"an environment cannot be called {name!r}", why, f"devkit env create {better}")


def project_folder(directory: Path) -> Path:
    """Return the project that holds ``directory``; the folder itself where none does."""
    for path in (directory, *directory.parents):
        if any((path / mark).exists() for mark in PROJECT_MARKS):
            return path
    return directory


def place(name: str, directory: Path) -> Path:
    """Return where an environment of this name is made; without one, ``.venv`` of the project.

    Raises:
        UsageError: it cannot be called so.
    """
    if name in {"", PROJECT_ENVIRONMENT}:
        return project_environment(directory) or project_folder(directory) / PROJECT_ENVIRONMENT
    return home() / check_name(name)


def read(folder: Path) -> Record | None:
    """Return the record in an environment's folder, or None."""
    try:
        values = json.loads((folder / RECORD).read_text("utf-8"))
        known = {field.name for field in fields(Record)}
        values = {key: value for key, value in values.items() if key in known}
        return Record(**{**values, "requirements": tuple(values.get("requirements", ()))})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write(folder: Path, record: Record) -> None:
    """Write the record into an environment's folder; secrets are masked."""
    from devkit.redact import redact_value

    write_atomically(folder / RECORD, json.dumps(redact_value(asdict(record)), indent=2).encode())


def check_not_of_windows(folder: Path) -> None:
    """Check that an environment was not made by a Python of Windows, in a folder that WSL shares with it.

    Raises:
        DevkitError: it was.
    """
    if (folder / "Scripts").is_dir() and not os.path.lexists(folder / "bin" / "python"):
        raise DevkitError(
            f"{folder} is an environment of Windows", "Programs of Linux do not run in it.",
            Hint.of("mv", str(folder), f"{folder}.windows", purpose="and then: devkit env create"),
            "devkit env create NAME   makes one elsewhere, which --env NAME takes",
        )  # fmt: skip


def runs(folder: Path) -> int | None:
    """Return the minor version of Python 3 that an environment's interpreter is by its name; None if that is silent."""
    matched = MINOR.search((folder / "bin" / "python").resolve().name)
    return int(matched[1]) if matched else None


def made_for(folder: Path) -> int | None:
    """Return the minor version of Python 3 that an environment's packages are for; None if nothing says so."""
    with contextlib.suppress(OSError):
        for line in (folder / "pyvenv.cfg").read_text("utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            matched = re.match(r"3\.(\d+)", value.strip())
            if key.strip() in {"version_info", "version"} and matched:
                return int(matched[1])
    found = {MINOR.search(path.parent.name) for path in folder.glob("lib/python3*/site-packages")}
    minors = {int(match[1]) for match in found if match}
    return next(iter(minors)) if len(minors) == 1 else runs(folder)


def site_packages(folder: Path) -> Path | None:
    """Return the folder of an environment's packages, or None where it has none.

    Of several, which an upgrade of conda's Python leaves, it is the one that the interpreter imports from.
    """
    found = sorted(folder.glob("lib/python3*/site-packages"))
    minor = runs(folder)
    ours = [path for path in found if path.parent.name == f"python3.{minor}"]
    return next(iter(ours or found), None)


def put_device_side(folder: Path) -> None:
    """Let an environment's Python import devkit's device side: a ``.pth`` that names the folder with the link to it.

    Raises:
        DevkitError: it cannot be written.
    """
    from devkit.launch import device_side

    packages = site_packages(folder)
    if packages is None:
        raise DevkitError(f"{folder} has no site-packages", "It is not an environment of a Python 3.")
    write_atomically(packages / DEVICE_SIDE, f"{device_side_line(device_side())}\n".encode())


def device_side_line(folder: Path) -> str:
    """Return the line of a ``.pth`` that leads to devkit's device side in ``folder``.

    A Python reads that file in its locale's encoding and does not start where that fails: the line is of ASCII.
    """
    return (
        str(folder) if str(folder).isascii() else f"import os, sys; sys.path.append({OF_BYTES}{os.fsencode(folder)!r}))"
    )


def device_side_of(line: str) -> Path:
    """Return the folder that the line of a ``.pth`` leads to."""
    matched = re.search(re.escape(OF_BYTES) + r"(b(['\"]).*\2)\)\)$", line)
    return Path(os.fsdecode(ast.literal_eval(matched[1])) if matched else line)


def installed_paddles(folder: Path) -> list[str]:
    """Return the Paddles in an environment as ``paddlepaddle 3.3.1``, from their metadata."""
    packages = site_packages(folder)
    found = []
    for info in sorted(packages.glob("paddlepaddle*.dist-info")) if packages else ():
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        found.append(f"{name.replace('_', '-')} {version}")
    return found


def python_version(folder: Path) -> str:
    """Return the version of an environment's Python: from ``pyvenv.cfg``, else from its folders."""
    with contextlib.suppress(OSError):
        for line in (folder / "pyvenv.cfg").read_text("utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() in {"version_info", "version"}:
                return ".".join(value.strip().split(".")[:3])
    packages = site_packages(folder)
    return packages.parent.name.removeprefix("python") if packages else "?"


def _marks(folder: Path) -> tuple[Path, ...]:
    """Return where the making of an environment is marked; beside it where devkit's own folder cannot be written."""
    digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:16]
    return home() / CREATING / digest, folder.parent / f".{folder.name.lstrip('.')}{CREATING}"


def unfinished(folder: Path) -> bool:
    """Tell whether the making of this environment goes on, or was cut off."""
    for mark in _marks(folder):
        with contextlib.suppress(OSError):
            if mark.stat().st_size > 0:
                return True
    return False


@contextlib.contextmanager
def creating(folder: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[bool]:
    """Hold the lock below which ``folder`` is made; yields whether an earlier making was cut off.

    From ``begin`` on, the lock's file names the folder for as long as that is not whole, so that a half-made one is
    known as such after SIGKILL too. It stays if the block, once begun, leaves a folder behind with an error. Where no
    such file can be written, the work goes on without. ``say`` takes the warning that the file system has no locks.

    Raises:
        DevkitError: another devkit is making it.
    """
    with contextlib.ExitStack() as stack:
        for mark in _marks(folder):
            try:
                mark.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(_locked(mark, say))
            except OSError:
                continue
            except locks.Busy as busy:
                what, listed = f"{folder.name} is being made by another devkit", "devkit env list"
                raise DevkitError(
                    what, f"It holds {mark}.", *busy.hints, Hint(listed, "shows it when it is done")
                ) from busy
            break
        else:
            yield False
            return
        cut_off = bool(file.read())
        done = False
        try:
            yield cut_off
            done = True
        finally:
            if done or not unfinished(folder) or not os.path.lexists(folder):
                mark.unlink(missing_ok=True)


def begin(folder: Path) -> None:
    """Note, below the lock, that from here on ``folder`` is devkit's to remove if its making is cut off."""
    for mark in _marks(folder):
        if mark.exists():
            with contextlib.suppress(OSError):
                mark.write_bytes(os.fsencode(f"{folder}\n"))


@contextlib.contextmanager
def _locked(mark: Path, say: Callable[[str], None]) -> Iterator[IO[str]]:
    while True:
        with mark.open("a+", encoding="utf-8") as file, locks.hold_open(file.fileno(), mark, say=say):
            try:
                same = os.fstat(file.fileno()).st_ino == mark.stat().st_ino
            except FileNotFoundError:
                same = False
            if same:  # else its last holder removed it as we opened it
                file.seek(0)
                yield file
                return


def container_note(name: str) -> Path:
    """Return the note that there is a container of this name; the engine, which is slower to ask, knows better."""
    return home() / ".containers" / name


def own_size(folder: Path) -> int:
    """Return the bytes that only this folder takes on the disk: hard links to others' files are not counted."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            below = entry.is_dir(follow_symlinks=False)
            if below or status.st_nlink == 1:
                total += status.st_blocks * 512
            if below:
                total += own_size(folder / entry.name)
    return total


def installed(packages: Path) -> dict[str, str]:
    """Return the packages in a site-packages folder, by their metadata's folders."""
    found = {}
    for info in packages.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return found
