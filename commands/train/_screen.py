"""The screen of ``devkit train``: a line a step, live on a terminal, and the tables at the end."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from devkit.console import Cell, Column
from devkit.launching.watch import late_words
from devkit.text import counted, significant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from devkit.console import Console
    from devkit.launch import Event
    from devkit.runs import Run
    from devkit.training.curves import Comparison, Side
    from devkit.training.request import TrainRequest

STAGES = (
    "nothing sharded",
    "optimizer state sharded",
    "optimizer state and gradients sharded",
    "optimizer state, gradients and parameters sharded",
)
HEADINGS = ("step", "loss", "grad norm", "lr", "tokens/s", "peak MiB/rank")
WIDTHS = (8, 8, 10, 10, 10, 14)
LARGE = 1e5
LIVE_ROWS = 12
CURVE_ROWS = 16


def thousands(value: float) -> str:
    """Return a whole number with its thousands set apart: 5 140."""
    return f"{round(value):,}".replace(",", " ")


def step_cells(event: Event) -> tuple[str, ...]:
    """Return a step's figures as the table shows them."""
    return (
        str(event["step"]),
        fixed(event["loss"], 4),
        figure(event["grad_norm"]),
        f"{event['lr']:.2e}",
        thousands(event["tokens_per_s"]),
        significant(event["peak_mib"]),
    )


def line(cells: tuple[str, ...]) -> str:
    """Return cells set in the table's columns."""
    return "".join(f" {cell}".rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def fixed(value: float | None, digits: int) -> str:
    """Return a figure with so many digits behind the point; what is none (null in JSON) is said to be so."""
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{value:.{digits}f}" if abs(value) < LARGE else f"{value:.{digits}g}"


def figure(value: float | None) -> str:
    """Return three digits of a figure that may be none."""
    return "not finite" if value is None or not math.isfinite(value) else significant(value)


class Screen:
    """Shows events as they come: JSON lines, plain lines, or a table that lives on a terminal.

    Args:
        console: where to.
        request: what is being trained.
    """

    def __init__(self, console: Console, request: TrainRequest) -> None:
        self.console = console
        self.request = request
        self.memory: list[Event] = []
        self.headed = False
        self._rows: deque[str] = deque(maxlen=LIVE_ROWS)
        self._live: Any = None
        self._waiting: Any = None
        self._compiling = False
        self.unit = "token" if request.options.tokenizer else "byte"

    def __enter__(self) -> Self:
        self._wait("looking at the text")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop()

    def _wait(self, text: str) -> None:
        self._stop()
        self._waiting = self.console.progress(text)
        self._waiting.__enter__()

    def _stop(self) -> None:
        if self._waiting:
            self._waiting.__exit__(None, None, None)
            self._waiting = None
        if self._live:
            self._live.stop()
            self._live = None

    def tell(self, event: Event) -> None:
        """Show an event."""
        if self.console.as_json:
            self.console.json(event, one_line=True)
        show = getattr(self, f"_{event['event']}", None)
        if show:
            show(event)

    def _plan(self, event: Event) -> None:
        for text in event["damaged"]:
            self.console.warn(text)
        if event["resume"]:
            self.console.note(f"  going on from step {event['resume_step']}", "dim")
        self._wait(f"starting {counted(self.request.nproc, 'rank')}")

    def _build(self, event: Event) -> None:
        if event["state"] == "start" and not self._compiling:
            self._compiling = True
            self._wait("compiling devkit's operators, once")

    def _start(self, event: Event) -> None:
        self._stop()
        for part in heading(event):
            self.console.answer(f"  {part}", "strong")
        if event["why_not_ours"] and event["operators"] == "paddle" and event["backend"] == "gloo":
            self.console.warn(f"Paddle's own operators are used: {event['why_not_ours']}")
        self.console.answer()

    def _schedule(self, event: Event) -> None:
        if not self.console.as_json:
            self.console.warn(
                f"the learning rate goes from {event['lr_before']:.2e} to {event['lr']:.2e} at step {event['step']}: "
                "--steps, --lr or --warmup are not those of the run that goes on"
            )

    def _step(self, event: Event) -> None:
        if self.console.as_json:
            return
        if not self.headed:
            self.headed = True
            self.console.answer(line(HEADINGS), "dim")
            if self.console.out.is_terminal and not self.console.out.is_dumb_terminal:
                from rich.live import Live

                self._live = Live(console=self.console.out, auto_refresh=False, transient=False)
                self._live.start()
        if self._live:
            from rich.text import Text

            self._rows.append(line(step_cells(event)))
            self._live.update(Text("\n".join(self._rows)), refresh=True)
        else:
            self.console.answer(line(step_cells(event)))

    def _validation(self, event: Event) -> None:
        summary = f"validation {fixed(event['loss'], 3)} nats a {self.unit}"
        summary += f" (a unigram model of this text: {fixed(event['unigram'], 3)})"
        if event["loss"] is None:
            self.console.warn(f"step {event['step']}: the validation's loss is not finite")
        if self._live:
            self._rows.append(f"  ─ step {event['step']}: {summary} ─")
        else:
            self.console.answer(f"  ─ step {event['step']}: {summary} ─")

    def _checkpoint(self, event: Event) -> None:
        if self._live is None:
            self.console.note(f"  checkpoint of step {event['step']} written", "dim")

    def _late(self, event: Event) -> None:
        self.console.note(f"  {late_words(event)}")

    def _memory(self, event: Event) -> None:
        self.memory.append(event)

    def ended(self, run: Run) -> None:
        """Show the tables of a run that is done, and what may come next."""
        result = run.record["result"]
        if self._live:
            from rich.text import Text

            self._live.update(Text("\n".join(self._rows)), refresh=True)
        self._stop()
        if self.memory:
            self.console.answer()
            show_memory(self.console, self.memory)
        speed = result.get("tokens_per_s")
        rate = f"{thousands(speed)} tokens/s, " if speed else ""
        self.console.done(f"{rate}saved as run {run.id}")
        if "checkpoint" in run.record["holds"]:
            self.console.next(f"devkit train --resume {run.id} --steps {2 * self.request.options.steps}   goes on")
        self.console.next(f"devkit train compare {run.id} RUN   beside another run")


def layout_suffix(layout: dict[str, Any]) -> str:
    """Return what a heading says of a layout that is more than data ranks: `` as dp 2 × mp 2``."""
    if all(layout.get(axis, 1) == 1 for axis in ("pp", "sep", "mp")):
        return ""
    axes = [f"{axis} {layout[axis]}" for axis in ("dp", "pp", "sep", "mp") if layout[axis] > 1]
    return f" as {' × '.join(axes)}" + (", sequence parallel" if layout.get("sequence_parallel") else "")


def heading(event: Event) -> list[str]:
    """Return the lines above the steps: the model, the ranks and the text."""
    ranks = f"{event['world_size']} {'GPU' if event['backend'] == 'nccl' else 'CPU'} "
    ranks += "rank" if event["world_size"] == 1 else f"ranks ({'NCCL' if event['backend'] == 'nccl' else 'Gloo'})"
    ranks += layout_suffix(event.get("layout") or {})
    text = event["train_bytes"] + event["validation_bytes"]
    model = f"Qwen2-shape, {event['parameters'] / 1e6:.1f} M parameters, {event['dtype']}"
    held = f"{event['validation_bytes'] / 1e6:.1f} MB for validation"
    more = []
    if event.get("init_from") and event["first_step"] == 1:
        more.append(f"a cold start: the weights of {event['init_from']}, moments and schedule from the beginning")
    if event.get("engine") == "auto":
        more.append("engine auto: paddle.distributed.parallelize, global tensors and Paddle's AdamW")
    if event.get("lora"):
        more.append(f"LoRA of rank {event['lora']}: {event['trained'] / 1e6:.2f} M parameters are trained")
    if event.get("teacher"):
        more.append(f"teacher: {event['teacher']}")
    return [
        f"{model} · {ranks} · stage {event['stage']}: {STAGES[event['stage']]}",
        f"text: {text / 1e6:.1f} MB of {event['text']}, {held} · attention: {event['attention']}",
        *more,
    ]


def show_memory(console: Console, rows: list[Event]) -> None:
    """Show the table of MiB a rank: by the formula, and as measured."""
    columns = [Column("MiB of rank"), Column("parameters"), Column("gradients"), Column("optimizer")]
    columns += [Column("sum predicted"), Column("measured"), Column("at its peak", importance=5)]
    console.table(
        columns,
        [
            (
                str(row["rank"]),
                *(significant(row[f"{name}_mib"]) for name in ("parameters", "gradients", "optimizer", "predicted")),
                Cell(significant(row["measured_mib"]), "done"),
                significant(row["peak_mib"]),
            )
            for row in sorted(rows, key=lambda row: row["rank"])
        ],
    )


def show_comparison(
    console: Console, sides: list[Side], comparison: Comparison, options: Mapping[str, tuple[Any, Any]]
) -> None:
    """Show the options that differ, both curves, thinned out, and the step where they part."""
    names = [side.name for side in sides]
    if options:
        rows = [(flag_of(name), *(_option(value) for value in both)) for name, both in options.items()]
        console.table([Column("given", "left"), Column(names[0]), Column(names[1])], rows)
        console.answer()
    steps = comparison.steps
    every = max(1, math.ceil(len(steps) / CURVE_ROWS))
    shown = sorted({*steps[::every], steps[-1], *([comparison.parted] if comparison.parted is not None else [])})
    console.table(
        [Column("step"), Column(names[0]), Column(names[1]), Column("difference")],
        [
            (
                str(step),
                fixed(comparison.left[step], 6),
                fixed(comparison.right[step], 6),
                Cell(
                    f"{abs(comparison.left[step] - comparison.right[step]):.1e}",
                    "failed" if step == comparison.parted else "",
                ),
            )
            for step in shown
        ],
    )
    show_cost(console, sides)
    largest = "a loss is not finite" if comparison.largest is None else f"{comparison.largest:.1e}"
    summary = f"over {counted(len(steps), 'step')}; the largest difference is {largest}"
    cut = [side for side in sides if side.cut_short]
    for side in cut:
        wanted = f" of {side.wanted}" if side.wanted else ""
        how = side.state if side.state not in {"", "done"} else "cut short"
        console.warn(f"{side.name} is {how}: it has {max(side.curve)}{wanted} steps")
    if comparison.parted is not None:
        console.warn(f"the curves part at step {comparison.parted}, by more than {comparison.tolerance:g}, {summary}")
    elif cut:
        console.warn(f"no more than {comparison.tolerance:g} apart {summary}; the rest is not known")
    else:
        console.done(f"the same to {comparison.tolerance:g} {summary}")


def show_cost(console: Console, sides: list[Side]) -> None:
    """Show what two runs took: throughput, memory and parameters, the second one beside the first."""
    one, other = (side.cost for side in sides)
    rows = []
    for name, left, right, shown in (
        ("tokens/s, median", one.median, other.median, thousands),
        ("peak MiB of a rank", one.peak_mib, other.peak_mib, significant),
        ("parameters, M", one.parameters, other.parameters, _millions),
        ("of them trained, M", one.trained, other.trained, _millions),
    ):
        if left and right:
            rows.append((name, shown(left), shown(right), f"{right / left:.2f}x"))
    if rows:
        console.answer()
        console.table([Column("took", "left"), *(Column(side.name) for side in sides), Column("second / first")], rows)
        console.answer()


def _millions(count: float) -> str:
    return significant(count / 1e6)


def flag_of(option: str) -> str:
    """Return the flag that sets an option."""
    return "--nproc" if option == "world_size" else f"--{option.replace('_', '-')}"


def _option(value: Any) -> str:
    return "-" if value is None else str(value)
