"""``devkit launch``: real scripts on real ranks, broken in every way that is known, and named truly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Devkit

REPOSITORY = Path(__file__).parents[2]
SCRIPT = """
import ctypes, os, signal, sys, time
import numpy as np
import paddle
import paddle.distributed as dist

kind, rank = sys.argv[1], int(os.environ.get("PADDLE_TRAINER_ID", "0"))
many = int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1
if many:
    dist.init_parallel_env()
paddle.seed(5)
np.random.seed(rank)
model = paddle.nn.Sequential(paddle.nn.Linear(8, 16), paddle.nn.ReLU(), paddle.nn.Linear(16, 4))
if many and kind != "no_parallel":
    model = paddle.DataParallel(model)
optimizer = paddle.optimizer.AdamW(1e-2, parameters=model.parameters())
if kind == "groups":
    one, other = dist.new_group([0, 1]), dist.new_group([0, 1])


def outer():
    try:
        {}["the key"]
    except KeyError as error:
        raise RuntimeError("outer") from error


for step in range(8):
    x = paddle.to_tensor(np.random.randn(16, 8).astype("float32"))
    y = paddle.to_tensor(np.random.randint(0, 4, [16]))
    if step == 3 and rank == 1:
        open("shown", "w").write(str(time.time()))
        if kind == "raises": outer()
        if kind == "terminated": os.kill(os.getpid(), signal.SIGTERM); time.sleep(100)
        if kind == "imports": import a_module_that_is_not_there
        if kind == "disk": open("/dev/full", "w").write("state"); paddle.save(model.state_dict(), "/dev/full")
        if kind == "recursion": (lambda f: f(f))(lambda f: f(f))
        if kind == "label": y[0] = 9
        if kind == "groups": dist.barrier(one)
        if kind == "killed": os.kill(os.getpid(), 9)
        if kind == "crashes": ctypes.string_at(0)
        if kind == "exits": sys.exit(3)
        if kind == "sleeps": time.sleep(1000)
        if kind == "loops":
            while True: pass
        if kind == "stopped": os.kill(os.getpid(), signal.SIGSTOP)
        if kind == "ends": sys.exit(0)
        if kind == "shape": x = x[:, :5]
        if kind == "nan": x[0, 0] = float("nan")
        if kind == "aborts": os.abort()
        if kind == "memory": np.zeros(10**15)
        if kind == "collective": dist.all_reduce(paddle.ones([7]))
        if kind == "changed": model._layers[0].weight.set_value(model._layers[0].weight + 1)
    if kind == "groups" and step == 3 and rank == 0:
        dist.barrier(other)
    if kind == "rate" and step == 0:
        open("shown", "w").write(str(time.time()))
        optimizer.set_lr(0.0)
    if kind == "no_sync" and step % 2 == 0:
        with model.no_sync():
            paddle.nn.functional.cross_entropy(model(x), y).backward()
        continue
    loss = paddle.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    if kind == "evaluates" and rank == 0:
        with paddle.no_grad():
            model._layers(x)
print("the last loss is", float(loss))
"""
HANG_S = 4
HANGS = {"sleeps", "loops", "stopped"}
WITHIN_S = 25.0
"""Start, import and failure together: of those, importing Paddle on a busy machine is most."""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def running(pid: int) -> bool:
    """Tell whether a process runs, and is not dead and waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def left_behind(script: Path) -> list[str]:
    """Return the processes that still run a script."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                there = str((entry / "cwd").readlink())
            except OSError:
                continue
            if b"devkit.kernels.guard" in words and there == str(script.parent):
                found.append(entry.name)
    return found


FAULTS = {
    "raises": (1, "rank 1 failed in step 4: KeyError: 'the key'", "It led to RuntimeError: outer"),
    "collective": (
        4,
        "it calls ",
        "All ranks of a group must call the same collectives in the same order.",
    ),
    "changed": (
        4,
        "the parameters of rank 1 differ from the others', first in 0.weight",
        "DataParallel keeps ranks alike",
    ),
    "killed": (1, "rank 1 was ended by SIGKILL in step 4", "memory ran out"),
    "crashes": (1, "rank 1 was ended by SIGSEGV in step 4", "in string_at"),
    "aborts": (1, "rank 1 was ended by SIGABRT in step 4", 'train.py", line'),
    "exits": (1, "rank 1 failed in step 4: sys.exit(3)", "train.py"),
    "sleeps": (1, "rank 1 has made no progress for 4 s, in step 4", "rank 0: File"),
    "loops": (1, "rank 1 has made no progress for 4 s, in step 4", "rank 0: File"),
    "stopped": (1, "rank 1 has made no progress for 4 s", "stopped by a signal"),
    "ends": (1, "rank 1 ended in step 4, and rank 0 still waits for it in step 4", "equally often"),
    "shape": (1, "rank 1 failed in step 4: ValueError: (InvalidArgument) In operator matmul", "F.linear"),
    "nan": (4, "rank 1: step 4: the gradient of 0.weight is not finite", "The batch holds 1 nan of 128 values"),
    "memory": (1, "rank 1 failed in step 4: MemoryError: Unable to allocate", "np.zeros"),
    "terminated": (1, "rank 1 was ended by SIGTERM in step 4", "train.py"),
    "imports": (1, "rank 1 failed in step 4: ModuleNotFoundError: No module named 'a_module", "train.py"),
    "disk": (1, "rank 1 failed in step 4: OSError: [Errno 28] No space left on device", "train.py"),
    "recursion": (1, "rank 1 failed in step 4: RecursionError", "train.py"),
    "label": (1, "rank 1 failed in step 4: ", "train.py"),
    "groups": (4, "it calls barrier in group ", "All ranks of a group must call the same collectives"),
    "rate": (4, "the learning rate is 0 since the first step", "5 steps have changed nothing"),
    "no_parallel": (4, "step 1: the parameters of rank 1 differ from the others'", "no gradients are exchanged"),
}
QUICK = {"raises", "changed", "collective"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in FAULTS]
)
def test_the_rank_at_fault_is_named_and_none_is_left(kind: str, script: Path, devkit: Devkit) -> None:
    status, what, why = FAULTS[kind]
    begin = time.monotonic()
    result = devkit("launch", "--nproc", "2", "--hang-timeout", "4", "train.py", kind, cwd=script.parent)

    assert result.status == status, result.err
    assert what in result.err
    assert why in result.err
    assert time.monotonic() - begin < 3 * WITHIN_S
    assert left_behind(script) == []


@pytest.mark.bench
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_within_five_seconds_of_showing(kind: str, script: Path, devkit: Devkit) -> None:
    result = devkit("launch", "--nproc", "2", "--hang-timeout", str(HANG_S), "train.py", kind, cwd=script.parent)
    ended, shown = time.time(), script.parent / "shown"
    after = ended - float(shown.read_text()) if shown.exists() else 0.0  # else it is wrong from the start
    print(f"{kind:12} {after:5.1f} s: {FAULTS[kind][1]}")  # noqa: T201 - the figure

    assert FAULTS[kind][1] in result.err
    assert left_behind(script) == []
    assert after - (HANG_S if kind in HANGS else 0.0) < 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["healthy", "no_sync", "evaluates"])
def test_healthy_ranks_raise_no_alarm(kind: str, script: Path, devkit: Devkit) -> None:
    result = devkit("launch", "--nproc", "2", "train.py", kind, cwd=script.parent)

    assert result.status == 0, result.err
    assert "nothing to look at" in result.err
    assert "the last loss is" in result.out


def test_what_a_failed_rank_left_running_is_ended_and_what_a_good_one_left_is_not(
    tmp_path: Path, devkit: Devkit
) -> None:
    (tmp_path / "leaves.py").write_text(
        "import os, subprocess, sys\n"
        "left = subprocess.Popen(['sleep', '120'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "open(sys.argv[1], 'w').write(str(left.pid))\n"
        "if sys.argv[1] == 'failed': raise OSError('the disk is gone')\n"
    )

    def left(kind: str) -> int:
        devkit("launch", "--no-guard", "leaves.py", kind, cwd=tmp_path)
        return int((tmp_path / kind).read_text())

    failed, good = left("failed"), left("good")
    try:
        assert not running(failed)
        assert running(good)
    finally:
        os.kill(good, signal.SIGKILL)


SAVES = """
import os, sys, time
try:
    print("ready", flush=True)
    while True: time.sleep(0.1)
except KeyboardInterrupt:
    time.sleep(1)
    open("saved-" + os.environ["PADDLE_TRAINER_ID"], "w").close()
    print("saved", flush=True)
    sys.exit(0)
"""


def test_a_script_is_told_of_the_signal_that_ends_devkit_and_saves_its_state(tmp_path: Path, home: Path) -> None:
    assert home.exists()
    (tmp_path / "saves.py").write_text(SAVES)
    words = [sys.executable, "-m", "devkit", "launch", "--nproc", "2", "--show", "all", "--no-guard", "saves.py"]
    with subprocess.Popen(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert all("ready" in process.stdout.readline() for _ in range(2))
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.terminate()

    assert process.returncode == 130
    assert rest.count("saved") == 2
    assert sorted(path.name for path in tmp_path.glob("saved-*")) == ["saved-0", "saved-1"]


def test_a_script_that_prints_much_is_shown_line_by_line_as_it_is(tmp_path: Path, devkit: Devkit) -> None:
    (tmp_path / "prints.py").write_text(
        "import sys\nfor i in range(20000): print('[bold]step', i, '\\tloss')\nprint('x' * 3000000)\n"
        "sys.stderr.write('a warning\\n')\n"
    )
    result = devkit("launch", "--no-guard", "prints.py", cwd=tmp_path)

    lines = result.out.splitlines()
    assert result.status == 0, result.err
    assert lines[:20000] == [f"[bold]step {number} \tloss" for number in range(20000)]
    assert "".join(lines[20000:]) == "x" * 3000000
    assert "a warning" in result.err


def test_one_process_is_guarded_and_its_curve_kept(script: Path, devkit: Devkit) -> None:
    result = devkit("launch", "--json", "train.py", "healthy", cwd=script.parent)
    events = [json.loads(line) for line in result.out.splitlines()]

    assert result.status == 0, result.err
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, 9))
    done = events[-1]
    assert (done["event"], done["steps"], done["findings"]) == ("done", list(range(1, 9)), [])
    assert json.loads(devkit("runs", "show", done["run"], "--json", cwd=script.parent).out)["command"] == "launch"


def test_ranks_are_started_again_so_often(tmp_path: Path, devkit: Devkit) -> None:
    (tmp_path / "again.py").write_text(
        "import os\nprint('start', os.environ.get('DEVKIT_RESTART', '0'))\n"
        "if os.environ.get('DEVKIT_RESTART') != '2': raise OSError('the network is gone')\n"
    )

    good = devkit("launch", "--max-restarts", "2", "again.py", cwd=tmp_path)
    assert (good.status, good.out.split()) == (0, ["start", "0", "start", "1", "start", "2"])
    assert "restart 2 of 2" in good.err
    bad = devkit("launch", "--max-restarts", "1", "again.py", cwd=tmp_path)
    assert bad.status == 1
    assert "rank 0 failed" in bad.err


def test_ranks_come_out_of_a_clean_environment(tmp_path: Path, devkit: Devkit) -> None:
    names = ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM", "PADDLE_MASTER", "PYTHONPATH", "MINE", "FLAGS_check_nan_inf")
    (tmp_path / "show.py").write_text(f"import os\nprint({{n: os.environ.get(n) for n in {names}}})\n")
    stale = {"PADDLE_TRAINER_ID": "7", "PADDLE_TRAINERS_NUM": "8", "PADDLE_MASTER": "10.0.0.1:1"}
    own = {"PYTHONPATH": str(tmp_path / "lib"), "MINE": "kept", "FLAGS_check_nan_inf": "1"}

    result = devkit("launch", "show.py", cwd=tmp_path, env=stale | own)

    assert result.out.strip() == str({**dict.fromkeys(names), **own})


def test_what_would_be_run_is_shown_and_refused_as_the_run_would(tmp_path: Path, devkit: Devkit) -> None:
    (tmp_path / "train.py").write_text("print('hello')\n")
    words = ("launch", "--nproc", "2", "--no-guard")
    planned = devkit(*words, "--dry-run", "train.py", "--lr", "1")
    run = devkit(*words, "-v", "train.py", "--lr", "1")

    assert (planned.status, run.status) == (0, 0)
    shown = [line.rpartition("$ ")[2] for line in run.err.splitlines() if "devkit.kernels.guard" in line]
    assert [line.partition("/")[2] for line in planned.out.splitlines()] == [word.partition("/")[2] for word in shown]
    assert "PADDLE_TRAINER_ID=1" in planned.out
    for refused in (["nothing.py"], [], ["--nproc", "0", "train.py"], ["--show", "no", "train.py"]):
        answer = devkit("launch", *refused)
        assert answer.status in {1, 2}, refused
        assert devkit("launch", "--dry-run", *refused) == answer
