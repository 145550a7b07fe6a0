"""Loops that train as they should; a guard says nothing of them."""

from __future__ import annotations

import tempfile
from collections import defaultdict, deque
from typing import Any

import numpy as np
import paddle
from paddle import nn

from tests.kernels.guard.programs.base import F, Net, Points, adam, batch, loop, train


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
def healthy_model_fit_with_callbacks() -> None:
    rate = paddle.optimizer.lr.LinearWarmup(paddle.optimizer.lr.StepDecay(1e-2, 4), 4, 0.0, 1e-2)
    model = paddle.Model(Net())
    model.prepare(adam(model, rate), nn.CrossEntropyLoss(), paddle.metric.Accuracy())
    callbacks = [
        paddle.callbacks.LRScheduler(by_step=True, by_epoch=False),
        paddle.callbacks.EarlyStopping("loss", patience=9, save_best_model=False, verbose=0),
    ]
    model.fit(Points(), Points(16), batch_size=8, epochs=3, verbose=0, callbacks=callbacks, accumulate_grad_batches=2)


@loop
def healthy_trainer_with_amp_accumulation_and_average() -> None:
    model = Net()
    rate = paddle.optimizer.lr.LambdaDecay(1e-2, lambda epoch: 0.5**epoch)
    optimizer = adam(model, rate, grad_clip=nn.ClipGradByGlobalNorm(1.0))
    scaler, average = (
        paddle.amp.GradScaler(init_loss_scaling=1024),
        {k: v.clone() for k, v in model.state_dict().items()},
    )
    loader = paddle.io.DataLoader(Points(), batch_size=8, shuffle=True, drop_last=True)
    for _ in range(3):
        for number, (x, y) in enumerate(loader):
            with paddle.amp.auto_cast(level="O1", dtype="bfloat16"):
                loss = F.cross_entropy(model(x), y) / 2
            scaler.scale(loss).backward()
            if number % 2:
                scaler.step(optimizer)
                scaler.update()
                optimizer.clear_grad()
                with paddle.no_grad():
                    for name, value in model.state_dict().items():
                        average[name] = 0.9 * average[name] + 0.1 * value
        rate.step()
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.set_state_dict(average)
        model.eval()
        with paddle.no_grad():
            model(paddle.randn([4, 8]))
        model.train()
        model.set_state_dict(own)


@loop
def healthy_maker_and_judge() -> None:
    maker, judge = nn.Linear(4, 8), nn.Linear(8, 1)
    makers, judges = adam(maker, 1e-3), adam(judge, paddle.optimizer.lr.ReduceOnPlateau(1e-3, patience=2))
    for _ in range(12):
        real, made = paddle.randn([16, 8]), maker(paddle.randn([16, 4]))
        loss = F.binary_cross_entropy_with_logits(judge(real), paddle.ones([16, 1]))
        loss = loss + F.binary_cross_entropy_with_logits(judge(made.detach()), paddle.zeros([16, 1]))
        judges.clear_grad()
        loss.backward()
        judges.step()
        judges._learning_rate.step(loss.detach())
        makers.clear_grad()
        F.binary_cross_entropy_with_logits(judge(made), paddle.ones([16, 1])).backward()
        makers.step()


@loop
def healthy_queue_with_a_maximum_and_a_dataset_that_keeps_its_samples() -> None:
    model = Net()
    queue: deque[Any] = deque(maxlen=1000)
    train(model, adam(model), 60, each=lambda step: queue.append(np.full([256, 1024], step, dtype=np.float32)))
    queue.clear()
    optimizer = adam(model)
    for x, y in paddle.io.DataLoader(Points(480, 32 * 1024), batch_size=8):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_steps_around_steps() -> None:
    model = Net()
    train(model, paddle.incubate.LookAhead(adam(model), alpha=0.5, k=3))
    mean = paddle.incubate.ModelAverage(0.15, parameters=model.parameters(), min_average_window=2, max_average_window=9)
    train(model, adam(model), 30, each=lambda _: mean.step())
    optimizer = adam(model)
    for _ in range(8):  # sharpness-aware: backward, a move, backward, the move back, a step
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        moves = [(p, 0.01 * paddle.sign(p.grad)) for p in model.parameters() if p.grad is not None]
        with paddle.no_grad():
            for parameter, move in moves:
                parameter.set_value(parameter + move)
        optimizer.clear_grad()
        F.cross_entropy(model(x), y).backward()
        with paddle.no_grad():
            for parameter, move in moves:
                parameter.set_value(parameter - move)
        optimizer.step()
        optimizer.clear_grad()


@loop
def healthy_one_optimizer_after_another_and_layers_that_thaw() -> None:
    model = Net()
    both = [paddle.optimizer.SGD(1e-2, parameters=part.parameters()) for part in (model.embed, model.head)]
    for parameter in model.embed.parameters():
        parameter.stop_gradient = True
    for step in range(30):
        if step == 8:
            for parameter in model.embed.parameters():
                parameter.stop_gradient = False
        x, y = batch()
        F.cross_entropy(model(x), y).backward()
        for optimizer in both[:: 1 if step % 2 else -1] if step >= 8 else both[1:]:
            optimizer.step()
            optimizer.clear_grad()


@loop
def healthy_target_that_follows() -> None:
    model, target = nn.Linear(8, 4), nn.Linear(8, 4)
    optimizer = adam(model)
    for step in range(30):
        with paddle.no_grad():
            wanted = target(paddle.randn([16, 8])).max(-1)
        loss = F.smooth_l1_loss(model(paddle.randn([16, 8])).max(-1), wanted)
        optimizer.clear_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            target.set_state_dict(model.state_dict())


@loop
def healthy_streams_and_workers_that_stay() -> None:
    class Stream(paddle.io.IterableDataset):
        def __iter__(self) -> Any:
            return (np.full([8], step, dtype=np.float32) for step in range(40))

    class Listed(paddle.io.Dataset):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> Any:
            return np.full([8], index, dtype=np.float32)

    model = Net()
    optimizer = adam(model)
    # Paddle's own loader stands still, now and then, where workers of a stream stay (3.3.1, without devkit).
    for loader in (
        paddle.io.DataLoader(Stream(), batch_size=4, num_workers=1),
        paddle.io.DataLoader(Listed(), batch_size=4, num_workers=1, persistent_workers=True),
    ):
        for _ in range(2):
            for x in loader:
                F.cross_entropy(model(x / 40), paddle.randint(0, 4, [4])).backward()
                optimizer.step()
                optimizer.clear_grad()


@loop
def healthy_program_of_a_graph() -> None:
    paddle.enable_static()
    try:
        main, start = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, start):
            x = paddle.static.data("x", [None, 8])
            loss = paddle.static.nn.fc(x, 4).mean()
            paddle.optimizer.Adam(1e-2).minimize(loss)
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(start)
        for _ in range(6):
            executor.run(main, feed={"x": np.ones([4, 8], dtype="float32")}, fetch_list=[loss])
    finally:
        paddle.disable_static()
