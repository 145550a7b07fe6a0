from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.commands.train.conftest import Session, StartTraining
    from tests.conftest import Devkit


def gone(session: Session, pids: list[int]) -> bool:
    """Wait for the end of the ranks."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return session.ranks() == {}
        time.sleep(0.05)
    return False


def newest_run(home: Path) -> Path:
    return max((home / ".local/state/devkit/runs").glob("*-train-*"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.both_ways("train")
def test_a_run_tells_its_steps_and_keeps_them_and_stages_compare(
    start_training: StartTraining, devkit: Devkit, home: Path
) -> None:
    planned = devkit("train", "--stage", "3", "--size", "tiny", "--dry-run").out.splitlines()
    sharded = start_training("--stage", "3", "--steps", "4", "--trace", "2", "-v")
    status, err, _ = sharded.end()
    assert status == 0
    started = [line.rpartition("$ ")[2] for line in err.splitlines() if "devkit.kernels.training" in line][1:]
    assert [line.partition("/")[2] for line in planned] == [line.partition("/")[2] for line in started]
    alone = start_training("--nproc", "1", "--steps", "4", "--trace", "1-2")
    assert alone.end()[0] == 0
    other = start_training("--nproc", "1", "--steps", "4", "--seed", "1")
    assert other.end()[0] == 0

    names = [event["event"] for event in sharded.events]
    assert [name for name in names if name not in {"build", "memory"}] == [
        "plan",
        "start",
        *["step"] * 4,
        "validation",
        "done",
    ]
    assert names.count("memory") == 2
    step = next(event for event in sharded.events if event["event"] == "step")
    assert {"step", "loss", "grad_norm", "lr", "tokens_per_s", "peak_mib"} <= step.keys()
    for row in (event for event in sharded.events if event["event"] == "memory"):
        parts = row["parameters_mib"] + row["gradients_mib"] + row["optimizer_mib"]
        assert row["predicted_mib"] == pytest.approx(parts)
        assert row["measured_mib"] == pytest.approx(parts, rel=0.02)

    records = [json.loads((path / "record.json").read_text()) for path in (home / ".local/state/devkit/runs").iterdir()]
    record = next(row for row in records if row["arguments"]["options"]["stage"] == 3)
    assert record["result"]["losses"] == list(sharded.losses.values())
    assert len(record["result"]["memory"]) == 2
    assert record["result"]["tokens_per_s"] > 0
    assert record["status"] == 0
    ids = {(row["arguments"]["nproc"], row["arguments"]["options"]["seed"]): row["id"] for row in records}

    same = devkit("train", "compare", ids[2, 0], ids[1, 0])
    assert same.status == 0, same.err
    assert "the same to 1e-05 over 4 steps" in same.err
    traced = devkit("train", "compare", ids[2, 0], ids[1, 0], "--trace")
    assert traced.status == 0, traced.err
    assert "rounding explains every difference; 1 step traced in both" in traced.err
    untraced = devkit("train", "compare", ids[1, 0], ids[1, 1], "--trace")
    assert untraced.status == 1
    assert f"run {ids[1, 1]} has no trace" in untraced.err
    parted = devkit("train", "compare", ids[1, 0], ids[1, 1])
    assert parted.status == 4
    assert "the curves part at step 1" in parted.err
    answer = json.loads(devkit("train", "compare", ids[1, 0], ids[1, 1], "--json").out)
    assert (answer["parted_at"], len(answer["steps"])) == (1, 4)
    assert answer["cost"][0]["trained"] == answer["cost"][0]["parameters"] == 109_120
    assert answer["cost"][1]["tokens_per_s"] > 0
    assert "peak MiB of a rank" in parted.out


def test_a_killed_rank_is_named_within_five_seconds(start_training: StartTraining) -> None:
    session = start_training("--stage", "2", "--steps", "100000")
    session.until("step", 3)
    ranks = session.ranks()
    assert sorted(ranks) == [0, 1]

    os.kill(ranks[1], signal.SIGKILL)
    status, err, seconds = session.end()

    assert status == 1
    assert "rank 1 was ended by SIGKILL in step" in err
    assert "Traceback" not in err
    assert seconds < 5
    assert gone(session, list(ranks.values()))


@pytest.mark.slow
def test_a_rank_that_stands_still_is_named_with_its_stack(start_training: StartTraining) -> None:
    session = start_training("--stage", "1", "--steps", "100000", "--hang-timeout", "6")
    session.until("step", 3)
    ranks = session.ranks()

    os.kill(ranks[1], signal.SIGSTOP)
    status, err, _ = session.end()

    assert status == 1
    assert "rank 1 has made no progress for 6 s, in step" in err
    assert [(event["rank"], event["stopped"]) for event in session.events if event["event"] == "late"] == [(1, True)]
    assert "stopped by a signal" in err
    assert "trainer.py" in err
    assert gone(session, list(ranks.values()))


def test_control_c_ends_every_rank_and_leaves_no_half_checkpoint(start_training: StartTraining, home: Path) -> None:
    session = start_training("--steps", "100000", "--save-every", "1")
    session.until("checkpoint", 3)
    ranks = session.ranks()

    session.process.send_signal(signal.SIGINT)
    status, err, seconds = session.end()

    assert status == 130
    assert "interrupted" in err
    assert re.search(r"devkit train --resume \w+ +goes on from step \d+", err)
    assert "Traceback" not in err
    assert seconds < 10
    assert gone(session, list(ranks.values()))
    assert all(path.suffix != ".partial" for path in (newest_run(home) / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_run_whose_devkit_was_killed_goes_on_bit_for_bit_past_a_damaged_checkpoint(
    start_training: StartTraining, home: Path, devkit: Devkit
) -> None:
    straight = start_training("--stage", "2", "--steps", "12", "--save-every", "4")
    assert straight.end()[0] == 0
    finished = newest_run(home)
    killed = start_training("--stage", "2", "--steps", "12", "--save-every", "2")
    killed.until("checkpoint", 4)
    ranks = killed.ranks()
    killed.process.kill()
    killed.end()
    assert gone(killed, list(ranks.values())), "the ranks die with devkit"
    run = newest_run(home)
    name = json.loads((run / "record.json").read_text())["id"]
    listed = devkit("runs", "list", "--json", "--command", "train").out
    assert [load["state"] for load in json.loads(listed) if load["id"] == name] == ["killed"]

    shards = sorted(path for path in (run / "checkpoints").iterdir() if path.suffix != ".partial")
    assert len(shards) == 2
    data = bytearray((shards[-1] / "rank-00001.safetensors").read_bytes())
    data[-5] ^= 1
    (shards[-1] / "rank-00001.safetensors").write_bytes(data)
    again = start_training("--resume", name)
    status, err, _ = again.end()

    assert status == 0, err
    step = int(shards[0].name.removeprefix("step-"))
    assert f"the checkpoint {shards[-1].name} is damaged" in err
    assert again.losses == {number: loss for number, loss in straight.losses.items() if number > step}
    assert next(e for e in again.events if e["event"] == "validation") == next(
        e for e in straight.events if e["event"] == "validation"
    )
    again = start_training("--resume", json.loads((finished / "record.json").read_text())["id"])
    status, err, _ = again.end()
    assert status == 1
    assert "all 12 steps are taken" in err


def faulty(folder: Path, program: str) -> tuple[str, str]:
    """Make an environment whose Python runs ``program`` where it should run a module; return the flag for it."""
    (folder / "faulty/bin").mkdir(parents=True)
    (folder / "faulty/program.py").write_text(program)
    python = folder / "faulty/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder}/faulty/program.py" "$@"\n')
    python.chmod(0o755)
    return "--env", "./faulty"


BROKEN = """
import os, runpy, sys
if "PADDLE_TRAINER_ID" in os.environ:
    from devkit.kernels.training.models import qwen2 as model
    forward = model.MLP.forward
    def broken(self, x):
        broken.calls += 1
        if os.environ["PADDLE_TRAINER_ID"] == "0" and broken.calls == 5:
            raise ArithmeticError("a bug in the model")
        return forward(self, x)
    broken.calls = 0
    model.MLP.forward = broken
sys.argv = sys.argv[1:]
runpy.run_module("devkit.kernels.training", run_name="__main__", alter_sys=True)
"""


def test_a_rank_that_raises_is_named_with_its_step_and_traceback(start_training: StartTraining, tmp_path: Path) -> None:
    status, err, _ = start_training(*faulty(tmp_path, BROKEN), "--stage", "3", "--steps", "9").end()

    assert status == 1
    assert "rank 0 failed in step 3: ArithmeticError: a bug in the model" in err
    assert "in broken" in err


SPINNING = """
import os, runpy, sys
if "PADDLE_TRAINER_ID" in os.environ:
    from devkit.kernels.training.models import qwen2 as model
    forward = model.MLP.forward
    def spin_here(self, x):
        spin_here.calls += 1
        while os.environ["PADDLE_TRAINER_ID"] == "1" and spin_here.calls == 9:
            pass
        return forward(self, x)
    spin_here.calls = 0
    model.MLP.forward = spin_here
sys.argv = sys.argv[1:]
runpy.run_module("devkit.kernels.training", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_rank_that_loops_is_named_and_not_the_one_that_waits(start_training: StartTraining, tmp_path: Path) -> None:
    environment = faulty(tmp_path, SPINNING)

    status, err, _ = start_training(*environment, "--stage", "2", "--steps", "99", "--hang-timeout", "20").end(240)

    assert status == 1
    assert "rank 1 has made no progress for 20 s, in step" in err
    assert "in spin_here" in err


@pytest.mark.slow
def test_a_port_that_was_taken_in_the_meantime_is_replaced(tmp_path: Path, home: Path, cache: None) -> None:
    import socket

    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.kernels.training.options import Options
    from devkit.launching.ranks import free_port
    from devkit.training import session
    from devkit.training.request import Nodes, TrainRequest

    assert home.exists()
    assert cache is None
    assert tmp_path.exists()
    tiny: dict[str, Any] = {"stage": 1, "steps": 2, "batch": 4, "seqlen": 32, "size": "tiny"}
    options = Options(world_size=2, device="cpu", **tiny)
    environment = Environment("this", Path(sys.executable), "the test's")
    request = TrainRequest(environment, options, gpus=(), nproc=2, nodes=Nodes(), hang_timeout_s=30.0)
    app = App(["train"])
    events: list[str] = []
    with socket.create_server(("", 0)) as taken, app.start_run("train", **request.arguments()) as run:
        first, ports = session.starts(request, taken.getsockname()[1]), iter([free_port()])
        message = {"op": "train", **asdict(options)}
        session.train(
            app, request, first, run, message, lambda event: events.append(event["event"]), lambda: next(ports)
        )

    assert events.count("step") == 2
    assert next(ports, None) is None


@pytest.mark.slow
def test_two_machines_train_as_one_and_leave_no_dump(start_training: StartTraining, home: Path) -> None:
    from devkit.launching.ranks import free_port

    nodes = ("--nnodes", "2", "--nproc", "2", "--stage", "2", "--steps", "3", "--master", f"127.0.0.1:{free_port()}")
    secret = {"SOME_TOKEN": "hunter2-in-the-environment"}
    both = [start_training(*nodes, "--node-rank", str(rank), env=secret) for rank in range(2)]
    for session in both:
        status, err, _ = session.end(90)
        assert status == 0, err
    alone = start_training("--nproc", "1", "--steps", "3")
    assert alone.end()[0] == 0

    assert both[0].losses == pytest.approx(alone.losses, abs=1e-5)
    assert {event["rank"] for event in both[1].events if event["event"] == "memory"} == {2, 3}
    for folder in (home / ".local/state/devkit/runs").glob("*-train-*"):
        assert not (folder / "launch").exists()
        for path in (path for path in folder.rglob("*") if path.is_file()):
            assert b"hunter2" not in path.read_bytes(), path


def _node_rank(run: Path) -> int:
    return int(json.loads((run / "record.json").read_text())["arguments"]["nodes"]["rank"])


@pytest.mark.slow
def test_machines_each_keep_their_part_of_a_checkpoint_and_go_on_together(
    start_training: StartTraining, devkit: Devkit, home: Path
) -> None:
    from devkit.launching.ranks import free_port

    def both(steps: int, *words: tuple[str, ...]) -> list[Session]:
        meet = ("--nnodes", "2", "--nproc", "1", "--stage", "2", "--master", f"127.0.0.1:{free_port()}")
        asked = ("--steps", str(steps), *meet)
        started = [start_training(*asked, "--node-rank", str(rank), *words[rank]) for rank in range(2)]
        for session in started:
            status, err, _ = session.end(120)
            assert status == 0, err
        return started

    whole = both(6, (), ())
    saved = both(6, *[("--save-every", "2", "--steps", "4")] * 2)
    assert [event["step"] for event in saved[1].events if event["event"] == "checkpoint"] == [2, 4]
    runs = sorted((home / ".local/state/devkit/runs").glob("*-train-*"))
    held = sorted((run for run in runs if (run / "checkpoints").is_dir()), key=_node_rank)
    ids = [run.name.rpartition("-")[2] for run in held]
    lost = next(held[1].glob("checkpoints/step-00000004"))
    for path in lost.iterdir():
        path.unlink()
    lost.rmdir()  # one machine was cut off before it had the last

    alone = devkit("train", "--resume", ids[0], "--nproc", "1", "--nnodes", "1", "--steps", "6")
    assert alone.status == 1
    assert "on none of these machines" in alone.err
    assert "--nnodes 2" in alone.err
    resumed = both(6, *[("--resume", id_) for id_ in ids])
    assert resumed[0].losses == {step: loss for step, loss in whole[0].losses.items() if step > 2}
    assert (held[0] / "checkpoints/step-00000002/rank-00001.safetensors").is_file(), "now each has it whole"


def test_on_a_terminal_the_table_lives_and_stays(tmp_path: Path, home: Path, cache: None) -> None:
    import pty
    import subprocess

    assert home.exists()
    assert cache is None
    parent, child = pty.openpty()
    repository = Path(__file__).parents[3]
    words = ["--size", "tiny", "--nproc", "1", "--batch", "2", "--seqlen", "32", "--steps", "3"]
    with subprocess.Popen(
        [sys.executable, "-m", "devkit", "train", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=child,
        stdout=child,
        stderr=child,
    ) as process:
        os.close(child)
        said = b""
        try:
            while data := os.read(parent, 65536):
                said += data
        except OSError:
            pass  # how a terminal's end looks
        assert process.wait(60) == 0, said
    os.close(parent)
    text = said.decode()
    assert "grad norm" in text
    assert text.index("grad norm") < text.rindex("validation") < text.rindex("sum predicted")
    assert "\x1b[" in text


def test_a_step_that_is_not_finite_is_kept_and_taken_again(start_training: StartTraining, devkit: Devkit) -> None:
    run = start_training("--nproc", "1", "--steps", "4", "--warmup", "0", "--lr", "1e30", "--clip", "0")
    status, err, _ = run.end()
    assert status == 1
    kept = next(event for event in run.events if event["event"] == "bad_step")
    assert f"takes step {kept['step']} again" in err

    again = devkit("train", "replay", "last")
    assert again.status == 4, again.err
    assert f"step {kept['step']} is bad again" in again.err
    assert "is the first layer" in again.out
    answer = json.loads(devkit("train", "replay", "last", "--json").out)
    assert answer["replayed"]["finite"] is False
    assert answer["located"][0]["rank"] == 0


def test_a_run_without_a_bad_step_cannot_be_replayed(start_training: StartTraining, devkit: Devkit) -> None:
    assert start_training("--nproc", "1", "--steps", "1").end()[0] == 0
    refused = devkit("train", "replay", "last")
    assert refused.status == 1
    assert "kept no bad step" in refused.err
