"""Containers as environments: made, entered and used by the device side."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.envs import container, container_exec, engine, images, store
from devkit.envs.container import DEVICE_SIDE, Mount, Spec
from devkit.envs.paddle import CPU, probe_driver
from devkit.envs.resolve import PROJECT_ENVIRONMENT, home
from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App

SHELL = 'exec "$(command -v bash || command -v sh)" -i'
# Events on the pipe of their own, and all else that is printed on the other one.
EVENTS_APART = 'exec "$@" 3>&1 1>&2'
EVENTS_FD = "3"
PASSED_ON = (
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "FLAGS_",
    "PADDLE_",
    "NCCL_",
    "GLOO_",
    "CUDA_VISIBLE_DEVICES",
    "PYTHONUNBUFFERED",
)


@dataclass(frozen=True)
class Request:
    """What a user asks for: see ``devkit env create --docker``.

    Attributes:
        image: empty for Paddle's own, chosen by ``paddle``.
        dockerfile: to build the image from, in place of ``image``.
        network: the container's.
        proxy: for the building, over the configured one.
    """

    name: str
    image: str = ""
    paddle: str = ""
    dockerfile: Path | None = None
    network: str = "host"
    proxy: str = ""


def choose_image(request: Request, client: Any) -> tuple[str, str, bool]:
    """Return the image, why that one, and whether the container gets GPUs."""
    if request.dockerfile is not None:
        if not request.dockerfile.is_file():
            raise DevkitError(
                f"there is no {request.dockerfile}", "--build was given it.",
                f"devkit env create {request.name} --docker --template {request.dockerfile}   writes one",
            )  # fmt: skip
        tag = f"{engine.me().container(request.name)}:latest".lower()
        return tag, f"built from {request.dockerfile.name}", engine.has_nvidia(client)
    nvidia = engine.has_nvidia(client)
    if request.image:
        return container.check_image(request.image), "as asked", nvidia
    driver, _ = probe_driver() if not request.paddle.startswith(CPU) else (None, "")
    image, reason = container.choose_image(request.paddle, driver, nvidia_runtime=nvidia)
    return image, reason, nvidia and not reason.startswith("CPU")


def plan(app: App, client: Any, request: Request, directory: Path) -> Spec:
    """Look at the engine and return the container that will be made; nothing is changed.

    Raises:
        DevkitError: the name is taken, or there is no such image.
        UsageError: the name or the image can be none.
    """
    from devkit.fingerprint import memory_mib

    store.check_name(request.name)
    if not request.name:
        raise UsageError("a container needs a name", "", "devkit env create NAME --docker")
    owner = engine.me()
    refuse_taken(client, request.name)
    image, reason, gpus = choose_image(request, client)
    project = store.project_folder(directory)
    if project in {Path("/"), Path.home()}:
        raise DevkitError(
            f"{project} is no source tree", "It would be mounted whole.", "cd SOURCE-TREE   and there again"
        )
    spec = container.plan(
        request.name,
        image,
        reason,
        owner=owner,
        project=project,
        package=Path(__file__).resolve().parent.parent,
        memory_mib=memory_mib(),
        gpus=gpus,
        network=request.network,
        created=engine.now(),
    )
    runs = app.runs.root
    runs.mkdir(parents=True, exist_ok=True)
    return replace(spec, mounts=(*spec.mounts, Mount(str(runs), str(runs))))


def refuse_taken(client: Any, name: str) -> None:
    """Refuse a name that an environment of either kind has.

    Raises:
        DevkitError: one has it.
    """
    taken = os.path.lexists(home() / name) and not store.unfinished(home() / name)
    if taken or engine.find(client, engine.me(), name):
        raise DevkitError(
            f"the name {name} is taken", "", f"devkit env show {name}", f"devkit env remove {name}   makes room"
        )


def make(app: App, client: Any, request: Request, spec: Spec) -> Any:
    """Pull or build the image if need be, and make the container; whatever stops that, nothing is left.

    Raises:
        DevkitError: another devkit makes it, or the engine refuses.
    """
    owner = engine.me()
    with store.creating(home() / f"{request.name}.container"):
        for left in engine.leftovers(client, owner, request.name):
            app.console.look(f"an earlier making of {request.name} was cut off; begun anew")
            left.remove(force=True)
        refuse_taken(client, request.name)
        _provide_image(app, client, request, spec)
        try:
            raw = engine.create(client, spec, owner)
        except KeyboardInterrupt:
            app.restored.append(f"{request.name} was rolled back")
            raise
        store.container_note(request.name).parent.mkdir(parents=True, exist_ok=True)
        store.container_note(request.name).touch()
        return raw


def has_name(name: str) -> bool:
    """Tell whether a container has this name; the engine is asked only where one was made here."""
    if not store.container_note(name).exists():
        return False
    if look_up(name):
        return True
    store.container_note(name).unlink(missing_ok=True)
    return False


def remove(seen: engine.Seen) -> None:
    """Remove a container."""
    engine.remove(seen)
    store.container_note(seen.name).unlink(missing_ok=True)


def _provide_image(app: App, client: Any, request: Request, spec: Spec) -> None:
    if request.dockerfile is not None:
        proxies = run_time_proxies(app, "host", request.proxy)
        with app.console.progress(f"building {spec.image}") as progress:
            images.build(
                client, request.dockerfile.absolute(), spec.image, labels=spec.image_labels(),
                proxies=proxies, on_line=lambda line: progress.update(text=f"building: {line[:60]}"),
            )  # fmt: skip
    elif not images.has_image(client, spec.image):
        with app.console.bars(f"pulling {spec.image}") as bars:
            images.pull(client, spec.image, bars)


def run_time_proxies(app: App, network: str, proxy: str = "") -> dict[str, str]:
    """Return the proxies that a program in a container is given."""
    environ = app.child_environment()
    if proxy:
        environ.update(dict.fromkeys(("http_proxy", "https_proxy"), proxy))
    return container.run_time_proxies(environ, network)


def look_up(name: str) -> tuple[Any, engine.Seen] | None:
    """Return the engine's client and the container of this name; None where the name is not a container's.

    Raises:
        DevkitError: one was made here, and the engine does not answer.
    """
    if "/" in name or name == PROJECT_ENVIRONMENT or os.path.lexists(home() / name):
        return None
    noted = store.container_note(name).exists()
    if not noted and not engine.likely():
        return None
    try:
        client = engine.connect()
    except DevkitError:
        if noted:
            raise
        return None
    seen = engine.find(client, engine.me(), name)
    return (client, seen) if seen else None


def need(name: str) -> tuple[Any, engine.Seen]:
    """Return the engine's client and the container of this name.

    Raises:
        DevkitError: there is no such container.
    """
    client = engine.connect()
    seen = engine.find(client, engine.me(), name)
    if seen is None:
        there = ", ".join(each.name for each in engine.survey(client, engine.me()))
        why = f"There is {there}." if there else "There are none yet."
        raise DevkitError(f"there is no container named {name}", why, f"devkit env create {name} --docker")
    return client, seen


def enter(app: App, client: Any, seen: engine.Seen, words: Sequence[str], directory: Path) -> int:
    """Run a program, or a shell where there are no words, in a container, and return its exit status."""
    terminal = container_exec.on_terminal()
    environment = run_time_proxies(app, seen.network)
    if terminal:
        environment["TERM"] = os.environ.get("TERM", "xterm")
    program = container_exec.Program(
        list(words) or ["sh", "-c", SHELL],
        container.inside(directory, Path(seen.project)),
        environment,
        terminal=terminal,
    )
    return container_exec.run(client, engine.ready(seen), program)


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a device-side process that hold in a container too."""
    return {name: value for name, value in environ.items() if name.startswith(PASSED_ON)}


def device_side(name: str, module: str, folder: str, environ: Mapping[str, str]) -> int:
    """Run a module of the device side in a container: requests from standard input, events to their descriptor.

    Raises:
        DevkitError: there is no such container.
    """
    client = engine.connect()
    seen = engine.find(client, engine.me(), name)
    if seen is None:
        raise DevkitError(f"there is no container named {name}", "", "devkit env list")
    program = container_exec.Program(
        ["sh", "-c", EVENTS_APART, "sh", "python3", "-m", f"devkit.kernels.{module}"],
        folder,
        {**passed_on(environ), "PYTHONPATH": DEVICE_SIDE, "DEVKIT_EVENTS_FD": EVENTS_FD},
    )
    return container_exec.run(client, engine.ready(seen), program, out=int(environ["DEVKIT_EVENTS_FD"]))


def template(name: str, image: str, reason: str, packages: Sequence[str]) -> str:
    """Return the Dockerfile of a development image.

    Raises:
        UsageError: one of the packages is no requirement.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        checked = [str(Requirement(each)) for each in packages]
    except InvalidRequirement as error:
        raise UsageError("--with has something that is no package", str(error)) from error
    folder = Path(__file__).resolve().parent.parent / "templates" / "container"
    templates = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is no HTML; what goes in is checked above
    )  # fmt: skip
    return templates.get_template("Dockerfile.j2").render(
        name=name,
        image=container.check_image(image),
        reason=reason,
        packages=shlex.join(checked),
        source=container.SOURCE,
        ccache=container.CCACHE,
    )


def shown(spec: Spec, request: Request) -> list[str]:
    """Return the lines of docker that do the same."""
    if request.dockerfile is None:
        return [shlex.join(("docker", "pull", spec.image)), spec.shown()]
    folder = str(request.dockerfile.absolute().parent)
    words = ("docker", "build", "-t", spec.image, "-f", str(request.dockerfile), "--network", "host", folder)
    return [shlex.join(words), spec.shown()]
