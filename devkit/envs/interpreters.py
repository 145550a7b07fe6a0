"""The Pythons of a machine: Debian's and deadsnakes', pyenv's behind their shims, conda's, uv's, asdf's and mise's.

The search is ours, and not python-discovery's: that goes along PATH and uv's own folder. Of four Pythons of pyenv (3.9,
3.10, 3.12 and 3.13) its 1.9.6 found none, with pyenv's shims on PATH or without.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError
from devkit.files import write_atomically
from devkit.paths import cache_home, data_home, user_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.process import Runner

PLAIN = re.compile(r"python3\.(\d+)")  # not python3.13t: Paddle has no wheels for a Python without a GIL
WANTED = re.compile(r"(?:python)?3(?:\.(?P<minor>\d+))?(?:\.(?P<patch>\d+))?")
CONDA_HOMES = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba")
INSPECT_S = 20
ANSWERS = 5
INSPECT = (
    "import json,platform,struct,sys,sysconfig;"
    "print(json.dumps([platform.python_implementation(),list(sys.version_info[:3]),"
    "getattr(sys,'_base_executable',None) or sys.executable,8*struct.calcsize('P'),"
    "bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
)


@dataclass(frozen=True)
class Candidate:
    """A file that is probably a Python, by its name."""

    path: Path
    minor: int
    source: str


@dataclass(frozen=True)
class Interpreter:
    """A Python that answered.

    Attributes:
        path: its executable, outside any virtual environment.
        version: (3, minor, patch).
        source: who installed it: ``system``, ``pyenv``, ``conda``, ….
    """

    path: Path
    version: tuple[int, int, int]
    source: str

    @property
    def dotted(self) -> str:
        """The version as one writes it."""
        return ".".join(map(str, self.version))


def folders(environ: Mapping[str, str], home: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders that hold Pythons, and who fills them; PATH comes last."""
    yield from ((Path(path), "system") for path in ("/usr/bin", "/usr/local/bin"))
    for root in filter(None, (environ.get("PYENV_ROOT"), str(home / ".pyenv"))):
        yield from ((folder, "pyenv") for folder in sorted(Path(root).glob("versions/*/bin")))
    uv = uvs_folder(environ, home)
    asdf = Path(environ.get("ASDF_DATA_DIR") or home / ".asdf") / "installs/python"
    mise = Path(environ.get("MISE_DATA_DIR") or home / ".local/share/mise") / "installs/python"
    for root_of, source in ((uv, "uv"), (asdf, "asdf"), (mise, "mise")):
        yield from ((folder, source) for folder in sorted(root_of.glob("*/bin")))
    condas = [home / name for name in CONDA_HOMES] + [Path("/opt/conda"), Path("/opt/miniconda3")]
    if environ.get("CONDA_EXE"):
        condas.append(Path(environ["CONDA_EXE"]).parent.parent)
    for conda in condas:
        yield conda / "bin", "conda"
        yield from ((folder, "conda") for folder in sorted(conda.glob("envs/*/bin")))
    yield Path(sys.base_prefix, "bin"), "devkit's own"
    yield from ((folder, "bundle") for folder in sorted((data_home() / "pythons").glob("*/bin")))
    for path in environ.get("PATH", "").split(os.pathsep):
        if path and Path(path).name != "shims":
            yield Path(path), "PATH"


def uvs_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Return where uv keeps the Pythons that it fetched."""
    return Path(environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")


def is_uvs(python: Path) -> bool:
    """Tell whether a Python is one of uv's, which run on other machines too."""
    return (python.resolve().parent.parent / "BUILD").is_file()


def candidates(environ: Mapping[str, str], home: Path) -> list[Candidate]:
    """Return what is probably a Python 3, each file once."""
    found: dict[Path, Candidate] = {}
    for folder, source in folders(environ, home):
        try:
            names = [path.name for path in folder.iterdir()]
        except OSError:
            continue
        for name in names:
            matched = PLAIN.fullmatch(name)
            if matched and os.access(folder / name, os.X_OK):
                found.setdefault((folder / name).resolve(), Candidate(folder / name, int(matched[1]), source))
    return list(found.values())


def inspect(runner: Runner, path: Path, source: str) -> Interpreter | None:
    """Ask a file which Python it is; None if it is none that Paddle could run in.

    The answer is kept for as long as the file is the same: asking takes longer than uv does to make an environment.
    """
    key = str(path.absolute())
    try:
        status = path.stat()
    except OSError:
        return None
    stamp = [status.st_ino, status.st_size, status.st_mtime_ns]
    known = _answers()
    answer = known[key][1] if known.get(key, [None])[0] == stamp else _ask(runner, path)
    if answer and known.get(key) != [stamp, answer]:
        with contextlib.suppress(DevkitError):
            write_atomically(_kept(), json.dumps({**known, key: [stamp, answer]}).encode())
    implementation, version, base, bits, free_threaded = answer or [None, [0, 0, 0], "", 0, False]
    if implementation != "CPython" or bits != 64 or free_threaded:  # noqa: PLR2004 - a pointer's bits
        return None
    return Interpreter(Path(base), (version[0], version[1], version[2]), source)


def _ask(runner: Runner, path: Path) -> list[Any] | None:
    try:
        done = runner.run([str(path), "-I", "-S", "-c", INSPECT], timeout_s=INSPECT_S, check=False)
        answer = json.loads(done.text)
    except (DevkitError, ValueError):
        return None
    return answer if isinstance(answer, list) and len(answer) == ANSWERS else None


def _kept() -> Path:
    return cache_home() / "interpreters.json"


def _answers() -> dict[str, Any]:
    try:
        known = json.loads(_kept().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def find(runner: Runner, wanted: str, minors: tuple[int, int]) -> Interpreter:
    """Return the interpreter that ``--python`` asks for, or the newest suitable one.

    Args:
        runner: what starts them.
        wanted: ``3.11``, ``3.11.7``, a path, or nothing.
        minors: the oldest and newest minor version of Python 3 that will do.

    Raises:
        UsageError: ``wanted`` is not a version and no path.
        DevkitError: there is no such Python, or it does not suit.
    """
    if "/" in wanted:
        return _at_path(runner, Path(wanted).expanduser(), minors)
    asked = WANTED.fullmatch(wanted) if wanted else None
    if wanted and asked is None:
        raise UsageError(f"--python {wanted} is not a version and no path", "", "devkit env create --python 3.11")
    minor, patch = (asked["minor"], asked["patch"]) if asked else (None, None)
    if minor and not minors[0] <= int(minor) <= minors[1]:
        raise DevkitError(
            f"Python 3.{minor} does not suit",
            f"This Paddle has wheels for 3.{minors[0]} to 3.{minors[1]}, and devkit's device side wants 3.9 or later.",
            f"devkit env create --python 3.{minors[1]}",
        )
    all_of_them = candidates(os.environ, user_home())
    suitable = range(int(minor), int(minor) + 1) if minor else range(minors[1], minors[0] - 1, -1)
    for number in suitable:
        alive = [inspect(runner, it.path, it.source) for it in all_of_them if it.minor == number]
        fitting = [it for it in alive if it and it.version[1] == number and patch in (None, str(it.version[2]))]
        if fitting:
            return max(fitting, key=lambda it: (it.source != "conda", it.version))
    there = ", ".join(f"3.{number}" for number in sorted({it.minor for it in all_of_them}))
    version = wanted.removeprefix("python") or f"3.{minors[0]} to 3.{minors[1]}"
    raise DevkitError(
        f"there is no Python {version} here",
        f"There is {there or 'none at all'}. Looked at: /usr, pyenv, conda, uv, asdf, mise and PATH.",
        f"apt install python3.{minor or minors[1]}",
        f"pyenv install {wanted.removeprefix('python') or f'3.{minors[1]}'}",
        "devkit env create --python PATH   names one that was not found",
    )


def _at_path(runner: Runner, path: Path, minors: tuple[int, int]) -> Interpreter:
    if not path.exists():
        raise DevkitError(f"there is no {path}", "--python was given a path.", "devkit env create --python 3.11")
    if path.is_dir():
        path = path / "bin" / "python"
    found = inspect(runner, path, "asked for")
    if found is None:
        raise DevkitError(f"{path} is not a CPython that Paddle could run in", "It did not answer as one would.")
    if not minors[0] <= found.version[1] <= minors[1] or found.version[0] != 3:  # noqa: PLR2004 - Python 3
        raise DevkitError(
            f"{path} is Python {found.dotted}",
            f"This Paddle has wheels for 3.{minors[0]} to 3.{minors[1]}.",
            f"devkit env create --python 3.{minors[1]}",
        )
    return found
