"""Going into an environment: a program, a shell, or the line that activates it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from devkit.envs import containers, moved
from devkit.envs.pip import shims
from devkit.envs.resolve import resolve
from devkit.errors import DevkitError, Hint
from devkit.files import write_atomically
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.config import Config
    from devkit.envs.resolve import Environment

NOT_FOUND, CANNOT = 127, 126
ACTIVATE = {"fish": "activate.fish", "csh": "activate.csh", "tcsh": "activate.csh", "nu": "activate.nu"}


def activated(environment: Environment, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process in an environment: what ``activate`` sets, and nothing else changed."""
    folder = environment.folder.absolute()
    changed = {name: value for name, value in environ.items() if name != "PYTHONHOME"}
    ours = [str(folder / "bin")]
    with contextlib.suppress(DevkitError):  # a full disk; the environment's own pip and uv still serve
        ours.append(str(shims(folder)))
    path = [word for word in environ.get("PATH", os.defpath).split(os.pathsep) if word not in ours]
    changed["PATH"] = os.pathsep.join((*ours, *path))
    if (folder / "conda-meta").is_dir():
        changed["CONDA_PREFIX"] = str(folder)
        for name in ("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT"):  # uv looks there first, and it is another one's
            changed.pop(name, None)
    else:
        changed["VIRTUAL_ENV"] = str(folder)
        changed["VIRTUAL_ENV_PROMPT"] = environment.name
    return changed


def become(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become a program: its arguments, signals and exit status are then its own.

    Raises:
        OSError: it cannot be executed.
    """
    # Python ignores these, and what is ignored stays so in the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execve(argv[0], list(argv), dict(environ))  # noqa: S606 - becoming the program is the purpose


def cannot_start(program: str, refused: OSError, environment: Environment) -> tuple[DevkitError, int]:
    """Return the error for a file that no program of this machine is, and the status that env(1) and shells give."""
    try:
        with Path(program).open("rb") as file:
            first = file.readline(256).decode(errors="replace").strip()
    except OSError:
        first = ""
    what = f"{program} cannot be started"
    if refused.errno == errno.ENOENT and first.startswith("#!"):
        interpreter = first[2:].split()[0] if first[2:].split() else "nothing"
        fix = Hint.of("devkit", "env", "doctor", environment.name, "--fix", purpose="if the environment was moved")
        return DevkitError(what, f"Its first line names {interpreter}, which is not there.", fix), NOT_FOUND
    if refused.errno == errno.ENOEXEC:
        by_python = Hint.of(
            "devkit", "env", "run", environment.name, "--", "python", program, purpose="if it is Python"
        )
        by_shell = Hint.of("devkit", "env", "run", environment.name, "--", "sh", program, purpose="if it is a shell's")
        return DevkitError(
            what, "It has no #! line, and is not a program for this machine.", by_python, by_shell
        ), CANNOT
    return DevkitError(what, f"{refused.strerror or refused}.", Hint.of("ls", "-l", program)), CANNOT


def find(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the program of this name, as a shell in the environment would find it."""
    return shutil.which(name, path=environ.get("PATH"))


def with_python(argv: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the line that runs a script: a .py file that is not executable is run by Python."""
    is_script = argv[0].endswith(".py") and Path(argv[0]).is_file() and find(argv[0], environ) is None
    return ["python", *argv] if is_script else list(argv)


def is_program(name: str, argv: Sequence[str], config: Config) -> bool:
    """Tell whether the first word is the program, and the environment this place's: no environment has that name."""
    if not name or os.sep in name or "--" in argv[:1] or containers.look_up(name):
        return False
    try:
        resolve(config, name)
    except DevkitError:
        with contextlib.suppress(DevkitError):
            return find(name, activated(resolve(config), os.environ)) is not None
    return False


def activate_line(environment: Environment, shell: str) -> str:
    """Return the line to source in a shell; ``eval "$(devkit env activate NAME)"`` does so."""
    folder = environment.folder.absolute()
    script = folder / "bin" / ACTIVATE.get(shell, "activate")
    if (folder / "conda-meta").is_dir() or moved.made_in(folder):
        return _by_hand(folder, shell)
    if script.is_file():
        return (
            f"{'source' if shell in ('fish', 'csh', 'tcsh', 'nu', 'zsh', 'bash') else '.'} {shlex.quote(str(script))}"
        )
    return _by_hand(folder, shell)


def _by_hand(folder: Path, shell: str) -> str:
    """Return the line for an environment whose own script is missing, or leads to where it was made."""
    place, bin_folder = shlex.quote(str(folder)), shlex.quote(str(folder / "bin"))
    conda = (folder / "conda-meta").is_dir()
    variable, other = ("CONDA_PREFIX", "VIRTUAL_ENV") if conda else ("VIRTUAL_ENV", "CONDA_PREFIX")
    if shell == "fish":
        return f"set -e {other}; set -gx {variable} {place}; set -gx PATH {bin_folder} $PATH"
    if shell in {"csh", "tcsh"}:
        return f'unsetenv {other}; setenv {variable} {place}; setenv PATH {bin_folder}:"$PATH"'
    # In quotes: in WSL there are folders of Windows in PATH, with spaces, at which sh would part it.
    return f'unset {other}; export {variable}={place} PATH={bin_folder}:"$PATH"'


def shell_line(environment: Environment, shell: str, environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the words and the variables of a shell in an environment; the user's own settings are read first.

    What a shell's settings do to PATH, they do before the environment is put in front.
    """
    kind = Path(shell).name
    variables = activated(environment, environ)
    digest = hashlib.sha256(os.fsencode(environment.folder.absolute())).hexdigest()[:16]
    folder = cache_home() / "shell" / digest
    line = activate_line(environment, kind)
    if kind == "bash":
        text = f'[ -f "$HOME/.bashrc" ] && . "$HOME/.bashrc"\n{line}\n'
        write_atomically(folder / "bashrc", os.fsencode(text))
        return [shell, "--rcfile", str(folder / "bashrc"), "-i"], variables
    if kind == "zsh":
        own = environ.get("ZDOTDIR") or environ.get("HOME", "")
        variables["DEVKIT_ZDOTDIR"] = own
        variables["ZDOTDIR"] = str(folder)
        # The user's .zshenv may name another ZDOTDIR, as zsh's manual advises: it is kept for after our .zshrc.
        env_file = (
            'ZDOTDIR="$DEVKIT_ZDOTDIR"\n[ -f "$ZDOTDIR/.zshenv" ] && . "$ZDOTDIR/.zshenv"\n'
            f'DEVKIT_ZDOTDIR="${{ZDOTDIR:-$HOME}}"; ZDOTDIR={shlex.quote(str(folder))}\n'
        )
        write_atomically(folder / ".zshenv", os.fsencode(env_file))
        back = 'ZDOTDIR="$DEVKIT_ZDOTDIR"; unset DEVKIT_ZDOTDIR'
        text = f'{back}\n[ -f "$ZDOTDIR/.zshrc" ] && . "$ZDOTDIR/.zshrc"\n{line}\n'
        write_atomically(folder / ".zshrc", os.fsencode(text))
        return [shell, "-i"], variables
    if kind == "fish":
        write_atomically(folder / "activate.fish", os.fsencode(f"{line}\n"))
        return [shell, "-i", "-C", f"source {shlex.quote(str(folder / 'activate.fish'))}"], variables
    return [shell, "-i"], variables
