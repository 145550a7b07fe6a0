"""Going into an environment: a program, a shell, or the line that activates it."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from devkit.envs.pip import shims
from devkit.files import write_atomically
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.envs.resolve import Environment

SHELLS = ("bash", "zsh", "fish")
NOT_FOUND = 127
ACTIVATE = {"fish": "activate.fish", "csh": "activate.csh", "tcsh": "activate.csh", "nu": "activate.nu"}


def activated(environment: Environment, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process in an environment: what ``activate`` sets, and nothing else changed."""
    folder = environment.folder.absolute()
    changed = {name: value for name, value in environ.items() if name != "PYTHONHOME"}
    ours = [str(folder / "bin"), str(shims())]
    path = [each for each in environ.get("PATH", os.defpath).split(os.pathsep) if each not in ours]
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


def find(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the program of this name, as a shell in the environment would find it."""
    return shutil.which(name, path=environ.get("PATH"))


def activate_line(environment: Environment, shell: str) -> str:
    """Return the line to source in a shell; ``eval "$(devkit env activate NAME)"`` does so."""
    script = environment.folder.absolute() / "bin" / ACTIVATE.get(shell, "activate")
    if script.is_file():
        return (
            f"{'source' if shell in ('fish', 'csh', 'tcsh', 'nu', 'zsh', 'bash') else '.'} {shlex.quote(str(script))}"
        )
    return f"export PATH={shlex.quote(str(script.parent))}:$PATH"


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
        write_atomically(folder / "bashrc", text.encode())
        return [shell, "--rcfile", str(folder / "bashrc"), "-i"], variables
    if kind == "zsh":
        own = environ.get("ZDOTDIR") or environ.get("HOME", "")
        variables["DEVKIT_ZDOTDIR"] = own
        variables["ZDOTDIR"] = str(folder)
        write_atomically(folder / ".zshenv", b'[ -f "$DEVKIT_ZDOTDIR/.zshenv" ] && . "$DEVKIT_ZDOTDIR/.zshenv"\n')
        back = 'ZDOTDIR="$DEVKIT_ZDOTDIR"; unset DEVKIT_ZDOTDIR'
        text = f'{back}\n[ -f "$ZDOTDIR/.zshrc" ] && . "$ZDOTDIR/.zshrc"\n{line}\n'
        write_atomically(folder / ".zshrc", text.encode())
        return [shell, "-i"], variables
    if kind == "fish":
        write_atomically(folder / "activate.fish", f"{line}\n".encode())
        return [shell, "-i", "-C", f"source {shlex.quote(str(folder / 'activate.fish'))}"], variables
    return [shell, "-i"], variables
