"""The class prior: how often each class occurs, and what of that a network's logits contain.

A network trained with cross-entropy on data in which class c has the share q_c takes c to be that likely before it sees
a face; FER+ has ten times as many neutral faces as fearful ones. Two remedies:

- The logit-adjusted loss (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314) adds
  tau * log q_c to the logits during training. Those of the trained network are then free of the shares (tau 1), or of
  a part of them (tau below 1): `Balance`.
- Where class c has the share p_c instead, its logit is off by log(p_c / q_c) (Saerens, Latinne, Decaestecker,
  "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14(1), 2002): `prior_shift`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.errors import UsageError
from ..common.names import FERPLUS_LABELS

RAREST = 1e-4  # share of a class that the training set does not have, where a prior is changed


def class_shares(targets: Tensor, num_classes: int, samples: Tensor | None = None) -> Tensor:
    """How often each class occurs in targets, int64 [N] or float [N, C] class shares: float32 [C], summing to one.

    `samples` int64 [N] says how often each of them is drawn in an epoch; None: all equally often.
    """
    if samples is not None:
        targets = targets.repeat_interleave(samples, dim=0)
    counts = targets.sum(dim=0) if targets.ndim == 2 else torch.bincount(targets, minlength=num_classes)
    return (counts / counts.sum()).float()


@dataclass(frozen=True)
class Balance:
    """How much of the class shares is kept out of a network's logits.

    Rarer classes than `floor` count as that share: otherwise unclear faces would go to rare, noisy classes.
    """

    tau: float = 0.0  # 0: nothing (plain cross-entropy); 1: everything (all classes equally likely)
    floor: float = 0.0
    prior: tuple[float, ...] | None = None  # C shares that the logits were given instead of all this

    def offset(self, shares: Tensor) -> Tensor:
        """tau * log(shares), float [C]: what the logits lack. `shares` float [C] is how often each class occurs."""
        if self.prior is not None:
            return shares.log() - torch.tensor(self.prior).log()
        return self.tau * shares.clamp(min=self.floor).log() if self.tau else torch.zeros_like(shares)

    @classmethod
    def of(cls, recipe: object) -> Balance:
        """From the `recipe` of a file; tau 0 if it does not mention any."""
        known = recipe if isinstance(recipe, Mapping) else {}
        tau, floor, prior = (known.get(name, 0) for name in ("balance", "balance_floor", "prior"))
        return cls(float(tau), float(floor), tuple(prior) if prior else None)


def log_prior(info: Mapping[str, Any]) -> Tensor:
    """Log of the class prior that the logits of a network contain, float [C], up to a constant; `info` of `load_fan`.

    All classes are equally likely if `--balance` kept the shares out of the logits, or if the file does not say them.
    """
    balance = Balance.of(info["recipe"])
    if balance.prior is not None:
        return torch.tensor(balance.prior).log()
    if info["class_shares"] is None:
        return torch.zeros(len(info["labels"]))
    shares = torch.tensor(info["class_shares"]).clamp(min=RAREST)
    return shares.log() - balance.offset(shares)


def stated_shares(prior: Mapping[str, float] | str, info: Mapping[str, Any]) -> dict[str, float]:
    """What the user states with `--prior`, as a share for each class, summing to 1.

    Args:
        prior: label -> share, where a class that is not named has the weight 1 / C and the weights need not sum to 1;
            "uniform": all classes are equally likely; "ferplus": as often as in FER+.

    Raises:
        UsageError: a class is unknown, a share is negative or not a number, none is above 0, or the network does not
            say the shares of FER+.
    """
    labels: tuple[str, ...] = info["labels"]
    if prior == "ferplus":
        if not set(labels) <= set(FERPLUS_LABELS) or info["class_shares"] is None:
            raise UsageError("--prior ferplus: this network was not trained on FER+, or does not say its class shares")
        prior = dict(zip(labels, info["class_shares"], strict=True))
    elif isinstance(prior, str) and prior != "uniform":
        raise UsageError(f"--prior {prior}: is not uniform, ferplus or CLASS=SHARE")
    names = {label.casefold(): label for label in labels}
    weights = dict.fromkeys(labels, 1 / len(labels))
    for name, share in () if isinstance(prior, str) else prior.items():
        if name.casefold() not in names:
            raise UsageError(f"--prior {name}: no such class; this network knows {', '.join(labels)}")
        weights[names[name.casefold()]] = share
    total = sum(weights.values())
    if min(weights.values()) < 0 or not 0 < total < float("inf"):
        raise UsageError("--prior: shares are numbers from 0, one of them above 0")
    return {label: weight / total for label, weight in weights.items()}


def prior_shift(prior: Mapping[str, float], info: Mapping[str, Any]) -> Tensor:
    """What to add to the logits for a prior of `stated_shares`, float [C]; minus infinity where a share is 0."""
    return torch.tensor([prior[label] for label in info["labels"]]).log() - log_prior(info)
