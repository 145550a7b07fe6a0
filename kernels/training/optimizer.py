"""AdamW on a flat shard (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2)."""

from __future__ import annotations

from dataclasses import dataclass

import paddle

Tensor = paddle.Tensor


@dataclass(frozen=True)
class AdamW:
    """What every parameter shares; the learning rate comes with the step."""

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1

    def update(
        self, value: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, *, lr: float, step: int, decay: bool, scale: float
    ) -> None:
        """Take step number ``step`` (from 1) on equally long flat tensors, in place; ``scale`` multiplies the gradient."""
        if scale != 1.0:
            gradient.scale_(scale)
        mean.scale_(self.beta1).add_(gradient * (1 - self.beta1))
        square.scale_(self.beta2).add_(gradient * gradient * (1 - self.beta2))
        correction1, correction2 = 1 - self.beta1**step, 1 - self.beta2**step
        if decay:
            value.scale_(1 - lr * self.weight_decay)
        denominator = (square / correction2).sqrt_().add_(paddle.full([1], self.epsilon, square.dtype))
        value.subtract_((mean / denominator).scale_(lr / correction1))
