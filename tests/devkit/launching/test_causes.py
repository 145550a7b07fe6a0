"""Paddle's exceptions that name a consequence, and the cause that it printed before."""

from __future__ import annotations

import pytest

from devkit.launching.causes import cause

QUEUE = "SystemError: (Fatal) Blocking queue is killed because the data reader raises an exception."
BUS = (
    "ERROR: Unexpected BUS error encountered in DataLoader worker. This might be caused by insufficient shared memory "
    "(shm), please check whether use_shared_memory is set\n"
)
ENDED = "[ WARNING] dataloader_iter.py:733 - DataLoader 2 workers exit unexpectedly, pids: 18011, 18015\n"


def test_a_worker_without_shared_memory_is_the_cause_of_a_queue_that_was_killed() -> None:
    known = cause(BUS + ENDED, QUEUE)

    assert known
    assert "no room in shared memory" in known.what
    assert "Workers hand batches over in" in known.why
    assert any("--shm-size" in hint for hint in known.hints)


def test_workers_that_were_killed_are_named_by_their_pids() -> None:
    known = cause(ENDED, QUEUE)

    assert known
    assert "pids 18011, 18015" in known.what


def test_what_a_worker_raised_is_told_with_its_line() -> None:
    log = (
        "Exception in thread Thread-1 (_thread_loop):\nTraceback (most recent call last):\n"
        '  File "dataloader_iter.py", line 778, in _get_data\n    batch.reraise()\n'
        "ValueError: DataLoader worker(3) caught ValueError with message:\n"
        "Traceback (most recent call last):\n"
        '  File "worker.py", line 380, in _worker_loop\n    batch = fetcher.fetch(indices)\n'
        '  File "/home/me/data.py", line 6, in __getitem__\n    raise ValueError(path)\n    ^^^^^^^^^\n'
        "ValueError: photo 40 is damaged\n"
        "a line of the script\n"
    )
    known = cause(log, QUEUE)

    assert known
    assert known.what == "a worker of the DataLoader raised ValueError: photo 40 is damaged"
    assert 'data.py", line 6, in __getitem__' in known.why
    assert "a line of the script" not in known.why


@pytest.mark.parametrize("what", ["BdbQuit", "EOFError: EOF when reading a line"])
def test_a_rank_that_asks_at_the_terminal_is_told_that_it_has_none(what: str) -> None:
    known = cause("", what)

    assert known
    assert known.what == "it asks at the terminal, and a rank has none"


def test_an_error_of_its_own_has_no_other_cause() -> None:
    assert cause(BUS, "ValueError: wrong") is None
    assert cause("", QUEUE) is None
