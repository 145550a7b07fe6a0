"""Install the wheel into the environment, where it is not what is installed there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import state, wheel
from devkit.builds.configure import is_on
from devkit.builds.phases.step import BuildWork, Said, Step, brief, lines

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import Any

    from devkit.builds.inventory import Inventory
    from devkit.builds.request import BuildRequest

PACKED = "/*.whl"  # the wheel that is yet to be packed
FLAVOURS = {"WITH_GPU": "-gpu", "WITH_ROCM": "-dcu", "WITH_XPU": "-xpu", "WITH_IPU": "-ipu"}


def plan(inventory: Inventory, will: AbstractSet[str]) -> Step:
    """Return uv's lines; the wheel that is yet to be packed is named by a pattern.

    Raises:
        DevkitError: there is no wheel, and none will be packed.
    """
    request = inventory.request
    if "wheel" in will:
        return Step(
            "install", lines(*install_lines(request, distribution(request), f"{wheel.folder(request.build)}{PACKED}"))
        )
    made = wheel.newest(request.build)
    if _state(request, made)["library"] and inventory.remembered("install") == _state(request, made):
        return Step("install", skip=f"{made.name} {made.version} is in {request.environment.name}")
    return Step("install", lines(*install_lines(request, made.name, str(made.path))))


def execute(work: BuildWork, _step: Step) -> Said:
    """Install the wheel that is there now, unless that very one is installed."""
    request = work.request
    made = wheel.newest(request.build)
    held = _state(request, made)
    if held["library"] and work.inventory.remembered("install") == held:
        return "skipped", f"{made.name} {made.version} is in {request.environment.name}"
    with work.app.console.progress(f"installing into {request.environment.name}") as progress:
        for line in install_lines(request, made.name, str(made.path)):
            work.run_line(
                "install",
                line,
                extra={"UV_PYTHON_DOWNLOADS": "never"},
                on_line=lambda said: progress.update(text=brief(said)),
            )
    state.remember(request.build, "install", _state(request, made))
    return "done", f"{made.name} {made.version} into {request.environment.name}"


def _state(request: BuildRequest, made: wheel.Wheel) -> dict[str, Any]:
    library = state.mark(Path(request.python.purelib) / wheel.LIBRARY)
    return {"wheel": made.digest, "python": request.python.executable, "library": library}


def distribution(request: BuildRequest) -> str:
    """Return the name of the distribution that these options make."""
    flavour = next((text for name, text in FLAVOURS.items() if is_on(request.options.get(name, "OFF"))), "")
    return f"paddlepaddle{flavour}"


def install_lines(request: BuildRequest, name: str, path: str) -> list[list[str]]:
    """Return the lines that install a wheel; another distribution of Paddle would leave its files beside it."""
    from uv import find_uv_bin

    uv, python = find_uv_bin(), request.python.executable
    there = {
        path.name.partition("-")[0].replace("_", "-").lower()
        for path in Path(request.python.purelib).glob("paddlepaddle*.dist-info")
    }
    others = sorted(there - {name})
    found = [[uv, "pip", "uninstall", "--python", python, *others]] if others else []
    return [*found, [uv, "pip", "install", "--python", python, "--reinstall-package", name, path]]
