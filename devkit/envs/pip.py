"""``pip`` in an environment that has none: uv does what pip is asked for, there and nowhere else.

An environment made by uv holds no pip, and a shell that finds none goes on along PATH: ``pip install`` would then
change another Python. So a small script stands in its place, beside one for ``uv``: in the environment itself and, for
environments that devkit only uses, in a folder behind theirs on PATH. ``devkit env install NAME pip`` puts the
real one in.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.envs import lock, pip_settings, store, uv
from devkit.errors import DevkitError, Hint
from devkit.files import explained, link_atomically, write_atomically
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App

NAMES = ("pip", "pip3")  # and that of the environment's own version, pip3.11
CHANGES = ("install", "uninstall")
HANDED_ON = (*CHANGES, "list", "freeze", "show", "check")
# Of pip's flags those that uv does not know: it does so anyway, has nothing of the kind, or reads it from a variable.
LEFT_OUT = frozenset((
    "--all", "--debug", "--disable-pip-version-check", "--local", "--no-clean", "--no-input",
    "--no-python-version-warning", "--no-warn-conflicts", "--no-warn-script-location", "--prefer-binary",
    "--require-virtualenv", "--use-pep517", "--user", "-l",
))  # fmt: skip
LEFT_OUT_WITH_VALUE = frozenset((
    "--exists-action", "--log", "--progress-bar", "--root-user-action", "--upgrade-strategy", "--use-deprecated",
    "--use-feature",
))  # fmt: skip
FLAG_VARIABLES = {
    "--default-timeout": pip_settings.READ["timeout"],
    "--proxy": pip_settings.READ["proxy"],
    "--retries": ("UV_HTTP_RETRIES",),
    "--timeout": pip_settings.READ["timeout"],
}
RENAMED = {"--ignore-installed": "--force-reinstall", "-I": "--force-reinstall", "-o": "--outdated"}
SCRIPT = """\
#!/bin/sh
# Made by devkit, because this environment has no pip of its own: uv does what is asked of pip, in this environment.
env=$(dirname -- "$0")/..
[ -f "$env/pyvenv.cfg" ] || env=${{VIRTUAL_ENV:-${{CONDA_PREFIX:-}}}}
if [ -x {python} ]; then exec {python} -I -m devkit.envs.pip "$env" "$@"; fi
echo "this environment has no pip, and the devkit that made it is gone" >&2
echo "  -> $env/bin/python -m ensurepip   puts the real pip in" >&2
exit 1
"""
UV_SCRIPT = """\
#!/bin/sh
# Made by devkit, whose uv this is.
exec {uv} "$@"
"""
MADE, BEGINNING = b"# Made by devkit, ", 100
# In a folder that only the environment's own Python looks into, and last: a real pip is found before it.
MODULE_FOLDER, MODULE_PTH = "devkit-pip", "devkit-pip.pth"
MODULE = """\
# Made by devkit, because this environment has no pip of its own: uv does what is asked of pip, in this environment.
import os
import sys

if __name__ == "__main__":
    devkit = {python!a}
    if not os.access(devkit, os.X_OK):
        sys.exit(
            "this environment has no pip, and the devkit that made it is gone\\n"
            "  -> " + sys.executable + " -m ensurepip   puts the real pip in"
        )
    os.execv(devkit, [devkit, "-I", "-m", "devkit.envs.pip", sys.prefix, *sys.argv[1:]])
"""


def script() -> str:
    """Return the text of what stands in for pip."""
    return SCRIPT.format(python=shlex.quote(sys.executable))


def names(folder: Path) -> tuple[str, ...]:
    """Return what pip is called in an environment."""
    minor = store.made_for(folder)
    return NAMES if minor is None else (*NAMES, f"pip3.{minor}")


def put(folder: Path) -> None:
    """Let ``pip`` in an environment be its own, and ``uv`` devkit's: they go into its ``bin``, where there is none.

    ``python -m pip`` is the same. What another devkit put there is written anew: that one may be gone.

    Raises:
        DevkitError: they cannot be written.
    """
    module = folder / "lib" / MODULE_FOLDER / "pip" / "__main__.py"
    with explained(folder / "bin"):
        for name in names(folder):
            _write(folder / "bin" / name, script())
        # A script, and not a link: whatever writes over it must not reach devkit's own.
        _write(folder / "bin" / "uv", UV_SCRIPT.format(uv=shlex.quote(uv.binary())))
        packages = store.site_packages(folder)
        if packages is not None:
            module.parent.mkdir(parents=True, exist_ok=True)
            _write(module, MODULE.format(python=sys.executable))
            (packages / MODULE_PTH).write_text(f"../../{MODULE_FOLDER}\n", "ascii")


def _write(path: Path, text: str) -> None:
    """Write a program of devkit's, unless somebody else's is there; not synced: what is half-made is marked as such."""
    if path.is_symlink():
        return
    if path.exists():
        with path.open("rb") as file:  # it may be the real uv, of 60 MB
            if MADE not in file.read(BEGINNING):
                return
    path.write_bytes(os.fsencode(text))
    path.chmod(0o755)


def restore(folder: Path) -> None:
    """Put them into an environment that devkit made once more: an earlier devkit, or uv with the real pip, left none.

    Raises:
        DevkitError: they cannot be written.
    """
    record = store.read(folder)
    if record and not record.adopted:
        put(folder)


def is_in(folder: Path) -> bool:
    """Tell whether an environment has a pip, in its ``bin`` and for ``python -m pip``: the real one, or devkit's."""
    packages = store.site_packages(folder)
    there = packages is not None and ((packages / "pip").is_dir() or (packages / MODULE_PTH).is_file())
    return there and all((folder / "bin" / name).exists() for name in (*NAMES, "uv"))


def shims(environment: Path) -> Path:
    """Return the folder that comes behind an environment's own on PATH: pip, for one that has none, and uv.

    Raises:
        DevkitError: it cannot be written.
    """
    folder = cache_home() / "shims" / names(environment)[-1]
    for name in names(environment):
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != script():
            write_atomically(path, script().encode(), mode=0o755)
    link = folder / "uv"
    if not link.is_symlink() or os.readlink(link) != uv.binary():  # noqa: PTH115 - text is compared
        link_atomically(link, uv.binary())
    return folder


def translated(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return pip's words as uv takes them, the command first, and the variables that set the rest."""
    kept: list[str] = []
    variables: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in LEFT_OUT_WITH_VALUE or flag in FLAG_VARIABLES:
            value = value if equals else next(rest, "")
            value = f"http://{value}" if flag == "--proxy" and "://" not in value else value
            variables |= dict.fromkeys(FLAG_VARIABLES.get(flag, ()), value)
        elif word not in LEFT_OUT:
            kept.append(RENAMED.get(word, word))
    first = next((index for index, word in enumerate(kept) if not word.startswith("-")), len(kept))
    return [*kept[first : first + 1], *kept[:first], *kept[first + 1 :]], variables


def hand_on(app: App, folder: Path, words: Sequence[str]) -> int:
    """Let uv do in an environment what pip is asked for, and return its status.

    Raises:
        DevkitError: it is something that uv does not do, or there is no environment.
    """
    name = folder.resolve().name
    words, variables = translated(words)
    if not (folder / "bin" / "python").exists():
        raise DevkitError("pip stands in no environment", "Neither VIRTUAL_ENV nor CONDA_PREFIX names one.")
    if words in (["--version"], ["-V"]):
        app.console.answer(
            f"pip by uv, of devkit, in {folder} (python {'.'.join(store.python_version(folder).split('.')[:2])})"
        )
        return 0
    if not words or words[0] not in HANDED_ON:
        index = [Hint("devkit config set env.index-url URL", "names the index")] if words[:1] == ["config"] else []
        raise DevkitError(
            f"pip {' '.join(words[:1])} is not done here".replace("  ", " "),
            f"{name} has no pip of its own; uv stands in for {', '.join(HANDED_ON)}.",
            *index,
            Hint.of("devkit", "env", "install", str(folder), "PACKAGE"),
            Hint.of("devkit", "env", "install", str(folder), "pip", purpose="puts the real pip in"),
        )
    line = uv.Line(
        ("pip", words[0], "--python", str(folder / "bin" / "python"), *words[1:]),
        {**uv.source(app).variables(), **variables},
        Path.cwd(),
    )
    status = app.runner.foreground([uv.binary(), *line.words], env=uv.environ(app, line))
    if status == 0 and words[0] in CHANGES and store.read(folder):
        lock.write(app, folder)
    return status


def main() -> int:
    """Stand in for pip: the environment's folder, then pip's own words."""
    from devkit.app import App

    app = App(sys.argv[1:])
    try:
        return hand_on(app, Path(os.path.abspath(sys.argv[1])), sys.argv[2:])  # noqa: PTH100 - bin/.. goes
    except DevkitError as error:
        app.console.fail(error)
        return int(error.status)


if __name__ == "__main__":
    sys.exit(main())
