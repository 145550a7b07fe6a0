"""AdamW's constants (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdamW:
    """What every parameter shares; the learning rate comes with the step."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    scale: float = 1.0
    """Multiplies every gradient: it averages over ranks and micro-batches, and clips."""
