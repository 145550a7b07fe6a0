"""Loops with a fault that a guard finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn

from tests.kernels.guard.programs.base import F, Net, Points, adam, batch, loop, train


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


@loop
def broken_rate_of_a_first_epoch() -> None:
    """Told, and not ended: the scheduler is stepped once an epoch."""
    model = nn.Linear(8, 4)
    rate = paddle.optimizer.lr.LambdaDecay(1e-2, lambda epoch: min(epoch, 3) / 3)
    optimizer = paddle.optimizer.SGD(rate, parameters=model.parameters())
    for _ in range(2):
        for x, y in paddle.io.DataLoader(Points(250), batch_size=1):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.clear_grad()
        rate.step()


@loop
def broken_backward_forgotten() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(8):
        x, y = batch()
        F.cross_entropy(model(x), y)
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_cleared_before_the_step() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(12):
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        optimizer.clear_grad()
        optimizer.step()


@loop
def broken_loss_through_numpy() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(8):
        x, y = batch()
        loss = paddle.to_tensor(F.cross_entropy(model(x), y).numpy(), stop_gradient=False)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_labels_of_padding() -> None:
    model, loss = Net(), nn.CrossEntropyLoss(ignore_index=0)
    optimizer = adam(model)
    for _ in range(8):
        x, y = batch()
        loss(model(x), paddle.zeros_like(y)).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_labels_not_finite() -> None:
    class Gaps(Points):
        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index)[0], np.float32("nan" if index == 21 else index)

    model = paddle.Model(nn.Linear(8, 1))
    model.prepare(adam(model), nn.MSELoss())
    model.fit(Gaps(), batch_size=8, epochs=1, verbose=0, shuffle=False)


@loop
def broken_start_not_finite() -> None:
    model = Net()
    model.embed.weight.set_value(paddle.log(model.embed.weight))
    train(model, adam(model))


@loop
def broken_to_static_of_a_root() -> None:
    class Root(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Any) -> Any:
            return paddle.sqrt(self.net(x) * 0.0)

    model = paddle.jit.to_static(Root(), full_graph=True)
    optimizer = adam(model)
    for _ in range(6):
        model(batch()[0]).sum().backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def broken_outputs_kept_by_an_object() -> None:
    class Meter:
        def __init__(self) -> None:
            self.outputs: list[Any] = []

        def update(self, out: Any) -> None:
            self.outputs.append(out)

    model, meter = Net(1024), Meter()
    optimizer = adam(model)
    for _ in range(60):
        x, y = batch(512)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.clear_grad()
        meter.update(model.embed(x))


@loop
def broken_passes_without_steps_after_training() -> None:
    model = nn.Linear(2, 1)
    optimizer = paddle.optimizer.SGD(1e-2, parameters=model.parameters())
    x = paddle.ones([1, 2])
    for step in range(1010):
        model(x).sum().backward()
        if step < 3:
            optimizer.step()
        optimizer.clear_grad()
