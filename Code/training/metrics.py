"""WAR, UAR, confusion and intervals: what the field reports of clip predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import binomtest, rankdata, spearmanr
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix


def classification_metrics(
    probabilities: Tensor, labels: Tensor, *, num_listed: int | None = None, num_skipped: int = 0
) -> dict[str, Any]:
    """Metrics of a set of clips.

    Args:
        probabilities: float [clips, C].
        labels: int64 [clips].
        num_listed: clips the dataset lists; defaults to those evaluated.
        num_skipped: listed clips that were left out for having no frames.

    Returns:
        accuracy (WAR, over evaluated clips), accuracy_interval (Wilson, 95 %), accuracy_listed (left-out
        clips count as wrong), uar (mean recall of the classes that occur), per_class_recall (None where a
        class has no clip), confusion [C][C] (rows true, columns predicted), num_clips,
        num_clips_listed, num_skipped.
    """
    num_classes, num_clips = probabilities.shape[1], len(labels)
    num_listed = num_clips + num_skipped if num_listed is None else num_listed
    confusion = multiclass_confusion_matrix(probabilities.argmax(dim=1), labels, num_classes)
    return confusion_metrics(confusion, num_listed=num_listed, num_skipped=num_skipped)


def confusion_metrics(confusion: Tensor, *, num_listed: int, num_skipped: int = 0) -> dict[str, Any]:
    """The metrics of `classification_metrics` from counts: int64 [C, C], rows true, columns predicted."""
    num_clips = int(confusion.sum())
    support = confusion.sum(dim=1)
    correct = int(confusion.diagonal().sum())
    recalls = [
        int(hit) / int(count) if count else None for hit, count in zip(confusion.diagonal(), support, strict=True)
    ]
    present = [recall for recall in recalls if recall is not None]
    interval = binomtest(correct, num_clips).proportion_ci(method="wilson")
    return {
        "accuracy": correct / num_clips,
        "accuracy_interval": [float(interval.low), float(interval.high)],
        "accuracy_listed": correct / num_listed,
        "uar": sum(present) / len(present),
        "per_class_recall": recalls,
        "confusion": confusion.tolist(),
        "num_clips": num_clips,
        "num_clips_listed": num_listed,
        "num_skipped": num_skipped,
    }


def attention_correlation(weights: Mapping[str, np.ndarray], intensities: Mapping[str, np.ndarray]) -> float | None:
    """Mean over clips of Spearman's rank correlation between frame weights and true intensity.

    Args:
        weights: per clip, float [T].
        intensities: per clip, float [T], the true importance of each frame.

    Returns:
        The mean over the clips where both vary, a clip whose weights are all equal counting as 0;
        None if there is no clip with varying intensity.
    """
    values = []
    for name, weight in weights.items():
        truth = intensities.get(name)
        if truth is None or np.ptp(truth) == 0:
            continue
        values.append(float(spearmanr(weight, truth).statistic) if np.ptp(weight) > 0 else 0.0)
    return float(np.mean(values)) if values else None


def attention_auc(weights: Mapping[str, np.ndarray], intensities: Mapping[str, np.ndarray]) -> float | None:
    """Mean over clips of the area under the ROC curve of frame weights, telling frames against the others.

    The probability that a frame that shows something of the clip's expression (intensity above 0) weighs more than
    one that shows nothing of it, equal weights counting half: 0.5 is blind, 1 perfect.

    Args:
        weights, intensities: per clip, float [T].

    Returns:
        The mean over the clips that have frames of both sorts; None if there is none.
    """
    values = []
    for name, weight in weights.items():
        truth = intensities.get(name)
        if truth is None:
            continue
        telling = np.asarray(truth) > 0
        count, others = int(telling.sum()), int((~telling).sum())
        if count and others:
            # Mann and Whitney's U from rank sums, the same as the area.
            rank_sum = rankdata(weight)[telling].sum()
            values.append(float(rank_sum - count * (count + 1) / 2) / (count * others))
    return float(np.mean(values)) if values else None
