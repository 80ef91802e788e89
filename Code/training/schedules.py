"""Learning rate schedules, and the average of the weights over the steps of a training.

A schedule is a function of the number of epochs done, with fractions; it returns a factor on the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..network.fan import FAN


def per_step(schedule: Callable[[float], float], steps_per_epoch: int) -> Callable[[int], float]:
    """The function that LambdaLR takes, from schedule(epochs done, with fractions) -> factor."""
    return lambda step: schedule(step / steps_per_epoch)


def decay_after(epochs: Sequence[float], factor: float) -> Callable[[float], float]:
    """Multiplies by `factor` after each of these numbers of epochs (AFEW: 60 and 120 of 180)."""
    return lambda done: factor ** sum(done >= at for at in epochs)


def one_cycle(epochs: float, warm_up: float = 0.2, first: float = 0.1, last: float = 0.001) -> Callable[[float], float]:
    """A cosine from `first` up to 1 over the `warm_up` share of the epochs, then a cosine down to `last`."""

    def factor(done: float) -> float:
        share = min(done / epochs, 1.0)
        if share < warm_up:
            begin, end, position = first, 1.0, share / warm_up
        else:
            begin, end, position = 1.0, last, (share - warm_up) / (1 - warm_up)
        return end + (begin - end) * (1 + float(np.cos(np.pi * position))) / 2

    return factor


def averaged(model: FAN, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics.

    It starts fast: after n steps the decay is min(decay, (1 + n) / (10 + n)).
    """

    def update(averages: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        steps = int(steps)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)  # batch counters

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
