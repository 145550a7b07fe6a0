"""The flags that say what is trained: ``devkit train`` and ``devkit train plan`` share them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from devkit.runs import Entry
    from devkit.training.request import Nodes, TrainRequest

Stage = Annotated[
    int, typer.Option(metavar="0|1|2|3", help="0: all on each rank; 1 shards optimizer, 2 gradients, 3 all.")
]
Nproc = Annotated[int | None, typer.Option(metavar="N", help="Ranks of this machine; a GPU each, or 2 on the CPU.")]
Gpus = Annotated[str, typer.Option(metavar="N,…", help="GPUs by index; all by default.")]
Dp = Annotated[
    int | None, typer.Option("--dp", metavar="N", help="Data ranks; by default what the other axes leave of --nproc.")
]
Mp = Annotated[int, typer.Option("--mp", metavar="N", help="Tensor parallelism: ranks that share each product.")]
Pp = Annotated[int, typer.Option("--pp", metavar="N", help="Pipeline stages; --accumulate is its micro-batches.")]
Sep = Annotated[int, typer.Option("--sep", metavar="N", help="Ring attention: ranks that share each sequence.")]
SequenceParallel = Annotated[
    bool, typer.Option("--sequence-parallel", help="With --mp: cut along the sequence what lies between products.")
]
Engine = Annotated[
    str, typer.Option("--engine", metavar="manual|auto", help="Ours, or paddle.distributed.parallelize.")
]
Dtype = Annotated[
    str, typer.Option(metavar="fp32|bf16", help="bf16 on GPUs only, with fp32 copies (not yet run on one).")
]
Steps = Annotated[int, typer.Option(help="Steps of the optimizer.")]
Batch = Annotated[int, typer.Option(help="Sequences a step, over all ranks.")]
Seqlen = Annotated[int, typer.Option(help="Bytes a sequence.")]
Accumulate = Annotated[int, typer.Option(help="Passes a step that share its batch.")]
Lr = Annotated[float, typer.Option("--lr", help="The learning rate at its highest.")]
Warmup = Annotated[int, typer.Option(help="Steps in which the rate rises; then it falls to a tenth.")]
Clip = Annotated[float, typer.Option(help="The largest norm of all gradients together; 0 turns it off.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="Of matrices; norms and biases have none.")]
Seed = Annotated[int, typer.Option(help="Of weights and batches.")]
Recompute = Annotated[bool, typer.Option("--recompute", help="Compute each layer again in backward: less memory.")]
Size = Annotated[
    str,
    typer.Option(metavar="NAME", help="tiny to large (0.1 to 360 M), qwen2-0.5b, -1.5b, -7b, -vl-2b, vl-tiny."),
]
Lora = Annotated[
    int, typer.Option("--lora", metavar="RANK", help="Train low-rank adapters of this rank beside frozen products.")
]
LoraTargets = Annotated[
    str, typer.Option("--lora-targets", metavar="REGEX", help="Products with adapters, as layers.0.attention.qkv; all.")
]
LoraAlpha = Annotated[
    float | None,
    typer.Option("--lora-alpha", metavar="A", help="Adapters are scaled by A over RANK; 2 RANK by default."),
]
QuickLora = Annotated[
    bool, typer.Option("--quick-lora", help="Merge adapters into the weight before the product: the same result.")
]
InitFrom = Annotated[
    str, typer.Option("--init-from", metavar="RUN|DIR", help="Start cold from the weights of a run or a folder.")
]
WeightsFrom = Annotated[
    str, typer.Option("--weights", metavar="DIR", help="Start from a folder in Hugging Face's names (Qwen2).")
]
Teacher = Annotated[str, typer.Option("--teacher", metavar="RUN|DIR", help="Learn from this model's logits too.")]
Temperature = Annotated[float, typer.Option(help="Of both models' logits where they are compared.")]
Alpha = Annotated[float, typer.Option(help="The share of the text in the loss; the teacher has the rest.")]
Heads = Annotated[int | None, typer.Option(help="Query heads, instead of the size's.")]
KvHeads = Annotated[int | None, typer.Option("--kv-heads", help="Key and value heads, instead of the size's.")]
Layers = Annotated[int | None, typer.Option(help="Layers, instead of the size's.")]
Width = Annotated[int | None, typer.Option(help="Channels, instead of the size's.")]
Data = Annotated[
    str, typer.Option(metavar="PATH", help="A text file or a folder of them; Python's own sources by default.")
]
EvalEvery = Annotated[int, typer.Option("--eval-every", help="Steps between validations; 0: at the end only.")]
SaveEvery = Annotated[int, typer.Option("--save-every", help="Steps between checkpoints; 0: none.")]
Resume = Annotated[str, typer.Option(metavar="RUN", help="Go on from a run's last whole checkpoint, with its options.")]
Nnodes = Annotated[int, typer.Option("--nnodes", help="Machines.")]
NodeRank = Annotated[int, typer.Option("--node-rank", help="Which of the machines this is, from 0.")]
Master = Annotated[
    str, typer.Option("--master", metavar="HOST:PORT", help="Where machines meet: the first one's address.")
]
Hosts = Annotated[
    str, typer.Option("--hosts", metavar="A,B", help="Machines as ssh knows them; this line trains on all of them.")
]
MaxRestarts = Annotated[
    int,
    typer.Option("--max-restarts", min=0, metavar="N", help="With --hosts: go on from the last checkpoint, so often."),
]
HangTimeout = Annotated[
    float, typer.Option("--hang-timeout", min=1, metavar="S", help="Seconds without progress that are a hang.")
]

OWN = (
    *("stage", "dp", "mp", "pp", "sep", "sequence_parallel", "engine", "steps"),
    *("batch", "accumulate", "seqlen", "lr", "warmup", "clip", "weight_decay", "seed", "dtype"),
    *("lora", "lora_targets", "lora_alpha", "quick_lora", "init_from", "teacher", "temperature", "alpha"),
    *("recompute", "size", "heads", "kv_heads", "layers", "width", "data", "eval_every", "save_every"),
)
"""Flags that the device side knows by the same names."""
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(OWN),
    "stage": 0,
    "mp": 1,
    "pp": 1,
    "sep": 1,
    "sequence_parallel": False,
    "engine": "manual",
    "steps": 120,
    "batch": 8,
    "accumulate": 1,
    "seqlen": 256,
    "lr": 2e-3,
    "warmup": 10,
    "clip": 1.0,
    "weight_decay": 0.1,
    "seed": 0,
    "dtype": "fp32",
    "lora": 0,
    "quick_lora": False,
    "temperature": 1.0,
    "alpha": 0.5,
    "recompute": False,
    "size": "small",
    "eval_every": 0,
    "save_every": 0,
}
"""What those that a command does not have are."""


ENDING_S = 30.0


def latest(app: Any, nodes: Nodes) -> Entry | None:
    """Return this machine's own last training of several machines: they may share a home."""
    if nodes.count == 1:
        return None
    for entry in app.runs.entries():
        before = entry.record.get("arguments", {}).get("nodes", {})
        if entry.record["command"] == "train" and (before.get("count"), before.get("rank")) == (
            nodes.count,
            nodes.rank,
        ):
            found: Entry = entry
            deadline = time.monotonic() + ENDING_S
            while found.running and time.monotonic() < deadline:  # a lost connection ends it, in its own time
                time.sleep(0.2)
            return found
    return None


def over_ssh(app: Any, hosts: str, master: str, max_restarts: int) -> None:
    """Run the line that was typed on several machines."""
    from devkit.commands._launch_screen import over_ssh as run
    from devkit.launching.hosts import several, without

    words = without(app.argv[1:], {"--hosts", "--master", "--max-restarts", "--nnodes", "--node-rank"})
    asked = several(hosts, master, words, (), Path.cwd(), "train")
    run(app, asked, max_restarts=max_restarts, show="0", dry_run=False)


def request(ctx: typer.Context, values: dict[str, Any]) -> tuple[TrainRequest, Entry | None]:
    """Return what the flags ask for, and the run that it goes on from.

    Raises:
        DevkitError: a flag is at odds with this machine, or the run to go on from is none.
    """
    from dataclasses import replace

    from devkit.envs.resolve import resolve
    from devkit.gpus import choose, gpus_present
    from devkit.kernels.training.options import Options
    from devkit.training.request import Nodes, TrainRequest, checked, ranks_before, ranks_here, resumed

    app = ctx.obj
    nodes = Nodes(values["nnodes"], values["node_rank"], values["master"])
    planned_for = "gpu_memory" in values and bool(values["gpu_memory"] or values["dtype"] == "bf16")
    gpus = [] if planned_for else choose(gpus_present(), values["gpus"])
    own = {name: values[name] for name in OWN}
    own["data"] = str(Path(own["data"]).expanduser().absolute()) if own["data"] else None
    own |= _models(ctx, values)
    options = Options(device="gpu" if gpus or planned_for else "cpu", **own)
    entry = None
    if values["resume"]:
        own_last = latest(app, nodes) if values["resume"] == "last" else None
        entry = own_last or app.runs.find(values["resume"], command="train", exact=True)
        given = {name for name in OWN if _is_given(ctx, name)} | ({"init_from"} if values.get("weights") else set())
        options = resumed(entry, options, {name: own[name] for name in given})
    count = ranks_before(entry, len(gpus)) if values["nproc"] is None else values["nproc"]
    nproc = ranks_here(count, gpus, options, nodes.count)
    options = replace(options, world_size=nproc * nodes.count)
    return (
        TrainRequest(
            environment=resolve(app.config, values["env"]),
            options=checked(options),
            gpus=tuple(gpu.index for gpu in gpus[:nproc]),
            nproc=nproc,
            nodes=nodes,
            hang_timeout_s=values["hang_timeout"],
            resume=entry.folder / "checkpoints" if entry else None,
        ),
        entry,
    )


def _models(ctx: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    """Return the folders of the weights that the flags name, and the targets of adapters."""
    from devkit.errors import UsageError
    from devkit.training.weights import model_at

    named = {flag: values.get(flag.strip("-").replace("-", "_")) or "" for flag in ("--init-from", "--weights")}
    given = [flag for flag, words in named.items() if words]
    if len(given) > 1:
        raise UsageError("--init-from and --weights are one thing", "Both say what to start from.", "--weights DIR")
    found: dict[str, Any] = {"init_from": None, "teacher": None, "lora_targets": values.get("lora_targets") or None}
    if given:
        found["init_from"] = str(model_at(ctx.obj, named[given[0]], given[0]))
        if _is_given(ctx, "size"):
            raise UsageError(
                f"--size and {given[0]} do not go together", "The model has the shape of its weights.", f"{given[0]} …"
            )
    if values.get("teacher"):
        found["teacher"] = str(model_at(ctx.obj, values["teacher"], "--teacher"))
    return found


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
