"""How the learning rate goes over a training, and averages of weights over its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from Code.network.fan import FAN


def per_step(schedule: Callable[[float], float], steps_per_epoch: int) -> Callable[[int], float]:
    """A LambdaLR function from one of the epoch: schedule(epochs done, fractional) -> factor."""
    return lambda step: schedule(step / steps_per_epoch)


def decay_after(epochs: Sequence[float], factor: float) -> Callable[[float], float]:
    """x factor after each of these numbers of epochs (AFEW: 60 and 120 of 180)."""
    return lambda done: factor ** sum(done >= at for at in epochs)


def one_cycle(epochs: float, warm_up: float = 0.2, first: float = 0.1, last: float = 0.001) -> Callable[[float], float]:
    """Cosine up from `first` over the `warm_up` share of the epochs, then cosine down to `last`."""

    def factor(done: float) -> float:
        share = min(done / epochs, 1.0)
        if share < warm_up:
            begin, end, position = first, 1.0, share / warm_up
        else:
            begin, end, position = 1.0, last, (share - warm_up) / (1 - warm_up)
        return end + (begin - end) * (1 + float(np.cos(np.pi * position))) / 2

    return factor


def averaged(model: FAN, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch-norm statistics, quick at first: decay
    min(decay, (1 + n) / (10 + n)) after n steps."""

    def update(averages: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        steps = int(steps)
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)  # batch counters

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
