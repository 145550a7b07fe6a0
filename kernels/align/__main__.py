"""The worker of ``devkit align``: it traces a model, or compares two traces."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

from ..protocol import Refusal, emit, serve


def traced(request: Dict[str, Any]) -> None:
    """Run a model, and write what its layers return into the request's folder.

    Raises:
        Refusal: it cannot be made or run.
    """
    import numpy as np

    from . import trace
    from .library import Torch
    from .weights import state, take_weights

    model, library, module = trace.load(request["file"], request["function"], request["dtype"])
    folder = Path(request["folder"])
    missing: List[str] = []
    if not (folder / "inputs.npz").exists():
        np.savez(folder / "inputs.npz", *trace.inputs_of(request["file"], module))
    with np.load(folder / "inputs.npz") as held:
        inputs = [held[name] for name in held.files]
    if request["weights"] == "save":
        weights, sources = state(library, model)
        np.savez(folder / "weights.npz", **weights)  # type: ignore[arg-type] # its own keywords
    else:
        with np.load(folder / "weights.npz") as held:
            weights = {name: held[name] for name in held.files}
        sources, missing = take_weights(library, model, weights, request["names"])
    try:
        trace.set_mode(library, model, train=request.get("train", False))
        order, arrays = trace.trace(library, model, inputs, request["dtype"], names=sources)
    except Refusal:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {str(error)[-500:]}"
        raise Refusal(f"{request['file']} could not be run", why) from error
    np.savez(folder / f"{request['name']}.npz", **arrays)  # type: ignore[arg-type] # its own keywords
    (folder / f"{request['name']}.json").write_text(json.dumps(order))
    emit("traced", layers=len(order), taken=len(sources), missing=missing, torch=isinstance(library, Torch))


def compared(folder: Path) -> List[Dict[str, Any]]:
    """Return a row for each layer of the traces in a folder."""
    import numpy as np

    from . import trace

    found = []
    for name in ("a", "b", "exact"):
        with np.load(folder / f"{name}.npz") as held:
            found.append({key: held[key] for key in held.files})
    return trace.compare(json.loads((folder / "a.json").read_text()), *found)


def handle(request: Dict[str, Any]) -> None:
    """Answer ``trace`` and ``compare``.

    Raises:
        Refusal: a model cannot be made or run.
    """
    do = request.get("do")
    if do == "trace":
        traced(request)
    elif do == "compare":
        emit("compared", rows=compared(Path(request["folder"])))
    else:
        raise Refusal(f"the aligning worker cannot do {do!r}")


if __name__ == "__main__":
    sys.exit(serve(handle))
