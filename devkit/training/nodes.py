"""Runs over several machines: this machine's ranks under ``paddle.distributed.launch``.

Paddle's launcher writes its whole environment to its log folder, and its ranks read it there. So it gets one without
anything that is not training's, and a folder of its own, which is removed when the run ends. Its ranks inherit
neither our pipe nor an input of their own: they read the request from a file and append their events to one each,
which are followed here.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError
from devkit.launch import Ended, device_side
from devkit.launching.rank_state import Rank
from devkit.launching.ranks import clean_environment, free_port, interfaces
from devkit.launching.verdict import PortTaken
from devkit.launching.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devkit.app import App
    from devkit.child import Child
    from devkit.launch import Event
    from devkit.runs import Run
    from devkit.training.request import TrainRequest

KEPT_NAMES = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
    "CXX",
)
KEPT_BEGINNINGS = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "NCCL_", "GLOO_", "FLAGS_", "PYTHON", "CUDA_", "GLOG_")
FOLLOW_S = 0.1
FOLDER = "launch"
REQUEST = "request.json"


def launcher_environment(environ: dict[str, str]) -> dict[str, str]:
    """Return what of an environment training needs: the rest, credentials among it, is not for a dump."""
    return {name: value for name, value in environ.items() if name in KEPT_NAMES or name.startswith(KEPT_BEGINNINGS)}


def command_line(request: TrainRequest, folder: Path) -> list[str]:
    """Return the line that starts this machine's ranks; what they say and are asked is in ``folder``."""
    nodes = request.nodes
    script = device_side() / "devkit" / "kernels" / "training" / "launched.py"
    return [
        str(request.environment.python),
        "-m",
        "paddle.distributed.launch",
        *("--nnodes", str(nodes.count)),
        *("--rank", str(nodes.rank)),
        *("--master", nodes.master),
        *("--nproc_per_node", str(request.nproc)),
        *(("--devices", ",".join(map(str, request.gpus))) if request.gpus else ()),
        *("--log_dir", str(folder)),
        str(script),
        str(folder / REQUEST),
    ]


def train(app: App, request: TrainRequest, run: Run, message: dict[str, Any], tell: Callable[[Event], None]) -> None:
    """Run this machine's ranks to their end, as ``session.train`` does.

    Raises:
        DevkitError: a rank of this machine refused, failed, died or hung.
    """
    from devkit.kernels.machine import cores
    from devkit.kernels.protocol import PROTOCOL

    folder = run.folder / FOLDER
    folder.mkdir(mode=0o700)
    (folder / REQUEST).write_text(json.dumps({"protocol": PROTOCOL, **message}) + "\n", encoding="utf-8")
    environ = launcher_environment(clean_environment(app, max(1, cores() // request.nproc), request.environment.python))
    environ |= interfaces(request.nodes.master.rpartition(":")[0], environ)
    if not request.gpus:
        # One label a rank, or Paddle's launcher fails where a machine has several; CUDA sees no device in any.
        environ |= {"PADDLE_DISTRI_BACKEND": "gloo", "CUDA_VISIBLE_DEVICES": ",".join(["-1"] * request.nproc)}
    first = request.nodes.rank * request.nproc
    ranks = [
        Rank(first + index, folder / f"workerlog.{index}", excused=True, kept=run.folder / f"rank-{first + index}.log")
        for index in range(request.nproc)
    ]
    child = app.runner.start(command_line(request, folder), cwd=folder, env=environ, log=run.log(FOLDER))
    try:
        watch(
            ranks,
            followed(child, ranks, folder, run.log(FOLDER)),
            request.hang_timeout_s,
            tell,
            machines=request.nodes.count,
        )
    except PortTaken as error:
        raise taken(request) from error
    finally:
        child.end()
        for rank in ranks:
            with contextlib.suppress(OSError):
                _keep_redacted(rank)
        shutil.rmtree(folder, ignore_errors=True)


def refuse_taken_port(request: TrainRequest) -> None:
    """Refuse, on the first machine, a port at which another program listens.

    Raises:
        DevkitError: it is taken.
    """
    if request.nodes.rank == 0:
        try:
            socket.create_server(("", int(request.nodes.master.rpartition(":")[2]))).close()
        except OSError as error:
            raise taken(request) from error


def taken(request: TrainRequest) -> DevkitError:
    """Return the error for a port that another program has."""
    host, _, port = request.nodes.master.rpartition(":")
    return DevkitError(
        f"port {port} of the first machine is in use",
        "The ranks of all machines meet there.",
        f"devkit train --nnodes {request.nodes.count} --master {host}:{free_port()}   on every machine",
    )


def _keep_redacted(rank: Rank) -> None:
    from devkit.redact import redact

    if rank.kept:
        rank.kept.write_text(redact(rank.log.read_text(encoding="utf-8", errors="replace")), encoding="utf-8")


def followed(
    child: Child, ranks: list[Rank], folder: Path, launcher: Path
) -> Iterator[tuple[Rank, Event | Ended] | None]:
    """Yield what the ranks append to their files, and the launcher's end as theirs.

    What the launcher said is what a rank said that it never started.
    """
    offsets = [0] * len(ranks)
    while True:
        status = child.process.poll()
        for index, rank in enumerate(ranks):
            for event in _appended(folder / f"events-{index}.jsonl", index, offsets):
                yield rank, event
        if status is not None:
            for rank in ranks:
                if not rank.log.exists():
                    shutil.copyfile(launcher, rank.log)
                yield rank, Ended(status)
        time.sleep(FOLLOW_S)
        yield None


def _appended(path: Path, index: int, offsets: list[int]) -> Iterator[Event]:
    try:
        with path.open("rb") as file:
            file.seek(offsets[index])
            data = file.read()
    except FileNotFoundError:
        return
    whole, _, _ = data.rpartition(b"\n")
    if whole:
        offsets[index] += len(whole) + 1
        for line in whole.split(b"\n"):
            yield json.loads(line)
