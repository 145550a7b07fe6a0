"""Configure where nothing is configured, where options changed, or where the last time did not end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import archives, configure, state
from devkit.builds.phases.step import BuildWork, Said, Step, brief, lines
from devkit.errors import DevkitError
from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from devkit.builds.inventory import Inventory
    from devkit.builds.request import BuildRequest

CHANGES_SHOWN = 3


def plan(inventory: Inventory, _will: AbstractSet[str]) -> Step:
    """Return the line of CMake, where it must run.

    Raises:
        DevkitError: the folder is another checkout's or another generator's.
    """
    request = inventory.request
    check_folder(request, inventory.cache or {})
    need = inventory.need
    if not need.why:
        return Step("configure", skip=f"{counted(len(request.options), 'option')} as before")
    cmake = configure.line(request.root, request.build, request.options, need.dropped)
    forget = ["rm", "-rf", str(request.build / "CMakeCache.txt"), str(request.build / "CMakeFiles")]
    return Step("configure", lines(forget, cmake) if need.fresh else lines(cmake))


def execute(work: BuildWork, step: Step) -> Said:
    """Run CMake, and keep what it was given."""
    request, inventory = work.request, work.inventory
    need, stamp = inventory.need, inventory.stamp
    if need.fresh:
        configure.forget(request.build)
    known_lines = stamp.lines if stamp else int(inventory.remembered("cmake").get("lines", 0))
    state.drop_stamp(request.build)
    archives.place(request.build, inventory.archives)
    inventory.changed("environ")  # the shim of wget is there now
    printed = 0
    with work.app.console.progress("configuring", total=known_lines or None) as progress:

        def on_line(said: str) -> None:
            nonlocal printed
            printed += 1
            done = min(printed, known_lines) if known_lines else None
            progress.update(done=done, text=f"configuring: {brief(said)}")

        work.run_line("configure", step.lines[-1], on_line=on_line)
    unused = configure.unused(work.run.log("configure").read_text("utf-8", "replace")) & set(request.given)
    if unused:
        work.app.console.warn(f"nothing in this tree asks for {', '.join(sorted(unused))}")
    inventory.changed("cache", "stamp", "need", "facts")
    after = inventory.cache or {}
    for said in configure.overruled(request.given, request.options, after):
        work.app.console.warn(said)
    held = {name: after[name] for name in request.options if name in after}
    state.write_stamp(request.build, state.Stamp(request.options, held, printed))
    state.remember(request.build, "cmake", {"lines": printed})
    inventory.changed("stamp", "need")
    return "done", f"{request.profile.name}: {reason(need)}"


def reason(need: configure.Need) -> str:
    """Say why a configure was needed, with the first options that changed."""

    def value(text: str | None) -> str:
        return "unset" if text is None else text or "empty"

    shown_changes = [
        f"{change.name} {value(change.before)} → {value(change.after)}" for change in need.changes[:CHANGES_SHOWN]
    ]
    more = len(need.changes) - len(shown_changes)
    if more > 0:
        shown_changes.append(f"{more} more")
    return need.why + (f": {', '.join(shown_changes)}" if shown_changes else "")


def check_folder(request: BuildRequest, cache: Mapping[str, str]) -> None:
    """Refuse a folder that CMake would refuse after a while, or mix up.

    Raises:
        DevkitError: it was configured for another checkout, or for another generator than ninja.
    """
    home, generator = cache.get("CMAKE_HOME_DIRECTORY", ""), cache.get("CMAKE_GENERATOR", "")
    beside = "devkit build --build-dir build-ninja   leaves it alone"
    if home and Path(home).resolve() != request.root:
        raise DevkitError(f"{request.build} was configured for {home}", "It was copied or moved.", beside)
    if generator and generator != configure.GENERATOR:
        why = f"CMake keeps to {generator} there; devkit builds with ninja."
        raise DevkitError(f"{request.build} was configured for {generator}", why, beside)
