"""Weights that go out of a run and into one, and texts that a run's model continues."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint, UsageError
from devkit.launch import Worker, device_environment

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.launch import Event
    from devkit.runs import RecordedRun

CONFIG = "config.json"
DTYPES = ("fp32", "bf16")


def model_at(app: App, words: str, flag: str) -> Path:
    """Return the folder of the weights that ``words`` name: one in Hugging Face's names, or a run's last checkpoint.

    Raises:
        DevkitError: there is no such folder or run, or it has no weights.
    """
    folder = Path(words).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).exists() and not (folder / "manifest.json").exists():
            raise DevkitError(
                f"{flag} {words} holds no model", f"A folder of weights has a {CONFIG} of Hugging Face's kind."
            )
        return folder.absolute()
    entry = app.runs.find(words, command="train")
    return last_checkpoint(entry)


def tokenizer_at(words: str) -> str:
    """Return the path of the tokenizer file that ``words`` name: the file, or the folder that it lies in."""
    path = Path(words).expanduser().absolute()
    return str(path / "tokenizer.json" if path.is_dir() else path)


def last_checkpoint(entry: RecordedRun) -> Path:
    """Return the folder of a run's last checkpoint.

    Raises:
        DevkitError: it has none.
    """
    found = sorted(path.parent for path in (entry.folder / "checkpoints").glob("step-*/manifest.json"))
    if not found:
        raise DevkitError(
            f"run {entry.id} has no checkpoint",
            "Its weights were not saved.",
            "devkit train --save-every 20   makes one every 20 steps",
        )
    return found[-1]


@dataclass(frozen=True)
class ExportPlan:
    """Weights that can be written: what ``--dry-run`` prints, and what is written.

    Attributes:
        folder: where to; it is not there, or empty.
        message: the request to the device side, without the folder.
        reply: what it would write: step, files.
    """

    folder: Path
    message: dict[str, Any]
    reply: Event

    def lines(self) -> list[str]:
        """Return what is written."""
        return [f"write {self.folder / name} from {self.message['checkpoint']}" for name in self.reply["files"]]


def plan_export(
    app: App,
    environment: Environment,
    source: Path,
    folder: Path,
    dtype: str,
    *,
    adapters: bool = False,
    unmerge: Path | None = None,
) -> ExportPlan:
    """Return how a checkpoint is written to ``folder`` in Hugging Face's names.

    Args:
        app: whose runner starts the device side.
        environment: where that is.
        source: the checkpoint.
        folder: where to.
        dtype: of the numbers, fp32 or bf16.
        adapters: write them alone, in PEFT's names.
        unmerge: write the weights of this folder without the checkpoint's adapters, which are merged in them.

    Raises:
        DevkitError: the folder has something in it, the checkpoint is damaged, or there is no such dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"there is no dtype '{dtype}'", "Weights are fp32 or bf16.", "--dtype fp32")
    if adapters and unmerge:
        why = "One writes the adapters alone, the other weights without them."
        raise UsageError("--adapters and --unmerge do not go together", why, "--adapters", "--unmerge DIR")
    if adapters and dtype != "fp32":
        raise UsageError("--adapters and --dtype do not go together", "Adapters are small, and fp32.", "--adapters")
    check_target(folder)
    message = {
        "op": "export",
        "checkpoint": str(source),
        "dtype": dtype,
        "adapters": adapters,
        "unmerge": str(unmerge) if unmerge else None,
    }
    return ExportPlan(folder, message, _ask(app, environment, {**message, "folder": ""}))


def export(app: App, environment: Environment, planned: ExportPlan) -> Event:
    """Write weights as planned; the folder is whole or is not there. Return what was written.

    Raises:
        DevkitError: it cannot be written.
    """
    folder = planned.folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DevkitError(f"{folder} cannot be written", f"{error.strerror}.") from error
    try:
        exported = _ask(app, environment, {**planned.message, "folder": str(partial)})
        partial.chmod(0o777 & ~_umask())
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def _ask(app: App, environment: Environment, message: dict[str, Any]) -> Event:
    environ = device_environment(app, threads=1)
    with Worker(app, environment, "training", name="export", environ=environ) as worker:
        return worker.ask(message, "exported")


def check_target(folder: Path) -> None:
    """Refuse a folder to write to that has something in it.

    Raises:
        DevkitError: it has, or is a file.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DevkitError(f"{folder} is not a folder", "Weights are written to a new one.")
    if folder.is_dir() and any(folder.iterdir()):
        raise DevkitError(
            f"{folder} has something in it",
            "Weights are written to a new or an empty folder.",
            Hint.of("devkit", "train", "export", "RUN", f"{folder}-2", purpose="another name"),
        )


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sample(app: App, environment: Environment, source: Path, message: dict[str, Any]) -> Event:
    """Have the model at ``source`` go on with a text; return what it made.

    Raises:
        DevkitError: there is no model, or the text is empty.
    """
    if not message["text"]:
        raise UsageError("the text is empty", "A model goes on from something.", "devkit train sample RUN 'def '")
    environ = device_environment(app, python=None if environment.container else environment.python)
    with Worker(app, environment, "training", name="sample", environ=environ) as worker:
        return worker.ask({"op": "sample", "model": str(source), **message}, "sampled")
