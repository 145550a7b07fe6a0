"""The worker of ``devkit align``: it traces a model, or compares two traces."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

from ..protocol import Refusal, emit, serve


def handle(request: Dict[str, Any]) -> None:
    """Answer ``trace`` and ``compare``.

    Raises:
        Refusal: a model cannot be made or run.
    """
    import numpy as np

    from . import trace

    do = request.get("do")
    if do == "trace":
        model, module = trace.load(request["file"], request["function"])
        folder = Path(request["folder"])
        taken = 0
        missing: List[str] = []
        given = getattr(module, "inputs", None)
        if given is not None and not (folder / "inputs.npz").exists():
            np.savez(folder / "inputs.npz", *given())
        if not (folder / "inputs.npz").exists():
            raise Refusal(f"{request['file']} has no function inputs", "It returns a list of arrays.")
        with np.load(folder / "inputs.npz") as held:
            inputs = [held[name] for name in held.files]
        if request["weights"] == "save":
            np.savez(folder / "weights.npz", **trace.state(model))  # type: ignore[arg-type] # its own keywords
        elif request["weights"] == "take":
            with np.load(folder / "weights.npz") as held:
                taken, missing = trace.take_weights(model, {name: held[name] for name in held.files}, request["names"])
        try:
            order, arrays = trace.trace(model, inputs, request["dtype"])
        except Exception as error:
            raise Refusal(
                f"{request['file']} could not be run", f"{type(error).__name__}: {str(error)[-500:]}"
            ) from error
        np.savez(folder / f"{request['name']}.npz", **arrays)  # type: ignore[arg-type]
        (folder / f"{request['name']}.json").write_text(json.dumps(order))
        emit("traced", layers=len(order), taken=taken, missing=missing, torch=trace.is_torch(model))
    elif do == "compare":
        folder = Path(request["folder"])
        found = []
        for name in ("a", "b", "exact"):
            with np.load(folder / f"{name}.npz") as held:
                found.append({key: held[key] for key in held.files})
        order = json.loads((folder / "a.json").read_text())
        emit("compared", rows=trace.compare(order, *found))
    else:
        raise Refusal(f"the aligning worker cannot do {do!r}")


if __name__ == "__main__":
    sys.exit(serve(handle))
