"""Open a request from a pushed branch, with the project's template filled from its commits.

With a token (GH_TOKEN or gh; GITLAB_TOKEN; GITEE_TOKEN) and --yes it is opened at once; else the page that opens it
is shown.

Example:  devkit pr create --draft
"""

from __future__ import annotations

from typing import Annotated

import typer

from devkit.commands._cli.options import DryRun, Json, Yes
from devkit.commands.pr._options import Which
from devkit.errors import DevkitError
from devkit.git.roles import base_remote
from devkit.git.session import open_session
from devkit.pr.create import plan_create
from devkit.pr.forges import forge_of


def command(
    ctx: typer.Context,
    which: Which = "",
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The first commit's subject by default.")] = "",
    base: Annotated[str, typer.Option("--base", metavar="BRANCH", help="Another branch of the project's.")] = "",
    draft: Annotated[bool, typer.Option("--draft", help="Open it as a draft.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    app = ctx.obj
    with open_session(app, changes=False) as session:
        state = session.state(status=False)
        plan = plan_create(session, state, which, title=title, base=base, draft=draft)
        new = plan.new
        forge = forge_of(app, state.remotes[base_remote(state, app.config)])
        if dry_run:
            how = f"POST {forge.address}/{forge.new_requests}" if forge and yes else plan.page
            app.console.plan([f"# {how}", f"# {plan.head} into {new.base}: {new.title}", *new.body.splitlines()])
            return
        opened = None
        if forge and (yes or (app.console.interactive and app.console.confirm(f"open {new.title!r} now?"))):
            opened = forge.create(new)
            if opened is None:
                raise DevkitError(
                    "the forge did not open the request", "It said so above, or did not answer.", plan.page
                )
    if as_json:
        app.console.json(
            {
                "branch": plan.branch,
                "head": plan.head,
                "base": new.base,
                "title": new.title,
                "body": new.body,
                "page": opened.page if opened else plan.page,
                "number": opened.number if opened else None,
            }
        )
        return
    if opened:
        app.console.done(f"opened {opened.number}: {new.title}")
        app.console.note(f"  {opened.page}")
        app.console.next(f"devkit pr fetch {opened.number}", f"devkit pr checks {plan.branch}")
        return
    app.console.note(f"{plan.head} into {new.base}: {new.title}")
    if plan.page:
        app.console.answer(plan.page)
    else:
        app.console.warn("the forge's pages are not known by the remotes' addresses; open the request there")
