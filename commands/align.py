"""Find the first layer where two models part, forward or backward, and whether rounding explains it.

A and B are files, each with a function model() (or FILE.py:NAME) that returns a Layer of Paddle, or a module of torch
where the environment has it; A has inputs(), a list of arrays. B gets A's weights by name (a matrix that lies the other
way is transposed; --map B_NAME=A_NAME for others). Both run on the same inputs in fp32, and A in float64 besides: the
error of each side against that says whether a difference is rounding. The exit status is 4 where they part.

Example:  devkit align paddle_model.py torch_model.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devkit.commands._cli.options import Env, Json
from devkit.console import Cell, Column
from devkit.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.runs import Run

ROWS = 40


def command(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="FILE.py or FILE.py:NAME, the one that is trusted.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, of the other model.")],
    names: Annotated[
        list[str] | None, typer.Option("--map", metavar="B=A", help="A weight of B and its name in A; may be repeated.")
    ] = None,
    env: Env = "",
    as_json: Json = False,
) -> int:
    from devkit.envs.resolve import resolve

    app: App = ctx.obj
    sides = [_place(each) for each in (a, b)]
    mapped = dict(each.split("=", 1) for each in names or [] if "=" in each)
    if len(mapped) != len(names or []):
        raise UsageError("--map takes B=A", "A weight's name in B, and its name in A.")
    environment = resolve(app.config, env)
    with app.start_run("align", a=a, b=b) as run:
        told, rows = _run(app, environment, run, sides, mapped)
        parted = [each for each in rows if each["verdict"] == "parts"]
        status = ExitStatus.VERDICT if parted else ExitStatus.DONE
        result = {
            "taken": told["taken"],
            "missing": told["missing"],
            "layers": rows,
            "first": parted[0] if parted else None,
        }
        run.record.update(result=result, status=int(status))
    if as_json:
        app.console.json(result)
    columns = [
        Column("layer", "left", importance=20),
        Column("of", "left"),
        Column("error of A"),
        Column("error of B"),
        Column("verdict", "left", importance=15),
    ]
    place = rows.index(parted[0]) if parted else 0
    shown = rows[max(place - 3, 0) : max(place - 3, 0) + ROWS]
    app.console.table(
        columns,
        [
            (
                each["layer"],
                each["kind"],
                "" if each["a"] is None else f"{each['a']:.2g}",
                "" if each["b"] is None else f"{each['b']:.2g}",
                Cell(f"{each['verdict']} {each['reason']}".strip(), "failed" if each["verdict"] == "parts" else ""),
            )
            for each in shown
        ],
    )
    for name in told["missing"]:
        app.console.look(f"{name} of B has no weight in A: --map {name}=NAME")
    if parted:
        app.console.look(
            f"they part first at the {parted[0]['kind']} of {parted[0]['layer']}: rounding does not explain it"
        )
    else:
        app.console.done(f"{len(rows)} outputs and gradients agree to rounding")
    return status


def _place(text: str) -> tuple[str, str]:
    file, _, function = text.partition(":")
    if not file.endswith(".py") or not Path(file).is_file():
        raise UsageError(f"{file} does not exist", "A model is FILE.py or FILE.py:NAME.")
    return str(Path(file).resolve()), function or "model"


def _run(
    app: App, environment: Environment, run: Run, sides: list[tuple[str, str]], names: dict[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trace both models, each in a process of its own, and compare."""
    from devkit.launch import Worker, device_environment

    def ask(name: str, request: dict[str, Any], answer: str) -> dict[str, Any]:
        environ = device_environment(app)
        with Worker(app, environment, "align", folder=run.folder, name=name, environ=environ) as worker:
            event: dict[str, Any] = worker.ask({**request, "folder": str(run.folder), "names": names}, answer)
            return event

    (file_a, make_a), (file_b, make_b) = sides
    with app.console.progress("running both models"):
        one = {"do": "trace", "file": file_a, "function": make_a}
        ask("a", {**one, "name": "a", "dtype": "float32", "weights": "save"}, "traced")
        ask("exact", {**one, "name": "exact", "dtype": "float64", "weights": "take"}, "traced")
        other = {"do": "trace", "file": file_b, "function": make_b, "name": "b", "dtype": "float32", "weights": "take"}
        told = ask("b", other, "traced")
        rows = ask("compare", {"do": "compare"}, "compared")["rows"]
    return told, rows
