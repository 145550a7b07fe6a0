"""Configurations and the flags that are made of them."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from devkit.bench.options import AttentionOptions, CommOptions, DecodeOptions, SparseOptions, flag_of
from devkit.commands.bench import attn, comm, decode, sparse

COMMANDS: list[tuple[Any, type[Any]]] = [
    (attn, AttentionOptions),
    (decode, DecodeOptions),
    (sparse, SparseOptions),
    (comm, CommOptions),
]


@pytest.mark.parametrize(("module", "configuration"), COMMANDS)
def test_each_field_is_a_flag_with_its_default_and_help(module: Any, configuration: type[Any]) -> None:
    parameters = inspect.signature(module.command).parameters
    assert list(parameters) == ["ctx", *(field.name for field in fields(configuration)), "env", "as_json"]
    for field in fields(configuration):
        flag = flag_of(field)
        assert parameters[field.name].default == field.default
        assert flag.name.startswith("--")
        assert flag.help.endswith(".")
        (option,) = parameters[field.name].annotation.__metadata__
        assert option.help == flag.help
        assert (option.min, option.max) == (flag.least, flag.most)


def test_a_list_of_words_is_completed_word_by_word() -> None:
    (option,) = inspect.signature(attn.command).parameters["passes"].annotation.__metadata__
    assert option.autocompletion("fwd,b") == ["fwd,bwd"]
    assert option.autocompletion("f") == ["fwd", "fwdbwd"]
