"""Weights in Hugging Face's names and files: ``config.json`` and safetensors of ``Qwen2ForCausalLM``.

Ours are [in, out] and fused, theirs [out, in] and apart; no number changes.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Iterator

from ...protocol import Refusal
from . import vision as vision_side
from .parameters import Shape

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
SHARD = 4 * 2**30
"""Bytes of a file, beyond which the next one begins."""
_ENDS = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_NORMS = {"attention_norm.weight": "input_layernorm.weight", "mlp_norm.weight": "post_attention_layernorm.weight"}
_PARTS = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down": ("mlp.down_proj",),
}


def theirs(name: str) -> list[str]:
    """Return the names of what a parameter of ours is made of, in their order along its last axis."""
    if name in _ENDS:
        return [_ENDS[name]]
    if name.startswith("visual."):
        return vision_side.theirs(name[len("visual.") :])
    found = re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if not found:
        raise KeyError(name)
    prefix = f"model.layers.{found[1]}."
    if f"{found[2]}.weight" in _NORMS:
        return [prefix + _NORMS[f"{found[2]}.weight"]]
    return [f"{prefix}{part}.{found[3]}" for part in _PARTS[found[2]]]


def _turned(name: str) -> bool:
    """Tell whether a parameter of ours is the transpose of theirs: the products of layers are."""
    return name.startswith(("layers.", "visual.")) and name.endswith(".weight") and "norm" not in name


def split(name: str, value: np.ndarray, shape: Shape) -> dict[str, np.ndarray]:
    """Return a parameter of ours as theirs, by name."""
    import numpy as np

    names = theirs(name)
    sections = {
        "attention.qkv": [shape.width, shape.kv_heads * shape.head_dim, shape.kv_heads * shape.head_dim],
        "mlp.gate_up": [shape.hidden, shape.hidden],
    }
    if shape.vision and name == "visual.patch.weight":
        vision = shape.vision
        whole = value.T.reshape(vision.width, 3, vision.frames, vision.patch, vision.patch)
        return {names[0]: np.ascontiguousarray(whole)}
    lengths = next((lengths for part, lengths in sections.items() if f".{part}." in name), [value.shape[-1]])
    parts = np.split(value, np.cumsum(lengths)[:-1], axis=-1)
    return {key: np.ascontiguousarray(part.T if _turned(name) else part) for key, part in zip(names, parts)}


def join(name: str, get: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return a parameter of ours from theirs."""
    import numpy as np

    parts = [get(key) for key in theirs(name)]
    if name == "visual.patch.weight":
        return np.ascontiguousarray(parts[0].reshape(len(parts[0]), -1).T)
    return np.concatenate([part.T if _turned(name) else part for part in parts], axis=-1)


def config_of(shape: Shape, dtype: str) -> dict[str, Any]:
    """Return what ``config.json`` says of a model."""
    if shape.vision:
        vision = shape.vision
        plain = config_of(replace(shape, vision=None), dtype)
        return {
            **plain,
            "architectures": ["Qwen2VLForConditionalGeneration"],
            "model_type": "qwen2_vl",
            "image_token_id": vision.image_token,
            "video_token_id": vision.image_token + 1,
            "vision_start_token_id": vision.start_token,
            "vision_end_token_id": vision.end_token,
            "rope_scaling": {"type": "mrope", "mrope_section": list(vision.sections)},
            "vision_config": vision_side.config_of(vision, shape.width),
        }
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "max_position_embeddings": 32768,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_base,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": dtype,
        "use_sliding_window": False,
        "vocab_size": shape.vocabulary,
    }


def shape_of(folder: Path) -> Shape:
    """Return the shape that a folder's ``config.json`` says.

    Raises:
        Refusal: there is none, or it is another model's.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config["model_type"]
        if kind not in {"qwen2", "qwen2_vl"}:
            raise Refusal(f"{folder} holds a model of type {kind}", "What is trained here has Qwen2's shape.")
        _check(folder, config)
        rope = config.get("rope_parameters") or {}
        return Shape(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            hidden=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            rope_base=float(config.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
            epsilon=config["rms_norm_eps"],
            tied=config.get("tie_word_embeddings", False),
            vision=vision_side.vision_of(config) if kind == "qwen2_vl" else None,
        )
    except OSError as error:
        raise Refusal(f"{folder} holds no model", f"{CONFIG}: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{folder / CONFIG} cannot be read", f"{type(error).__name__}: {error}.") from error


def _check(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a model that computes something else than Qwen2's plain layers: its weights would be read, and be wrong.

    Raises:
        Refusal: it does.
    """
    rope = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    turned = rope.get("rope_type") or rope.get("type") or "default"
    heads, head_dim = config["num_attention_heads"], config.get("head_dim")
    other = {
        f"its weights are quantized ({CONFIG}: quantization_config)": bool(config.get("quantization_config")),
        f"its rotary positions are scaled ({turned})": turned not in {"default", "mrope"},
        "it attends in a sliding window": bool(config.get("use_sliding_window")),
        f"its activation is {config.get('hidden_act')}": config.get("hidden_act", "silu") != "silu",
        f"its heads have {head_dim} channels": bool(head_dim) and head_dim * heads != config["hidden_size"],
    }
    for what, is_so in other.items():
        if is_so:
            raise Refusal(f"the model in {folder} is another than is trained here: {what}", "Nothing of it was read.")


class Folder:
    """The tensors of a folder's safetensors, read one at a time.

    Raises:
        Refusal: a file is missing or broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        path = folder / INDEX
        try:
            files = [SINGLE]
            if path.exists():
                files = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
            for name in files:
                path = folder / name
                with path.open("rb") as file:
                    length = int.from_bytes(file.read(8), "little")
                    header = json.loads(file.read(length))
                for key, entry in header.items():
                    if key != "__metadata__":
                        self._places[key] = (path, 8 + length, _entry(entry))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            raise Refusal(f"the weights {path} cannot be read", f"{type(error).__name__}: {error}.") from error

    def names(self) -> list[str]:
        """Return the names of its tensors."""
        return sorted(self._places)

    def tensor(self, name: str) -> np.ndarray:
        """Return a tensor in fp32.

        Raises:
            Refusal: it is not there, is cut short, or is of another kind.
        """
        import numpy as np

        if name not in self._places:
            raise Refusal(f"{self.folder} lacks {name}", "Its files hold other tensors than its config.json says.")
        path, begin, entry = self._places[name]
        first, end = entry["data_offsets"]
        with path.open("rb") as file:
            file.seek(begin + first)
            data = file.read(end - first)
        if len(data) < end - first:
            raise Refusal(f"{path} is cut short", f"{name} is not whole.")
        kinds = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}
        if entry["dtype"] not in kinds:
            raise Refusal(f"{name} is of type {entry['dtype']}", f"Known are {', '.join(kinds)}.")
        kind = np.dtype(kinds[entry["dtype"]])
        if math.prod(entry["shape"]) * kind.itemsize != len(data):
            raise Refusal(f"{path} is damaged", f"{name} of {entry['shape']} is not whole in {len(data)} bytes.")
        values = np.frombuffer(data, dtype=kind)
        if entry["dtype"] == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32).reshape(entry["shape"])


def _entry(entry: Any) -> dict[str, Any]:
    """Return what a header says of a tensor.

    Raises:
        ValueError: it says something else.
    """
    first, end = map(int, entry["data_offsets"])
    return {"dtype": str(entry["dtype"]), "shape": list(map(int, entry["shape"])), "data_offsets": [first, end]}


def write(folder: Path, shape: Shape, dtype: str, tensors: Iterator[tuple[str, np.ndarray]]) -> list[Path]:
    """Write ``config.json`` and the tensors, fp32 or bf16, in files of at most ``SHARD`` bytes; return the files.

    Raises:
        OSError: the disk is full or refuses.
    """
    shards: list[list[tuple[str, list[int], bytes]]] = [[]]
    written: list[Path] = []
    index: dict[str, str] = {}
    total = held = 0

    def flush() -> None:
        path = folder / f"model-{len(written) + 1:05d}.safetensors"
        header, offset = {}, 0
        for name, lengths, data in shards[-1]:
            header[name] = {
                "dtype": "BF16" if dtype == "bf16" else "F32",
                "shape": lengths,
                "data_offsets": [offset, offset + len(data)],
            }
            offset += len(data)
            index[name] = path.name
        text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, _, data in shards[-1]:
                file.write(data)
        written.append(path)
        shards.append([])

    for name, value in tensors:
        data = _rounded(value) if dtype == "bf16" else value.astype("<f4").tobytes()
        if held and held + len(data) > SHARD:
            flush()
            held = 0
        shards[-1].append((name, list(value.shape), data))
        held += len(data)
        total += len(data)
    flush()
    if len(written) == 1:
        written = [written[0].replace(folder / SINGLE)]
    else:
        ending = f"-of-{len(written):05d}.safetensors"
        named = {name: name.replace(".safetensors", ending) for name in set(index.values())}
        written = [path.replace(path.with_name(named[path.name])) for path in written]
        weight_map = {name: named[file] for name, file in index.items()}
        entry = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(entry, indent=1), encoding="utf-8")
    names = {"fp32": "float32", "bf16": "bfloat16"}
    (folder / CONFIG).write_text(json.dumps(config_of(shape, names[dtype]), indent=1) + "\n", encoding="utf-8")
    return [folder / CONFIG, *written]


def _rounded(value: np.ndarray) -> bytes:
    """Return bf16, rounded to the nearest even."""
    import numpy as np

    bits = np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype("<u2").tobytes()
