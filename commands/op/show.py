"""Show where an operator lives: its kernels by device and dtype, its Python API, and in a tree all of its files.

From the environment's Paddle come the registered kernels, the header that declares them and the Python API. In a tree
of Paddle (-C, or where you stand) also the YAML entries with their InferMeta function, kernels and backward, the
kernels' registrations, Python callers and tests: file and line each.

Example:  devkit op show relu
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import Env, Json
from devkit.errors import DevkitError

if TYPE_CHECKING:
    from devkit.console import Console
    from devkit.ops.tree import Lives, SourceLine

SHOWN = 12


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The operator, as relu.")],
    checkout: Annotated[str, typer.Option("-C", metavar="PATH", help="A tree of Paddle.")] = ".",
    env: Env = "",
    as_json: Json = False,
) -> None:
    from devkit.builds.checkout import find
    from devkit.envs.resolve import resolve
    from devkit.ops import checking, tree
    from devkit.ops.rendering import check_name

    app = ctx.obj
    check_name(name) if not name.replace("_", "").isalnum() else None
    lives = None
    try:
        root = find(Path(checkout))
    except DevkitError:
        if checkout != ".":
            raise
    else:
        with app.console.progress(f"reading {root}"):
            lives = tree.locate(root, name)
    environment = resolve(app.config, env)
    try:
        with app.start_run("op show", name=name) as run:
            answer = checking.ask_once(app, environment, {"do": "kernels", "name": name}, "kernels", run)
    except DevkitError:
        if lives is None:
            raise
        answer = {}
    if not answer.get("kernels") and not answer.get("api") and not (lives and lives.entries):
        near = answer.get("near", [])
        raise DevkitError(
            f"there is no operator {name}",
            f"Near are {', '.join(near)}." if near else "",
            *[f"devkit op show {similar}" for similar in near[:2]],
        )
    if as_json:
        app.console.json({"name": name, "wheel": answer, "tree": asdict(lives) if lives else None})
    _show_wheel(app.console, answer)
    if lives:
        _show_tree(app.console, lives)
    else:
        app.console.note("  YAML entries, InferMeta and tests need a tree: devkit op show NAME -C PATH", "dim")


def _show_wheel(console: Console, answer: dict[str, object]) -> None:
    kernels = answer.get("kernels")
    if isinstance(kernels, dict):
        for kernel, places in kernels.items():
            console.answer(f"{kernel}  (Paddle {answer['version']})")
            by_device: dict[str, list[str]] = {}
            for place in places:
                device, _, rest = place.strip("()").partition(",")
                by_device.setdefault(device, []).append(rest.rpartition(",")[2].strip())
            for device, dtypes in by_device.items():
                console.answer(f"  {device:8} {' '.join(sorted(set(dtypes)))}")
    if answer.get("header"):
        console.answer("header")
        console.answer(f"  {answer['header']}:{answer['header_line']}", "dim")
    if answer.get("api"):
        console.answer(f"Python API  {answer['api']}")
        console.answer(f"  {answer['file']}:{answer['line']}", "dim")


def _show_tree(console: Console, lives: Lives) -> None:
    for entry in lives.entries:
        console.answer(f"{entry.file}:{entry.first}  {entry.name}")
        facts = {
            "InferMeta": entry.infer_meta,
            "kernels": ", ".join(entry.kernels),
            "backward": entry.backward,
            "forward": entry.forward,
        }
        for title, text in facts.items():
            if text:
                console.answer(f"  {title:10} {text}")
    parts: tuple[tuple[str, tuple[SourceLine, ...]], ...] = (
        ("InferMeta", lives.infer_meta),
        ("kernels", lives.kernels),
        ("Python", lives.api),
        ("tests", lives.tests),
    )
    for title, places in parts:
        if places:
            console.answer(title)
        for place in places[:SHOWN]:
            console.answer_parts((f"  {place.file}:{place.line}  ", ""), (place.text[:80], "dim"))
        if len(places) > SHOWN:
            console.answer(f"  and {len(places) - SHOWN} more (--json names all)", "dim")
