"""``python -m devkit.kernels.training.bench``: one rank that is measured, a round of steps at a time.

Requests: ``prepare`` with ``library`` and the options of a run, then ``round`` with ``steps``, as often as wanted.
Rank 0 answers each.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ..protocol import emit, serve
from . import data
from .checks import parse

RANK = int(os.environ.get("PADDLE_TRAINER_ID", "0"))


class Bench:
    """What was prepared, and the rounds that were asked of it."""

    def __init__(self) -> None:
        self.runner: Any = None
        self.tokens = 0

    def handle(self, request: dict[str, Any]) -> None:
        """Answer a request."""
        if request["do"] == "prepare":
            self._prepare(request)
        else:
            self._round(int(request["steps"]))

    def _prepare(self, request: dict[str, Any]) -> None:
        options = parse({name: value for name, value in request.items() if name not in {"do", "library"}})
        text = data.load(options.data, options.tokenizer)
        self.tokens = options.batch * options.tokens
        self.runner = None
        if request["library"] == "torch":
            import torch

            from .torch_parallel import peer

            self.runner, version = peer(options, text), torch.__version__
        else:
            import paddle

            from .run.trainer import Trainer

            self.runner, version = Trainer(options, text), paddle.__version__
        if RANK == 0:
            emit("prepared", version=version)

    def _round(self, steps: int) -> None:
        begin = time.perf_counter()
        for _ in range(steps):
            last = self.runner.step()
        seconds = time.perf_counter() - begin
        if RANK == 0:  # torch's step returns one rank's loss, ours what all ranks agree on
            measured = {} if isinstance(last, float) else {"loss": last.loss, "peak_mib": max(last.peaks) / (1 << 20)}
            emit("round", tokens_per_s=steps * self.tokens / seconds, **measured)


if __name__ == "__main__":
    code = serve(Bench().handle)
    os._exit(code)  # Gloo's destructors wait for peers that may be gone
