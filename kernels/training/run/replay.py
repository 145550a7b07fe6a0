"""A step that was not finite, kept with the state before it and its batch, and taken again, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...guard import checks
from ...protocol import Refusal, emit
from ..parallel.zero import NotFinite
from . import checkpoint

if TYPE_CHECKING:
    from .trainer import Trainer

LARGEST = 8 << 30
"""Bytes of values and moments, beyond which a bad step's state is not written without being asked for."""
BYTES_EACH = 12
TRACED = ("tokens", "labels")


def keep(trainer: Trainer, error: NotFinite) -> None:
    """Write the state before a step that is not finite, and its batch, for a replay; all ranks call it."""
    options, step = trainer.options, trainer.done + 1
    if not options.checkpoints or options.replay or options.shape.parameters * BYTES_EACH > LARGEST:
        return
    root = Path(options.checkpoints)
    path = root / f"bad-step-{step:08d}.npz"
    try:
        if not checkpoint.folder(root, trainer.done).exists():
            trainer.save()
        if trainer.comm.leads:
            tokens, labels = trainer.batch(step)
            np.savez(path, tokens=tokens, labels=labels)
    except (Refusal, OSError):  # the failure itself is what is told
        return
    if trainer.comm.rank == 0:
        emit("bad_step", step=step, bad_rank=error.rank, tensor=error.tensor, path=str(path))


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the batch of a bad step.

    Raises:
        Refusal: it cannot be read.
    """
    try:
        with np.load(path) as held:
            tokens, labels = (held[name] for name in TRACED)
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"the batch {path} cannot be read", f"{error}.") from error
    return tokens, labels


def replay(trainer: Trainer) -> None:
    """Take the step again without its update, and tell of the first layer of each rank whose output is not finite."""
    step = trainer.progress.step = trainer.done + 1
    found: list[dict[str, Any]] = []
    hooks = []
    for name, layer in trainer.model.named_sublayers(include_self=True):
        hooks.append(layer.register_forward_post_hook(_look(name or "the model", found)))
    fault: NotFinite | None = None
    try:
        reduced = trainer.engine.reduced(trainer.gradients(step), trainer.meter)
    except NotFinite as error:
        fault = error
    finally:
        for hook in hooks:
            hook.remove()
    for location in found[:1]:
        emit("located", rank=trainer.comm.rank, step=step, **location)
    trainer.comm.meet()
    if trainer.comm.rank == 0:
        fields: dict[str, Any] = {"finite": fault is None}
        if fault is None:
            fields |= {"loss": reduced.loss, "grad_norm": reduced.grad_norm}
        else:
            fields |= {"bad_rank": fault.rank, "tensor": fault.tensor}
        emit("replayed", step=step, lr=trainer.options.learning_rate(step), **fields)


def _look(name: str, found: list[dict[str, Any]]) -> Any:
    def look(_layer: Any, inputs: Any, outputs: Any) -> None:
        if found:
            return
        bad = next((tensor for tensor in checks.tensors_in(outputs) if not checks.is_finite(tensor)), None)
        if bad is not None:
            clean = all(checks.is_finite(tensor) for tensor in checks.tensors_in(inputs))
            found.append({"layer": name, "what": checks.what_is_in(bad), "input_finite": clean})

    return look
