"""Weights that go out of a run and into one, and texts that a run's model continues."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError, Hint, UsageError
from devkit.launch import Worker, device_environment

if TYPE_CHECKING:
    from devkit.app import App
    from devkit.envs.resolve import Environment
    from devkit.launch import Event
    from devkit.runs import Entry

CONFIG = "config.json"


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


def last_checkpoint(entry: Entry) -> Path:
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


def export(app: App, environment: Environment, source: Path, folder: Path, dtype: str) -> Event:
    """Write a run's weights to ``folder``, which is whole or is not there; return what was written.

    Raises:
        DevkitError: the folder has something in it or cannot be written, or the checkpoint is damaged.
    """
    check_target(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DevkitError(f"{folder} cannot be written", f"{error.strerror}.") from error
    try:
        with tempfile.TemporaryDirectory() as logs:
            environ = device_environment(app, threads=1)
            with Worker(app, environment, "training", folder=Path(logs), name="export", environ=environ) as worker:
                request = {"op": "export", "checkpoint": str(source), "folder": str(partial), "dtype": dtype}
                exported = worker.ask(request, "exported")
        partial.chmod(0o777 & ~_umask())
        if folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def check_target(folder: Path) -> None:
    """Refuse a folder to write to that has something in it.

    Raises:
        DevkitError: it has, or is a file.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DevkitError(f"{folder} is no folder", "Weights are written to a new one.")
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
    with tempfile.TemporaryDirectory() as logs:
        environ = device_environment(app, python=None if environment.container else environment.python)
        with Worker(app, environment, "training", folder=Path(logs), name="sample", environ=environ) as worker:
            return worker.ask({"op": "sample", "model": str(source), **message}, "sampled")
