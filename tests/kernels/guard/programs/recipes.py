"""Recipes that train as they should though numbers in them look odd; a guard says nothing of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn

from tests.kernels.guard.programs.base import F, Net, adam, batch, loop, train


def step_of(optimizer: Any, loss: Any) -> None:
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()


@loop
def healthy_missing_targets_are_nan_and_masked() -> None:
    class Measured(paddle.io.Dataset):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> Any:
            target = np.full([4], index / 64, dtype="float32")
            target[index % 4] = np.nan
            return np.full([8], index / 64, dtype="float32"), target

    model = Net()
    optimizer = adam(model)
    for x, y in paddle.io.DataLoader(Measured(), batch_size=8):
        known = ~paddle.isnan(y)
        apart = paddle.where(known, model(x) - paddle.where(known, y, paddle.zeros_like(y)), paddle.zeros_like(y))
        step_of(optimizer, (apart**2).sum() / known.astype("float32").sum())


@loop
def healthy_mask_of_minus_infinity() -> None:
    model = nn.Linear(8, 8)
    optimizer = adam(model)
    mask = paddle.triu(paddle.full([16, 16], -np.inf), 1)
    for _ in range(8):
        x = paddle.randn([16, 8])
        scores = paddle.matmul(model(x), x, transpose_y=True) + mask
        step_of(optimizer, (paddle.matmul(F.softmax(scores), x) ** 2).mean())


@loop
def healthy_margin_that_is_met_has_no_gradient() -> None:
    model = nn.Linear(8, 1)
    optimizer = paddle.optimizer.SGD(0.5, parameters=model.parameters())
    x = paddle.randn([32, 8])
    side = paddle.sign(x[:, :1])
    for _ in range(80):
        step_of(optimizer, F.relu(0.1 - side * model(x)).mean())


@loop
def healthy_experts_that_a_router_leaves_out() -> None:
    experts, router = nn.LayerList([nn.Linear(8, 4) for _ in range(4)]), nn.Linear(8, 4)
    optimizer = paddle.optimizer.AdamW(1e-2, parameters=[*experts.parameters(), *router.parameters()])
    for step in range(40):
        x, y = batch()
        shares = F.softmax(router(x))
        chosen = step % 2
        step_of(optimizer, F.cross_entropy(experts[chosen](x) * shares[:, chosen : chosen + 1], y))


@loop
def healthy_policy_of_a_few_passes_over_each_rollout() -> None:
    policy, value = nn.Linear(8, 4), nn.Linear(8, 1)
    optimizer = paddle.optimizer.Adam(1e-2, parameters=[*policy.parameters(), *value.parameters()])
    for _ in range(5):
        with paddle.no_grad():
            x = paddle.randn([32, 8])
            old = F.log_softmax(policy(x))
            taken = paddle.multinomial(paddle.exp(old), 1)
            old = paddle.take_along_axis(old, taken, 1)
            gain = paddle.randn([32, 1])
        for _ in range(4):
            ratio = paddle.exp(paddle.take_along_axis(F.log_softmax(policy(x)), taken, 1) - old)
            loss = -paddle.minimum(ratio * gain, ratio.clip(0.8, 1.2) * gain).mean() + ((value(x) - gain) ** 2).mean()
            step_of(optimizer, loss)


@loop
def healthy_replay_buffer_that_fills_up() -> None:
    model, kept = Net(), []

    def remember(step: int) -> None:
        kept.append(np.full([128, 1024], step, dtype=np.float32))
        if len(kept) > 40:
            kept.pop(0)

    train(model, adam(model), 120, each=remember)


@loop
def healthy_group_at_a_rate_of_zero() -> None:
    base, head = nn.Linear(8, 16), nn.Linear(16, 4)
    optimizer = paddle.optimizer.AdamW(
        1e-2,
        parameters=[{"params": base.parameters(), "learning_rate": 0.0}, {"params": head.parameters()}],
    )
    for _ in range(30):
        x, y = batch()
        step_of(optimizer, F.cross_entropy(head(F.relu(base(x))), y))


@loop
def healthy_steps_without_a_sample() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(30):
        x, y = batch()
        keep = paddle.nonzero(y == (9 if step % 3 else 1)).flatten()
        loss = F.cross_entropy(model(x), y, reduction="none")
        step_of(optimizer, loss[keep].sum() if len(keep) else loss.sum() * 0.0)


@loop
def healthy_frozen_trunk_beside_a_loss_of_its_own() -> None:
    trunk, head, probe = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 4)
    main, side = adam(nn.Sequential(trunk, head)), adam(probe)
    for _ in range(12):
        x, y = batch()
        hidden = F.relu(trunk(x))
        F.cross_entropy(head(hidden), y).backward()
        F.cross_entropy(probe(hidden.detach()), y).backward()
        for optimizer in (main, side):
            optimizer.step()
            optimizer.clear_grad()


@loop
def healthy_cycles_that_end_at_zero() -> None:
    model = Net()
    rate = paddle.optimizer.lr.CosineAnnealingWarmRestarts(1e-2, T_0=6, eta_min=0.0)
    train(model, adam(model, rate), 24, each=lambda _: rate.step())


@loop
def healthy_start_over_with_a_new_optimizer() -> None:
    model = Net()
    for freeze in (True, False):
        for parameter in model.embed.parameters():
            parameter.stop_gradient = freeze
        trained = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
        train(model, paddle.optimizer.Momentum(1e-2, parameters=trained), 10)


@loop
def healthy_soft_labels_mixed_from_two() -> None:
    model = Net()
    optimizer = adam(model)
    for _ in range(12):
        (x, y), share = batch(), float(np.random.default_rng(0).beta(0.4, 0.4))
        other = x.flip(0), y.flip(0)
        wanted = share * F.one_hot(y, 4) + (1 - share) * F.one_hot(other[1], 4)
        step_of(optimizer, F.cross_entropy(model(share * x + (1 - share) * other[0]), wanted, soft_label=True))


@loop
def healthy_rates_that_are_tried_and_weights_put_back() -> None:
    model = Net()
    optimizer = paddle.optimizer.SGD(1e-7, parameters=model.parameters())
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(30):
        optimizer.set_lr(1e-7 * 1.6**step)
        x, y = batch()
        step_of(optimizer, F.cross_entropy(model(x), y))
    model.set_state_dict(start)
    train(model, adam(model), 8)


@loop
def healthy_batches_without_anything_that_counts() -> None:
    model = Net()
    optimizer = adam(model)
    for step in range(16):
        x, y = batch()
        counts = paddle.full([16], float(step % 4 > 0))
        losses = F.cross_entropy(model(x), y, reduction="none").squeeze() * counts
        step_of(optimizer, losses.sum() / paddle.clip(counts.sum(), min=1))
