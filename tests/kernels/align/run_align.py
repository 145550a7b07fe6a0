"""Trace and compare pairs of the models here; print what was found, as JSON. ``run_align.py SIDE FOLDER PAIRS``."""

import json
import sys
from pathlib import Path
from typing import Any

from devkit.kernels.align import __main__ as worker
from devkit.kernels.protocol import Refusal

FILE = str(Path(__file__).with_name("models.py"))


def ask(folder: Path, do: str = "trace", **words: Any) -> dict[str, Any]:
    """Return the event that answers a request; its folder is that of the pair."""
    events: list[dict[str, Any]] = []
    worker.emit = lambda _event, **fields: events.append(fields)  # type: ignore[attr-defined]
    worker.handle({"do": do, "folder": str(folder), "file": FILE, "names": {}, "dtype": "float32", **words})
    return events[-1]


def main(side: str, place: str, pairs: str) -> None:
    for name, (a, b, words) in json.loads(pairs).items():
        folder = Path(place, name)
        folder.mkdir(exist_ok=True)
        try:
            if side in {"a", "both"}:
                ask(folder, function=a, name="a", weights="save", **words)
                ask(folder, function=a, name="exact", weights="take", **{**words, "dtype": "float64", "names": {}})
            if side in {"b", "both"}:
                traced = ask(folder, function=b, name="b", weights="take", **words)
                rows = ask(folder, "compare")["rows"]
                found = {"rows": rows, "missing": traced["missing"], "taken": traced["taken"]}
                sys.stdout.write(f"FOUND {json.dumps({'name': name, **found})}\n")
        except Refusal as refusal:
            sys.stdout.write(f"FOUND {json.dumps({'name': name, 'refused': [refusal.what, refusal.why]})}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
