"""Files that hand a launch to a cluster: a batch script for Slurm, a PaddleJob for Kubeflow's operator."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import UsageError

KINDS = {"slurm": "slurm.sh.j2", "kubernetes": "kubernetes.yaml.j2"}
NAME_LENGTH = 40
PORT = 36543
IMAGE = "paddlepaddle/paddle:3.3.1"
"""What a PaddleJob runs in where no image is named; devkit is to be in it."""


@dataclass(frozen=True)
class Job:
    """What a cluster is to run.

    Attributes:
        words: of the command, without what says which machine it is.
        script: the script of ``launch`` and its arguments; ``train`` has none.
        nodes: machines.
        gpus: of each; 0 for CPU ranks.
        directory: where it is run.
        image: of the container, on Kubernetes.
    """

    words: tuple[str, ...]
    script: tuple[str, ...]
    nodes: int
    gpus: int
    directory: str
    image: str = IMAGE
    command: str = "launch"
    devkit: str = "devkit"

    @property
    def name(self) -> str:
        """Its name, of the letters that both clusters take."""
        if not self.script:
            return self.command
        own = self.script[1] if self.script[0] == "-m" else Path(self.script[0]).stem
        return re.sub(r"[^a-z0-9]+", "-", own.lower()).strip("-")[:NAME_LENGTH].strip("-") or "train"


def gpus_of_each(gpus: str, nproc: int | None) -> int:
    """Return how many GPUs a machine of a job has: those that ``--gpus`` names, or as many as ranks; 0 without it."""
    named = [word for word in gpus.split(",") if word.strip()]
    return nproc or len(named) if named else 0


def render(kind: str, job: Job) -> str:
    """Return the file for a kind of cluster.

    Raises:
        UsageError: there is no such kind, or a word cannot be written there.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    import devkit

    if kind not in KINDS:
        raise UsageError(f"--emit is {kind}", f"It is {' or '.join(KINDS)}.", "--emit slurm")
    if any("\n" in word or "\0" in word for word in (*job.words, *job.script, job.directory, job.image)):
        raise UsageError("a word has a line's end in it", "A job's file cannot hold it.")
    folder = Path(devkit.__file__).parent / "templates" / "jobs"
    templates = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML; each value is quoted below, for a shell or as JSON, which is YAML
    )  # fmt: skip
    values = _for_slurm(job) if kind == "slurm" else _for_kubernetes(job)
    return templates.get_template(KINDS[kind]).render(nodes=job.nodes, gpus=job.gpus, **values)


def _for_slurm(job: Job) -> dict[str, object]:
    words = shlex.join(job.words)
    return {
        "name": job.name,
        "directory": shlex.quote(job.directory),
        "command": f"{shlex.quote(job.devkit)} {job.command}".replace("'", "'\\''"),
        "words": words.replace("'", "'\\''"),  # within single quotes
        "script": shlex.join(job.script),
    }


def _for_kubernetes(job: Job) -> dict[str, object]:
    own = ["--nnodes", str(job.nodes), "--node-rank", "$(NODE_RANK)", "--master", f"{job.name}-worker-0:{PORT}"]
    command = ["devkit", job.command, *map(_literal, job.words), *own]
    command += ["--", *map(_literal, job.script)] if job.script else []
    return {
        "name": json.dumps(job.name),
        "image": json.dumps(job.image),
        "directory": json.dumps(job.directory),
        "command": [json.dumps(word) for word in command],
    }


def _literal(word: str) -> str:
    """Return a word in which Kubernetes puts no variable."""
    return word.replace("$(", "$$(")
