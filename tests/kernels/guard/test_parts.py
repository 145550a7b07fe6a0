"""The guard's decisions, without Paddle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devkit.kernels.guard.errors import explain, message, root
from devkit.kernels.guard.trend import MIB, MOST_APART, SETTLED, WINDOW, Cadence, Growth, lasting

REPOSITORY = Path(__file__).parent.parent.parent.parent


def grown(*used: float) -> float | None:
    growth = Growth()
    for value in used:
        growth.add(int(value * MIB))
    return growth.a_step


def test_memory_that_grows_each_step_is_seen_and_measured() -> None:
    slope = grown(*(300 + 2 * step for step in range(SETTLED + 5 * WINDOW)))

    assert slope == pytest.approx(2 * MIB, rel=0.05)
    assert lasting(1000 * MIB, 2 * MIB) == 500


def test_a_slow_leak_wants_more_steps() -> None:
    slow = [300 + 0.2 * step for step in range(200)]

    assert grown(*slow[: SETTLED + 6 * WINDOW]) is None
    assert grown(*slow) == pytest.approx(0.2 * MIB, rel=0.05)


@pytest.mark.parametrize(
    "used",
    [
        [300.0] * 200,
        [300 + 50 * (step % 7) for step in range(200)],  # comes and goes
        [300 + 100 * (step > 60) for step in range(200)],  # once: a second model, an evaluation
        [300 + 3 * min(step, 12) for step in range(200)],  # a cache that fills
        [300 + 0.001 * step for step in range(200)],  # a list of numbers
    ],
)
def test_memory_that_rests_is_no_leak(used: list[float]) -> None:
    assert all(grown(*used[:count]) is None for count in range(0, 200, 5))


@pytest.mark.parametrize(
    ("step_s", "cost_s", "every"),
    [(0.001, 0.0, MOST_APART), (0.2, 0.0, 8), (1.0, 0.0, 2), (9.0, 0.0, 1), (1.0, 0.5, 8)],
)
def test_ranks_are_compared_every_few_seconds_unless_that_takes_long(step_s: float, cost_s: float, every: int) -> None:
    cadence = Cadence()
    cadence.took(cost_s)
    due = [step for step in range(1, 129) if cadence.is_due(step, 1.0 + step * step_s)]

    assert cadence.every == every
    assert due[:10] == list(range(1, 11))
    assert due[10:] == [step for step in range(11, 129) if step % every == 0]


def fail(*, hidden: bool) -> None:
    try:
        dict[str, int]()["key"]
    except KeyError as cause:
        raise RuntimeError("outer") from (None if hidden else cause)


def test_an_exception_that_cannot_tell_its_text_is_named_all_the_same() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert explain(Silent(), "barrier").what == "Silent: <exception str() failed>"


def test_the_first_of_a_group_is_its_root() -> None:
    class Group(Exception):  # as ExceptionGroup of Python 3.11 has them
        exceptions = (ValueError("first"), OSError("second"))

    failure = explain(Group("many"), "")
    assert (failure.what, failure.via) == ("ValueError: first", "Group: many")


@pytest.mark.parametrize("lacks", ["pass", "del threading.__excepthook__"], ids=["today", "as Python 3.9"])
def test_a_thread_that_failed_is_told_and_the_script_goes_on(lacks: str, tmp_path: Path) -> None:
    script = tmp_path / "threads.py"
    script.write_text(
        "import threading\ndef load(): raise OSError('no such shard')\n"
        "threading.Thread(target=load, name='loader').start()\n"
    )
    guard = "runpy.run_module('devkit.kernels.guard', run_name='__main__', alter_sys=True)"
    words = [sys.executable, "-c", f"import runpy, threading; {lacks}; {guard}", str(script)]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0
    assert "Exception in thread loader:" in ended.stderr
    assert "guard: look: rank 0: a thread of the script has ended: OSError: no such shard" in ended.stderr
    assert f"guard:   loader, at {script}:2 in load" in ended.stderr


def test_a_thread_that_a_guard_has_stopped_has_not_failed(tmp_path: Path) -> None:
    script = tmp_path / "threads.py"
    script.write_text(
        "import threading\nfrom devkit.kernels.guard.report import Stopped\ndef train(): raise Stopped\n"
        "threading.Thread(target=train).start()\n"
    )
    words = [sys.executable, "-m", "devkit.kernels.guard", str(script)]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    assert "a thread of the script has ended" not in ended.stderr


def test_the_root_of_a_chain_is_told() -> None:
    with pytest.raises(RuntimeError) as raised:
        fail(hidden=False)
    failure = explain(raised.value, "")

    assert failure.what == "KeyError: 'key'"
    assert failure.via == "RuntimeError: outer"
    assert "test_parts.py" in failure.where
    assert not failure.waiting


def test_what_was_hidden_stays_so() -> None:
    with pytest.raises(RuntimeError) as raised:
        fail(hidden=True)
    assert root(raised.value) is raised.value


def test_only_a_collective_excuses_a_lost_connection() -> None:
    lost = RuntimeError("[gloo/transport] Connection closed by peer")

    assert explain(lost, "all_reduce").waiting
    assert not explain(lost, "").waiting
    assert not explain(ValueError("wrong dtype"), "all_reduce").waiting


def test_of_paddles_errors_the_summary_is_told() -> None:
    text = (
        "\n\n----\nC++ Traceback\n----\n0 phi::Matmul\n\n----------------------\nError Message Summary:\n"
        "----------------------\nInvalidArgumentError: Input(X) and Input(Y)\ndo not fit.\n"
        "  [Hint: Expected 5 == 8] (at x.cc:1)"
    )
    assert message(ValueError(text)) == "InvalidArgumentError: Input(X) and Input(Y) do not fit."


def run(folder: Path, source: str, *words: str) -> tuple[int, str, str, list[dict[str, object]]]:
    (folder / "script.py").write_text(source)
    read, write = os.pipe()
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "DEVKIT_EVENTS_FD": str(write),
        "DEVKIT_USER_PYTHONPATH": "",
    }
    argv = [sys.executable, "-m", "devkit.kernels.guard", "script.py", *words]
    ended = subprocess.run(
        argv, cwd=folder, env=environ, pass_fds=(write,), capture_output=True, text=True, timeout=60, check=False
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        events = [json.loads(line) for line in pipe]
    return ended.returncode, ended.stdout, ended.stderr, events


def test_a_script_runs_as_python_would_run_it(tmp_path: Path) -> None:
    source = (
        "import multiprocessing, os, sys\n"
        "def twice(x): return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv, __file__ == os.path.abspath('script.py'), sys.path[0] == os.getcwd(),"
        " 'DEVKIT_EVENTS_FD' in os.environ)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(twice, [1, 2]))\n"
    )
    status, out, _, events = run(tmp_path, source, "--lr", "3")

    assert status == 0
    assert out.splitlines() == ["['script.py', '--lr', '3'] True True False", "[2, 4]"]
    assert [event["event"] for event in events if event["event"] != "heartbeat"] == ["hello", "ended"]


def test_a_failure_is_told_and_printed_without_our_own_frames(tmp_path: Path) -> None:
    status, _, err, events = run(tmp_path, "def f():\n    raise ValueError('wrong')\nf()\n")
    (failed,) = [event for event in events if event["event"] == "failed"]

    assert status == 1
    assert failed["what"] == "ValueError: wrong"
    assert failed["where"] == "script.py:2 in f"
    assert err.count("File ") == 2
    assert "devkit" not in err


@pytest.mark.parametrize(
    ("line", "status", "told"), [("sys.exit(3)", 3, "sys.exit(3)"), ("sys.exit('no')", 1, "sys.exit('no')")]
)
def test_an_exit_with_a_status_is_a_failure_that_names_its_line(
    line: str, status: int, told: str, tmp_path: Path
) -> None:
    ended, _, _, events = run(tmp_path, f"import sys\n{line}\n")
    (failed,) = [event for event in events if event["event"] == "failed"]

    assert (ended, failed["what"]) == (status, told)
    assert str(failed["where"]).endswith("script.py:2 in <module>")


def test_a_syntax_error_and_a_missing_module_are_the_scripts(tmp_path: Path) -> None:
    for source, what in (("def f(:\n", "SyntaxError"), ("import not_there\n", "ModuleNotFoundError")):
        status, _, _, events = run(tmp_path, source)
        assert status == 1
        assert str(next(event["what"] for event in events if event["event"] == "failed")).startswith(what)


CLOSES = """
import os
from devkit.kernels.guard.report import Report

report = Report.from_environment()
other = os.dup(0)
os.closerange(3, 4096)
for fd in range(3, 64):
    try:
        os.close(fd)
    except OSError:
        pass
own = open(os.devnull)
child = os.fork()
if not child:
    os.closerange(3, 4096)
    os._exit(len(os.listdir("/proc/self/fd")) - 4)  # the three that it keeps, and that of the folder
report.emit("told", first_free=own.fileno() == other, left_in_fork=os.waitpid(child, 0)[1])
"""


def told_by(*words: str) -> list[dict[str, Any]]:
    reads, writes = os.pipe()
    environ = {**os.environ, "DEVKIT_EVENTS_FD": str(writes)}
    subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        cwd=REPOSITORY,
        env=environ,
        pass_fds=(writes,),
        timeout=60,
        check=False,
    )
    os.close(writes)
    with os.fdopen(reads) as pipe:
        return [json.loads(line) for line in pipe]


def test_a_script_that_does_not_compile_is_not_blamed_on_a_line_of_the_guard(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    (failed,) = (
        event
        for event in told_by("-m", "devkit.kernels.guard", str(tmp_path / "broken.py"))
        if event["event"] == "failed"
    )

    assert failed["where"] == ""
    assert "broken.py" in failed["traceback"]


def test_a_script_that_closes_all_descriptors_leaves_the_guards_their_own_and_a_fork_does_not_keep_it() -> None:
    told = told_by("-c", CLOSES)

    assert [event["event"] for event in told] == ["hello", "told"]
    assert (told[1]["first_free"], told[1]["left_in_fork"]) == (True, 0)


@pytest.mark.parametrize(("hook", "says"), [("told(value)", "told: wrong"), ("1 / 0", "Error in sys.excepthook: Zero")])
def test_an_uncaught_exception_goes_to_the_scripts_own_hook(hook: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "raises.py").write_text(
        "import sys\ndef told(value): print('told:', value, file=sys.stderr)\n"
        f"sys.excepthook = lambda kind, value, trace: {hook}\nraise ValueError('wrong')\n"
    )
    words = [sys.executable, "-W", "ignore", "-m", "devkit.kernels.guard", str(tmp_path / "raises.py")]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert says in ended.stderr
    assert ("Traceback" in ended.stderr) == ("Error in" in says)
