"""devkit pr try on a real repository with pull refs: each verdict, and the checkout byte for byte as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.pr.ledger import BASE, MONEY, TEST_MONEY, Ledger, everything, start, words
from tests.commands.pr.random_clones import fork_devkit

FLAKY = """import pathlib
import unittest


class Flaky(unittest.TestCase):
    def test_every_second_time(self):
        count = pathlib.Path(__file__).with_suffix(".count")
        number = int(count.read_text()) if count.exists() else 0
        count.write_text(str(number + 1))
        self.assertEqual(number % 2, 0)


if __name__ == "__main__":
    unittest.main()
"""


def test_a_request_that_fixes_is_good_and_the_clone_is_byte_for_byte_as_it_was(ledger: Ledger) -> None:
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("/ len(values)", "/ len(values) if values else 0"))
    (ledger.clone / "ledger" / "words.py").write_text("mine\n")
    (ledger.clone / "staged.txt").write_text("staged\n")
    ledger.git("add", "staged.txt", cwd=ledger.clone)
    (ledger.clone / "loose.txt").write_text("loose\n")
    ledger.git("-c", "user.name=T", "-c", "user.email=t@example.com", "stash", "push", "-q", "--", "staged.txt",
               cwd=ledger.clone)  # fmt: skip
    before = everything(ledger.clone)
    status, found = ledger.tried("1")
    assert everything(ledger.clone) == before
    assert (status, found["verdict"]) == (0, "good")
    assert found["reason"] == "nothing broken: 1 test fixed, 1 still passing"
    assert words(found) == {"Money::test_mean_of_nothing": "fixed", "Money::test_total": "still passing"}
    assert found["coverage"]["changed"] == found["coverage"]["covered"] == 1
    assert {"number", "overlay", "bench", "folder", "environment", "fetch", "test"} <= set(found)
    assert found["test"]["tests"][0]["passed"] is True


def test_a_second_try_shows_the_first_one_and_says_so_until_the_author_pushes(ledger: Ledger) -> None:
    ledger.request(1, tests__test_money_DOT_py=TEST_MONEY, ledger__words_DOT_py="def join(words):\n    return ''\n")
    _, first = ledger.tried("1", "--repeat", "2")
    _, second = ledger.tried("1", "--repeat", "2")
    assert second["tests"] == first["tests"]
    assert "nothing changed since the last trial; --again runs the tests anew" in second["notes"]
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("a + b", "a - b"))
    assert ledger.tried("1", "--repeat", "2")[1]["verdict"] == "bad"


def test_a_request_that_breaks_is_bad(ledger: Ledger) -> None:
    ledger.request(2, ledger__money_DOT_py=MONEY.replace("a + b", "a - b"))
    status, found = ledger.tried("2")
    assert (status, found["verdict"]) == (4, "bad")
    assert found["reason"] == "Money::test_total passed before and fails with the request"
    status, text = ledger.say("2", "--markdown")
    assert status == 4
    assert "### ❌ bad: Money::test\\_total passed before" in text
    assert "| `tests/test_money.py` `Money::test_total` | passed | failed | **broken**: AssertionError" in text


@pytest.mark.slow
def test_a_request_that_slows_is_bad_where_it_is_measured(ledger: Ledger) -> None:
    slow = MONEY.replace("    result = 0", "    result = 0 * sum(sum(values) for _ in range(300))")
    ledger.request(3, ledger__money_DOT_py=slow)
    assert ledger.tried("3")[1]["verdict"] == "good"
    status, found = ledger.tried("3", "--bench")
    assert (status, found["verdict"]) == (4, "bad")
    assert found["reason"].startswith("benchmarks/bench_total.py takes ")
    assert [timing["verdict"] for timing in found["bench"]] == ["slower"]


def test_a_flaky_test_decides_nothing(ledger: Ledger) -> None:
    ledger.request(4, tests__test_flaky_DOT_py=FLAKY)
    status, found = ledger.tried("4", "--repeat", "3")
    assert (status, found["verdict"]) == (1, "undecided")
    assert words(found) == {"Flaky::test_every_second_time": "flaky"}


def test_a_request_that_does_not_build_is_bad(tmp_path: Path) -> None:
    build = "[try]\nbuild = 'make -s'\n"
    makefile = "money.o: money.c\n\t$(CC) -c money.c\n"
    ledger = start(tmp_path, {**BASE, "devkit.toml": build, "Makefile": makefile, "money.c": "int add(int a);\n"})
    ledger.request(5, money_DOT_c="int add(int a) { return b; }\n")
    status, found = ledger.tried("5")
    assert (status, found["verdict"]) == (4, "bad")
    assert found["reason"].startswith("the request does not build: money.c:1:")
    assert "error:" in found["reason"]


def test_what_no_test_concerns_is_undecided(ledger: Ledger) -> None:
    ledger.request(6, ledger__words_DOT_py="def join(words):\n    return ''\n")
    status, found = ledger.tried("6")
    assert (status, found["verdict"], found["tests"]) == (1, "undecided", [])
    assert found["reason"] == "no test concerns what the request changes"


def test_a_missing_module_and_a_file_without_tests_are_not_run(ledger: Ledger) -> None:
    ledger.request(7, tests__test_lacks_DOT_py="import module_of_nobody\n\n\ndef test_it():\n    pass\n")
    status, found = ledger.tried("7")
    assert (status, found["verdict"]) == (1, "undecided")
    assert found["tests"][0]["reason"] == "missing module module_of_nobody"
    ledger.request(8, tests__test_empty_DOT_py="import unittest\n\nif __name__ == '__main__':\n    unittest.main()\n")
    status, found = ledger.tried("8")
    assert (status, [test["reason"] for test in found["tests"]]) == (1, ["no test in it"])


def test_a_file_in_pytest_style_is_run_by_pytest_and_a_new_test_is_new(ledger: Ledger) -> None:
    style = "from ledger.money import add\n\n\ndef test_add():\n    assert add(1, 1) == 2\n"
    ledger.request(9, tests__test_style_DOT_py=style)
    status, found = ledger.tried("9")
    assert (status, words(found)) == (0, {"test_add": "new"})


def test_what_is_for_people_alone_runs_nothing_and_makes_no_environment(ledger: Ledger, home: Path) -> None:
    ledger.request(1, README_DOT_md="# Ledger\n", ledger__money_DOT_py=MONEY.replace("def add", "# sums\ndef add"))
    status, found = ledger.tried("1", env="")
    assert (status, found["verdict"]) == (1, "undecided")
    assert found["reason"] == "it changes only documentation, comments and docstrings: there is nothing to run"
    assert not list(home.rglob("try-1"))


def test_renamed_and_removed_tests_and_helpers_beside_them(ledger: Ledger) -> None:
    ledger.git("checkout", "-q", "-B", "request", "develop")
    ledger.git("mv", "tests/test_money.py", "tests/test_sums.py")
    ledger.write({"tests/test_helpers.py": "def three():\n    return 3\n"})
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", "rename")
    ledger.git("update-ref", "refs/pull/1/head", "HEAD")
    ledger.git("checkout", "-q", "develop")
    status, found = ledger.tried("1")
    assert (status, found["verdict"]) == (0, "good"), found
    assert words(found) == {
        "Money::test_mean_of_nothing": "still failing", "Money::test_total": "still passing",
        "tests/test_helpers.py": "not run",
    }  # fmt: skip
    assert not any("removes" in note for note in found["notes"])
    lines = TEST_MONEY.split("    def test_mean", maxsplit=1)[0]
    ledger.request(2, tests__test_money_DOT_py=lines, ledger__money_DOT_py=f"{MONEY}\n\nMORE = 1\n")
    notes = ledger.tried("2")[1]["notes"]
    assert "the request removes Money::test_mean_of_nothing of tests/test_money.py" in notes


def test_a_request_that_conflicts_with_the_base_branch_says_so_and_is_tried_where_it_began(ledger: Ledger) -> None:
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("/ len(values)", "/ len(values) if values else 0"))
    ledger.write({"ledger/money.py": MONEY.replace("/ len(values)", "/ max(len(values), 1)")})
    ledger.git("commit", "-q", "-a", "-m", "the same elsewhere")
    status, found = ledger.tried("1")
    assert (status, found["verdict"]) == (0, "good")
    told = tuple(map(int, ledger.git("version").split()[2].split(".")[:2])) >= (2, 38)  # merge-tree --write-tree
    assert found["notes"] == ["it conflicts with the base branch as it is now, in ledger/money.py"][:told]


def test_a_file_that_a_module_reads_leads_to_the_modules_tests(tmp_path: Path) -> None:
    rates = (
        "import json\nfrom pathlib import Path\n\nPLACE = Path(__file__).with_name('rates.json')\n"
        "RATES = json.loads(PLACE.read_text())\n"
    )
    test = "from ledger.rates import RATES\n\n\ndef test_euro():\n    assert RATES['euro'] == 1\n"
    files = {"ledger/rates.json": '{"euro": 1}\n', "ledger/rates.py": rates, "tests/test_rates.py": test}
    ledger = start(tmp_path, {**BASE, **files})
    ledger.request(1, ledger__rates_DOT_json='{"euro": 2}\n')
    _, found = ledger.tried("1")
    assert (found["verdict"], words(found)) == ("bad", {"test_euro": "broken"})


def test_fixtures_and_files_that_tests_read_lead_to_the_tests(tmp_path: Path) -> None:
    reads = "import pathlib\n\n\ndef test_rates():\n    assert pathlib.Path('ledger/rates.json').read_text() == '1'\n"
    files = {
        **BASE,
        "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef amount():\n    return 3\n",
        "tests/test_amount.py": "def test_amount(amount):\n    assert amount == 3\n",
        "tests/test_rates.py": reads,
        "ledger/rates.json": "1",
    }
    ledger = start(tmp_path, files)
    ledger.request(1, tests__conftest_DOT_py=files["tests/conftest.py"].replace("3", "4"), ledger__rates_DOT_json="2")
    status, found = ledger.tried("1")
    assert {file["file"]: file["name"] for file in found["chosen"]} == {
        "tests/test_amount.py": "amount", "tests/test_rates.py": "rates.json"
    }  # fmt: skip
    assert (status, words(found)) == (4, {"test_amount": "broken", "test_rates": "broken"})


def test_an_environment_that_is_used_as_it_is_and_lacks_a_module_is_told_by_its_line(ledger: Ledger) -> None:
    (ledger.clone / "devkit.toml").write_text("[try]\n")
    text = "import hypothesis_of_nobody, prettytable\n\n\ndef test_it():\n    pass\n"
    ledger.request(1, tests__test_lacks_DOT_py=text.replace("hypothesis_of_nobody, ", ""))
    status, found = ledger.tried("1")
    assert (status, found["verdict"]) == (1, "undecided")
    line = f"devkit env install {sys.prefix} prettytable"
    assert f"the tests lack prettytable, and {sys.prefix} is used as it is: {line}" in found["notes"]


def test_no_environment_is_a_phase_that_failed_and_not_a_verdict(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(ledger.clone / "ledger" / "money.py"))
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("a + b", "a - b"))
    status, found = ledger.tried("1", env="")
    assert (status, found["verdict"]) == (1, "undecided")
    assert found["reason"].startswith("nothing could be run: ")
    assert {test["verdict"] for test in found["tests"]} == {"not run"}


def test_the_projects_own_line_runs_a_test(tmp_path: Path) -> None:
    files = {**BASE, "devkit.toml": "[try]\ntest = 'python -m pytest -q {file} --junitxml={report}'\n"}
    ledger = start(tmp_path, files)
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("/ len(values)", "/ len(values) if values else 0"))
    status, found = ledger.tried("1")
    assert (status, words(found)) == (0, {"Money::test_mean_of_nothing": "fixed", "Money::test_total": "still passing"})
    (tmp_path / "forge" / "devkit.toml").write_text("[try]\ntest = 'python -m unittest {file}'\n")
    ledger.git("commit", "-q", "-a", "-m", "another line")
    ledger.request(2, tests__test_none_DOT_py="import unittest\n\nunittest\n# __main__\n")
    status, found = ledger.tried("2")
    assert (status, [test["reason"] for test in found["tests"]]) == (1, ["no test in it"])
    (tmp_path / "forge" / "devkit.toml").write_text("[try]\ntest = 'runner-of-nobody {file}'\n")
    ledger.git("commit", "-q", "-a", "-m", "a program that is not there")
    ledger.request(3, ledger__money_DOT_py=MONEY.replace("a + b", "a - b"))
    status, found = ledger.tried("3")
    assert (status, [test["verdict"] for test in found["tests"]]) == (1, ["not run"])


CTEST = {
    "devkit.toml": "[try]\nbuild = 'sh build.sh'\nctest = 'out'\n",
    "build.sh": "set -e\n[ ! -f broken ] || { echo 'money.c:1: error: broken'; exit 1; }\n"
    "mkdir -p out\ncp CTestTestfile.cmake out/\n",
    ".gitignore": "out\n",
    "CTestTestfile.cmake": 'add_test(sum "sh" "-c" "test $((1 + 1)) -eq 3")\nadd_test(same "true")\n',
}


def test_tests_that_ctest_knows(tmp_path: Path) -> None:
    ledger = start(tmp_path, CTEST)
    right = CTEST["CTestTestfile.cmake"].replace("-eq 3", "-eq 2")
    more = 'add_test(new "true")\nadd_test(gone "./not-built")\n'
    ledger.request(1, CTestTestfile_DOT_cmake=right)
    status, found = ledger.tried("1")
    assert (status, words(found)) == (0, {"sum": "fixed", "same": "still passing"}), found
    ledger.request(2, CTestTestfile_DOT_cmake=right + more)
    status, found = ledger.tried("2")
    assert (status, words(found)) == (
        1, {"sum": "fixed", "same": "still passing", "new": "new", "gone": "not run"}
    )  # fmt: skip
    assert found["reason"] == "gone, which the request adds, did not run: ctest found no program to run"


def test_a_base_that_does_not_build_and_a_request_that_does(tmp_path: Path) -> None:
    ledger = start(tmp_path, {**CTEST, "broken": "\n"})
    ledger.git("checkout", "-q", "-B", "request", "develop")
    ledger.git("rm", "-q", "broken")
    ledger.git("commit", "-q", "-m", "build again")
    ledger.git("update-ref", "refs/pull/1/head", "HEAD")
    ledger.git("checkout", "-q", "develop")
    status, found = ledger.tried("1")
    assert (status, found["verdict"]) == (0, "good"), found
    assert found["reason"].endswith("(the base does not build: money.c:1: error: broken)")
    assert words(found) == {"sum": "still failing", "same": "fixed"}


def test_a_huge_request_is_bounded_and_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKS_FIRST", "from devkit.tryout import concerned; concerned.MOST_OWN = 1")
    style = "from ledger.money import add\n\n\ndef test_add():\n    assert add(1, 1) == 2\n"
    ledger.request(1, **{f"tests__test_{name}_DOT_py": style for name in "abc"})
    status, found = ledger.tried("1", "--tests", "0")
    assert (status, found["verdict"]) == (1, "undecided")
    assert found["reason"].startswith("2 of 3 test files that the request changes were not run (--tests 3); nothing")
    assert found["not_chosen"] == ["tests/test_b.py", "tests/test_c.py"]


@pytest.mark.slow
def test_a_test_that_takes_too_long_is_not_run(ledger: Ledger) -> None:
    ledger.request(10, tests__test_slow_DOT_py="import time\n\n\ndef test_it():\n    time.sleep(60)\n")
    status, found = ledger.tried("10", "--timeout", "2")
    assert (status, found["tests"][0]["verdict"], found["tests"][0]["reason"]) == (
        1, "not run", "time: not done after 2 s"
    )  # fmt: skip


def test_more_concerned_files_than_asked_for_are_named(ledger: Ledger) -> None:
    files = {f"tests__test_money{number}_DOT_py": TEST_MONEY for number in range(3)}
    ledger.git("checkout", "-q", "develop")
    ledger.write({name.replace("__", "/").replace("_DOT_", "."): text for name, text in files.items()})
    ledger.git("add", "-A")
    ledger.git("commit", "-q", "-m", "more tests")
    ledger.request(11, ledger__money_DOT_py=MONEY.replace("/ len(values)", "/ len(values) if values else 0"))
    _, found = ledger.tried("11", "--tests", "1")
    assert [file["file"] for file in found["chosen"]] == ["tests/test_money.py"]
    assert found["not_chosen"] == [f"tests/test_money{number}.py" for number in range(3)]


@pytest.mark.both_ways("pr try")
def test_the_dry_run_is_the_plan_of_the_run_and_makes_nothing(ledger: Ledger, home: Path) -> None:
    ledger.request(1, NOTES_DOT_md="one\n")
    for _ in range(2):  # where nothing is there yet, and where all is
        before = {str(path) for path in home.rglob("*")}
        status, text = ledger.say("1", "--dry-run", "--again")
        assert status == 0
        assert {str(path) for path in home.rglob("*")} - before == set()
        _, said = ledger.say("1", "-v", "--again")
        printed = [row for row in text.splitlines() if row.startswith("git ")]
        ran = [row.strip().removeprefix("$ ") for row in said.splitlines()]
        assert len(printed) >= 3, printed
        assert [row for row in ran if row in printed] == printed, said
    assert "devkit env create try-1" in ledger.say("1", "--dry-run", env="")[1]


def test_the_dry_run_of_a_second_trial_ends_with_the_fetch_as_the_run_does(ledger: Ledger) -> None:
    def verbs(*flags: str) -> list[str]:
        lines = [row.strip().removeprefix("$ ") for row in ledger.say("1", *flags)[1].splitlines()]
        moving = {"init", "fetch", "worktree", "checkout"}
        return [
            next(iter(moving & set(row.split())), "")
            for row in lines
            if row.startswith("git ") and moving & set(row.split())
        ]

    ledger.request(1, NOTES_DOT_md="one\n")
    assert verbs("--dry-run") == ["init", "fetch", "worktree", "worktree"]
    ledger.say("1")
    assert verbs("--dry-run") == verbs("-v") == ["fetch"]
    assert verbs("--dry-run", "--again") == ["fetch", "checkout", "checkout"]
    ledger.request(1, NOTES_DOT_md="two\n")
    assert verbs("--dry-run") == ["fetch", "checkout", "checkout"]


@pytest.mark.parametrize(
    "line", ["77", "1 --base nowhere", "1 --remote nobody", "1 --wheel none.whl", "one", "1 --env nowhere"]
)
def test_a_dry_run_refuses_as_the_run_does(ledger: Ledger, line: str) -> None:
    ledger.request(1, NOTES_DOT_md="one\n")
    dry, real = (ledger.say(*line.split(), *flags, env="") for flags in (("--dry-run",), ()))
    assert dry[0] == real[0] != 0
    refusals = [[row for row in text.splitlines() if row.startswith(("✗", "  →"))] for _, text in (dry, real)]
    assert refusals[0] == refusals[1]
    assert refusals[0]


def test_a_command_in_place_of_the_tests_runs_in_the_request(ledger: Ledger) -> None:
    ledger.request(1, ledger__words_DOT_py="def join(words):\n    return 'tried'\n")
    code = "import ledger.words as w, os; print(w.join([]), os.getcwd()); raise SystemExit(3)"
    done = subprocess.run(
        [sys.executable, "-m", "devkit", "pr", "try", "1", "--env", sys.prefix, "--", "python", "-c", code],
        cwd=ledger.clone, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("tried ")
    assert done.stdout.strip().endswith("/1/request")


def test_a_clone_that_was_made_anew_at_the_same_place_lost_what_its_trials_borrowed(ledger: Ledger) -> None:
    ledger.request(1, ledger__words_DOT_py="x = 1\n")
    ledger.say("1")
    shutil.rmtree(ledger.clone)
    shutil.rmtree(ledger.folder / "forge")
    start(ledger.folder, {**BASE, "NEW.md": "another history\n"}).request(2, NOTES_DOT_md="one\n")
    status, text = ledger.say("2")
    assert "it changes only documentation" in text, text
    assert status == 1


@pytest.mark.engine
def test_each_user_of_a_shared_cache_has_trials_of_their_own(ledger: Ledger, home: Path) -> None:
    ledger.request(1, NOTES_DOT_md="one\n")
    first = ledger.say("1")
    for path in [home / ".cache", *(home / ".cache").rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    assert ledger.say("1", "--again")[0] == first[0] == 1
    assert len(list((home / ".cache" / "devkit" / "tryout").iterdir())) == 2


@pytest.mark.engine
def test_the_trial_goes_on_where_the_home_is_full(ledger: Ledger, full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(full))
    ledger.request(1, ledger__money_DOT_py=MONEY.replace("/ len(values)", "/ len(values) if values else 0"))
    words = ("pr", "try", "1", "--env", sys.prefix, "--repeat", "1")
    status, text = fork_devkit(words, ledger.clone, ledger.folder / "state", env={"XDG_STATE_HOME": str(full)})
    assert "no record of this run is kept" in text
    assert status == 0, text


def test_a_request_that_is_not_there_and_a_base_that_is_none(ledger: Ledger) -> None:
    status, text = ledger.say("77")
    assert status == 1
    assert "refs/pull/77/head was not found on origin" in text
    ledger.request(1, ledger__words_DOT_py="x = 1\n")
    status, text = ledger.say("1", "--base", "nowhere")
    assert status == 1
    assert "--base nowhere is not a commit of this clone" in text


def test_kept_work_trees_outlive_other_trials(ledger: Ledger) -> None:
    for number in range(1, 4):
        ledger.request(number, NOTES=f"{number}\n")
    _, kept = ledger.tried("1", "--keep")
    folder = Path(kept["folder"])
    (ledger.clone / "devkit.toml").write_text("[try]\nkeep = 1\n")
    other = Path(ledger.tried("2")[1]["folder"])
    ledger.tried("3")
    assert folder.is_dir()
    assert not other.exists()
