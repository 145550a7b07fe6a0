"""What each optimizer does: its steps, its rate, and whether its parameters move."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paddle

from . import checks
from .names import user_line

if TYPE_CHECKING:
    from .report import Report

Tensor = Any
ZERO_RATES = 5
"""Steps at a rate of 0 from the first on, that are not a warm-up."""
LONG_WARMUP = 200
"""The same where the scheduler would raise it at its next step: it is stepped once an epoch, maybe."""
STILL = 20
"""Steps that left every parameter as it was."""
UNCLEARED = 3
"""Steps in a row whose gradients were made on top of those of the step before."""
NO_GRADIENT_AT_ALL = 5
"""The same, from the first on, where none of the optimizer's parameters gets a gradient."""


@dataclass
class Stepped:
    """What is known of an optimizer.

    Attributes:
        trained: what it trains, by identity, at its first step.
        before: the fingerprints of its parameters before its first step; None once one of them moved.
        zero_rates: steps in a row at a rate of 0.
        without: how many steps in a row each parameter had no gradient though its layer ran.
        cleared: how many steps in a row had gradients of 0, or none, which were cleared before.
        kept: a parameter whose gradient the last step has used, and whether that was cleared since; None before a
            backward pass has come.
        uncleared: how many steps in a row it was not.
    """

    steps: int = 0
    trained: frozenset[int] = frozenset()
    zero_rates: int = 0
    was_positive: bool = False
    before: list[int] | None = None
    moved: bool = False
    had_gradient: bool = False
    without: dict[int, int] = field(default_factory=dict)
    cleared: int = 0
    kept: tuple[Tensor, bool | None] | None = None
    uncleared: int = 0

    def keep_gradient(self, trained: list[Tensor]) -> None:
        """Remember a parameter whose gradient was used, to see whether that is cleared before the next is added."""
        used = [parameter for parameter in trained if parameter.grad is not None and checks.is_dense(parameter.grad)]
        least = min(used, key=lambda parameter: int(parameter.size), default=None)
        self.kept = None if least is None or not bool((least.grad != 0).any()) else (least, None)

    def look_whether_cleared(self) -> None:
        """See whether a backward pass that begins finds the gradient of the last step; of one of them is enough."""
        if self.kept and not self.kept[1]:
            gradient = self.kept[0].grad
            self.kept = self.kept[0], gradient is None or not bool((gradient != 0).any())

    def look_at_clearing(self, report: Report, step: int) -> None:
        """Find gradients that are added to those of the steps before."""
        kept, self.kept = self.kept, None
        if kept is None or kept[1] is None:
            return
        self.uncleared = 0 if kept[1] else self.uncleared + 1
        if self.uncleared == UNCLEARED:
            report.warn(
                "gradients-kept",
                "gradients are not cleared after a step",
                f"{UNCLEARED} steps in a row: each adds to all before it, so the rate grows with the steps. "
                f"optimizer.clear_grad() belongs behind optimizer.step().\nat {user_line()}",
                step=step,
            )

    def look_at_gradients(self, gradients: list[Tensor], report: Report, step: int, *, fresh: bool) -> None:
        """Find gradients that are cleared between the backward pass and the step; ``fresh`` ones are not."""
        gone = not fresh and not any(bool((gradient != 0).any()) for gradient in gradients if checks.is_dense(gradient))
        self.cleared = self.cleared + 1 if gone else 0
        if self.cleared == NO_GRADIENT_AT_ALL:
            report.stop(
                "nothing-moves",
                f"{self.cleared} steps in a row had no gradient: it was cleared before each",
                f"optimizer.clear_grad() belongs behind optimizer.step(), or before loss.backward().\nat {user_line()}",
                step=step,
            )

    def look_at_rate(self, optimizer: Any, report: Report, step: int, epoch: int) -> None:
        """Find a rate that is not finite, or that is 0 from the first step on; an ``epoch`` has so many batches."""
        try:
            rate = float(optimizer.get_lr())
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return
        self.zero_rates = 0 if rate else self.zero_rates + 1
        self.was_positive = self.was_positive or bool(rate)
        if not math.isfinite(rate):
            report.stop("not-finite", f"step {step}: the learning rate is {rate}", step=step)
        if self.was_positive or self.zero_rates < ZERO_RATES:
            return
        if will_rise(optimizer) and self.zero_rates < max(LONG_WARMUP, epoch + ZERO_RATES):
            report.warn(
                "rate-zero",
                "the learning rate is 0 since the first step",
                f"{ZERO_RATES} steps have changed nothing. The scheduler would raise it: is scheduler.step() called?",
                step=step,
            )
            return
        report.stop(
            "nothing-moves",
            f"step {step}: the learning rate is 0 since the first step",
            f"{self.zero_rates} steps have changed nothing.\nat {user_line()}",
            step=step,
        )

    def look_at_moves(self, trained: list[Tensor], report: Report, step: int) -> None:
        """Find steps that leave every parameter as it was."""
        if self.moved or self.before is None:
            return
        if len(trained) != len(self.before) or any(
            checks.fingerprint(parameter) != before for parameter, before in zip(trained, self.before)
        ):
            self.moved, self.before = True, None
        elif self.was_positive and self.steps >= (STILL if self.had_gradient else NO_GRADIENT_AT_ALL):
            self.stands_still(report, step)

    def stands_still(self, report: Report, step: int) -> None:
        """Tell that no step has changed a parameter.

        Raises:
            Stopped: always.
        """
        rate = "" if self.was_positive else ", at a learning rate of 0"
        why = "Gradients of 0, or a rate that is lost in rounding?"
        if not self.had_gradient:
            why = "None of the optimizer's parameters gets a gradient: all frozen, or another model's?"
        report.stop(
            "nothing-moves",
            f"{self.steps} steps have changed no parameter{rate}",
            why,
            step=step,
        )


def parameters(optimizer: Any) -> list[Tensor]:
    """Return all that an optimizer trains, frozen ones left out."""
    given = getattr(optimizer, "_parameter_list", None) or []
    flat = [parameter for group in given for parameter in (group["params"] if isinstance(group, dict) else [group])]
    return [parameter for parameter in flat if isinstance(parameter, paddle.Tensor) and not parameter.stop_gradient]


def will_rise(optimizer: Any) -> bool:
    """Tell whether the scheduler of a rate of 0 would raise it when it is stepped."""
    scheduler = getattr(optimizer, "_learning_rate", None)
    if not isinstance(scheduler, paddle.optimizer.lr.LRScheduler):
        return False
    try:
        ahead = copy.deepcopy(scheduler)
        for _ in range(3):
            ahead.step()
    except Exception:  # noqa: BLE001 - the user's own scheduler
        return False
    return bool(ahead.get_lr())
