"""Find the first layer where two models part, forward or backward, and whether rounding explains it.

A and B are FILE.py, FILE.py:NAME or FILE.py:NAME@REVISION: a function model() (or NAME) returns a Layer of Paddle, or a
module of torch; A has inputs(), a list of arrays. With @REVISION the file imports the code of that commit of the clone
where you stand (of Paddle, its Python over the environment's wheel), so that one model is compared with itself. B gets
A's weights by name (a matrix that lies the other way is transposed; --map B_NAME=A_NAME for others). Compared are the
outputs of each call of each layer, and the gradients of these, of the weights and of the inputs. Both run on the same
inputs in fp32, and A in float64 besides: the error of each side against that says whether a difference is rounding. The
exit status is 4 where they part.

Example:  devkit align paddle_model.py torch_model.py --peer-env .venv-peers

Example:  devkit align model.py:model@HEAD~1 model.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devkit.commands._cli.options import DryRun, Env, Json
from devkit.console import Cell, Column
from devkit.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from devkit.aligning import Aligned
    from devkit.app import App

ROWS = 40


def command(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="FILE.py or FILE.py:NAME, the one that is trusted.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, of the other model.")],
    names: Annotated[
        list[str] | None, typer.Option("--map", metavar="B=A", help="A weight of B and its name in A; may be repeated.")
    ] = None,
    env: Env = "",
    peer_env: Annotated[
        str, typer.Option("--peer-env", metavar="NAME", help="Where B runs, if that is another: one with torch.")
    ] = "",
    train: Annotated[
        bool, typer.Option("--train", help="In training mode: batch norm by the batch, dropout layers left out.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    from devkit import aligning

    app: App = ctx.obj
    mapped = dict(pair.split("=", 1) for pair in names or [] if "=" in pair)
    if len(mapped) != len(names or []):
        raise UsageError("--map takes B=A", "A weight's name in B, and its name in A.")
    planned = aligning.plan(app, aligning.parse(a), aligning.parse(b), mapped, env=env, peer_env=peer_env, train=train)
    if dry_run:
        app.console.plan(planned.lines)
        return 0
    with app.start_run("align", a=a, b=b) as run:
        found = aligning.execute(app, planned, run)
        status = ExitStatus.VERDICT if found.first else ExitStatus.DONE
        layers, missing = list(found.rows), list(found.missing)
        result = {"taken": found.taken, "missing": missing, "layers": layers, "first": found.first}
        run.record.update(result=result, status=int(status))
    if as_json:
        app.console.json(result)
    _show(app, found)
    return status


def _show(app: App, found: Aligned) -> None:
    """Print the layers from a little before the first that parts, and what it comes to."""
    rows, parted = found.rows, found.first
    columns = [
        Column("layer", "left", importance=20),
        Column("of", "left"),
        Column("error of A"),
        Column("error of B"),
        Column("verdict", "left", importance=15),
    ]
    place = rows.index(parted) if parted else 0
    shown = rows[max(place - 3, 0) : max(place - 3, 0) + ROWS]
    app.console.table(
        columns,
        [
            (
                layer["layer"],
                layer["kind"],
                "" if layer["a"] is None else f"{layer['a']:.2g}",
                "" if layer["b"] is None else f"{layer['b']:.2g}",
                Cell(f"{layer['verdict']} {layer['reason']}".strip(), "failed" if layer["verdict"] == "parts" else ""),
            )
            for layer in shown
        ],
    )
    for name in found.missing:
        app.console.warn(f"{name} of B has no weight in A: --map {name}=NAME")
    if parted and found.missing:
        app.console.warn(
            f"they part first at the {parted['kind']} of {parted['layer']}: map these weights, then look again"
        )
    elif parted:
        app.console.warn(f"they part first at the {parted['kind']} of {parted['layer']}: rounding does not explain it")
    else:
        app.console.done(f"{len(rows)} outputs and gradients agree to rounding")
