"""What is evaluated, and what an evaluation comes to: metrics, and a line about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F

from Code.data.clips import Clip
from Code.data.loaders import EvaluationBatches
from Code.data.store import FrameTable
from Code.network.fan import FAN
from Code.training.compute import Compute
from Code.training.engine import Evaluation, Transform, evaluate
from Code.training.metrics import attention_auc, attention_correlation, classification_metrics

Intensities = dict[str, np.ndarray]


@dataclass
class Judged:
    """A set of clips to evaluate on.

    Attributes:
        batches: their frames.
        transform: uint8 -> float.
        clips: to name frames in attention.csv; None leaves that file out.
        intensities: true importance of every frame, per clip name, where a dataset knows it.
        from_features: the batches hold features of a fixed backbone instead of frames.
    """

    batches: EvaluationBatches
    transform: Transform
    clips: Sequence[Clip] | None = None
    intensities: Intensities | None = None
    from_features: bool = False

    @property
    def table(self) -> FrameTable:
        """The clips' table."""
        return self.batches.table


def judge(
    model: FAN,
    judged: Judged,
    compute: Compute,
    show_progress: bool = True,
    after_batch: Callable[[], None] | None = None,
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluates and measures: metrics as `classification_metrics` gives them, plus `loss`, and
    `attention_correlation` and `attention_auc` where true intensities are known. See `evaluate` for `after_batch`."""
    evaluation = evaluate(
        model,
        judged.batches,
        compute=compute,
        transform=judged.transform,
        show_progress=show_progress,
        from_features=judged.from_features,
        after_batch=after_batch,
    )
    table = judged.table
    metrics = classification_metrics(
        evaluation.logits.softmax(dim=1),
        table.targets,
        num_listed=table.listed,
        num_skipped=len(table.skipped),
    )
    metrics["loss"] = float(F.cross_entropy(evaluation.logits, table.targets))
    if judged.intensities is not None:
        weights = dict(zip(table.names, evaluation.weights, strict=True))
        metrics["attention_correlation"] = attention_correlation(weights, judged.intensities)
        metrics["attention_auc"] = attention_auc(weights, judged.intensities)
    return metrics, evaluation


def summary(metrics: dict[str, Any]) -> str:
    """Accuracy with its interval, UAR and counts in one line."""
    low, high = metrics["accuracy_interval"]
    text = (
        f"accuracy (WAR) {100 * metrics['accuracy']:.2f} % [{100 * low:.1f}, {100 * high:.1f}], "
        f"UAR {100 * metrics['uar']:.2f} %, {metrics['num_clips']} clips"
    )
    if metrics["num_skipped"]:
        text += (
            f" ({metrics['num_skipped']} of {metrics['num_clips_listed']} listed left out: no frames; "
            f"{100 * metrics['accuracy_listed']:.2f} % over listed)"
        )
    if metrics.get("attention_correlation") is not None:
        text += f", rank correlation of weights with true intensity {metrics['attention_correlation']:.3f}"
    if metrics.get("attention_auc") is not None:
        text += f", AUC {metrics['attention_auc']:.3f}"
    return text


def epoch_line(line: dict[str, Any], epochs: int) -> str:
    """What the screen shows of an epoch."""
    return (
        f"epoch {line['epoch']:{len(str(epochs))}}/{epochs}  lr {line['lr']:.1e}  "
        f"train loss {line['train_loss']:.4f} WAR {100 * line['train_war']:5.2f} %  |  "
        f"val loss {line['val_loss']:.4f} WAR {100 * line['val_war']:5.2f} % UAR {100 * line['val_uar']:5.2f} %"
        + (f" corr {line['val_attention_correlation']:.2f}" if "val_attention_correlation" in line else "")
        + f"  |  {line['seconds']:.1f} s, {line['frames_per_second']:.0f} frames/s"
    )
