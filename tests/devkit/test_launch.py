"""The device side as the tool starts it: found through a link, spoken with in JSON lines, ended with its tool."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit import launch, mkl
from devkit.app import App
from devkit.envs.resolve import Environment
from devkit.errors import DevkitError
from devkit.kernels.protocol import PROTOCOL
from devkit.launch import DeviceBug, Ended, Worker, device_environment, device_side

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parent.parent.parent
OWN = Environment("own", Path(sys.executable), "")

# A device side of this test's: the protocol's own serve, over a handler that does what it is told.
MODULE = """
import os, sys, time
from .protocol import Refusal, emit, serve

def handle(request):
    do = request["do"]
    if do == "refuse":
        raise Refusal("it cannot be", "for a reason", "devkit doctor   finds why")
    if do == "bug":
        raise KeyError("a bug")
    if do == "die":
        os.kill(os.getpid(), 9)
    if do == "noise":
        print("a library prints {", flush=True)
        print("and complains", file=sys.stderr, flush=True)
    if do == "sleep":
        time.sleep(60)
    for step in range(request.get("steps", 0)):
        emit("step", step=step, loss=float("nan"))
    emit("answer", do=do, text="x" * request.get("size", 0))

if __name__ == "__main__":
    sys.exit(serve(handle))
"""


@pytest.fixture
def app() -> Iterator[App]:
    """An application object whose programs end with the test."""
    app = App()
    yield app
    app.runner.end_all()


@pytest.fixture
def worker(app: App, tmp_path: Path) -> Iterator[Worker]:
    """A worker that runs ``MODULE``, in a package that is devkit's device side and that module."""
    package = tmp_path / "side" / "devkit"
    (package / "kernels").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "kernels" / "__init__.py").touch()
    (package / "kernels" / "protocol.py").write_text((REPOSITORY / "kernels" / "protocol.py").read_text())
    (package / "kernels" / "told.py").write_text(MODULE)
    environ = {**device_environment(app), "PYTHONPATH": str(tmp_path / "side")}
    worker = Worker(app, OWN, "told", folder=tmp_path, name="told", environ=environ)
    with worker:
        yield worker


def test_an_answer_comes_after_the_events_before_it(worker: Worker) -> None:
    events: list[launch.Event] = []
    answer = worker.ask({"do": "x", "steps": 3}, "answer", on_event=events.append)
    assert answer["do"] == "x"
    assert [event["event"] for event in events] == ["hello", "step", "step", "step"]
    assert events[0]["protocol"] == PROTOCOL
    assert events[1] == {"event": "step", "step": 0, "loss": None}


def test_one_process_answers_many_requests(worker: Worker) -> None:
    assert [worker.ask({"do": str(number)}, "answer")["do"] for number in range(5)] == list("01234")


def test_an_event_larger_than_a_pipe_is_whole(worker: Worker) -> None:
    assert len(worker.ask({"do": "x", "size": 1_000_000}, "answer")["text"]) == 1_000_000


def test_a_library_that_prints_does_not_break_the_talk(worker: Worker) -> None:
    assert worker.ask({"do": "noise"}, "answer")["do"] == "noise"
    worker.close()
    assert set(worker.log.read_text().splitlines()) == {"a library prints {", "and complains"}


def test_a_refusal_is_an_error_of_the_user(worker: Worker) -> None:
    with pytest.raises(DevkitError) as caught:
        worker.ask({"do": "refuse"}, "answer")
    error = caught.value
    assert (error.what, error.why, error.remedies) == ("it cannot be", "for a reason", ("devkit doctor   finds why",))


def test_a_bug_comes_with_its_traceback(worker: Worker) -> None:
    with pytest.raises(DeviceBug, match="KeyError: 'a bug'") as caught:
        worker.ask({"do": "bug"}, "answer")
    assert "Traceback" in str(caught.value)


def test_a_death_says_by_what_signal_and_where_the_log_is(worker: Worker) -> None:
    with pytest.raises(DevkitError, match="SIGKILL") as caught:
        worker.ask({"do": "die"}, "answer")
    assert str(worker.log) in caught.value.remedies[0]
    assert isinstance(Ended(-9).status, int)


def test_a_death_whose_log_goes_with_it_is_told_whole(app: App, worker: Worker, tmp_path: Path) -> None:
    environ = {**device_environment(app), "PYTHONPATH": str(tmp_path / "side")}
    with Worker(app, OWN, "told", name="told", environ=environ) as passing:
        for _ in range(20):
            passing.ask({"do": "noise"}, "answer")
        with pytest.raises(DevkitError, match="SIGKILL") as caught:
            passing.ask({"do": "die"}, "answer")
    assert caught.value.why.count("and complains") == 20
    assert caught.value.remedies == ()
    assert not passing.log.parent.exists()
    assert worker.log.parent.exists()


def test_a_request_to_the_dead_is_told_in_the_inbox(worker: Worker) -> None:
    with pytest.raises(DevkitError):
        worker.ask({"do": "die"}, "answer")
    worker.send({"do": "x"})
    worker.send({"do": "x" * 100_000})


def test_the_end_of_input_ends_it(worker: Worker) -> None:
    worker.ask({"do": "x"}, "answer")
    began = time.monotonic()
    worker.close()
    assert worker.child.process.returncode == 0
    assert time.monotonic() - began < 4


def test_an_error_in_the_block_ends_it_at_once(app: App, worker: Worker, tmp_path: Path) -> None:
    environ = {**device_environment(app), "PYTHONPATH": str(tmp_path / "side")}
    other: Worker | None = None

    def interrupted() -> None:
        nonlocal other
        with Worker(app, OWN, "told", folder=tmp_path, name="other", environ=environ) as other:
            other.send({"do": "sleep"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert other is not None
    assert other.child.process.poll() is not None
    assert worker.child.process.poll() is None
    assert other.child not in app.runner.children


def test_other_protocols_are_refused_with_the_remedy() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "devkit.kernels.probe"],
        input=json.dumps({"protocol": PROTOCOL + 1, "do": "probe"}) + "\n",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert last["what"] == "the two sides of devkit disagree"
    assert last["remedies"]


def test_a_python_without_paddle_still_finds_the_device_side(app: App, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    bare = Environment("bare", tmp_path / "bare" / "bin" / "python", "")
    with (
        pytest.raises(DevkitError, match="Paddle cannot be imported"),
        Worker(app, bare, "probe", folder=tmp_path, name="probe", environ=device_environment(app)) as worker,
    ):
        worker.ask({"do": "probe"}, "probe")


def test_device_side_is_a_folder_with_nothing_but_the_package() -> None:
    folder = device_side()
    assert [path.name for path in folder.iterdir()] == ["devkit"]
    assert (folder / "devkit" / "kernels" / "protocol.py").is_file()
    assert device_side() == folder


def test_a_link_that_leads_elsewhere_is_mended() -> None:
    folder = device_side()
    (folder / "devkit").unlink()
    (folder / "devkit").symlink_to("/nowhere")
    assert (device_side() / "devkit" / "kernels").is_dir()


def test_nothing_of_the_tools_python_leaks_into_the_environment(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in launch.LEAKS:
        monkeypatch.setenv(name, "/leak")
    environ = device_environment(app, threads=2, extra={"A": "1"})
    assert "/leak" not in environ.values()
    assert environ["PYTHONPATH"] == str(device_side())
    assert (environ["OMP_NUM_THREADS"], environ["A"]) == ("2", "1")


def test_mkls_fast_path_is_set_on_amd_unless_the_user_chose(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkl, "is_amd", lambda: True)
    monkeypatch.setattr(mkl, "features", frozenset)
    assert device_environment(app)["MKL_DEBUG_CPU_TYPE"] == "5"
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "4")
    assert device_environment(app)["MKL_DEBUG_CPU_TYPE"] == "4"
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE")
    monkeypatch.setattr(mkl, "is_amd", lambda: False)
    assert "MKL_DEBUG_CPU_TYPE" not in device_environment(app)


def test_a_terminated_worker_is_told_by_its_signal(worker: Worker) -> None:
    assert worker.ask({"do": "x"}, "answer")
    os.kill(worker.child.process.pid, signal.SIGKILL)
    with pytest.raises(DevkitError, match="SIGKILL"):
        worker.ask({"do": "sleep"}, "answer")
