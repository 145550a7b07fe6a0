"""The watch over a training loop: what each backward pass, optimizer step and batch must and must not show."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import paddle

from . import checks
from .leaks import Leaks
from .locate import Call, locate
from .names import Names, user_line
from .optimizer import Stepped, parameters
from .trend import Cadence

if TYPE_CHECKING:
    from .progress import Progress
    from .report import Report

Tensor = Any
IDLE_CYCLES, IDLE_LATER = 100, 1000
"""Times that gradients are made and cleared before any step, and between two: an attack on inputs makes dozens."""
SKIPPED = 40
"""Steps in a row that a GradScaler, or the script, skipped because of values that are not finite."""
CLEARING_STEPS = 50
"""Steps after which it is no longer looked whether gradients are cleared."""
GREW = 10.0
"""How many times larger a loss became in the steps before it was not finite: the rate is to blame, or its like."""
WITHOUT_GRADIENT = 5
"""Steps in a row in which a parameter of a layer that ran got no gradient."""
OF_ONE_RANK = ("is_distributed", "no_sync", "expert")
"""What marks a parameter that differs from rank to rank by design: a shard, an expert."""
BATCHES = 50
"""Batches that ranks are told apart by."""
IGNORED = 3
"""Losses in a row whose labels were all ignored."""


class Watch:
    """One process's training.

    Args:
        report: where findings go.
        progress: what counts the steps.
        world_size: ranks of the run.
    """

    def __init__(self, report: Report, progress: Progress, world_size: int) -> None:
        self.report, self.progress, self.world_size = report, progress, world_size
        self.names = Names()
        self.leaks = Leaks(report)
        self.optimizers: dict[int, Stepped] = {}
        self.calls: list[Call] = []
        self.called: set[int] | None = None
        """The layers that ran in this step, while that is of interest."""
        self.batches: list[Any] = []
        """What a DataLoader gave since the last step."""
        self.losses: list[Tensor] = []
        self.history: list[tuple[int, float]] = []
        """The last steps' losses."""
        self.bad_losses = 0
        self.skipped = 0
        self.backwards = 0
        self.cycles = 0
        self.within = False
        """In the step of an optimizer that evaluates the loss itself (LBFGS)."""
        self.pending = False
        """Gradients were made since the last step."""
        self.fresh = True
        """Those of the last backward pass were not cleared before a step."""
        self.ignored = 0
        self.labels = 0
        self.static = False
        self.unused_allowed = False
        self.data_parallel = False
        self.large_collectives = 0
        self.loader: tuple[int, Any] | None = None
        self.batch: int | None = None
        self.batches_told = 0
        self.epoch = 0
        """Batches of the longest DataLoader."""
        self._every = Cadence()

    @property
    def steps(self) -> int:
        """Steps that were taken, of the optimizer that took most."""
        return max((optimizer.steps for optimizer in self.optimizers.values()), default=0)

    def of(self, optimizer: Any) -> Stepped:
        """Return what is known of an optimizer."""
        return self.optimizers.setdefault(id(optimizer), Stepped())

    # ------------------------------------------------------------------ what the hooks call

    def forward(self, layer: Any, inputs: Any, named: Any) -> None:
        """Take note of a call of an outermost layer on data: what is needed to find where a value went wrong."""
        given = list(checks.tensors_in((inputs, named)))
        if given and all(tensor.stop_gradient for tensor in given):
            self.progress.move()
            if paddle.is_grad_enabled():
                self.calls = [*self.calls[-7:], Call(layer, inputs, named)]
                if self.batch is None and self.loader is None and self.data_parallel:
                    self.batch = self.batch_of(given)

    def batch_of(self, values: Any) -> int | None:
        """Return a fingerprint of a batch, by which ranks that train on the same one are told; None after the first."""
        if self.world_size == 1 or self.batches_told >= BATCHES:
            return None
        self.batches_told += 1
        first = next((tensor for tensor in checks.tensors_in(values) if checks.is_dense(tensor)), None)
        return None if first is None else checks.fingerprint(first)

    def backward(self, loss: Any) -> None:
        """Take note of a backward pass from ``loss``."""
        self.backwards += 1
        self.pending = self.fresh = True
        self.progress.move()
        for state in self.optimizers.values():
            state.look_whether_cleared()
        self.progress.step = max(self.progress.step, self.steps + 1)
        for tensor in list(checks.tensors_in(loss))[:8]:
            if checks.is_float(tensor) and tensor.size == 1:
                self.losses = [*self.losses[-63:], tensor.detach()]

    def before_step(self, optimizer: Any) -> bool:
        """Look at loss and gradients before they reach the parameters; return whether the step will be taken."""
        self.progress.step = self.steps + 1
        state = self.of(optimizer)
        trained = parameters(optimizer)
        state.trained = state.trained or frozenset(map(id, trained))
        gradients = [(parameter, parameter.grad) for parameter in trained if parameter.grad is not None]
        found = getattr(optimizer, "_auxiliary_vars", {}).get("found_inf")
        if found is not None and bool(found):
            self._skip("the GradScaler")
            return False
        losses = [float(loss) for loss in self.losses]
        if not all(map(math.isfinite, losses)) or not checks.all_finite(grad for _, grad in gradients):
            self._not_finite(optimizer, losses, gradients)
        self.skipped = self.bad_losses = 0
        state.look_at_clearing(self.report, self.progress.step)
        state.look_at_gradients([grad for _, grad in gradients], self.report, self.progress.step, fresh=self.fresh)
        state.had_gradient = state.had_gradient or bool(gradients)
        if not self._is_beside(state):
            state.look_at_rate(optimizer, self.report, self.progress.step, self.epoch)
        self._gradients(state, trained)
        if state.before is None and not state.moved:
            state.before = [checks.fingerprint(parameter) for parameter in trained]
        return True

    def after_step(self, optimizer: Any, *, taken: bool) -> None:
        """Look at the parameters that a step left, and tell of the step."""
        self.progress.move()
        if not taken:
            return
        state = self.of(optimizer)
        state.steps += 1
        trained = parameters(optimizer)
        self.cycles, self.pending = 0, False
        state.look_at_moves(trained, self.report, self.progress.step)
        if state.steps == self.steps:
            self._tell_step(optimizer, trained)
        self._forget()
        self.progress.step = self.steps + 1
        if self.steps < CLEARING_STEPS and not self.static:
            state.keep_gradient(trained)

    def cleared(self) -> None:
        """Take note that gradients are thrown away, and whether a step was taken with them."""
        if not self.pending or self.within:
            return
        self.pending = self.fresh = False
        if self.losses and not all(math.isfinite(float(loss)) for loss in self.losses):
            self._skip("the script")
        else:
            self.cycles += 1
        self._forget()
        if self.cycles in (IDLE_CYCLES, IDLE_LATER):
            tell = self.report.stop
            if self.steps:  # it has trained, and now may measure something by its gradients
                tell = self.report.warn
            if not self.steps or self.cycles == IDLE_LATER:
                tell(
                    "nothing-moves",
                    f"no optimizer has stepped in {self.cycles} passes",
                    f"Gradients are made and cleared, and optimizer.step() is not called.\nat {user_line()}",
                    step=self.progress.step,
                )

    def _is_beside(self, state: Stepped) -> bool:
        """Tell whether another optimizer moves all of one's parameters: it averages them, maybe, at a rate of 0."""
        others = (other for other in self.optimizers.values() if other is not state)
        return any(other.was_positive and state.trained <= other.trained for other in others)

    def _forget(self) -> None:
        """Drop what was kept of a step."""
        self.losses, self.calls, self.batches = [], [], []

    def cross_entropy(self, label: Any, ignore_index: int) -> None:
        """Look whether a loss has any label that counts."""
        if not isinstance(label, paddle.Tensor) or label.is_floating_point() or not label._is_initialized():
            return
        self.labels += 1
        if self.ignored < IGNORED and self.labels > 20 and self.labels % 10:  # noqa: PLR2004 - a wait for the device each
            return
        if not bool((label == ignore_index).all()):
            self.ignored = 0
            return
        self.ignored += 1
        if self.ignored == IGNORED:
            self.report.warn(
                "labels-ignored",
                f"all labels are {ignore_index}, which the loss ignores",
                f"{IGNORED} batches in a row: there is nothing to learn from.\nat {user_line()}",
                step=self.progress.step,
            )

    def finished(self) -> None:
        """Look back when the script has ended.

        Raises:
            Stopped: nothing moved in the whole run.
        """
        self.report.emit("summary", steps=self.steps, warnings=len(self.report.warned))
        if not self.optimizers or not self.backwards:
            return
        if not self.steps and not self.bad_losses and not self.skipped and self.backwards > 1:
            self.report.stop(
                "nothing-moves",
                f"no optimizer has stepped in {self.backwards} backward passes",
                "optimizer.step() was never called.",
                step=0,
            )
        for state in self.optimizers.values():
            if state.steps > 1 and state.zero_rates and not state.was_positive and not self._is_beside(state):
                self.report.stop(
                    "nothing-moves",
                    f"the learning rate was 0 in all {state.steps} steps",
                    "Nothing was learnt.",
                    step=state.steps,
                )
            if state.steps > 2 and state.before is not None:  # noqa: PLR2004 - one or two may be too small to see
                state.stands_still(self.report, self.progress.step)

    # ------------------------------------------------------------------ what they find

    def _skip(self, who: str) -> None:
        self.skipped += 1
        self.bad_losses += 1
        self.pending = False
        self._forget()
        if self.skipped >= SKIPPED:
            self.report.stop(
                "nothing-moves",
                f"{who} has skipped {self.skipped} steps in a row",
                "Loss or gradients were not finite in any of them.",
                step=self.progress.step,
            )

    def _not_finite(self, optimizer: Any, losses: list[float], gradients: list[tuple[Tensor, Tensor]]) -> None:
        step = self.progress.step
        line = user_line()
        bad = next((loss for loss in losses if not math.isfinite(loss)), None)
        named = [(self.names.of(parameter), grad) for parameter, grad in gradients if not checks.is_finite(grad)]
        if bad is None and not named:  # the sum of all overflowed, and no value did
            return
        tensor = f"the loss is {bad}" if bad is not None else f"the gradient of {named[-1][0]} is not finite"
        self.report.emit("suspect", step=step, what=tensor)
        found = locate(self.calls, self.batches, self.names, self.large_collectives == 0)
        layer = found.layer if found else (named[-1][0].rpartition(".")[0] if named and bad is None else "")
        why = [found.text] if found else []
        if not found and bad is not None:
            why.append("Parameters, inputs and the outputs of all layers are finite: the loss itself makes it.")
        if bad is None and named:
            count = f" and {len(named) - 1} more" if len(named) > 1 else ""
            why.append(f"{named[-1][0]}{count}: {checks.what_is_in(named[-1][1])}; the loss was finite.")
        why += self._remedies(optimizer, [grad.dtype for _, grad in gradients])
        kept = f"those after step {step - 1}" if step > 1 else "what they were at the start"
        why.append(f"The step was not taken: the parameters are {kept}.\nat {line}")
        self.report.stop(
            "not-finite",
            f"step {step}: {tensor}",
            "\n".join(why),
            step=step,
            layer=layer,
            tensor=found.tensor if found else ("loss" if bad is not None else named[-1][0]),
            line=line,
            passed_on=self.world_size > 1 and not found and bad is None,
        )

    def _remedies(self, optimizer: Any, types: list[Any]) -> list[str]:
        """Return what in the steps before makes values that are not finite, and what to change."""
        remedies = []
        if self.history:
            (first, least), (last, loss) = min(self.history, key=lambda entry: entry[1]), self.history[-1]
            if loss > GREW * max(abs(least), 1e-3):
                rate = getattr(optimizer, "get_lr", lambda: None)()
                remedies.append(
                    f"The loss grew from {least:.3g} (step {first}) to {loss:.3g} (step {last}): take a smaller rate "
                    f"than {rate}, or clip: grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0)."
                )
        if paddle.float16 in types:
            remedies.append("float16 ends at 65504: paddle.amp.GradScaler scales the loss and skips such steps.")
        return remedies

    def _gradients(self, state: Stepped, trained: list[Tensor]) -> None:
        """Find parameters whose layer runs and that get no gradient; a layer that does not run may be meant so."""
        if self.unused_allowed or self.static or state.steps > 4 * WITHOUT_GRADIENT:
            self.called = None
            return
        missing = {
            id(parameter): parameter for parameter in trained if parameter.grad is None and not parameter.stop_gradient
        }
        if self.called is not None:
            ran = {
                key
                for key, parameter in missing.items()
                if (owner := self.names.owner(parameter)) is not None and id(owner) in self.called
            }
            state.without = {key: state.without.get(key, 0) + 1 for key in ran}
        self.called = set() if missing else None
        long = [missing[key] for key, count in state.without.items() if count >= WITHOUT_GRADIENT]
        if long and len(long) < len(trained):
            names = [self.names.of(parameter) for parameter in long]
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004
            self.report.warn(
                "no-gradient",
                f"{shown}: no gradient comes to {'it' if len(names) == 1 else 'them'}",
                f"The layer ran in each of the last {WITHOUT_GRADIENT} steps, and the loss does not depend on it: "
                "detach(), no_grad(), numpy() or stop_gradient on the way?",
                step=self.progress.step,
                layer=names[0].rpartition(".")[0],
                tensor=names[0],
            )
            state.without = {}

    def _tell_step(self, optimizer: Any, trained: list[Tensor]) -> None:
        step = self.steps
        fields: dict[str, Any] = {}
        if self.losses:
            fields["loss"] = sum(float(loss) for loss in self.losses) / len(self.losses)
            self.history = [*self.history[-7:], (step, fields["loss"])]
        rate = getattr(optimizer, "get_lr", lambda: None)()
        used = self.leaks.step(step)
        loader = self.loader[0] if self.loader and self.data_parallel else None
        self.report.emit(
            "step", step=step, lr=rate, rss_mib=used / (1 << 20), batch=self.batch, loader=loader, **fields
        )
        self.batch = None
        if self.world_size > 1 and self._every.is_due(step, begin := time.perf_counter()):
            self.report.emit(
                "parameters",
                step=step,
                data_parallel=self.data_parallel,
                alone=self.large_collectives == 0 and not self.data_parallel,
                comparable=not any(is_split(layer) for layer in list(self.names.layers)),
                values=[
                    [self.names.of(parameter), list(parameter.shape), checks.fingerprint(parameter)]
                    for parameter in trained
                    if checks.is_dense(parameter) and not any(getattr(parameter, mark, False) for mark in OF_ONE_RANK)
                ],
            )
            self._every.took(time.perf_counter() - begin)


def is_split(layer: Any) -> bool:
    """Tell whether a layer's parameters differ from rank to rank by design: tensor, pipeline or sharded parallelism."""
    module = type(layer).__module__
    return module.startswith("paddle.distributed.") and not module.endswith("distributed.parallel")
