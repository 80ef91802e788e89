"""The steps of pretraining: one-cycle schedule, weight decay, averaged weights."""

from __future__ import annotations

import pytest
import torch

from Code.network.fan import FAN
from Code.network.weights import published_weights
from Code.recipes.pretraining import adamw, averaged, one_cycle


def test_weight_decay_spares_biases_and_batch_norm():
    fan = FAN(2, 8)
    decayed, others = adamw(fan, 1e-3).param_groups
    assert decayed["weight_decay"] == 0.05 and others["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(fan.parameters()))


def test_one_cycle_rises_falls_and_ends_low():
    assert [one_cycle(share) for share in (0, 0.2, 1)] == pytest.approx([0.1, 1, 0.001])
    values = [one_cycle(step / 400) for step in range(401)]
    assert values[:81] == sorted(values[:81]) and values[80:] == sorted(values[80:], reverse=True)


def test_average_is_quick_at_first_and_takes_buffers_along():
    fan = FAN(0)
    average = averaged(fan, 0.9)
    name, parameter, batch_norm = "pred_fc1.bias", fan.head.pred_fc1.bias, fan.backbone.network.bn1

    def step(value: float) -> float:
        with torch.no_grad():
            parameter.fill_(value)
            batch_norm.running_mean.fill_(value)
            batch_norm.num_batches_tracked += 1
        average.update_parameters(fan)
        state = published_weights(average.module)
        assert torch.equal(state["bn1.running_mean"][:1], state[name][:1])
        assert torch.equal(state["bn1.num_batches_tracked"], batch_norm.num_batches_tracked)
        return float(state[name][0])

    expected = step(1.0)
    assert expected == 1  # the first update is a copy
    for done in range(1, 120):
        decay = min(0.9, (1 + done) / (10 + done))
        expected = decay * expected + (1 - decay) * done
        assert step(float(done)) == pytest.approx(expected, rel=1e-4)
