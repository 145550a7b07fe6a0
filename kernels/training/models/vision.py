"""The vision side of Qwen2-VL as plain data: its parameters, and where patches and tokens are (Wang et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .param import Param, Split

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Vision:
    """A tower of full attention over an image's patches, and a merger that makes a token of ``merge`` x ``merge``.

    ``sections`` are the rotary frequencies of a head that turn by time, row and column; ``image_token`` stands in the
    text where a token of an image goes.
    """

    depth: int
    width: int
    heads: int
    sections: tuple[int, int, int]
    image_token: int
    start_token: int
    end_token: int
    patch: int = 14
    merge: int = 2
    frames: int = 2
    mlp_ratio: int = 4
    epsilon: float = 1e-6

    @property
    def pixels(self) -> int:
        """Numbers of a patch: three colours of each pixel, in each frame."""
        return 3 * self.frames * self.patch * self.patch

    def parameters(self, out: int) -> dict[str, Param]:
        """Return the tower's parameters and the merger's, which ends in ``out`` channels.

        Tensor parallelism cuts them as it cuts the text's: by column, by head where there are some, and then by row.
        """

        def column(name: str, inputs: int, *outputs: int) -> dict[str, Param]:
            width = sum(outputs)
            return {
                f"{name}.weight": Param((inputs, width), split=Split(1, outputs)),
                f"{name}.bias": Param((width,), decay=False, split=Split(0, outputs)),
            }

        def row(name: str, inputs: int, outputs: int) -> dict[str, Param]:
            return {
                f"{name}.weight": Param((inputs, outputs), split=Split(0, (inputs,))),
                f"{name}.bias": Param((outputs,), decay=False),
            }

        def norm(name: str) -> dict[str, Param]:
            return {f"{name}.{part}": Param((self.width,), decay=False) for part in ("weight", "bias")}

        found = {"patch.weight": Param((self.pixels, self.width))}
        for index in range(self.depth):
            block = f"blocks.{index}"
            found |= norm(f"{block}.attention_norm")
            found |= column(f"{block}.qkv", self.width, self.width, self.width, self.width)
            found |= row(f"{block}.proj", self.width, self.width)
            found |= norm(f"{block}.mlp_norm")
            found |= column(f"{block}.fc1", self.width, self.mlp_ratio * self.width)
            found |= row(f"{block}.fc2", self.mlp_ratio * self.width, self.width)
        merged = self.width * self.merge**2
        return {
            **found,
            **norm("merger.norm"),
            **column("merger.fc1", merged, merged),
            **row("merger.fc2", merged, out),
        }

    def patch_places(self, grid: tuple[int, int]) -> np.ndarray:
        """Return the row and column of each patch [patches, 2], those that are merged behind each other."""
        import numpy as np

        rows, columns = grid
        places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
        merge = self.merge
        blocks = places.reshape(rows // merge, merge, columns // merge, merge, 2).transpose(0, 2, 1, 3, 4)
        return blocks.reshape(-1, 2)

    def token_places(self, tokens: np.ndarray, grids: list[tuple[int, int]]) -> np.ndarray:
        """Return the position of each token of a sequence in time, row and column: int64 [3, S].

        Text goes on by one in all three; an image's tokens have one time, and its rows and columns beside it.
        """
        import numpy as np

        found = np.zeros((3, len(tokens)), dtype=np.int64)
        at = position = 0
        images = iter(grids)
        while at < len(tokens):
            if tokens[at] == self.image_token:
                rows, columns = (length // self.merge for length in next(images))
                inner = np.stack(np.meshgrid([0], np.arange(rows), np.arange(columns), indexing="ij")).reshape(3, -1)
                found[:, at : at + rows * columns] = position + inner
                at += rows * columns
                position += max(rows, columns)
            else:
                found[:, at] = position
                at += 1
                position += 1
        return found

    def angles(self, places: np.ndarray, head_dim: int, base: float) -> np.ndarray:
        """Return the angle of each token's rotary pairs, fp32 [S, head_dim / 2], from its places [3, S]."""
        import numpy as np

        rates = base ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
        which = np.repeat([0, 1, 2], self.sections)
        return (places[which].T * rates).astype(np.float32)

    def patch_angles(self, places: np.ndarray) -> np.ndarray:
        """Return the angles of patches in the tower, fp32 [patches, head_dim / 2]: half by row, half by column."""
        import numpy as np

        half = self.width // self.heads // 2
        rates = 10_000.0 ** (-np.arange(0, half, 2, dtype=np.float32) / half)
        return (places[:, :, None] * rates).reshape(len(places), -1).astype(np.float32)


def theirs(name: str) -> list[str]:
    """Return Hugging Face's name of a parameter of the tower, ours without ``visual.``."""
    parts = name.split(".")
    if parts[0] == "patch":
        return ["visual.patch_embed.proj.weight"]
    if parts[0] == "merger":
        merger = {"norm": "ln_q", "fc1": "mlp.0", "fc2": "mlp.2"}
        return [f"visual.merger.{merger[parts[1]]}.{parts[2]}"]
    inner = {"attention_norm": "norm1", "mlp_norm": "norm2", "qkv": "attn.qkv", "proj": "attn.proj"}
    own = inner.get(parts[2], f"mlp.{parts[2]}")
    return [f"visual.blocks.{parts[1]}.{own}.{parts[3]}"]


def config_of(vision: Vision, out: int) -> dict[str, Any]:
    """Return what ``config.json`` says of the tower."""
    return {
        "model_type": "qwen2_vl",
        "depth": vision.depth,
        "embed_dim": vision.width,
        "hidden_size": out,
        "hidden_act": "quick_gelu",
        "mlp_ratio": vision.mlp_ratio,
        "num_heads": vision.heads,
        "in_channels": 3,
        "patch_size": vision.patch,
        "spatial_merge_size": vision.merge,
        "temporal_patch_size": vision.frames,
    }


def vision_of(config: dict[str, Any]) -> Vision:
    """Return the vision side that a model's ``config.json`` says."""
    own, rope = config["vision_config"], config.get("rope_scaling") or config.get("rope_parameters") or {}
    return Vision(
        depth=own["depth"],
        width=own["embed_dim"],
        heads=own["num_heads"],
        sections=tuple(rope["mrope_section"]),
        image_token=config["image_token_id"],
        start_token=config["vision_start_token_id"],
        end_token=config["vision_end_token_id"],
        patch=own["patch_size"],
        merge=own["spatial_merge_size"],
        frames=own["temporal_patch_size"],
        mlp_ratio=own["mlp_ratio"],
    )
