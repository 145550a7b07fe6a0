"""``python -m devkit.kernels.training``: one rank, or the plan of a run."""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..guard.errors import message, root, where
from ..protocol import Refusal, emit, serve
from . import data
from .checks import beyond_paddle, parse
from .engines.configuration import as_text, axes, configuration, layers_of
from .engines.lint import check
from .export import export
from .run import checkpoint, memory
from .tokens import BYTES, Tokens, beside

if TYPE_CHECKING:
    from .options import Options


def handle(request: dict[str, Any]) -> None:
    """Answer one request: ``op`` is ``plan`` (checks everything that one process can, without Paddle) or ``train``."""
    op = request.get("op")
    if op == "sample":
        sample(request)
    elif op == "export":
        export(request)
    elif op == "plan":
        plan(parse(request, planned=True))
    else:
        train(parse(request))


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
        parallelize=parallelize(options) if options.engine == "auto" else None,
    )


def parallelize(options: Options) -> dict[str, Any]:
    """Return what Paddle's ``parallelize`` would be given, and why it cannot run it, if it cannot.

    Raises:
        Refusal: it would not do what it is asked to.
    """
    shape, layout = options.shape, options.layout
    config, lengths = configuration(shape, layout, options.stage), axes(layout)
    check(layers_of(shape), lengths, config, (shape.heads, shape.kv_heads))
    refusal = beyond_paddle(options)
    refused = {"what": refusal.what, "why": refusal.why} if refusal else None
    return {"mesh": lengths, "config": as_text(config), "refused": refused}


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
