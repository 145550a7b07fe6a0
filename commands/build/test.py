"""Run unit tests of the tree as Paddle's CI does: its variables, each file in a process of its own.

A test runs over the environment's overlay where it has one, else over the build folder, else over the environment's
own Paddle. --changed adds the files that the change since upstream touches. The exit status is 4 where one fails.

Example:  devkit build test test_diff_op --changed
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from devkit.commands._cli.options import Env, Json
from devkit.commands.build._options import BuildDir, Checkout
from devkit.errors import DevkitError, ExitStatus, UsageError
from devkit.text import counted, duration


def command(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Test files, with or without their path.")
    ] = None,
    checkout: Checkout = ".",
    build_dir: BuildDir = "build",
    env: Env = "",
    changed: Annotated[bool, typer.Option("--changed", help="Those that the change touches.")] = False,
    limit_s: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="For each file.")] = 600,
    as_json: Json = False,
) -> int:
    from devkit.build import overlay, python, tests
    from devkit.build.checkout import find
    from devkit.envs.resolve import resolve

    app = ctx.obj
    if not names and not changed:
        raise UsageError("no test is named", "", "devkit build test NAME", "devkit build test --changed")
    root = find(Path(checkout))
    environment = resolve(app.config, env, directory=root)
    told = python.gather(app.runner, environment)
    if told.complaint:
        raise DevkitError(f"{told.executable} does not answer", told.complaint, "devkit env create")
    files = tests.test_files(app.runner, root)
    chosen = tests.named(names or [], files)
    if changed:
        texts = {path: (root / path).read_text("utf-8", "replace") for path in files}
        difference = tests.changed_files(app.runner, root, overlay.base(app.runner, root))
        chosen += [path for path in tests.touched(difference, texts) if path not in chosen]
    environ = tests.environ(app, told, root / build_dir / "python" / "paddle")
    with app.start_run("build test", checkout=str(root), environment=environment.name, files=chosen) as run:
        verdicts = []
        with app.console.progress("testing", total=len(chosen) or 1) as progress:
            for number, path in enumerate(chosen):
                progress.update(done=number, text=f"testing: {path}")
                log = run.log(Path(path).stem)
                verdicts.append(tests.run(app, told, root, path, environ, log=log, limit_s=limit_s))
        failed = [each for each in verdicts if not each.passed]
        result = {
            "run": run.id,
            "over": environ.get("PYTHONPATH", environment.name),
            "tests": [asdict(each) for each in verdicts],
        }
        run.record["result"] = result
        run.record["status"] = int(ExitStatus.VERDICT if failed else ExitStatus.DONE)
    if as_json:
        app.console.json(result)
    for each in verdicts:
        count = "" if each.tests is None else f"{counted(each.tests, 'test')}, "
        symbol = ("✓ ", "done") if each.passed else ("✗ ", "failed")
        app.console.answer_parts(symbol, (f"{each.name}   ", ""), (f"{count}{duration(each.seconds)}", "dim"))
        for line in each.complaint.splitlines():
            app.console.answer(f"  {line}")
    if not verdicts:
        app.console.done("the change touches no test")
    if failed:
        app.console.next(f"less {run.log(Path(failed[0].name).stem)}   shows all that it said")
    return ExitStatus.VERDICT if failed else ExitStatus.DONE
