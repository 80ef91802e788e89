"""The prior of a classifier: how often its training set shows each class, and a loss that keeps this out of its logits.

FER+ has ten times as many neutral faces as fearful ones. A network trained with cross-entropy learns that, too, and
takes unclear faces for neutral. The logit-adjusted loss (Menon et al., "Long-tail learning via logit adjustment", ICLR
2021, arXiv 2007.07314) adds tau * log(class share) to the logits during training. The logits of the trained network
are then free of the class shares (tau 1), or of a part of them (tau below 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.errors import UsageError
from ..data.loaders import Batch
from ..training.losses import Loss, cross_entropy
from .attention import FANOutput

RAREST = 1e-4  # share of a class that the training set does not have, where a prior is changed


def class_shares(targets: Tensor, num_classes: int, samples: Tensor | None = None) -> Tensor:
    """How often each class occurs: float32 [C], summing to one.

    Args:
        targets: int64 [N] class indices, or float [N, C] class shares.
        samples: int64 [N], how often each of them is drawn in an epoch; None: all equally often.
    """
    if samples is not None:
        targets = targets.repeat_interleave(samples, dim=0)
    counts = targets.sum(dim=0) if targets.ndim == 2 else torch.bincount(targets, minlength=num_classes)
    return (counts / counts.sum()).float()


@dataclass(frozen=True)
class Balance:
    """How much of the class shares is kept out of a network's logits.

    Attributes:
        tau: 0: nothing (plain cross-entropy); 1: everything (all classes equally likely).
        floor: rarer classes count as this share. Otherwise unclear faces go to rare, noisy classes.
    """

    tau: float = 0.0
    floor: float = 0.0

    def offset(self, shares: Tensor) -> Tensor:
        """tau * log(shares), float [C]: what the logits lack. `shares` float [C] is how often each class occurs."""
        return self.tau * shares.clamp(min=self.floor).log() if self.tau else torch.zeros_like(shares)

    @classmethod
    def of(cls, recipe: object) -> Balance:
        """From the `recipe` of a file; tau 0 if it does not mention any."""
        known = recipe if isinstance(recipe, Mapping) else {}
        return cls(float(known.get("balance", 0.0)), float(known.get("balance_floor", 0.0)))


def balanced_loss(shares: Tensor, balance: Balance) -> Loss:
    """Cross-entropy of logits + tau * log(class shares), for class indices and for class probabilities.

    Args:
        shares: float [C], how often the training set shows each class.
        balance: tau 0 gives `cross_entropy` itself.

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
