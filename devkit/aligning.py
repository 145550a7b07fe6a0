"""Two models, or one at two revisions, traced side by side: which lines run, and what they say."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.launch import Worker
    from devkit.runs import Run
    from devkit.tryout.trial import Trial


FILE_END = re.compile(r"\.py(?=$|[:@])")
REST = re.compile(r"(?::(?P<function>[^@]*))?(?:@(?P<revision>.+))?")


@dataclass(frozen=True)
class Model:
    """Where a model comes from: ``FILE.py``, ``FILE.py:NAME`` or ``FILE.py:NAME@REVISION``.

    Attributes:
        revision: a commit of the clone around the current folder, whose code the file imports; empty for what is there.
    """

    file: str
    function: str = "model"
    revision: str = ""


@dataclass(frozen=True)
class Side:
    """A model, the environment that it runs in, and the folders that it imports from before all others."""

    model: Model
    environment: Environment
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlignPlan:
    """What will run: the two sides, the weights' names, the lines of git that check revisions out, and the mode."""

    a: Side
    b: Side
    names: Mapping[str, str]
    checkouts: tuple[str, ...] = ()
    train: bool = False

    @property
    def lines(self) -> list[str]:
        """The lines that a person may read."""
        workers = (
            f"{shlex.join(side.environment.argv('align'))}  # {side.model.file}:{side.model.function}"
            for side in (self.a, self.b)
        )
        return [*self.checkouts, *workers]


@dataclass(frozen=True)
class Aligned:
    """What a comparison came to: how many of B's weights were found in A, which were not, and a row a layer."""

    taken: int
    missing: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]

    @property
    def first(self) -> dict[str, Any] | None:
        """The first layer where they part."""
        return next((row for row in self.rows if row["verdict"] == "parts"), None)


def parse(text: str) -> Model:
    """Return the model that a word names; of several files that it may mean, the longest name that is there.

    Raises:
        UsageError: there is no such file.
    """
    names = [text[: match.end()] for match in FILE_END.finditer(text)]
    file = next((name for name in reversed(names) if Path(name).is_file()), "")
    match = REST.fullmatch(text[len(file) :])
    if not file or not match:
        missing = text if file or not names else names[0]
        raise UsageError(f"{missing} does not exist", "A model is FILE.py, FILE.py:NAME or FILE.py:NAME@REVISION.")
    return Model(str(Path(file).resolve()), match["function"] or "model", match["revision"] or "")


def plan(
    app: App, a: Model, b: Model, names: Mapping[str, str], *, env: str, peer_env: str, train: bool = False
) -> AlignPlan:
    """Return what will run.

    Raises:
        DevkitError: there is no such environment, or no clone here whose revision it could be.
    """
    from devkit.envs.resolve import resolve

    one = resolve(app.config, env)
    two = resolve(app.config, peer_env) if peer_env else one
    checkouts: list[str] = []
    if a.revision or b.revision:
        from devkit.bisecting.trying import commit_of
        from devkit.git.session import open_session

        with open_session(app, changes=False) as session:
            state = session.state(status=False)
            a, b = (
                replace(model, revision=commit_of(session, model.revision, "the revision")) if model.revision else model
                for model in (a, b)
            )
            for name, model in (("a", a), ("b", b)):
                if model.revision:
                    trial = _trial(session, state, name)
                    checkouts += [] if checkouts else map(str, trial.init_lines())
                    checkouts.append(str(trial.side_line(trial.side("request"), model.revision)))
    return AlignPlan(Side(a, one), Side(b, two), names, tuple(checkouts), train)


def execute(app: App, planned: AlignPlan, run: Run) -> Aligned:
    """Trace both models, each in a process of its own, and compare.

    Raises:
        DevkitError: a revision cannot be made ready, or a model cannot be made or run.
    """
    a, b = planned.a, planned.b
    if a.model.revision or b.model.revision:
        from devkit.git.session import open_session

        with open_session(app, changes=False) as session:
            state = session.state(status=False)
            a, b = (_at_revision(session, state, side, name, run) for name, side in (("a", a), ("b", b)))
    with (
        app.console.progress("running both models"),
        _worker(app, a, run, "a") as one,
        _worker(app, b, run, "b") as two,
    ):
        common = {"do": "trace", "folder": str(run.folder), "train": planned.train, "names": {}}
        first = {**common, "file": a.model.file, "function": a.model.function}
        one.ask({**first, "name": "a", "dtype": "float32", "weights": "save"}, "traced")
        one.ask({**first, "name": "exact", "dtype": "float64", "weights": "take"}, "traced")
        second = {**common, "file": b.model.file, "function": b.model.function, "name": "b", "dtype": "float32"}
        event = two.ask({**second, "weights": "take", "names": dict(planned.names)}, "traced")
        rows: Sequence[dict[str, Any]] = one.ask({"do": "compare", "folder": str(run.folder)}, "compared")["rows"]
    return Aligned(event["taken"], tuple(event["missing"]), tuple(rows))


def _worker(app: App, side: Side, run: Run, name: str) -> Worker:
    """Return a worker in which a side's modules come first."""
    import os

    from devkit.launch import Worker, device_environment

    environ = device_environment(app)
    environ["PYTHONPATH"] = os.pathsep.join([environ["PYTHONPATH"], *side.paths])
    return Worker(app, side.environment, "align", folder=run.folder, name=name, environ=environ)


def _trial(session: Session, state: State, name: str) -> Trial:
    """Return the folder in which a side's revision is checked out."""
    from devkit.tryout.trial import Trial

    return Trial(session.app, session.place, f"align-{name}", state.setting("extensions.objectformat"))


def _at_revision(session: Session, state: State, side: Side, name: str, run: Run) -> Side:
    """Return a side whose revision is checked out and ready; a file of the clone is taken from that revision too."""
    import os

    from devkit.config import Config
    from devkit.tryout import sides
    from devkit.tryout.trial import Commits
    from devkit.tryout.work import TryOptions, TryWork

    commit = side.model.revision
    if not commit:
        return side
    trial = _trial(session, state, name)
    with trial.locked():
        trial.open()
        folder = trial.side("request")
        trial.check_out_side(folder, commit)
        options = TryOptions(env=str(side.environment.folder))
        work = TryWork(
            trial, Commits(commit, commit), [], app=session.app, run=run, options=options, config=Config.load(folder)
        )
        ready = sides.prepare(work, [], alone=True)
    if ready.request.problem:
        raise DevkitError(f"{commit[:10]} does not build", ready.request.problem)
    file = Path(side.model.file)
    if state.place.top is not None and file.is_relative_to(state.place.top.resolve()):
        there = folder / file.relative_to(state.place.top.resolve())
        file = there if there.is_file() else file
    paths = tuple(filter(None, ready.request.environ["PYTHONPATH"].split(os.pathsep)))
    return replace(side, model=replace(side.model, file=str(file)), paths=paths)
