"""WAR, UAR, confusion, intervals and the rank correlation of attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_recall

from Code.training.metrics import attention_metrics, classification_metrics


def one_hot(predictions: list[int], num_classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predictions), num_classes).float()


def measure(labels: list[int], predictions: list[int], num_classes: int = 3, **counts: int) -> dict:
    return classification_metrics(one_hot(predictions, num_classes), torch.tensor(labels), **counts)


def test_a_case_worked_out_by_hand():
    metrics = measure([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2])
    assert metrics["accuracy"] == 4 / 6
    assert metrics["per_class_recall"] == [2 / 3, 1 / 2, 1]
    assert metrics["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics["num_clips"] == metrics["num_clips_listed"] == 6 and metrics["num_skipped"] == 0
    assert metrics["accuracy_listed"] == metrics["accuracy"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_agrees_with_torchmetrics_where_every_class_occurs(pairs):
    pairs += [(c, 0) for c in range(4)]
    labels, predictions = (list(part) for part in zip(*pairs, strict=True))
    metrics = measure(labels, predictions, 4)
    given_, truth = torch.tensor(predictions), torch.tensor(labels)
    assert metrics["accuracy"] == pytest.approx(float(multiclass_accuracy(given_, truth, 4, average="micro")))
    assert metrics["uar"] == pytest.approx(float(multiclass_recall(given_, truth, 4, average="macro")))
    assert metrics["per_class_recall"] == pytest.approx(multiclass_recall(given_, truth, 4, average="none").tolist())
    counted = np.zeros((4, 4), dtype=int)
    np.add.at(counted, (labels, predictions), 1)  # rows true, columns predicted
    assert metrics["confusion"] == counted.tolist()


def test_class_without_clips_has_no_recall_and_no_share_in_uar():
    metrics = measure([0, 0, 2, 2], [0, 1, 2, 2])
    assert metrics["per_class_recall"] == [0.5, None, 1.0]
    assert metrics["uar"] == 0.75


def test_left_out_clips_count_as_wrong_over_listed():
    metrics = measure([0, 1, 2], [0, 1, 1], num_listed=5, num_skipped=2)
    assert (metrics["accuracy"], metrics["accuracy_listed"]) == (2 / 3, 2 / 5)
    assert (metrics["num_clips"], metrics["num_clips_listed"], metrics["num_skipped"]) == (3, 5, 2)
    assert measure([0, 1, 2], [0, 1, 1], num_skipped=1)["num_clips_listed"] == 4


def test_interval_of_the_published_result():
    low, high = measure([0] * 381, [0] * 195 + [1] * 186)["accuracy_interval"]
    assert (round(100 * low, 1), round(100 * high, 1)) == (46.2, 56.2)


# Attention


def correlation(weights: list[float], truth: list[float]) -> float | None:
    return attention_metrics({"a": np.array(weights)}, {"a": np.array(truth)})["attention_correlation"]


def test_rank_correlation_worked_out_by_hand():
    # ranks 1 4 2 3 and 1 4 3 2: the squares of their differences sum to 2, so 1 - 6 * 2 / (4 * 15)
    assert correlation([0.1, 0.4, 0.2, 0.3], [0.0, 1.0, 0.5, 0.25]) == pytest.approx(0.8)
    # ranks 1 2 3 and, for the tie, 1.5 1.5 3: their Pearson correlation is 1.5 / sqrt(2 * 1.5)
    assert correlation([0.2, 0.3, 0.5], [0.0, 0.0, 1.0]) == pytest.approx(1.5 / 3**0.5)
    assert correlation([0.5, 0.3, 0.2], [0.0, 0.1, 1.0]) == pytest.approx(-1)
    assert correlation([1 / 3] * 3, [0.0, 0.5, 1.0]) == 0
    assert correlation([0.2, 0.3, 0.5], [0.7, 0.7, 0.7]) is None


def test_attention_is_measured_clip_by_clip():
    truths = {"clear": [1, 0, 1, 0], "graded": [0.5, 0, 0.2, 0], "flat": [1, 0, 0], "all tell": [1, 1]}
    weights = {"clear": [0.4, 0.1, 0.2, 0.3], "graded": [0.4, 0.3, 0.2, 0.1], "flat": [1, 1, 1], "all tell": [0.9, 0.1]}

    def of(measure: str, *names: str) -> float | None:
        pair = ({name: np.array(values[name]) for name in names} for values in (weights, truths))
        return attention_metrics(*pair)[f"attention_{measure}"]

    assert of("auc", "clear") == pytest.approx(3 / 4)  # of four pairs one is the wrong way round
    assert of("auc", "graded") == pytest.approx(3 / 4) and of("auc", "flat") == 0.5 and of("auc", "all tell") is None
    assert of("auc", *truths) == pytest.approx((3 / 4 + 3 / 4 + 1 / 2) / 3)
    each = [of("correlation", name) for name in ("clear", "graded", "flat")]
    assert each[2] == 0 and of("correlation", *truths) == pytest.approx(sum(each) / 3)
