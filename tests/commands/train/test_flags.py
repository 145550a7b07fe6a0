"""The fields of a configuration make the flags of a command: names, defaults, help and checks are said once."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pytest

from devkit.commands._cli import tree
from devkit.commands._cli.flags import configured
from devkit.commands._cli.typer_command import load
from devkit.errors import UsageError
from devkit.kernels.flags import check_least, flag, flags_of
from devkit.kernels.protocol import Refusal
from devkit.kernels.training.options import Options
from devkit.launching.request import LaunchOptions
from devkit.training.asked import Launching, Setup

if TYPE_CHECKING:
    from tests.commands.train.conftest import Here

NO_FLAGS = {"world_size", "device", "checkpoints", "resume", "replay", "traces"}
"""What the device side is told of a run beside what a user asks for."""


def flags(words: str) -> dict[str, Any]:
    command = load(tree.resolve(words.split())[0])
    return {param.name or "": param for param in command.params}


def test_every_option_of_training_is_a_flag_with_its_own_default_and_help() -> None:
    train, plan = flags("train"), flags("train plan")

    assert {field.name for field in fields(Options)} - {option.name for option in flags_of(Options)} == NO_FLAGS
    for kind in (Options, Setup, Launching):
        for field in flags_of(kind):
            assert train[field.name].default == field.default, field.name
            assert train[field.name].help == field.metadata["help"]
            assert f"--{field.name.replace('_', '-')}" in train[field.name].opts
    assert {field.name for field in flags_of(Options)} | {option.name for option in flags_of(Setup)} <= plan.keys()
    assert "batch" in flags("bench train")
    assert "teacher" not in flags("bench train")


def test_every_option_of_a_launch_is_a_flag_and_some_go_on_each_machines_line() -> None:
    launch = flags("launch")

    for field in flags_of(LaunchOptions):
        assert (launch[field.name].default, launch[field.name].help) == (field.default, field.metadata["help"])
    assert launch["guard"].secondary_opts == ["--no-guard"]
    assert LaunchOptions().words() == ()
    asked = LaunchOptions(nproc=2, gpus="0,1", nnodes=3, hang_timeout=2.5, guard=False, show="all")
    assert asked.words() == ("--nproc", "2", "--gpus", "0,1", "--hang-timeout", "2.5", "--no-guard")
    with pytest.raises(UsageError, match="--max-restarts is -1"):
        LaunchOptions(max_restarts=-1).check()


def test_a_command_gets_its_configuration_whole() -> None:
    @dataclass(frozen=True)
    class Oven:
        degrees: int = flag(180, "How hot.", least=50)
        colour: str = "red"

    Oven.__module__ = __name__
    taken: list[Any] = []

    def command(oven: Any, note: str = "") -> None:
        taken.append((oven, note))

    command.__annotations__ = {"oven": Oven, "note": str}
    made = configured()(command)
    made(degrees=200, note="x")

    assert taken == [(Oven(degrees=200), "x")]
    with pytest.raises(Refusal) as refused:
        check_least(Oven(degrees=20))
    assert (refused.value.what, refused.value.remedies) == ("--degrees is 20", ("--degrees 50",))


RUNS = [
    "train --size tiny --stage 2 --nproc 2",
    "train --size tiny --nproc 1",
    "train --size tiny --nproc 4 --mp 2",
]


@pytest.mark.parametrize("words", RUNS)
def test_a_dry_run_prints_the_ranks_of_the_run(here: Here, words: str) -> None:
    planned = here(*words.split(), "--dry-run")

    nproc = int(re.findall(r"--nproc (\d)", words)[0])
    lines = planned.out.splitlines()
    assert planned.status == 0, planned.err
    assert len(lines) == nproc
    assert all(line.endswith("-m devkit.kernels.training") for line in lines)
    assert [f"PADDLE_TRAINER_ID={rank} " in line for rank, line in enumerate(lines)] == [nproc > 1] * nproc
    assert here("runs", "list", "--json").out.strip() == "[]", "nothing was run"
