"""The attention of real models: their heads, from the models' published configurations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """One model's attention; ``seqlen`` is measured by default."""

    heads: int
    kv_heads: int
    head_dim: int
    causal: bool
    seqlen: str = "1024,4096"
    case: str = "dense"


PRESETS = {
    "gpt-2": Preset(heads=12, kv_heads=12, head_dim=64, causal=True, seqlen="1024"),
    "llama-3-8b": Preset(heads=32, kv_heads=8, head_dim=128, causal=True),
    "qwen2-7b": Preset(heads=28, kv_heads=4, head_dim=128, causal=True),
    "qwen2-vl-text": Preset(heads=28, kv_heads=4, head_dim=128, causal=True),
    # Images of several sizes, one after the other.
    "qwen2-vl-vision": Preset(heads=16, kv_heads=16, head_dim=80, causal=False, case="varlen"),
    # By Baidu's model cards (Heads Q/KV) and configurations.
    "ernie-4.5": Preset(heads=64, kv_heads=8, head_dim=128, causal=True),  # 300B-A47B
    "ernie-4.5-21b": Preset(heads=20, kv_heads=4, head_dim=128, causal=True),
    "ernie-4.5-0.3b": Preset(heads=16, kv_heads=2, head_dim=128, causal=True),
}
