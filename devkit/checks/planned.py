"""What the checks that run something would run, read from the checkout as it is: nothing is copied or written."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from devkit.builds import changes
from devkit.checks import slow
from devkit.git.command import Git
from devkit.tryout import environment
from devkit.tryout.concerned import bounded, choose
from devkit.tryout.trial import Changed, Commits, Trial
from devkit.tryout.work import Comparison, TryOptions

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.git.session import Session
    from devkit.git.state import State


class InPlace(Trial):
    """A trial whose request is the checkout itself, with its uncommitted work."""

    def __init__(self, session: Session, state: State) -> None:
        super().__init__(session.app, session.place, 0)
        self.root = state.checkout

    def side(self, name: str) -> Path:
        """Return the checkout: the base is read from its commit."""
        del name
        return self.root

    @property
    def git(self) -> Git:
        """Git in the checkout."""
        return Git(self.app, self.root)

    def files(self) -> list[str]:
        """Return the files that git knows or would add."""
        return self.git.text("ls-files", "-z", "-c", "-o", "--exclude-standard", "--", ".").split("\0")

    def changes(self, commits: Commits) -> list[Changed]:
        """Return what the checkout changes against a commit, new files too."""
        new = {name: changes.whole(self.root / name) for name in changes.untracked(self.app.runner, self.root)}
        return [*super().changes(commits), *(Changed(name, "A", after=rows) for name, rows in new.items())]

    def text(self, commit: str, path: str) -> str:
        """Return a file's text at a commit, or as it is where the commit is empty."""
        if commit:
            return super().text(commit, path)
        file = self.root / path
        return file.read_text("utf-8", "replace") if file.is_file() else ""


def lines(session: Session, state: State, base: str, env: str) -> list[str]:
    """Return what the checks would run, a line each.

    Args:
        session: of the clone.
        state: of its checkout.
        base: the commit that the branch is counted from.
        env: the environment that is asked for.
    """
    app, root = session.app, state.checkout
    trial = InPlace(session, state)
    commits = Commits("", base)
    chosen = environment.chosen(app, root, env)
    work = Comparison(trial, commits, trial.changes(commits))
    if not work.changed:
        return []
    hooks = slow.pre_commit_line(root, [change.path for change in work.changed if change.status != "D"])
    found = [shlex.join(hooks)] if hooks else []
    if not chosen:
        return [*found, slow.NO_ENVIRONMENT]
    tests, _, _ = bounded(choose(work), TryOptions().others)
    examples = [f"run the examples of {it['name']}, {it['file']}:{it['line']}" for it in slow.changed_examples(work)]
    return [*found, *(f"run {test.path} before and after the change" for test in tests), *examples]
