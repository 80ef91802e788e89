"""Several trainings of one command: every fold and every seed, and their results together.

    model/<date-time>_ckplus_relation-attention_folds/
        args.json  summary.json  summary.md  results.json  predictions.csv      of all folds together
        fold-01/ ... fold-10/                                                   the folder of a run each

With several seeds there is a folder per seed around it. The files above are written after the last fold, so the result
of one fold is never taken for the whole.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..common.wording import counted, percent
from .intervals import interval_text
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

MEASURES = ("accuracy", "uar")
ATTENTION_MEASURES = ("attention_correlation", "attention_auc")  # where the true intensity is known


@dataclass(frozen=True)
class Part:
    """One training of several: its folder, its seed, and its fold, from 1; None for a fixed split."""

    folder: Path
    seed: int
    fold: int | None = None


def parts_of(folder: Path, seeds: Sequence[int], folds: Sequence[int | None], *, by_seed: bool) -> list[Part]:
    """The trainings of a series, seed by seed.

    Args:
        folds: their numbers; [None] or [2] if there is one split for each seed.
        by_seed: there is a folder per seed.
    """
    width = max(2, len(str(len(folds))))

    def parts() -> Iterator[Part]:
        for seed in seeds:
            above = folder / f"seed-{seed}" if by_seed else folder
            for fold in folds:
                yield Part(above if len(folds) == 1 and by_seed else above / f"fold-{fold:0{width}d}", seed, fold)

    return list(parts())


def write_fold_summary(folder: Path, folds: Sequence[Path], title: str) -> None:
    """Writes the results of all folds together: each clip is evaluated in one fold, so the counts add up.

    Args:
        folder: of the folds.
        folds: the folders of their runs, in order.

    Raises:
        StateError, ReportError: the results of a fold are missing, or those of two are of other classes.
    """
    results = [read_results(fold / "results.json") for fold in folds]
    summary = fold_summary(results)
    rows: list[list[str]] = []
    header: list[str] = []
    for fold in folds:
        with open(fold / "predictions.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
            header, *of_fold = csv.reader(file)
        rows += of_fold
    run = Run(folder)
    run.write_rows("predictions.csv", header, rows)
    run.write_summary(as_dict(summary), fold_table(summary, title))
    pooled = {"last": as_dict(summary.last.pooled), "best": as_dict(summary.best.pooled)}
    about = {"selected_on": summary.selected_on, "num_folds": len(results), "pooled": True}
    run.write_results(summary.labels, pooled, about)


def write_seed_summary(folder: Path, seeds: Sequence[int], title: str) -> None:
    """Writes the results of all seeds together; with folds, each seed's are those of its folds pooled."""
    summary = seed_summary(seeds, [read_results(folder / f"seed-{seed}" / "results.json") for seed in seeds])
    Run(folder).write_summary(as_dict(summary), seed_table(summary, title))


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation, range and values.

    There is no interval for the mean over folds: folds share their training clips, so that none is known to be right
    (Bengio & Grandvalet, JMLR 5, 2004). The pooled clips have one.
    """
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, (min(values), max(values)), list(values))


def spreads(metrics: Sequence[Metrics]) -> dict[str, Spread]:
    """The spread of each measure that all of them have."""
    values = {name: [getattr(of, name) for of in metrics] for name in (*MEASURES, *ATTENTION_MEASURES)}
    return {name: spread(of) for name, of in values.items() if None not in of}


def of_epoch(results: Sequence[Results], which: str) -> list[Metrics]:
    """The metrics of the "last" or "best" epoch of each run.

    Raises:
        ReportError: a run does not have them.
    """
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
    for result in results[1:]:  # each fold may have lists of its own
        if result.labels != first.labels:
            raise ReportError(
                f"fold {result.fold}: its classes are {', '.join(result.labels)}; those of fold {first.fold} are "
                f"{', '.join(first.labels)}: name the classes of all folds with --labels"
            )

    def part(which: str) -> FoldPart:
        metrics = of_epoch(results, which)
        pooled = confusion_metrics(
            torch.tensor([of.confusion for of in metrics]).sum(dim=0),
            num_listed=sum(of.num_clips_listed or of.num_clips for of in metrics),
            num_skipped=sum(of.num_skipped for of in metrics),
        )
        # The mean over clips: folds weighted by their number of clips.
        loss = float(np.average([of.loss or 0.0 for of in metrics], weights=[of.num_clips for of in metrics]))
        rows = [
            FoldRow(result.fold or number, of.epoch, of.accuracy, of.uar, of.num_clips, of.num_skipped)
            for number, (result, of) in enumerate(zip(results, metrics, strict=True), start=1)
        ]
        return FoldPart(Metrics(**pooled, loss=loss), spreads(metrics), rows)

    return FoldSummary(first.labels, first.selected_on or "", len(results), part("last"), part("best"))


def seed_summary(seeds: Sequence[int], results: Sequence[Results]) -> SeedSummary:
    """The results of all seeds together, each seed's in order."""
    first = results[0]
    last, best = of_epoch(results, "last"), of_epoch(results, "best")
    return SeedSummary(
        first.labels,
        first.selected_on or "",
        list(seeds),
        last[0].num_clips,
        spreads(last),
        spreads(best),
        first.fold,
        first.num_folds,
    )


def fold_table(summary: FoldSummary, title: str) -> str:
    """The summary of folds as Markdown."""
    parts = (("last epoch", summary.last), ("best epoch", summary.best))
    pooled = summary.last.pooled
    clips = pooled.num_clips
    lines = [
        f"# {title}: {counted(summary.num_folds, 'fold')}, {counted(clips, 'clip')}",
        "",
        f"Best epoch means {summary.selected_on}, in each fold. Means over folds are given with the standard "
        "deviation and the range.",
        "",
        "| fold | clips | last epoch: WAR % | UAR % | best epoch: WAR % | UAR % |",
        "|---|---|---|---|---|---|",
    ]
    for last, best in zip(summary.last.folds, summary.best.folds, strict=True):
        cells = " | ".join(percent(value) for fold in (last, best) for value in (fold.accuracy, fold.uar))
        lines.append(f"| {last.fold} | {last.num_clips} | {cells} |")
    means = [part.mean_over_folds[name] for _, part in parts for name in MEASURES]
    lines.append(f"| **mean over folds** | | {' | '.join(f'{of.mean_text} ({of.range_text})' for of in means)} |")
    cells = " | ".join(percent(value) for _, part in parts for value in (part.pooled.accuracy, part.pooled.uar))
    lines += [f"| **pooled** | {clips} | {cells} |", ""]
    for name, part in parts:
        of = part.pooled
        war, uar = (interval_text(limits, clips) for limits in (of.accuracy_interval, of.uar_interval))
        lines.append(f"Pooled, {name}: WAR {percent(of.accuracy)} %, {war}; UAR {percent(of.uar)} %, {uar}.")
    if pooled.num_skipped:
        lines += ["", f"Skipped, because they have no frames: {counted(pooled.num_skipped, 'listed clip')}."]
    for name, part in parts:
        lines += ["", f"Pooled confusion, {name} (rows true, columns predicted):", ""]
        lines += confusion_table(summary.labels, part.pooled.confusion)
    return "\n".join(lines) + "\n"


def seed_table(summary: SeedSummary, title: str) -> str:
    """The summary of seeds as Markdown."""
    what = ""
    if summary.num_folds is not None:
        alone = f"fold {summary.fold} of {summary.num_folds} alone, "
        what = alone if summary.fold is not None else f"{counted(summary.num_folds, 'fold')} pooled, "
    lines = [
        f"# {title}: {what}{counted(len(summary.seeds), 'seed')}, {counted(summary.num_clips, 'clip')}",
        "",
        f"Best epoch means {summary.selected_on}.",
        "",
        "| seed | last epoch: WAR % | UAR % | best epoch: WAR % | UAR % |",
        "|---|---|---|---|---|",
    ]
    columns = [part[name] for part in (summary.last, summary.best) for name in MEASURES]
    for index, seed in enumerate(summary.seeds):
        lines.append(f"| {seed} | {' | '.join(percent(column.values[index]) for column in columns)} |")
    lines.append(f"| **mean ± standard deviation** | {' | '.join(of.mean_text for of in columns)} |")
    lines.append(f"| **range** | {' | '.join(of.range_text for of in columns)} |")
    return "\n".join(lines) + "\n"


def confusion_table(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[str]:
    """A confusion matrix as lines of Markdown."""
    safe = [label.replace("|", "\\|") for label in labels]
    lines = [f"| | {' | '.join(safe)} |", "|---" * (len(safe) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(safe, confusion, strict=True)]
