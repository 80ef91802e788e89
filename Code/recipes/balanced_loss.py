"""The logit-adjusted loss of Menon et al. (ICLR 2021, arXiv 2007.07314); see `Code.network.prior`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..common.errors import UsageError
from ..data.batches import Batch
from ..network.attention import FANOutput
from ..network.prior import Balance
from ..training.losses import Loss, cross_entropy


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
