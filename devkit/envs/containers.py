"""Containers as environments: made, entered and used by the device side."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.envs import container, container_exec, engine, images, store
from devkit.envs.container import DEVICE_SIDE, Mount, Spec
from devkit.envs.paddle import CPU, probe_driver
from devkit.envs.places import PROJECT_ENVIRONMENT, home
from devkit.errors import DevkitError, Hint, UsageError
from devkit.files import explained, write_atomically
from devkit.paths import user_home

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
class ContainerRequest:
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


def choose_image(request: ContainerRequest, client: Any) -> tuple[str, str, bool]:
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


def plan(app: App, client: Any, request: ContainerRequest, directory: Path) -> Spec:
    """Look at the engine and return the container that will be made; nothing is changed.

    Raises:
        DevkitError: the name is taken, or there is no such image.
        UsageError: the name or the image can be none.
    """
    from devkit.kernels.machine import memory_mib

    if not request.name:
        words = ["devkit", "env", "create", "paddle-dev", "--docker"]
        words += ["--image", request.image] if request.image else []
        raise UsageError("a container needs a name", "It comes behind create.", Hint.of(*words))
    store.check_name(request.name)
    owner = engine.me()
    check_free(client, request.name)
    image, reason, gpus = choose_image(request, client)
    project = store.project_folder(directory)
    if project in {Path("/"), user_home()}:
        raise DevkitError(
            f"{project} is not a source tree", "It would be mounted whole.", "cd SOURCE-TREE   and there again"
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
        rootless=engine.is_rootless(client),
    )
    runs = app.runs.root
    pull = request.dockerfile is None and not images.has_image(client, image)
    return replace(spec, mounts=(*spec.mounts, Mount(str(runs), str(runs))), pull=pull)


def check_free(client: Any, name: str) -> None:
    """Check that no environment of either kind has this name.

    Raises:
        DevkitError: one has it.
    """
    taken = os.path.lexists(home() / name) and not store.unfinished(home() / name)
    if taken or engine.find(client, engine.me(), name):
        raise DevkitError(
            f"the name {name} is taken", "", f"devkit env show {name}", f"devkit env remove {name}   makes room"
        )


def make(app: App, client: Any, request: ContainerRequest, spec: Spec) -> Any:
    """Pull or build the image if need be, and make the container; whatever stops that, nothing is left.

    Raises:
        DevkitError: another devkit makes it, or the engine refuses.
    """
    owner = engine.me()
    with store.creating(home() / f"{request.name}.container", app.console.warn):
        for left in engine.leftovers(client, owner, request.name):
            app.console.warn(f"{request.name} was left half-made; starting over")
            left.remove(force=True)
        check_free(client, request.name)
        _provide_image(app, client, request, spec)
        with explained(app.runs.root):  # the engine would make it as root's
            app.runs.root.mkdir(parents=True, exist_ok=True)
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
    return store.container_note(name).exists() and look_up(name) is not None


@dataclass(frozen=True)
class Removal:
    """What removing a container comes to.

    Attributes:
        lost: the paths that were changed in it, outside its mounts; nothing of an adopted one, which stays.
    """

    seen: engine.Seen
    lost: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the line that does the same."""
        if self.seen.adopted:
            return [shlex.join(("rm", str(store.container_note(self.seen.name))))]
        return [shlex.join(("docker", "rm", "--force", "--volumes", self.seen.raw.name))]


def plan_removal(seen: engine.Seen) -> Removal:
    """Return what removing a container comes to; nothing is changed."""
    return Removal(seen, () if seen.adopted else tuple(engine.unsaved(seen, engine.me())))


def remove(planned: Removal) -> None:
    """Remove a container; one that was adopted is let go of, and stays."""
    if not planned.seen.adopted:
        engine.remove(planned.seen)
    store.container_note(planned.seen.name).unlink(missing_ok=True)


def _provide_image(app: App, client: Any, request: ContainerRequest, spec: Spec) -> None:
    if request.dockerfile is not None:
        proxies = run_time_proxies(app, "host", request.proxy)
        with app.console.progress(f"building {spec.image}") as progress:
            images.build(
                client, request.dockerfile.absolute(), spec.image, labels=spec.image_labels(),
                proxies=proxies, on_line=lambda line: progress.update(text=f"building: {line[:60]}"),
            )  # fmt: skip
    elif spec.pull:
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


def check_not_gone(name: str) -> None:
    """Check that no container was made or adopted here under a name that the engine does not know.

    Raises:
        DevkitError: one was.
    """
    if store.container_note(name).exists():
        raise DevkitError(
            f"the engine has no container of {name}", "It was removed, or is another engine's.",
            "docker context ls   shows the engines that docker knows",
            Hint.of("devkit", "env", "remove", name, purpose="lets go of it"),
        )  # fmt: skip


def forget(name: str) -> None:
    """Let go of a container that the engine does not know."""
    store.container_note(name).unlink(missing_ok=True)


def need(name: str) -> tuple[Any, engine.Seen]:
    """Return the engine's client and the container of this name.

    Raises:
        DevkitError: there is no such container.
    """
    client = engine.connect()
    seen = engine.find(client, engine.me(), name)
    if seen is None:
        check_not_gone(name)
        there = ", ".join(found.name for found in engine.survey(client, engine.me()))
        why = f"There is {there}." if there else "There are none yet."
        raise DevkitError(f"there is no container named {name}", why, f"devkit env create {name} --docker")
    return client, seen


def plan_adoption(client: Any, called: str, name: str) -> engine.Seen:
    """Return a container that something else made as devkit will know it; nothing is changed.

    Args:
        client: the engine's.
        called: its name or id at the engine.
        name: what devkit is to call it; its own name by default.

    Raises:
        DevkitError: there is none, or the name is taken.
    """
    from docker.errors import NotFound

    with engine.explained(called):
        try:
            raw = client.containers.get(called)
        except NotFound as error:
            raise DevkitError(f"the engine has no container {called}", "", "docker ps -a   lists them all") from error
    chosen = store.check_name(name or raw.name)
    already = next((seen for seen in engine.survey(client, engine.me()) if seen.raw.id == raw.id), None)
    if already:
        raise DevkitError(f"{called} is known as {already.name}", "", Hint.of("devkit", "env", "show", already.name))
    check_free(client, chosen)
    return engine.adopted(raw, chosen, {"adopted": engine.now()})


def adopt(planned: engine.Seen) -> engine.Seen:
    """Let devkit use a container; nothing in it is changed, it is only noted here."""
    note = {"container": planned.raw.id, "adopted": planned.created}
    write_atomically(store.container_note(planned.name), json.dumps(note).encode())
    return planned


def enter(
    app: App, client: Any, seen: engine.Seen, words: Sequence[str], directory: Path, *, root: bool = False
) -> int:
    """Run a program, or a shell where there are no words, in a container, and return its exit status.

    On a terminal docker's own command line does it, where it is installed: its terminal, its resizing and its detaching
    are what people know. Without a terminal ours does: ``docker exec`` passes no signal on, and what it started would
    run on after Ctrl-C or a time-out.

    Args:
        app: whose runner starts docker.
        client: the engine's.
        seen: the container.
        words: the program and its arguments.
        directory: where the user stands; the same folder inside, if it is seen there.
        root: whether it runs as root.
    """
    terminal = container_exec.on_terminal()
    environment = run_time_proxies(app, seen.network)
    if terminal:
        environment["TERM"] = os.environ.get("TERM", "xterm")
    mounts = seen.mounts if seen.adopted else [(seen.project, container.SOURCE)]
    otherwise = seen.raw.attrs.get("Config", {}).get("WorkingDir") or "/" if seen.adopted else container.SOURCE
    program = container_exec.Program(
        list(words) or ["sh", "-c", SHELL],
        container.inside_mounts(directory, mounts, otherwise),
        environment,
        terminal=terminal,
        user="0:0" if root else "",
    )
    raw = engine.ready(seen)
    docker = shutil.which("docker")
    if terminal and docker:
        line = container_exec.docker_line(docker, raw.id, program)
        own = {"DOCKER_HOST": engine.host(os.environ)} if engine.host(os.environ) else {}
        return app.runner.foreground(line, env={**os.environ, **own, **environment})
    return container_exec.run(client, raw, program)


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
    if seen.adopted:
        _bring_device_side(seen)
    # A folder of this machine's that is not seen inside (a temporary one) is nobody's working directory there.
    folder = container.inside_mounts(Path(folder), seen.mounts, "/tmp")  # noqa: S108 - inside, not here
    own = container.variable(seen.raw.attrs, "PYTHONPATH")  # where its image may have Paddle
    program = container_exec.Program(
        ["sh", "-c", EVENTS_APART, "sh", "python3", "-m", f"devkit.kernels.{module}"],
        folder,
        {**passed_on(environ), "PYTHONPATH": f"{DEVICE_SIDE}:{own}".rstrip(":"), "DEVKIT_EVENTS_FD": EVENTS_FD},
    )
    return container_exec.run(client, engine.ready(seen), program, out=int(environ["DEVKIT_EVENTS_FD"]))


def _bring_device_side(seen: engine.Seen) -> None:
    """Copy the device side into a container that devkit did not make: it has no mount of ours, so anew each time."""
    package = Path(__file__).resolve().parent.parent
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(package / "__init__.py", arcname=f"{DEVICE_SIDE[1:]}/devkit/__init__.py")
        archive.add(
            (package / "kernels").resolve(),
            arcname=f"{DEVICE_SIDE[1:]}/devkit/kernels",
            filter=lambda entry: None if "__pycache__" in entry.name else entry,
        )
    with engine.explained(seen.name):
        engine.ready(seen).put_archive("/", packed.getvalue())


def template(name: str, image: str, reason: str, packages: Sequence[str]) -> str:
    """Return the Dockerfile of a development image.

    Raises:
        UsageError: one of the packages is not a requirement.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        checked = [str(Requirement(package)) for package in packages]
    except InvalidRequirement as error:
        raise UsageError("--with has something that is not a package", str(error)) from error
    folder = Path(__file__).resolve().parent.parent / "templates" / "container"
    templates = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True,
        autoescape=False,  # noqa: S701 - a Dockerfile is not HTML; what goes in is checked above
    )  # fmt: skip
    return templates.get_template("Dockerfile.j2").render(
        name=name,
        image=container.check_image(image),
        reason=reason,
        packages=shlex.join(checked),
        source=container.SOURCE,
        ccache=container.CCACHE,
    )


def shown(spec: Spec, request: ContainerRequest) -> list[str]:
    """Return the lines of docker that do the same."""
    if request.dockerfile is None:
        return [*([shlex.join(("docker", "pull", spec.image))] if spec.pull else []), spec.shown()]
    folder = str(request.dockerfile.absolute().parent)
    words = ("docker", "build", "-t", spec.image, "-f", str(request.dockerfile), "--network", "host", folder)
    return [shlex.join(words), spec.shown()]
