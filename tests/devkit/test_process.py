"""Programs that devkit runs: their output, their logs, their end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from devkit.console import Console
from devkit.errors import DevkitError
from devkit.process import Runner, TimedOut, fate, find_program, own_python, shown
from devkit.text import Overwritten

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parent.parent.parent
LIMIT_S = 10.0
SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
FAMILY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner whose programs end with the test."""
    runner = Runner(Console())
    yield runner
    runner.end_all()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_output_of_both_streams_is_kept_apart(runner: Runner) -> None:
    done = runner.run(python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (done.stdout, done.stderr, done.status) == (b"out\n", b"err\n", 0)
    assert done.text == "out\n"
    assert runner.children == []


def test_lines_arrive_while_the_program_runs(runner: Runner) -> None:
    arrived = threading.Event()
    child = runner.start(python(SLEEPER), on_line=lambda line: arrived.set() if line == "ready" else None)
    assert arrived.wait(LIMIT_S)
    assert child.process.poll() is None


def test_a_progress_lines_returns_are_lines(runner: Runner) -> None:
    lines: list[str] = []
    runner.run(python(r"print('10 %\r20 %\r100 %\ndone', end='')"), on_line=lines.append)
    assert lines == ["10 %", "20 %", "100 %", "done"]
    assert [isinstance(line, Overwritten) for line in lines] == [True, True, False, False]


@pytest.mark.parametrize(
    ("writes", "said"),
    [
        (["one\r\ntwo\r\r\n"], ["one", "two"]),
        (["one\r", "\ntwo\n"], ["~one", "one", "two"]),
        (["1 %\r", "2 %\r", "3 %\n"], ["~1 %", "~2 %", "3 %"]),
        (["\r1 %", "\r2 %", "\r3 %"], ["~1 %", "~2 %", "3 %"]),
        (["1 %\r", "\r2 %\r\r"], ["~1 %", "~2 %", "2 %"]),
    ],
)
def test_a_line_is_overwritten_where_it_ends_in_a_return_alone(
    runner: Runner, writes: list[str], said: list[str]
) -> None:
    code = f"import os, sys\nfor data in {writes!r}:\n    os.write(1, data.encode())\n    sys.stdin.readline()"
    lines: list[str] = []
    child = runner.start(
        python(code),
        stdin=subprocess.PIPE,
        on_line=lambda line: lines.append("~" * isinstance(line, Overwritten) + line),
    )
    assert child.process.stdin is not None
    for count in range(1, len(writes) + 1):
        until = time.monotonic() + LIMIT_S
        while len(child.stdout) < len("".join(writes[:count])) and time.monotonic() < until:
            time.sleep(0.01)
        child.process.stdin.write(b"\n")
        child.process.stdin.flush()
    assert child.wait(LIMIT_S) == 0
    assert lines == said


def test_a_log_keeps_one_a_second_of_lines_that_overwrite_each_other(runner: Runner, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    code = "import time\nfor i in range(100):\n    print(f'\\r{i} of 100', end='', flush=True)\n    time.sleep(0.002)"
    runner.run(python(code), log=log)
    said = log.read_text("utf-8").splitlines()
    assert said[-1] == "99 of 100"
    assert len(said) < 50


def test_a_letter_torn_between_two_writes_is_whole(runner: Runner) -> None:
    code = "import os, time; os.write(1, b'\\xe4\\xb8'); time.sleep(0.2); os.write(1, b'\\xad\\n')"
    lines: list[str] = []
    runner.run(python(code), on_line=lines.append)
    assert lines == ["中"]


def test_log_holds_both_streams_redacted_and_is_appended_to(runner: Runner, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    code = "import sys; print('via http://me:geheim@proxy:8080'); print('token=abcdef', file=sys.stderr)"
    runner.run(python(code), log=log)
    runner.run(python("print('again')"), log=log)
    text = log.read_text()
    assert "geheim" not in text
    assert "abcdef" not in text
    assert sorted(text.splitlines()) == ["again", "token=***", "via http://***@proxy:8080"]


def test_memory_keeps_the_end_of_long_output(runner: Runner) -> None:
    done = runner.run(python("for i in range(100000): print(i)"), keep=1000)
    assert len(done.stdout) <= 2000 + (1 << 16)
    assert done.stdout.endswith(b"99999\n")


def test_all_of_long_output_is_kept_by_default(runner: Runner) -> None:
    done = runner.run(python("import sys; sys.stdout.write('x' * 3_000_000)"))
    assert len(done.stdout) == 3_000_000


def test_what_a_program_wrote_is_told_whole_though_it_is_gone(runner: Runner) -> None:
    told: list[str] = []

    def slowly(line: str) -> None:
        time.sleep(0.035)
        told.append(line)

    runner.run(python("for i in range(40): print(i)"), on_line=slowly)
    assert told == [str(number) for number in range(40)]


def test_data_reaches_standard_input(runner: Runner) -> None:
    data = os.urandom(2_000_000)
    assert runner.run(["cat"], data=data).stdout == data


def test_a_program_that_reads_no_input_is_no_error(runner: Runner) -> None:
    assert runner.run(["true"], data=b"x" * 1_000_000).status == 0


def test_time_out_holds_while_a_program_does_not_read_its_input(runner: Runner) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut):
        runner.run(["sleep", "30"], data=b"x" * 1_000_000, timeout_s=0.3)
    assert time.monotonic() - began < LIMIT_S


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
def test_a_kernel_that_hands_out_no_descriptor_of_a_process_is_done_without(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(refusal, os.strerror(refusal), str(pid))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert runner.run([sys.executable, "-c", "print('done')"]).text == "done\n"
    with pytest.raises(TimedOut):
        runner.run([sys.executable, "-c", SLEEPER], timeout_s=0.3)


def test_time_out_ends_the_program_and_its_grandchildren(runner: Runner) -> None:
    pids: list[int] = []
    with pytest.raises(TimedOut) as caught:
        runner.run(python(FAMILY), timeout_s=1.5, on_line=lambda line: pids.append(int(line)))
    assert "was ended after 1.5 s" in caught.value.what
    assert pids
    assert all(map(gone, pids))
    assert runner.children == []


@pytest.mark.parametrize("ends_rest", [False, True])
def test_what_a_program_leaves_running_is_ended_where_that_is_asked_for(runner: Runner, ends_rest: bool) -> None:
    leaves = FAMILY.replace("time.sleep(60)\n", "sys.exit(3)\n").replace(
        "start_new_session", "stdout=2, start_new_session"
    )
    done = runner.run([sys.executable, "-c", leaves], check=False, ends_rest=ends_rest)
    left = int(done.stdout)
    assert (done.status, psutil.pid_exists(left)) == (3, not ends_rest)
    if not ends_rest:
        os.kill(left, signal.SIGKILL)


def test_end_waits_for_the_grace_that_a_program_was_given(runner: Runner) -> None:
    """A build that cleans up for longer than the usual grace is not cut off."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), print('cleaned', flush=True), sys.exit(0)))\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    ready = threading.Event()
    child = runner.start(python(code), grace_s=20, on_line=lambda _: ready.set())
    assert ready.wait(LIMIT_S)
    child.end()
    assert b"cleaned" in child.stdout
    assert child.grace_s == 20


def test_end_all_ends_what_runs_and_says_how_many(runner: Runner) -> None:
    children = [runner.start(["sleep", "60"]) for _ in range(3)]
    assert runner.end_all() == 3
    assert all(child.process.poll() is not None for child in children)
    assert runner.end_all() == 0


def test_what_a_listener_raises_reaches_the_caller_and_the_program_is_not_stuck(runner: Runner) -> None:
    def refuse(line: str) -> None:
        raise KeyError(line)

    with pytest.raises(KeyError):
        runner.run(python("for i in range(200000): print(i)"), on_line=refuse, timeout_s=LIMIT_S)


def test_failure_says_what_the_program_complained_of(runner: Runner, tmp_path: Path) -> None:
    code = "import sys; print('first'); print('it broke: password=abc', file=sys.stderr); sys.exit(9)"
    with pytest.raises(DevkitError) as caught:
        runner.run(python(code), log=tmp_path / "x.log")
    assert caught.value.what.endswith("failed with status 9")
    assert caught.value.why == "it broke: password=***"
    assert str(tmp_path / "x.log") in caught.value.remedies[0]
    assert runner.run(python("raise SystemExit(9)"), check=False).status == 9


def test_missing_program_names_its_package(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("g++", "git", "ninja", "ssh"):
        with pytest.raises(DevkitError) as caught:
            runner.run([name])
        assert caught.value.what == f"{name} was not found"
        assert caught.value.remedies[0].startswith("apt install ")


def test_missing_directory_is_an_error_of_the_user(runner: Runner, tmp_path: Path) -> None:
    with pytest.raises(DevkitError) as caught:
        runner.run(["true"], cwd=tmp_path / "missing")
    assert "missing" in caught.value.why


def test_descriptors_do_not_leak(runner: Runner, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        runner.run(["true"], data=b"x", log=tmp_path / "x.log")
        with pytest.raises(DevkitError):
            runner.run(["true"], cwd=tmp_path / "missing", log=tmp_path / "x.log")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_program_is_found_on_the_path_it_will_have(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program("tool", {"PATH": str(tmp_path)}) == str(program)


def test_shown_line_is_quoted_and_redacted() -> None:
    assert shown(["git", "clone", "https://me:geheim@host/x", "a b"]) == "git clone https://***@host/x 'a b'"


def test_fate_names_the_signal() -> None:
    assert fate(-int(signal.SIGKILL)) == "was ended by SIGKILL"
    assert fate(3) == "failed with status 3"


def test_foreground_gives_the_status_as_a_shell_does(runner: Runner) -> None:
    assert runner.foreground(["sh", "-c", "exit 5"]) == 5
    assert runner.foreground(["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_death_by_sigkill_ends_all_below(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom devkit.console import Console\nfrom devkit.process import Runner\n"
        f"Runner(Console()).run([sys.executable, '-c', {FAMILY!r}], on_line=lambda line: print(line, flush=True))\n"
    )
    devkit = subprocess.Popen(
        python(code), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, cwd=tmp_path
    )
    with devkit:
        assert devkit.stdout is not None
        grandchild = int(devkit.stdout.readline())
        below = [child.pid for child in psutil.Process(devkit.pid).children(recursive=True)]
        assert grandchild in below
        devkit.kill()
        devkit.wait(LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while not all(map(gone, below)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(map(gone, below))


def test_many_threads_may_run_programs_at_once(runner: Runner) -> None:
    answers: dict[int, bytes] = {}

    def run(number: int) -> None:
        answers[number] = runner.run(["echo", str(number)]).stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert answers == {number: f"{number}\n".encode() for number in range(12)}
    assert runner.children == []


def test_a_python_that_cannot_be_started_by_its_path_is_started_by_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert own_python() == "/proc/self/exe"
    done = subprocess.run([own_python(), "-I", "-S", "-c", "print(1)"], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
