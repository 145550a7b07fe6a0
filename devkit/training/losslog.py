"""Loss curves out of what other trainers write: logs of PaddleNLP and PaddleFormers, state files, CSV, JSON lines."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.errors import DevkitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBER = r"[-+]?(?:nan|inf(?:inity)?|\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)"
NAMED = r"(?:(?<![\w.])(?:(?:reduced_)?train[_/])?loss(?:_step)?|损失)"
LOSS = re.compile(
    rf"{NAMED}['\"]?\s*[:=：]?\s+?['\"]?(?P<value>{NUMBER})\b|{NAMED}['\"]?\s*[:=：]\s*(?P<bare>{NUMBER})\b",
    re.IGNORECASE,
)
STEP = re.compile(
    r"(?<![\w.])(?:global[_ ]?step|step|iteration|iter)s?['\"]?\s*[:=/\[]?\s*(?P<value>\d+)(?P<total>\s*/\s*\d+)?|"
    r"第\s*(?P<counted>\d+)\s*步",
    re.IGNORECASE,
)
COUNT = re.compile(r"(?:\[\s*|(?<![\d/.]))(?P<value>\d+)\s*/\s*(?P<total>\d+)\s*(?:\]|\s\[[\d=>.])")
"""A count without a name, in brackets or before a progress bar; a date is none."""
STEP_KEYS = ("global_step", "step", "iteration", "iter", "current_steps", "global_step/max_steps")
LOSS_KEYS = ("loss", "train_loss", "train/loss", "train_loss_step", "reduced_train_loss")
OF_ALL = re.compile(r"train_runtime|total_flos|train_samples_per_second")
"""What a line of a whole training names beside the mean of its losses."""
HELD_OUT = re.compile(r"^\s*Eval begin"), re.compile(r"^\s*(?:Eval samples|Epoch\b)")
"""What comes before losses of paddle.Model's evaluation, and behind them."""
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LARGEST = 1 << 30


@dataclass(frozen=True)
class Row:
    """A loss of a log: ``step`` is None where none is told, ``total`` how many an epoch has, where that is told."""

    step: int | None
    loss: float
    total: int = 0


def read(path: Path) -> dict[int, float]:
    """Return the losses of a log by step; lines without a step count on from the one before.

    Raises:
        DevkitError: it cannot be read, or names no loss.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DevkitError(f"{path} is larger than 1 GiB", "A log of losses is not.")
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise DevkitError(f"{path} cannot be read", f"{error.strerror}.") from error
    losses = dict(_numbered(_rows(path, text), epochs="epoch" in text.lower()))
    if not losses:
        raise DevkitError(
            f"{path} holds no losses",
            "Read are lines as loss: 2.31, global_step: 10, JSON with loss and step, and CSV with such columns.",
        )
    return losses


def _decoded(data: bytes) -> str:
    """Return a log's text: UTF-8, or UTF-16 as a Windows shell writes it; without colours."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return COLOURS.sub("", data.decode("utf-16" if wide else "utf-8-sig", errors="replace"))


def _rows(path: Path, text: str) -> Iterator[Row]:
    if path.suffix.lower() in {".csv", ".tsv"}:
        table = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        yield from filter(None, (_of_fields(_columns(row)) for row in table))
        return
    whole = _json(text)
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):  # trainer_state.json
        whole = whole["log_history"]
    if isinstance(whole, list):
        yield from filter(None, (_of_fields(row) for row in whole if isinstance(row, dict)))
        return
    held_out = False
    for line in text.splitlines():
        held_out = not HELD_OUT[1].match(line) if held_out else bool(HELD_OUT[0].match(line))
        fields = _json(line) if line.lstrip().startswith("{") else None
        found = _of_fields(fields) if isinstance(fields, dict) else _of_line(line)
        if found and not held_out:
            yield found


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return a table's row by the names of its columns; W&B's have the run's before them, TensorBoard's is a value."""
    named = {(key or "").strip().lower().rpartition(" - ")[2]: value for key, value in row.items()}
    return {**named, "loss": named["value"]} if {"wall time", "value"} <= named.keys() else named


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _of_fields(fields: dict[str, Any]) -> Row | None:
    if any(OF_ALL.fullmatch(str(key)) for key in fields):
        return None
    loss = next((fields[key] for key in LOSS_KEYS if key in fields), None)
    step = next((fields[key] for key in STEP_KEYS if key in fields), None)
    if "loss" in fields and fields["loss"] is None:
        loss = math.nan
    try:
        return Row(None if step is None else int(float(str(step).partition("/")[0])), float(loss))  # type: ignore[arg-type]  # None is caught
    except (TypeError, ValueError):
        return None


def _of_line(line: str) -> Row | None:
    loss = LOSS.search(line)
    if not loss or OF_ALL.search(line):
        return None
    value, step = float(loss["value"] or loss["bare"]), STEP.search(line)
    if not step:
        *_, count = [None, *COUNT.finditer(line)]
        return Row(int(count["value"]), value, int(count["total"])) if count else Row(None, value)
    of_all = not step["total"] or "global" in step[0].lower()
    return Row(int(step["value"] or step["counted"]), value, 0 if of_all else int(step["total"].strip(" /")))


def _numbered(rows: Iterator[Row], *, epochs: bool) -> Iterator[tuple[int, float]]:
    """Number losses by their steps; where steps are counted anew in each of the log's ``epochs`` they go on."""
    last = before = 0
    first: int | None = None
    for row in rows:
        if row.step is None:
            last += 1
        else:
            if first is None:
                first = row.step
            elif epochs and row.total and row.step <= first and before + row.step <= last:
                before += row.total
            last = before + row.step
        yield last, row.loss
