"""Losses: a loss sees the whole output of the network and the whole batch.

A new loss is one function here and its entry in `LOSSES`; `--loss` chooses it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ..common.errors import UsageError
from ..data.batches import Batch
from ..network.attention import FANOutput

# Takes the output for B samples and their batch (see `TrainingBatches`; labels are on the device, int64 [B] or
# float32 [B, C] shares); returns a scalar, the mean over the samples.
Loss = Callable[[FANOutput, Batch], Tensor]


def cross_entropy(output: FANOutput, batch: Batch) -> Tensor:
    """Mean cross-entropy of the logits [B, C] with class indices [B], or with class shares [B, C]."""
    return F.cross_entropy(output.logits, batch["labels"])


LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy}


def loss_named(name: str) -> Loss:
    """The loss that `--loss` names.

    Raises:
        UsageError: there is no such loss.
    """
    if name not in LOSSES:
        raise UsageError(f"--loss {name}: unknown; Code/training/losses.py has {', '.join(LOSSES)}")
    return LOSSES[name]
