"""Trying one commit: checked out in a work tree of devkit's own, built where it must be, and asked."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devkit.bench.statistics import summarize
from devkit.bisecting.search import Bisected, Search, answer_of, parse_candidates, runs_pytest
from devkit.bisecting.search import run as search_to_the_end
from devkit.config import Config
from devkit.errors import DevkitError, UsageError
from devkit.process import TimedOut, fate
from devkit.tryout import benchmarks, running, sides
from devkit.tryout.testing import run_test_file
from devkit.tryout.trial import Commits, Trial
from devkit.tryout.verdict import could_not_run, outcomes
from devkit.tryout.work import TryOptions, TryWork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from devkit.app import App
    from devkit.git.session import Session
    from devkit.git.state import State
    from devkit.runs import Run
    from devkit.tryout.running import Side
    from devkit.tryout.sides import Ready

ROUNDS = 5
SHOWN = 5


@dataclass(frozen=True)
class Question:
    """What is asked of each commit: a command, a test file, or a benchmark's line.

    Attributes:
        words: a command, whose status answers as ``git bisect run`` reads it.
        test: a file of the tree, or ``FILE::TEST``, run as ``pr try`` runs it: as the bad commit has it.
        bench: a line that is timed; bad is what is nearer to the bad commit's time than to the good one's.
        env: the environment; the project's by default.
        limit_s: for one answer.
    """

    words: tuple[str, ...] = ()
    test: str = ""
    bench: str = ""
    env: str = ""
    limit_s: float = 600.0


@dataclass(frozen=True)
class Found:
    """What a bisection came to.

    Attributes:
        suspects: the first bad commit, or those of which one is it.
        subjects: commit → its subject.
        folder: the work tree.
    """

    suspects: tuple[str, ...]
    steps: tuple[Bisected, ...]
    subjects: dict[str, str]
    folder: str


@dataclass(frozen=True)
class BisectPlan:
    """A bisection before it begins.

    Attributes:
        good, bad: the two ends.
        question: what answers.
        count: how many commits lie between, the bad one among them.
        environment: what it runs in; empty where one is made.
        lines: what a person may read: the first commit that is tried, and the environment that is made.
    """

    good: str
    bad: str
    question: Question
    count: int
    environment: str
    lines: tuple[str, ...]


def plan(session: Session, state: State, good: str, bad: str, question: Question) -> BisectPlan:
    """Return what a bisection will do.

    Raises:
        DevkitError: the ends name no commits, or not in their order, or what answers is not there.
    """
    from devkit.envs.resolve import names, resolve
    from devkit.tryout import environment

    app = session.app
    ends = commit_of(session, good, "--good"), commit_of(session, bad, "--bad")
    if session.git.ask("merge-base", "--is-ancestor", *ends).status:
        raise UsageError(f"{good} does not lead to {bad}", "The bad commit must come after the good one.")
    file = question.test.partition("::")[0]
    if file and session.git.ask("cat-file", "-e", f"{ends[1]}:{file}").status:
        raise UsageError(f"--test {file} is not a file of {bad}", "It is named from the top of the tree.")
    chosen = environment.chosen(app, state.checkout, question.env)
    if chosen:
        resolve(app.config, chosen)
    trial = Trial(app, session.place, "bisect", state.setting("extensions.objectformat"))
    lines = [*trial.init_lines(), trial.side_line(trial.side("request"), ends[0])]
    made = [] if chosen or "try-bisect" in names() else ["devkit env create try-bisect"]
    count = len(session.git.text("rev-list", f"{ends[0]}..{ends[1]}", "--").splitlines())
    return BisectPlan(*ends, question, count, chosen, (*map(str, lines), *made))


class Bisection:
    """A bisection's work tree, and what is asked in it."""

    def __init__(self, session: Session, state: State, planned: BisectPlan, run: Run) -> None:
        self.app: App = session.app
        self.run = run
        self.planned = planned
        self.question = planned.question
        self.trial = Trial(session.app, session.place, "bisect", state.setting("extensions.objectformat"))
        self.threshold_s = 0.0

    def candidates(self, search: Search) -> list[str]:
        """Return the commits that may be the first bad one, the one that halves them best first."""
        words = ("rev-list", "--bisect-all", search.bad, "--not", *search.good, "--")
        return parse_candidates(self.trial.git.text(*words))

    def subject(self, commit: str) -> str:
        """Return a commit's first line."""
        return self.trial.git.text("log", "-1", "--format=%s", commit, "--")

    def prepare(self, commit: str) -> Ready:
        """Check a commit out and make it ready."""
        self.trial.check_out_side(self.trial.side("request"), commit)
        options = TryOptions(env=self.planned.environment)
        config = Config.load(self.trial.side("request"))
        work = TryWork(
            self.trial, Commits(commit, commit), [], app=self.app, run=self.run, options=options, config=config
        )
        return sides.prepare(work, [], alone=True)

    def try_commit(self, commit: str) -> Bisected:
        """Return what a commit answers; one that cannot be built is skipped."""
        begin = time.monotonic()
        try:
            ready = self.prepare(commit)
        except DevkitError as error:
            return Bisected(commit, "skip", error.what, time.monotonic() - begin)
        side = ready.request
        if side.problem:
            return Bisected(commit, "skip", f"it does not build: {side.problem}", time.monotonic() - begin)
        if self.question.bench:
            step = self._timed(commit, side, ready)
        elif self.question.test:
            step = self._tested(commit, side, ready)
        else:
            step = self._asked(commit, side)
        return replace(step, seconds=round(time.monotonic() - begin, 3))

    def _asked(self, commit: str, side: Side) -> Bisected:
        log = self.run.log(commit[:10])
        try:
            done = self.app.runner.run(
                self.question.words,
                cwd=side.folder,
                env=side.environ,
                timeout_s=self.question.limit_s,
                check=False,
                log=log,
            )
        except TimedOut as error:
            return Bisected(commit, "bad", error.what)
        answer = answer_of(done.status, self.question.words)
        if answer is None:
            raise DevkitError(
                f"{self.question.words[0]} {fate(done.status)} at {commit[:10]}",
                "A status of 128 or more, or a signal, ends a bisection; 125 skips a commit.",
                f"less {log}   shows all that it said",
            )
        return Bisected(
            commit, answer, "" if answer == "good" else done.complaint.splitlines()[-1] if done.complaint else ""
        )

    def _tested(self, commit: str, side: Side, ready: Ready) -> Bisected:
        path, _, wanted = self.question.test.partition("::")
        file = side.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.trial.blob(self.planned.bad, path))  # one question to all: old versions ask another
        limits = running.Limits(self.question.limit_s, repeat=1)
        runner = running.TestRunner(self.app, ready.interpreter.executable, self.run.folder / commit[:10], limits)
        told = outcomes(run_test_file(runner, side, Config.load(side.folder).get("try.test"), path)[0])
        if wanted:
            there = ", ".join(list(told)[:SHOWN])
            told = {name: outcome for name, outcome in told.items() if is_of(name, wanted)}
            if not told:
                return Bisected(commit, "skip", f"no test {wanted} ran" + (f", but {there}" if there else ""))
        own = sides.own_modules(side.folder, [path])
        wrong = [
            (name, outcome)
            for name, outcome in told.items()
            if outcome.state in running.WRONG and not could_not_run(outcome, own)
        ]
        if wrong:
            name, outcome = wrong[0]
            return Bisected(commit, "bad", f"{name}: {outcome.reason}".strip(": "))
        if not any(outcome.state == "passed" for outcome in told.values()):
            return Bisected(commit, "skip", "no test ran")
        return Bisected(commit, "good")

    def _timed(self, commit: str, side: Side, ready: Ready) -> Bisected:
        sample = self.sample(side, ready)
        if isinstance(sample, str):
            return Bisected(commit, "skip", sample)
        median = summarize(sample).median
        answer = "bad" if median > self.threshold_s else "good"
        return Bisected(commit, answer, f"{median * 1e3:.4g} ms")  # type: ignore[arg-type]

    def sample(self, side: Side, ready: Ready) -> list[float] | str:
        """Return the benchmark's times, in seconds, or why there are none."""
        words = shlex.split(self.question.bench)
        argv = [ready.interpreter.executable, *words[1:]] if words[:1] == ["python"] else words
        times = []
        for number in range(ROUNDS + 1):
            begin = time.monotonic()
            try:
                done = self.app.runner.run(argv, cwd=side.folder, env=side.environ, timeout_s=self.question.limit_s)
            except DevkitError as error:
                return error.what
            if number:
                taken = benchmarks.times_of(done.text, time.monotonic() - begin, "")
                times.append(next(iter(taken.values())))
        return times

    def set_threshold(self, good: str, bad: str) -> None:
        """Measure both ends, and put the bar between them.

        Raises:
            DevkitError: they do not differ, or one cannot be measured.
        """
        samples = []
        for commit in (good, bad):
            ready = self.prepare(commit)
            sample = ready.request.problem or self.sample(ready.request, ready)
            if isinstance(sample, str):
                raise DevkitError(f"{commit[:10]} could not be measured", sample)
            samples.append(sample)
        timing = benchmarks.judge(self.question.bench, *samples)
        if timing.verdict != "slower":
            raise DevkitError("the bad commit is not slower than the good one", timing.sentence)
        self.threshold_s = sum(summarize(row).median for row in samples) / 2


def is_of(name: str, wanted: str) -> bool:
    """Tell whether a test is the one that is asked for, a case or a method of it, or stands for its whole file."""
    return name in {"", wanted} or name.startswith((f"{wanted}[", f"{wanted}::"))


def commit_of(session: Session, word: str, flag: str) -> str:
    """Return the commit that a word names.

    Raises:
        UsageError: it names none.
    """
    said = session.git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}")
    if said.status:
        raise UsageError(f"{flag} {word} is not a commit of this clone", "", "git log --oneline -20")
    return said.stdout.decode().strip()


def bisect(bisection: Bisection, *, on_step: Callable[[Bisected, int], None]) -> Found:
    """Find the first bad commit between two.

    Raises:
        DevkitError: the ends are not what they are said to be, or a command ends the search.
    """
    good, bad = bisection.planned.good, bisection.planned.bad
    if bisection.question.bench:
        bisection.set_threshold(good, bad)
    else:
        for commit, wanted in ((good, "good"), (bad, "bad")):
            step = bisection.try_commit(commit)
            on_step(step, 0)
            if step.answer != wanted:
                what = {"good": "is good", "bad": "is bad", "skip": "cannot be tried"}[step.answer]
                lacking = step.answer == "skip" and runs_pytest(bisection.question.words)
                raise DevkitError(
                    f"{commit[:10]}, given as {wanted}, {what}",
                    step.reason or "There is nothing to search between them.",
                    *(["--test FILE::TEST   asks all commits as the bad one has the test"] if lacking else []),
                )
    search = Search(bad, [good])

    def test(commit: str) -> Bisected:
        step = bisection.try_commit(commit)
        on_step(step, len(bisection.candidates(search)))
        return step

    found: Sequence[str] = search_to_the_end(search, bisection.candidates, test)
    named = {word: bisection.subject(word) for word in [*found, *(step.commit for step in search.steps)]}
    return Found(tuple(found), tuple(search.steps), named, str(bisection.trial.side("request")))
