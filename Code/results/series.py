"""Several trainings of one command: the results of every fold and every seed together.

    model/<date-time>_ckplus_relation-attention_folds/
        args.json  summary.json  summary.md  results.json  predictions.csv      of all folds together
        fold-01/ ... fold-10/                                                   the folder of a run each

With several seeds there is a folder per seed around it. The files above are written after the last fold, so the result
of one fold is never taken for the whole.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.names import percent
from ..training.metrics import confusion_metrics
from ..training.records import AGAIN, Metrics, ReportError, Results, read_results
from ..training.run import Run

MEASURES = ("accuracy", "uar", "attention_correlation", "attention_auc")  # the last two where they are known


@dataclass
class Spread:
    """A measure over several folds or seeds; `std` is of the sample, None for a single value."""

    mean: float
    range: tuple[float, float]
    values: list[float]
    std: float | None = None

    @property
    def mean_text(self) -> str:
        """The mean and the standard deviation in %, `97.21 ± 1.04`; the mean alone for a single value."""
        return percent(self.mean) + ("" if self.std is None else f" ± {percent(self.std)}")

    @property
    def range_text(self) -> str:
        """`95.83 to 98.77`"""
        return f"{percent(self.range[0])} to {percent(self.range[1])}"


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation, range and values.

    There is no interval for the mean over folds: folds share their training clips, so that none is known to be right
    (Bengio & Grandvalet, JMLR 5, 2004). The pooled clips have one.
    """
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), (min(values), max(values)), list(values), std)


def spreads(metrics: Sequence[Metrics]) -> dict[str, Spread]:
    """The spread of each measure that all of them have."""
    values = {name: [getattr(of, name) for of in metrics] for name in MEASURES}
    return {name: spread(of) for name, of in values.items() if None not in of}


def of_epoch(results: Sequence[Results], which: str) -> list[Metrics]:
    """The metrics of the "last" or "best" epoch of each run. Raises ReportError if a run does not have them."""
    metrics = [getattr(result, which) for result in results]
    if None in metrics:
        raise ReportError(f"the results.json of run {metrics.index(None) + 1} lacks {which}; {AGAIN}")
    return metrics


def write_fold_summary(folder: Path, folds: Sequence[Path]) -> None:
    """Writes the results of all folds together: each clip is evaluated in one fold, so the counts add up.

    Args:
        folder: of the folds.
        folds: the folders of their runs, in order.

    Raises:
        StateError, ReportError: the results of a fold are missing, or those of two are of other classes.
    """
    results = [read_results(fold / "results.json") for fold in folds]
    first = results[0]
    for result in results:  # each fold may have lists of its own
        if result.labels != first.labels:
            raise ReportError(
                f"fold {result.fold}: its classes are {', '.join(result.labels)}; those of fold {first.fold} are "
                f"{', '.join(first.labels)}: name the classes of all folds with --labels"
            )
    rows: list[list[str]] = []
    for fold in folds:
        with open(fold / "predictions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *of_fold = csv.reader(file)
        rows += of_fold
    parts = {which: _pooled(of_epoch(results, which)) for which in ("last", "best")}
    about = {"labels": first.labels, "selected_on": first.selected_on, "num_folds": len(folds)}
    run = Run(folder)
    run.write_rows("predictions.csv", header, rows)
    run.write_json("summary.json", about | parts)
    run.write_json("results.json", about | {which: part["pooled"] for which, part in parts.items()} | {"pooled": True})


def _pooled(metrics: Sequence[Metrics]) -> dict[str, Any]:
    """All folds together, for one epoch of each: their confusion matrices summed, their mean, and each."""
    pooled = confusion_metrics(
        torch.tensor([of.confusion for of in metrics]).sum(dim=0),
        num_listed=sum(of.num_clips_listed or of.num_clips for of in metrics),
        num_skipped=sum(of.num_skipped for of in metrics),
    )
    # The mean over clips: folds weighted by their number of clips.
    pooled["loss"] = float(np.average([of.loss or 0.0 for of in metrics], weights=[of.num_clips for of in metrics]))
    names = ("epoch", "accuracy", "uar", "num_clips", "num_skipped")
    return {
        "pooled": pooled,
        "mean_over_folds": {name: asdict(of) for name, of in spreads(metrics).items()},
        "folds": [{"fold": fold} | {name: getattr(of, name) for name in names} for fold, of in enumerate(metrics, 1)],
    }


def write_seed_summary(folder: Path, seeds: Sequence[int]) -> None:
    """Writes the results of all seeds together; with folds, each seed's are those of its folds pooled."""
    results = [read_results(folder / f"seed-{seed}" / "results.json") for seed in seeds]
    first, metrics = results[0], {which: of_epoch(results, which) for which in ("last", "best")}
    summary: dict[str, Any] = {"labels": first.labels, "selected_on": first.selected_on, "seeds": list(seeds)}
    summary |= {"fold": first.fold, "num_folds": first.num_folds, "num_clips": metrics["last"][0].num_clips}
    measures = {which: {name: asdict(of) for name, of in spreads(each).items()} for which, each in metrics.items()}
    Run(folder).write_json("summary.json", summary | measures)
