"""Pack the wheel, with the tree's Python as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import checkout, state, wheel
from devkit.builds.configure import is_on
from devkit.builds.phases.compile import copy_python_again, ninja_line, python_state, run_ninja
from devkit.builds.phases.step import BuildWork, Said, Step, lines
from devkit.text import size

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from devkit.builds.inventory import Inventory


def plan(inventory: Inventory, will: AbstractSet[str]) -> Step:
    """Return the line that packs it, where the library, the configuration or the tree's Python changes.

    Raises:
        DevkitError: this build makes no wheel.
    """
    request = inventory.request
    if "configure" in will:
        if not is_on(request.options.get("WITH_PYTHON", "ON")):
            raise wheel.no_wheel()
        return Step("wheel", lines(ninja_line(request, [expected_target(request.root)])))
    target = wheel.target(request.build)
    before = inventory.remembered("wheel")
    same = all(before.get(name) == value for name, value in python_state(inventory).items())
    path = Path(str(before.get("path")))
    library = state.mark(request.build / "python" / wheel.LIBRARY)
    same = same and bool(library) and before.get("library") == library and path.is_file()
    if same and ("compile" not in will or inventory.compile_is_done):
        return Step("wheel", skip=f"{path.name} is of this tree")
    return Step("wheel", lines(ninja_line(request, [target])))


def execute(work: BuildWork, _step: Step) -> Said:
    """Pack it, unless what was compiled left the library as it was."""
    request = work.request
    target = wheel.target(request.build)
    changed = copy_python_again(work)
    before = work.inventory.remembered("wheel")
    library = state.mark(request.build / "python" / wheel.LIBRARY)
    if not changed and library and before.get("library") == library and Path(str(before.get("path"))).is_file():
        return "skipped", f"{Path(before['path']).name} is of this tree"
    run_ninja(work, "wheel", ninja_line(request, [target]), "packing the wheel")
    made = wheel.newest(request.build)
    library = state.mark(request.build / "python" / wheel.LIBRARY)  # packing may touch it (patchelf, strip)
    state.remember(request.build, "wheel", {**work.tree, "library": library, "path": str(made.path)})
    said = "; its version is of no release: git fetch --tags upstream brings those" if is_untold(made.version) else ""
    return "done", f"{made.path.name}, {size(made.path.stat().st_size)}{said}"


def expected_target(root: Path) -> str:
    """Return the target that packs the wheel in a tree that is not configured yet."""
    text = checkout.text_of(root / "python" / "CMakeLists.txt")
    return next((name for name in wheel.TARGETS if f"({name}" in text), wheel.TARGETS[0])


def is_untold(version: str) -> bool:
    """Tell whether a wheel's version is what Paddle takes where no tag tells one."""
    return version.startswith("0.0.0")
