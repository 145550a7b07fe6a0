from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from devkit.errors import BadVerdict, DevkitError
from devkit.launch import DeviceBug, Ended
from devkit.launching import ranks as starting
from devkit.launching.rank_state import Rank, is_stopped
from devkit.launching.ranks import rank_environment
from devkit.launching.verdict import PortTaken, failure, own_stack, waited_for
from devkit.launching.watch import late, late_words, nothing_moves, watch

if TYPE_CHECKING:
    from pathlib import Path

FAILED = {
    "event": "failed",
    "what": "ValueError: wrong",
    "traceback": "Traceback\n  File x\nValueError: wrong",
    "step": 3,
}


@pytest.fixture
def ranks(tmp_path: Path) -> list[Rank]:
    return [Rank(number, tmp_path / f"rank-{number}.log") for number in range(3)]


def outcome(ranks: list[Rank], *heard: tuple[int, Any]) -> Exception:
    def steps() -> Any:
        for number, event in heard:
            yield ranks[number], event
        while True:
            time.sleep(0.05)
            yield None

    with pytest.raises((DevkitError, DeviceBug, PortTaken)) as raised:
        watch(ranks, steps(), 30.0, lambda _: None)
    return raised.value


def test_the_rank_that_raised_is_named_though_the_one_that_waited_spoke_first(ranks: list[Rank]) -> None:
    error = outcome(ranks, (0, {**FAILED, "waiting": True}), (2, {**FAILED, "waiting": False}), (0, Ended(3)))

    assert isinstance(error, DevkitError)
    assert error.what == "rank 2 failed in step 3: ValueError: wrong"
    assert error.why.endswith("ValueError: wrong")


def test_the_scripts_own_line_is_told_where_a_librarys_calls_fill_the_traceback(ranks: list[Rank]) -> None:
    deep = "Traceback\n" + 20 * '  File "/site-packages/paddle/math.py", line 3, in scale_\n' + "ValueError: wrong"
    told = {**FAILED, "where": "train.py:6 in <module>", "waiting": False}
    error = outcome(ranks, (1, {**told, "traceback": deep}))
    plain = failure(
        Rank(0, ranks[0].log, failure={**told, "traceback": '  File "/x/train.py", line 6, in <module>\nV'})
    )

    assert isinstance(error, DevkitError)
    assert isinstance(plain, DevkitError)
    assert error.why.splitlines()[0] == "at train.py:6 in <module>"
    assert "at train.py:6" not in plain.why


def test_of_a_script_that_leaves_with_a_status_its_line_and_what_it_printed_are_told(ranks: list[Rank]) -> None:
    ranks[1].log.write_text(
        "usage: train.py [-h] --lr LR\n\ntrain.py: error: the following arguments are required: --lr\n"
    )
    leaves = {**FAILED, "what": "sys.exit(2)", "where": "train.py:3 in <module>", "waiting": False}
    error = outcome(ranks, (1, leaves))

    assert isinstance(error, DevkitError)
    assert error.why.splitlines() == [
        "at train.py:3 in <module>; it said:",
        "usage: train.py [-h] --lr LR",
        "train.py: error: the following arguments are required: --lr",
    ]


def test_the_rank_that_was_killed_is_named_though_the_survivor_spoke_first(ranks: list[Rank]) -> None:
    ranks[1].log.write_text("its last words\n")
    beat = {"event": "heartbeat", "rank": 1, "step": 7, "moves": 40, "waiting": False, "cpu_s": 9.0}

    error = outcome(ranks, (1, beat), (0, {**FAILED, "waiting": True}), (0, Ended(3)), (1, Ended(-signal.SIGKILL)))

    assert isinstance(error, DevkitError)
    assert error.what == "rank 1 was ended by SIGKILL in step 7"
    assert "its last words" in error.why


def test_a_refusal_is_said_in_its_own_words(ranks: list[Rank]) -> None:
    refusal = {"event": "error", "what": "the disk is full", "why": "It is.", "remedies": ["df"]}

    error = outcome(ranks, (1, refusal), (1, Ended(1)))

    assert isinstance(error, DevkitError)
    assert (error.what, error.why, error.remedies) == ("the disk is full", "It is.", ("df",))


def test_a_crash_outside_of_training_is_a_bug_of_ours(ranks: list[Rank]) -> None:
    crash = {"event": "crash", "what": "KeyError: 1", "traceback": "Traceback"}

    assert isinstance(outcome(ranks, (1, crash), (1, Ended(3))), DeviceBug)


def test_paddles_store_without_its_port_is_not_a_death(ranks: list[Rank]) -> None:
    ranks[0].log.write_text("python: core.c:314: uv__finish_close: Assertion failed.\n")
    ranks[0].end(-signal.SIGABRT)

    assert isinstance(failure(ranks[0]), PortTaken)
    ranks[0].step = 4
    assert isinstance(failure(ranks[0]), DevkitError)


def test_all_that_ends_well_is_well(ranks: list[Rank]) -> None:
    told: list[Any] = []

    watch(
        ranks,
        iter(
            [
                (ranks[0], {"event": "hello", "pid": 1}),
                (ranks[0], {"event": "done"}),
                *((rank, Ended(0)) for rank in ranks),
            ]
        ),
        30.0,
        told.append,
    )

    assert told == [{"event": "done"}]


COLLECTIVE = 'File "/x/training/parallel/comm.py", line 9 in all_reduce'
LOOP = 'File "/x/training/model.py", line 9 in forward'


def test_who_is_in_no_collective_is_waited_for(ranks: list[Rank]) -> None:
    assert waited_for(ranks, set(), {0: COLLECTIVE, 1: LOOP, 2: COLLECTIVE}) is ranks[1]


def test_who_was_stopped_is_waited_for_wherever_it_was(ranks: list[Rank]) -> None:
    assert waited_for(ranks, {2}, {0: COLLECTIVE, 1: LOOP, 2: COLLECTIVE}) is ranks[2]


def test_of_all_that_are_in_collectives_the_one_behind_is_waited_for(ranks: list[Rank]) -> None:
    for rank, moves in zip(ranks, (9, 7, 8), strict=True):
        rank.moves = moves

    assert waited_for(ranks, set(), dict.fromkeys(range(3), COLLECTIVE)) is ranks[1]


def test_nothing_hangs_while_operators_are_built_or_before_the_time(ranks: list[Rank]) -> None:
    for rank in ranks:
        rank.moved = 0.0

    assert not nothing_moves(ranks, 29.0, 30.0)
    assert nothing_moves(ranks, 31.0, 30.0)
    ranks[1].hear({"event": "build", "state": "start"})
    assert not nothing_moves(ranks, 1000.0, 30.0)
    ranks[1].hear({"event": "build", "state": "done"})
    assert nothing_moves(ranks, 1000.0, 30.0)


def test_who_waited_for_a_build_gets_its_time_anew(ranks: list[Rank]) -> None:
    ranks[1].moved -= 1000.0
    heard = [(ranks[0], {"event": "build", "state": state}) for state in ("start", "done")]

    watch(ranks, iter([*heard, *((rank, Ended(0)) for rank in ranks)]), 30.0, lambda _: None)

    assert time.monotonic() - ranks[1].moved < 30.0


def test_a_heartbeat_without_a_move_is_no_progress(ranks: list[Rank]) -> None:
    beat = {"event": "heartbeat", "step": 2, "moves": 5, "waiting": False, "cpu_s": 1.0}
    ranks[0].hear(beat)
    before = ranks[0].moved
    time.sleep(0.01)
    ranks[0].hear(beat)

    assert ranks[0].moved == before
    ranks[0].hear({**beat, "cpu_s": 5.0})
    assert ranks[0].moved == before, "a loop that computes and gets nowhere hangs"
    ranks[0].hear({**beat, "moves": 6})
    assert ranks[0].moved > before


def test_a_rank_that_still_imports_gets_on(ranks: list[Rank]) -> None:
    beat = {"event": "heartbeat", "step": 0, "moves": 0, "waiting": False, "cpu_s": 1.0}
    ranks[0].hear(beat)
    before = ranks[0].moved
    time.sleep(0.01)
    ranks[0].hear({**beat, "cpu_s": 1.1})
    assert ranks[0].moved == before
    ranks[0].hear({**beat, "cpu_s": 2.0})
    assert ranks[0].moved > before


def test_the_stack_is_that_of_the_thread_that_trains() -> None:
    text = """Thread 0x00007f (most recent call first):
  File "/lib/watch.py", line 44 in _beat
  File "/lib/threading.py", line 975 in run

Current thread 0x00007e (most recent call first):
  File "/lib/zero.py", line 7 in gather
  File "/lib/trainer.py", line 9 in run
  File "<frozen runpy>", line 88 in <module>
"""

    assert own_stack(text).splitlines()[0] == 'File "/lib/zero.py", line 7 in gather'
    assert "_beat" not in own_stack(text)


def test_a_rank_alone_gets_no_rendezvous() -> None:
    assert not [name for name in rank_environment(0, 1, 4000, None) if name.startswith("PADDLE_TRAINER")]
    assert rank_environment(1, 2, 4000, None)["PADDLE_MASTER"] == "127.0.0.1:4000"
    assert rank_environment(1, 2, 4000, 3)["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_free_port_is_free() -> None:
    with socket.create_server(("", starting.free_port())):
        pass


WAITED = {**FAILED, "waiting": True, "collective": "all_reduce", "what": "RuntimeError: Connection closed by peer"}


def test_who_came_too_late_is_named_and_not_who_gave_up(ranks: list[Rank]) -> None:
    error = outcome(ranks[:2], (1, {**BEAT, "step": 4}), (0, WAITED))

    assert isinstance(error, DevkitError)
    assert error.what == "rank 1 came too late: rank 0 gave up waiting in all_reduce, in step 3"


BEAT = {"event": "heartbeat", "step": 4, "moves": 9, "waiting": False, "cpu_s": 1.0}


def test_who_ended_early_is_named_and_not_who_waits(ranks: list[Rank]) -> None:
    error = outcome(ranks[:2], (1, {**BEAT, "step": 2}), (1, Ended(0)), (0, WAITED), (0, Ended(1)))

    assert isinstance(error, DevkitError)
    assert error.what == "rank 1 ended in step 2, and rank 0 still waits for it in step 3"
    assert "all_reduce" in error.why


def test_a_process_that_gloo_ended_gave_up_and_is_not_blamed(ranks: list[Rank]) -> None:
    ranks[0].log.write_text("terminate called after throwing\n  what():  [/gloo/pair.cc:584] TIMEOUT self_rank = 0\n")
    ranks[0].end(-signal.SIGABRT)
    ranks[1].end(-signal.SIGKILL)

    assert ranks[0].gave_up
    assert min(ranks[:2], key=lambda rank: rank.blame) is ranks[1]
    ranks[0].log.write_text("Assertion failed\n")
    assert not ranks[0].gave_up


def test_a_guards_finding_ends_the_run_as_a_bad_verdict(ranks: list[Rank]) -> None:
    finding = {"event": "guard", "verdict": "stop", "what": "step 7: the loss is nan", "why": "fc is.", "step": 7}
    error = outcome(ranks[:1], (0, finding), (0, Ended(4)))

    assert isinstance(error, BadVerdict)
    assert error.what == "rank 0: step 7: the loss is nan"


def test_a_rank_whose_gradient_came_from_another_is_not_blamed_though_it_spoke_first(ranks: list[Rank]) -> None:
    finding = {"event": "guard", "verdict": "stop", "why": "", "step": 4}
    now = time.monotonic()
    received = {**finding, "what": "step 4: the gradient of w is not finite", "at": now, "passed_on": True}
    made = {**finding, "what": "step 4: the loss is nan", "at": now + 0.5}
    error = outcome(ranks[:2], (0, received), (0, Ended(4)), (1, made), (1, Ended(4)))

    assert error.args[0].startswith("rank 1: step 4: the loss is nan")


def test_what_imports_or_writes_files_has_a_time_of_its_own(ranks: list[Rank]) -> None:
    for rank in ranks:
        rank.moved = 0.0
    ranks[2].hear({**BEAT, "busy": "a checkpoint"})
    ranks[2].moved = 0.0

    assert not nothing_moves(ranks, 100.0, 30.0)
    assert nothing_moves(ranks, 601.0, 30.0)


def waits(rank: Rank, *, seconds: float, waiting: bool) -> None:
    rank.pid, rank.step, rank.waiting, rank.moved = os.getpid(), 4, waiting, time.monotonic() - seconds


def test_who_keeps_others_waiting_is_told_of_and_not_ended_while_it_gets_on(ranks: list[Rank]) -> None:
    now = time.monotonic()
    waits(ranks[0], seconds=50, waiting=True)
    waits(ranks[1], seconds=5, waiting=False)
    waits(ranks[2], seconds=50, waiting=True)
    ranks[1].line = "train.py:9"
    event = late(ranks, now)

    assert event is not None
    assert late_words(event) == "the others have waited 5 s for rank 1, in step 4 at train.py:9"
    assert not nothing_moves(ranks, now, 30.0), "rank 1 still gets on: those that wait for it do not hang"
    assert nothing_moves(ranks, now, 4.0)
    waits(ranks[1], seconds=1, waiting=False)
    assert late(ranks, now) is None
    waits(ranks[1], seconds=50, waiting=True)
    assert late(ranks, now) is None
    assert nothing_moves(ranks, now, 30.0), "all wait for each other"


def test_a_rank_that_was_stopped_is_told_of_at_once(ranks: list[Rank]) -> None:
    told: list[Any] = []
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.kill(child.pid, signal.SIGSTOP)
        for rank in ranks:
            waits(rank, seconds=10, waiting=False)
        ranks[2].pid = child.pid
        while not is_stopped(child.pid):
            time.sleep(0.01)
        heard = [None, None, *((rank, Ended(0)) for rank in ranks)]
        watch(ranks, iter(heard), 60.0, told.append)
        child.kill()

    assert [(event["event"], event["rank"], event["stopped"]) for event in told] == [("late", 2, True)]
    assert "kill -CONT" in late_words(told[0])


def test_a_step_ends_the_time_that_importing_has(ranks: list[Rank]) -> None:
    ranks[1].hear({**BEAT, "busy": "importing paddle"})
    heard = [(ranks[0], {"event": "step", "step": 1, "at": 1.0})]

    watch(ranks, iter([*heard, *((rank, Ended(0)) for rank in ranks)]), 30.0, lambda _: None)

    assert not ranks[1].busy


def test_a_step_of_training_is_every_ranks(ranks: list[Rank]) -> None:
    heard = [(ranks[0], {"event": "step", "step": 7}), (ranks[1], {"event": "step", "step": 9, "at": 1.0})]

    watch(ranks, iter([*heard, *((rank, Ended(0)) for rank in ranks)]), 30.0, lambda _: None)

    assert [rank.step for rank in ranks] == [7, 10, 7]


def test_a_crash_is_told_with_pythons_stack(ranks: list[Rank]) -> None:
    ranks[0].log.write_text(
        "Fatal Python error: Segmentation fault\n"
        'Thread 0x1 (most recent call first):\n  File "/x/beat.py", line 1 in b\n'
        'Current thread 0x2 (most recent call first):\n  File "train.py", line 33 in <module>\n'
    )
    ranks[0].end(-signal.SIGSEGV)
    error = failure(ranks[0])

    assert isinstance(error, DevkitError)
    assert 'File "train.py", line 33 in <module>' in error.why
    assert "beat.py" not in error.why
