from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from devkit.kernels.protocol import Refusal
from devkit.kernels.training.models import huggingface, peft
from devkit.kernels.training.models.initial import initial
from devkit.kernels.training.models.parameters import ADAPTERS, Lora, Shape
from devkit.kernels.training.run.source import merge, open_source

if TYPE_CHECKING:
    from pathlib import Path

TIED = Shape(layers=2, width=8, heads=4, kv_heads=2, hidden=6, vocabulary=12)
UNTIED = Shape(layers=1, width=8, heads=2, kv_heads=1, hidden=6, vocabulary=12, rope_base=1e6, tied=False)


def values(shape: Shape) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=param.shape).astype("float32") for name, param in shape.all_parameters().items()}


def write(folder: Path, shape: Shape, dtype: str = "fp32") -> dict[str, np.ndarray]:
    own = values(shape)
    folder.mkdir()
    items = (item for name, value in own.items() for item in huggingface.split(name, value, shape).items())
    huggingface.write(folder, shape, dtype, items)
    return own


@pytest.mark.parametrize("shape", [TIED, UNTIED], ids=["tied", "untied"])
def test_what_was_written_is_read_bit_for_bit(tmp_path: Path, shape: Shape) -> None:
    own = write(tmp_path / "model", shape)
    folder = huggingface.Folder(tmp_path / "model")

    assert huggingface.shape_of(tmp_path / "model") == shape
    for name, value in own.items():
        assert (huggingface.join(name, folder.tensor) == value).all()
    assert ("lm_head.weight" in folder.names()) == (not shape.tied)


def test_the_names_and_shapes_are_those_of_qwen2(tmp_path: Path) -> None:
    write(tmp_path / "model", TIED)
    folder = huggingface.Folder(tmp_path / "model")

    assert folder.tensor("model.layers.1.self_attn.k_proj.weight").shape == (4, 8)
    assert folder.tensor("model.layers.0.self_attn.v_proj.bias").shape == (4,)
    assert folder.tensor("model.layers.0.mlp.down_proj.weight").shape == (8, 6)
    assert folder.tensor("model.embed_tokens.weight").shape == (12, 8)
    assert len(folder.names()) == 2 * 12 + 2


def test_bf16_is_rounded_to_the_nearest(tmp_path: Path) -> None:
    own = write(tmp_path / "model", TIED, "bf16")
    folder = huggingface.Folder(tmp_path / "model")
    read = huggingface.join("layers.0.mlp.gate_up.weight", folder.tensor)

    assert np.abs(read / own["layers.0.mlp.gate_up.weight"] - 1).max() <= 2**-8
    assert json.loads((tmp_path / "model/config.json").read_text())["torch_dtype"] == "bfloat16"


def test_large_models_are_written_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "SHARD", 1000)
    own = write(tmp_path / "model", TIED)
    folder = huggingface.Folder(tmp_path / "model")

    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 2
    for name, value in own.items():
        assert (huggingface.join(name, folder.tensor) == value).all()


def test_broken_folders_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "model", TIED)
    path = tmp_path / "model/model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    last = huggingface.theirs(list(TIED.all_parameters())[-1])[0]
    with pytest.raises(Refusal, match="is cut short"):
        huggingface.Folder(tmp_path / "model").tensor(last)
    path.write_bytes(b"\xff" * 20)
    with pytest.raises(Refusal, match="cannot be read"):
        huggingface.Folder(tmp_path / "model")
    (tmp_path / "model/config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(Refusal, match="of type llama"):
        huggingface.shape_of(tmp_path / "model")
    with pytest.raises(Refusal, match="holds no model"):
        huggingface.shape_of(tmp_path)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, r"scaled \(yarn\)"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e6}}, r"scaled \(linear\)"),
        ({"use_sliding_window": True, "sliding_window": 64}, "sliding window"),
        ({"hidden_act": "gelu"}, "activation is gelu"),
        ({"head_dim": 64}, "heads have 64 channels"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
    ],
)
def test_weights_that_would_be_read_and_computed_with_otherwise_are_refused(
    tmp_path: Path, more: dict[str, Any], complaint: str
) -> None:
    write(tmp_path / "model", TIED)
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))

    with pytest.raises(Refusal, match=complaint):
        huggingface.shape_of(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("model.safetensors.index.json", "{"),
        ("model.safetensors.index.json", '{"weight_map": []}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": 3}}'),
        ("model.safetensors.index.json", '{"weight_map": {"a": "gone.safetensors"}}'),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "qwen2", "hidden_size": "64"}'),
    ],
)
def test_an_index_or_a_configuration_that_is_not_one_is_refused(tmp_path: Path, file: str, text: str) -> None:
    write(tmp_path / "model", TIED)
    (tmp_path / "model" / file).write_text(text)

    with pytest.raises(Refusal, match="cannot be read"):
        open_source(tmp_path / "model")


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ([], "cannot be read"),
        ({"embed": 7}, "cannot be read"),
        ({"embed": {"dtype": "F32", "shape": [2, 2]}}, "cannot be read"),
        ({"embed": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}}, "is not whole"),
        ({"embed": {"dtype": "I8", "shape": [16], "data_offsets": [0, 16]}}, "is of type I8"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, entry: Any, why: str) -> None:
    header = json.dumps(entry).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))

    with pytest.raises(Refusal) as refused:
        huggingface.Folder(tmp_path).tensor("embed")
    assert why in f"{refused.value.what} {refused.value.why}"


def test_a_tensor_of_another_shape_than_the_configuration_says_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model", TIED)
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] * 2}))
    source = open_source(tmp_path / "model")

    with pytest.raises(Refusal, match=r"embedding\.weight has the shape"):
        source("embedding.weight")


def test_first_values_are_of_their_kind() -> None:
    params = TIED.all_parameters()
    drawn = {name: initial(name, param, TIED, 3) for name, param in params.items()}

    assert (drawn["layers.0.attention_norm.weight"] == 1).all()
    assert (drawn["layers.1.attention.qkv.bias"] == 0).all()
    assert (drawn["layers.0.mlp.down.weight"] != drawn["layers.1.mlp.down.weight"]).all()
    assert (initial("embedding.weight", params["embedding.weight"], TIED, 3) == drawn["embedding.weight"]).all()


def test_adapters_alone_are_what_a_merged_model_has_more_than_its_base(tmp_path: Path) -> None:
    lora = Lora(2, scale=1.5, targets=r"layers\.0\.attention|layers\.1\.mlp")
    shape = replace(TIED, lora=lora)
    own = values(shape)
    adapters = {name: value for name, value in own.items() if name.endswith(ADAPTERS)}
    peft.write(tmp_path, shape, "/base", iter(adapters.items()))
    config, held = json.loads((tmp_path / peft.CONFIG).read_text()), load_file(tmp_path / peft.WEIGHTS)

    assert config["target_modules"] == sorted(
        f"model.layers.{part}_proj"
        for part in (*(f"0.self_attn.{kind}" for kind in "qkvo"), *(f"1.mlp.{kind}" for kind in ("gate", "up", "down")))
    )
    scale = config["lora_alpha"] / config["r"]
    for name in {name.rpartition(".")[0] for name in adapters}:
        base = own[f"{name}.weight"]
        merged = merge(base, own[f"{name}.lora_a"], own[f"{name}.lora_b"], lora.scale)
        before, after = (huggingface.split(f"{name}.weight", value, TIED) for value in (base, merged))
        for key, value in after.items():
            module = f"base_model.model.{key[: -len('.weight')]}"
            added = held[f"{module}.lora_B.weight"] @ held[f"{module}.lora_A.weight"]
            assert np.abs(before[key] + scale * added - value).max() < 1e-5
