"""A rank that stays for many tests: what each asks ends with a mark; what comes after a refusal is left out."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from devkit.kernels.protocol import Refusal, emit, requests
from devkit.kernels.training import __main__ as rank
from tests.kernels.training.programs import controls


def compare_ops(_: dict[str, Any]) -> None:
    from tests.kernels.training.programs.compare_ops import run

    run()


def irregular(request: dict[str, Any]) -> None:
    from tests.kernels.training.programs.irregular import run

    run(request["runs"])


def sample_both(request: dict[str, Any]) -> None:
    """Continue a text with a cache of keys and values, and without."""
    from devkit.kernels.training.sample import generate, model_of

    model = model_of(Path(request["model"]), 60)
    for settings in ({"temperature": 0.0, "top_k": 0}, {"temperature": 1.0, "top_k": 20}):
        made = {
            name: list(generate(model, list(b"def f"), 40, seed=1, cached=name == "cached", **settings))
            for name in ("cached", "computed")
        }
        emit("both", **made)


PROGRAMS = {"compare_ops": compare_ops, "irregular": irregular, "sample_both": sample_both}


def main() -> None:
    status = 0
    for request in requests():
        if request["op"] == "mark":
            emit("mark", status=status)
            status = 0
        elif status == 0:
            cut = request.pop("cut", None)
            try:
                with controls.cut(cut) if cut else nullcontext():
                    PROGRAMS.get(request["op"], rank.handle)(request)
            except Refusal as refusal:
                emit("error", what=refusal.what, why=refusal.why, remedies=refusal.remedies)
                status = 1


if __name__ == "__main__":
    main()
    os._exit(0)
