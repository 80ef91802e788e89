"""How pretraining takes its steps: the balanced loss, AdamW, a one-cycle schedule, and averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..common.errors import UsageError
from ..data.batches import Batch
from ..network.attention import FANOutput
from ..network.prior import Balance
from ..training.losses import Loss, cross_entropy

WEIGHT_DECAY = 0.05  # of weights, not of biases and batch-norm parameters
AVERAGE = 0.998  # decay of the average of the weights


def balanced_loss(shares: Tensor, balance: Balance) -> Loss:
    """Cross-entropy of logits + tau * log(class shares), see `Code.network.prior`; tau 0 gives `cross_entropy` itself.

    Args:
        shares: float [C], how often the training set shows each class.

    Raises:
        UsageError: tau is above 0, and a class has no training images.
    """
    if not balance.tau:
        return cross_entropy
    absent = int((shares <= 0).sum())
    if absent:
        raise UsageError(f"--balance {balance.tau:g}: {absent} of {len(shares)} classes have no training images")
    offset = balance.offset(shares)

    def loss(output: FANOutput, batch: Batch) -> Tensor:
        return F.cross_entropy(output.logits + offset.to(output.logits.device), batch["labels"])

    return loss


def adamw(model: nn.Module, lr: float) -> torch.optim.AdamW:
    """AdamW whose weight decay spares biases and batch-norm parameters; `lr` is the highest learning rate."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def one_cycle(epochs: float, warm_up: float = 0.2, first: float = 0.1, last: float = 0.001) -> Callable[[float], float]:
    """A factor on the learning rate, as a function of the epochs done (with fractions).

    A cosine from `first` up to 1 over the `warm_up` share of the epochs, then a cosine down to `last`.
    """

    def factor(done: float) -> float:
        share = min(done / epochs, 1.0)
        if share < warm_up:
            begin, end, position = first, 1.0, share / warm_up
        else:
            begin, end, position = 1.0, last, (share - warm_up) / (1 - warm_up)
        return end + (begin - end) * (1 + float(np.cos(np.pi * position))) / 2

    return factor


def averaged(model: nn.Module, decay: float = AVERAGE) -> AveragedModel:
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
