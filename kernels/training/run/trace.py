"""What a step makes, written down so that two runs can be compared: layers, their gradients, collectives, parameters.

A rank writes some values and the sums of all for each, by the row, position and column that they have in the whole
batch, whatever the layout: so runs of two layouts are compared element by element. ``devkit train compare --trace``
reads it. A line of JSON each, a few hundred values at most.
"""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Callable, Iterator

import numpy as np
import paddle

from ...protocol import Refusal
from ..models.qwen2 import Linear, RMSNorm, Table
from ..models.qwen2_vl import Block, Tower
from ..parallel.comm import Comm

if TYPE_CHECKING:
    from pathlib import Path

    from ..models.param import Param
    from .trainer import Trainer

Tensor = Any
TOKENS, COLUMNS, ELEMENTS = 16, 16, 128
"""Of a layer's output so many tokens and columns are kept, of a parameter or a collective's buffer so many elements."""
BETA = 0.9
OUTPUT, GRADIENT = "output", "gradient"


def spread(length: int, count: int) -> np.ndarray:
    """Return ``count`` indices below ``length``, evenly spread, or all."""
    return np.unique(np.linspace(0, max(0, length - 1), min(count, length)).astype(np.int64))


class Trace:
    """What one rank writes of the steps that were asked for.

    Raises:
        Refusal: the folder cannot be written.
    """

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.options = trainer, trainer.options
        self.comm = trainer.comm
        self.factor = 1.0
        """What this rank's gradients are multiplied by to be those of the batch's mean loss."""
        if self.options.engine == "manual":
            self.factor /= trainer.engine.shares * self.options.accumulate * self.options.layout.sep
        self.shapes = {name: param.shape for name, param in self.options.shape.all_parameters().items()}
        self.micro = 0
        self._lines: list[dict[str, Any]] = []
        self._counts: dict[tuple[Any, ...], int] = {}
        self._lock = threading.Lock()
        self._path = folder / f"rank-{self.comm.rank}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._header()) + "\n", encoding="utf-8")
        except OSError as error:
            raise self._refused(error) from error

    def _header(self) -> dict[str, Any]:
        options, shape = self.options, self.options.shape
        return {
            "rank": self.comm.rank,
            "stage_of_pipeline": self.trainer.mesh.stage,
            "layout": {**asdict(options.layout), "sequence_parallel": options.sequence_parallel},
            "kinds": [options.engine, options.stage, options.accumulate],
            "dtype": options.dtype,
            "longest_sum": max(shape.width, shape.hidden, shape.vocabulary, options.tokens),
            "batch": options.batch * options.tokens,
        }

    def _refused(self, error: OSError) -> Refusal:
        return Refusal(f"{self._path} cannot be written", f"{error.strerror or error}.", "df -h   shows the room")

    def step(self, step: int, take: Callable[[], Any]) -> Any:
        """Take a step with everything that it makes written down; return what ``take`` does.

        Raises:
            Refusal: the file cannot be written.
        """
        self._lines.clear()
        self._counts.clear()
        rate = self.options.learning_rate(step)
        before = self._parameters("parameter", None)
        hooks = [
            layer.register_forward_post_hook(self._look(self._name(name), layer))
            for name, layer in self.trainer.model.named_sublayers()
            if name.startswith("layers") or isinstance(layer, (Table, RMSNorm, Block, Tower))
        ]
        Comm.observer = self._collective
        try:
            result = take()
        finally:
            Comm.observer = None
            for hook in hooks:
                hook.remove()
        self._parameters("updated", before)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                for number, line in enumerate(self._lines):
                    file.write(json.dumps({"step": step, "at": number, "lr": rate, **line}) + "\n")
        except OSError as error:
            raise self._refused(error) from error
        return result

    def batch(self, tokens: np.ndarray, micro: int) -> None:
        """Take note of the batch, which every rank has, and of the micro-batch that comes next."""
        self.micro = micro
        if micro == 0 and self._first("batch", "tokens"):
            flat = tokens.ravel()
            keep = spread(len(flat), ELEMENTS)
            self._add("batch", "tokens", keys=keep, values=flat[keep], total=flat)

    def rows(self) -> tuple[int, int]:
        """Return the rows of the batch that this rank's micro-batch is."""
        engine, accumulate = self.trainer.engine, self.options.accumulate
        share = self.options.batch // (engine.shares * accumulate)
        first = (engine.place * accumulate + self.micro) * share
        return first, first + share

    # ------------------------------------------------------------------ what is written

    def _first(self, *key: Any) -> bool:
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1
            return self._counts[key] == 1

    def _add(self, kind: str, name: str, *, keys: Any, values: np.ndarray, total: np.ndarray, **more: Any) -> None:
        wide = np.asarray(total, dtype=np.float64).ravel()
        line = {
            "kind": kind,
            "name": name,
            "keys": [int(key) for key in keys],
            "values": [written(value) for value in np.asarray(values, dtype=np.float64).ravel()],
            "sum": written(wide.sum(), 17),
            "squares": written((wide**2).sum(), 17),
            **more,
        }
        with self._lock:
            self._lines.append(line)

    def _name(self, name: str) -> str:
        """Return a layer's name in the whole model."""
        parts = name.split(".")
        if parts[0] == "layers" and len(parts) > 1:
            parts[1] = str(int(parts[1]) + self.trainer.model.part.begin)
        return ".".join(parts)

    def _look(self, name: str, layer: Any) -> Any:
        def look(_: Any, inputs: Any, output: Any) -> None:
            embeds = isinstance(layer, Table) and inputs[0].dtype == paddle.int64
            shown = f"{name} (logits)" if isinstance(layer, Table) and not embeds else name
            place = self._place(shown, layer, embeds=embeds)
            micro = self.micro
            if not isinstance(output, paddle.Tensor) or place is None:
                return
            if self._first(OUTPUT, shown, micro):
                self._values(OUTPUT, shown, output, place, 1.0)
            if not output.stop_gradient and place["has_gradient"] and self._first(GRADIENT, shown, micro):
                rows = self.rows()
                output.register_hook(
                    lambda gradient: self._values(GRADIENT, shown, gradient, {**place, "rows": rows}, self.factor)
                )

        return look

    def _place(self, name: str, layer: Any, *, embeds: bool) -> dict[str, Any] | None:
        """Return which part of a layer's whole output a rank has: its rows, its columns, or a summand of it."""
        mp, sequence = self.trainer.mesh.mp, self.options.sequence_parallel
        place: dict[str, Any] = {"rows": self.rows(), "columns": None, "summand": (False, False), "has_gradient": True}
        if isinstance(layer, (Block, Tower)):
            place["has_gradient"] = self.options.layout.sep == 1 and mp.size == 1
        weight = getattr(layer, "weight", None)
        split = getattr(getattr(weight, "param", None), "split", None)
        if mp.size == 1 or self.options.engine == "auto" or name.startswith("visual"):
            return place
        if isinstance(layer, RMSNorm):
            place["summand"] = (False, not sequence)
        elif isinstance(layer, Table) and split is not None and not embeds:
            place["columns"] = split.ranges(mp.rank, mp.size)
        elif isinstance(layer, Linear) and split is not None:
            if split.axis == 1:
                place["columns"] = split.ranges(mp.rank, mp.size)
            else:
                place["summand"] = (True, False)
        return place

    def _values(self, kind: str, name: str, tensor: Tensor, place: dict[str, Any], factor: float) -> None:
        wide = self._local(tensor)
        if wide is None:
            return
        first, end = place["rows"]
        seen = self._positions(wide, end - first, name)
        if seen is None:
            return
        wide, positions = seen
        if factor != 1.0 and kind == GRADIENT:
            wide = wide * factor
        width = wide.shape[-1]
        ranges = place["columns"] or [(0, width)]
        columns = np.concatenate([np.arange(*range_) for range_ in ranges])
        total = width if place["columns"] is None else self._whole_width(name)
        length = self._length(name, len(positions))
        at_column = np.flatnonzero(np.isin(columns, spread(total, COLUMNS)))
        tokens = spread(self.options.batch * length, TOKENS)
        rows, places = tokens // length, tokens % length
        where = {int(position): index for index, position in enumerate(positions)}
        keys, values = [], []
        for row, position in zip(rows, places):
            if first <= row < end and int(position) in where:
                own = wide[row - first, where[int(position)]]
                keys += [int((row * length + position) * total + columns[index]) for index in at_column]
                values += [own[index] for index in at_column]
        summand = place["summand"][kind == GRADIENT]
        piece = [first, end, int(positions[0]), len(positions), int(columns[0]), len(columns)]
        more = {"piece": piece, "elements": int(wide.size), "summand": bool(summand), "micro": self.micro}
        self._add(kind, name, keys=keys, values=np.array(values), total=wide, **more)

    def _whole_width(self, name: str) -> int:
        shape = self.options.shape
        if name.endswith("(logits)"):
            return shape.vocabulary
        _, _, layer = name.partition("layers.")
        param = shape.layer_parameters()[f"{layer.partition('.')[2]}.weight"]
        return int(param.shape[-1])

    def _length(self, name: str, here: int) -> int:
        """Return the positions of a whole sequence, or the patches or tokens of an image."""
        return here if name.startswith("visual") else self.options.tokens

    def _positions(self, wide: np.ndarray, rows: int, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return an output as [rows, positions, columns], and which positions these are; None where it is neither."""
        if name.startswith("visual"):
            if wide.ndim != 2 or wide.shape[0] % rows:  # noqa: PLR2004 - [patches, channels]
                return None
            wide = wide.reshape(rows, -1, wide.shape[-1])
            return wide, np.arange(wide.shape[1])
        if wide.ndim != 3 or wide.shape[0] != rows:  # noqa: PLR2004 - [rows, positions, channels]
            return None
        own, mp = self.trainer.positions, self.trainer.mesh.mp
        if wide.shape[1] == len(own):
            return wide, own
        if self.options.sequence_parallel and wide.shape[1] * mp.size == len(own):
            return wide, np.split(own, mp.size)[mp.rank]
        return None

    def _local(self, tensor: Tensor) -> np.ndarray | None:
        """Return a tensor's values in fp32; of a global tensor all, and on the first rank alone."""
        if tensor.is_dist():
            whole = self.trainer.engine.whole(tensor)
            return whole.astype(np.float32) if self.comm.rank == 0 else None
        return tensor.detach().astype("float32").numpy()

    def _parameters(self, kind: str, before: dict[Any, np.ndarray] | None) -> dict[Any, np.ndarray]:
        """Write this rank's parameters, and after a step the gradients that AdamW's first moment has taken up."""
        means: dict[Any, np.ndarray] = {}
        params = {name: param for name, (param, _) in self.trainer.engine.held().items()}
        gradients = []
        for piece in self.trainer.engine.pieces():
            mean = np.asarray(piece.mean)
            means[piece.name, piece.begin] = mean
            chosen = list(self._elements(piece.name, params[piece.name], piece.begin, piece.end))
            keys, local = [key for key, _ in chosen], [index for _, index in chosen]
            where = [piece.name, piece.begin, piece.end, self.trainer.mesh.mp.rank]
            more = {"piece": where, "elements": piece.end - piece.begin}
            value = np.asarray(piece.value)
            if before is not None:
                slope = (mean - BETA * before[piece.name, piece.begin]) / (1 - BETA)
                gradients.append((piece.name, keys, slope[local], slope, more))
            self._add(kind, piece.name, keys=keys, values=value[local], total=value, **more)
        for name, keys, values, slope, more in gradients:
            self._add("weight gradient", name, keys=keys, values=values, total=slope, **more)
        return means

    def _elements(self, name: str, param: Param, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (index in the whole parameter, index here) of the elements that are kept of [begin, end)."""
        shape, mp = self.shapes[name], self.trainer.mesh.mp
        inner = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        for index in spread(int(np.prod(shape)), ELEMENTS):
            local = int(index)
            if param.split is not None and mp.size > 1:
                row, column = (int(index) // inner, int(index) % inner) if len(shape) > 1 else (0, int(index))
                along = row if param.split.axis == 0 and len(shape) > 1 else column
                offset = 0
                for first, last in param.split.ranges(mp.rank, mp.size):
                    if first <= along < last:
                        along = offset + along - first
                        break
                    offset += last - first
                else:
                    continue
                width = param.local(mp.size)[-1] if len(shape) > 1 else 0
                if len(shape) == 1:
                    local = along
                else:
                    local = along * inner + column if param.split.axis == 0 else row * width + along
            if begin <= local < end:
                yield int(index), local - begin

    def _collective(self, comm: Comm, kind: str, tensor: Tensor, given: int | None) -> int:
        """Take note of a collective: called before it (``given`` None) for the mark of its input, and after it."""
        values = tensor.astype("float32").numpy().ravel()
        mark = zlib.crc32(np.ascontiguousarray(values).tobytes())
        if given is None:
            return mark
        name = f"{kind} of {comm.name}"
        self._first("collective", name)
        keep = spread(len(values), ELEMENTS)
        more = {
            "number": self._counts["collective", name],
            "ranks": comm.ranks,
            "elements": len(values),
            "input": given,
            "output": mark,
        }
        self._add("collective", name, keys=keep, values=values[keep], total=values, **more)
        return mark


def written(value: Any, digits: int = 9) -> float | None:
    """Return a value with so many digits, those of fp32 by default; None where it is not finite."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None
