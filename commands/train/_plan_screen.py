"""The screens of ``devkit train plan`` and ``devkit train mesh``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from devkit.commands.train._screen import STAGES, layout_suffix
from devkit.console import Cell, Column
from devkit.text import counted, significant, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.console import Console
    from devkit.launch import Event
    from devkit.training.mesh import ProcessMesh
    from devkit.training.request import TrainRequest
    from devkit.training.sweep import Candidate

KEPT = ("parameters", "gradients", "optimizer")
SWEEP_ROWS = 24


def show_plan(console: Console, request: TrainRequest, planned: Event) -> None:
    """Show what each rank would take, stage by stage of a pipeline."""
    options = request.options
    console.answer(
        f"  Qwen2-shape, {planned['parameters'] / 1e6:.1f} M parameters, {options.dtype} · "
        f"{counted(options.world_size, 'rank')}{layout_suffix(planned['layout'])} · "
        f"stage {options.stage}: {STAGES[options.stage]}",
        "strong",
    )
    console.answer()
    names = [*KEPT, *(["teacher"] if options.teacher else [])]
    columns = [Column("MiB", "left"), *(Column(name) for name in names), Column("sum predicted")]
    columns += [Column("gathered", importance=6), Column("activations", importance=6), Column("at its peak")]
    rows = []
    for stage, memory in enumerate(planned["stages"]):
        kept = sum(memory[name] for name in names)
        figures = [memory[name] for name in names] + [kept, memory["gathered"], memory["activations"]]
        name = "each rank" if options.pp == 1 else f"ranks of stage {stage}"
        rows.append((name, *map(significant, [*figures, kept + memory["gathered"] + memory["activations"]])))
    console.table(columns, rows)


def show_schedule(console: Console, stages: int, micros: int) -> None:
    """Draw what each stage of a pipeline does, a column a slot of time."""
    from devkit.kernels.training.parallel.schedule import bubble, slots

    rows = slots(stages, micros)
    width = max(len(mark) for row in rows for mark in row) + 1
    room = max(1, (console.out.width - 12) // width)
    console.answer()
    console.answer(f"  one forward (F), one backward (B), of {counted(micros, 'micro-batch', 'micro-batches')}", "dim")
    for stage, row in enumerate(rows):
        marks = "".join((mark or "·").ljust(width) for mark in row[:room])
        console.answer(f"  stage {stage:<3} {marks}{'…' if len(row) > room else ''}")
    idle = bubble(stages, micros), bubble(stages, 2 * micros)
    console.note(f"  each stage waits {idle[0]:.0%} of the time; {idle[1]:.0%} with --accumulate {2 * micros}", "dim")


def show_sweep(console: Console, candidates: Sequence[Candidate], budget: int | None) -> None:
    """Show the layouts, those that take least first."""
    console.answer()
    columns = [Column("stage"), *(Column(axis) for axis in ("dp", "pp", "sep", "mp"))]
    columns += [Column("sequence parallel", "left")]
    columns += [Column("MiB kept", importance=6), Column("at its peak"), *([Column("fits", "left")] if budget else [])]
    rows = []
    for candidate in candidates[:SWEEP_ROWS]:
        layout, fits = candidate.options.layout, budget is None or candidate.peak <= budget
        rows.append(
            (
                str(candidate.options.stage),
                *(str(getattr(layout, axis)) for axis in ("dp", "pp", "sep", "mp")),
                "yes" if candidate.options.sequence_parallel else "",
                significant(candidate.memory.total / 2**20),
                significant(candidate.peak / 2**20),
                *([Cell("yes", "done") if fits else Cell("no", "warning")] if budget else []),
            )
        )
    console.table(columns, rows)
    if len(candidates) > SWEEP_ROWS:
        console.note(f"  {len(candidates) - SWEEP_ROWS} more take as much or more; --json has all", "dim")


def show_parallelize(console: Console, parallelize: dict[str, Any]) -> None:
    """Show what Paddle's own engine is given, as Python, and why it cannot run that, if it cannot."""
    mesh, refused = parallelize["mesh"], parallelize["refused"]
    console.answer()
    console.answer("  paddle.distributed.parallelize is given", "dim")
    ranks = f"numpy.arange({math.prod(mesh.values())}).reshape({list(mesh.values())})"
    console.answer(f"  mesh = dist.ProcessMesh({ranks}, dim_names={list(mesh)})")
    console.answer("  config = {")
    for name, options in parallelize["config"].items():
        for key, value in options.items():
            if not isinstance(value, dict):
                console.answer(f'      "{name}": {{"{key}": {value}}},')
                continue
            console.answer(f'      "{name}": {{"{key}": {{')
            for layer, word in value.items():
                console.answer(f'          "{layer}": {word},')
            console.answer("      }},")
    console.answer("  }")
    if refused:
        console.warn(f"Paddle cannot run it here: {refused['what']}")
        console.note(f"  {refused['why']}")


def show_fit(console: Console, peak: float, budget: int, change: Candidate | None) -> None:
    """Say whether a rank fits in a GPU, and else what would."""
    summary = f"{size(peak)} at the peak of a rank, of {size(budget)} (without CUDA's own context)"
    if peak <= budget:
        console.done(f"it fits: {summary}")
        return
    console.warn(f"it does not fit: {summary}")
    if change:
        console.next(f"devkit train plan … {' '.join(change.flags)}   fits, with {size(change.peak)}")
    else:
        console.note("  no layout of as many ranks fits: more ranks (--nproc), or a smaller --batch or --seqlen", "dim")


def show_mesh(console: Console, mesh: ProcessMesh) -> None:
    """Show the groups along each axis, and where each rank is."""
    from devkit.training.mesh import KNOWN

    shape = " × ".join(f"{name} {length}" for name, length in zip(mesh.names, mesh.shape, strict=True))
    console.answer(f"  {counted(len(mesh.ranks), 'rank')}: {shape}", "strong")
    for axis, name in enumerate(mesh.names):
        console.answer()
        console.answer(f"  along {name}{f', {KNOWN[name]}' if name in KNOWN else ''}:")
        for group in mesh.groups(axis):
            console.answer("    " + " — ".join(map(str, group)))
    console.answer()
    console.table(
        [Column("rank"), *(Column(name) for name in mesh.names)],
        [
            (str(rank), *map(str, mesh.coordinates(place)))
            for place, rank in sorted(enumerate(mesh.ranks), key=lambda item: item[1])
        ],
    )
    for note in mesh.notes():
        console.warn(note)
