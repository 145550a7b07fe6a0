"""The word of a test and the verdict of a request, as pure functions of what ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.tryout.verdict import CaseOutcome, FileRuns, Judged, decide, judge_changed, judge_file, merged

if TYPE_CHECKING:
    from devkit.tryout.verdict import State

PASSED, FAILED = CaseOutcome("passed"), CaseOutcome("failed", "AssertionError: 1 != 2")
IMPORT = CaseOutcome("error", "ImportError: cannot import name 'more' from 'ledger'")


def words(base: CaseOutcome, request: CaseOutcome, *, before: set[str] | None = None) -> tuple[str, str]:
    (found,) = judge_file(
        "test_a.py",
        FileRuns(({"test_a": base} if base.state != "error" else {"": base},)),
        FileRuns(({"test_a": request},)),
        before={"test_a"} if before is None else before,
        own={"ledger"},
    )
    return found.verdict, found.reason


@pytest.mark.parametrize(
    ("base", "request_", "word"),
    [
        (FAILED, PASSED, "fixed"),
        (PASSED, PASSED, "still passing"),
        (PASSED, FAILED, "broken"),
        (FAILED, FAILED, "still failing"),
        (IMPORT, PASSED, "fixed"),
        (CaseOutcome("flaky", "1 of 3 runs failed"), PASSED, "flaky"),
        (PASSED, CaseOutcome("flaky", "1 of 3 runs failed"), "flaky"),
    ],
)
def test_the_word_of_a_test_that_was_there(base: CaseOutcome, request_: CaseOutcome, word: str) -> None:
    assert words(base, request_)[0] == word


@pytest.mark.parametrize(
    ("said", "unbuilt", "told"),
    [
        (
            "No module named 'ledger._fast'",
            "no compiler",
            "missing module ledger._fast, which was not built: no compiler",
        ),
        ("No module named 'ledger._fast'", "", "missing module ledger._fast, which no file of the tree holds"),
        ("cannot import name '_fast' from 'ledger' (x.py)", "y", "missing module ledger._fast, which was not built: y"),
        ("cannot import name '_fast' from 'ledger' (x.py)", "", ""),
    ],
)
def test_a_module_that_no_build_made_on_either_side_decides_nothing(said: str, unbuilt: str, told: str) -> None:
    def judged(base: str) -> Judged:
        sides = [FileRuns(({"": CaseOutcome("error", reason)},)) for reason in (base, said)]
        return judge_file("test_a.py", *sides, before=set(), own={"ledger"}, unbuilt=unbuilt)[0]

    one = judged(said)
    assert (one.verdict, one.reason) == (("not run", told) if told else ("still failing", said))
    assert judged("No module named 'ledger._other'").verdict == "still failing"


@pytest.mark.parametrize(("base", "word"), [(FAILED, "fixed"), (PASSED, "new"), (IMPORT, "new")])
def test_the_word_of_a_test_that_the_request_adds(base: CaseOutcome, word: str) -> None:
    assert words(base, PASSED, before=set())[0] == word


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        ("failed", "ModuleNotFoundError: No module named 'torch'", "missing module torch"),
        ("skipped", "this test needs CUDA", "needs a GPU"),
        ("skipped", "not on Tuesdays", "skipped: not on Tuesdays"),
        ("time", "time: not done after 3 s", "time: not done after 3 s"),
        ("none", "", "no test in it"),
        ("killed", "the process was ended by SIGKILL", "the process was ended by SIGKILL: out of memory, it may be"),
        ("refused", "pytest could not start: bad option", "pytest could not start: bad option"),
        ("cut", "not reached: the process was ended by SIGSEGV", "not reached: the process was ended by SIGSEGV"),
        ("failed", "fixture 'mocker' not found", "missing plugin pytest-mock"),
        ("failed", "async def functions are not natively supported.", "missing plugin pytest-asyncio"),
    ],
)
def test_what_did_not_run_says_why(state: State, reason: str, told: str) -> None:
    assert words(PASSED, CaseOutcome(state, reason)) == ("not run", told)


def test_a_module_of_the_project_that_is_missing_is_a_failure() -> None:
    wrong = CaseOutcome("failed", "ModuleNotFoundError: No module named 'ledger.money'")
    assert words(PASSED, wrong)[0] == "broken"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("RuntimeError: PaddlePaddle is not compiled with CUDA", "needs a GPU"),
        ("ValueError: Cannot use GPU because you have installed CPU version", "needs a GPU"),
        ("URLError: <urlopen error [Errno -3] Temporary failure in name resolution>", "needs the network"),
        ("TimeoutError: [Errno 110] Connection timed out", "needs the network"),
        ("OSError: [Errno 25] Inappropriate ioctl for device", "needs a terminal"),
        ("EOFError: EOF when reading a line", "needs a terminal"),
    ],
)
def test_what_the_machine_lacks_on_both_sides_is_not_run_and_on_one_it_is_broken(reason: str, told: str) -> None:
    lacks = CaseOutcome("failed", reason)
    assert words(lacks, lacks) == ("not run", told)
    assert words(PASSED, lacks) == ("broken", reason)


@pytest.mark.parametrize(
    ("state", "word"), [("time", "fixed"), ("killed", "fixed"), ("not built", "fixed"), ("skipped", "new")]
)
def test_what_did_not_run_before_and_passes_now(state: State, word: str) -> None:
    assert words(CaseOutcome(state, "why"), PASSED)[0] == word


def test_tests_that_a_crash_kept_from_running_are_not_lost() -> None:
    base = FileRuns(({"test_a": PASSED, "test_b": PASSED},))
    request = FileRuns(({"test_a": CaseOutcome("failed", "was ended by SIGSEGV")},), cut="was ended by SIGSEGV")
    found = judge_file("t.py", base, request, before={"test_a", "test_b"}, own=())
    assert [(judged.test, judged.verdict) for judged in found] == [("test_a", "broken"), ("test_b", "not run")]
    whole = FileRuns(({"test_a": PASSED},))
    assert [judged.test for judged in judge_file("t.py", base, whole, before=(), own=())] == ["test_a"]


def test_a_file_that_ran_no_test_is_not_run() -> None:
    (found,) = judge_file("test_a.py", FileRuns(({},)), FileRuns(({},)), before=(), own=())
    assert (found.test, found.verdict, found.reason) == ("", "not run", "no test in it")


def test_runs_that_differ_are_flaky_and_a_crash_beside_failures_is_none() -> None:
    assert merged([PASSED, FAILED, PASSED]).state == "flaky"
    assert merged([FAILED, CaseOutcome("error", "was ended by SIGSEGV")]).state == "failed"


def test_an_inherited_test_was_there_where_its_class_was() -> None:
    run = FileRuns(({"TestOp::test_grad": PASSED},))
    assert judge_file("t.py", run, run, before={"TestOp::"}, own=())[0].verdict == "still passing"
    assert judge_file("t.py", run, run, before={"Other::"}, own=())[0].verdict == "new"


def of(word: str, *, base: str = "passed", request: str = "passed", name: str = "test_a") -> Judged:
    return Judged("t.py", name, base, request, word, "why")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tests", "kind", "reason"),
    [
        ([of("fixed"), of("still passing")], "good", "nothing broken: 1 test fixed, 1 still passing"),
        ([of("fixed"), of("broken")], "bad", "test_a passed before and fails with the request"),
        ([of("still failing"), of("still passing")], "good", "nothing broken: 1 still passing (1 fail on both sides)"),
        ([of("still failing")], "undecided", "test_a fails on both sides"),
        ([of("not run", base="none")], "undecided", "no test ran: test_a: why"),
        ([of("not run"), of("fixed")], "undecided", "test_a passed before and did not run with the request: why"),
        ([of("flaky"), of("fixed")], "undecided", "test_a is flaky with the request: why"),
        ([of("flaky", base="flaky")], "undecided", "test_a is flaky: why"),
        (
            [of("flaky", base="flaky"), of("still passing")],
            "good",
            "nothing broken: 1 still passing (1 flaky on the base too)",
        ),
        ([], "undecided", "no test concerns what the request changes"),
    ],
)
def test_the_verdict(tests: list[Judged], kind: str, reason: str) -> None:
    said = decide(tests, built={})
    assert (said.kind, said.reason) == (kind, reason)


def test_every_test_that_the_request_adds_must_pass() -> None:
    added = {("t.py", "test_a")}
    assert decide([of("not run"), of("fixed", name="b")], built={}, added=added).kind == "undecided"
    assert decide([of("still failing", base="failed", request="failed")], built={}, added=added).kind == "undecided"
    said = decide([of("still failing", base="error", request="failed")], built={}, added=added)
    assert (said.kind, said.reason) == ("bad", "test_a, which the request adds, fails")


def test_a_request_that_alone_does_not_build_is_bad() -> None:
    assert decide([], built={"request": "money.c:3: error: x"}).reason == (
        "the request does not build: money.c:3: error: x"
    )
    assert decide([], built={"request": "no compiler", "base": "no compiler"}).kind == "undecided"
    assert decide([of("fixed")], built={"base": "no compiler"}).reason == (
        "nothing broken: 1 test fixed (the base does not build: no compiler)"
    )


def test_a_slower_benchmark_is_bad() -> None:
    assert decide([of("still passing")], built={}, slower=["b takes 2 times as long"]).kind == "bad"


def test_a_changed_test_that_fails_on_both_sides_is_told_from_how_it_was() -> None:
    def failing(name: str) -> Judged:
        return Judged("test_a.py", name, "failed", "failed", "still failing", "AssertionError")

    judged = [failing("test_spoilt"), failing("test_before"), failing("test_more[2]")]
    then = FileRuns(({"test_spoilt": PASSED, "test_before": FAILED, "test_more[1]": PASSED},))
    found, lost, new = judge_changed(judged, then, sure=True)
    assert [(one.test, one.base, one.verdict) for one in found] == [
        ("test_spoilt", "passed", "broken"), ("test_before", "failed", "still failing"),
        ("test_more[2]", "failed", "still failing"),
    ]  # fmt: skip
    assert (lost, new) == (set(), {"test_more[2]"})
    found, lost, new = judge_changed(judged, then, sure=False)
    assert (found, lost, new) == (judged, {"test_spoilt"}, {"test_more[2]"})
    told = decide(found, built={}, doubtful={("test_a.py", name) for name in lost})
    assert (told.kind, told.reason) == ("undecided", "test_spoilt, which the request changes, fails on both sides")


def test_a_changed_file_that_cannot_be_loaded_any_more_breaks_what_passed_in_it() -> None:
    whole = Judged("test_a.py", "", "error", "error", "still failing", "SyntaxError: invalid syntax")
    found, _, _ = judge_changed([whole], FileRuns(({"test_a": PASSED, "test_b": FAILED},)), sure=True)
    assert [(one.test, one.verdict) for one in found] == [("test_a", "broken")]
    assert judge_changed([whole], FileRuns(({"": IMPORT},)), sure=True) == ([whole], set(), set())
    added = decide([whole], built={}, added={("test_a.py", "")})
    assert (added.kind, added.reason) == ("bad", "test_a.py, which the request adds, fails")
