"""Making a container: the part of ``devkit env create`` that ``--docker`` chooses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.text import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.app import App
    from devkit.envs.containers import ContainerRequest


def create(
    app: App, request: ContainerRequest, template: Path | None, packages: Sequence[str], *, dry_run: bool, as_json: bool
) -> None:
    """Make the container, or only write its Dockerfile."""
    from devkit.envs import containers, engine

    if template is not None:
        write_template(app, request, template, packages)
        return
    client = engine.connect()
    spec = containers.plan(app, client, request, Path.cwd())
    if dry_run:
        app.console.note(f"{spec.image} ({spec.reason})")
        app.console.plan(containers.shown(spec, request))
        return
    begin = time.monotonic()
    with app.start_run("env create", name=request.name, image=spec.image) as run:
        raw = containers.make(app, client, request, spec)
        run.record["result"] = {
            "name": request.name,
            "container": spec.name,
            "image": spec.image,
            "reason": spec.reason,
            "project": spec.labels["devkit.project"],
            "gpus": spec.gpus,
            "shm_mib": spec.shm_mib,
            "id": raw.id,
        }
        result = run.record["result"]
    if as_json:
        app.console.json(result)
    gpus = "all GPUs" if spec.gpus else "no GPU"
    app.console.done(f"{request.name}  {spec.image} ({spec.reason}), {gpus}   {duration(time.monotonic() - begin)}")
    app.console.note(f"  {result['project']} is /paddle inside; ccache's volume is /ccache", "dim")
    if spec.network != "host":
        app.console.note(
            "  a proxy on this machine's loopback is reached as host.docker.internal, if it listens there", "dim"
        )
    app.console.next(f"devkit env shell {request.name}", f"devkit env run {request.name} -- CMD")


def write_template(app: App, request: ContainerRequest, template: Path, packages: Sequence[str]) -> None:
    """Write the Dockerfile that would build the environment's image."""
    from devkit.envs import container, containers
    from devkit.envs.create import words_of
    from devkit.envs.paddle import probe_driver
    from devkit.errors import DevkitError
    from devkit.files import write_atomically

    if template.exists():
        raise DevkitError(f"{template} is there already", "", f"devkit env create NAME --docker --build {template}")
    image, reason = request.image, "as asked"
    if not image:
        driver, _ = probe_driver()
        image, reason = container.choose_image(request.paddle, driver, nvidia_runtime=driver is not None)
    text = containers.template(request.name or "NAME", image, reason, words_of(packages))
    write_atomically(template.absolute(), text.encode())
    app.console.done(f"{template}  from {image} ({reason})")
    app.console.next(f"devkit env create {request.name or 'NAME'} --docker --build {template}")
