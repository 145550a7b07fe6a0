"""What is learnt from builds of a checkout that ended well."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from devkit.app import App
from devkit.builds.good import shipped, template
from devkit.builds.learning import of_builds
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from pathlib import Path

NOISE = "OSError: /w/{}/libhook.so: file too short"


def built(root: Path, noise: str, *, well: bool) -> None:
    """Record a build of a checkout that said something that alarms."""
    app = App()
    with contextlib.suppress(DevkitError), app.start_run("build", checkout=str(root)) as run:
        end = "[2/2] Linking CXX shared library x.so\n" if well else "ninja: build stopped: subcommand failed.\n"
        run.log("compile").write_text(f"[1/2] Building CXX object a.o\n{noise}\n{end}", "utf-8")
        if not well:
            raise DevkitError("it failed", "")


def test_only_good_builds_of_the_same_checkout_teach(tmp_path: Path) -> None:
    runs = App().runs
    built(tmp_path / "a", NOISE.format("a"), well=True)
    built(tmp_path / "b", "OSError: /w/other.so: cannot open shared object file: No such file", well=True)
    built(tmp_path / "a", "OSError: [Errno 24] Too many open files", well=False)
    assert of_builds(runs, tmp_path / "a") == shipped() | {template(NOISE.format("elsewhere"))}
    assert of_builds(runs, tmp_path / "c") == of_builds(runs, None) == shipped()
