"""A run's weights as files: whole in Hugging Face's names, or adapters alone in PEFT's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..protocol import Refusal, emit
from .models import huggingface, peft
from .models.parameters import numel
from .options import read_manifest, shape_in
from .run import checkpoint
from .run.source import open_source, unmerged
from .tokens import FILE

if TYPE_CHECKING:
    from .models.parameters import Shape


def export(request: dict[str, Any]) -> None:
    """Write a ``checkpoint`` to ``folder`` in Hugging Face's names, adapters merged; with none, name the files only.

    With ``adapters`` they alone are written, in PEFT's names; with ``unmerge``, the folder of weights that they are
    merged in, those weights without them.

    Raises:
        Refusal: there is none, or the folder cannot be written.
    """
    manifest, folder = checkpoint.read(Path(request["checkpoint"])), request["folder"]
    shape = shape_in(read_manifest(manifest.path))
    if shape.lora is None and (request.get("adapters") or request.get("unmerge")):
        raise Refusal(
            f"{manifest.path.name} has no adapters", "All of the model was trained.", "devkit train export RUN DIR"
        )
    try:
        if request.get("adapters"):
            _adapters(manifest, shape, folder)
        else:
            _weights(manifest, shape.without_adapters, folder, request["dtype"], request.get("unmerge"))
    except OSError as error:
        raise Refusal(f"{folder} could not be written", f"{error.strerror or error}.", f"df -h {folder}") from error


def _weights(manifest: checkpoint.Manifest, shape: Shape, folder: str, dtype: str, merged: str | None) -> None:
    source = unmerged(manifest, Path(merged)) if merged else open_source(manifest.path)
    told = {"step": manifest.step, "parameters": shape.parameters}
    tokenizer = manifest.options.get("tokenizer")
    named = [FILE] if tokenizer and Path(tokenizer).is_file() else []
    if not folder:
        emit("exported", files=[*files_of(shape, dtype), *named], **told)
        return
    tensors = (item for name in shape.all_parameters() for item in huggingface.split(name, source(name), shape).items())
    written = huggingface.write(Path(folder), shape, dtype, tensors)
    written += [Path(shutil.copyfile(str(tokenizer), Path(folder) / name)) for name in named]
    _tell(written, told)


def _adapters(manifest: checkpoint.Manifest, shape: Shape, folder: str) -> None:
    told = {"step": manifest.step, "parameters": sum(numel(tuple(lengths)) for lengths in manifest.shapes.values())}
    if not folder:
        emit("exported", files=peft.FILES, **told)
        return
    reader = checkpoint.Reader(manifest)
    adapters = ((name, reader.whole(name, "value")) for name in manifest.parameters)
    _tell(peft.write(Path(folder), shape, manifest.options.get("init_from"), adapters), told)


def _tell(written: list[Path], told: dict[str, int]) -> None:
    total = sum(path.stat().st_size for path in written)
    emit("exported", files=[path.name for path in written], bytes=total, **told)


def files_of(shape: Shape, dtype: str) -> list[str]:
    """Return the names of the files that a model's weights are written to."""
    import numpy as np

    shards, held = 1, 0
    for name, param in shape.all_parameters().items():
        for value in huggingface.split(name, np.broadcast_to(np.float32(0), param.shape), shape).values():
            length = value.size * (2 if dtype == "bf16" else 4)
            if held and held + length > huggingface.SHARD:
                shards, held = shards + 1, 0
            held += length
    if shards == 1:
        return [huggingface.CONFIG, huggingface.SINGLE]
    numbered = [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
    return [huggingface.CONFIG, *numbered, huggingface.INDEX]
