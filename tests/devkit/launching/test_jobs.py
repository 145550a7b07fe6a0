from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from devkit.errors import UsageError
from devkit.launching.hosts import HostsRequest, parse_hosts
from devkit.launching.jobs import Job, gpus_of_each, render

if TYPE_CHECKING:
    from pathlib import Path

NASTY = ("train.py", "it's", "a b", '"$HOME"', "$(id)")


def test_a_slurm_script_hands_each_word_on_as_it_is(tmp_path: Path) -> None:
    """Run it for real, with what Slurm would provide stood in for: srun runs its words, scontrol names two machines."""
    for name, body in {
        "srun": 'shift; SLURM_NNODES=2 SLURM_NODEID=1 exec "$@"',
        "scontrol": "printf 'first\\nsecond\\n'",
        "devkit": "printf '<%s>' \"$@\"",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    text = render("slurm", Job(("--nproc", "2", "--env", "it's"), NASTY, 2, 4, str(tmp_path)))
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "x", "SLURM_JOB_ID": "7", "HOME": "/none"}
    done = subprocess.run(["bash"], input=text, env=environ, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 0, done.stderr
    own = "<launch><--nproc><2><--env><it's><--nnodes><2><--node-rank><1><--master><first:20007><-->"
    assert done.stdout == own + "".join(f"<{word}>" for word in NASTY)
    assert "#SBATCH --nodes=2\n" in text
    assert "#SBATCH --gpus-per-node=4\n" in text
    assert "--gpus-per-node" not in render("slurm", Job((), NASTY, 2, 0, "/x"))


def test_a_paddlejob_names_each_machine_by_its_replica() -> None:
    text = render("kubernetes", Job((), NASTY, 3, 8, "/work", "registry/image:1"))
    command = text.split("command:\n")[1].split("resources:")[0].strip().splitlines()
    words = [json.loads(line.strip()[2:]) for line in command]

    assert words[-len(NASTY) :] == [*NASTY[:-1], "$$(id)"], "Kubernetes makes $( of $$("
    assert words[words.index("--node-rank") + 1] == "$(NODE_RANK)"
    assert words[words.index("--master") + 1] == "train-worker-0:36543"
    for line in ("kind: PaddleJob", "replicas: 3", "nvidia.com/gpu: 8", 'image: "registry/image:1"'):
        assert line in text


def test_training_is_a_job_without_a_script(tmp_path: Path) -> None:
    job = Job(("--mp", "2", "--data", "it's"), (), 2, 8, str(tmp_path), command="train")
    (tmp_path / "srun").write_text('#!/bin/bash\nshift; SLURM_NNODES=2 SLURM_NODEID=0 exec "$@"\n')
    (tmp_path / "scontrol").write_text("#!/bin/bash\nprintf 'first\\nsecond\\n'\n")
    (tmp_path / "devkit").write_text("#!/bin/bash\nprintf '<%s>' \"$@\"\n")
    for name in ("srun", "scontrol", "devkit"):
        (tmp_path / name).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "x", "SLURM_JOB_ID": "7", "HOME": "/none"}
    text = render("slurm", job)
    done = subprocess.run(["bash"], input=text, env=environ, capture_output=True, text=True, timeout=20, check=True)

    assert done.stdout == "<train><--mp><2><--data><it's><--nnodes><2><--node-rank><0><--master><first:20007>"
    words = render("kubernetes", job).split("command:\n")[1].split("resources:")[0].split()
    assert [json.loads(word) for word in words if word != "-"][-2:] == ["--master", "train-worker-0:36543"]


@pytest.mark.parametrize(
    ("gpus", "nproc", "count"), [("", None, 0), ("", 4, 0), ("0,1,2", None, 3), ("0,1,2", 2, 2), ("0", None, 1)]
)
def test_a_job_asks_for_the_gpus_that_are_named(gpus: str, nproc: int | None, count: int) -> None:
    assert gpus_of_each(gpus, nproc) == count


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError, match="--emit is pbs"):
        render("pbs", Job((), NASTY, 1, 0, "/"))
    with pytest.raises(UsageError, match="line's end"):
        render("slurm", Job((), ("train.py", "a\nb"), 1, 0, "/"))


@pytest.mark.parametrize("hosts", ["a", "a,-oProxyCommand=x", "a,b c", "a,;id", ""])
def test_names_that_are_no_machines(hosts: str) -> None:
    with pytest.raises(UsageError):
        parse_hosts(hosts)
    assert parse_hosts("a, user@node-2.lan") == ("a", "user@node-2.lan")


def test_the_line_of_a_machine_is_one_shell_line_of_quoted_words(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    (tmp_path / "devkit").write_text('#!/bin/sh\nprintf \'<%s>\' "$DEVKIT_RESTART" "$PWD" "$@"\n')
    (tmp_path / "devkit").chmod(0o755)
    request = HostsRequest(
        ("a", "b"), "10.0.0.1", 29500, str(tmp_path / "devkit"), tmp_path / "with space", ("--nproc", "2"), NASTY
    )
    done = subprocess.run(["sh", "-c", request.line(1, 3)], capture_output=True, text=True, timeout=20, check=False)

    own = f"<3><{tmp_path}/with space><launch><--nproc><2><--nnodes><2><--node-rank><1><--master><10.0.0.1:29500><-->"
    assert done.stdout == own + "".join(f"<{word}>" for word in NASTY)
