"""WAR, UAR, confusion and intervals: what the field reports for clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, rankdata, spearmanr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from .intervals import uar_interval

# With more classes, there is neither a confusion matrix nor a recall per class.
MANY_CLASSES = 100


def classification_metrics(
    probabilities: Tensor, labels: Tensor, *, num_listed: int | None = None, num_skipped: int = 0
) -> dict[str, Any]:
    """Metrics of a set of clips.

    Args:
        probabilities: float [clips, C].
        labels: int64 [clips].
        num_listed: clips that the dataset lists (default: those evaluated and those skipped).
        num_skipped: listed clips that were skipped because they have no frames.

    Returns:
        A dictionary of plain values:

        - accuracy: WAR, over the evaluated clips; accuracy_interval: its 95 % interval (Wilson).
        - accuracy_listed: WAR over the listed clips; a skipped clip counts as wrong.
        - uar: mean recall of the classes that occur; uar_interval: its 95 % interval (`uar_interval`).
        - per_class_recall: None for a class without clips.
        - confusion: [C][C], rows true, columns predicted. It is empty for more than `MANY_CLASSES` classes
          (identities), and so is per_class_recall.
        - num_clips, num_clips_listed, num_skipped.

        Intervals of fewer than `intervals.MIN_CLIPS` clips are given, but pages and tables do not show them.
    """
    num_classes, predicted = probabilities.shape[1], probabilities.argmax(dim=1)
    listed = len(labels) + num_skipped if num_listed is None else num_listed
    if num_classes <= MANY_CLASSES:
        confusion = multiclass_confusion_matrix(predicted, labels, num_classes)
        return confusion_metrics(confusion, num_listed=listed, num_skipped=num_skipped)
    hits, support = (torch.bincount(of, minlength=num_classes) for of in (labels[predicted == labels], labels))
    return {**_rates(hits, support, listed, num_skipped), "per_class_recall": [], "confusion": []}


def confusion_metrics(confusion: Tensor, *, num_listed: int, num_skipped: int = 0) -> dict[str, Any]:
    """The metrics of `classification_metrics` from a confusion matrix, int64 [C, C], rows true, columns predicted."""
    rates = _rates(confusion.diagonal(), confusion.sum(dim=1), num_listed, num_skipped)
    return {**rates, "confusion": confusion.tolist()}


def _rates(hits: Tensor, support: Tensor, num_listed: int, num_skipped: int) -> dict[str, Any]:
    """The metrics but the confusion matrix, from the correct clips and all clips of each class, int64 [C]."""
    num_clips, correct = int(support.sum()), int(hits.sum())
    recalls = [int(hit) / int(count) if count else None for hit, count in zip(hits, support, strict=True)]
    present = [recall for recall in recalls if recall is not None]
    interval = binomtest(correct, num_clips).proportion_ci(method="wilson")
    return {
        "accuracy": correct / num_clips,
        "accuracy_interval": [float(interval.low), float(interval.high)],
        "accuracy_listed": correct / num_listed,
        "uar": sum(present) / len(present),
        "uar_interval": list(uar_interval(hits.cpu().numpy(), support.cpu().numpy())),
        "per_class_recall": recalls,
        "num_clips": num_clips,
        "num_clips_listed": num_listed,
        "num_skipped": num_skipped,
    }


def attention_correlation(weights: Mapping[str, np.ndarray], intensities: Mapping[str, np.ndarray]) -> float | None:
    """Mean over clips of Spearman's rank correlation between frame weights and true intensity.

    Args:
        weights: per clip, float [T].
        intensities: per clip, float [T], the true intensity of each frame.

    Returns:
        The mean over the clips whose intensity varies, where a clip with equal weights counts as 0; None without
        such clips.
    """
    values = []
    for name, weight in weights.items():
        truth = intensities.get(name)
        if truth is None or np.ptp(truth) == 0:
            continue
        values.append(float(spearmanr(weight, truth).statistic) if np.ptp(weight) > 0 else 0.0)
    return float(np.mean(values)) if values else None


def attention_auc(weights: Mapping[str, np.ndarray], intensities: Mapping[str, np.ndarray]) -> float | None:
    """Mean over clips of the area under the ROC curve (AUC) of the frame weights.

    This is the probability that a frame that shows the clip's expression (intensity above 0) has a higher weight than
    one that does not; equal weights count half. Chance is 0.5, a perfect ranking 1.

    Args:
        weights, intensities: per clip, float [T].

    Returns:
        The mean over the clips that have frames of both kinds; None without such clips.
    """
    values = []
    for name, weight in weights.items():
        truth = intensities.get(name)
        if truth is None:
            continue
        shows = np.asarray(truth) > 0
        count, others = int(shows.sum()), int((~shows).sum())
        if count and others:
            # The area is Mann and Whitney's U, computed from rank sums, over the number of pairs.
            rank_sum = rankdata(weight)[shows].sum()
            values.append(float(rank_sum - count * (count + 1) / 2) / (count * others))
    return float(np.mean(values)) if values else None
