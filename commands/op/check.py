"""Check an operator: what holds of every operator, whatever it computes.

It is a folder made by devkit op new, a Python file with a function of its name (and, where it has them, reference and
samples), or a name in Paddle. Checked are: the forward against the NumPy reference, dtypes, InferMeta against what the
kernel returns, gradients against finite differences, aliasing (inputs, outputs and upstream gradients that are changed
or shared), non-contiguous inputs, NaN and infinity, determinism, threads, 0-D, odd and large shapes, and inputs without
elements, forward and backward. Without a reference the forward, shapes and special values cannot be checked. The exit
status is 4 where something is wrong.

Example:  devkit op check gated_unit

Example:  devkit op check paddle.nn.functional.relu
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json
from devkit.errors import ExitStatus
from devkit.text import counted, duration

SHOWN = 3


def command(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="DIR|FILE|NAME", help="The operator.")],
    function: Annotated[
        str,
        typer.Option("--function", metavar="NAME", help="The function in the file; the one of its name by default."),
    ] = "",
    env: Env = "",
    limit_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="The longest that a check may take.")
    ] = 600,
    as_json: Json = False,
) -> int:
    from devkit.envs.resolve import resolve
    from devkit.ops import checking

    app = ctx.obj
    wanted = checking.target_of(target, function)
    environment = resolve(app.config, env)
    with app.start_run("op check", target=wanted.place, environment=environment.name) as run:
        with app.console.progress(f"loading {target}") as progress:
            report = checking.check(
                app, environment, wanted, run, limit_s=limit_s, on_check=lambda name: progress.update(text=name)
            )
        status = ExitStatus.VERDICT if report.findings else ExitStatus.DONE
        run.record.update(result=asdict(report), status=int(status))
    if as_json:
        app.console.json(asdict(report))
    for name in report.checks:
        wrong = [finding for finding in report.findings if finding.check == name]
        notes = [note for note in report.notes if note.check == name]
        for note in notes:
            app.console.answer_parts(("! ", "warning"), (f"{name}: not checked: {note.message}", ""))
        if not wrong and not notes:
            app.console.answer_parts(("✓ ", "done"), (name, ""))
        for finding in wrong[:SHOWN]:
            app.console.answer_parts(("✗ ", "failed"), (f"{name}: {finding.message}", ""))
        if len(wrong) > SHOWN:
            app.console.answer(f"  and {len(wrong) - SHOWN} more (--json names all)", "dim")
    for name in report.without:
        app.console.answer_parts(("! ", "warning"), (f"{name}: not checked: there is no reference", ""))
    if report.time_ms is not None:
        app.console.answer(f"  {duration(report.time_ms / 1e3)} a call on a large input", "dim")
    if report.findings:
        app.console.warn(f"{counted(len(report.findings), 'finding')} on {report.name}")
    return status
