"""What the two sides' outcomes say: a word for each test, a verdict for the request, and one sentence why.

Base is the code that the request starts from with the request's tests laid over it; request is the request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from devkit.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

State = Literal[
    "passed", "failed", "error", "skipped", "time", "killed", "cut", "refused", "missing", "absent", "flaky", "none",
    "not built",
]  # fmt: skip
Word = Literal["fixed", "new", "broken", "still failing", "still passing", "flaky", "not run"]
Kind = Literal["good", "bad", "undecided"]

MISSING = re.compile(r"No module named '?([\w.]+)'?")
MISSING_NAME = re.compile(r"cannot import name '(\w+)' from (?:partially initialized module )?'([\w.]+)'")
GPU = re.compile(r"\b(?:cuda|gpu|cudnn|nccl|rocm|xpu)\b", re.IGNORECASE)
# What this machine lacks: a test that fails on both sides with such words says nothing of either.
NO_GPU = re.compile(
    r"not compiled with (?:\w+ )?(?:cuda|gpu|nccl|rocm|xpu)|no cuda-capable|cuda driver|nvidia driver|libcuda\."
    r"|cannot use (?:cuda|gpu)|(?:without|compiled without) (?:cuda|gpu)|no gpu|nccl",
    re.IGNORECASE,
)
NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Network is unreachable|No route to host|Max retries exceeded"
    r"|getaddrinfo failed|Tunnel connection failed|Cannot connect to proxy|Connection timed out|ConnectTimeout"
    r"|urlopen error timed out"
)
NO_TERMINAL = re.compile(r"Inappropriate ioctl for device|'/dev/tty'|EOF when reading a line|not a (?:tty|terminal)")
NEEDS_GPU = "needs a GPU"
LACKING = ((NO_GPU, NEEDS_GPU), (NO_NETWORK, "needs the network"), (NO_TERMINAL, "needs a terminal"))
FIXTURE = re.compile(r"fixture '(\w+)' not found")
# Fixtures of pytest's plugins, by the package that has them.
PLUGINS = {
    "mocker": "pytest-mock", "benchmark": "pytest-benchmark", "requests_mock": "requests-mock",
    "httpx_mock": "pytest-httpx", "freezer": "pytest-freezer", "httpserver": "pytest-httpserver",
    "subtests": "pytest-subtests", "datadir": "pytest-datadir", "event_loop": "pytest-asyncio",
}  # fmt: skip
NO_FILE = "which no file of the tree holds"
"""Of a module of the project's own: its build may make it."""
ASYNC = "async def functions are not natively supported"
NO_PYTHON = re.compile(r"\b(?:Syntax|Indentation|Tab)Error\b")
NAMED = 3


@dataclass(frozen=True)
class CaseOutcome:
    """How a test went on one side, over all its runs."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class FileRuns:
    """The runs of a test file on one side.

    Attributes:
        runs: of each run, test → outcome; the name ``""`` stands for the file as a whole, where it could not be loaded.
        seconds: what the first run took.
        log: where its output is.
        cut: why a run ended before all its tests had run.
    """

    runs: tuple[Mapping[str, CaseOutcome], ...]
    seconds: float = 0.0
    log: str = ""
    cut: str = ""


@dataclass(frozen=True)
class Judged:
    """A test's word, and what it comes from. JSON holds it as it is."""

    file: str
    test: str
    base: str
    request: str
    verdict: Word
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """What is said of a request."""

    kind: Kind
    reason: str
    tests: tuple[Judged, ...] = field(default=())


def merged(runs: Sequence[CaseOutcome]) -> CaseOutcome:
    """Return what several runs of one test come to: one state, or ``flaky`` where they differ."""
    reached = [run for run in runs if run.state != "cut"] or list(runs)
    states = {test_outcome.state for test_outcome in reached}
    if len(states) == 1:
        return reached[0]
    if states <= {"passed", "failed", "error", "time", "absent"} and "passed" in states:
        wrong = next(test_outcome for test_outcome in reached if test_outcome.state != "passed")
        bad = sum(test_outcome.state != "passed" for test_outcome in reached)
        return CaseOutcome("flaky", f"{bad} of {counted(len(reached), 'run')} failed: {wrong.reason}".rstrip(": "))
    return next(test_outcome for test_outcome in reached if test_outcome.state != "passed")


def outcomes(side: FileRuns) -> dict[str, CaseOutcome]:
    """Return test → what its runs come to."""
    names = dict.fromkeys(name for run in side.runs for name in run)
    absent = CaseOutcome("absent")
    return {name: merged([run.get(name) or run.get("") or absent for run in side.runs]) for name in names}


def judge_file(
    path: str, base: FileRuns, request: FileRuns, *, before: Collection[str], own: Collection[str], unbuilt: str = ""
) -> list[Judged]:
    """Return a word for each test of a file.

    Args:
        path: the file.
        base: its runs over the base.
        request: its runs over the request.
        before: the tests that the base's own version of the file defines, ``Class::`` for its classes.
        own: top-level modules of the project: what of them is missing is the request's affair.
        unbuilt: why the project's extension modules were not built, on either side; empty where they were.
    """
    there, here = outcomes(base), outcomes(request)
    names = [name for name in here if name] or [name for name in there if name]
    if request.cut:
        names = list(dict.fromkeys([*names, *filter(None, there)]))
    if not names:
        return [_unmade(_of_file(path, there.get(""), here.get(""), own), there, here, unbuilt)]
    found = []
    for name in names:
        one = there.get(name) or there.get("") or _unreached(base)
        two = here.get(name) or here.get("") or _unreached(request)
        found.append(_unmade(_judge(path, name, one, two, before=before, own=own), there, here, unbuilt))
    return found


def _unmade(
    judged: Judged, base: Mapping[str, CaseOutcome], request: Mapping[str, CaseOutcome], unbuilt: str
) -> Judged:
    """Return the word of a test; one that fails on both sides for want of one module of the project did not run."""
    if judged.verdict != "still failing":
        return judged
    sides = (side.get(judged.test) or side.get("") or CaseOutcome("absent") for side in (base, request))
    one, two = (_own_module(outcome.reason, names=bool(unbuilt)) for outcome in sides)
    if not one or one != two:
        return judged
    why = f"which was not built: {unbuilt}" if unbuilt else NO_FILE
    return replace(judged, verdict="not run", reason=f"missing module {one}, {why}")


def _own_module(reason: str, *, names: bool) -> str:
    """Return the module that an error names; ``names``: which may be what a package does not hold, too."""
    missing = MISSING.search(reason)
    name = MISSING_NAME.search(reason) if names else None
    return missing[1] if missing else f"{name[2]}.{name[1]}" if name else ""


def judge_changed(judged: Sequence[Judged], then: FileRuns, *, sure: bool) -> tuple[list[Judged], set[str], set[str]]:
    """Return the words of a test file that the request changes, where some tests fail or are skipped on both sides.

    The base runs with the request's tests, so that a test which the request spoils or skips does so there too. How the
    file went as the base has it tells such a test from one that failed, or was skipped, before.

    Args:
        judged: the words so far.
        then: the runs of the file as the base has it, over the base.
        sure: whether what passed then and fails now is broken; over a wheel that is not of the request it may lack
            compiled code, and is in doubt.

    Returns:
        The words, the tests that are in doubt, and those that the file did not have.
    """
    was = {name: outcome.state for name, outcome in outcomes(then).items()}
    found: list[Judged] = []
    lost: set[str] = set()
    new: set[str] = set()
    for one in judged:
        passed = [name for name, state in was.items() if name and state == "passed" and one.test in {name, ""}]
        if one.verdict == "still failing" and passed and sure:
            found += [replace(one, test=name, base="passed", verdict="broken") for name in passed]
            continue
        if is_skipped(one) and passed:
            found += [replace(one, test=name, base="passed") for name in passed]
            continue
        found.append(one)
        if one.verdict == "still failing" and passed:
            lost.add(one.test)
        elif one.verdict == "still failing" and one.test not in was and set(was) - {""}:
            new.add(one.test)
    return found, lost, new


def is_skipped(judged: Judged) -> bool:
    """Tell whether a test skips itself on both sides, and not for want of a device."""
    return judged.verdict == "not run" and judged.base == judged.request == "skipped" and judged.reason != NEEDS_GPU


def _unreached(side: FileRuns) -> CaseOutcome:
    return CaseOutcome("cut", f"not reached: {side.cut}") if side.cut else CaseOutcome("absent")


def _of_file(path: str, base: CaseOutcome | None, request: CaseOutcome | None, own: Collection[str]) -> Judged:
    nothing = CaseOutcome("none")
    one, two = base or nothing, request or nothing
    if two.state == "none":
        return Judged(path, "", one.state, two.state, "not run", "no test in it")
    return _judge(path, "", one, two, before={""}, own=own)


def could_not_run(outcome: CaseOutcome, own: Collection[str]) -> str:
    """Return why a test did not run; empty where it passed or failed."""
    if outcome.state in {"failed", "error"}:
        missing = MISSING.search(outcome.reason)
        if missing and missing[1].partition(".")[0] not in own:
            return f"missing module {missing[1]}"
        plugin = missing_plugin(outcome.reason)
        return f"missing plugin {plugin}" if plugin else ""
    if outcome.state == "skipped" and GPU.search(outcome.reason):
        return NEEDS_GPU
    said = {
        "skipped": f"skipped: {outcome.reason}".rstrip(": "),
        "killed": f"{outcome.reason}: out of memory, it may be",
        "none": "no test in it",
        "absent": "no test in it",
    }
    ran = outcome.state in {"passed", "flaky"}
    return "" if ran else said.get(outcome.state, outcome.reason or outcome.state)


def missing_module(outcome: CaseOutcome, own: Collection[str]) -> tuple[str, str]:
    """Return the module that a test missed, and the package of the plugin; empty where it missed none."""
    if not could_not_run(outcome, own).startswith("missing "):
        return "", ""
    missing = MISSING.search(outcome.reason)
    return ("", missing_plugin(outcome.reason)) if missing is None else (missing[1], "")


def missing_plugin(reason: str) -> str:
    """Return the package of the pytest plugin that a failure asks for; empty where it asks for none."""
    fixture = FIXTURE.search(reason)
    if fixture:
        return PLUGINS.get(fixture[1], "")
    return "pytest-asyncio" if ASYNC in reason else ""


def lacking(base: CaseOutcome, request: CaseOutcome) -> str:
    """Return what this machine lacks where a test fails for want of it on both sides; empty otherwise."""
    if {base.state, request.state} <= {"failed", "error"}:
        for pattern, what in LACKING:
            if pattern.search(base.reason) and pattern.search(request.reason):
                return what
    return ""


def existed(name: str, before: Collection[str]) -> bool:
    """Tell whether the base's own file has a test: itself, or its class where the method is inherited."""
    plain = name.partition("[")[0]
    if {name, plain} & set(before):
        return True
    owner, _, method = plain.partition("::")
    return bool(method) and f"{owner}::" in before and not any(word.endswith(f"::{method}") for word in before)


def _judge(
    path: str, name: str, base: CaseOutcome, request: CaseOutcome, *, before: Collection[str], own: Collection[str]
) -> Judged:
    why = could_not_run(request, own) or lacking(base, request)
    word: Word
    if why:
        word = "not run"
    elif "flaky" in {base.state, request.state}:
        word, why = "flaky", request.reason if request.state == "flaky" else f"on base, {base.reason}"
    elif request.state == "passed":
        unknown = could_not_run(base, own)
        if base.state == "passed":
            word = "still passing" if existed(name, before) else "new"
        elif base.state == "failed" and not unknown:
            word, why = "fixed", base.reason
        elif base.state in {"skipped", "none", "absent"}:
            word, why = "new", unknown
        else:
            word, why = ("fixed" if existed(name, before) else "new"), unknown or base.reason
    else:
        word = "broken" if base.state == "passed" else "still failing"
        why = request.reason
    return Judged(path, name, base.state, request.state, word, why)


def decide(
    tests: Sequence[Judged],
    *,
    built: Mapping[str, str],
    slower: Sequence[str] = (),
    added: Collection[tuple[str, str]] = (),
    doubtful: Collection[tuple[str, str]] = (),
) -> Verdict:
    """Return the verdict of a request.

    Args:
        tests: the word of each test.
        built: side (``base``, ``request``) → why it could not be built; empty where it was.
        slower: the benchmarks that became slower, as sentences.
        added: file and test of those that the request adds.
        doubtful: of those that it changes, and that passed before it did.
    """

    def of(word: Word) -> list[Judged]:
        return [test for test in tests if test.verdict == word]

    def verdict(kind: Kind, reason: str) -> Verdict:
        return Verdict(kind, reason, tuple(tests))

    if built.get("request"):
        if built.get("base"):
            return verdict("undecided", f"neither the base nor the request builds: {built['request']}")
        return verdict("bad", f"the request does not build: {built['request']}")
    if broken := of("broken"):
        return verdict("bad", f"{_say(broken, ' passed before and fails', ' passed before and fail')} with the request")
    # Where the base could not even load the test, both sides do not fail for one reason: the request's test fails.
    theirs = [judged for judged in of("still failing") if (judged.file, judged.test) in added]
    wrong = [
        their for their in theirs
        if their.base in {"error", "absent"} and (their.request == "failed" or NO_PYTHON.search(their.reason))
    ]  # fmt: skip
    if wrong:
        return verdict("bad", _say(wrong, ", which the request adds, fails", ", which the request adds, fail"))
    if slower:
        return verdict("bad", slower[0])
    kind, reason = _rest(tests, added, doubtful)
    return verdict(kind, f"{reason} (the base does not build: {built['base']})" if built.get("base") else reason)


def _undecided(
    tests: Sequence[Judged], added: Collection[tuple[str, str]], doubtful: Collection[tuple[str, str]]
) -> str:
    """Return why what would decide did not run, or said two things; empty where nothing is in doubt."""
    theirs = [test for test in tests if (test.file, test.test) in added]
    for word, one, more in (
        ("still failing", "fails on both sides", "fail on both sides"), ("flaky", "is flaky", "are flaky"),
        ("not run", "did not run", "did not run"),
    ):  # fmt: skip
        alike = [their for their in theirs if their.verdict == word]
        if alike:
            why = f": {alike[0].reason}" if word == "not run" else ""
            return f"{_say(alike, f', which the request adds, {one}', f', which the request adds, {more}')}{why}"
    spoilt = [test for test in tests if test.verdict == "still failing" and (test.file, test.test) in doubtful]
    if spoilt:
        return (
            f"{_say(spoilt, ', which the request changes, fails', ', which the request changes, fail')} on both sides"
        )
    lost = [test for test in tests if test.verdict == "not run" and test.base == "passed"]
    if lost:
        return f"{_named(lost)} passed before and did not run with the request: {lost[0].reason}"
    parted = [test for test in tests if test.verdict == "flaky" and test.base == "passed"]
    if parted:
        return f"{_say(parted, ' is', ' are')} flaky with the request: {parted[0].reason}"
    return ""


def _rest(
    tests: Sequence[Judged], added: Collection[tuple[str, str]], doubtful: Collection[tuple[str, str]]
) -> tuple[Kind, str]:
    """Return the verdict where nothing is broken."""
    if not tests:
        return "undecided", "no test concerns what the request changes"
    doubt = _undecided(tests, added, doubtful)
    if doubt:
        return "undecided", doubt
    good = [test for test in tests if test.verdict in {"fixed", "new", "still passing"}]
    fixed = [test for test in tests if test.verdict == "fixed"]
    new = [test for test in tests if test.verdict == "new"]
    flaky = [test for test in tests if test.verdict == "flaky"]
    failing = [test for test in tests if test.verdict == "still failing"]
    idle = [test for test in tests if test.verdict == "not run"]
    if not good:
        if flaky:
            return "undecided", f"{_say(flaky, ' is', ' are')} flaky: {flaky[0].reason}"
        if failing:
            return "undecided", f"{_say(failing, ' fails', ' fail')} on both sides"
        return "undecided", f"no test ran: {_named(idle)}: {idle[0].reason}"
    parts = [f"{counted(len(fixed), 'test')} fixed"] if fixed else []
    parts += [f"{counted(len(new), 'new test')} passing"] if new else []
    still = len(good) - len(fixed) - len(new)
    parts += [f"{still} still passing"] if still else []
    rest = [f"{len(failing)} fail on both sides"] if failing else []
    rest += [f"{len(flaky)} flaky on the base too"] if flaky else []
    rest += [f"{len(idle)} did not run"] if idle else []
    more = f" ({', '.join(rest)})" if rest else ""
    return "good", f"nothing broken: {', '.join(parts)}{more}"


def _say(tests: Sequence[Judged], one: str, more: str) -> str:
    """Return what some tests are called, with what is said of one, or of several."""
    return f"{_named(tests)}{one if len(tests) == 1 else more}"


def _named(tests: Sequence[Judged]) -> str:
    names = [test.test or test.file for test in tests[:NAMED]]
    more = f" and {len(tests) - NAMED} more" if len(tests) > NAMED else ""
    return f"{', '.join(names)}{more}"
