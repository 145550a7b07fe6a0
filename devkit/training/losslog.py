"""Loss curves out of what other trainers write: logs of PaddleNLP and PaddleFormers, state files, CSV, JSON lines."""

from __future__ import annotations

import csv
import json
import math
import re
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBER = r"[-+]?(?:nan|inf(?:inity)?|\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)"
LOSS = re.compile(
    rf"(?<![\w.])(?:train[_/])?loss['\"]?\s*[:=]?\s+?(?P<value>{NUMBER})\b|"
    rf"(?<![\w.])(?:train[_/])?loss['\"]?\s*[:=]\s*(?P<bare>{NUMBER})\b",
    re.IGNORECASE,
)
STEP = re.compile(
    r"(?<![\w.])(?:global[_ ]?step|step|iteration|iter)s?['\"]?\s*[:=/\[]?\s*(?P<value>\d+)", re.IGNORECASE
)
STEP_KEYS = ("global_step", "step", "iteration", "iter")
LOSS_KEYS = ("loss", "train_loss", "train/loss")
LARGEST = 1 << 30


def read(path: Path) -> dict[int, float]:
    """Return the losses of a log by step; lines without a step count on from the one before.

    Raises:
        DevkitError: it cannot be read, or names no loss.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DevkitError(f"{path} is larger than 1 GiB", "A log of losses is not.")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror}.") from error
    losses = dict(_numbered(_pairs(path, text)))
    if not losses:
        raise DevkitError(
            f"{path} holds no losses",
            "Read are lines as loss: 2.31, global_step: 10, JSON with loss and step, and CSV with such columns.",
        )
    return losses


def _pairs(path: Path, text: str) -> Iterator[tuple[int | None, float]]:
    """Yield steps, where they are told, and losses."""
    if path.suffix.lower() in {".csv", ".tsv"}:
        rows = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        yield from filter(None, (_of_fields({(k or "").strip().lower(): v for k, v in row.items()}) for row in rows))
        return
    whole = _json(text)
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):  # trainer_state.json
        whole = whole["log_history"]
    if isinstance(whole, list):
        yield from filter(None, (_of_fields(row) for row in whole if isinstance(row, dict)))
        return
    for line in text.splitlines():
        fields = _json(line) if line.lstrip().startswith("{") else None
        found = _of_fields(fields) if isinstance(fields, dict) else _of_line(line)
        if found:
            yield found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _of_fields(fields: dict[str, Any]) -> tuple[int | None, float] | None:
    loss = next((fields[key] for key in LOSS_KEYS if key in fields), None)
    step = next((fields[key] for key in STEP_KEYS if key in fields), None)
    if "loss" in fields and fields["loss"] is None:
        loss = math.nan
    try:
        return (None if step is None else int(float(step))), float(loss)  # type: ignore[arg-type]  # None is caught
    except (TypeError, ValueError):
        return None


def _of_line(line: str) -> tuple[int | None, float] | None:
    loss = LOSS.search(line)
    if not loss:
        return None
    step = STEP.search(line)
    return (int(step["value"]) if step else None), float(loss["value"] or loss["bare"])


def _numbered(pairs: Iterator[tuple[int | None, float]]) -> Iterator[tuple[int, float]]:
    last = 0
    for step, loss in pairs:
        last = last + 1 if step is None else step
        yield last, loss
