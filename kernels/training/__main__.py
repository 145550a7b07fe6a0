"""``python -m devkit.kernels.training``: one rank, or the plan of a run."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..guard.errors import message, root, where
from ..protocol import Refusal, emit, serve
from . import data
from .models.parameters import numel
from .options import Options, parse
from .run import checkpoint, memory
from .tokens import BYTES, FILE, Tokens, beside

if TYPE_CHECKING:
    from .models.parameters import Shape


def handle(request: dict[str, Any]) -> None:
    """Answer one request: ``op`` is ``plan`` (checks everything that one process can, without Paddle) or ``train``."""
    work = {"sample": sample, "export": export}.get(str(request.get("op")))
    if work:
        work(request)
        return
    options = parse(request)
    if request.get("op") == "plan":
        plan(options)
    else:
        train(options)


def plan(options: Options) -> None:
    """Check text and checkpoint, and tell of the parameters and the predicted bytes a rank.

    Raises:
        Refusal: the run cannot be.
    """
    text = data.load(options.data, options.tokenizer)
    data.require(text, options.batch, options.seqlen)
    resume: str | None = None
    damaged: list[str] = []
    step = 0
    if options.resume:
        manifest, damaged = checkpoint.newest(Path(options.resume))
        resume, step = str(manifest.path), manifest.step
    stages = [memory.predict(options, stage) for stage in range(options.pp)]
    predicted = max(stages, key=lambda stage: stage.peak)
    emit(
        "plan",
        parameters=options.shape.parameters,
        units=len(options.shape.units(0, options.pp)),
        layout={**asdict(options.layout), "sequence_parallel": options.sequence_parallel},
        memory=_mib(predicted),
        stages=[_mib(stage) for stage in stages],
        text=text.source,
        files=text.files,
        skipped=text.skipped,
        train_bytes=text.train_bytes,
        validation_bytes=text.validation_bytes,
        unit=text.unit,
        unigram=data.entropy(text.validation),
        resume=resume,
        resume_step=step,
        damaged=damaged,
    )


def export(request: dict[str, Any]) -> None:
    """Write a ``checkpoint`` to ``folder`` in Hugging Face's names, adapters merged; to none, only tell of the files.

    With ``adapters`` they alone are written, in PEFT's names.

    Raises:
        Refusal: there is none, or the folder cannot be written.
    """
    from .models import huggingface
    from .options import shape_of
    from .run.source import open_source

    manifest = checkpoint.read(Path(request["checkpoint"]))
    if request.get("adapters"):
        export_adapters(manifest, request["folder"])
        return
    shape, tokenizer = shape_of(manifest.path), manifest.options.get("tokenizer")
    if not request["folder"]:
        named = [FILE] if tokenizer and Path(tokenizer).is_file() else []
        files = [*files_of(shape, request["dtype"]), *named]
        emit("exported", step=manifest.step, parameters=shape.parameters, files=files)
        return
    source, folder = open_source(manifest.path), Path(request["folder"])
    names = shape.all_parameters()
    tensors = (item for name in names for item in huggingface.split(name, source(name), shape).items())
    try:
        written = huggingface.write(folder, shape, request["dtype"], tensors)
        if tokenizer and Path(tokenizer).is_file():
            shutil.copyfile(tokenizer, folder / FILE)
            written.append(folder / FILE)
    except OSError as error:
        raise Refusal(f"{folder} could not be written", f"{error.strerror or error}.", f"df -h {folder}") from error
    emit(
        "exported",
        step=manifest.step,
        parameters=shape.parameters,
        files=[path.name for path in written],
        bytes=sum(path.stat().st_size for path in written),
    )


def export_adapters(manifest: checkpoint.Manifest, folder: str) -> None:
    """Write a checkpoint's adapters to a folder; to none, only tell of the files.

    Raises:
        Refusal: it has none, or the folder cannot be written.
    """
    from .models import peft
    from .options import read_manifest, shape_in

    shape = shape_in(read_manifest(manifest.path))
    if shape.lora is None:
        raise Refusal(
            f"{manifest.path.name} has no adapters", "All of the model was trained.", "devkit train export RUN DIR"
        )
    told = {"step": manifest.step, "parameters": sum(numel(tuple(lengths)) for lengths in manifest.shapes.values())}
    if not folder:
        emit("exported", files=peft.FILES, **told)
        return
    reader = checkpoint.Reader(manifest)
    adapters = ((name, reader.whole(name, "value")) for name in manifest.parameters)
    try:
        written = peft.write(Path(folder), shape, shape.lora, manifest.options.get("init_from"), adapters)
    except OSError as error:
        raise Refusal(f"{folder} could not be written", f"{error.strerror or error}.", f"df -h {folder}") from error
    total = sum(path.stat().st_size for path in written)
    emit("exported", files=[path.name for path in written], bytes=total, **told)


def files_of(shape: Shape, dtype: str) -> list[str]:
    """Return the names of the files that a model's weights are written to."""
    import numpy as np

    from .models import huggingface

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


def sample(request: dict[str, Any]) -> None:
    """Go on with ``text`` by the ``model``, a checkpoint or a folder in Hugging Face's names.

    Raises:
        Refusal: there is none.
    """
    from .sample import generate, model_of

    folder = Path(request["model"])
    whole = (folder / "manifest.json").exists()
    named = request.get("tokenizer") or beside(folder, checkpoint.read(folder).options if whole else {})
    tokenizer = Tokens(named) if named else None
    prompt = tokenizer.encode(request["text"]) if tokenizer else list(request["text"].encode())
    model = model_of(Path(request["model"]), len(prompt) + request["tokens"])
    options = {name: request[name] for name in ("temperature", "top_k", "seed")}
    begin = time.perf_counter()
    made = list(generate(model, prompt, request["tokens"], **options))
    if tokenizer:
        text = tokenizer.decode([*prompt, *made])[len(tokenizer.decode(prompt)) :]
    else:
        text = bytes(token for token in made if token < BYTES).decode(errors="replace")
    emit("sampled", text=text, tokens=made, tokens_per_s=len(made) / (time.perf_counter() - begin))


def _mib(predicted: memory.Memory) -> dict[str, float]:
    return {key: value / memory.MIB for key, value in asdict(predicted).items()}


def train(options: Options) -> None:
    """Be one rank of a run.

    Raises:
        Refusal: the run cannot be, or cannot go on.
    """
    from . import watch

    rank = int(os.environ.get("PADDLE_TRAINER_ID", "0"))
    progress = watch.Progress()
    watch.start(rank, progress)
    text = data.load(options.data, options.tokenizer)
    data.require(text, options.batch, options.seqlen)

    from .parallel.comm import PORT_TAKEN, PortTaken
    from .parallel.zero import NotFinite
    from .run.replay import keep, replay
    from .run.trainer import Trainer

    trainer = None
    try:
        trainer = Trainer(options, text, progress)
        if options.replay:
            progress.busy = ""
            replay(trainer)
        else:
            trainer.run()
    except NotFinite as error:
        if trainer is not None:
            keep(trainer, error)
        raise Refusal(
            f"step {progress.step}: {error.tensor} is not finite on rank {error.rank}",
            f"The run stopped before the optimizer's step: the parameters are those after step {progress.step - 1}.",
            "--lr RATE   a smaller one",
            "--clip 1.0   limits the gradient's norm",
        ) from error
    except PortTaken as refusal:
        emit(PORT_TAKEN, what=refusal.what)
        raise
    except (Refusal, KeyboardInterrupt):
        raise
    except Exception as error:
        first = root(error)
        emit(
            "failed",
            rank=rank,
            step=progress.step,
            waiting=progress.waiting,
            what=message(first),
            via=message(error) if first is not error else "",
            where=where(first.__traceback__),
            traceback=traceback.format_exc(),
        )
        raise


if __name__ == "__main__":
    status = serve(handle)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Gloo's destructors wait for peers that may be gone
