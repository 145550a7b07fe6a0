"""Benchmarks of both sides, interleaved: base, request, base, request, …, and a verdict by the quartiles."""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.bench.statistics import summarize
from devkit.errors import DevkitError
from devkit.process import TimedOut
from devkit.text import duration, significant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devkit.app import App
    from devkit.console import Progress
    from devkit.tryout.running import Side

ROUNDS = 7
LEAST = 0.05
FOLDERS = frozenset({"bench", "benchmark", "benchmarks"})
FILE = re.compile(r"(?:^|/)(?:bench(?:mark)?_[^/]*|[^/]*_bench(?:mark)?)\.py$")


@dataclass(frozen=True)
class Timing:
    """A benchmark's times on both sides, in seconds, and what they say: ``slower``, ``faster``, ``same`` or ``failed``.

    A side is slower where the middle halves of the samples do not overlap and the medians differ by 5 % or more.
    """

    name: str
    base_s: tuple[float, ...]
    request_s: tuple[float, ...]
    verdict: str
    ratio: float = 0.0
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What a person reads."""
        base, request = summarize(self.base_s).median, summarize(self.request_s).median
        times = f"{duration(base)} before, {duration(request)} with the request"
        return f"{self.name} takes {significant(self.ratio)} times as long: {times}"


def is_benchmark(path: str) -> bool:
    """Tell whether a Python file is a benchmark that runs itself."""
    return path.endswith(".py") and (bool(FILE.search(path)) or bool(FOLDERS & set(path.split("/")[:-1])))


def judge(name: str, base: Sequence[float], request: Sequence[float]) -> Timing:
    """Return what two samples say."""
    one, two = summarize(base), summarize(request)
    ratio = two.median / one.median if one.median else 0.0
    if two.q1 > one.q3 and ratio >= 1 + LEAST:
        word = "slower"
    elif two.q3 < one.q1 and ratio <= 1 / (1 + LEAST):
        word = "faster"
    else:
        word = "same"
    return Timing(name, tuple(base), tuple(request), word, round(ratio, 4))


def times_of(text: str, seconds: float, name: str) -> dict[str, float]:
    """Return the times of one run: those that it prints as JSON lines with ``name`` and ``time_ms``, else its own."""
    found = {}
    for row in text.splitlines():
        try:
            result: Any = json.loads(row)
        except ValueError:
            continue
        if isinstance(result, dict) and isinstance(result.get("time_ms"), int | float) and "name" in result:
            found[f"{name}: {result['name']}"] = float(result["time_ms"]) / 1e3
    return found or {name: seconds}


def run(
    app: App, sides: Sequence[Side], commands: Mapping[str, str], python: str, *, limit_s: float, rounds: int = ROUNDS
) -> list[Timing]:
    """Run benchmarks on both sides in turn and return what they say.

    Args:
        app: whose runner starts them.
        sides: the base and the request.
        commands: name → the line, ``python`` in it being the environment's.
        python: the environment's.
        limit_s: for one run.
        rounds: how often each side runs, after one run that does not count.
    """
    found = []
    for name, text in commands.items():
        words = shlex.split(text)
        argv = [python, *words[1:]] if words[:1] == ["python"] else words
        try:
            with app.console.progress(f"measuring {name}", total=2 * (rounds + 1)) as progress:
                samples = _sample(app, sides, argv, name, progress, limit_s=limit_s, rounds=rounds)
        except DevkitError as error:
            said = "" if isinstance(error, TimedOut) or not error.why else f": {error.why.splitlines()[-1]}"
            found.append(Timing(name, (), (), "failed", reason=f"{error.what}{said}"))
            continue
        found += [judge(one, by["base"], by["request"]) for one, by in samples.items() if len(by) == len(sides)]
    return found


def _sample(
    app: App, sides: Sequence[Side], argv: Sequence[str], name: str, progress: Progress, *, limit_s: float, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Run a benchmark on both sides in turn and return benchmark → side → seconds.

    Raises:
        DevkitError: a run failed, or took too long.
    """
    samples: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        for place, side in enumerate(sides if number % 2 == 0 else tuple(reversed(sides))):
            progress.update(done=2 * number + place)
            begin = time.monotonic()
            try:
                done = app.runner.run(argv, cwd=side.folder, env=side.environ, timeout_s=limit_s)
            except DevkitError as error:
                error.what = f"{side.name}: {error.what}"
                raise
            taken = times_of(done.text, time.monotonic() - begin, name)
            for benchmark, seconds in taken.items() if number else ():
                samples.setdefault(benchmark, {}).setdefault(side.name, []).append(seconds)
    return samples
