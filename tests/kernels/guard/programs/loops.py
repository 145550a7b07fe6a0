"""Training loops as people write them, healthy ones and broken ones, each under a watch of its own, in one process.

Prints a line of JSON a loop: its name, and the kinds that the guards found.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
from paddle import nn

from devkit.kernels.guard import hooks
from devkit.kernels.guard.progress import Progress
from devkit.kernels.guard.report import Report, Stopped
from devkit.kernels.guard.training import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

F = nn.functional
LOOPS: dict[str, Callable[[], None]] = {}


def loop(function: Callable[[], None]) -> Callable[[], None]:
    LOOPS[function.__name__] = function
    return function


class Told(Report):
    """A report that keeps what was found."""

    def __init__(self) -> None:
        super().__init__(None, 0)
        self.found: list[dict[str, Any]] = []

    def _find(self, verdict: str, kind: str, what: str, why: str, where: dict[str, Any]) -> None:
        self.found.append({"verdict": verdict, "kind": kind, "what": what, "why": why, **where})


class Net(nn.Layer):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.norm = nn.BatchNorm1D(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Any) -> Any:
        return self.head(F.relu(self.norm(self.embed(x))))


def batch(size: int = 16) -> tuple[Any, Any]:
    return paddle.randn([size, 8]), paddle.randint(0, 4, [size])


def adam(model: Any, rate: Any = 1e-2, **more: Any) -> Any:
    return paddle.optimizer.AdamW(rate, parameters=model.parameters(), **more)


def train(model: Any, optimizer: Any, steps: int = 12, *, each: Callable[[int], object] = lambda _: None) -> None:
    for step in range(steps):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        each(step)


# ---------------------------------------------------------------------- healthy


@loop
def healthy_warm_up_from_zero() -> None:
    model = Net()
    rate = paddle.optimizer.lr.LinearWarmup(1e-2, warmup_steps=5, start_lr=0.0, end_lr=1e-2)
    train(model, adam(model, rate), each=lambda _: rate.step())


@loop
def healthy_cosine_to_zero() -> None:
    model = Net()
    rate = paddle.optimizer.lr.CosineAnnealingDecay(1e-2, T_max=8)
    train(model, adam(model, rate), 16, each=lambda step: rate.step() if step < 8 else None)


@loop
def healthy_lora_and_frozen_parameters() -> None:
    class Lora(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.base = Net()
            for parameter in self.base.parameters():
                parameter.stop_gradient = True
            self.down = nn.Linear(8, 2, bias_attr=False)
            self.up = nn.Linear(2, 4, weight_attr=nn.initializer.Constant(0.0), bias_attr=False)

        def forward(self, x: Any) -> Any:
            return self.base(x) + self.up(self.down(x))

    model = Lora()
    train(model, adam(model))


@loop
def healthy_unused_parameters() -> None:
    model = Net()
    model.later = nn.Linear(3, 3)
    train(model, adam(model))


@loop
def healthy_accumulation() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(40):
        x, y = batch()
        (F.cross_entropy(model(x), y) / 4).backward()
        if step % 4 == 3:
            optimizer.step()
            optimizer.clear_grad()


@loop
def healthy_two_optimizers_in_turns() -> None:
    maker, judge = nn.Linear(4, 8), Net()
    makers, judges = adam(maker, 1e-3), adam(judge, 1e-3)
    for _ in range(12):
        for _ in range(3):
            judges.clear_grad()
            judge(maker(paddle.randn([16, 4])).detach()).mean().backward()
            judges.step()
        makers.clear_grad()
        judges.clear_grad()
        judge(maker(paddle.randn([16, 4]))).mean().backward()
        makers.step()


@loop
def healthy_scaler_skips_an_infinite_step() -> None:
    model = Net()
    optimizer = adam(model)
    from paddle.amp.grad_scaler import _refresh_optimizer_state

    scaler = paddle.amp.GradScaler(init_loss_scaling=1024)
    scaler._enable = True  # Paddle turns it off on CPU
    for name in ("_found_inf", "_temp_found_inf_value_false", "_temp_found_inf_fp16", "_temp_found_inf_bf16"):
        setattr(scaler, name, paddle.to_tensor(np.array([0]).astype(np.bool_)))
    scaler._temp_found_inf_fp32 = paddle.to_tensor(np.array([0]).astype(np.bool_))
    scaler._scale = paddle.to_tensor(np.array([1024.0], dtype=np.float32))
    scaler._cache_found_inf, scaler._optimizer_states = None, defaultdict(_refresh_optimizer_state)
    for step in range(12):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss * (float("inf") if step == 5 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.clear_grad()


@loop
def healthy_script_skips_a_step_of_its_own() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(12):
        x, y = batch()
        loss = F.cross_entropy(model(x), y) * (float("nan") if step in (3, 4) else 1.0)
        loss.backward()
        if all(
            bool(paddle.isfinite(parameter.grad).all())
            for parameter in model.parameters()
            if parameter.grad is not None
        ):
            optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_evaluation_in_between() -> None:
    model = Net()

    def evaluate(_: int) -> None:
        model.eval()
        with paddle.no_grad():
            x, y = batch(64)
            F.cross_entropy(model(x), y)
            float(model(x * float("nan")).mean())
        model.train()

    train(model, adam(model), each=evaluate)


@loop
def healthy_recompute() -> None:
    from paddle.distributed.fleet.utils import recompute

    model = Net()
    optimizer = adam(model)
    for _ in range(8):
        x, y = batch()
        hidden = recompute(lambda h: F.relu(model.norm(h)), model.embed(x))
        F.cross_entropy(model.head(hidden), y).backward()
        optimizer.step()
        optimizer.clear_grad()


def _to_static(*, full_graph: bool) -> None:
    class Twice(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Any) -> Any:
            return self.net(x) * 2

    model = paddle.jit.to_static(Twice(), full_graph=full_graph)
    train(model, adam(model), 6)


@loop
def healthy_to_static_whole() -> None:
    _to_static(full_graph=True)


@loop
def healthy_to_static_in_parts() -> None:
    _to_static(full_graph=False)


@loop
def healthy_to_static_of_a_step_with_its_loss() -> None:
    model = Net()

    @paddle.jit.to_static(full_graph=True)
    def loss_of(x: Any, y: Any) -> Any:
        return F.cross_entropy(model(x), y)

    optimizer = adam(model)
    for _ in range(6):
        loss_of(*batch()).backward()
        optimizer.step()
        optimizer.clear_grad()


class Numbers(paddle.io.Dataset):
    def __getitem__(self, index: int) -> Any:
        return np.full([8], index / 64, dtype=np.float32), np.int64(index % 4)

    def __len__(self) -> int:
        return 64


@loop
def healthy_dataloader_workers() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(2):
        for x, y in paddle.io.DataLoader(Numbers(), batch_size=8, shuffle=True, num_workers=2):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.clear_grad()


@loop
def healthy_own_optimizer_and_clipping() -> None:
    class Sign(paddle.optimizer.Optimizer):
        def step(self) -> None:
            with paddle.no_grad():
                for parameter in self._parameter_list:
                    if parameter.grad is not None:
                        parameter.set_value(parameter - 1e-3 * paddle.sign(parameter.grad))

    model = Net()
    train(model, Sign(1e-3, parameters=model.parameters(), grad_clip=nn.ClipGradByGlobalNorm(1.0)))
    model = Net()
    train(model, adam(model, grad_clip=nn.ClipGradByGlobalNorm(1.0)))


@loop
def healthy_no_optimizer_of_paddles() -> None:
    model = Net()
    for _ in range(30):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        with paddle.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.set_value(parameter - 1e-3 * parameter.grad)
        model.clear_gradients()


@loop
def healthy_groups_and_sparse_gradients() -> None:
    words, head = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 4)
    optimizer = paddle.optimizer.Adam(
        1e-2,
        parameters=[{"params": words.parameters(), "learning_rate": 0.1}, {"params": head.parameters()}],
    )
    for _ in range(10):
        F.cross_entropy(head(words(paddle.randint(0, 50, [16]))), paddle.randint(0, 4, [16])).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_some_labels_ignored() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(12):
        x, y = batch()
        y = paddle.where(paddle.arange(16) % 2 == 0, y, paddle.full_like(y, -100)) if step != 4 else y * 0 - 100
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_penalty_on_gradients_and_files() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = adam(model)
    with tempfile.TemporaryDirectory() as folder:
        for step in range(8):
            x = paddle.randn([4, 8])
            x.stop_gradient = False
            out = model(x)
            (grad,) = paddle.grad(out.sum(), x, create_graph=True)
            (out.mean() + (grad**2).sum()).backward()
            optimizer.step()
            optimizer.clear_grad()
            paddle.save(model.state_dict(), f"{folder}/{step}.pdparams")
            model.set_state_dict(paddle.load(f"{folder}/{step}.pdparams"))


@loop
def healthy_losses_kept_as_numbers() -> None:
    model, kept = Net(), []
    train(model, adam(model), 90, each=lambda step: kept.append(float(step)))


@loop
def healthy_attack_on_the_inputs_in_each_step() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(2):
        x, y = batch()
        for _ in range(40):
            x.stop_gradient = False
            F.cross_entropy(model(x), y).backward()
            x = (x + 0.01 * paddle.sign(x.grad)).detach()
            optimizer.clear_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_closure_of_lbfgs() -> None:
    model = nn.Linear(8, 1)
    optimizer = paddle.optimizer.LBFGS(parameters=model.parameters())
    x = paddle.randn([32, 8])

    def closure() -> Any:
        optimizer.clear_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


# ---------------------------------------------------------------------- broken


@loop
def broken_batch_not_finite() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(12):
        x, y = batch()
        if step == 6:
            x[2, 3] = float("nan")
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_layer_divides_by_zero() -> None:
    class Scaled(nn.Layer):
        def forward(self, x: Any) -> Any:
            return x / (x - x) if self.broken else x

    model = Net()
    model.norm = Scaled()
    model.norm.broken = False
    train(model, adam(model), each=lambda step: setattr(model.norm, "broken", step >= 4))


@loop
def broken_parameter_not_finite() -> None:
    model = Net()
    train(
        model,
        adam(model),
        each=lambda step: step == 4 and model.head.weight.set_value(model.head.weight * float("inf")),
    )


@loop
def broken_loss_of_a_logarithm() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(12):
        x, _ = batch()
        paddle.log(-(model(x) ** 2).mean()).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_gradient_of_a_root() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(12):
        x, _ = batch()
        paddle.sqrt(model(x) * 0.0).sum().backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_rate_is_zero() -> None:
    model = Net()
    train(model, adam(model, 0.0))


@loop
def broken_scheduler_never_steps() -> None:
    model = Net()
    train(model, adam(model, paddle.optimizer.lr.LinearWarmup(1e-2, 5, 0.0, 1e-2)), 8)


@loop
def broken_optimizer_never_steps() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(20):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        optimizer.clear_grad()


@loop
def broken_short_run_never_steps() -> None:
    model = Net()
    adam(model)
    for _ in range(4):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()


@loop
def broken_optimizer_of_another_model() -> None:
    train(Net(), adam(Net()), 24)


@loop
def broken_all_frozen() -> None:
    model = Net()
    optimizer = adam(model)
    for parameter in model.parameters():
        parameter.stop_gradient = True
    weight = paddle.ones([1])
    weight.stop_gradient = False
    for _ in range(6):
        x, y = batch()
        (F.cross_entropy(model(x), y) * weight).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_gradients_never_cleared() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(8):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@loop
def broken_rate_far_too_large() -> None:
    model = nn.Linear(8, 4)
    optimizer = paddle.optimizer.SGD(1e9, parameters=model.parameters())
    x = paddle.randn([16, 8])
    for _ in range(30):
        (model(x) ** 2).mean().backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_gradients_cleared_by_hand() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(16):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if step < 8:
            model.clear_gradients()
        else:
            for parameter in model.parameters():
                parameter.clear_gradient()


@loop
def broken_detached_layer() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(12):
        x, y = batch()
        hidden = F.relu(model.embed(x)).detach()
        F.cross_entropy(model.head(hidden), y).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_all_labels_ignored() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(8):
        x, _ = batch()
        F.cross_entropy(model(x), paddle.full([16], -100, dtype="int64")).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_memory_kept_in_a_list() -> None:
    model = Net()
    history = []
    optimizer = adam(model)
    for _ in range(60):
        x, y = batch()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        history.append(paddle.ones([512, 1024]))


@loop
def broken_memory_kept_by_a_sum_of_losses() -> None:
    model = Net(256)
    optimizer = adam(model)
    total = paddle.zeros([1])
    for _ in range(60):
        loss = F.cross_entropy(model(paddle.randn([2048, 8])), paddle.randint(0, 4, [2048]))
        loss.backward(retain_graph=True)
        optimizer.step()
        optimizer.clear_grad()
        total = total + loss


def main() -> None:
    made = hooks.Hooks(Told(), Progress(), Watch(Told(), Progress(), 1))
    made.all(1)
    chosen = sys.argv[1:] or sorted(LOOPS, key=lambda name: "to_static" in name)  # tracing ends the watch over calls
    for name in chosen:
        report = Told()
        made.progress = Progress()
        made.watch = Watch(report, made.progress, 1)
        paddle.seed(7)
        paddle.disable_static()
        error = ""
        try:
            LOOPS[name]()
            made.watch.finished()
        except Stopped:
            pass
        except Exception as raised:  # noqa: BLE001 - it is told
            error = f"{type(raised).__name__}: {raised}"
        print("LOOP " + json.dumps({"name": name, "error": error, "found": report.found}), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    assert Path(__file__).is_file()
    main()
