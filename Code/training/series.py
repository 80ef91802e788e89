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
from pathlib import Path

import numpy as np
import torch

from .metrics import confusion_metrics
from .records import (
    AGAIN,
    FoldPart,
    FoldRow,
    FoldSummary,
    Metrics,
    ReportError,
    Results,
    SeedSummary,
    Spread,
    as_dict,
    read_results,
)
from .run import Run

MEASURES = ("accuracy", "uar", "attention_correlation", "attention_auc")  # the last two where they are known


def write_fold_summary(folder: Path, folds: Sequence[Path]) -> None:
    """Writes the results of all folds together: each clip is evaluated in one fold, so the counts add up.

    Args:
        folder: of the folds.
        folds: the folders of their runs, in order.

    Raises:
        StateError, ReportError: the results of a fold are missing, or those of two are of other classes.
    """
    summary = fold_summary([read_results(fold / "results.json") for fold in folds])
    run, rows = Run(folder), []
    for fold in folds:
        with open(fold / "predictions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *of_fold = csv.reader(file)
        rows += of_fold
    run.write_rows("predictions.csv", header, rows)
    run.write_json("summary.json", as_dict(summary))
    pooled = Results(summary.labels, summary.last.pooled, summary.best.pooled, summary.selected_on)
    run.write_json("results.json", as_dict(pooled) | {"num_folds": len(folds), "pooled": True})


def write_seed_summary(folder: Path, seeds: Sequence[int]) -> None:
    """Writes the results of all seeds together; with folds, each seed's are those of its folds pooled."""
    summary = seed_summary(seeds, [read_results(folder / f"seed-{seed}" / "results.json") for seed in seeds])
    Run(folder).write_json("summary.json", as_dict(summary))


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


def fold_summary(results: Sequence[Results]) -> FoldSummary:
    """The results of all folds together: pooled, the mean over folds, and each fold.

    Pooled metrics are those of the summed confusion matrices, in which each clip counts once.

    Raises:
        ReportError: two folds have other classes, or the same in another order.
    """
    first = results[0]
    for result in results:  # each fold may have lists of its own
        if result.labels != first.labels:
            raise ReportError(
                f"fold {result.fold}: its classes are {', '.join(result.labels)}; those of fold {first.fold} are "
                f"{', '.join(first.labels)}: name the classes of all folds with --labels"
            )
    parts = [_fold_part(of_epoch(results, which)) for which in ("last", "best")]
    return FoldSummary(first.labels, first.selected_on or "", len(results), *parts)


def _fold_part(metrics: Sequence[Metrics]) -> FoldPart:
    """All folds together, for one epoch of each."""
    pooled = confusion_metrics(
        torch.tensor([of.confusion for of in metrics]).sum(dim=0),
        num_listed=sum(of.num_clips_listed or of.num_clips for of in metrics),
        num_skipped=sum(of.num_skipped for of in metrics),
    )
    # The mean over clips: folds weighted by their number of clips.
    loss = float(np.average([of.loss or 0.0 for of in metrics], weights=[of.num_clips for of in metrics]))
    rows = [
        FoldRow(fold, of.epoch, of.accuracy, of.uar, of.num_clips, of.num_skipped)
        for fold, of in enumerate(metrics, start=1)
    ]
    return FoldPart(Metrics(**pooled, loss=loss), spreads(metrics), rows)


def seed_summary(seeds: Sequence[int], results: Sequence[Results]) -> SeedSummary:
    """The results of all seeds together, each seed's in order."""
    first, last = results[0], of_epoch(results, "last")
    return SeedSummary(
        labels=first.labels,
        selected_on=first.selected_on or "",
        seeds=list(seeds),
        num_clips=last[0].num_clips,
        last=spreads(last),
        best=spreads(of_epoch(results, "best")),
        fold=first.fold,
        num_folds=first.num_folds,
    )
