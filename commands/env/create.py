"""Create an environment with Paddle in it, and check that it computes.

Without a name, .venv in the current project. The newest suitable Python is found, Paddle chosen for this machine (the
GPU builds are installed by the same lines, and have not yet been run on a GPU), and devkit's device side put in.

With --docker it is a container of Paddle's development image: the source tree is mounted, your user is the user inside,
GPUs are given where NVIDIA's runtime is, and proxies are passed when something runs in it and stored nowhere.

Example:  devkit env create try-311 --python 3.11 --with 'einops pytest'
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devkit.commands._cli.options import DryRun, Json
from devkit.text import duration, size

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.create import Made


def command(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Its name; .venv of the project without one.")] = "",
    python: Annotated[
        str, typer.Option("--python", "-p", metavar="VERSION|PATH", help="The newest suitable one by default.")
    ] = "",
    paddle: Annotated[
        str,
        typer.Option(
            "--paddle",
            metavar="SPEC",
            help="cpu, gpu or cuNNN, and ==VERSION; a bare version chooses the device; none; or a wheel's path.",
        ),
    ] = "",
    packages: Annotated[
        list[str] | None, typer.Option("--with", metavar="'PKG…'", help="Packages beside Paddle; may be repeated.")
    ] = None,
    files: Annotated[
        list[Path] | None, typer.Option("-r", "--requirements", metavar="FILE", help="A file of requirements.")
    ] = None,
    editables: Annotated[
        list[Path] | None,
        typer.Option("-e", "--editable", metavar="PATH", help="A package that is installed in place."),
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option("--from", metavar="LOCK|BUNDLE", help="What devkit env freeze or devkit env bundle wrote."),
    ] = None,
    suite: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="SUITE[@COMMIT]",
            help="What a suite asks for: PaddleMIX, PaddleNLP, PaddleOCR, FastDeploy, docs, …; or a clone's folder.",
        ),
    ] = "",
    index_url: Annotated[
        str, typer.Option("--index-url", metavar="URL", help="In place of the default index and Paddle's own.")
    ] = "",
    proxy: Annotated[str, typer.Option("--proxy", metavar="URL", help="The proxy, for this once.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Only what uv has in its cache.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not compute in it (3 s).")] = False,
    docker: Annotated[bool, typer.Option("--docker", help="A container; the source tree is in it as /paddle.")] = False,
    image: Annotated[
        str,
        typer.Option(
            "--image", metavar="IMAGE", help="The image, with --docker; Paddle's development image by default."
        ),
    ] = "",
    template: Annotated[
        Path | None, typer.Option("--template", metavar="FILE", help="With --docker: only write the Dockerfile.")
    ] = None,
    build: Annotated[
        Path | None, typer.Option("--build", metavar="FILE", help="With --docker: build the image from a Dockerfile.")
    ] = None,
    network: Annotated[
        str, typer.Option("--network", metavar="NAME", help="The container's network, with --docker.")
    ] = "host",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    if docker:
        from devkit.commands.env._container import create as create_container
        from devkit.envs.containers import ContainerRequest
        from devkit.errors import UsageError

        if python or files or editables or suite or lock or index_url or offline or (packages and not template):
            raise UsageError(
                "a container takes its Python and its packages from its image",
                "",
                f"devkit env create {name or 'NAME'} --docker --template Dockerfile --with 'PKG…'   writes one",
            )
        wanted = ContainerRequest(name, image, paddle, build, network, proxy)
        create_container(ctx.obj, wanted, template, packages or [], dry_run=dry_run, as_json=as_json)
        return
    if image or template or build or network != "host":
        from devkit.errors import UsageError

        raise UsageError("--image, --template, --build and --network go with --docker", "")
    _create(
        ctx.obj,
        name=name,
        python=python,
        paddle=paddle,
        packages=tuple(packages or ()),
        files=tuple(files or ()),
        editables=tuple(editables or ()),
        lock=lock,
        suite=suite,
        index_url=index_url,
        proxy=proxy,
        offline=offline,
        verify=not no_verify,
        dry_run=dry_run,
        as_json=as_json,
    )


def _create(
    app: App, *, lock: Path | None, suite: str, verify: bool, dry_run: bool, as_json: bool, **asked: Any
) -> None:
    from devkit.envs import create
    from devkit.errors import UsageError

    if lock and (asked["paddle"] or asked["packages"] or asked["files"] or asked["editables"] or suite):
        raise UsageError(
            "--from says all that is installed", "It goes with none of --paddle, --with, -r, -e and --for."
        )
    request = create.EnvironmentRequest(**asked)
    if suite:
        from devkit.envs import suites

        request = replace(request, suite=suites.fetch(app, suite))
    if lock:
        from devkit.envs import bundle as bundles
        from devkit.envs import lock as locks

        bundle = bundles.read(lock) if bundles.is_one(lock) else None
        request = replace(request, lock=bundle.lock if bundle else locks.read(lock), bundle=bundle)
    with create.naming(request.name, suite):
        planned = create.plan(app, request, Path.cwd())
    for note in planned.notes:
        app.console.note(note, "dim")
    if dry_run:
        app.console.note(f"Python {planned.interpreter.dotted} ({planned.interpreter.source}); {planned.choice.reason}")
        app.console.plan(planned.shown())
        return
    with (
        create.naming(request.name, suite),
        app.start_run("env create", name=planned.name, paddle=planned.choice.build) as run,
    ):
        made = create.execute(app, planned, run, verify=verify)
        run.record["result"] = result(made)
    if as_json:
        app.console.json(result(made))
    say(app, made)


def result(made: Made) -> dict[str, object]:
    """Return what was made as JSON holds it."""
    return {
        "name": made.plan.name,
        "folder": str(made.plan.folder),
        "python": made.plan.interpreter.dotted,
        "paddle": list(made.paddles),
        "build": made.plan.choice.build,
        "reason": made.plan.choice.reason,
        "seconds": round(made.seconds, 3),
        "new_bytes": made.new_bytes,
        "proof": made.proof,
    }


def say(app: App, made: Made) -> None:
    """Say what was made, and what to type next."""
    plan = made.plan
    what = ", ".join((f"Python {plan.interpreter.dotted}", *made.paddles))
    app.console.done(
        f"{plan.name}  {what} ({plan.choice.reason})   {duration(made.seconds)}, {size(made.new_bytes)} new"
    )
    if made.proof:
        devices = made.proof["device"]
        app.console.note(f"  checked: 1 + 1 on {devices}, matmul {made.proof['matmul_gflops']:.3g} GFLOP/s", "dim")
    app.console.next(f"devkit env shell {plan.name}")
