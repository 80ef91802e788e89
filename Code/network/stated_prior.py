"""Class shares that the user knows: a shift of the logits.

A network trained on data in which class c has the share q_c takes c to be that likely before it sees a face. Where
its share is p_c instead, its logit is off by log(p_c / q_c) (Saerens, Latinne, Decaestecker, "Adjusting the outputs
of a classifier to new a priori probabilities", Neural Computation 14(1), 2002).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..common.errors import UsageError
from .prior import RAREST, Balance


def own_prior(info: Mapping[str, Any]) -> Tensor:
    """Logarithms of the class shares that a network takes for granted, float [C], up to a constant.

    All classes are equally likely if `--balance` kept the shares out of its logits, or if the file does not say them.

    Args:
        info: of `load_fan`.
    """
    if info["class_shares"] is None:
        return torch.zeros(len(info["labels"]))
    shares = torch.tensor(info["class_shares"]).clamp(min=RAREST)
    return shares.log() - Balance.of(info["recipe"]).offset(shares)


def stated_shares(prior: Mapping[str, float], labels: tuple[str, ...]) -> dict[str, float]:
    """What the user states, as a share for each class, summing to 1.

    A class that is not named has the weight 1 / C. The weights need not sum to 1.

    Raises:
        UsageError: a class is unknown, a share is negative or not a number, or none is above 0.
    """
    names = {label.casefold(): label for label in labels}
    weights = dict.fromkeys(labels, 1 / len(labels))
    for name, share in prior.items():
        if name.casefold() not in names:
            raise UsageError(f"--prior {name}: no such class; this network knows {', '.join(labels)}")
        if not 0 <= share < float("inf"):
            raise UsageError(f"--prior {name}={share}: a share is a number from 0")
        weights[names[name.casefold()]] = share
    total = sum(weights.values())
    if not total:
        raise UsageError("--prior: every class has the share 0; give one of them a share above 0")
    return {label: weight / total for label, weight in weights.items()}


def prior_shift(prior: Mapping[str, float], info: Mapping[str, Any]) -> Tensor:
    """What to add to the logits, float [C]; minus infinity for classes with the share 0.

    Args:
        prior: label -> share, see `stated_shares`.
        info: of `load_fan`.
    """
    shares = torch.tensor([prior[label] for label in info["labels"]])
    return shares.log() - own_prior(info)
