"""WAR, UAR, confusion and intervals: what the field reports for clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest, mannwhitneyu, spearmanr
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


def attention_metrics(
    weights: Mapping[str, np.ndarray], intensities: Mapping[str, np.ndarray]
) -> dict[str, float | None]:
    """How well frame weights rank the frames of a clip by their true intensity.

    Args:
        weights, intensities: per clip, float [T].

    Returns:
        - attention_correlation: mean of Spearman's rank correlation over the clips whose intensity varies; a clip with
          equal weights counts as 0.
        - attention_auc: mean area under the ROC curve over the clips with frames that show the expression (intensity
          above 0) and others: the probability that one of the first has a higher weight. Chance is 0.5.

        None without such clips.
    """
    correlations, areas = [], []
    for name, weight in weights.items():
        truth = np.asarray(intensities[name])
        if np.ptp(truth) > 0:
            correlations.append(float(spearmanr(weight, truth).statistic) if np.ptp(weight) > 0 else 0.0)
        shown, others = weight[truth > 0], weight[truth <= 0]
        if len(shown) and len(others):  # Mann and Whitney's U over the number of pairs
            areas.append(float(mannwhitneyu(shown, others, method="asymptotic").statistic) / (len(shown) * len(others)))
    means = {"attention_correlation": correlations, "attention_auc": areas}
    return {name: float(np.mean(values)) if values else None for name, values in means.items()}
