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

from devkit.envs import lock, store, uv
from devkit.errors import DevkitError, Hint
from devkit.files import explained, link_atomically, write_atomically
from devkit.paths import cache_home

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App

NAMES = ("pip", "pip3")  # and that of the environment's own version, pip3.11
CHANGES = ("install", "uninstall")
HANDED_ON = (*CHANGES, "list", "freeze", "show", "check")
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
# In a folder that only the environment's own Python looks into, and last: a real pip is found before it.
MODULE_FOLDER, MODULE_PTH = "devkit-pip", "devkit-pip.pth"
MODULE = """\
# Made by devkit, because this environment has no pip of its own: uv does what is asked of pip, in this environment.
import os
import sys

if __name__ == "__main__":
    devkit = {python!r}
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

    ``python -m pip`` is the same.

    Raises:
        DevkitError: they cannot be written.
    """
    with explained(folder / "bin"):
        for name in names(folder):
            path = folder / "bin" / name
            if not path.exists():  # not synced one by one: what is half-made is marked as such
                path.write_text(script(), "utf-8")
                path.chmod(0o755)
        path = folder / "bin" / "uv"
        if not path.exists():  # a script, and no link: whatever writes over it must not reach devkit's own
            path.write_text(UV_SCRIPT.format(uv=shlex.quote(uv.binary())), "utf-8")
            path.chmod(0o755)
        packages = store.site_packages(folder)
        if packages is not None:
            module = folder / "lib" / MODULE_FOLDER / "pip" / "__main__.py"
            module.parent.mkdir(parents=True, exist_ok=True)
            module.write_text(MODULE.format(python=sys.executable), "utf-8", errors="surrogateescape")
            (packages / MODULE_PTH).write_text(f"../../{MODULE_FOLDER}\n", "ascii")


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


def hand_on(app: App, folder: Path, words: Sequence[str]) -> int:
    """Let uv do in an environment what pip is asked for, and return its status.

    Raises:
        DevkitError: it is something that uv does not do, or there is no environment.
    """
    name = folder.resolve().name
    first = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    words = [*words[first : first + 1], *words[:first], *words[first + 1 :]]  # pip -q install X
    if not (folder / "bin" / "python").exists():
        raise DevkitError("pip stands in no environment", "Neither VIRTUAL_ENV nor CONDA_PREFIX names one.")
    if words in (["--version"], ["-V"]):
        app.console.answer(
            f"pip by uv, of devkit, in {folder} (python {'.'.join(store.python_version(folder).split('.')[:2])})"
        )
        return 0
    if not words or words[0] not in HANDED_ON:
        raise DevkitError(
            f"pip {' '.join(words[:1])} is not done here".replace("  ", " "),
            f"{name} has no pip of its own; uv stands in for {', '.join(HANDED_ON)}.",
            Hint.of("devkit", "env", "install", str(folder), "PACKAGE"),
            Hint.of("devkit", "env", "install", str(folder), "pip", purpose="puts the real pip in"),
        )
    line = uv.Line(
        ("pip", words[0], "--python", str(folder / "bin" / "python"), *words[1:]),
        uv.source(app).variables(),
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
