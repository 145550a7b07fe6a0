"""Prove that the environment's Python loads the library just built, and computes with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devkit.builds import overlay, state, wheel
from devkit.builds.phases.step import BuildWork, Said, Step, lines
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import Any

    from devkit.builds.inventory import Inventory
    from devkit.builds.request import BuildRequest


def plan(inventory: Inventory, will: AbstractSet[str]) -> Step:
    """Return the line of the probe, where the library is not the one that was verified before.

    Raises:
        DevkitError: nothing was built, or Python loads another library, and no phase before changes that.
    """
    request = inventory.request
    step = Step("verify", lines([request.python.executable, "-m", "devkit.kernels.probe"]))
    if will & {"configure", "wheel", "install"} or ("compile" in will and not inventory.compile_is_done):
        return step
    built, loaded = libraries(inventory)
    if is_verified(inventory, built, loaded):
        return Step("verify", skip="the same library was verified before")
    check_library(request, built, loaded)
    return step


def execute(work: BuildWork, _step: Step) -> Said:
    """Let the environment's Python load it and compute.

    Raises:
        DevkitError: it loads another, or does not compute.
    """
    from devkit.launch import Worker, device_environment

    request, app = work.request, work.app
    with app.console.progress("verifying"):
        built, loaded = libraries(work.inventory)
        if is_verified(work.inventory, built, loaded):
            return "skipped", "the same library was verified before"
        check_library(request, built, loaded)
        worker = Worker(
            app, request.environment, "probe", folder=work.run.folder, name="verify", environ=device_environment(app)
        )
        with worker:
            answer = worker.ask({"do": "probe"}, "probe")
    state.remember(request.build, "verify", _state(built, loaded))
    sum_ = f"1 + 1 = {answer['sum']:g} on {answer['device']}"
    return "done", f"Python loads {wheel.file_digest(loaded)[:10]}, the one just built; {sum_}"


def libraries(inventory: Inventory) -> tuple[Path, Path]:
    """Return the library of the build folder, and the one that the environment's Python loads."""
    app, request = inventory.app, inventory.request
    package = overlay.imported(app.runner, request.python, app.child_environment()) or Path()
    return request.build / "python" / wheel.LIBRARY, package / "base" / "libpaddle.so"


def _state(built: Path, loaded: Path) -> dict[str, Any]:
    return {"loaded": str(loaded), "library": state.mark(loaded), "built": state.mark(built)}


def is_verified(inventory: Inventory, built: Path, loaded: Path) -> bool:
    """Tell whether these very libraries were verified before."""
    held = _state(built, loaded)
    return bool(held["library"]) and inventory.remembered("verify") == held


def check_library(request: BuildRequest, built: Path, loaded: Path) -> None:
    """Refuse a library that is not the one just built.

    Raises:
        DevkitError: Python finds no Paddle, or another.
    """
    if not built.is_file():
        raise DevkitError(
            f"there is no {built}", "Nothing was built that could be verified.", "devkit build --from compile"
        )
    if not loaded.is_file():
        what = f"{request.environment.name} finds no Paddle"
        raise DevkitError(what, f"{loaded} is not there.", "devkit build --from install")
    if wheel.file_digest(built) != wheel.file_digest(loaded):
        why = f"Python loads {loaded}, which is not {built}."
        remedies = ["devkit build --from wheel"]
        if not loaded.is_relative_to(request.python.purelib):
            why += " A PYTHONPATH or an overlay stands before the environment."
            remedies = ["unset PYTHONPATH", "devkit build overlay --remove   if it is an overlay"]
        raise DevkitError(f"{request.environment.name} loads another library than the one just built", why, *remedies)
