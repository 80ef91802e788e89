"""Calibration: whether answers with a probability of 80 % are right in 80 % of the cases.

Guo, Pleiss, Sun, Weinberger: "On calibration of modern neural networks", ICML 2017, arXiv 1706.04599. Temperature
scaling divides the logits by one number, which is fitted on held-out clips. The answers stay the same; only their
probabilities change. As the classifier is linear, its weights and bias are divided instead, and the file keeps its
format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from ..network.checkpoints import CheckpointError, with_weights
from ..network.weights import stored_classifier

BINS = 15  # of the expected calibration error, as in the paper
TEMPERATURES = (0.05, 20.0)  # the range that is searched


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the smallest cross-entropy.

    Args:
        logits: float [N, C]; logarithms of probabilities will do.
        labels: int64 [N].
    """
    exact = logits.double()

    def cost(log_temperature: float) -> float:
        return float(F.cross_entropy(exact / math.exp(log_temperature), labels))

    bounds = math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error of float [N, C] with labels int64 [N]: mean distance of certainty and accuracy."""
    return float(multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=BINS, norm="l1"))


def with_temperature(checkpoint: Mapping[str, Any], temperature: float) -> dict[str, Any]:
    """A checkpoint whose logits are divided by a temperature. Its answers stay, and so does its accuracy.

    Args:
        checkpoint: of a run, or a file of the published format.
        temperature: above 0.

    Raises:
        CheckpointError: it has no classifier.
    """
    weights = dict(checkpoint["state_dict"])
    names = stored_classifier(checkpoint)
    if not names:
        raise CheckpointError("no classifier")
    for name in names:
        weights[name] = (weights[name].float() / temperature).to(weights[name].dtype)
    changed = with_weights(checkpoint, weights)
    kept = {name: checkpoint[name] for name in ("metrics", "best_prec1") if name in checkpoint}
    if isinstance(kept.get("metrics"), Mapping):  # the cross-entropy is another one
        kept["metrics"] = {name: value for name, value in kept["metrics"].items() if name != "loss"}
    return changed | kept
